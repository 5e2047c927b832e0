"""Which meters of a fleet get new keys now: a pure function of what is known of each.

A fleet that was set up in one night must not come back in one night, so each meter is due a share of the
interval early, by a hash of its title and generation: spread evenly, the same after every restart, and
another share after every rollover.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from protocol.metering.title import SystemTitle


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How often, and how many at a time."""

    interval: float
    """Longest life of a generation of keys, in seconds, > 0."""
    jitter: float = 0.2
    """Share of the interval, 0 to 1, by which a meter is due early at most."""
    parallel: int = 100
    """Rollovers under way at a time: what the network and the meters' concentrators bear."""
    invocations: int = 1 << 31
    """Messages under one generation after which a meter is due at once: half of what the counter has."""


@dataclass(frozen=True, slots=True)
class MeterRecord:
    """What the schedule knows of one meter."""

    title: SystemTitle
    generation: int
    """Of the keys in use."""
    since: float
    """When they came into use, POSIX seconds."""
    is_under_way: bool = False
    """Whether its next rollover has begun; such a one is never begun again, and fills a place."""
    not_before: float = 0.0
    """Earliest next try, POSIX seconds: later than now after a refusal."""
    invocations: int = 0
    """Highest invocation counter that either side has used with the keys."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do now."""

    start: tuple[SystemTitle, ...]
    """Begin with these, the longest overdue first."""
    wake_at: float
    """When to ask again if none ends before, POSIX seconds: at once if some are due and found no place, which
    only the end of another gives them; infinite for a fleet without meters."""


def due_at(record: MeterRecord, policy: Policy) -> float:
    """Return when a meter's keys are to be renewed, POSIX seconds."""
    if record.invocations >= policy.invocations:
        return max(record.since, record.not_before)
    digest = sha256(record.title.octets + record.generation.to_bytes(4, "big")).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    return max(record.since + policy.interval * (1 - policy.jitter * share), record.not_before)


def choose(fleet: Iterable[MeterRecord], now: float, policy: Policy) -> Choice:
    """Return which meters' rollovers to begin.

    Args:
        fleet: Each meter once; read through once.
        now: POSIX seconds.
        policy: How often, and how many at a time.
    """
    busy = 0
    due: list[tuple[float, SystemTitle]] = []
    wake_at = float("inf")
    for record in fleet:
        if record.is_under_way:
            busy += 1
            continue
        at = due_at(record, policy)
        if at <= now:
            due.append((at, record.title))
        else:
            wake_at = min(wake_at, at)
    places = max(0, policy.parallel - busy)
    start = tuple(title for _, title in heapq.nsmallest(places, due))
    return Choice(start, now if len(due) > len(start) else wake_at)
