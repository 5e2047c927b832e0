"""From the queue through worker threads and out again in order."""

import asyncio
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

import anyio
from anyio import to_thread
from anyio.streams.memory import MemoryObjectReceiveStream

from agents.verifier import refusals
from agents.verifier.batch import MAX_CHUNK, Check, verify_batch
from agents.verifier.settlement import Settlement
from agents.verifier.ticket import Ticket
from protocol.problem import Problem

MAX_QUEUED: Final = 4096
"""Messages waiting for a thread: a fifth of a second of two cores, and some 4 MiB."""


class _Chunk:
    __slots__ = ("are_good", "checked", "checks", "tickets")

    def __init__(self, tickets: list[Ticket]) -> None:
        self.tickets = tickets
        self.checks: list[Check] = [(ticket.known.key, ticket.message, ticket.aad) for ticket in tickets]
        self.checked = anyio.Event()
        self.are_good: list[bool] = []


class Pipeline:
    """A bounded queue, threads behind it, and one task that settles chunk after chunk.

    Args:
        settlement: What to do with verdicts. It may take its time: meanwhile the queue fills, and the
            front door says no.
        threads: Worker threads, its own and no one else's.
        max_queued: Messages that may wait.
    """

    def __init__(self, settlement: Settlement, *, threads: int, max_queued: int = MAX_QUEUED) -> None:
        self._settlement = settlement
        self._threads = threads
        self._limiter = anyio.CapacityLimiter(threads)
        # Each thread has one chunk in work and finds the next one waiting: a turn of a busy event loop takes
        # as long as ten signatures. One more is being settled meanwhile.
        self._max_under_way = 2 * threads + 1
        self._handed: SimpleQueue[_Chunk | None] = SimpleQueue()
        self._slots = anyio.Semaphore(self._max_under_way)
        self._max_queued = max_queued
        self._queue: deque[Ticket] = deque()
        self._is_filled = anyio.Event()
        self._under_way: deque[_Chunk] = deque()
        self._is_closed = False
        self._is_empty = anyio.Event()
        self.batches = 0
        """Chunks that went to a thread."""

    @property
    def refusal(self) -> Problem | None:
        """Why no message can be taken just now; None if one can."""
        if self._is_closed:
            return refusals.UNAVAILABLE
        return refusals.OVERLOADED if len(self._queue) >= self._max_queued else None

    @property
    def is_busy(self) -> bool:
        """Whether what is merely good to know had better not be asked for."""
        return 2 * len(self._queue) >= self._max_queued

    def put(self, ticket: Ticket) -> None:
        """Queue `ticket`; the caller has seen that there is no `refusal`, and awaited nothing since."""
        if not self._queue:
            self._is_filled.set()
        self._queue.append(ticket)

    async def close(self) -> None:
        """Take nothing more, and wait until all that was taken is settled, or `run` has ended."""
        self._is_closed = True
        if self._queue or self._under_way:
            await self._is_empty.wait()

    async def run(self) -> None:
        """Verify what is queued; at the end, who waits for a verdict that will not come is told so."""
        send, receive = anyio.create_memory_object_stream[_Chunk](self._max_under_way)
        try:
            async with anyio.create_task_group() as tasks, send:
                for _ in range(self._threads):
                    tasks.start_soon(self._run_thread)
                tasks.start_soon(self._settle_in_order, receive)
                try:
                    while True:
                        chunk = await self._next_chunk()
                        self._under_way.append(chunk)
                        self.batches += 1
                        self._handed.put(chunk)
                        send.send_nowait(chunk)  # there are as many places as slots
                finally:
                    for _ in range(self._threads):
                        self._handed.put(None)
        finally:
            self._is_closed = True
            for ticket in (*(t for chunk in self._under_way for t in chunk.tickets), *self._queue):
                if ticket.on_verdict is not None:
                    ticket.on_verdict(refusals.UNAVAILABLE)
            self._is_empty.set()

    async def _next_chunk(self) -> _Chunk:
        # First a free slot, then the messages: while there is none, the queue becomes the batch.
        await self._slots.acquire()
        while not self._queue:
            self._is_filled = anyio.Event()
            await self._is_filled.wait()
        size = min(len(self._queue), MAX_CHUNK)
        return _Chunk([self._queue.popleft() for _ in range(size)])

    async def _run_thread(self) -> None:
        post = asyncio.get_running_loop().call_soon_threadsafe
        await to_thread.run_sync(self._verify_chunks, post, limiter=self._limiter)

    def _verify_chunks(self, post: Callable[[Callable[[], None]], object]) -> None:
        """Verify chunk after chunk, in a thread."""
        while (chunk := self._handed.get()) is not None:
            chunk.are_good = verify_batch(chunk.checks)
            post(chunk.checked.set)

    async def _settle_in_order(self, chunks: MemoryObjectReceiveStream[_Chunk]) -> None:
        async with chunks:
            async for chunk in chunks:
                await chunk.checked.wait()
                await self._settlement.settle(chunk.tickets, chunk.are_good)
                self._under_way.popleft()
                self._slots.release()
                if self._is_closed and not self._queue and not self._under_way:
                    self._is_empty.set()
