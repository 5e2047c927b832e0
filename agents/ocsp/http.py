"""A small HTTP/1.1 server on h11: short requests in, answers from memory out, everything bounded.

No TLS: what is given out is signed, and clients of OCSP and of revocation lists do not expect any (RFC 6960
§A.1, RFC 5280 §8: to check a certificate for it they would have to ask again).
"""

import logging
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from ipaddress import IPv6Address, ip_address
from typing import Final

import anyio
import h11
from anyio.abc import ByteStream, SocketAttribute, SocketListener, TaskGroup

MAX_CONNECTIONS: Final = 256
"""Open connections, about 20 KiB each; one more is closed at once, and its owner tries again."""
SHARE: Final = 2
"""One source has one in so many of the connections: half, so that nobody alone shuts the others out, and no
less, because many relying parties behind one gateway are one source."""
MAX_HEAD_BYTES: Final = 8192
"""Request line and headers: a GET carries its question in the path, RFC 5019 §5 wants it below 255 bytes."""
MAX_BODY_BYTES: Final = 4096
MAX_REQUESTS: Final = 100
"""Requests of one connection, before it makes room for another."""
PATIENCE: Final = 10.0
"""Seconds until a request is whole, from the answer to the one before; and until a piece of one is read."""
_CHUNK: Final = 65_536
_ACCEPT_PAUSE: Final = 0.1
"""Seconds before accepting again after the system refused (no file descriptors left)."""
_LOST: Final = (
    anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, TimeoutError, OSError,
)  # fmt: skip
_log: Final = logging.getLogger("trillium.ocsp")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request; nothing in it is authenticated."""

    method: bytes
    path: bytes
    """Without scheme and authority, as it was sent."""
    headers: dict[bytes, bytes]
    """Names in lower case; of several with one name, the last."""
    body: bytes
    source: str
    """"http:192.0.2.1:5683"."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One response."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


HttpHandler = Callable[[HttpRequest], Awaitable[HttpResponse]]


class HttpServer:
    """Made by `serve_http`."""

    def __init__(self, handler: HttpHandler, max_connections: int, patience: float) -> None:
        self._handler = handler
        self._max_connections = max_connections
        self._patience = patience
        self._open = 0
        self._of_source: Counter[bytes] = Counter()
        """No more entries than connections."""
        self.crowded_out = 0
        """Connections closed at once because too many were open, or too many of their source."""
        self.address = ("", 0)
        """Where it listens."""

    async def accept(self, listener: SocketListener, tasks: TaskGroup) -> None:
        """Take connections until cancelled."""
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    _log.error("cannot accept connections: %s", error)
                    await anyio.sleep(_ACCEPT_PAUSE)
                    continue
                try:
                    source = source_of(_remote(stream)[0])
                except anyio.TypedAttributeLookupError:
                    await anyio.aclose_forcefully(stream)  # it was gone before we looked: it has no address
                    continue
                share = max(1, self._max_connections // SHARE)
                if self._open >= self._max_connections or self._of_source[source] >= share:
                    self.crowded_out += 1
                    await anyio.aclose_forcefully(stream)
                    continue
                self._open += 1
                self._of_source[source] += 1
                tasks.start_soon(self._converse, stream, source)

    async def _converse(self, stream: ByteStream, source: bytes) -> None:
        try:
            await _Conversation(stream, self._handler, self._patience).hold()
        except _LOST:
            pass
        except Exception:  # noqa: BLE001 (a fault of ours must cost one connection, not the server)
            _log.exception("a connection failed")
        finally:
            self._open -= 1
            self._of_source[source] -= 1
            if not self._of_source[source]:
                del self._of_source[source]
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(stream)


class _Conversation:
    """One connection."""

    def __init__(self, stream: ByteStream, handler: HttpHandler, patience: float) -> None:
        self._stream = stream
        self._handler = handler
        self._patience = patience
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        host, port = _remote(stream)
        self._source = f"http:[{host}]:{port}" if ":" in host else f"http:{host}:{port}"

    async def hold(self) -> None:
        """Answer requests until one side has had enough.

        Raises:
            One of `_LOST`.
        """
        for turn in range(MAX_REQUESTS):
            try:
                with anyio.fail_after(self._patience):
                    request = await self._read()
            except h11.RemoteProtocolError as error:
                await self._refuse(error.error_status_hint)
                return
            if request is None:
                return
            response = HttpResponse(413) if request is _TOO_LONG else await self._handler(request)
            is_last = request is _TOO_LONG or turn == MAX_REQUESTS - 1
            await self._write(response, is_last=is_last)
            if is_last or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _read(self) -> HttpRequest | None:
        """Return the next request, None at the end, `_TOO_LONG` for one that is not read to its end."""
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                try:
                    self._http.receive_data(await self._stream.receive())
                except anyio.EndOfStream:
                    self._http.receive_data(b"")
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_BODY_BYTES:
                    return _TOO_LONG
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                headers = dict(head.headers)
                return HttpRequest(head.method, _path(head.target), headers, bytes(body), self._source)
            else:
                return None  # closed, or an upgrade that nobody here speaks

    async def _write(self, response: HttpResponse, *, is_last: bool) -> None:
        headers = [
            ("Date", formatdate(usegmt=True)),
            *response.headers,
            ("Content-Length", str(len(response.body))),
            *((("Connection", "close"),) if is_last else ()),
        ]
        await self._send(h11.Response(status_code=response.status, headers=headers))
        for start in range(0, len(response.body), _CHUNK):
            await self._send(h11.Data(data=response.body[start : start + _CHUNK]))
        await self._send(h11.EndOfMessage())

    async def _refuse(self, status: int) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._write(HttpResponse(status), is_last=True)

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            with anyio.fail_after(self._patience):
                await self._stream.send(data)


_TOO_LONG: Final = HttpRequest(b"", b"", {}, b"", "")


def _remote(stream: ByteStream) -> tuple[str, int]:
    address = stream.extra(SocketAttribute.remote_address)  # noqa: S610 (anyio's, not Django's)
    return str(address[0]), int(address[1])


def source_of(host: str) -> bytes:
    """Return what of a peer's address cannot be had for nothing: what shares are counted by.

    An IPv4 address, or the first half of an IPv6 address: a host takes as many as it likes in its own network
    (RFC 4291 §2.5.4).
    """
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return address.packed[:8] if mapped is None else mapped.packed
    return address.packed


def _path(target: bytes) -> bytes:
    """Return a request target without scheme and authority, which proxies send (RFC 9112 §3.2.2)."""
    scheme, separator, rest = target.partition(b"://")
    if not separator or b"/" in scheme:
        return target
    return b"/" + rest.partition(b"/")[2]


@asynccontextmanager
async def serve_http(
    handler: HttpHandler,
    *,
    bind: tuple[str, int],
    max_connections: int = MAX_CONNECTIONS,
    patience: float = PATIENCE,
) -> AsyncIterator[HttpServer]:
    """Answer HTTP requests while the body runs; it runs once the socket is bound.

    Args:
        handler: Returns the response to one request.
        bind: Host and port; port 0 takes any free one.
        max_connections: As `MAX_CONNECTIONS`.
        patience: As `PATIENCE`.

    Raises:
        OSError: The socket cannot be bound.

    Cancellation: at any point; all connections are closed.
    """
    if not 0 < patience < math.inf:
        raise ValueError("patience has an end")
    server = HttpServer(handler, max_connections, patience)
    listeners = (await anyio.create_tcp_listener(local_host=bind[0], local_port=bind[1])).listeners
    async with anyio.create_task_group() as tasks:
        for listener in listeners:
            assert isinstance(listener, SocketListener)
            tasks.start_soon(server.accept, listener, tasks)
        address = listeners[0].extra(SocketAttribute.local_address)  # noqa: S610 (anyio's, not Django's)
        server.address = str(address[0]), int(address[1])
        yield server
        tasks.cancel_scope.cancel()
