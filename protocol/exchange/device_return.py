"""The device gives a certificate of its own back.

    IDLE ──start──> RETURNING ──receipt, or refused because it is revoked already: Drop──> DONE
                        └────── any other signed refusal, out of time ──> FAILED

Nothing is stored before it is sent: after power loss the device still has the certificate, and gives it
back again.
"""

import math
from typing import assert_never

from protocol import c509
from protocol.errors import ExchangeTimeout, LocalProtocolError, ProblemKind, RequestRejected
from protocol.exchange.device import State
from protocol.exchange.device_ask import Ask
from protocol.exchange.device_effects import Credential, Done, Drop, Effects, Fail
from protocol.exchange.device_pace import Pace, Patience
from protocol.exchange.device_trust import Trust
from protocol.exchange.request import Door, Revocation, RevocationReason
from protocol.labels import Operation
from protocol.ports import Content, Reply
from protocol.problem import Problem
from protocol.receipt import Receipt
from protocol.validity import Clock


class GiveBack:
    """Has one certificate revoked at the device's own wish.

    Args:
        trust: What the device believes of its authority.
        label: Under which the certificate was issued.
        certificate: The certificate to give back, encoded.
        signer: Of `profile.rekeyed_by`; may be the certificate itself.
        reason: Why.
        clock: What is known of the time at `start`.
        patience: Limits of waiting.
    """

    def __init__(
        self,
        trust: Trust,
        label: str,
        certificate: bytes,
        signer: Credential,
        reason: RevocationReason,
        clock: Clock,
        patience: Patience | None = None,
    ) -> None:
        anchor = trust.anchor
        self._trust = trust
        self._door = Door(anchor.authority, label, Operation.REV, anchor.epoch)
        serial = c509.decode_certificate(certificate).serial
        self._payload = Revocation(anchor.authority, serial, reason).encode()
        self._signer = signer
        self._is_signed_by_itself = signer.certificate == certificate
        self._clock = clock
        self._patience = patience or Patience()
        self._pace = Pace(self._patience, 0.0)
        self._ask: Ask | None = None
        self.state = State.IDLE
        """Where the exchange is."""

    @property
    def deadline(self) -> float:
        """When to call `timeout` if nothing comes; infinite before the start and after the end."""
        return self._pace.deadline if self._ask is not None else math.inf

    def start(self, now: float) -> Effects:
        """Begin."""
        if self.state is not State.IDLE:
            raise LocalProtocolError(f"an exchange that is {self.state.value} cannot start")
        self.state = State.RETURNING
        self._pace = Pace(self._patience, now)
        self._ask = Ask(self._trust, self._pace, self._signer, self._door, self._payload)
        return self._ask.start(now)

    def receive(self, reply: Reply, now: float, jitter: float) -> Effects:
        """Take a reply; noise gives no effects and leaves the deadline as it is."""
        if self._ask is None:
            return ()
        heard = self._ask.receive(reply, now, jitter, self._clock)
        match heard.answer:
            case None | Content():
                return heard.effects
            case Receipt():
                return (*heard.effects, Drop(), self._end(State.DONE, Done()))
            case Problem(ProblemKind.SIGNER_REVOKED) if self._is_signed_by_itself:
                # The receipt of an earlier attempt was lost, or somebody else was quicker.
                return (*heard.effects, Drop(), self._end(State.DONE, Done()))
            case Problem(kind, detail, retry_after):
                error = RequestRejected(kind, detail, retry_after)
                return (*heard.effects, self._end(State.FAILED, Fail(error)))
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

    def _end(self, state: State, effect: Done | Fail) -> Done | Fail:
        self.state = state
        self._ask = None
        return effect
