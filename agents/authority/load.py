"""How many renewals come when: arithmetic on counts per hour, without a store and without a clock.

The first renewal of each certificate is known to the second (`protocol.renewal`). What comes after it depends
on when exactly that one happens, so later generations are expected values: each hour's renewals come again
spread evenly over the window that their profile opens, and those again, as far as the forecast goes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from protocol.profiles import Profile

HOUR: Final = 3600
DAY: Final = 24 * HOUR


class By(StrEnum):
    """What one bar stands for; weeks begin on Monday, everything in UTC."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the time ahead, one bar wide."""

    begins: int
    """POSIX seconds, midnight UTC."""
    days: int


def midnight(moment: int) -> int:
    """Return the beginning of the day (UTC) that `moment` is in, POSIX seconds."""
    return moment - moment % DAY


def stretches(begins: int, days: int, by: By) -> tuple[Stretch, ...]:
    """Return the time from `begins` on, cut at the ends of days, weeks or months.

    Args:
        begins: POSIX seconds, a midnight UTC.
        days: How many; the first and the last stretch may be cut short.
        by: Where to cut.
    """
    made: list[Stretch] = []
    start = begins
    end = begins + days * DAY
    while start < end:
        stop = min(end, _next_cut(start, by))
        made.append(Stretch(start, (stop - start) // DAY))
        start = stop
    return tuple(made)


def _next_cut(start: int, by: By) -> int:
    today = datetime.fromtimestamp(start, UTC)
    match by:
        case By.DAY:
            return start + DAY
        case By.WEEK:
            return start + (7 - today.weekday()) * DAY
        case By.MONTH:
            return int((today.replace(day=28) + timedelta(days=4)).replace(day=1).timestamp())


def all_generations(first: Sequence[int], profile: Profile) -> list[float]:
    """Return the renewals of each hour, those of later generations included.

    Args:
        first: Of each hour, how many certificates that exist now are renewed in it.
        profile: Of their label. One that is renewed within the hour counts once an hour.
    """
    if profile.validity is None:
        return [float(count) for count in first]
    hours = profile.validity / HOUR
    wait = max(1, round(profile.renew_after * hours))
    width = max(1, round(profile.renew_spread * hours))
    change = [0.0] * (len(first) + wait + width + 1)
    total: list[float] = []
    again = 0.0
    for hour, count in enumerate(first):
        again += change[hour]
        total.append(count + max(0.0, again))
        change[hour + wait] += total[-1] / width
        change[hour + wait + width] -= total[-1] / width
    return total


def whole(loads: Iterable[float]) -> list[int]:
    """Return `loads` as whole numbers whose sums are right: what is rounded off here is added there."""
    made: list[int] = []
    told = 0
    total = 0.0
    for load in loads:
        total += load
        made.append(round(total) - told)
        told += made[-1]
    return made


def listed(renewals: Sequence[float], profile: Profile, kept: int) -> list[float]:
    """Return by how much the renewals of each hour change the number of superseded certificates on a list.

    Args:
        renewals: Of each hour.
        profile: Of their label: a certificate is listed from its renewal to its own end.
        kept: Seconds for which it stays there after its end.
    """
    change = list(renewals)
    if profile.validity is None:
        return change
    left = (1 - profile.renew_after - profile.renew_spread / 2) * profile.validity + kept
    stays = max(1, round(left / HOUR))
    for hour, count in enumerate(renewals[: max(0, len(renewals) - stays)]):
        change[hour + stays] -= count
    return change
