"""What commands say of rows that cannot be used: a table for people, a list for scripts."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from agents.cli.output import console, table

if TYPE_CHECKING:
    from agents.factory import Wrong

MAX_SHOWN: Final = 100
"""Rows of a table; more scroll away unread, and JSON has them all."""


def rows_as_json(wrong: Sequence["Wrong"]) -> list[dict[str, Any]]:
    """Return every wrong row as a script takes it."""
    return [asdict(one) for one in wrong]


def show_rows(wrong: Sequence["Wrong"], *, stderr: bool = False) -> None:
    """Print wrong rows, if there are any."""
    if not wrong:
        return
    out = console(stderr=stderr)
    headings, rows = (
        ["where", "device", "what is wrong"],
        [[one.where, one.device, one.reason] for one in wrong[:MAX_SHOWN]],
    )
    if not any(one.where for one in wrong):  # devices that are counted stand nowhere
        headings, rows = headings[1:], [row[1:] for row in rows]
    out.print(table(headings, rows))
    if len(wrong) > MAX_SHOWN:
        out.print(f"and {len(wrong) - MAX_SHOWN} more; --json lists them all")
