"""The authority's door: admission, twins, groups. It knows nothing of what is decided behind it.

The queue is the batch: whatever waits when a worker is free becomes one group, so an idle authority adds no
delay, a busy one makes large groups, and there is no timer.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Final

import anyio
from anyio import CapacityLimiter, to_thread

from agents.authority.desk import UNAVAILABLE, Ticket
from agents.authority.quota import Limits, origin
from protocol.errors import ProblemKind
from protocol.ports import Inbound, Reply
from protocol.problem import Problem

_CLOSED: Final = Problem(ProblemKind.UNAVAILABLE, "the authority is going down", 5.0)
LEAST_WAIT: Final = 1.0
"""Seconds after which a refused peer may come back; the wire carries whole seconds."""


class _Waiting:
    """One request, and everybody who waits for its reply."""

    __slots__ = ("digest", "done", "ticket")

    def __init__(self, ticket: Ticket, digest: bytes) -> None:
        self.ticket = ticket
        self.digest = digest
        self.done = anyio.Event()


class Door:
    """Takes requests in and gives replies out.

    Args:
        process: Gives every ticket of a group its reply; called in worker threads, `limits.groups` at once.
        limits: How much is in work at a time.
    """

    def __init__(self, process: Callable[[Sequence[Ticket]], None], limits: Limits) -> None:
        self._process = process
        self._limits = limits
        self._limiter = CapacityLimiter(limits.groups)
        self._queue: deque[_Waiting] = deque()
        self._in_work: dict[bytes, _Waiting] = {}
        self._arrived = anyio.Event()
        self._is_open = False
        self.overloaded = 0
        """Requests that were refused because too many were in work."""

    @property
    def in_work(self) -> int:
        """Requests that wait for their reply now; at most `Limits.in_work`."""
        return len(self._in_work)

    async def ask(self, inbound: Inbound) -> Reply:
        """Return the reply to one request, whose body is no longer than requests are.

        Cancellation: anywhere; the request is carried out all the same, and its answer remembered.
        """
        if not self._is_open:
            return _CLOSED
        # Whoever is told to wait is told for itself: a twin from elsewhere is a request of its own.
        place = f"{origin(inbound.source)}\0{inbound.label}/{inbound.op.value}\0"
        digest = sha256(place.encode() + inbound.body).digest()
        waiting = self._in_work.get(digest)
        if waiting is None:
            if len(self._in_work) >= self._limits.in_work:
                self.overloaded += 1
                return Problem(ProblemKind.OVERLOADED, "too much work in hand", LEAST_WAIT)
            waiting = self._in_work[digest] = _Waiting(Ticket(inbound), digest)
            self._queue.append(waiting)
            self._arrived.set()
        await waiting.done.wait()
        return waiting.ticket.reply or UNAVAILABLE

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Answer requests while the body runs; at its end finish what is in work.

        What `process` raises is our own bug; it ends the body and comes out in an exception group.
        """
        async with anyio.create_task_group() as tasks:
            self._is_open = True
            for _ in range(self._limits.groups):
                tasks.start_soon(self._work)
            try:
                yield
            finally:
                self._is_open = False
                with anyio.CancelScope(shield=True):
                    await self._drain()
                tasks.cancel_scope.cancel()

    async def _drain(self) -> None:
        # Bounded: nothing new comes in, and a group ends with the database's own time-out.
        for waiting in list(self._in_work.values()):
            await waiting.done.wait()

    async def _work(self) -> None:
        try:
            while True:
                while not self._queue:
                    if self._arrived.is_set():
                        self._arrived = anyio.Event()
                    await self._arrived.wait()
                size = min(len(self._queue), self._limits.group)
                await self._serve([self._queue.popleft() for _ in range(size)])
        finally:
            # Empty, unless a bug of ours ended a worker: nobody must wait for what will not come.
            self._is_open = False
            while self._queue:
                self._release(self._queue.popleft())

    async def _serve(self, group: Sequence[_Waiting]) -> None:
        try:
            await to_thread.run_sync(
                self._process, [waiting.ticket for waiting in group], limiter=self._limiter
            )
        finally:
            for waiting in group:
                self._release(waiting)

    def _release(self, waiting: _Waiting) -> None:
        del self._in_work[waiting.digest]
        waiting.done.set()
