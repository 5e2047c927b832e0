"""`trillium inspect`: say in words what a file is."""

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from agents.cli.failure import REFUSED, USAGE, Failure
from agents.cli.output import console, facts, print_json
from agents.cli.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

    from agents.inspect import Finding


def run(name: str, *, as_json: bool) -> None:
    """Explain the file `name`, or standard input if it is "-".

    Raises:
        Failure: It cannot be read, or nothing in it is known.
    """
    from agents.inspect import NotRecognised, inspect  # noqa: PLC0415 (a composition root imports late)

    data = _read(name)
    try:
        findings = inspect(data, time.time())
    except NotRecognised as error:
        where = "standard input" if name == "-" else name
        raise Failure(f"{where}: {error}", REFUSED) from None
    if as_json:
        print_json([finding.to_json() for finding in findings])
        return
    _show(findings, console())


def _read(name: str) -> bytes:
    from agents.inspect import MAX_BYTES  # noqa: PLC0415

    if name == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)
    path = Path(name)
    if path.is_dir():
        raise Failure(f"{name}: is a folder; name a file in it", USAGE)
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Failure(f"{name}: {error.strerror}", REFUSED) from None


def _show(findings: Iterable["Finding"], out: "Console", depth: int = 0) -> None:
    from rich.padding import Padding  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    indent = (0, 0, 0, 2 * depth)
    for number, finding in enumerate(findings):
        if number or depth:
            out.print()
        out.print(
            Padding(
                Text(printable(finding.title), style="bold underline" if depth == 0 else "underline"), indent
            )
        )
        if finding.fields:
            out.print(
                Padding(facts((field.name, field.text) for field in finding.fields), indent, expand=False)
            )
        for note in finding.notes:
            out.print(Padding(Text(printable(f"({note})"), style="dim"), indent))
        _show(finding.parts, out, depth + 1)
