"""What a person sees while the lab runs: a table that changes, or plain lines where nobody watches."""

import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from agents.lab.ledger import Ledger
from agents.lab.tally import FleetTally

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

REFRESH_PER_SECOND: Final = 8


class Screen(Protocol):
    """Where the lab says how it goes."""

    def step(self, what: str) -> None:
        """Say what is being done now."""
        ...

    def show(self, fleets: Mapping[str, FleetTally], verified: int) -> None:
        """Show how far the fleets are."""
        ...


class PlainScreen:
    """One line per step, with the time since the start."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._start = time.monotonic()

    def step(self, what: str) -> None:
        """Write a line."""
        self._write(f"{time.monotonic() - self._start:6.1f} s  {what}\n")

    def show(self, fleets: Mapping[str, FleetTally], verified: int) -> None:
        """Write nothing: a log has no use for numbers that change."""


class LiveScreen:
    """A table that rich repaints."""

    def __init__(self, update: Callable[["RenderableType"], None]) -> None:
        self._update = update
        self._start = time.monotonic()
        self._step = ""
        self._fleets: Mapping[str, FleetTally] = {}
        self._verified = 0

    def step(self, what: str) -> None:
        """Change the first line."""
        self._step = what
        self._paint()

    def show(self, fleets: Mapping[str, FleetTally], verified: int) -> None:
        """Change the table."""
        self._fleets, self._verified = fleets, verified
        self._paint()

    def _paint(self) -> None:
        from rich.console import Group  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        head = Text.assemble((f"{time.monotonic() - self._start:5.1f} s  ", "dim"), (self._step, "bold"))
        if not self._fleets:
            self._update(head)
            return
        self._update(
            Group(head, Text(), fleet_table(self._fleets), Text(f"\n{self._verified} messages verified"))
        )


def fleet_table(fleets: Mapping[str, FleetTally]) -> "RenderableType":
    """Return the fleets' progress as a table."""
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("", "", "done", "enrolled", "rekeyed", "sent", "failed"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for name, fleet in fleets.items():
        done = f"{fleet.finished}/{fleet.devices}"
        numbers = (fleet.enrolled, fleet.rekeyed, fleet.messages_sent, fleet.failed)
        bar = ProgressBar(total=max(1, fleet.devices), completed=fleet.finished, width=16)
        table.add_row(name, bar, done, *map(str, numbers))
    return table


@contextmanager
def open_screen(console: "Console") -> Generator[Screen, None, None]:
    """Open a screen on stderr; plain if that is no terminal."""
    if not console.is_terminal:
        yield PlainScreen(sys.stderr.write)
        return
    from rich.live import Live  # noqa: PLC0415

    with Live(console=console, refresh_per_second=REFRESH_PER_SECOND, transient=True) as live:
        yield LiveScreen(live.update)


def ledger_table(ledger: Ledger) -> "RenderableType":
    """Return what a tour saw, a row for each label."""
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("label", no_wrap=True)
    for heading in ("tier", "issued", "rekeyed", "moved", "revoked", "refused", "C509", "DER"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("profile", no_wrap=True)
    for row in ledger.rows.values():
        counts = (row.issued, row.rekeyed, row.transferred, row.revoked, row.refused)
        seen = [str(count) if count else "-" for count in counts]
        der = str(row.der_bytes) if row.der_bytes else "-"
        verdict = f"{len(row.deviations)} deviations" if row.deviations else "fits"
        table.add_row(row.label, str(row.tier), *seen, str(row.c509_bytes), der, verdict)
    return table


def summary_rows(fleets: Mapping[str, FleetTally]) -> Sequence[tuple[str, ...]]:
    """Return one row of text for each fleet: name, devices, enrolled, rekeyed, sent, failed."""
    return [
        (name, *map(str, (f.devices, f.enrolled, f.rekeyed, f.messages_sent, f.failed)))
        for name, f in fleets.items()
    ]
