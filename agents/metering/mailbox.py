"""The mailbox at an authority: one letter waits each way between a meter and a client.

Nobody looks into letters. They are in memory, because every one of them can be written again: a mailbox that
has lost them says so by another name, and both sides repeat their last word. Who writes is known by the
signature of the request, and on which side by the certificate's label, which only the authority knows.
"""

import os
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from agents.metering.parties import BY_SIGNATURE, Party
from agents.verifier.ticket import Verdict
from protocol.errors import MalformedMessage, ProblemKind
from protocol.labels import Domain
from protocol.metering.mail import (
    MAX_WRITERS,
    NAME_BYTES,
    STREAM,
    Delivery,
    Visit,
    WhoWrote,
    Writers,
    decode_request,
    name_of,
)
from protocol.metering.title import SystemTitle
from protocol.ports import Content, Inbound, InboundMessage, Media, Reply
from protocol.problem import Problem

KEEP_SECONDS: Final = 7 * 24 * 3600.0
"""How long a letter waits where room is short: whoever wrote it writes again when it comes back."""
RETRY_SECONDS: Final = 60.0
"""When to come back to a full mailbox."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept. What does not fit is refused with a retry-after; nothing that waits makes room."""

    letters: int = 20_000
    """In all: 25 MiB as they usually are, 80 at most. A fleet of any size is rolled over in portions."""
    of_meter: int = 4
    """Written by one meter: it has one head-end, and another after a change of owner."""
    of_client: int = 10_000
    """Written by one client: half, so that nobody alone shuts the others out."""


@dataclass(frozen=True, slots=True)
class Address:
    """One side: titles of meters and of clients may be the same, and domains do not know each other."""

    domain: Domain
    is_meter: bool
    title: SystemTitle

    def across(self, title: SystemTitle) -> "Address":
        """Return the address of `title` on the other side."""
        return Address(self.domain, not self.is_meter, title)


@dataclass(frozen=True, slots=True)
class _Waiting:
    content: bytes
    name: bytes
    since: float


@dataclass(slots=True)
class Mailbox:
    """The letters that wait.

    Args:
        bounds: How many.
        clock: Seconds that never go back.
    """

    bounds: Bounds = field(default_factory=Bounds)
    clock: Callable[[], float] = time.monotonic
    name: bytes = field(default_factory=lambda: os.urandom(NAME_BYTES))
    """Another one after all letters were lost."""
    refused: int = 0
    """Letters for which there was no room."""
    _letters: dict[Address, OrderedDict[SystemTitle, _Waiting]] = field(default_factory=dict)
    """By reader, then by writer, longest waiting first."""
    _written: Counter[Address] = field(default_factory=Counter)
    _count: int = 0
    _clear_at: float = float("-inf")

    def __len__(self) -> int:
        return self._count

    def writers(self, reader: Address) -> Writers:
        """Return whose letters wait for `reader`."""
        return Writers(self.name, tuple(islice(self._letters.get(reader, ()), MAX_WRITERS)))

    def visit(self, visitor: Address, visit: Visit) -> Delivery | Problem:
        """Take and leave letters.

        Returns:
            The letter that waits, or OVERLOADED; then nothing was left, but what was taken is gone.
        """
        peer = visitor.across(visit.peer)
        letters = self._letters.get(visitor)
        waiting = None if letters is None else letters.get(visit.peer)
        if waiting is not None and waiting.name == visit.taken:
            self._remove(visitor, visit.peer)
            waiting = None
        if visit.letter is not None and not self._put(visitor, peer, visit.letter):
            self.refused += 1
            return Problem(ProblemKind.OVERLOADED, "no room for more letters", RETRY_SECONDS)
        return Delivery(self.name, None if waiting is None else waiting.content)

    def _put(self, writer: Address, reader: Address, content: bytes) -> bool:
        letter = _Waiting(content, name_of(content), self.clock())
        letters = self._letters.get(reader)
        if letters is not None and writer.title in letters:
            letters[writer.title] = letter  # it keeps its place: who writes often is not heard last
            return True
        most = self.bounds.of_meter if writer.is_meter else self.bounds.of_client
        if self._is_full(writer, most):
            self._clear_away()
        if self._is_full(writer, most):
            return False
        self._letters.setdefault(reader, OrderedDict())[writer.title] = letter
        self._written[writer] += 1
        self._count += 1
        return True

    def _is_full(self, writer: Address, most: int) -> bool:
        return self._count >= self.bounds.letters or self._written.get(writer, 0) >= most

    def _clear_away(self) -> None:
        """Throw away what has waited too long; not at every refusal, which has to be cheap."""
        now = self.clock()
        if now < self._clear_at:
            return
        self._clear_at = now + RETRY_SECONDS
        end = now - KEEP_SECONDS
        old = [
            (reader, title)
            for reader, letters in self._letters.items()
            for title, letter in letters.items()
            if letter.since < end
        ]
        for reader, title in old:
            self._remove(reader, title)

    def _remove(self, reader: Address, title: SystemTitle) -> None:
        letters = self._letters[reader]
        del letters[title]
        if not letters:
            del self._letters[reader]
        writer = reader.across(title)
        self._count -= 1
        self._written[writer] -= 1
        if not self._written[writer]:
            del self._written[writer]


Verify = Callable[[InboundMessage], Awaitable[Verdict]]
"""`agents.verifier.Verifier.verify`: signature, revocation, counter."""


class PostOffice:
    """Answers the operation `mail`: `protocol.ports.Handler`.

    Args:
        verify: Says who signed a request.
        mailbox: Where letters are.
    """

    def __init__(self, verify: Verify, mailbox: Mailbox | None = None) -> None:
        self._verify = verify
        self.mailbox: Final = mailbox or Mailbox()

    async def handle(self, inbound: Inbound) -> Reply:
        """Answer one request. Cancellation: anywhere; what was left or taken stays so."""
        party = BY_SIGNATURE.get(inbound.label)
        if party is None:
            return Problem(ProblemKind.NOT_FOUND, f"no mail under {inbound.label}")
        match await self._verify(InboundMessage(STREAM, inbound.body, inbound.source)):
            case Problem() as problem:
                return problem
            case verified if verified.label != inbound.label:
                return Problem(ProblemKind.WRONG_SIGNER, f"signed under {verified.label}")
            case verified:
                return self._answer(party, verified.device, verified.body)

    def _answer(self, party: Party, device: str, body: bytes) -> Reply:
        visitor = Address(party.domain, party.is_meter, SystemTitle.of_name(device))
        try:
            request = decode_request(body)
        except MalformedMessage as error:
            return Problem(ProblemKind.MALFORMED, str(error))
        match request:
            case WhoWrote():
                return Content(self.mailbox.writers(visitor).encode(), Media.CBOR)
            case Visit():
                delivery = self.mailbox.visit(visitor, request)
                return delivery if isinstance(delivery, Problem) else Content(delivery.encode(), Media.CBOR)
