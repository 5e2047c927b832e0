"""What a station does for its cars, as a table: bounds, deadlines and who waits for what. No I/O, no clock.

    ask ──> OPEN ──answered──> ANSWERED ──take, or nobody came──> gone
              └──the car asks something else, or does not come back──> gone

What everybody may ask (`crts`, `att`, `crl`) is read block by block, each block a question of its own; so
such an answer stays a little while after it was handed over.

An errand is one question of a car, its very bytes. It outlives the car's patience: the car is told `pending`
when its time is up, and finds the answer at its next try. Doing an errand twice is harmless, because the
authority answers equal bytes with the equal answer; so whatever is dropped here costs a car a repeat and
nothing else.

Times are seconds on one clock that never goes back.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from protocol.errors import ProblemKind
from protocol.ports import Content, Outbound, Pending, Reply, SignedRefusal
from protocol.problem import Problem

DEADLINE: Final = 4.5
"""Seconds in which a station answers a car that installs a certificate; the car gives up after 5
(ISO 15118-2, V2G_SECC_Msg_Performance_Time of CertificateInstallationReq)."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a station does for strangers on its cable."""

    cars: int = 16
    """Cars with an errand in work: a station has a few plugs; one more is told to come back."""
    answer_bytes: int = 1024 * 1024
    """Longest answer that is passed on: a package is 16 KiB at most, the rest is for revocation lists."""
    kept_bytes: int = 4 * 1024 * 1024
    """Answers that wait for their cars, together; the oldest makes room."""
    kept: int = 64
    """And how many; signed answers are short."""
    answer_within: float = DEADLINE - 0.25
    """Seconds after which a car is told `pending`; what is left is for the cable."""
    come_back: float = 2.0
    """Seconds that a car is told to wait where nobody knows better."""
    ask_again: float = 4.0
    """Seconds after which the back end is asked again: MQTT does not say when nobody has heard a question.
    Each attempt is twice as long as the one before."""
    fresh: float = 5.0
    """Seconds that an answer to a question without a body is handed out to whoever asks, from its first block
    on. Longer ones are kept for their later blocks by the endpoint itself (`constrained.blocks.LONG`)."""
    interest: float = 60.0
    """Seconds that an errand goes on, and an answer is kept, after its car has last asked for it."""


class Errand:
    """One question on its way. Made by `Errands.ask`."""

    __slots__ = (
        "again_at",
        "answered_at",
        "asked_at",
        "cars",
        "handed_at",
        "is_gone",
        "on_change",
        "question",
        "reply",
    )

    def __init__(self, question: Outbound, now: float) -> None:
        self.question = question
        self.cars: dict[str, int] = {}
        """How many requests of each car wait for the answer now; 0: it was told to come back."""
        self.asked_at = now
        self.again_at: float | None = None
        """When the back end is asked next, if it said so."""
        self.reply: Reply | None = None
        self.answered_at = now
        self.handed_at: float | None = None
        """When it was first handed over."""
        self.is_gone = False
        self.on_change: Callable[[], None] = lambda: None
        """Called when it is answered or dropped; set by whoever does the errand."""

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for the answer just now."""
        return any(self.cars.values())


_Key = tuple[str, str, bytes, object, object]


def _key(question: Outbound) -> _Key:
    return question.label, question.op.value, question.body, question.accept, question.base


def length_of(reply: Reply) -> int:
    """Return the bytes of an answer's body."""
    return len(reply.body) if isinstance(reply, (Content, SignedRefusal)) else 0


@dataclass
class Counts:
    """What a station has done since it started."""

    asked: int = 0
    answered: int = 0
    """Answers handed to a car."""
    pending: int = 0
    """Cars that were told to come back, because the back end took longer than they may wait."""
    turned_away: int = 0
    """Questions beyond the bounds."""
    dropped: int = 0
    """Errands that nobody wanted any more, answered or not."""


@dataclass
class Errands:
    """The errands of one station.

    Args:
        bounds: How many, how long.
    """

    bounds: Bounds = field(default_factory=Bounds)
    counts: Counts = field(default_factory=Counts)
    _errands: dict[_Key, Errand] = field(default_factory=dict[_Key, Errand])

    @property
    def in_work(self) -> int:
        """Errands without an answer so far."""
        return sum(errand.reply is None for errand in self._errands.values())

    @property
    def kept(self) -> int:
        """Answers that wait for their cars."""
        return len(self._errands) - self.in_work

    def ask(self, car: str, question: Outbound, now: float) -> Errand | Problem:
        """Return the errand that answers `question`, new or under way; a problem where there is no room.

        Every errand that comes back is `left` once.

        Args:
            car: Who asks.
            question: What.
            now: The time.
        """
        self.counts.asked += 1
        self._expire(now)
        key = _key(question)
        errand = self._errands.get(key)
        for other in self._open(car):
            if other is errand:
                continue
            if other.cars[car]:
                return self._turn_away("one question at a time", 1.0)
            # It was told to come back, and has come for something else.
            del other.cars[car]
            if not other.cars:
                self._drop(other)
        if errand is None or errand.reply is None:
            busy = {one for open_ in self._open() for one in open_.cars}
            if car not in busy and len(busy) >= self.bounds.cars:
                return self._turn_away("no room for another car", self.bounds.come_back)
        if errand is None:
            errand = self._errands[key] = Errand(question, now)
        errand.asked_at = now
        errand.cars[car] = errand.cars.get(car, 0) + 1
        return errand

    def deadline(self, now: float) -> float:
        """Return until when a car that asks now may be kept waiting."""
        return now + self.bounds.answer_within

    def left(self, errand: Errand, car: str, now: float) -> Reply:
        """Return what a car is told that has waited for `errand`, once its answer or the deadline is there.

        An answer that was handed over is forgotten: should it be lost on the cable, the car asks again. What
        comes in blocks stays for a while.
        """
        if car in errand.cars:
            errand.cars[car] -= 1
        if errand.reply is None:
            self.counts.pending += 1
            wait = self.bounds.come_back if errand.again_at is None else errand.again_at - now
            return Pending(float(max(1, math.ceil(wait))))
        if errand.handed_at is None:
            errand.handed_at = now
        is_shared = isinstance(errand.reply, Content) and not errand.question.op.has_body
        if not errand.is_awaited and not is_shared:
            self._forget(errand)
        self.counts.answered += 1
        return errand.reply

    def abandon(self, errand: Errand, car: str) -> None:
        """Note that a car stopped waiting and was told nothing."""
        if car in errand.cars:
            errand.cars[car] -= 1

    def is_wanted(self, errand: Errand, now: float) -> bool:
        """Return whether the back end is to be asked (again) for `errand`; one that is not is dropped."""
        if errand.is_gone or errand.reply is not None:
            return False
        if not errand.is_awaited and now - errand.asked_at > self.bounds.interest:
            self._drop(errand)
            return False
        return True

    def wait(self, errand: Errand, now: float, seconds: float) -> float:
        """Note that the back end asks for `seconds`; return when to ask it again.

        Nobody vouches for that number, so it is no longer than the car's interest lasts.
        """
        errand.again_at = now + min(max(1.0, seconds), self.bounds.interest)
        return errand.again_at

    def answered(self, errand: Errand, reply: Reply, now: float) -> None:
        """Note an answer; it waits for its car."""
        if errand.is_gone or errand.reply is not None:
            return
        if length_of(reply) > self.bounds.answer_bytes:
            reply = Problem(ProblemKind.TOO_LARGE, "longer than a station passes on")
        errand.reply, errand.answered_at = reply, now
        self._make_room()
        errand.on_change()

    def _open(self, car: str | None = None) -> list[Errand]:
        return [
            errand
            for errand in self._errands.values()
            if errand.reply is None and (car is None or car in errand.cars)
        ]

    def _turn_away(self, why: str, seconds: float) -> Problem:
        self.counts.turned_away += 1
        return Problem(ProblemKind.OVERLOADED, why, seconds)

    def _make_room(self) -> None:
        kept = sorted(
            (errand for errand in self._errands.values() if errand.reply is not None),
            key=lambda errand: errand.answered_at,
        )
        size = sum(length_of(errand.reply) for errand in kept if errand.reply is not None)
        while kept and (size > self.bounds.kept_bytes or len(kept) > self.bounds.kept):
            oldest = kept.pop(0)
            assert oldest.reply is not None
            size -= length_of(oldest.reply)
            # Whoever waits for it holds it, and gets it all the same.
            self._forget(oldest)
            self.counts.dropped += 1

    def _expire(self, now: float) -> None:
        for errand in list(self._errands.values()):
            if errand.is_awaited:
                continue
            if errand.handed_at is not None:
                if now - errand.handed_at > self.bounds.fresh:
                    self._forget(errand)
            elif now - max(errand.asked_at, errand.answered_at) > self.bounds.interest:
                self._drop(errand)

    def _drop(self, errand: Errand) -> None:
        self.counts.dropped += 1
        self._forget(errand)
        errand.on_change()

    def _forget(self, errand: Errand) -> None:
        errand.is_gone = True
        key = _key(errand.question)
        if self._errands.get(key) is errand:
            del self._errands[key]
