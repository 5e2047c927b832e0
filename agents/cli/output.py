"""What commands print: tables and progress for people, JSON for scripts."""

import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final, TextIO, cast

from agents.cli.printable import printable, printable_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH: Final = 500
"""Characters in a line that nobody watches: wide enough that nothing is cut or folded."""


class _Trimmed(io.TextIOBase):
    """Takes the padding off the end of each line: what a pipe reads is compared and grepped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._line = ""

    def write(self, text: str) -> int:
        *whole, self._line = (self._line + text).split("\n")
        for line in whole:
            self._stream.write(line.rstrip() + "\n")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()


def console(*, stderr: bool = False) -> "Console":
    """Return a console that writes plain, uncut lines where nobody watches (a pipe, a file)."""
    from rich.console import Console  # noqa: PLC0415 (rich is not needed for --help)

    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty():
        return Console(stderr=stderr, highlight=False, emoji=False)
    return Console(
        file=cast("IO[str]", _Trimmed(stream)), highlight=False, emoji=False, width=PIPE_WIDTH, no_color=True
    )


def print_json(value: object) -> None:
    """Write one JSON document to stdout; what could not be shown on a terminal is escaped."""
    sys.stdout.write(printable_json(json.dumps(value, indent=2, ensure_ascii=False)) + "\n")
    sys.stdout.flush()


def table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = (), gap: int = 2
) -> "Table":
    """Return a table without frames.

    Args:
        headings: One per column.
        rows: As many cells each.
        right: Indexes of columns with numbers.
        gap: Blanks between columns.
    """
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    made = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for index, heading in enumerate(headings):
        made.add_column(heading, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    return made


def facts(rows: Iterable[tuple[str, str]]) -> "Table":
    """Return a two-column table of names and what they are."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, what in rows:
        made.add_row(Text(name), Text(printable(what)))
    return made


class Advance:
    """Moves a progress bar on; a no-op where there is none."""

    def __init__(self, progress: Any = None, task: Any = None) -> None:  # noqa: ANN401 (rich types, imported late)
        self._progress = progress
        self._task = task

    def __call__(self, done: int, total: int | None = None) -> None:
        """Say that `done` of `total` are done."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=total)


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Advance]:
    """Show a bar on stderr while the context is open, if a person watches it; None: no end is known."""
    if not sys.stderr.isatty():
        yield Advance()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        yield Advance(bar, bar.add_task(what, total=total))


@contextmanager
def waiting(what: str) -> Iterator[Callable[[str], None]]:
    """Show what is going on, on stderr, while the context is open and if a person watches it.

    Yields:
        A function that says what is going on now.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with console(stderr=True).status(what) as status:
        yield lambda state: status.update(f"{what}: {state}")
