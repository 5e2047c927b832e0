"""The CoAP side of a device."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import anyio
import anyio.lowlevel
from aiocoap import Context, Message
from aiocoap import error as library_error
from aiocoap.numbers.constants import TransportTuning
from aiocoap.pipe import Pipe
from aiocoap.protocol import Request as LibraryRequest
from aiocoap.tokenmanager import TokenManager

from constrained.answer import Answer
from constrained.door import OCTETS, PROOF
from constrained.formats import COSE_SIGN1, DEFAULT_FORMATS, ContentFormats
from constrained.quiet import QuietLog
from constrained.sockets import resolve, unbound
from constrained.transport import DeviceEnd, Messages, Peer, datagram_of, fill
from constrained.wire import MAX_BLOCK_SIZE, Block, Code, Option, encode_uint, szx_of
from protocol.errors import ProblemKind, Unreachable
from protocol.ports import Outbound, Pending, Reply, SignedRefusal
from protocol.problem import Problem
from protocol.revocation_list import MAX_LIST_BYTES

DEFAULT_PORT: Final = 5683
MAX_ANSWER_BYTES: Final = MAX_LIST_BYTES
"""Longest answer that is put together from blocks: a revocation list."""
_SHUTDOWN_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Retransmission:
    """How a confirmable message is repeated (RFC 7252 §4.8)."""

    ack_timeout: float = 2.0
    """Seconds before the first repeat; it doubles with each. Below the link's round trip it only
    makes more traffic."""
    random_factor: float = 1.5
    """The first timeout is drawn from `ack_timeout` to this many times as much; >= 1."""
    max_retransmit: int = 4
    """Repeats before giving up."""

    @property
    def patience(self) -> float:
        """Seconds from the first transmission to giving up: MAX_TRANSMIT_WAIT (RFC 7252 §4.8.2)."""
        return self.ack_timeout * ((2 << self.max_retransmit) - 1) * self.random_factor


class _Tuning(TransportTuning):  # type: ignore[misc]  # aiocoap is untyped
    reliability = True

    def __init__(self, retransmission: Retransmission) -> None:
        self.ACK_TIMEOUT = retransmission.ack_timeout
        self.ACK_RANDOM_FACTOR = retransmission.random_factor
        self.MAX_RETRANSMIT = retransmission.max_retransmit


@asynccontextmanager
async def connect(
    uri: str,
    *,
    formats: ContentFormats = DEFAULT_FORMATS,
    retransmission: Retransmission = Retransmission(),
    block_size: int = MAX_BLOCK_SIZE,
    root: str = "e",
    max_answer: int = MAX_ANSWER_BYTES,
) -> AsyncIterator["CoapDevice"]:
    """Open a device's transport to an authority.

    Each has a socket and an aiocoap context of its own: a context sends one confirmable message at a
    time to a server (NSTART, RFC 7252 §4.7), so devices that shared one would wait for each other.

    Args:
        uri: "coap://host[:port]"; nothing after it. An IPv6 address stands in brackets.
        formats: As at the authority.
        retransmission: For the link at hand.
        block_size: Largest block, both ways: 16, 32, 64 to 1024 bytes.
        root: Where the authority's tree starts: "e" (short) or ".well-known/est".
        max_answer: Longest answer in bytes.

    Raises:
        ValueError: `uri` is not such a URI, or `block_size` not such a size.
        Unreachable: The host name is not known.
    """
    host, port = _parse(uri)
    szx = szx_of(block_size)
    try:
        address = await resolve(host, port)
    except OSError as error:
        raise Unreachable(f"{host}: {error.strerror or error}") from error
    log = QuietLog(logging.getLogger(__name__))
    context = Context()
    context.log = log
    tokens = TokenManager(context)
    # A device answers nobody, so nothing is remembered for repeats of requests.
    messages = Messages(tokens, 1, 1)
    transport = await DeviceEnd.open(unbound(), messages, log)
    messages.message_interface = transport
    tokens.token_interface = messages
    path = tuple((Option.URI_PATH, part.encode()) for part in root.split("/"))
    try:
        yield CoapDevice(tokens, Peer(address, transport), retransmission, formats, szx, path, max_answer)
    finally:
        with anyio.move_on_after(_SHUTDOWN_SECONDS, shield=True):
            await tokens.shutdown()


def _parse(uri: str) -> tuple[str, int]:
    parts = urlsplit(uri)
    if parts.scheme != "coap":
        msg = f"{uri!r}: only coap:// is spoken (DTLS and OSCORE are not there yet)"
        raise ValueError(msg)
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment or parts.username:
        msg = f"{uri!r} is not coap://host[:port]"
        raise ValueError(msg)
    return unquote(parts.hostname), parts.port or DEFAULT_PORT


Options = tuple[tuple[int, bytes], ...]


class CoapDevice:
    """A `protocol.challenge.ProvingTransport`; made by `connect`."""

    def __init__(
        self,
        tokens: Any,  # noqa: ANN401 (aiocoap is untyped)
        remote: Peer,
        retransmission: Retransmission,
        formats: ContentFormats,
        szx: int,
        root: Options,
        max_answer: int,
    ) -> None:
        self._tokens = tokens
        self._remote = remote
        self._tuning = _Tuning(retransmission)
        self._patience = retransmission.patience
        self._formats = formats
        self._szx = szx
        self._root = root
        self._max_answer = max_answer
        self._turns: dict[Options, anyio.Lock] = {}
        """Who posts to a path; the others wait."""

    async def exchange(self, request: Outbound) -> Reply:
        """Send `request` and return its reply: `protocol.ports.DeviceTransport`."""
        path = (
            *self._root,
            (Option.URI_PATH, request.label.encode()),
            (Option.URI_PATH, request.op.encode()),
        )
        if request.base is not None:
            path += ((Option.URI_QUERY, f"base={request.base}".encode()),)
        if request.accept is not None:
            path += ((Option.ACCEPT, encode_uint(self._formats.number(request.accept))),)
        if request.op.has_body:
            answer = await self._post(path, request.body)
        else:
            answer = await self._transfer(Code.GET, path)
        return answer.as_reply(self._formats)

    async def send_message(self, stream: str, body: bytes) -> Problem | None:
        """Send one signed message: `protocol.ports.DeviceTransport`."""
        path = ((Option.URI_PATH, b"m"), (Option.URI_PATH, stream.encode()))
        answer = await self._post(path, body)
        if answer.code == Code.CHANGED:
            return None
        match answer.as_reply(self._formats):
            case Problem() as problem:
                return problem
            case Pending(retry_after):
                return Problem(ProblemKind.UNAVAILABLE, "", retry_after)
            case SignedRefusal(problem=problem):
                return problem
            case _:
                raise Unreachable("a message was answered as if it were a request")

    async def challenge(self, label: str, nonce: bytes) -> bytes | Problem:
        """Ask the server itself for a proof: `protocol.challenge.ProvingTransport`."""
        path = (*self._root, (Option.URI_PATH, label.encode()), (Option.URI_PATH, PROOF))
        options = (*path, (Option.CONTENT_FORMAT, encode_uint(OCTETS)))
        answer = await self._transfer(Code.POST, options, nonce)
        if answer.code == Code.CHANGED and answer.content_format == COSE_SIGN1:
            return answer.payload
        match answer.as_reply(self._formats):
            case Problem() as problem:
                return problem
            case _:
                raise Unreachable("a challenge was answered as if it were something else")

    async def _post(self, path: Options, body: bytes) -> Answer:
        """Send `body`, in blocks if it is longer than one, and return the whole answer.

        One after the other on a path: blocks of two bodies, or of two answers, could not be told apart there
        (RFC 7959 §2.4 and §2.5).
        """
        turn = self._turns.setdefault(path, anyio.Lock())
        try:
            async with turn:
                return await self._post_alone(path, body)
        finally:
            if not turn.locked():
                self._turns.pop(path, None)

    async def _post_alone(self, path: Options, body: bytes) -> Answer:
        options = (*path, (Option.CONTENT_FORMAT, encode_uint(COSE_SIGN1)))
        szx, at = self._szx, 0
        if len(body) <= 16 << szx:
            return await self._transfer(Code.POST, options, body)
        while True:
            size = 16 << szx
            chunk = body[at : at + size]
            is_last = at + size >= len(body)
            block = (Option.BLOCK1, Block(at // size, not is_last, szx).encode())
            if is_last:
                return await self._transfer(Code.POST, options, chunk, (block,))
            size1 = ((Option.SIZE1, encode_uint(len(body))),) if at == 0 else ()
            answer = await self._send(Code.POST, (*options, block, *size1), chunk)
            if answer.code != Code.CONTINUE:
                return await self._collect(Code.POST, options, answer)
            at += size
            if answer.block1 is not None:
                szx = min(szx, answer.block1.szx)

    async def _transfer(
        self, code: Code, options: Options, payload: bytes = b"", extra: Options = ()
    ) -> Answer:
        """Send one request, `extra` options for it alone, and return the whole answer."""
        if self._szx < szx_of(MAX_BLOCK_SIZE):
            extra = (*extra, (Option.BLOCK2, Block(0, more=False, szx=self._szx).encode()))
        first = await self._send(code, (*options, *extra), payload)
        return await self._collect(code, options, first)

    async def _collect(self, code: Code, options: Options, first: Answer) -> Answer:
        """Return `first` with the blocks that follow it (RFC 7959 §2.4)."""
        block = first.block2
        body = bytearray(first.payload)
        if block is not None and block.number:
            raise Unreachable("an answer began in its middle")
        last = first
        while block is not None and block.more:
            if len(body) + block.size > self._max_answer:
                raise Unreachable(f"an answer is longer than {self._max_answer} bytes")
            wanted = Block(len(body) // block.size, more=False, szx=min(block.szx, self._szx))
            last = await self._send(code, (*options, (Option.BLOCK2, wanted.encode())))
            block = last.block2
            if (
                block is None
                or block.start != len(body)
                or (last.code, last.etag) != (first.code, first.etag)
            ):
                raise Unreachable("an answer changed while it was read")
            body += last.payload
        return first.with_payload(bytes(body))

    async def _send(self, code: Code, options: Options, payload: bytes = b"") -> Answer:
        """Send one message and return the one that answers it."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        message = fill(Message(code=code, payload=payload, transport_tuning=self._tuning), options)
        message.remote = self._remote
        pipe = Pipe(message, self._tokens.log)
        request = LibraryRequest(pipe, asyncio.get_running_loop(), self._tokens.log)
        # Not `Context.request`: it leaves the sending to a task that nobody owns.
        self._tokens.request(pipe)
        try:
            with anyio.fail_after(self._patience):
                return Answer.of(datagram_of(await request.response))
        except TimeoutError as error:
            raise Unreachable("no answer in time") from error
        except library_error.Error as error:
            raise Unreachable(str(error) or type(error).__name__) from error
