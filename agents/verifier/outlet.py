"""Publishing good messages: in order for each device, several devices at once."""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import anyio

from agents.verifier import refusals
from agents.verifier.ledger import Ledger
from agents.verifier.ticket import Ticket, VerifiedMessage
from protocol.errors import ServiceError

AT_ONCE: Final = 16
"""Messages being published at once: an acknowledgement takes a broker a millisecond or two, and one at a time
would be some hundred messages a second."""
MAX_OUTGOING: Final = 256
"""Messages waiting to be published: what `AT_ONCE` gets rid of in a few hundredths of a second."""

Publish = Callable[[str, bytes], Awaitable[None]]
"""Given a stream and CBOR [device name, counter, time/null, body]. It returns when the message is in good
hands, e.g. acknowledged by a broker: only then comes the next one of the same device, while others go out.
It raises ServiceError if it cannot, and the message is lost to all but the counts."""
Listen = Callable[[VerifiedMessage], None]
"""Told a good message in this process, before it is published; it does not wait, and never raises."""


class Outlet:
    """A bounded number of messages on their way out, and the tasks that take them there.

    Args:
        publish: Where they go; None: nowhere, they only count.
        ledger: Where they are counted.
        listeners: Who else is told, by stream.
    """

    def __init__(
        self, publish: Publish | None, ledger: Ledger, listeners: Mapping[str, Listen] | None = None
    ) -> None:
        self._publish = publish
        self._listeners = listeners or {}
        self._ledger = ledger
        self._queues: dict[bytes, deque[Ticket]] = {}
        """Messages by thumbprint; whoever takes a queue empties it."""
        self._untaken: deque[bytes] = deque()
        self._idle: deque[anyio.Event] = deque()
        """What sleeping tasks wait for."""
        self._count = 0
        self._is_less = anyio.Event()

    async def wait_for_room(self) -> None:
        """Wait until another message may be put."""
        while self._count >= MAX_OUTGOING:
            self._is_less = anyio.Event()
            await self._is_less.wait()

    @property
    def is_full(self) -> bool:
        """Whether to wait before another message is put."""
        return self._count >= MAX_OUTGOING

    def put(self, ticket: Ticket) -> None:
        """Let a message out, after those of the same device; the caller has seen that there is room."""
        self._count += 1
        thumbprint = ticket.message.thumbprint
        queue = self._queues.get(thumbprint)
        if queue is None:
            self._queues[thumbprint] = deque((ticket,))
            self._untaken.append(thumbprint)
            if len(self._untaken) == 1:
                self._wake_one()
        else:
            queue.append(ticket)

    def _wake_one(self) -> None:
        if self._idle:
            self._idle.popleft().set()

    async def drain(self) -> None:
        """Wait until everything is out."""
        while self._count:
            self._is_less = anyio.Event()
            await self._is_less.wait()

    async def run(self) -> None:
        """Publish for as long as the verifier is open; at the end, who still waits is told so."""
        try:
            async with anyio.create_task_group() as tasks:
                for _ in range(AT_ONCE):
                    tasks.start_soon(self._work)
        finally:
            for queue in self._queues.values():
                for ticket in queue:
                    if ticket.on_verdict is not None:
                        ticket.on_verdict(refusals.UNAVAILABLE)
            self._count = 0
            self._is_less.set()

    async def _work(self) -> None:
        while True:
            was_asleep = not self._untaken
            while not self._untaken:
                is_awake = anyio.Event()
                self._idle.append(is_awake)
                await is_awake.wait()
            thumbprint = self._untaken.popleft()
            # Who was woken wakes the next one if there is more to do, and only once: where publishing never
            # waits, one task does it all.
            if was_asleep and self._untaken:
                self._wake_one()
            queue = self._queues[thumbprint]
            while queue:
                await self._let_out(queue[0])
                queue.popleft()
                self._count -= 1
                if self._count in (0, MAX_OUTGOING - 1):
                    self._is_less.set()
            del self._queues[thumbprint]

    async def _let_out(self, ticket: Ticket) -> None:
        message, record, stream = ticket.message, ticket.known.record, ticket.inbound.stream
        self._ledger.stats.verified += 1
        listen = self._listeners.get(stream)
        if listen is not None:
            listen(_verified(ticket))
        if self._publish is not None:
            try:
                await self._publish(stream, message.attributed_to(record.device))
            except ServiceError as error:
                self._ledger.stats.unpublished += 1
                self._ledger.write(
                    "message not published", stream=stream, device=record.device, why=str(error)
                )
        if ticket.on_verdict is not None:
            ticket.on_verdict(_verified(ticket))


def _verified(ticket: Ticket) -> VerifiedMessage:
    message, record = ticket.message, ticket.known.record
    return VerifiedMessage(
        record.device,
        record.client_id,
        record.ref,
        ticket.inbound.stream,
        message.counter,
        message.time,
        message.body,
        record.label,
    )
