"""amqtt's broker with a front door that strangers may knock at.

Kept of amqtt 0.12: reading and writing of packets, the checks of CONNECT, sessions, subscriptions and
what they match. Replaced: the loops around them, which is where it acts before it has authenticated,
replays retained messages to whoever connects, loses messages when subscriptions change meanwhile, and
holds without bound what a peer sends or does not read (docs/mqtt.md has the list).

One task reads a connection and handles its packets one after the other, so a peer that sends too fast
is slowed by TCP; one task sends, so a peer that does not read delays nobody, and loses messages.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
from amqtt.adapters import BufferReader
from amqtt.broker import Broker
from amqtt.contexts import Action as AmqttAction
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.errors import AMQTTError, CodecError, MQTTError, NoDataError
from amqtt.mqtt import packet_class
from amqtt.mqtt.connack import CONNECTION_ACCEPTED, NOT_AUTHORIZED, ConnackPacket
from amqtt.mqtt.packet import (
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PUBACK,
    PUBLISH,
    PUBREL,
    SUBSCRIBE,
    UNSUBSCRIBE,
    MQTTFixedHeader,
)
from amqtt.mqtt.pingresp import PingRespPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.pubcomp import PubcompPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.pubrec import PubrecPacket
from amqtt.mqtt.suback import SubackPacket
from amqtt.mqtt.unsuback import UnsubackPacket
from amqtt.session import Session
from anyio.abc import ByteStream

from broker.access import Action, Role, is_allowed
from broker.link import LOST, MAX_BACKLOG_BYTES, MAX_CONNECT_BYTES, Link, Violation

CONNECT_SECONDS: Final = 10.0
"""From accepted socket to a whole CONNECT, TLS handshake included."""
MAX_IDLE_SECONDS: Final = 3600.0
"""Longest silence, also of a client that asked for no keep-alive: a dead link must end some day."""
MAX_SUBSCRIPTIONS: Final = 16
"""Filters per client; a device needs one or two."""
MAX_IN_FLIGHT: Final = 1000
"""Messages sent to one client with QoS 1 that it has not acknowledged."""
MAX_EXACTLY_ONCE: Final = 64
"""QoS 2 messages of one client between PUBLISH and PUBREL."""
_REFUSED: Final = 0x80
_FLAGS: Final = {CONNECT: 0, PUBACK: 0, PUBREL: 2, SUBSCRIBE: 2, UNSUBSCRIBE: 2, PINGREQ: 0, DISCONNECT: 0}
"""Reserved flags [MQTT-2.2.2-1] of every packet that a client may send, but for PUBLISH."""

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Counters:
    """What the broker saw since it started."""

    connections: int = 0
    """Open just now, those without a CONNECT included."""
    accepted: int = 0
    """CONNECTs accepted."""
    refused: int = 0
    """Connections that ended before they were accepted, or because the peer broke a rule."""
    crowded_out: int = 0
    """Connections closed at once because `max_connections` were open."""
    messages: int = 0
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


Admit = Callable[[Link, Session], Admission | None]
"""Decides from a connection and its CONNECT; None refuses."""


Secure = Callable[[ByteStream], Awaitable[ByteStream]]
"""Makes a TLS stream of an accepted socket."""


@dataclass(slots=True, eq=False)
class _Client:
    admission: Admission
    session: Session
    link: Link
    scope: anyio.CancelScope
    filters: set[str] = field(default_factory=set)
    unacknowledged: set[int] = field(default_factory=set)
    received: set[int] = field(default_factory=set)
    """Packet ids of QoS 2 messages that were delivered and not yet released."""

    def may(self, action: Action, topic: str) -> bool:
        return is_allowed(self.admission.role, action, self.admission.client_id, topic)


class FrontDoor(Broker):  # type: ignore[misc]  # amqtt ships no types
    """amqtt's broker, driven by connections that `converse` is called with; it opens no socket itself."""

    def __init__(self, admit: Admit, *, max_connections: int) -> None:
        listeners = {"default": ListenerConfig(type=ListenerType.EXTERNAL)}
        # No plugins: amqtt starts a task for each question to one, and loads four if none are named.
        super().__init__(BrokerConfig(listeners=listeners, plugins={}))
        self.counters = Counters()
        self._admit = admit
        self._max_connections = max_connections
        self._clients: dict[str, _Client] = {}
        self._index: dict[str, set[str]] = {}
        """Filters by their first two levels; those with a wildcard there under "". amqtt would compare
        each message with the filters of every device."""

    async def converse(self, stream: ByteStream, secure: Secure | None = None) -> None:
        """Serve one connection until it ends; nothing of it is left behind.

        Args:
            stream: The accepted socket.
            secure: Awaited with it to get the TLS stream, where there is TLS.
        """
        with self._place() as has_room:
            link: Link | None = None
            try:
                if has_room:
                    with anyio.CancelScope() as scope:
                        with anyio.fail_after(CONNECT_SECONDS):
                            link = Link(await secure(stream) if secure else stream)
                            client = await self._welcome(link, scope)
                        if client is not None:
                            await self._attend(client)
            except (Violation, *LOST) as error:
                self.counters.refused += 1
                _log.info("connection ended: %s", error or type(error).__name__)
            except Exception:  # noqa: BLE001 (a peer that finds a bug of ours or amqtt's ends itself alone)
                _log.exception("connection ended by a fault")
            finally:
                await (link.aclose() if link is not None else anyio.aclose_forcefully(stream))

    def disconnect(self, client_id: str) -> bool:
        """Close the connection of a device, for example because its certificate was revoked."""
        client = self._clients.get(client_id)
        if client is not None:
            client.scope.cancel()
        return client is not None

    @contextmanager
    def _place(self) -> Iterator[bool]:
        # Refused at once: amqtt lets those beyond the limit wait without a word.
        has_room = self.counters.connections < self._max_connections
        self.counters.crowded_out += not has_room
        self.counters.connections += 1
        try:
            yield has_room
        finally:
            self.counters.connections -= 1

    async def _welcome(self, link: Link, scope: anyio.CancelScope) -> _Client | None:
        header, body = await link.read_packet(MAX_CONNECT_BYTES)
        if header.packet_type != CONNECT or header.flags:
            msg = "the first packet is no CONNECT"
            raise Violation(msg)
        with _decoding():
            _, session = await BrokerProtocolHandler.init_from_connect(
                BufferReader(header.to_bytes() + body), link, self.plugins_manager, self._loop
            )
        admission = self._admit(link, session)
        session.password = None
        if admission is None or not self._is_will_allowed(admission, session):
            self._refuse(link)
            return None
        # Names of services never meet those of devices, whatever anybody calls itself.
        is_device = admission.role in (Role.NEWCOMER, Role.DEVICE)
        key = admission.client_id if is_device else f"!{admission.role.value}/{admission.client_id}"
        before = self._clients.get(key)
        if before is not None:
            if before.admission.is_proven and not admission.is_proven:
                self._refuse(link)
                return None
            # [MQTT-3.1.4-2] The same client again: the old connection ends, now that we know it is him.
            self._forget(before)
            before.scope.cancel()
        # Every session is clean: amqtt says that it kept one and then delivers nothing of it.
        session.client_id, session.parent = key, 0
        client = _Client(admission, session, link, scope)
        self._clients[key] = client
        self._sessions[key] = (session, None)
        self.counters.accepted += 1
        link.write(ConnackPacket.build(0, CONNECTION_ACCEPTED).to_bytes())
        return client

    @staticmethod
    def _is_will_allowed(admission: Admission, session: Session) -> bool:
        return not session.will_flag or is_allowed(
            admission.role, Action.PUBLISH, admission.client_id, session.will_topic or ""
        )

    def _refuse(self, link: Link) -> None:
        self.counters.refused += 1
        link.write(ConnackPacket.build(0, NOT_AUTHORIZED).to_bytes())

    def _forget(self, client: _Client) -> None:
        if self._clients.get(client.session.client_id) is not client:
            return
        del self._clients[client.session.client_id]
        del self._sessions[client.session.client_id]
        for topic_filter in client.filters:
            self._drop_subscription(topic_filter, client)

    async def _attend(self, client: _Client) -> None:
        is_goodbye = False
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._send, client)
                is_goodbye = await self._read(client)
                tasks.cancel_scope.cancel()
        except* (Violation, *LOST) as errors:
            _log.info("%s: connection ended: %s", client.session.client_id, errors.exceptions[0])
        finally:
            self._forget(client)
            if client.session.will_flag and not is_goodbye:
                self._route(
                    client.session.will_topic, bytes(client.session.will_message), client.session.will_qos
                )

    @staticmethod
    async def _send(client: _Client) -> None:
        try:
            await client.link.send_forever()
        except LOST:
            client.scope.cancel()

    async def _read(self, client: _Client) -> bool:
        """Handle packets until the client says goodbye (True)."""
        # [MQTT-3.1.2-24] One and a half times the keep-alive.
        patience = min(1.5 * client.session.keep_alive or MAX_IDLE_SECONDS, MAX_IDLE_SECONDS)
        while True:
            header, body = await client.link.read_packet(patience=patience)
            if header.packet_type == DISCONNECT:
                return True
            await self._handle(client, header, body)

    async def _handle(self, client: _Client, header: MQTTFixedHeader, body: bytes) -> None:
        kind = header.packet_type
        if kind != PUBLISH and _FLAGS.get(kind) != header.flags:
            msg = f"packet type {kind} with flags {header.flags}"
            raise Violation(msg)
        with _decoding():
            packet = await packet_class(header).from_stream(BufferReader(body), fixed_header=header)
        if kind == PUBLISH:
            self._published(client, packet)
        elif kind == PUBACK:
            client.unacknowledged.discard(packet.packet_id)
        elif kind == PINGREQ:
            client.link.write(PingRespPacket.build().to_bytes())
        elif kind == SUBSCRIBE:
            await self._subscribed(client, packet)
        elif kind == UNSUBSCRIBE:
            for topic_filter in packet.payload.topics:
                self._drop_subscription(topic_filter, client)
                client.filters.discard(topic_filter)
            client.link.write(UnsubackPacket.build(packet.variable_header.packet_id).to_bytes())
        elif kind == PUBREL:
            client.received.discard(packet.packet_id)
            client.link.write(PubcompPacket.build(packet.packet_id).to_bytes())
        else:
            msg = "a second CONNECT"
            raise Violation(msg)

    def _published(self, client: _Client, packet: PublishPacket) -> None:
        topic, qos, packet_id = packet.topic_name, packet.qos, packet.packet_id
        if not topic or topic[0] == "$" or qos > 2:
            msg = "a PUBLISH without a topic, with a $ topic or with QoS 3"
            raise Violation(msg)
        is_new = packet_id not in client.received
        if qos == 2 and is_new:
            if len(client.received) >= MAX_EXACTLY_ONCE:
                msg = "too many QoS 2 messages"
                raise Violation(msg)
            client.received.add(packet_id)
        if not client.may(Action.PUBLISH, topic):
            # 3.1.1 knows no refusal but to hang up [MQTT-3.3.5-2]; it is acknowledged and goes nowhere.
            self.counters.forbidden += 1
            _log.info("%s may not publish on %.80s", client.session.client_id, topic)
        elif qos < 2 or is_new:
            # Nothing is retained: topics are the devices' to choose, and memory is not.
            self._route(topic, packet.data or b"", qos)
        if qos == 1:
            client.link.write(PubackPacket.build(packet_id).to_bytes())
        elif qos == 2:
            client.link.write(PubrecPacket.build(packet_id).to_bytes())

    async def _subscribed(self, client: _Client, packet: Any) -> None:  # noqa: ANN401
        codes = []
        for topic_filter, qos in packet.payload.topics:
            code = _REFUSED
            if topic_filter in client.filters or len(client.filters) < MAX_SUBSCRIPTIONS:
                code = await self.add_subscription((topic_filter, min(qos, 1)), client.session)
            if code != _REFUSED:
                client.filters.add(topic_filter)
                self._index.setdefault(_key(topic_filter), set()).add(topic_filter)
            codes.append(code)
        client.link.write(SubackPacket.build(packet.variable_header.packet_id, codes).to_bytes())

    async def _topic_filtering(self, session: Session, topic: str, action: AmqttAction) -> bool:
        """Answer amqtt's question whether a session may subscribe."""
        client = self._clients.get(session.client_id)
        is_permitted = client is not None and client.may(Action(action.value), topic)
        self.counters.forbidden += not is_permitted
        return is_permitted

    def _drop_subscription(self, topic_filter: str, client: _Client) -> None:
        self._del_subscription(topic_filter, client.session)
        if not self._subscriptions.get(topic_filter, True):
            del self._subscriptions[topic_filter]
            filters = self._index[_key(topic_filter)]
            filters.discard(topic_filter)
            if not filters:
                del self._index[_key(topic_filter)]

    async def _broadcast_message(
        self, _session: Session | None, topic: str, data: bytes, force_qos: int | None = None
    ) -> None:
        """Deliver at once; amqtt would queue without bound and lose what changes meanwhile."""
        self._route(topic, data, force_qos or 0)

    def _route(self, topic: str, data: bytes, qos: int) -> None:
        self.counters.messages += 1
        granted: dict[str, int] = {}
        for key in {_key(topic), ""}:
            for topic_filter in self._index.get(key, ()):
                if self._matches(topic, topic_filter):
                    for session, most in self._subscriptions[topic_filter]:
                        granted[session.client_id] = max(most, granted.get(session.client_id, 0))
        for client_id, most in granted.items():
            self._deliver(self._clients[client_id], topic, data, min(qos, most))

    def _deliver(self, client: _Client, topic: str, data: bytes, qos: int) -> None:
        if (
            client.link.backlog + len(data) + 256 > MAX_BACKLOG_BYTES
            or len(client.unacknowledged) >= MAX_IN_FLIGHT
        ):
            self.counters.dropped += 1
            return
        packet_id = None
        if qos:
            packet_id = client.session.next_packet_id
            while packet_id in client.unacknowledged:
                packet_id = client.session.next_packet_id
            client.unacknowledged.add(packet_id)
        client.link.write(PublishPacket.build(topic, data, packet_id, False, qos, False).to_bytes())


def _key(topic: str) -> str:
    levels = topic.split("/", 2)[:2]
    return "" if "+" in levels or "#" in levels else "/".join(levels)


@contextmanager
def _decoding() -> Iterator[None]:
    try:
        yield
    # What amqtt's decoders raise on malformed packets (found by fuzzing).
    except (AMQTTError, MQTTError, CodecError, NoDataError, ValueError, TypeError, IndexError) as error:
        msg = f"malformed packet: {error}"
        raise Violation(msg) from error
