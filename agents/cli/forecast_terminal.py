"""A forecast on a terminal: columns of blocks, and tables below them; plain rows where nobody watches."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from agents.authority.outlook import Bar, CaEnd, Forecast
from agents.cli.forecast_words import peak, tick, title
from agents.cli.output import console, table
from agents.inspect.words import day

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

HEIGHT: Final = 10
"""Lines of the chart of renewals."""
_LOW: Final = 4
"""Lines of the chart of expiries."""
_MAX_WIDTH: Final = 6
"""Columns of one bar."""
_AXIS: Final = 10
"""Columns to the left of the bars."""
_TICK_SPACE: Final = 11
_EIGHTHS: Final = "▁▂▃▄▅▆▇█"
_PLAIN: Final = "#"
"""Where the terminal has no blocks."""

_Style = Callable[[Bar], str]


def show(found: Forecast) -> None:
    """Write a forecast to stdout."""
    out = console()
    out.print(title(found), style="bold")
    if out.is_terminal:
        blocks = _EIGHTHS if out.encoding.lower().startswith("utf") else _PLAIN
        for line in chart(found, out.width, blocks):
            out.print(line, no_wrap=True, overflow="crop")
    else:
        rows = [(day(bar.stretch.begins), f"{bar.load}", f"{bar.ends}") for bar in found.bars]
        out.print(table((found.by.value, "renewals", "end unrenewed"), rows, right=(1, 2)))
    out.print(peak(found), style="bold")
    if found.labels:
        out.print()
        out.print(_labels(found))
    out.print()
    out.print(_own(found))
    for said in _warnings(found):
        out.print(said)


def chart(found: Forecast, width: int, blocks: str = _EIGHTHS) -> "Iterator[Text]":
    """Yield the lines of the chart.

    Args:
        found: What is coming.
        width: Columns of the terminal.
        blocks: One column's fillings, lowest first; the last is the full one.
    """
    from rich.text import Text  # noqa: PLC0415 (rich is not needed for --help)

    room = max(10, width - _AXIS - 1)
    ends = max(bar.ends for bar in found.bars)
    for start in range(0, len(found.bars), room):
        # More bars than columns: the rest goes below, on the same scale.
        bars = found.bars[start : start + room]
        size = max(1, min(_MAX_WIDTH, room // min(room, len(found.bars))))
        most = max(bar.load for bar in found.bars)
        mean = found.daily_mean * max(bar.stretch.days for bar in found.bars)
        yield from _columns(
            bars, [bar.load for bar in bars], most, HEIGHT, size, blocks, _load_style(found), mean
        )
        if ends:
            yield _under(bars, found, size)
            yield Text("ending, and nobody renews them:", style="red")
            yield from _columns(bars, [bar.ends for bar in bars], ends, _LOW, size, blocks, lambda _: "red")
        yield _under(bars, found, size)


def _load_style(found: Forecast) -> _Style:
    fullest = found.peak

    def style(bar: Bar) -> str:
        if bar is fullest:
            return "bold magenta"
        return "yellow" if found.is_exceptional(bar) else "cyan"

    return style


def _columns(
    bars: Sequence[Bar],
    values: Sequence[int],
    most: int,
    height: int,
    size: int,
    blocks: str,
    style: _Style,
    mean: float | None = None,
) -> "Iterator[Text]":
    from rich.text import Text  # noqa: PLC0415

    steps = len(blocks)
    shown = size if size < 3 else size - 1
    mean_row = None if not mean or not most else int(mean / most * height)
    for row in reversed(range(height)):
        said = f"{most:,}" if row == height - 1 else ""
        if row == mean_row and row != height - 1:
            said = f"~{mean:,.0f}"
        line = Text(f"{said:>{_AXIS - 2}} ┤" if steps > 1 else f"{said:>{_AXIS - 2}} |")
        for bar, value in zip(bars, values, strict=True):
            # Whatever there is shows: the lowest step stands for "some".
            filled = max(round(value / most * height * steps), 1) if value else 0
            level = min(steps, filled - row * steps)
            if level > 0:
                line.append(blocks[level - 1] * shown, style=style(bar))
                line.append(" " * (size - shown))
            else:
                line.append(("·" if row == mean_row and steps > 1 else " ") * size, style="bright_black")
        yield line


def _under(bars: Sequence[Bar], found: Forecast, size: int) -> "Text":
    from rich.text import Text  # noqa: PLC0415

    line = " " * _AXIS
    before: Bar | None = None
    for index, bar in enumerate(bars):
        at = _AXIS + index * size
        said = tick(bar, found.by, before)
        if at >= len(line) and (index == 0 or at + len(said) <= _AXIS + len(bars) * size):
            line = line.ljust(at) + said + "  "
            before = bar
    return Text(line.rstrip(), style="bright_black")


def _labels(found: Forecast) -> "Table":
    rows = [
        (one.label, *map(_count, (one.current, one.renewals, one.silent, one.expiries, one.lapsed)))
        for one in found.labels
    ]
    headings = ("label", "in use", "renewals", "silent", "will end", "have ended")
    return table(headings, rows, right=(1, 2, 3, 4, 5))


def _count(number: int) -> str:
    return f"{number:,}" if number else "-"


def _own(found: Forecast) -> "Table":
    soon = [ca for ca in found.cas if _is_near(ca, found)] or list(found.cas[:3])
    rows = [
        (ca.name, day(ca.not_after), "" if ca.shortens_from is None else day(ca.shortens_from)) for ca in soon
    ]
    return table(("authority's own", "ends", "shortens what it issues from"), rows)


def _is_near(ca: CaEnd, found: Forecast) -> bool:
    end = found.begins + found.days * 24 * 3600
    return any(moment is not None and moment < end for moment in (ca.not_after, ca.shortens_from))


def _warnings(found: Forecast) -> Iterator[str]:
    silent = sum(one.silent for one in found.labels)
    if silent:
        yield (
            f"{silent:,} silent: their moment has passed and no renewal came; "
            "trillium reconcile says which devices report"
        )
    for one in found.lists:
        yield (
            f"revocation list of {one.domain.value}: {one.entries:,} entries now, "
            f"{one.most:,} at most (about {_size(one.most_bytes)})"
        )


def _size(length: int) -> str:
    return f"{length / 1e6:.1f} MB" if length >= 1_000_000 else f"{max(1, round(length / 1000))} kB"
