"""What a bad network does to one direction of one conversation: sans-I/O, time as an argument.

    take(item, now) -> Fate: what leaves at once      due(now) -> what was held back until now

Every item is first lost or not; one that is not lost may travel twice; and each copy may be held back,
so that later ones overtake it.
"""

import heapq
from dataclasses import dataclass
from random import Random
from typing import Final, Generic, TypeVar

T = TypeVar("T")

MAX_HOLD: Final = 0.25
"""Longest time that an item is held back, in seconds: longer than a round trip on loopback, so that
others really overtake, and shorter than a device's first retransmission."""
MAX_HELD: Final = 1024
"""Most items held back at once in one direction; what comes on top leaves at once."""


@dataclass(frozen=True, slots=True)
class Faults:
    """How bad the network is; each is a probability in 0..1."""

    drop: float = 0.0
    """That an item is lost."""
    repeat: float = 0.0
    """That an item which is not lost travels twice."""
    reorder: float = 0.0
    """That a copy is held back for up to `MAX_HOLD` seconds."""

    def __post_init__(self) -> None:
        for name in ("drop", "repeat", "reorder"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a probability, 0 to 1")

    @classmethod
    def of_loss(cls, probability: float) -> "Faults":
        """Return what `--loss P` means: P lost, P of the others repeated, P of the copies held back."""
        return cls(probability, probability, probability)


@dataclass(slots=True)
class Counts:
    """What was done to whom; one object may count for many directions."""

    passed: int = 0
    """Items that came in, whatever became of them."""
    dropped: int = 0
    repeated: int = 0
    held: int = 0


@dataclass(frozen=True, slots=True)
class Fate(Generic[T]):
    """What becomes of one item."""

    leaving: list[T]
    """What goes on at once."""
    copies: int
    """How often it will have gone on in the end: 0 lost, 1, or 2."""


class Mangler(Generic[T]):
    """One direction of a conversation.

    Args:
        faults: How bad it is.
        random: Source of every decision; equal seeds and equal items give equal fates.
        counts: Where to count; may be shared.
    """

    def __init__(self, faults: Faults, random: Random, counts: Counts) -> None:
        self._faults = faults
        self._random = random
        self._counts = counts
        self._held: list[tuple[float, int, T]] = []
        self._sequence = 0

    @property
    def deadline(self) -> float | None:
        """When `due` next has something to give, on the caller's clock; None while nothing is held."""
        return self._held[0][0] if self._held else None

    def take(self, item: T, now: float, *, again: T | None = None) -> Fate[T]:
        """Decide what becomes of `item`, which comes in now.

        Args:
            item: What comes in.
            now: Seconds, on the clock of `deadline`.
            again: What a second copy looks like; like the first if None.
        """
        self._counts.passed += 1
        if self._random.random() < self._faults.drop:
            self._counts.dropped += 1
            return Fate([], 0)
        copies = [item]
        if self._random.random() < self._faults.repeat:
            self._counts.repeated += 1
            copies.append(item if again is None else again)
        leaving: list[T] = []
        for copy in copies:
            if self._random.random() < self._faults.reorder and len(self._held) < MAX_HELD:
                self._counts.held += 1
                self._sequence += 1
                until = now + self._random.uniform(0.0, MAX_HOLD)
                heapq.heappush(self._held, (until, self._sequence, copy))
            else:
                leaving.append(copy)
        return Fate(leaving, len(copies))

    def due(self, now: float) -> list[T]:
        """Return what was held back until `now`, in the order of its release."""
        leaving: list[T] = []
        while self._held and self._held[0][0] <= now:
            leaving.append(heapq.heappop(self._held)[2])
        return leaving

    def flush(self) -> list[T]:
        """Return everything that is held back; nothing is held afterwards."""
        return self.due(float("inf"))
