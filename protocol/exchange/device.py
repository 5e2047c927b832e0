"""The device's side of an exchange: from a new key to a certificate that the authority calls current.

    IDLE ──start──> ENROLLING ──certificate verified: Install──> CONFIRMING ──receipt: Promote──> DONE
                        │  │                                         │
                        │  └──────────── signed refusal: Discard ────┴──> FAILED
                        │                out of time: the pending things stay stored
                        │                                                 ^
                        └──the authority's, but unusable──> REPORTING ────┘ receipt or refusal: Discard

What the authority certified for this key and the device cannot use, it reports once, with the reason; that
key is done with, and the next machine begins with another. Who makes that one waits a while first.

One machine is one certificate obtained. It does no I/O, reads no clock and draws no randomness: methods
return effects (`protocol.exchange.device_effects`), `now` is in seconds on a clock that never goes back,
`jitter` is random, >= 0 and < 1, and `deadline` says when to call `timeout` if nothing comes. Replies may
be late, doubled, somebody else's or forged; what does not verify changes nothing.

The current key and certificate stay untouched until `Promote`, and the pending ones are stored before
anyone hears of them, so that power loss at any point leaves a certificate that the authority accepts. A
machine made with what was stored goes on: the saved request is sent again as it is, a stored certificate
is confirmed.
"""

import hashlib
import math
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from protocol import c509
from protocol.errors import (
    CertificateUnusable,
    ExchangeTimeout,
    LocalProtocolError,
    MalformedMessage,
    OwnerChanged,
    RequestRejected,
)
from protocol.exchange.device_ask import Ask, Waiting
from protocol.exchange.device_effects import Credential, Discard, Done, Effects, Fail, Install, Promote
from protocol.exchange.device_pace import Pace, Patience
from protocol.exchange.device_trust import Trust
from protocol.exchange.request import INSTALLED, Confirmation, Door, certification_request
from protocol.labels import Operation
from protocol.ports import Content, Media, Reply
from protocol.problem import Problem
from protocol.profiles import Profile
from protocol.receipt import Receipt
from protocol.signing import Signer
from protocol.validity import Clock


class State(Enum):
    """Where an exchange is."""

    IDLE = "not started"
    ENROLLING = "asking for a certificate"
    CONFIRMING = "confirming the certificate"
    REPORTING = "reporting a certificate that cannot be used"
    RETURNING = "giving a certificate back"
    CHECKING = "asking whether it is still known"
    FETCHING = "fetching what is public"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Which certificate is wanted, and who signs for it."""

    profile: Profile
    op: Operation
    """`sen` or `sren`."""
    requester: Credential
    """Of a label in `profile.opened_by` (sen), or of `profile.rekeyed_by` (sren)."""
    new_key: Signer
    confirmer: Credential | None = None
    """Of `profile.confirmed_by`; None where that is the new certificate itself."""
    request: bytes | None = None
    """The request, if one was stored before."""
    certificate: bytes | None = None
    """The certificate, if it was verified and stored before."""
    unusable: CertificateUnusable | None = None
    """What is wrong with that certificate, if the authority is only to be told so."""


class Enrollment:
    """Obtains one certificate.

    Args:
        trust: What the device believes of its authority.
        order: What is wanted, and what there is of it already.
        clock: What is known of the time at `start`; it runs on with `now`.
        patience: Limits of waiting.
    """

    def __init__(self, trust: Trust, order: Order, clock: Clock, patience: Patience | None = None) -> None:
        self._trust = trust
        self._order = order
        self._clock = clock
        self._patience = patience or Patience()
        self._started = 0.0
        self._pace = Pace(self._patience, 0.0)
        self._ask: Ask | None = None
        self._certificate = order.certificate
        self._unusable = order.unusable
        self.state = State.IDLE
        """Where the exchange is."""

    @property
    def deadline(self) -> float:
        """When to call `timeout` if nothing comes; infinite before the start and after the end."""
        return self._pace.deadline if self._ask is not None else math.inf

    @property
    def waiting(self) -> Waiting | None:
        """What is waited for; None before the start and after the end."""
        return None if self._ask is None else self._ask.waiting

    def start(self, now: float) -> Effects:
        """Begin, or go on with what was stored."""
        if self.state is not State.IDLE:
            raise LocalProtocolError(f"an exchange that is {self.state.value} cannot start")
        self._started = now
        self._pace = Pace(self._patience, now)
        if self._certificate is not None:
            status = INSTALLED if self._unusable is None else self._unusable.reason
            return self._confirm(self._certificate, status, now)
        self.state = State.ENROLLING
        order = self._order
        saved = order.request
        self._ask = Ask(
            self._trust,
            self._pace,
            order.requester,
            self._door(order.op),
            b"" if saved is not None else self._inner_request(),
            saved=saved,
            is_saved_first=True,
        )
        return self._ask.start(now)

    def receive(self, reply: Reply, now: float, jitter: float) -> Effects:
        """Take a reply; noise gives no effects and leaves the deadline as it is."""
        if self._ask is None:
            return ()
        heard = self._ask.receive(reply, now, jitter, self._clock_at(now))
        match heard.answer:
            case None:
                return heard.effects
            case Content():
                return heard.effects + self._certificate_arrived(heard.answer, now)
            case Receipt():
                return heard.effects + self._receipt_arrived(heard.answer)
            case Problem() as problem:
                told = problem.as_error()
                error = told if isinstance(told, OwnerChanged) else self._unusable or told
                return (*heard.effects, Discard(), self._end(State.FAILED, Fail(error)))
            case _:
                assert_never(heard.answer)

    def timeout(self, now: float, jitter: float) -> Effects:
        """Say that the deadline passed, or that no answer will come to what was sent."""
        if self._ask is None:
            raise LocalProtocolError(f"an exchange that is {self.state.value} has no deadline")
        if self._pace.is_over(now):
            error = ExchangeTimeout(f"no usable answer in {self._patience.give_up:g} s")
            return (self._end(State.FAILED, Fail(error)),)
        if self._pace.is_paused:
            return self._ask.repeat(now)
        self._pace.pause(now, jitter)
        return ()

    def _certificate_arrived(self, content: Content, now: float) -> Effects:
        if self.state is not State.ENROLLING or content.media is not Media.C509_CERTIFICATE:
            return ()
        try:
            self._trust.check_certificate(
                content.body, self._order.profile, self._order.new_key, self._clock_at(now)
            )
        except (MalformedMessage, RequestRejected):
            return ()
        except CertificateUnusable as error:
            self._unusable = error
            self._pace.progressed()
            return self._confirm(content.body, error.reason, now)
        self._pace.progressed()
        return (Install(content.body), *self._confirm(content.body, INSTALLED, now))

    def _confirm(self, certificate: bytes, status: int, now: float) -> Effects:
        self.state = State.CONFIRMING if status == INSTALLED else State.REPORTING
        self._certificate = certificate
        self._ask = Ask(
            self._trust,
            self._pace,
            self._order.confirmer or Credential(self._order.new_key, certificate),
            self._door(Operation.CONF),
            Confirmation(hashlib.sha256(certificate).digest(), status).encode(),
        )
        return self._ask.start(now)

    def _receipt_arrived(self, receipt: Receipt) -> Effects:
        if receipt.status != 0 or self.state is State.ENROLLING:
            return ()
        if self._unusable is not None:
            return (Discard(), self._end(State.FAILED, Fail(self._unusable)))
        return (Promote(), self._end(State.DONE, Done()))

    def _end(self, state: State, effect: Done | Fail) -> Done | Fail:
        self.state = state
        self._ask = None
        return effect

    def _inner_request(self) -> bytes:
        return certification_request(c509.Name.common_name(self._trust.anchor.device), self._order.new_key)

    def _door(self, op: Operation) -> Door:
        anchor = self._trust.anchor
        return Door(anchor.authority, self._order.profile.label, op, anchor.epoch)

    def _clock_at(self, now: float) -> Clock:
        wall = self._clock.now
        return self._clock if wall is None else Clock(wall + int(now - self._started), self._clock.floor)
