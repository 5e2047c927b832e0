"""An MQTT proxy in front of one broker: a `Link` for each connection, on plain TCP."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.memory import MemoryObjectSendStream

from agents.proxy.faults import Counts, Faults
from agents.proxy.mqtt_link import Link, Send, Side
from agents.proxy.mqtt_packets import NotMqtt

Address = tuple[str, int]
_Chunk = tuple[Side, bytes | None]

INBOX: Final = 16
"""Chunks of up to 64 KiB that wait for a connection's owner; when it is full the readers wait, and TCP
slows the sender down."""
CONNECT_SECONDS: Final = 5.0


class MqttProxy:
    """A running proxy; made by `serve_mqtt`."""

    def __init__(self, address: Address, upstream: Address, faults: Faults, seed: int) -> None:
        self.address = address
        """Where clients connect to."""
        self.counts = Counts()
        """PUBLISH packets of both directions."""
        self._upstream = upstream
        self._faults = faults
        self._seed = seed
        self._connections = 0

    async def handle(self, client: SocketStream) -> None:
        """Carry one connection until either side ends it."""
        self._connections += 1
        link = Link(self._faults, f"{self._seed}:{self._connections}", self.counts)
        async with client:
            try:
                with anyio.fail_after(CONNECT_SECONDS):
                    broker = await anyio.connect_tcp(*self._upstream)
            except (OSError, TimeoutError):
                return  # the client sees its connection closed, as with a broker that is down
            async with broker:
                await _carry(link, {Side.CLIENT: client, Side.BROKER: broker})


async def _carry(link: Link, streams: dict[Side, SocketStream]) -> None:
    send, receive = anyio.create_memory_object_stream[_Chunk](INBOX)
    async with anyio.create_task_group() as tasks, send, receive:
        for side, stream in streams.items():
            tasks.start_soon(_read, side, stream, send)
        # One owner decides and writes, so a connection's packets keep their order.
        while True:
            chunk: _Chunk | None = None
            with anyio.move_on_at(link.deadline if link.deadline is not None else float("inf")):
                chunk = await receive.receive()
            now = anyio.current_time()
            try:
                effects: list[Send] = link.timeout(now)
                if chunk is not None:
                    side, data = chunk
                    if data is None:
                        break
                    effects += link.receive(side, data, now)
                for effect in effects:
                    await streams[effect.side].send(effect.data)
            except (NotMqtt, anyio.BrokenResourceError, anyio.ClosedResourceError):
                break
        tasks.cancel_scope.cancel()


async def _read(side: Side, stream: SocketStream, inbox: MemoryObjectSendStream[_Chunk]) -> None:
    try:
        while True:
            await inbox.send((side, await stream.receive()))
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
        await inbox.send((side, None))


@asynccontextmanager
async def serve_mqtt(
    bind: Address, upstream: Address, faults: Faults, *, seed: int = 0
) -> AsyncGenerator[MqttProxy, None]:
    """Run a proxy while the context is open; it listens when the body starts.

    Args:
        bind: Where clients connect to; port 0 takes a free one (see `MqttProxy.address`).
        upstream: The broker's plain MQTT listener.
        faults: How bad both directions are.
        seed: Makes the decisions repeatable.

    Raises:
        OSError: The address cannot be bound.
    """
    listener = await anyio.create_tcp_listener(local_host=bind[0], local_port=bind[1])
    port = listener.extra(SocketAttribute.local_port)  # noqa: S610 (anyio's, not Django's)
    proxy = MqttProxy((bind[0], port), upstream, faults, seed)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, proxy.handle, tasks)
        try:
            yield proxy
        finally:
            tasks.cancel_scope.cancel()
