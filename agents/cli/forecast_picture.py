"""A forecast as a picture: renewals stacked by label, their mean, and below them what nobody renews."""

import math
from collections import Counter
from typing import Final

from agents.authority.outlook import EXCEPTIONAL, Bar, Forecast
from agents.cli.forecast_words import peak, tick, title
from agents.cli.picture import Line, Picture, Rectangle, Shape, Words

WIDTH: Final = 960
_LEFT, _RIGHT, _TOP = 76, 24, 92
_HEIGHT: Final = 300
_EXPIRIES: Final = 90
_COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#777777")
"""Told apart by most people who see fewer colours (Okabe and Ito); the last is for all other labels."""
_RED: Final = "#b2182b"
_GRID: Final = "#dddddd"
_FAINT: Final = "#777777"
_TICK_SPACE: Final = 74
"""Units that a date takes below a bar."""


def draw(found: Forecast) -> Picture:
    """Return the picture."""
    shown = _shown(found)
    ends = max(bar.ends for bar in found.bars)
    shapes: list[Shape] = [
        Words(_LEFT, 32, title(found), 18, fill="#111111"),
        Words(_LEFT, 54, peak(found), 12),
        *_legend(shown),
    ]
    top = _scale(max(bar.load for bar in found.bars))
    base = _TOP + _HEIGHT
    shapes += _grid(top, base, _HEIGHT)
    if found.renewals:
        shapes += _means(found, top, base)
    width = (WIDTH - _LEFT - _RIGHT) / len(found.bars)
    gap = 1.5 if width > 5 else 0.0
    for index, bar in enumerate(found.bars):
        x = _LEFT + index * width
        y = float(base)
        for label, colour in shown.items():
            height = _load(bar, label, shown) / top * _HEIGHT
            y -= height
            if height:
                shapes.append(Rectangle(x, y, width - gap, height, colour))
    if ends:
        shapes += _expiries(found, ends, base + 56, width, gap)
        base += 56 + _EXPIRIES
    shapes += _ticks(found, width, base)
    return Picture(WIDTH, base + 48, f"{title(found)}. {peak(found)}.", shapes)


def _shown(found: Forecast) -> dict[str, str]:
    """Return the colours of the labels with the most renewals; "others" for the rest."""
    totals: Counter[str] = Counter()
    for bar in found.bars:
        totals.update(bar.renewals)
    most = [label for label, _ in totals.most_common()]
    if len(most) > len(_COLOURS):
        most = [*most[: len(_COLOURS) - 1], "others"]
    return dict(zip(most, _COLOURS, strict=False))


def _load(bar: Bar, label: str, shown: dict[str, str]) -> int:
    if label != "others":
        return bar.renewals.get(label, 0)
    return sum(count for one, count in bar.renewals.items() if one not in shown)


def _scale(most: int) -> int:
    """Return a round number >= `most`, the upper end of an axis."""
    if most <= 4:
        return 4
    power = int(10 ** math.floor(math.log10(most)))
    return next(
        power * step // 10 for step in (10, 12, 16, 20, 24, 32, 40, 60, 80, 100) if power * step >= 10 * most
    )


def _grid(top: int, base: int, height: int) -> list[Shape]:
    shapes: list[Shape] = []
    for part in range(5):
        y = base - height * part / 4
        shapes.append(Line(_LEFT, y, WIDTH - _RIGHT, y, "#333333" if part == 0 else _GRID))
        shapes.append(Words(_LEFT - 8, y + 4, f"{top * part / 4:,.6g}", 11, "end", _FAINT))
    return shapes


def _means(found: Forecast, top: int, base: int) -> list[Shape]:
    """Return the lines of the mean and of what is exceptional, for a bar of the usual length."""
    usual = max(bar.stretch.days for bar in found.bars)
    mean = found.daily_mean * usual
    shapes: list[Shape] = []
    for load, said in ((mean, "mean"), (mean * EXCEPTIONAL, f"{EXCEPTIONAL:.0%}")):
        y = base - load / top * _HEIGHT
        if load <= top:
            shapes.append(Line(_LEFT, y, WIDTH - _RIGHT, y, _FAINT, is_dashed=True))
            shapes.append(Words(WIDTH - _RIGHT, y - 4, said, 10, "end", _FAINT))
    return shapes


def _expiries(found: Forecast, most: int, top: int, width: float, gap: float) -> list[Shape]:
    said = f"Certificates that end and that nobody renews (at most {most:,} per {found.by.value})"
    base = top + _EXPIRIES
    shapes: list[Shape] = [
        Words(_LEFT, top - 10, said, 12, fill=_RED),
        Line(_LEFT, base, WIDTH - _RIGHT, base, "#333333"),
        Words(_LEFT - 8, base + 4, "0", 11, "end", _FAINT),
        Words(_LEFT - 8, top + 4, f"{most:,}", 11, "end", _FAINT),
    ]
    for index, bar in enumerate(found.bars):
        if bar.ends:
            height = max(1.0, bar.ends / most * _EXPIRIES)
            shapes.append(Rectangle(_LEFT + index * width, base - height, width - gap, height, _RED))
    return shapes


def _ticks(found: Forecast, width: float, base: int) -> list[Shape]:
    shapes: list[Shape] = []
    every = max(1, math.ceil(_TICK_SPACE / width))
    before: Bar | None = None
    for bar, index in zip(found.bars[::every], range(0, len(found.bars), every), strict=True):
        x = _LEFT + index * width
        if x + _TICK_SPACE / 2 > WIDTH:
            break
        shapes.append(Line(x, base, x, base + 4, "#333333"))
        shapes.append(Words(x, base + 18, tick(bar, found.by, before), 11, "start", _FAINT))
        before = bar
    return shapes


def _legend(shown: dict[str, str]) -> list[Shape]:
    shapes: list[Shape] = []
    x = float(_LEFT)
    for label, colour in shown.items():
        shapes.append(Rectangle(x, 66, 10, 10, colour))
        shapes.append(Words(x + 15, 75, label, 11))
        x += 34 + 6.8 * len(label)
    return shapes
