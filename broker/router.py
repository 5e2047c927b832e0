"""Who gets which message: amqtt's subscriptions, delivered at once and within bounds.

amqtt queues every message, starts a task for each receiver, and walks through all subscriptions while
they change, which loses messages as soon as an access rule is asked (0.12.1: "dictionary changed size
during iteration"). Here a message is delivered in one go, without awaiting anything.
"""

import logging
import math
from dataclasses import dataclass, field
from typing import Final

import anyio
from amqtt.broker import Broker
from amqtt.contexts import Action as AmqttAction
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.mqtt.publish import PublishPacket
from amqtt.session import Session

from broker.access import Action, Role, is_allowed
from broker.link import MAX_BACKLOG_BYTES, Link
from broker.quiet import QuietLog

MAX_SUBSCRIPTIONS: Final = 16
"""Filters per device; one or two are enough."""
MAX_SERVICE_SUBSCRIPTIONS: Final = 256
"""Filters of one of our own services: it subscribes once for each label that it serves."""
MAX_IN_FLIGHT: Final = 1000
"""Messages sent to one client with QoS 1 that it has not acknowledged."""
REFUSED: Final = 0x80
"""SUBACK's only way to say no."""
_HEADER_BYTES: Final = 16
"""Of a delivered message, without its topic, at most."""

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Counters:
    """What the broker saw since it started."""

    connections: int = 0
    """Open just now, those without a CONNECT included."""
    accepted: int = 0
    """CONNECTs accepted."""
    refused: int = 0
    """CONNECTs refused."""
    violations: int = 0
    """Connections ended because the peer broke MQTT, a limit, TLS or our patience."""
    crowded_out: int = 0
    """Connections closed at once because too many were open."""
    messages: int = 0
    """Messages routed."""
    forbidden: int = 0
    """Messages and subscriptions that the access rules refuse."""
    dropped: int = 0
    """Deliveries given up because the receiver does not read or acknowledge."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Who a client is, as decided from its CONNECT."""

    client_id: str
    role: Role
    is_proven: bool
    """By certificate or password, not merely claimed."""

    @property
    def key(self) -> str:
        """What the broker files it under; names of services never meet those of devices."""
        if self.role in (Role.NEWCOMER, Role.DEVICE):
            return self.client_id
        return f"!{self.role.value}/{self.client_id}"

    def may(self, action: Action, topic: str) -> bool:
        """Return whether the access rules allow it."""
        return is_allowed(self.role, action, self.client_id, topic)


@dataclass(slots=True, eq=False)
class Client:
    """An accepted connection."""

    admission: Admission
    session: Session
    """amqtt's; its client_id is `admission.key`."""
    link: Link
    scope: anyio.CancelScope
    """Ends the connection."""
    asked: float = -math.inf
    """When it was last asked whether a newcomer is one still; seconds on the event loop's clock."""
    filters: set[str] = field(default_factory=set)
    unacknowledged: set[int] = field(default_factory=set)
    """Packet ids of messages to it."""
    exactly_once: set[int] = field(default_factory=set)
    """Packet ids of QoS 2 messages from it that are delivered and not yet released."""


class Router(Broker):  # type: ignore[misc]  # amqtt ships no types
    """amqtt's broker without its sockets, tasks and queues."""

    def __init__(self) -> None:
        listeners = {"default": ListenerConfig(type=ListenerType.EXTERNAL)}
        # No plugins: amqtt loads four if none are named, and starts a task for each question to one.
        super().__init__(BrokerConfig(listeners=listeners, plugins={}))
        self.counters = Counters()
        self.lines = QuietLog(_log)
        """What peers cause in the log."""
        self.clients: dict[str, Client] = {}
        self._index: dict[str, set[str]] = {}
        """Filters by their first two levels, those with a wildcard there under "": amqtt would compare
        each message with the filters of every device."""

    def route(self, topic: str, data: bytes, qos: int) -> None:
        """Deliver a message to every subscriber that takes it, once each."""
        self.counters.messages += 1
        granted: dict[str, int] = {}
        for key in {_index_key(topic), ""}:
            for topic_filter in self._index.get(key, ()):
                if self._matches(topic, topic_filter):
                    for session, most in self._subscriptions[topic_filter]:
                        granted[session.client_id] = max(most, granted.get(session.client_id, 0))
        for key, most in granted.items():
            self._deliver(self.clients[key], topic, data, min(qos, most))

    def _deliver(self, client: Client, topic: str, data: bytes, qos: int) -> None:
        # A topic is as long as its publisher likes. To overrun the buffer would end the publisher's
        # connection, and leave a packet id behind that nobody acknowledges.
        size = len(data) + 4 * len(topic) + _HEADER_BYTES
        if client.link.backlog + size > MAX_BACKLOG_BYTES or len(client.unacknowledged) >= MAX_IN_FLIGHT:
            self.counters.dropped += 1
            return
        packet_id = None
        if qos:
            packet_id = client.session.next_packet_id
            while packet_id in client.unacknowledged:
                packet_id = client.session.next_packet_id
            client.unacknowledged.add(packet_id)
        client.link.write(PublishPacket.build(topic, data, packet_id, False, qos, False).to_bytes())

    async def subscribe(self, client: Client, topic_filter: str, qos: int) -> int:
        """Return the QoS granted, at most 1, or `REFUSED`."""
        is_new = topic_filter not in client.filters
        # Shared subscriptions belong to MQTT 5; amqtt would take one for a filter that nothing matches.
        limit = MAX_SERVICE_SUBSCRIPTIONS if client.admission.role is Role.SERVICE else MAX_SUBSCRIPTIONS
        if (is_new and len(client.filters) >= limit) or topic_filter.startswith("$"):
            return REFUSED
        granted: int = await self.add_subscription((topic_filter, min(qos, 1)), client.session)
        if granted != REFUSED:
            client.filters.add(topic_filter)
            self._index.setdefault(_index_key(topic_filter), set()).add(topic_filter)
        return granted

    async def _topic_filtering(self, session: Session, topic: str, action: AmqttAction) -> bool:
        """Answer amqtt's question whether a session may subscribe."""
        client = self.clients.get(session.client_id)
        is_permitted = client is not None and client.admission.may(Action(action.value), topic)
        if not is_permitted:
            self.counters.forbidden += 1
            self.lines.info("%s may not subscribe to %.80s", session.client_id, topic)
        return is_permitted

    def unsubscribe(self, client: Client, topic_filter: str) -> None:
        """End a subscription, if there is one."""
        if topic_filter not in client.filters:
            return
        client.filters.discard(topic_filter)
        self._del_subscription(topic_filter, client.session)
        if not self._subscriptions[topic_filter]:
            del self._subscriptions[topic_filter]
            key = _index_key(topic_filter)
            self._index[key].discard(topic_filter)
            if not self._index[key]:
                del self._index[key]

    def enter(self, client: Client) -> None:
        """File a client; an older connection of the same client ends."""
        before = self.clients.get(client.admission.key)
        if before is not None:
            # [MQTT-3.1.4-2], and only now that we know that it is the same client.
            self.leave(before)
            before.scope.cancel()
        self.clients[client.admission.key] = client
        self._sessions[client.admission.key] = (client.session, None)

    def readmit(self, client: Client, admission: Admission | None) -> None:
        """Give a client the rights that it has now; None ends its connection.

        Args:
            client: Perhaps gone in the meantime, or replaced by a newer connection of its device.
            admission: Of the same client-id, as a newcomer or a device with an owner.
        """
        if admission is None:
            self.lines.info("%s: its certificate has ended", client.admission.key)
            client.scope.cancel()
            return
        client.admission = admission
        for topic_filter in tuple(client.filters):
            if not admission.may(Action.SUBSCRIBE, topic_filter):
                self.unsubscribe(client, topic_filter)

    def leave(self, client: Client) -> None:
        """Forget a client and its subscriptions, if that did not happen before."""
        if self.clients.get(client.admission.key) is not client:
            return
        for topic_filter in tuple(client.filters):
            self.unsubscribe(client, topic_filter)
        del self.clients[client.admission.key]
        del self._sessions[client.admission.key]

    async def _broadcast_message(
        self, _session: Session | None, topic: str, data: bytes, force_qos: int | None = None
    ) -> None:
        """Deliver at once what amqtt would queue."""
        self.route(topic, data, force_qos or 0)


def _index_key(topic: str) -> str:
    levels = topic.split("/", 2)[:2]
    return "" if "+" in levels or "#" in levels else "/".join(levels)
