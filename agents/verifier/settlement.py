"""What follows from verdicts: charge, activate, raise the alarm, use the counter up, publish."""

import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio

from agents.verifier import refusals
from agents.verifier.ledger import Ledger
from agents.verifier.replay import Counters
from agents.verifier.signers import KnownSigner, SignerCache
from agents.verifier.ticket import Ticket, VerifiedMessage
from protocol import cbor
from protocol.errors import ServiceError
from protocol.exchange.facts import CertificateRef, CertificateState, Signers
from protocol.problem import Problem

ALARM_SECONDS: Final = 60.0
"""Between two alarms over one certificate."""
MAX_ALARMED: Final = 1024
"""Certificates remembered for that; beyond it the store's own limit has to do."""

LANES: Final = 16
"""Messages being published at once: a broker's acknowledgement takes a millisecond or two, and one at a time
would be some hundred messages a second."""

_log: Final = logging.getLogger(__name__)

Publish = Callable[[str, bytes], Awaitable[None]]
"""Given a stream and CBOR [device name, counter, time/null, body]. It returns when the message is in good
hands, e.g. acknowledged by a broker: only then comes the next one of the same device, while others go out.
It raises ServiceError if it cannot, and the message is lost to all but the counts."""


class Settlement:
    """Acts on the verdicts of one chunk after the other, in the order of the queue.

    Args:
        signers: For activations and alarms.
        cache: To ask again about signers that may have ended since their message came.
        counters: Used up here, by good messages only.
        ledger: Where it is all counted.
        publish: For good messages; None where only `Verifier.verify` is used.
        clock: POSIX seconds.
    """

    def __init__(
        self,
        signers: Signers,
        cache: SignerCache,
        counters: Counters,
        ledger: Ledger,
        publish: Publish | None,
        clock: Callable[[], float],
    ) -> None:
        self._signers = signers
        self._cache = cache
        self._counters = counters
        self._ledger = ledger
        self._publish = publish
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
        await self._give_out(await self._ask_again(good) if must_ask else good)

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

    async def _give_out(self, tickets: Sequence[Ticket]) -> None:
        """Use counters up, and publish: what one device sent in its order, several devices at once."""
        lanes: dict[int, list[Ticket]] = {}
        for ticket in tickets:
            if self._counters.use(ticket.known.record.ref, ticket.known.window, ticket.message.counter):
                # The thumbprint is a hash, so any byte of it deals devices out evenly.
                lanes.setdefault(ticket.message.thumbprint[-1] % LANES, []).append(ticket)
            else:
                self._refuse(ticket, refusals.STALE)
        if len(lanes) <= 1:
            for lane in lanes.values():
                await self._give_out_lane(lane)
            return
        async with anyio.create_task_group() as tasks:
            for lane in lanes.values():
                tasks.start_soon(self._give_out_lane, lane)

    async def _give_out_lane(self, tickets: Sequence[Ticket]) -> None:
        stats, publish = self._ledger.stats, self._publish
        for ticket in tickets:
            stats.verified += 1
            message, record, stream = ticket.message, ticket.known.record, ticket.inbound.stream
            if publish is not None:
                payload = cbor.encode([record.device, message.counter, message.time, message.body])
                try:
                    await publish(stream, payload)
                except ServiceError as error:
                    stats.unpublished += 1
                    self._ledger.write(
                        "message not published", stream=stream, device=record.device, why=str(error)
                    )
            if ticket.on_verdict is not None:
                ticket.on_verdict(
                    VerifiedMessage(
                        record.device,
                        record.client_id,
                        record.ref,
                        stream,
                        message.counter,
                        message.time,
                        message.body,
                    )
                )

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
