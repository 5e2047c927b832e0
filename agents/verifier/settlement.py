"""What follows from verdicts: charge, activate, raise the alarm, use the counter up, let out."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import anyio

from agents.verifier import refusals
from agents.verifier.ledger import Ledger
from agents.verifier.outlet import Outlet
from agents.verifier.replay import Counters
from agents.verifier.signers import KnownSigner, SignerCache
from agents.verifier.ticket import Ticket
from protocol.errors import ServiceError
from protocol.exchange.facts import CertificateRef, CertificateState, Signers
from protocol.problem import Problem

ALARM_SECONDS: Final = 60.0
"""Between two alarms over one certificate."""
MAX_ALARMED: Final = 1024
"""Certificates remembered for that; beyond it the store's own limit has to do."""

_log: Final = logging.getLogger(__name__)


class Settlement:
    """Acts on the verdicts of one chunk after the other, in the order of the queue.

    Args:
        signers: For activations and alarms.
        cache: To ask again about signers that may have ended since their message came.
        counters: Used up here, by good messages only.
        ledger: Where it is all counted.
        outlet: For good messages.
        clock: POSIX seconds.
    """

    def __init__(
        self,
        signers: Signers,
        cache: SignerCache,
        counters: Counters,
        ledger: Ledger,
        outlet: Outlet,
        clock: Callable[[], float],
    ) -> None:
        self._signers = signers
        self._cache = cache
        self._counters = counters
        self._ledger = ledger
        self._outlet = outlet
        self._clock = clock
        self._alarmed: OrderedDict[CertificateRef, float] = OrderedDict()

    async def settle(self, tickets: Sequence[Ticket], are_good: Sequence[bool]) -> None:
        """Act on the verdicts of `tickets`."""
        good: list[Ticket] = []
        must_ask = False
        for ticket, is_good in zip(tickets, are_good, strict=True):
            if not is_good:
                self._ledger.charge(ticket.inbound.source)
                if not ticket.is_retired:
                    self._refuse(ticket, refusals.BAD_SIGNATURE)
            elif ticket.is_retired:
                await self._alarm(ticket.known.record.ref)
            else:
                good.append(ticket)
                must_ask = must_ask or not self._is_settled(ticket.known)
        for ticket in await self._ask_again(good) if must_ask else good:
            if self._counters.use(ticket.known.record.ref, ticket.known.window, ticket.message.counter):
                if self._outlet.is_full:
                    await self._outlet.wait_for_room()
                self._outlet.put(ticket)
            else:
                self._refuse(ticket, refusals.STALE)

    def _is_settled(self, known: KnownSigner) -> bool:
        return known.generation == self._cache.generation and known.record.state is CertificateState.CURRENT

    async def _ask_again(self, tickets: Sequence[Ticket]) -> list[Ticket]:
        """Return the tickets whose signers are current now: since they came, some may have ended or begun."""
        thumbprints = list({ticket.message.thumbprint for ticket in tickets})
        try:
            found = dict(zip(thumbprints, await self._cache.find(*thumbprints), strict=True))
        except ServiceError:
            for ticket in tickets:
                self._refuse(ticket, refusals.UNAVAILABLE)
            return []
        activated = await self._activate(found)
        now = self._clock()
        alive: list[Ticket] = []
        for ticket in tickets:
            known = found[ticket.message.thumbprint]
            problem: Problem | None = refusals.UNKNOWN_SIGNER
            if known is not None:
                problem = refusals.judge(known, ticket.message, ticket.inbound.client_id, now)
                problem = problem or activated.get(known.record.ref)
            if problem is None:
                alive.append(ticket)
            else:
                self._refuse(ticket, problem)
        return alive

    async def _activate(self, found: dict[bytes, KnownSigner | None]) -> dict[CertificateRef, Problem | None]:
        """Make the pending ones among `found` current; return for each why that failed, or None."""
        outcomes: dict[CertificateRef, Problem | None] = {}

        async def activate(ref: CertificateRef, thumbprint: bytes) -> None:
            try:
                is_current = await self._signers.activate(ref)
            except ServiceError as error:
                _log.error("a certificate cannot be activated", extra={"why": str(error)})
                outcomes[ref] = refusals.UNAVAILABLE
                return
            if is_current:
                self._ledger.stats.activated += 1
                self._cache.became_current(thumbprint)
            outcomes[ref] = None if is_current else refusals.SUPERSEDED

        async with anyio.create_task_group() as tasks:  # at once, so that they share a commit
            for thumbprint, known in found.items():
                if known is not None and known.record.state is CertificateState.PENDING:
                    tasks.start_soon(activate, known.record.ref, thumbprint)
        return outcomes

    def _refuse(self, ticket: Ticket, problem: Problem) -> None:
        self._ledger.refuse(ticket.inbound, problem)
        if ticket.on_verdict is not None:
            ticket.on_verdict(problem)

    async def _alarm(self, ref: CertificateRef) -> None:
        now = time.monotonic()
        if now - self._alarmed.get(ref, -ALARM_SECONDS) < ALARM_SECONDS:
            return
        self._alarmed[ref] = now
        self._alarmed.move_to_end(ref)
        if len(self._alarmed) > MAX_ALARMED:
            self._alarmed.popitem(last=False)
        self._ledger.stats.alarms += 1
        _log.warning("a retired key is in use", extra={"serial": ref.serial.hex()})
        try:
            await self._signers.alarm(ref, "a message was signed with a retired key")
        except ServiceError as error:
            _log.error("an alarm was not recorded", extra={"why": str(error)})
