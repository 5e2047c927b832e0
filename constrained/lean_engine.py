"""The server on a UDP endpoint of our own: CoAP's message layer (RFC 7252 §4) and nothing else.

For many devices on one core; what it leaves out of aiocoap is Observe, multicast, proxies and other
transports. It behaves as the other engine does, and passes the same tests.
"""

import random
import socket
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import anyio

from constrained.crew import Crew
from constrained.door import BUSY, Call, Door, Limits
from constrained.quiet import QuietLog
from constrained.shelf import Shelf
from constrained.sockets import SockAddr, is_multicast, network_of, source_of
from constrained.wire import MAX_DATAGRAM_BYTES, Code, Datagram, Request, Response, Type, decode, encode
from protocol.errors import MalformedMessage

EXCHANGE_LIFETIME: Final = 247.0
"""Seconds in which a message ID stands for one message (RFC 7252 §4.8.2)."""
EMPTY_ACK_DELAY: Final = 0.1
"""Seconds that a handler may take before its request is acknowledged by itself, well below ACK_TIMEOUT."""
ACK_TIMEOUT: Final = 2.0
"""Seconds before a separate response is repeated for the first time (RFC 7252 §4.8)."""
ACK_RANDOM_FACTOR: Final = 1.5
MAX_RETRANSMIT: Final = 4
_TICK: Final = 0.02
"""Seconds between two looks at what is due, while anything is."""
_DRAIN: Final = 64
"""Datagrams read before other tasks have their turn: about 2 ms of work."""
_ANCILLARY_BYTES: Final = 128
"""Room for one `in6_pktinfo` and its header."""

Ancillary = list[tuple[int, int, bytes]]


@dataclass(slots=True, eq=False)
class _Exchange:
    """A request, as long as its message ID is remembered."""

    peer: SockAddr
    local: Ancillary
    """Where the request came to, and the answer leaves from."""
    mid: int
    token: bytes
    is_confirmable: bool
    no_response: int = 0
    reply: bytes | None = None
    """What a repeat of the request gets: the answer, or the empty acknowledgement that preceded it."""


@dataclass(slots=True, eq=False)
class _Separate:
    """A separate response that its peer has not acknowledged."""

    exchange: _Exchange
    datagram: bytes
    due: float
    timeout: float
    repeats: int = 0


class _Endpoint:
    def __init__(self, bound: socket.socket, door: Door, limits: Limits, crew: Crew, log: QuietLog) -> None:
        self._socket = bound
        self._door = door
        self._limits = limits
        self._crew = crew
        self._log = log
        self._recent: Shelf[tuple[SockAddr, int], _Exchange] = Shelf(limits.exchanges, EXCHANGE_LIFETIME)
        # Requests in handlers by age: no more than arrive in EMPTY_ACK_DELAY.
        self._unanswered: deque[tuple[float, _Exchange]] = deque()
        self._separate: dict[tuple[SockAddr, int], _Separate] = {}
        self._something_due = anyio.Event()
        self._next_mid = random.getrandbits(16)

    async def receive(self) -> None:
        """Read datagrams for ever."""
        while True:
            await anyio.wait_readable(self._socket)
            for _ in range(_DRAIN):
                try:
                    received = self._socket.recvmsg(MAX_DATAGRAM_BYTES, _ANCILLARY_BYTES)
                except BlockingIOError:
                    break
                except OSError as error:
                    self._log.warning("could not receive: %s", error)
                    break
                try:
                    self._take(*received)
                except Exception as error:  # noqa: BLE001 (one datagram must not end the server)
                    self._log.fault("a datagram was too much", error)

    async def keep_time(self) -> None:
        """Acknowledge what takes long and repeat what is not acknowledged, for ever."""
        while True:
            if not self._unanswered and not self._separate:
                self._something_due = anyio.Event()
                await self._something_due.wait()
            await anyio.sleep(_TICK)
            now = time.monotonic()
            while self._unanswered and self._unanswered[0][0] <= now:
                exchange = self._unanswered.popleft()[1]
                if exchange.reply is None:
                    self._acknowledge(exchange)
            for key, separate in list(self._separate.items()):
                if separate.due <= now:
                    self._repeat(key, separate, now)

    def _take(self, data: bytes, ancillary: Ancillary, flags: int, peer: SockAddr) -> None:
        if ancillary and is_multicast(ancillary[0][2]):
            return
        try:
            datagram = decode(data)
        except MalformedMessage:
            self._log.debug("dropped a datagram that is not CoAP")
            return
        if 0 < datagram.code < 32:
            if datagram.type in (Type.CON, Type.NON):
                if flags & socket.MSG_TRUNC:
                    # The rest is gone for good; a body as long as the buffer is over every limit.
                    datagram = datagram._replace(payload=data)
                self._request(datagram, ancillary, peer)
        elif datagram.type == Type.CON:
            # A ping, or an answer to a question that we did not ask (RFC 7252 §4.2, §4.3).
            self._send(encode(Type.RST, Code.EMPTY, datagram.mid, b""), ancillary, peer)
        elif datagram.type in (Type.ACK, Type.RST):
            self._separate.pop((peer, datagram.mid), None)

    def _request(self, datagram: Datagram, ancillary: Ancillary, peer: SockAddr) -> None:
        key = (peer, datagram.mid)
        earlier = self._recent.get(key)
        # A device that lost its memory may count message IDs anew; its token then differs.
        if earlier is not None and earlier.token == datagram.token:
            if datagram.type == Type.CON and earlier.reply is not None:
                self._send(earlier.reply, ancillary, peer)
            return
        request = Request.of(datagram, source_of(peer))
        is_confirmable = datagram.type == Type.CON
        exchange = _Exchange(
            peer, ancillary, datagram.mid, datagram.token, is_confirmable, request.no_response
        )
        self._recent.put(key, exchange)
        outcome = self._door.enter(request)
        if not isinstance(outcome, Call):
            self._reply(exchange, outcome)
        elif self._crew.is_full(network := network_of(peer)):
            self._reply(exchange, BUSY)
        else:
            self._crew.start(self._work(exchange, outcome), network)
            if is_confirmable:
                self._unanswered.append((time.monotonic() + EMPTY_ACK_DELAY, exchange))
                self._something_due.set()

    async def _work(self, exchange: _Exchange, call: Call) -> None:
        self._reply(exchange, await self._door.answer(call))

    def _reply(self, exchange: _Exchange, response: Response) -> None:
        is_acknowledged = exchange.reply is not None
        if not response.is_wanted(exchange.no_response):
            if exchange.is_confirmable and not is_acknowledged:
                self._acknowledge(exchange)
            return
        if exchange.is_confirmable and not is_acknowledged:
            exchange.reply = self._encode(exchange, Type.ACK, exchange.mid, response)
            self._send(exchange.reply, exchange.local, exchange.peer)
            return
        mid = self._next_mid = (self._next_mid + 1) & 0xFFFF
        is_repeated = exchange.is_confirmable and len(self._separate) < self._limits.unacknowledged
        datagram = self._encode(exchange, Type.CON if is_repeated else Type.NON, mid, response)
        if is_repeated:
            timeout = random.uniform(ACK_TIMEOUT, ACK_TIMEOUT * ACK_RANDOM_FACTOR)  # noqa: S311 (spreads repeats)
            self._separate[exchange.peer, mid] = _Separate(
                exchange, datagram, time.monotonic() + timeout, timeout
            )
            self._something_due.set()
        self._send(datagram, exchange.local, exchange.peer)

    @staticmethod
    def _encode(exchange: _Exchange, kind: Type, mid: int, response: Response) -> bytes:
        return encode(kind, response.code, mid, exchange.token, response.options, response.payload)

    def _acknowledge(self, exchange: _Exchange) -> None:
        exchange.reply = encode(Type.ACK, Code.EMPTY, exchange.mid, b"")
        self._send(exchange.reply, exchange.local, exchange.peer)

    def _repeat(self, key: tuple[SockAddr, int], separate: _Separate, now: float) -> None:
        if separate.repeats == MAX_RETRANSMIT:
            del self._separate[key]
            return
        separate.repeats += 1
        separate.timeout *= 2
        separate.due = now + separate.timeout
        self._send(separate.datagram, separate.exchange.local, separate.exchange.peer)

    def _send(self, datagram: bytes, local: Ancillary, peer: SockAddr) -> None:
        try:
            self._socket.sendmsg((datagram,), local, 0, peer)
        except BlockingIOError:
            pass  # the buffer is full: as good as lost on the way
        except OSError as error:
            self._log.warning("could not send: %s", error)


@asynccontextmanager
async def listen(bound: socket.socket, door: Door, limits: Limits, log: QuietLog) -> AsyncIterator[None]:
    """Serve `door` on `bound` as long as the block is open."""
    # The endpoint ends first, so that nothing new comes to a crew that is dismissed.
    async with Crew(limits.in_work, limits.in_work_of_source) as crew, Crew(2) as endpoint_tasks:
        endpoint = _Endpoint(bound, door, limits, crew, log)
        endpoint_tasks.start(endpoint.receive())
        endpoint_tasks.start(endpoint.keep_time())
        yield
