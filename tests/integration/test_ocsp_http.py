"""The HTTP side of OCSP on a real socket: what is answered, what is cut off, and that nobody else notices."""

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest
from anyio.abc import SocketStream

from agents.ocsp.http import (
    MAX_BODY_BYTES,
    MAX_REQUESTS,
    HttpRequest,
    HttpResponse,
    HttpServer,
    serve_http,
    source_of,
)

PATIENCE = 5.0
"""Seconds until a test gives up on what must happen."""
LONG = bytes(range(256)) * 8192
"""Two megabytes: a long revocation list."""


async def echo(request: HttpRequest) -> HttpResponse:
    """Answer with what was asked."""
    if request.path == b"/fault":
        raise ZeroDivisionError
    if request.path == b"/long":
        return HttpResponse(200, LONG)
    return HttpResponse(200, request.method + b" " + request.path + b" " + request.body)


class Peer:
    """A socket that may misbehave."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._inbox = b""

    async def send(self, data: bytes) -> None:
        await self._stream.send(data)

    async def head(self) -> tuple[int, bytes]:
        """Return status and head of the next response."""
        with anyio.fail_after(PATIENCE):
            while b"\r\n\r\n" not in self._inbox:
                self._inbox += await self._stream.receive()
        head, _, self._inbox = self._inbox.partition(b"\r\n\r\n")
        return int(head.split()[1]), head.lower()

    async def response(self) -> tuple[int, bytes]:
        """Return status and body of the next response."""
        status, head = await self.head()
        size = int(head.partition(b"content-length: ")[2].split()[0])
        with anyio.fail_after(PATIENCE):
            while len(self._inbox) < size:
                self._inbox += await self._stream.receive()
        body, self._inbox = self._inbox[:size], self._inbox[size:]
        return status, body

    async def is_closed(self) -> bool:
        with anyio.move_on_after(PATIENCE):
            try:
                while True:
                    await self._stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return True
        return False


@asynccontextmanager
async def serving(*, max_connections: int = 16, patience: float = PATIENCE) -> AsyncIterator[HttpServer]:
    async with serve_http(
        echo, bind=("127.0.0.1", 0), max_connections=max_connections, patience=patience
    ) as server:
        yield server


@asynccontextmanager
async def peer_of(server: HttpServer) -> AsyncIterator[Peer]:
    async with await anyio.connect_tcp(*server.address) as stream:
        yield Peer(stream)


GET = b"GET /question HTTP/1.1\r\nHost: h\r\n\r\n"


async def test_requests_are_answered_one_after_the_other_on_one_connection() -> None:
    async with serving() as server, peer_of(server) as peer:
        for _ in range(3):
            await peer.send(GET)
            assert await peer.response() == (200, b"GET /question ")
        await peer.send(b"POST /ocsp HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody")
        assert await peer.response() == (200, b"POST /ocsp body")
        await peer.send(GET + GET)
        assert [await peer.response() for _ in range(2)] == [(200, b"GET /question ")] * 2


async def test_a_request_byte_by_byte_is_a_request() -> None:
    async with serving() as server, peer_of(server) as peer:
        for byte in GET:
            await peer.send(bytes([byte]))
        assert await peer.response() == (200, b"GET /question ")


async def test_chunks_old_clients_proxies_and_those_that_wait_are_understood() -> None:
    async with serving() as server:
        async with peer_of(server) as peer:
            await peer.send(
                b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
            )
            assert await peer.response() == (200, b"POST / body")
            await peer.send(b"GET http://other/path HTTP/1.1\r\nHost: h\r\n\r\n")
            assert await peer.response() == (200, b"GET /path ")
            await peer.send(
                b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
            )
            assert (await peer.head())[0] == 100
            await peer.send(b"body")
            assert await peer.response() == (200, b"POST / body")
        async with peer_of(server) as peer:
            await peer.send(b"GET /question HTTP/1.0\r\n\r\n")
            assert await peer.response() == (200, b"GET /question ")
            assert await peer.is_closed()


async def test_a_long_answer_arrives_whole() -> None:
    async with serving() as server, peer_of(server) as peer:
        await peer.send(b"GET /long HTTP/1.1\r\nHost: h\r\n\r\n")
        assert await peer.response() == (200, LONG)


@pytest.mark.parametrize(
    ("junk", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 20_000, 431),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n" + bytes(MAX_BODY_BYTES + 1), 413),
    ],
)
async def test_what_is_no_request_or_too_long_is_refused_and_ends_the_connection(
    junk: bytes, status: int
) -> None:
    async with serving() as server, peer_of(server) as peer:
        await peer.send(junk)
        assert (await peer.response())[0] == status
        assert await peer.is_closed()


async def test_whoever_is_slow_or_silent_is_cut_off() -> None:
    async with serving(patience=0.2) as server, peer_of(server) as silent, peer_of(server) as slow:
        await slow.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbo")
        assert await silent.is_closed()
        assert await slow.is_closed()


async def test_whoever_does_not_read_is_cut_off_and_others_are_answered() -> None:
    async with serving(patience=0.3) as server, peer_of(server) as deaf:
        for _ in range(8):
            await deaf.send(b"GET /long HTTP/1.1\r\nHost: h\r\n\r\n")
        async with peer_of(server) as other:
            await other.send(GET)
            assert await other.response() == (200, b"GET /question ")
        with anyio.fail_after(PATIENCE):
            while server._open:  # noqa: ASYNC110 (it has no event)
                await anyio.sleep(0.02)


async def test_more_connections_than_there_is_room_for_are_closed_at_once() -> None:
    async with serving(max_connections=1) as server, peer_of(server) as first:
        await first.send(GET)
        await first.response()
        async with peer_of(server) as second:
            assert await second.is_closed()
        assert server.crowded_out == 1
        await first.send(GET)
        assert await first.response() == (200, b"GET /question ")


async def test_one_source_takes_half_of_the_room_at_most() -> None:
    async with serving(max_connections=4) as server:
        async with AsyncExitStack() as stack:
            hoard = [await stack.enter_async_context(peer_of(server)) for _ in range(4)]
            for peer in hoard[:2]:
                await peer.send(GET)
                assert await peer.response() == (200, b"GET /question ")
            assert [await peer.is_closed() for peer in hoard[2:]] == [True, True]
            assert server.crowded_out == 2
            async with await anyio.connect_tcp(*server.address, local_host="127.0.0.2") as stream:
                other = Peer(stream)
                await other.send(GET)
                assert await other.response() == (200, b"GET /question "), "another source has its own half"
        with anyio.fail_after(PATIENCE):
            while server._open:  # noqa: ASYNC110 (it has no event)
                await anyio.sleep(0.01)
        async with peer_of(server) as again:
            await again.send(GET)
            assert await again.response() == (200, b"GET /question "), "what is closed makes room"


@pytest.mark.parametrize(
    ("one", "other", "is_one_source"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_a_source_is_what_cannot_be_had_for_nothing(one: str, other: str, is_one_source: bool) -> None:
    assert (source_of(one) == source_of(other)) is is_one_source


async def test_a_connection_makes_room_after_many_requests() -> None:
    async with serving() as server, peer_of(server) as peer:
        for _ in range(MAX_REQUESTS):
            await peer.send(GET)
            assert (await peer.response())[0] == 200
        assert await peer.is_closed()


async def test_a_fault_costs_one_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server:
        async with peer_of(server) as peer:
            await peer.send(b"GET /fault HTTP/1.1\r\nHost: h\r\n\r\n")
            assert await peer.is_closed()
        async with peer_of(server) as peer:
            await peer.send(GET)
            assert await peer.response() == (200, b"GET /question ")
    assert "a connection failed" in caplog.text


async def test_whoever_is_gone_before_it_is_let_in_is_forgotten() -> None:
    async with serving() as server:
        for _ in range(8):
            # Synchronous, so that the server cannot look in between; a linger of nothing is a reset.
            with socket.create_connection(server.address) as fleeting:
                fleeting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        async with peer_of(server) as peer:
            await peer.send(GET)
            assert await peer.response() == (200, b"GET /question ")


async def test_a_socket_that_is_taken_is_said_at_once() -> None:
    async with serving() as server:
        with pytest.raises(OSError, match="in use"):
            async with serve_http(echo, bind=server.address):
                pass
