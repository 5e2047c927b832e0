"""What the CoAP tests share: an authority that says what it is told to, and a peer that may misbehave."""

import itertools
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import ConnectedUDPSocket

from constrained.server import CoapServer, Engine, serve
from constrained.wire import Code, Datagram, Option, Type, decode, encode
from protocol.ports import Content, Inbound, InboundMessage, Media, Reply
from protocol.problem import Problem

PATIENCE = 5.0
"""Seconds until a test gives up on what must happen."""
SILENCE = 0.3
"""Seconds in which what must not happen would have happened."""

LABELS = ("meter-ds", "its-enroll")
SEN = (b"e", b"meter-ds", b"sen")
ENGINES: tuple[Engine, ...] = ("aiocoap", "lean")


@dataclass
class Authority:
    """Handlers that remember what they hear."""

    reply: Reply | None = None
    """None: the request itself, as a certificate."""
    delay: float = 0.0
    """Seconds that every answer takes."""
    gate: anyio.Event | None = None
    """Answers wait for it."""
    refusal: Problem | None = None
    heard: list[Inbound] = field(default_factory=list)
    messages: list[InboundMessage] = field(default_factory=list)
    cancelled: int = 0

    async def handle(self, inbound: Inbound) -> Reply:
        self.heard.append(inbound)
        try:
            if self.gate is not None:
                await self.gate.wait()
            await anyio.sleep(self.delay)
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        return self.reply or Content(inbound.body, Media.C509_CERTIFICATE)

    async def take(self, message: InboundMessage) -> Problem | None:
        self.messages.append(message)
        return self.refusal

    def serve(self, engine: Engine, **settings: Any) -> Any:
        """Open a server of these handlers on a free port."""
        settings = {"bind": ("127.0.0.1", 0), "messages": self.take, **settings}
        return serve(self.handle, LABELS, engine=engine, **settings)


class Peer:
    """A client made of bare datagrams."""

    def __init__(self, socket: ConnectedUDPSocket) -> None:
        self.socket = socket
        self._mids = itertools.count(1)

    async def send(self, datagram: bytes) -> None:
        await self.socket.send(datagram)

    async def receive(self) -> Datagram:
        with anyio.fail_after(PATIENCE):
            return decode(await self.socket.receive())

    async def hears_nothing(self) -> bool:
        with anyio.move_on_after(SILENCE):
            await self.socket.receive()
            return False
        return True

    async def request(
        self,
        path: tuple[bytes, ...] = SEN,
        payload: bytes = b"request",
        *options: tuple[int, bytes],
        code: int = Code.POST,
        kind: Type = Type.CON,
        token: bytes | None = None,
    ) -> Datagram:
        """Send a request and return the first datagram that comes back."""
        mid = next(self._mids)
        own = [(Option.URI_PATH, part) for part in path]
        if code == Code.POST and all(number != Option.CONTENT_FORMAT for number, _ in options):
            own.append((Option.CONTENT_FORMAT, b"\x12"))
        token = mid.to_bytes(2) if token is None else token
        await self.send(encode(kind, code, mid, token, [*own, *options], payload))
        return await self.receive()

    async def get(self, *path: bytes, query: bytes | None = None) -> Datagram:
        options = () if query is None else ((Option.URI_QUERY, query),)
        return await self.request(path, b"", *options, code=Code.GET)


@asynccontextmanager
async def peer_of(server: CoapServer, host: str | None = None) -> AsyncIterator[Peer]:
    """Open a peer with a port of its own, and an address of its own if `host` names one of this machine's."""
    async with await anyio.create_connected_udp_socket(*server.addresses[0], local_host=host) as socket:
        yield Peer(socket)


async def until(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds."""
    with anyio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 (what is waited for has no event)
            await anyio.sleep(0.01)


def option(message: Datagram, number: Option) -> int | None:
    value = dict(message.options).get(number)
    return None if value is None else int.from_bytes(value)


def seen(records: list[logging.LogRecord]) -> list[str]:
    """Return what was logged that an operator would see."""
    return [record.getMessage() for record in records if record.levelno > logging.INFO]
