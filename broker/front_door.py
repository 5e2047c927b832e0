"""amqtt's broker with a front door that strangers may knock at.

Kept of amqtt 0.12: reading and writing of packets, the checks of CONNECT, sessions, subscriptions and
what they match. Replaced: the loops around them, which is where it touches sessions before it has
authenticated, replays retained messages to whoever connects, and holds without bound what a peer sends
or does not read (docs/mqtt.md has the list).

One task reads a connection and handles its packets one after the other, so a peer that sends too fast
is slowed by TCP; another sends, so a peer that does not read delays nobody, and misses messages.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import anyio
from amqtt.adapters import BufferReader
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
from broker.link import LOST, MAX_CONNECT_BYTES, Link, Violation
from broker.router import Admission, Client, Router

CONNECT_SECONDS: Final = 10.0
"""From accepted socket to a whole CONNECT, TLS handshake included."""
MAX_IDLE_SECONDS: Final = 3600.0
"""Longest silence, also of a client that asked for no keep-alive: a dead link must end some day."""
MAX_EXACTLY_ONCE: Final = 64
"""QoS 2 messages of one client between PUBLISH and PUBREL."""
ASK_AGAIN_SECONDS: Final = 1.0
"""Between two looks whether a newcomer has an owner by now; a look costs a millisecond of a thread."""
_FLAGS: Final = {CONNECT: 0, PUBACK: 0, PUBREL: 2, SUBSCRIBE: 2, UNSUBSCRIBE: 2, PINGREQ: 0, DISCONNECT: 0}
"""Reserved flags [MQTT-2.2.2-1] of every packet that a client may send, but for PUBLISH."""

_log: Final = logging.getLogger(__name__)

Admit = Callable[[Link, Session], Awaitable[Admission | None]]
"""Decides from a connection and its CONNECT; None refuses. Asked again when a newcomer wants more."""
Secure = Callable[[ByteStream], Awaitable[ByteStream]]
"""Makes a TLS stream of an accepted socket."""


class FrontDoor(Router):
    """amqtt's broker, driven by the connections that `converse` is called with; it opens no socket."""

    def __init__(
        self, admit: Admit, *, max_connections: int, connect_seconds: float = CONNECT_SECONDS
    ) -> None:
        super().__init__()
        self._admit = admit
        self._max_connections = max_connections
        self._connect_seconds = connect_seconds

    async def converse(self, stream: ByteStream, secure: Secure | None = None) -> None:
        """Serve one connection until it ends; nothing of it is left behind.

        Args:
            stream: The accepted socket.
            secure: Awaited with it to get the TLS stream, where there is TLS.
        """
        if self.counters.connections >= self._max_connections:
            # At once: amqtt lets those beyond the limit wait without a word.
            self.counters.crowded_out += 1
            await anyio.aclose_forcefully(stream)
            return
        self.counters.connections += 1
        link: Link | None = None
        try:
            with anyio.CancelScope() as scope:
                with anyio.fail_after(self._connect_seconds):
                    link = Link(await secure(stream) if secure else stream)
                    client = await self._welcome(link, scope)
                if client is not None:
                    await self._attend(client)
        except (Violation, *LOST) as error:
            self.counters.violations += 1
            self.lines.info("no connection: %s", error or type(error).__name__)
        except Exception:  # noqa: BLE001 (a peer that finds a bug of ours or amqtt's ends nobody but itself)
            self.lines.fault("connection ended by a fault")
        finally:
            self.counters.connections -= 1
            await (link.aclose() if link is not None else anyio.aclose_forcefully(stream))

    async def _welcome(self, link: Link, scope: anyio.CancelScope) -> Client | None:
        """Read CONNECT; return who it is, or answer that it is nobody."""
        header, body = await link.read_packet(MAX_CONNECT_BYTES)
        if header.packet_type != CONNECT or header.flags:
            msg = "the first packet is no CONNECT"
            raise Violation(msg)
        with _decoding():
            _, session = await BrokerProtocolHandler.init_from_connect(
                BufferReader(header.to_bytes() + body), link, self.plugins_manager, self._loop
            )
        admission = await self._admit(link, session)
        session.password = None
        if admission is None or not self._is_welcome(admission, session):
            self.counters.refused += 1
            link.write(ConnackPacket.build(0, NOT_AUTHORIZED).to_bytes())
            return None
        # Every session is clean: amqtt says that it kept one, and then delivers nothing of it.
        session.client_id, session.parent = admission.key, 0
        # Its state machine is 16 KiB that nobody asks here.
        session.transitions = None
        return Client(admission, session, link, scope)

    def _is_welcome(self, admission: Admission, session: Session) -> bool:
        if session.will_flag and not admission.may(Action.PUBLISH, session.will_topic or ""):
            return False
        before = self.clients.get(admission.key)
        return before is None or admission.is_proven or not before.admission.is_proven

    async def _attend(self, client: Client) -> None:
        is_goodbye = False
        self.enter(client)
        self.counters.accepted += 1
        try:
            client.link.write(ConnackPacket.build(0, CONNECTION_ACCEPTED).to_bytes())
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._send, client)
                is_goodbye = await self._read(client)
                tasks.cancel_scope.cancel()
        except* Violation as violations:
            self.counters.violations += 1
            self.lines.info("%s broke the rules: %s", client.admission.key, violations.exceptions[0])
        except* LOST as losses:
            _log.debug("%s is gone: %r", client.admission.key, losses.exceptions[0])
        finally:
            self.leave(client)
            session = client.session
            if (
                session.will_flag
                and not is_goodbye
                and client.admission.may(Action.PUBLISH, session.will_topic)
            ):
                self.route(session.will_topic, bytes(session.will_message), session.will_qos)

    @staticmethod
    async def _send(client: Client) -> None:
        try:
            await client.link.send_forever()
        except LOST:
            client.scope.cancel()

    async def _read(self, client: Client) -> bool:
        """Handle packets until the client says goodbye (True)."""
        # [MQTT-3.1.2-24] One and a half times the keep-alive.
        patience = min(1.5 * client.session.keep_alive or MAX_IDLE_SECONDS, MAX_IDLE_SECONDS)
        while True:
            header, body = await client.link.read_packet(patience=patience)
            if header.packet_type == DISCONNECT:
                return True
            await self._handle(client, header, body)

    async def _handle(self, client: Client, header: MQTTFixedHeader, body: bytes) -> None:
        kind = header.packet_type
        if kind != PUBLISH and _FLAGS.get(kind) != header.flags:
            msg = f"packet type {kind} with flags {header.flags}"
            raise Violation(msg)
        with _decoding():
            packet: Any = await packet_class(header).from_stream(BufferReader(body), fixed_header=header)
        if kind == PUBLISH:
            await self._published(client, packet)
        elif kind == PUBACK:
            client.unacknowledged.discard(packet.variable_header.packet_id)
        elif kind == PINGREQ:
            client.link.write(PingRespPacket.build().to_bytes())
        elif kind == SUBSCRIBE:
            codes: list[int] = []
            for topic_filter, most in packet.payload.topics:
                await self._may(client, Action.SUBSCRIBE, topic_filter)
                codes.append(await self.subscribe(client, topic_filter, most))
            client.link.write(SubackPacket.build(packet.variable_header.packet_id, codes).to_bytes())
        elif kind == UNSUBSCRIBE:
            for topic_filter in packet.payload.topics:
                self.unsubscribe(client, topic_filter)
            client.link.write(UnsubackPacket.build(packet.variable_header.packet_id).to_bytes())
        elif kind == PUBREL:
            client.exactly_once.discard(packet.variable_header.packet_id)
            client.link.write(PubcompPacket.build(packet.variable_header.packet_id).to_bytes())
        else:
            msg = "a second CONNECT"
            raise Violation(msg)

    async def _may(self, client: Client, action: Action, topic: str) -> bool:
        """Return whether the access rules allow it; a newcomer's rights may have grown since it connected."""
        admission = client.admission
        if admission.role is Role.NEWCOMER and not admission.may(action, topic):
            if not is_allowed(Role.DEVICE, action, admission.client_id, topic):
                return False
            # Who asks too often waits, and so does nobody else.
            await anyio.sleep_until(client.asked + ASK_AGAIN_SECONDS)
            client.asked = anyio.current_time()
            self.readmit(client, await self._admit(client.link, client.session))
        return client.admission.may(action, topic)

    async def _published(self, client: Client, packet: PublishPacket) -> None:
        topic, qos, packet_id = packet.topic_name, packet.qos, packet.packet_id
        if not topic or topic[0] == "$" or qos > 2:
            msg = "a PUBLISH without a topic, on a $ topic or with QoS 3"
            raise Violation(msg)
        # Packet ids of other qualities of service do not count here.
        is_repeat = qos == 2 and packet_id in client.exactly_once
        if not await self._may(client, Action.PUBLISH, topic):
            # 3.1.1 cannot refuse a message [MQTT-3.3.5-2]: it is acknowledged and goes nowhere.
            self.counters.forbidden += 1
            self.lines.info("%s may not publish on %.80s", client.admission.key, topic)
        elif not is_repeat:
            # Never retained: topics are the devices' to choose, and memory is not.
            self.route(topic, packet.data or b"", qos)
        if qos == 1:
            client.link.write(PubackPacket.build(packet_id).to_bytes())
        elif qos == 2:
            client.exactly_once.add(packet_id)
            if len(client.exactly_once) > MAX_EXACTLY_ONCE:
                msg = "too many QoS 2 messages"
                raise Violation(msg)
            client.link.write(PubrecPacket.build(packet_id).to_bytes())


@contextmanager
def _decoding() -> Iterator[None]:
    try:
        yield
    # All that amqtt's decoders raise on malformed packets.
    except (AMQTTError, MQTTError, CodecError, NoDataError, ValueError, TypeError, IndexError) as error:
        msg = f"malformed packet: {error}"
        raise Violation(msg) from error
