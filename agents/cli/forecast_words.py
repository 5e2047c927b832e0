"""A forecast in words: what its terminal chart and its picture say alike."""

from datetime import UTC, datetime

from agents.authority.load import By
from agents.authority.outlook import EXCEPTIONAL, Bar, Forecast
from agents.inspect.words import day


def title(found: Forecast) -> str:
    """Return what is shown."""
    return f"Renewals per {found.by.value}, {day(found.begins)} to {day(_last(found))}"


def _last(found: Forecast) -> int:
    last = found.bars[-1].stretch
    return last.begins + (last.days - 1) * 24 * 3600


def when(bar: Bar, by: By) -> str:
    """Return when a bar is, inside a sentence."""
    match by:
        case By.DAY:
            return f"on {day(bar.stretch.begins)}"
        case By.WEEK:
            return f"in the week of {day(bar.stretch.begins)}"
        case By.MONTH:
            return f"in {datetime.fromtimestamp(bar.stretch.begins, UTC):%B %Y}"


def peak(found: Forecast) -> str:
    """Return the fullest bar in a sentence, and how exceptional that is."""
    fullest = found.peak
    if fullest is None:
        return f"no renewals in the next {found.days} days"
    said = (
        f"peak: {fullest.load:,} renewals {when(fullest, found.by)}, "
        f"{found.times_mean(fullest):.1f} times the mean"
    )
    exceptional = sum(map(found.is_exceptional, found.bars))
    if not exceptional:
        return f"{said}: nothing exceptional"
    where = f"{exceptional} {found.by.value}{'' if exceptional == 1 else 's'}"
    return f"{said}; more than {EXCEPTIONAL:.0%} of the mean is exceptional ({where})"


def tick(bar: Bar, by: By, before: Bar | None) -> str:
    """Return what stands under a bar; the year only where it is another one than `before`'s."""
    here = datetime.fromtimestamp(bar.stretch.begins, UTC)
    is_new = before is None or datetime.fromtimestamp(before.stretch.begins, UTC).year != here.year
    if by is By.MONTH:
        return f"{here:%b %Y}" if is_new else f"{here:%b}"
    return f"{here:%Y-%m-%d}" if is_new else f"{here:%m-%d}"
