"""Revocation lists in C509 form: what a meter takes instead of DER (draft-liao-cose-c509-revocation-00 §4).

    C509CRL = [0, signature algorithm, issuer's name, its key identifier/null, number, this update,
               seconds to the next/null, base number/null, extensions, revoked/null, signature]
    revoked = [issuer/null, [flags, bytes of a serial, bytes of a date, base date], extensions,
               records bstr/null, removed bstr/null]
    record  = serial ‖ date ‖ reason, all of one length, by serial

With a base number it is a delta: what changed since that list. The signature is over the ten items before it,
one after the other. An empty delta of ours has 114 bytes with P-256 and a name of five letters, the first
certificate on it 22 more, each further one nine; in DER it is 220 bytes and 41 for each.

Ours are sorted, have reasons and no dates: a device asks whether, and never since when.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final, cast

from protocol import c509, cbor
from protocol.c509 import ExtensionId
from protocol.errors import MalformedMessage
from protocol.exchange.request import SIGNATURE_ALGORITHMS
from protocol.signing import Signer

MAX_LIST_BYTES: Final = 8 * 1024 * 1024
"""Longest list that is read: two hundred thousand certificates in DER, or four times as many in this form."""
MAX_NUMBER: Final = 2**63 - 1
"""RFC 5280 §5.2.3 allows 20 octets; nobody counts so far, and this fits every store."""
MAX_TIME: Final = 253402300799
"""99991231235959Z in POSIX seconds."""
REASONS: Final = frozenset({0, 1, 2, 3, 4, 5, 6, 9, 10})
"""RFC 5280 §5.3.1; 8 (removeFromCRL) has a list of its own here."""
_TYPE: Final = 0
_SORTED: Final = 1
_WITH_REASONS: Final = 2
_MAX_SERIAL: Final = 20
_MAX_DATE: Final = 8
_NAME_TAGS: Final = frozenset({48})
_NOTHING: Final[list[object]] = []
_REASON_BYTES: Final = {reason: bytes((reason,)) for reason in REASONS}


@dataclass(frozen=True, slots=True)
class Head:
    """What a list says of itself."""

    number: int
    """crlNumber, 1 to `MAX_NUMBER`; full lists and deltas of an issuer count together."""
    this_update: int
    """POSIX seconds."""
    next_update: int | None
    """POSIX seconds, not before `this_update`."""
    base: int | None = None
    """Number of the list that this one is a delta to; None: it is a full list."""


@dataclass(frozen=True, slots=True)
class C509RevocationList:
    """A list that was read; nothing in it is verified."""

    algorithm: int
    """Registered C509 signature algorithm."""
    issuer: c509.Name
    key_identifier: bytes | None
    """The issuer's subject key identifier."""
    head: Head
    revoked: Mapping[bytes, int]
    """Reason (RFC 5280 §5.3.1) by serial number without leading zero."""
    removed: frozenset[bytes]
    """Serial numbers that a delta takes off the list."""
    signed_bytes: bytes
    signature: bytes
    """r ‖ s, or Ed25519's."""


def encode_list(
    signer: Signer, issuer: c509.Certificate, head: Head, entries: Iterable[tuple[bytes, int]]
) -> bytes:
    """Return a signed list.

    Args:
        signer: The issuer's key.
        issuer: Its certificate, with a subject key identifier.
        head: Number, times, base.
        entries: Serial number (1 to 20 bytes, no leading zero) and reason, each certificate once.
    """
    key_identifier: bytes | None = issuer.extension(ExtensionId.SUBJECT_KEY_IDENTIFIER)
    items = cbor.encode(
        [
            _TYPE,
            SIGNATURE_ALGORITHMS[signer.algorithm],
            issuer.subject.to_item(),
            key_identifier,
            head.number,
            head.this_update,
            None if head.next_update is None else head.next_update - head.this_update,
            head.base,
            _NOTHING,
            _list_item(tuple(entries), issuer.not_before),
        ]
    )[1:]
    return b"\x8b" + items + cbor.encode_bytes(signer.sign(items))


def _list_item(entries: tuple[tuple[bytes, int], ...], base_date: int) -> object:
    if not entries:
        return None
    width = max(len(serial) for serial, _ in entries)
    records = sorted(serial.rjust(width, b"\0") + _REASON_BYTES[reason] for serial, reason in entries)
    # Without dates any base date from the issuer's own notBefore on will do.
    return [None, [_SORTED | _WITH_REASONS, width, 0, base_date], _NOTHING, b"".join(records), None]


def decode_list(data: bytes) -> C509RevocationList:
    """Return the list that `data` encodes.

    Args:
        data: Any bytes, `MAX_LIST_BYTES` at most.

    Raises:
        MalformedMessage: Not such a list in deterministic encoding, with a critical extension, of several
            issuers, or with entries out of their order. No other exception leaves this function.
    """
    items = cbor.decode(data, max_bytes=MAX_LIST_BYTES, tags=_NAME_TAGS)
    match items:
        case [
            int(kind),
            int(algorithm),
            name,
            (bytes() | None) as key_identifier,
            int(number),
            int(this_update),
            (int() | None) as lasts,
            (int() | None) as base,
            extensions,
            listed,
            bytes(signature),
        ] if not _has_booleans(cast("list[object]", items)):
            pass
        case _:
            raise MalformedMessage("a C509 revocation list is an array of eleven")
    if kind != _TYPE:
        raise MalformedMessage(f"a revocation list of type {kind}")
    _check_extensions(extensions)
    _check_numbers(number, base, this_update, lasts)
    revoked, removed = ({}, frozenset[bytes]()) if listed is None else _read_listed(listed)
    if removed and base is None:
        raise MalformedMessage("only a delta takes certificates off a list")
    return C509RevocationList(
        algorithm,
        c509.Name.from_item(name, native=False),
        key_identifier,
        Head(number, this_update, None if lasts is None else this_update + lasts, base),
        MappingProxyType(revoked),
        removed,
        data[1 : len(data) - len(cbor.encode_bytes(signature))],
        signature,
    )


def _has_booleans(items: list[object]) -> bool:
    return any(type(item) is bool for item in items)  # to Python, true is a 1


def _check_numbers(number: int, base: int | None, this_update: int, lasts: int | None) -> None:
    if not 0 <= number <= MAX_NUMBER or (base is not None and not 0 <= base <= number):
        raise MalformedMessage("a list's number is out of range, or below its base")
    if not 0 <= this_update <= MAX_TIME or (lasts is not None and not 0 <= lasts <= MAX_TIME - this_update):
        raise MalformedMessage("a list's times are out of range")


def _check_extensions(item: object) -> None:
    """Refuse extensions that are critical; others say nothing that is needed (RFC 5280 §4.2)."""
    if type(item) is not list:
        raise MalformedMessage("extensions are a list")
    extensions = cast("list[object]", item)
    numbers = extensions[::2]
    if len(extensions) % 2 or any(type(number) is not int for number in numbers):
        raise MalformedMessage("extensions are pairs of a number and a value")
    if any(cast("int", number) < 0 for number in numbers):
        raise MalformedMessage("a critical extension that is not understood")


def _read_listed(
    listed: Any,  # noqa: ANN401 (checked here)
) -> tuple[dict[bytes, int], frozenset[bytes]]:
    match listed:
        case [
            None,
            [int(flags), int(serial_bytes), int(date_bytes), int(base_date)] as control,
            extensions,
            (bytes() | None) as records,
            (bytes() | None) as removed,
        ] if not _has_booleans(cast("list[object]", control)):
            pass
        case _:
            raise MalformedMessage("revoked certificates are [null, control, extensions, revoked, removed]")
    _check_extensions(extensions)
    if not 0 <= flags <= _SORTED | _WITH_REASONS or not 0 <= base_date <= MAX_TIME:
        raise MalformedMessage("flags or base date out of range")
    if not 1 <= serial_bytes <= _MAX_SERIAL or not 0 <= date_bytes <= _MAX_DATE:
        raise MalformedMessage("a serial number has 1 to 20 bytes, a date 0 to 8")
    if not records and not removed:
        raise MalformedMessage("a list of nothing is null")
    reason_bytes = 1 if flags & _WITH_REASONS else 0
    is_sorted = bool(flags & _SORTED)
    found = _split(records, serial_bytes, date_bytes + reason_bytes, is_sorted=is_sorted)
    gone = _split(removed, serial_bytes, date_bytes, is_sorted=is_sorted)
    if not any(record[0] for record in (*found, *gone)):
        raise MalformedMessage("serial numbers are in as few bytes as the longest needs")
    revoked = {record[:serial_bytes].lstrip(b"\0"): record[-1] if reason_bytes else 0 for record in found}
    if not REASONS.issuperset(revoked.values()):
        raise MalformedMessage("a reason that RFC 5280 does not have")
    gone_serials = frozenset(record[:serial_bytes].lstrip(b"\0") for record in gone)
    if len(revoked) != len(found) or len(gone_serials) != len(gone) or not gone_serials.isdisjoint(revoked):
        raise MalformedMessage("a certificate is listed twice")
    if b"" in revoked or b"" in gone_serials:
        raise MalformedMessage("a serial number is positive")
    return revoked, gone_serials


def _split(records: bytes | None, serial_bytes: int, rest: int, *, is_sorted: bool) -> list[bytes]:
    if records is None:
        return []
    size = serial_bytes + rest
    if not records or len(records) % size:
        raise MalformedMessage("records are of one length, and at least one")
    found = [records[at : at + size] for at in range(0, len(records), size)]
    serials = [record[:serial_bytes] for record in found] if is_sorted else []
    if any(one >= other for one, other in pairwise(serials)):
        raise MalformedMessage("records are not in the order of their serial numbers")
    return found
