"""Reading CSV that people and other systems wrote: strictly, line by line, and never a key.

RFC 4180 in UTF-8 with a header row that names the columns. A row that is wrong is told with its line and
passed over; a file that is wrong as a whole (another encoding, an unknown column, a quote that never ends,
anything that looks like a private key) is refused.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key

from agents.inspect.armour import plain

MAX_SHEET_BYTES: Final = 1 << 28
"""A hundred thousand certificates in PEM, or a million names, are smaller."""
MAX_RECORD: Final = 16 * 1024
"""Characters of one row, whose cells may hold line ends (PEM in quotes)."""
_RAW_KEYS: Final = frozenset({32, 48, 66})
"""Lengths in bytes of the private keys of our curves."""
_SHORTEST_KEY: Final = 43
"""Characters: 32 bytes in base64 without padding."""
_PLAIN: Final = re.compile(r"[!-~ ]*")


class SheetError(ValueError):
    """The file as a whole cannot be used; the text is for people and repeats no cell."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """One row, file or certificate that cannot be used."""

    where: str
    """"line 3", or a file's name."""
    device: str
    """Its name as far as it is known; may be anything that somebody wrote."""
    reason: str


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a sheet."""

    line: int
    """Where it begins, from 1."""
    cells: Mapping[str, str]
    """By column."""

    @property
    def where(self) -> str:
        """How people find it."""
        return f"line {self.line}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column that a sheet may have."""

    longest: int
    """Characters."""
    is_text: bool = True
    """Printable ASCII on one line; otherwise whatever is in it is looked at elsewhere (PEM)."""


def read_sheet(data: bytes, columns: Mapping[str, Column]) -> Iterator[Row | Wrong]:
    """Yield the rows of a sheet, and those that are wrong, in order. Empty lines are no rows.

    Args:
        data: The file.
        columns: What there may be, by name; the sheet has at least one of them.

    Raises:
        SheetError: While iterating: the file as a whole cannot be used.
    """
    records = _records(_text(data))
    header = next(records, None)
    if header is None:
        raise SheetError("it is empty: its first line names the columns")
    names = [name.strip().lower() for name in _cells(header[1], header[0])]
    for name in names:
        if name not in columns:
            known = ", ".join(columns)
            raise SheetError(f"line {header[0]}: column {name[:40]!r} is not known; there are {known}")
    if len(set(names)) != len(names):
        raise SheetError(f"line {header[0]}: a column is there twice")
    for line, record in records:
        yield _row(line, record, names, columns)


def _text(data: bytes) -> str:
    if len(data) > MAX_SHEET_BYTES:
        raise SheetError(f"it is longer than {MAX_SHEET_BYTES >> 20} MiB; split it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SheetError(f"line {line}: not UTF-8") from None
    if "\0" in text:
        raise SheetError("there are null characters in it: this is no text")
    if "PRIVATE KEY" in text.upper():
        raise SheetError(f"line {_line_of_key(text)}: {_NO_KEYS}")
    return text


_NO_KEYS: Final = "a private key: it has no place in a CSV file, and is to be replaced now"


def _line_of_key(text: str) -> int:
    return text.count("\n", 0, text.upper().index("PRIVATE KEY")) + 1


def _records(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line it begins at, record); a record is whole when its quotes come in pairs."""
    started, pending = 0, ""
    for line, piece in enumerate(text.split("\n"), start=1):
        if not pending:
            if not piece.strip():
                continue
            started = line
        pending += f"{piece}\n"
        if pending.count('"') % 2 == 0:
            yield started, pending.rstrip("\r\n")
            pending = ""
        elif len(pending) > MAX_RECORD:
            raise SheetError(f"line {started}: a quote that never ends")
    if pending:
        raise SheetError(f"line {started}: a quote that never ends")


def _cells(record: str, line: int) -> list[str]:
    try:
        return next(csv.reader([record], strict=True))
    except csv.Error as error:
        raise SheetError(f"line {line}: {error}") from None


def _row(line: int, record: str, names: list[str], columns: Mapping[str, Column]) -> Row | Wrong:
    where = f"line {line}"
    if len(record) > MAX_RECORD:
        return Wrong(where, "", f"longer than {MAX_RECORD} characters")
    try:
        cells = next(csv.reader([record], strict=True))
    except csv.Error as error:
        return Wrong(where, "", f"not as RFC 4180 has it: {error}")
    if any(map(looks_like_key, cells)):
        raise SheetError(f"{where}: {_NO_KEYS}")
    device = cells[names.index("device")][:64] if "device" in names and len(cells) >= len(names) else ""
    if len(cells) != len(names):
        reason = f"{len(cells)} columns, the header has {len(names)}"
        return Wrong(where, cells[0][:64] if cells else "", reason)
    for name, cell in zip(names, cells, strict=True):
        column = columns[name]
        if len(cell) > column.longest:
            return Wrong(where, device, f"{name} is longer than {column.longest} characters")
        if column.is_text and not _PLAIN.fullmatch(cell):
            return Wrong(where, device, f"{name} has other characters than printable ASCII")
    return Row(line, dict(zip(names, cells, strict=True)))


def looks_like_key(text: str) -> bool:
    """Return whether `text` is a private key as hex or base64: PKCS#8, SEC1, or the bare number.

    No name is taken for one: all that are as long are of capitals and digits, with an S or P among them.
    """
    text = text.strip()
    if len(text) < _SHORTEST_KEY or (found := plain(text)) is None:
        return False
    is_mixed = text != text.upper() and text != text.lower()
    if len(found.data) in _RAW_KEYS and (found.name == "hex" or is_mixed):
        return True
    try:
        load_der_private_key(found.data, None)
    except TypeError:  # an encrypted one
        return True
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True
