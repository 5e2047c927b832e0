"""The desk: takes a group of requests through the exchange together, in one worker thread.

    receive ─ look up (one read) ─ verify ─ reserve (cheap transaction) ─ sign ─ record (durable) ─ reply

Requests that arrive together share each step. Nothing is replied before `record` has returned, and nothing
here keeps state between groups but quotas and counts: what must be remembered is in the store.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from agents.authority import decisions, intents
from agents.authority.domain import DomainAuthority
from agents.authority.intents import Reserved, Signed
from agents.authority.issuer import ToBeIssued
from agents.authority.lookup import find_facts
from agents.authority.packing import Services
from agents.authority.provision import Promised, Provision
from agents.authority.quota import MAX_DEVICES, MAX_SOURCES, Buckets, Limits, origin
from agents.authority.store import Store, in_words
from agents.authority.tally import Tally
from agents.authority.verification import Verifier
from protocol.errors import ProblemKind, RequestRejected
from protocol.exchange.authority import AuthorityExchange
from protocol.exchange.authority_effects import (
    Confirm,
    Generate,
    Hint,
    Issue,
    Lookup,
    Lost,
    NewSigner,
    Order,
    Refuse,
    Respond,
    Revoke,
    Statement,
    Verify,
)
from protocol.exchange.facts import CertificateState, DeviceFacts
from protocol.ports import Inbound, Reply, SignedRefusal
from protocol.problem import Problem
from protocol.receipt import Receipt

_LOG: Final = logging.getLogger("trillium.authority")
UNAVAILABLE: Final = Problem(ProblemKind.UNAVAILABLE, "the authority's store does not answer", 5.0)
_DONE: Final = Receipt(0)


class Ticket:
    """One request on its way, and its reply once there is one."""

    __slots__ = ("exchange", "inbound", "lookup", "new_key", "reply")

    def __init__(self, inbound: Inbound) -> None:
        self.inbound = inbound
        self.reply: Reply | None = None
        self.exchange: AuthorityExchange
        self.lookup: Lookup
        self.new_key = b""


class Desk:
    """Decides about groups of requests. Threads: any, several groups at a time.

    Args:
        store: Where everything is remembered.
        authorities: One per domain.
        limits: Quotas.
        clock: POSIX seconds.
        tally: Counts what is decided.
        verifier: Open as long as this is used.
        services: Who signs the packages of generated keys.
    """

    def __init__(
        self,
        store: Store,
        authorities: Sequence[DomainAuthority],
        limits: Limits,
        clock: Callable[[], float],
        tally: Tally,
        verifier: Verifier,
        services: Services,
    ) -> None:
        self._store = store
        self._verifier = verifier
        self._places = {label: place for a in authorities for label, place in a.places.items()}
        self._authorities: Mapping[bytes, DomainAuthority] = {a.key_id: a for a in authorities}
        self._latest = {a.key_id: a.issuer.not_after for a in authorities}
        self.provision: Final = Provision(self._authorities, self._latest, services)
        """How requests for generated keys are carried out."""
        self._clock = clock
        self._tally = tally
        self._failures: Buckets[str] = Buckets(limits.failures, MAX_SOURCES)
        self._repeats: Buckets[str] = Buckets(limits.repeats, MAX_SOURCES)
        self._requests: Buckets[int] = Buckets(limits.requests, MAX_DEVICES)
        self._refusals: Buckets[int] = Buckets(limits.refusals, MAX_DEVICES)

    def process(self, tickets: Sequence[Ticket]) -> None:
        """Give every ticket its reply.

        Never raises for what a peer sent or for a store that fails: those tickets get a `Problem`.
        """
        now = self._clock()
        try:
            self._process(tickets, now)
        except (SQLAlchemyError, OSError) as error:
            _LOG.error("store failed", extra={"error": in_words(error), "requests": len(tickets)})
            for ticket in tickets:
                if ticket.reply is None:
                    ticket.reply = UNAVAILABLE
        except Exception as error:  # noqa: BLE001 (a fault of ours, which must not be everybody's outage)
            self._contain(error, [ticket for ticket in tickets if ticket.reply is None], now)

    def _contain(self, error: Exception, tickets: Sequence[Ticket], now: float) -> None:
        """Find out which request a fault of ours is in; the others are answered as if nothing were.

        What was written before the fault is found again: the same request never gets two certificates.
        """
        if len(tickets) > 1:
            for ticket in tickets:
                self.process([ticket])
            return
        for ticket in tickets:
            ticket.reply = UNAVAILABLE
            # Whoever repeats it is put off like anybody else who costs us work for nothing.
            self._failures.charge(origin(ticket.inbound.source), now)
            _LOG.error(
                "a fault of ours",
                exc_info=error,
                extra={"source": ticket.inbound.source, "label": ticket.inbound.label[:64]},
            )

    def _process(self, tickets: Sequence[Ticket], now: float) -> None:
        asking = [ticket for ticket in tickets if self._receive(ticket, now)]
        if not asking:
            return
        checks = self._look_up(asking, now)
        results = self._verifier.verify([check for _, check in checks])
        orders: list[tuple[Ticket, Order]] = []
        refused: list[tuple[Ticket, Refuse]] = []
        for (ticket, _), result in zip(checks, results, strict=True):
            ticket.new_key = result.new_key
            effect = ticket.exchange.verified(
                is_outer_good=result.is_outer_good,
                is_signer_good=result.is_signer_good,
                proof=result.proof,
                former=result.former,
            )
            if isinstance(effect, Hint):
                self._hint(ticket, effect, now)
                continue
            if isinstance(effect, Refuse):
                self._failures.charge(origin(ticket.inbound.source), now)
                refused.append((ticket, effect))
            else:
                orders.append((ticket, effect))
        self._carry_out(orders, refused, now)

    def _receive(self, ticket: Ticket, now: float) -> bool:
        ticket.exchange = AuthorityExchange(self._places)
        effect = ticket.exchange.receive(ticket.inbound)
        if isinstance(effect, Hint):
            self._hint(ticket, effect, now)
            return False
        ticket.lookup = effect
        return True

    def _look_up(self, tickets: Sequence[Ticket], now: float) -> list[tuple[Ticket, Verify]]:
        with self._store.reading() as connection:
            found = find_facts(connection, [ticket.lookup for ticket in tickets], int(now))
        checks: list[tuple[Ticket, Verify]] = []
        for ticket, facts in zip(tickets, found, strict=True):
            source = origin(ticket.inbound.source)
            wait = self._failures.wait(source, now) or self._repeats.wait(source, now)
            device = facts.registered if facts.signer is None else facts.signer.device
            if wait is None and device is not None:
                wait = self._requests.wait(device.id, now)
            effect = ticket.exchange.found(facts if wait is None else replace(facts, wait=wait), int(now))
            match effect:
                case Verify():
                    checks.append((ticket, effect))
                case Respond(reply):
                    self._tally.repeated += 1
                    ticket.reply = reply
                case Hint():
                    self._hint(ticket, effect, now)
        return checks

    def _carry_out(
        self, orders: Sequence[tuple[Ticket, Order]], refused: list[tuple[Ticket, Refuse]], now: float
    ) -> None:
        issues, reserved, changes = self._reserve(orders, refused, now)
        refusals = self._sign_refusals(refused, now)
        if not issues and not changes and not refusals:
            return
        signed = self._issue(issues, reserved)
        receipts = [(order, self._sign_receipt(order)) for _, order in changes]
        with self._store.writing(int(now)) as writing:
            signed = self.provision.recheck(writing, signed)
            issued, changed = decisions.record(
                writing, signed, receipts, [(refuse, encoded) for _, refuse, encoded in refusals]
            )
            issued = self.provision.keep(writing, signed, issued)
        for ticket, refuse, encoded in refusals:
            ticket.reply = SignedRefusal(encoded, refuse.problem)
        late: list[tuple[Ticket, Refuse]] = []
        outcomes = zip([*(t for t, _ in issues), *(t for t, _ in changes)], [*issued, *changed], strict=True)
        for ticket, outcome in outcomes:
            effect = ticket.exchange.committed(outcome)
            if isinstance(effect, Respond):
                ticket.reply = effect.reply
            else:  # somebody was quicker, between our look and our change
                late.append((ticket, effect))
        self._tally.decided(issued, changed, changes)
        if late:
            self._carry_out([], late, now)

    def _reserve(
        self, orders: Sequence[tuple[Ticket, Order]], refused: list[tuple[Ticket, Refuse]], now: float
    ) -> tuple[list[tuple[Ticket, Issue | Generate]], list[Reserved], list[tuple[Ticket, Confirm | Revoke]]]:
        """Write the intents; what needs no new certificate is replied to, or joins the refused."""
        wanted: list[tuple[Ticket, Issue]] = []
        generated: list[tuple[Ticket, Generate]] = []
        changes: list[tuple[Ticket, Confirm | Revoke]] = []
        for ticket, order in orders:
            if isinstance(order, Issue):
                wanted.append((ticket, order))
            elif isinstance(order, Generate):
                generated.append((ticket, order))
            else:
                changes.append((ticket, order))
                self._charge(ticket, order.signer.device, now, is_news=_is_news(order))
        issues: list[tuple[Ticket, Issue | Generate]] = []
        reserved: list[Reserved] = []
        both: list[tuple[Ticket, Issue | Generate]] = [*wanted, *generated]
        if both:
            # A signer that came by value leaves an audit record, whose head may be published before the next
            # durable commit: it must not be lost again.
            is_on_record = any(isinstance(order.signer, NewSigner) for _, order in both)
            with self._store.writing(int(now), durable=is_on_record) as writing:
                results = [
                    *intents.reserve(writing, [order for _, order in wanted], self._latest),
                    *self.provision.reserve(writing, [order for _, order in generated]),
                ]
            for (ticket, order), result in zip(both, results, strict=True):
                self._charge(ticket, order.device, now, is_news=isinstance(result, Reserved))
                if isinstance(result, Reserved):
                    issues.append((ticket, order))
                    reserved.append(result)
                    continue
                effect = ticket.exchange.committed(result)
                if isinstance(effect, Respond):
                    self._tally.repeated += 1
                    ticket.reply = effect.reply
                else:
                    refused.append((ticket, effect))
        return issues, reserved, changes

    def _charge(self, ticket: Ticket, device: DeviceFacts, now: float, *, is_news: bool) -> None:
        """Charge the device for what it asks for now, and whoever delivers it for what was asked before."""
        if is_news:
            self._requests.charge(device.id, now)
        else:
            self._repeats.charge(origin(ticket.inbound.source), now)

    def _issue(
        self, issues: Sequence[tuple[Ticket, Issue | Generate]], reserved: Sequence[Reserved]
    ) -> list[Signed]:
        signed: list[Signed] = []
        generated: list[tuple[Generate, Promised]] = []
        done: dict[int, bytes | Lost] = {}
        for (ticket, order), intent in zip(issues, reserved, strict=True):
            if isinstance(order, Generate):  # they come last
                assert isinstance(intent, Promised)
                generated.append((order, intent))
                continue
            encoded = done.get(intent.id)  # twins in one group share an intent, and its one signature
            if encoded is None:
                encoded = done[intent.id] = self._sign(order, intent, ticket.new_key)
            if isinstance(encoded, Lost):
                signed.append(Signed(order, intent, ticket.new_key, b"", encoded))
            else:
                signed.append(Signed(order, intent, ticket.new_key, encoded))
        return signed + self.provision.pack(generated)

    def _sign(self, order: Issue, intent: Reserved, key: bytes) -> bytes | Lost:
        wanted = ToBeIssued(
            order.profile,
            intent.serial,
            order.device.name,
            intent.not_before,
            intent.not_after,
            order.algorithm,
            key,
        )
        try:
            return self._authorities[order.ask.authority].issuer.issue(wanted)
        except RequestRejected as error:
            return Lost(Problem.of(error))

    def _sign_receipt(self, order: Confirm | Revoke) -> bytes:
        return self._authorities[order.ask.authority].registrar.sign(Statement(order.ask, _DONE))

    def _sign_refusals(
        self, refused: Sequence[tuple[Ticket, Refuse]], now: float
    ) -> list[tuple[Ticket, Refuse, bytes]]:
        signed: list[tuple[Ticket, Refuse, bytes]] = []
        for ticket, refuse in refused:
            key = -1 if refuse.device is None else refuse.device.id  # strangers share one bucket
            wait = self._refusals.wait(key, now)
            if wait is not None:
                self._hint(ticket, Hint(Problem(ProblemKind.OVERLOADED, "too many refusals", wait)), now)
                continue
            self._log_refusal(ticket, refuse)
            self._refusals.charge(key, now)
            registrar = self._authorities[refuse.ask.authority].registrar
            signed.append((ticket, refuse, registrar.sign(Statement(refuse.ask, refuse.problem))))
        return signed

    def turn_away(self, inbound: Inbound, problem: Problem) -> Problem:
        """Return `problem`, an unsigned hint that takes no look at anything: counted, charged and logged."""
        self._note_hint(inbound, problem, self._clock())
        return problem

    def _hint(self, ticket: Ticket, hint: Hint, now: float) -> None:
        ticket.reply = hint.problem
        self._note_hint(ticket.inbound, hint.problem, now)

    def _note_hint(self, inbound: Inbound, problem: Problem, now: float) -> None:
        if problem.kind in _CHARGED:
            self._failures.charge(origin(inbound.source), now)
        if self._tally.hinted(problem.kind, now):
            _LOG.warning(
                "not authentic",
                extra={
                    "kind": problem.kind.name,
                    "detail": problem.detail,
                    "source": inbound.source,
                    "label": inbound.label[:64],
                    "op": inbound.op.value,
                },
            )

    def _log_refusal(self, ticket: Ticket, refuse: Refuse) -> None:
        self._tally.refused[refuse.problem.kind] += 1
        _LOG.warning(
            "refused",
            extra={
                "kind": refuse.problem.kind.name,
                "detail": refuse.problem.detail,
                "device": None if refuse.device is None else refuse.device.name,
                "source": ticket.inbound.source,
                "label": refuse.ask.label,
                "op": refuse.ask.op.value,
                "request": refuse.ask.digest[:8].hex(),
                "alarm": refuse.alarm or None,
            },
        )


_CHARGED: Final = frozenset(
    {
        ProblemKind.MALFORMED,
        ProblemKind.TOO_LARGE,
        ProblemKind.UNKNOWN_SIGNER,
        ProblemKind.WRONG_SIGNER,
        ProblemKind.BAD_KEY,
        ProblemKind.BAD_SIGNATURE,
    }
)
"""Hints that cost their source a token: nobody sends these by accident again and again, and each costs a
look at the store or a signature."""


def _is_news(order: Confirm | Revoke) -> bool:
    """Whether an order would change anything; anybody with a recording may ask for a receipt again."""
    state = order.target.state
    if isinstance(order, Revoke):
        return state is not CertificateState.REVOKED
    return state is CertificateState.PENDING
