"""Is it time? A verdict with three values, because devices without a clock are normal.

A device that has no clock still knows a lower bound: the latest notBefore or thisUpdate that it has
verified lies in the past, so a certificate that ended before that is over, whatever the clock says.
"""

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """What can be said of a validity period."""

    VALID = "valid"
    NOT_YET = "not yet valid"
    EXPIRED = "expired"
    TIME_UNKNOWN = "time unknown"


@dataclass(frozen=True, slots=True)
class Clock:
    """What a party knows of the time, in POSIX seconds."""

    now: int | None
    """The wall clock; None on a device without one."""
    floor: int = 0
    """The latest verified notBefore or thisUpdate: it is later than this."""

    def judge(self, not_before: int, not_after: int | None) -> Verdict:
        """Return whether a period is on; `not_after` None never ends."""
        if not_after is not None and max(self.floor, self.now or 0) > not_after:
            return Verdict.EXPIRED
        if self.now is None:
            return Verdict.VALID if not_before <= self.floor and not_after is None else Verdict.TIME_UNKNOWN
        return Verdict.NOT_YET if max(self.floor, self.now) < not_before else Verdict.VALID

    def at_least(self, moment: int) -> "Clock":
        """Return this clock, knowing that it is later than `moment`."""
        return Clock(self.now, max(self.floor, moment))
