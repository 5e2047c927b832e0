"""A device's side of a broker: `protocol.ports.DeviceTransport` over MQTT."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ssl import SSLContext
from typing import Any

import anyio

from broker import parts, replies, topics
from broker.address import BrokerAddress, Version
from broker.connection import Connection, open_connection
from protocol.errors import MalformedMessage, UnexpectedMessage, Unreachable
from protocol.labels import Operation
from protocol.ports import Outbound, Reply
from protocol.problem import Problem

_Key = tuple[str, Operation, bytes]
"""Label, operation, request-id."""


class _Waiter:
    """Waits for one reply; callers that sent the same bytes share it."""

    __slots__ = ("callers", "done", "reply")

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.reply: Reply | None = None
        """None when `done` says that the connection was lost."""
        self.callers = 0


class MqttDevice:
    """Made by `connect`."""

    def __init__(self, address: BrokerAddress, client_id: str) -> None:
        self._address = address
        self._client_id = client_id
        self._waiters: dict[_Key, _Waiter] = {}
        self._opening = anyio.Lock()
        self._connection: Connection | None = None
        self._stack = AsyncExitStack()
        self.ignored = 0
        """Deliveries that were no reply to anything asked."""

    async def open(self) -> Connection:
        """Return the connection, opening another where the last one is lost.

        Raises:
            Unreachable: The broker cannot be reached, or refuses us.
        """
        async with self._opening:
            if self._connection is not None and not self._connection.lost.is_set():
                return self._connection
            await self.close()
            async with AsyncExitStack() as stack:
                connection = await stack.enter_async_context(
                    open_connection(self._address, self._client_id, self._received, self._lost)
                )
                # Five levels: every reply, and no request of our own.
                await connection.subscribe(f"est/{self._client_id}/+/+/+")
                self._stack = stack.pop_all()
            self._connection = connection
            return connection

    async def close(self) -> None:
        """Leave the broker."""
        self._connection = None
        await self._stack.aclose()

    def _received(self, topic: str, payload: bytes, _properties: dict[str, Any]) -> None:
        try:
            asked, outcome = topics.parse_reply(topic, self._client_id)
            ident, reply = replies.decode_reply(outcome, payload, asked.op)
            waiter = self._waiters.pop((asked.label, asked.op, ident))
        except (MalformedMessage, UnexpectedMessage, KeyError):
            # Nobody vouches for a reply's envelope: what pairs with nothing is as good as silence.
            self.ignored += 1
            return
        waiter.reply = reply
        waiter.done.set()

    def _lost(self) -> None:
        for waiter in self._waiters.values():
            waiter.done.set()
        self._waiters.clear()

    async def exchange(self, request: Outbound) -> Reply:
        """Send `request` and return its reply; see `DeviceTransport`.

        Waits for as long as the connection holds: the deadline is the caller's. A revocation list comes in
        as many parts as it takes.

        Raises:
            Unreachable: As there; the next call opens a new connection.
        """
        if request.op is Operation.CRL:
            return await parts.collect(request, self._exchange)
        return await self._exchange(request)

    async def _exchange(self, request: Outbound) -> Reply:
        connection = await self.open()
        key = (topics.check_label(request.label), request.op, replies.request_id(request.body))
        waiter = self._waiters.setdefault(key, _Waiter())
        waiter.callers += 1
        try:
            topic = topics.RequestTopic(self._client_id, request.label, request.op)
            await connection.send(str(topic), request.body)
            await waiter.done.wait()
        finally:
            waiter.callers -= 1
            if not waiter.callers and self._waiters.get(key) is waiter:
                del self._waiters[key]
        if waiter.reply is None:
            msg = "the connection to the broker was lost"
            raise Unreachable(msg)
        return waiter.reply

    async def send_message(self, stream: str, body: bytes) -> Problem | None:
        """Publish on `m/<client-id>/<stream>`; return None once the broker has acknowledged it.

        That is all MQTT can say: a message that the broker's rules refuse, or the verifier drops, is
        acknowledged too.

        Raises:
            Unreachable: As in `exchange`; the message may or may not have arrived.
        """
        topic = topics.message_topic(self._client_id, stream)
        await (await self.open()).publish(topic, body)
        return None


@asynccontextmanager
async def connect(
    uri: str,
    client_id: str,
    *,
    ssl_context: SSLContext | None = None,
    version: Version = Version.V3_1_1,
    at_once: bool = True,
) -> AsyncIterator[MqttDevice]:
    """Connect a device to a broker and subscribe to its replies.

    Args:
        uri: mqtt://host:port or mqtts://host:port.
        client_id: [0-9A-Za-z_-]{1,64}; over TLS the one that the client certificate is bound to.
        ssl_context: For mqtts: trust anchors, and the device's certificate and key.
        version: Any that the broker speaks; nothing here needs MQTT 5.
        at_once: Whether to connect now; otherwise the first exchange does, so that who starts while the
            broker is away has something to hold.

    Raises:
        Unreachable: No connection, or refused.
        MalformedMessage: `client_id` cannot be one.
        ValueError: `uri` cannot be one, or mqtts without `ssl_context`.

    Cancellation: at any point; the socket is closed.
    """
    device = MqttDevice(BrokerAddress(uri, version, ssl_context), topics.check_client_id(client_id))
    try:
        if at_once:
            await device.open()
        yield device
    finally:
        await device.close()
