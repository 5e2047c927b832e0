"""One MQTT connection over gmqtt, from CONNACK until it is lost.

gmqtt is fast but repeats, reconnects and re-subscribes by rules of its own, and cannot say that a
message was acknowledged. So its reconnecting is switched off (whoever needs a new connection opens
one), and its in-flight store, which it lets us replace, tells us of each PUBACK.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import anyio
import gmqtt
from gmqtt.mqtt.handler import MQTTConnectError

from broker.address import BrokerAddress
from protocol.errors import Unreachable

__all__ = ["BrokerAddress", "Connection", "OnMessage", "open_connection"]

CONNECT_SECONDS: Final = 10.0
"""Longest wait for a connection, its CONNACK or a SUBACK; a broker that needs more is down."""
CLOSE_SECONDS: Final = 2.0
KEEPALIVE_SECONDS: Final = 30
WINDOW: Final = 64
"""Unacknowledged messages per connection: enough to fill a round trip, few enough to lose, and below
what mosquitto's own configuration lets a client have (`max_inflight_messages`)."""
_NO_RECONNECTS: Final = -2
"""gmqtt counts failures from 0 and reserves -1 for "for ever"."""

OnMessage = Callable[[str, bytes, dict[str, Any]], None]
"""Topic, payload, MQTT 5 properties. Runs inside gmqtt's reader: it must neither block nor raise."""

_log: Final = logging.getLogger(__name__)
_gmqtt_log: Final = logging.getLogger("broker.gmqtt")
# gmqtt reports as errors what is ordinary here (a lost connection, a reconnect that it was told not to
# try); what matters reaches the caller as `Unreachable`.
_gmqtt_log.setLevel(logging.CRITICAL)
for _name in ("gmqtt.mqtt.protocol", "gmqtt.mqtt.package", "gmqtt.mqtt.utils"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class _InFlight:
    """gmqtt's store of unacknowledged messages; keeps no message, only who waits for which.

    Nothing is resent: a lost connection fails its waiters, and whoever cares asks again.
    """

    def __init__(self) -> None:
        self.room = anyio.Semaphore(WINDOW, fast_acquire=True)
        """What may still be sent without being acknowledged."""
        self._waiting: dict[int, anyio.Event | None] = {}
        self.last_id = 0

    # What gmqtt calls:
    is_empty = True

    def push_message(self, packet_id: int, _package: bytes) -> None:
        self._waiting[packet_id] = None
        self.last_id = packet_id

    def remove_message_by_mid(self, packet_id: int) -> None:
        if packet_id in self._waiting:
            event = self._waiting.pop(packet_id)
            self.room.release()
            if event is not None:
                event.set()

    async def wait_empty(self) -> None:
        """Return at once: a fresh connection has nothing to repeat."""

    def clear(self) -> None:
        """Do nothing: called after a CONNACK without session, when nothing is in flight yet."""

    def get_all(self) -> list[tuple[int, bytes]]:
        return []

    # What we call:
    def acknowledgement(self) -> anyio.Event:
        """Return what is set when the message sent last is acknowledged, or never will be."""
        event = self._waiting[self.last_id] = anyio.Event()
        return event

    def abandon(self) -> None:
        for packet_id in list(self._waiting):
            self.remove_message_by_mid(packet_id)


class Connection:
    """An open connection; made by `open_connection`."""

    def __init__(self, client_id: str, on_message: OnMessage, on_lost: Callable[[], None] | None) -> None:
        self._on_message = on_message
        self._in_flight = _InFlight()
        self._subscribing: dict[int, tuple[anyio.Event, list[int]]] = {}
        self.lost = anyio.Event()
        self.client = gmqtt.Client(client_id, persistent_storage=self._in_flight, logger=_gmqtt_log)
        self.client.set_config({"reconnect_retries": _NO_RECONNECTS})
        self.client.on_connect = self._connected
        self.client.on_message = self._delivered
        self.client.on_subscribe = self._subscribed
        self.client.on_disconnect = self._disconnected
        self._on_lost = on_lost
        self._opening: anyio.CancelScope | None = None

    def _connected(self, _client: object, _flags: int, _code: int, properties: dict[str, Any]) -> None:
        # MQTT 5: the broker says how many it takes (mosquitto: 20). gmqtt raises OverflowError one short
        # of that, and counts subscriptions too.
        most = properties.get("receive_maximum")
        if most:
            self._in_flight.room = anyio.Semaphore(max(1, min(WINDOW, most[0] - 2)), fast_acquire=True)

    def _delivered(
        self, _client: object, topic: str | bytes, payload: bytes, _qos: int, properties: dict[str, Any]
    ) -> None:
        if isinstance(topic, bytes):
            return  # not UTF-8, so not for us
        try:
            self._on_message(topic, payload, properties)
        except Exception:  # noqa: BLE001 (gmqtt would swallow it without a word)
            _log.exception("delivery on %.80s failed", topic)

    def _subscribed(
        self, _client: object, packet_id: int, granted: Sequence[int], _properties: object
    ) -> None:
        if packet_id in self._subscribing:
            event, codes = self._subscribing[packet_id]
            codes.extend(granted)
            event.set()

    def _disconnected(self, *_: object) -> None:
        if self.lost.is_set():
            return
        self.lost.set()
        self._in_flight.abandon()
        for event, _codes in self._subscribing.values():
            event.set()
        if self._opening is not None:
            self._opening.cancel()
        if self._on_lost is not None:
            self._on_lost()

    async def open(self, address: BrokerAddress) -> None:
        """Connect; see `open_connection`."""
        host, port, context = address.resolve()
        if address.username is not None:
            self.client.set_auth_credentials(address.username, address.password)
        accepted = False
        with anyio.move_on_after(CONNECT_SECONDS) as self._opening:
            # gmqtt waits for a CONNACK for ever, also on a connection that is gone.
            try:
                await self.client.connect(
                    host,
                    port,
                    ssl=context or False,
                    keepalive=KEEPALIVE_SECONDS,
                    version=int(address.version),
                )
                accepted = True
            except (OSError, MQTTConnectError) as error:
                raise Unreachable(f"{address.uri}: {error}") from error
        self._opening = None
        if not accepted or self.lost.is_set():
            how = "closed the connection" if self.lost.is_set() else f"no answer in {CONNECT_SECONDS:g} s"
            raise Unreachable(f"{address.uri}: {how}")

    async def subscribe(self, *filters: str) -> None:
        """Subscribe with QoS 1 and wait for the SUBACK.

        Raises:
            Unreachable: The connection is lost, or the broker refuses one of `filters`.
        """
        self._check()
        event, codes = anyio.Event(), list[int]()
        wanted = [gmqtt.Subscription(topic, qos=1) for topic in filters]
        packet_id = self.client.subscribe(wanted)
        self._subscribing[packet_id] = event, codes
        try:
            with anyio.move_on_after(CONNECT_SECONDS):
                await event.wait()
        finally:
            del self._subscribing[packet_id]
        for topic, code in zip(filters, codes, strict=False):
            if code >= 0x80:
                raise Unreachable(f"the broker refuses the subscription to {topic}")
        if len(codes) != len(filters):
            raise Unreachable("the broker did not answer the subscription")

    def send_nowait(self, topic: str, payload: bytes, **properties: object) -> bool:
        """Send one message with QoS 1 if it can leave at once; return whether it did."""
        if self.lost.is_set():
            return False
        try:
            self._in_flight.room.acquire_nowait()
        except anyio.WouldBlock:
            return False
        self._write(topic, payload, properties)
        return True

    async def send(self, topic: str, payload: bytes, **properties: object) -> None:
        """Send one message with QoS 1, waiting for room but for no acknowledgement.

        Raises:
            Unreachable: The connection is lost.
        """
        await self._in_flight.room.acquire()
        self._write(topic, payload, properties)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Send one message with QoS 1 and return once the broker has acknowledged it.

        That says that the broker took the message, not that its rules let it pass (3.1.1 cannot say).

        Raises:
            Unreachable: The connection is lost; the message may or may not have arrived.
        """
        await self._in_flight.room.acquire()
        self._write(topic, payload, {})
        await self._in_flight.acknowledgement().wait()
        self._check()

    def _write(self, topic: str, payload: bytes, properties: dict[str, object]) -> None:
        try:
            self._check()
            self.client.publish(topic, payload, qos=1, **properties)
        except BaseException:
            self._in_flight.room.release()
            raise

    def _check(self) -> None:
        if self.lost.is_set() or not self.client.is_connected:
            raise Unreachable("the connection to the broker is lost")

    async def close(self) -> None:
        """Say goodbye and free the socket; never raises but for cancellation."""
        # gmqtt hands on how the connection ended, where it was not it that ended it.
        with anyio.move_on_after(CLOSE_SECONDS, shield=True), suppress(OSError):
            await self.client.disconnect()
        self._disconnected()


@asynccontextmanager
async def open_connection(
    address: BrokerAddress,
    client_id: str,
    on_message: OnMessage,
    on_lost: Callable[[], None] | None = None,
) -> AsyncIterator[Connection]:
    """Connect with a clean session; the body runs once the broker has accepted.

    Args:
        address: Which broker, and how it knows us.
        client_id: What the broker knows us by.
        on_message: Called for each delivery.
        on_lost: Called once, at the end of the connection, however it ends.

    Raises:
        Unreachable: No connection, no CONNACK in time, or refused.
        ValueError: As `BrokerAddress.resolve`.

    Cancellation: at any point; the socket is closed.
    """
    connection = Connection(client_id, on_message, on_lost)
    try:
        await connection.open(address)
        yield connection
    finally:
        await connection.close()
