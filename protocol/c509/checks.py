"""Checks that every C509 decoder shares."""

import re
from typing import Any, Final, NoReturn, cast

from protocol.c509 import der
from protocol.c509.registry import Table
from protocol.errors import EnrollmentError, MalformedMessage

_PRINTABLE: Final = re.compile(r"[A-Za-z0-9 '()+,\-./:=?]*")


class NotConvertible(EnrollmentError):
    """This X.509 object has no C509 form that gives every byte back; the text says why."""

    public = True


def malformed(detail: str) -> NoReturn:
    """Raise `MalformedMessage`."""
    raise MalformedMessage(detail)


def is_printable(text: str) -> bool:
    """Return whether `text` fits a PrintableString (X.680 §41.4)."""
    return _PRINTABLE.fullmatch(text) is not None


def ia5(item: Any) -> str:  # noqa: ANN401 (checked here)
    """Return `item` if it is text that fits an IA5String."""
    if type(item) is not str or not item.isascii():
        malformed("ASCII text expected")
    return item


def oid(item: Any) -> bytes:  # noqa: ANN401 (checked here)
    """Return `item` if it is the octets of an object identifier."""
    if type(item) is not bytes or not der.is_oid(item):
        malformed("object identifier expected")
    return item


def registered(item: Any, table: Table, *, native: bool) -> int | bytes:  # noqa: ANN401 (checked here)
    """Return `item` if it is a number of `table` or an object identifier.

    In a native object an identifier that has a number must be that number.
    """
    if type(item) is int:
        if item not in table.oids:
            malformed(f"{item} is not registered")
        return item
    octets = oid(item)
    if native and octets in table.numbers:
        malformed("object identifier has a registered number")
    return octets


def uint(item: Any) -> int:  # noqa: ANN401 (checked here)
    """Return `item` if it is an unsigned integer."""
    if type(item) is not int or item < 0:
        malformed("unsigned integer expected")
    return item


def byte_string(item: Any) -> bytes:  # noqa: ANN401 (checked here)
    """Return `item` if it is a byte string."""
    if type(item) is not bytes:
        malformed("byte string expected")
    return item


def array(item: Any, at_least: int = 0) -> list[Any]:  # noqa: ANN401 (checked here)
    """Return `item` if it is an array of `at_least` so many items."""
    if type(item) is not list:
        malformed("array expected")
    found = cast("list[Any]", item)
    if len(found) < at_least:
        malformed("array is too short")
    return found


def members(item: Any, count: int, what: str) -> list[Any]:  # noqa: ANN401 (checked here)
    """Return `item` if it is an array of `count` items; `what` begins the complaint."""
    if type(item) is list and len(cast("list[Any]", item)) == count:
        return cast("list[Any]", item)
    raise MalformedMessage(f"{what} is an array of {count}")


def pairs(item: Any, at_least: int = 0) -> list[tuple[Any, Any]]:  # noqa: ANN401 (checked here)
    """Return the pairs of a flat array, at least so many of them."""
    flat = array(item, 2 * at_least)
    if len(flat) % 2:
        malformed("array of pairs expected")
    return list(zip(flat[::2], flat[1::2], strict=True))


def positive_magnitude(item: Any) -> bytes:  # noqa: ANN401 (checked here)
    """Return `item` if it is the octets of a positive number without leading zero (~biguint)."""
    if type(item) is not bytes or not item or item[0] == 0:
        malformed("positive number expected, without leading zero")
    return item
