"""`trillium forecast`: what is coming, on the terminal, as JSON, as a picture."""

import time
from pathlib import Path
from typing import Any

from agents.authority import BadDirectory
from agents.authority.forecast import forecast
from agents.authority.load import By
from agents.authority.outlook import EXCEPTIONAL, Bar, Forecast
from agents.cli import forecast_picture, forecast_terminal
from agents.cli.failure import REFUSED, USAGE, Failure
from agents.cli.inventory_command import opened
from agents.cli.output import print_json
from agents.cli.picture import NoPillow
from agents.inspect.words import day


def run(
    directory: Path, *, days: int, by: str | None, png: Path | None, svg: Path | None, as_json: bool
) -> None:
    """Look ahead.

    Args:
        directory: The authority's.
        days: How far.
        by: What one bar stands for, a value of `By`; None: what fits.
        png: Picture to write, if any.
        svg: Likewise.
        as_json: Write one JSON document instead of words.

    Raises:
        Failure: Not an authority's directory, or a picture cannot be made or written.
    """
    if by is not None and by not in tuple(By):
        raise Failure(f"--by {by}: {', '.join(By)}", USAGE)
    step = fitting(days) if by is None else By(by)
    with opened(directory) as store:
        try:
            found = forecast(store, directory, int(time.time()), days=days, by=step)
        except BadDirectory as error:
            raise Failure(str(error), REFUSED) from None
    if svg is not None:
        _write(svg, forecast_picture.draw(found).to_svg().encode())
    if png is not None:
        try:
            _write(png, forecast_picture.draw(found).to_png())
        except NoPillow:
            raise Failure("--png needs Pillow: pip install 'trillium[plot]'; --svg needs nothing") from None
    if as_json:
        print_json(as_dict(found))
    else:
        forecast_terminal.show(found)


def fitting(days: int) -> By:
    """Return what one bar stands for, so that some dozens of them cover so many days."""
    if days <= 62:
        return By.DAY
    return By.WEEK if days <= 430 else By.MONTH


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror or error}") from None


def as_dict(found: Forecast) -> dict[str, Any]:
    """Return a forecast as JSON has it; times are POSIX seconds, days are UTC."""
    return {
        "now": found.now,
        "begins": found.begins,
        "days": found.days,
        "by": found.by.value,
        "renewals": found.renewals,
        "daily_mean": round(found.daily_mean, 3),
        "exceptional_above": EXCEPTIONAL,
        "peak": None if found.peak is None else _bar(found, found.peak),
        "bars": [_bar(found, bar) for bar in found.bars],
        "labels": [
            {
                "label": one.label,
                "current": one.current,
                "renewals": one.renewals,
                "silent": one.silent,
                "expiries": one.expiries,
                "lapsed": one.lapsed,
            }
            for one in found.labels
        ],
        "authorities": [
            {"name": ca.name, "not_after": ca.not_after, "shortens_from": ca.shortens_from}
            for ca in found.cas
        ],
        "revocation_lists": [
            {
                "domain": one.domain.value,
                "entries": one.entries,
                "most": one.most,
                "most_bytes": one.most_bytes,
            }
            for one in found.lists
        ],
    }


def _bar(found: Forecast, bar: Bar) -> dict[str, Any]:
    return {
        "begins": day(bar.stretch.begins),
        "days": bar.stretch.days,
        "renewals": dict(bar.renewals),
        "expiries": dict(bar.expiries),
        "load": bar.load,
        "times_mean": round(found.times_mean(bar), 3),
    }
