"""The device's side of `skg`: a certificate whose key the authority makes, and that arrives wrapped.

    IDLE ──start──> ENROLLING ──package opened: InstallKey──> (as `Enrollment` from CONFIRMING on)
                        │  └──opened, but unusable──────────> (as `Enrollment` from REPORTING on)
                        │
                        └── signed refusal, or the answer does not open: Discard ──> FAILED
                            out of time: the request stays stored

A nonce stands where the new key stands otherwise; the request with it is stored before it is sent, and the
same request brings the same key. From the moment on at which key and certificate are stored, all is as with
a key of the device's own: `Enrollment` goes on, also after power loss.

An answer that does not open cannot be complained of: the key that would sign the complaint is in it. The
next machine begins with another nonce, which makes the authority void what it gave for this one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from cryptography.hazmat.primitives.asymmetric import ec

from protocol.c509 import Certificate
from protocol.cose import decode_sign1
from protocol.errors import (
    CertificateUnusable,
    ExchangeTimeout,
    LocalProtocolError,
    MalformedMessage,
    RequestRejected,
)
from protocol.ev import Agreement
from protocol.exchange.device import Enrollment, Order, State
from protocol.exchange.device_ask import Ask, Waiting
from protocol.exchange.device_effects import Credential, Discard, Effects, Fail, InstallKey
from protocol.exchange.device_pace import Pace, Patience
from protocol.exchange.device_package import Expected, open_package
from protocol.exchange.device_trust import Trust
from protocol.exchange.request import Door, KeyRequest
from protocol.labels import Operation
from protocol.ports import Content, Media, Reply
from protocol.problem import Problem
from protocol.profiles import Profile
from protocol.receipt import Receipt
from protocol.signing import Signer
from protocol.validity import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOrder:
    """Which certificate is wanted, who signs for it, and to whose key it will be wrapped."""

    profile: Profile
    """With a generated key."""
    op: Operation
    """`sen` for a first one or recovery, `sren` for renewal: what the device means by its `skg`."""
    requester: Credential
    """Of a label in `profile.opened_by`, or (renewal) of `profile.rekeyed_by`."""
    agreement: Agreement
    """The requester's private key once more."""
    name: str
    """What the requester's certificate proves."""
    nonce: bytes
    """16 random bytes."""
    root: Certificate
    """The pinned root above the services that may sign packages."""
    adopt: Callable[[ec.EllipticCurvePrivateKey], Signer]
    """Makes a signer of the key that arrives."""
    request: bytes | None = None
    """The request, if one was stored before; then the nonce is in it."""


class Delivery:
    """Obtains one certificate with its key; arguments as for `Enrollment`."""

    def __init__(
        self, trust: Trust, order: DeliveryOrder, clock: Clock, patience: Patience | None = None
    ) -> None:
        self._trust = trust
        self._order = order
        self._clock = clock
        self._patience = patience or Patience()
        self._started = 0.0
        self._pace = Pace(self._patience, 0.0)
        self._ask: Ask | None = None
        self._next: Enrollment | None = None
        """Takes over once there is a key."""
        self._state = State.IDLE

    @property
    def state(self) -> State:
        """Where the exchange is."""
        return self._state if self._next is None else self._next.state

    @property
    def deadline(self) -> float:
        """When to call `timeout` if nothing comes; infinite before the start and after the end."""
        if self._next is not None:
            return self._next.deadline
        return self._pace.deadline if self._ask is not None else math.inf

    @property
    def waiting(self) -> Waiting | None:
        """What is waited for; None before the start and after the end."""
        if self._next is not None:
            return self._next.waiting
        return None if self._ask is None else self._ask.waiting

    def start(self, now: float) -> Effects:
        """Begin, or go on with the request that was stored."""
        if self._state is not State.IDLE:
            raise LocalProtocolError(f"an exchange that is {self._state.value} cannot start")
        self._state = State.ENROLLING
        self._started = now
        self._pace = Pace(self._patience, now)
        order, anchor = self._order, self._trust.anchor
        self._ask = Ask(
            self._trust,
            self._pace,
            order.requester,
            Door(anchor.authority, order.profile.label, Operation.SKG, anchor.epoch),
            KeyRequest(order.nonce, order.name).encode() if order.request is None else b"",
            saved=order.request,
            is_saved_first=True,
        )
        return self._ask.start(now)

    def receive(self, reply: Reply, now: float, jitter: float) -> Effects:
        """Take a reply; noise gives no effects and leaves the deadline as it is."""
        if self._next is not None:
            return self._next.receive(reply, now, jitter)
        if self._ask is None:
            return ()
        heard = self._ask.receive(reply, now, jitter, self._clock_at(now))
        match heard.answer:
            case None | Receipt():  # nothing here is answered by a receipt
                return heard.effects
            case Content():
                return heard.effects + self._package_arrived(heard.answer, self._ask, now)
            case Problem() as problem:
                return heard.effects + self._failed(Fail(problem.as_error()))
            case _:
                assert_never(heard.answer)

    def timeout(self, now: float, jitter: float) -> Effects:
        """Say that the deadline passed, or that no answer will come to what was sent."""
        if self._next is not None:
            return self._next.timeout(now, jitter)
        if self._ask is None:
            raise LocalProtocolError(f"an exchange that is {self._state.value} has no deadline")
        if self._pace.is_over(now):
            self._state, self._ask = State.FAILED, None
            return (Fail(ExchangeTimeout(f"no usable answer in {self._patience.give_up:g} s")),)
        if self._pace.is_paused:
            return self._ask.repeat(now)
        self._pace.pause(now, jitter)
        return ()

    def _package_arrived(self, content: Content, ask: Ask, now: float) -> Effects:
        request = ask.request
        if content.media is not Media.CONTRACT_PACKAGE or request is None:
            return ()
        order, clock = self._order, self._clock_at(now)
        # From the request: its name may be of another day, if it was stored.
        name = KeyRequest.decode(decode_sign1(request).payload).name
        granted = None if order.op is Operation.SEN else name
        expected = Expected(order.profile, order.root, order.agreement, granted)
        try:
            delivered = open_package(content.body, request, expected, self._trust, clock)
        except (MalformedMessage, RequestRejected):
            return ()
        except CertificateUnusable as error:
            return self._failed(Fail(error))
        self._next = Enrollment(
            self._trust,
            Order(
                profile=order.profile,
                op=order.op,
                requester=order.requester,
                new_key=order.adopt(delivered.key),
                certificate=delivered.certificate,
                unusable=delivered.unusable,
            ),
            clock,
            self._patience,
        )
        confirm = self._next.start(now)
        if delivered.unusable is not None:
            return confirm
        return (InstallKey(delivered.certificate, delivered.key), *confirm)

    def _failed(self, fail: Fail) -> Effects:
        self._state, self._ask = State.FAILED, None
        return (Discard(), fail)

    def _clock_at(self, now: float) -> Clock:
        wall = self._clock.now
        return self._clock if wall is None else Clock(wall + int(now - self._started), self._clock.floor)
