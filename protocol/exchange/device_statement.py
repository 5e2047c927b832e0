"""A device states something, signed, until its authority has said what it makes of it.

    IDLE ──start──> at work ──signed receipt──────> DONE
                       └── signed refusal, out of time ──> FAILED

Nothing is stored before it is sent: after power loss it is stated anew.
"""

import math
from typing import assert_never

from protocol.errors import ExchangeTimeout, LocalProtocolError
from protocol.exchange.device import State
from protocol.exchange.device_ask import Ask
from protocol.exchange.device_effects import Credential, Done, Effects, Fail
from protocol.exchange.device_pace import Pace, Patience
from protocol.exchange.device_trust import Trust
from protocol.exchange.request import Door
from protocol.labels import Operation
from protocol.ports import Content, Reply
from protocol.problem import Problem
from protocol.receipt import Receipt
from protocol.validity import Clock


class Statement:
    """One statement and its repetitions; what it means is its subclass's.

    Args:
        trust: What the device believes of its authority.
        label: At whose door.
        op: `rev` or `conf`.
        payload: What is stated.
        signer: Who states it.
        at_work: The state in which it waits for its answer.
        clock: What is known of the time at `start`.
        patience: Limits of waiting.
    """

    def __init__(
        self,
        trust: Trust,
        label: str,
        op: Operation,
        payload: bytes,
        signer: Credential,
        at_work: State,
        clock: Clock,
        patience: Patience | None = None,
    ) -> None:
        anchor = trust.anchor
        self._trust = trust
        self._door = Door(anchor.authority, label, op, anchor.epoch)
        self._payload = payload
        self._signer = signer
        self._at_work = at_work
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
        self.state = self._at_work
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
                return (*heard.effects, *self.agreed(), self._end(State.DONE, Done()))
            case Problem() as problem:
                effects = self.refused(problem)
                if effects is not None:
                    return (*heard.effects, *effects, self._end(State.DONE, Done()))
                return (*heard.effects, self._end(State.FAILED, Fail(problem.as_error())))
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

    def agreed(self) -> Effects:
        """Return what a receipt brings about."""
        return ()

    def refused(self, problem: Problem) -> Effects | None:
        """Return what a signed refusal brings about that is as good as a receipt; None for any other."""
        return None

    def _end(self, state: State, effect: Done | Fail) -> Done | Fail:
        self.state = state
        self._ask = None
        return effect
