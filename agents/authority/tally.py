"""What an authority did since it started: counts for people, and the junk that is not worth a record each."""

import threading
from collections import Counter
from collections.abc import Sequence

from agents.authority.audit import Entry, Event
from protocol.errors import ProblemKind
from protocol.exchange.authority_effects import Confirm, Done, Issued, Outcome, Packaged, Revoke

MAX_HINT_LINES_PER_SECOND = 20
"""Log lines about requests that are not authentic; beyond, they are only counted."""


class Tally:
    """Counters. Threads: any; each is only ever added to."""

    def __init__(self) -> None:
        self.issued = 0
        self.confirmed = 0
        self.revoked = 0
        self.repeated = 0
        """Requests that were answered from memory."""
        self.refused: Counter[ProblemKind] = Counter()
        """Signed refusals, by kind."""
        self.hints: Counter[ProblemKind] = Counter()
        """Unsigned ones."""
        self._unrecorded: Counter[ProblemKind] = Counter()
        self._second = 0
        self._lines = 0
        self._lock = threading.Lock()

    def decided(
        self,
        issued: Sequence[Outcome],
        changed: Sequence[Outcome],
        changes: Sequence[tuple[object, Confirm | Revoke]],
    ) -> None:
        """Count what one group decided."""
        with self._lock:
            self.issued += sum(isinstance(outcome, (Issued, Packaged)) for outcome in issued)
            for (_, order), outcome in zip(changes, changed, strict=True):
                if isinstance(outcome, Done):
                    self.confirmed += isinstance(order, Confirm)
                    self.revoked += isinstance(order, Revoke)

    def hinted(self, kind: ProblemKind, now: float) -> bool:
        """Count one unsigned hint; return whether it should be logged."""
        with self._lock:
            self.hints[kind] += 1
            self._unrecorded[kind] += 1
            if int(now) != self._second:
                self._second, self._lines = int(now), 0
            self._lines += 1
            return self._lines <= MAX_HINT_LINES_PER_SECOND

    def take_junk(self) -> Entry | None:
        """Return one audit entry for all hints since the last one; None if there were none."""
        with self._lock:
            counted, self._unrecorded = self._unrecorded, Counter()
        if not counted:
            return None
        words = (f"{kind.name.lower()} {number}" for kind, number in sorted(counted.items()))
        return Entry(Event.JUNK, detail=", ".join(words))
