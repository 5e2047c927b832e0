"""What every extension value's codec is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from protocol.c509 import der
from protocol.c509.registry import Table


@dataclass(frozen=True, slots=True)
class Codec:
    """How one kind of extension value is read and written."""

    from_item: Callable[[Any, bool], Any]
    """(CBOR item, native) to value; raises `MalformedMessage`."""
    to_item: Callable[[Any], object]
    to_der: Callable[[Any], bytes]
    from_der: Callable[[bytes], Any]
    """DER extnValue to value; raises ValueError where C509 has no specific form."""


def read(data: bytes, tag: int) -> der.Reader:
    """Return a reader of what is inside the one element that `data` is."""
    return der.Reader(der.whole(data, tag))


def same(value: Any) -> object:  # noqa: ANN401
    """Return `value`: it is its own CBOR item."""
    return value


def small_int(content: bytes) -> int:
    """Return the value of a non-negative INTEGER's content, if CBOR has a head for it."""
    value = int.from_bytes(der.read_unsigned(content), "big")
    if value >= 1 << 64:
        msg = "number over 64 bits"
        raise der.DerError(msg)
    return value


def number_der(number: int | bytes, table: Table) -> bytes:
    """Return X.509's object identifier for a registered number, or for an identifier's octets."""
    return der.tlv(der.OID, number if isinstance(number, bytes) else table.oids[number])


def flat(found: tuple[tuple[object, object], ...]) -> object:
    """Return the flat array of pairs."""
    return [member for pair in found for member in pair]
