"""What wrong input looked like: a sentence that helps whoever has the wrong file in hand."""

import io
import json
from typing import Any, Final

import cbor2

from agents.inspect import words

_MAGIC: Final = (
    (b"SQLite format 3\x00", "an SQLite database; if it is an authority's store, see trillium devices"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"\x89PNG", "a PNG image"),
    (b"\x7fELF", "a program"),
    (b"%PDF", "a PDF document"),
    (b"openssh-key-v1\x00", "an OpenSSH private key; it is not shown"),
)
_C509_ITEMS: Final = {0x8B: ("C509 certificate", 11), 0x87: ("C509 certification request or template", 7)}
_WRAPPED: Final = range(0x40, 0x5C)
"""First bytes of a CBOR byte string: a COSE_C509 of one certificate."""


def guess_binary(data: bytes) -> str:
    """Return what binary `data` looks like; it is none of what is recognised."""
    for magic, what in _MAGIC:
        if data.startswith(magic):
            return what
    if data[0] == 0x30:
        return _guess_der(data)
    looks = _guess_cbor(data)
    if looks is not None:
        return looks
    return f"{len(data)} bytes of nothing that is known here"


def guess_text(text: str) -> str:
    """Return what `text` looks like; it is neither PEM nor hex nor base64 of something recognised."""
    stripped = text.strip()
    if stripped[:1] in "{[":
        try:
            return _guess_json(json.loads(stripped))
        except (ValueError, RecursionError):
            pass
    if stripped.startswith(("ssh-", "ecdsa-sha2-")):
        return "an OpenSSH public key"
    if stripped.startswith(("coap://", "coaps://", "mqtt://", "mqtts://", "http://", "https://")):
        return "a URI; inspect reads files, not addresses"
    lines = stripped.count("\n") + 1
    return f"text ({lines} line{'' if lines == 1 else 's'})"


def _guess_json(item: object) -> str:
    if isinstance(item, dict):
        if {"device", "label", "client_id"} <= item.keys():
            device = str(item["device"])[:64]
            return f"JSON: the identity of device {device}; inspect the certificates beside it"
        if "kty" in item:
            return "JSON: a JSON Web Key; it is not shown"
        return f"JSON: an object with {len(item)} member{'' if len(item) == 1 else 's'}"
    return "JSON"


def _guess_der(data: bytes) -> str:
    length = _der_length(data)
    if length is None:
        return "nothing that is known here (it begins as DER does, without a sensible length)"
    if length > len(data):
        return f"truncated DER: {len(data)} of {length} bytes"
    if length < len(data):
        return f"DER of {length} bytes, followed by {len(data) - length} more"
    return f"DER ({length} bytes), but no certificate, request, CRL or key"


def _der_length(data: bytes) -> int | None:
    """Return the length of the whole element that begins `data`, as its head says."""
    if len(data) < 2:
        return None
    if data[1] < 0x80:
        return 2 + data[1]
    size = data[1] & 0x7F
    if not 1 <= size <= 4 or len(data) < 2 + size:
        return None
    return 2 + size + int.from_bytes(data[2 : 2 + size], "big")


def _guess_cbor(data: bytes) -> str | None:
    first = data[0]
    if first in _C509_ITEMS:
        return _guess_c509(data, *_C509_ITEMS[first])
    item, used, is_cut = _read(data)
    if is_cut:
        if first == 0x84:
            return "a truncated COSE_Sign1"
        if first in _WRAPPED and 0x8B in data[1:6]:
            return "a truncated COSE_C509 (one certificate in a byte string)"
        return f"truncated CBOR, or no CBOR at all ({len(data)} bytes)" if first >= 0x80 else None
    if used is None or (first < 0x80 and used < len(data)):
        return None
    shown = words.diagnostic(item)
    if used < len(data):
        return f"CBOR followed by {len(data) - used} more bytes: {shown}"
    return f"CBOR, but nothing of Trillium's: {shown}"


def _guess_c509(data: bytes, what: str, items: int) -> str | None:
    stream = io.BytesIO(data[1:])
    for whole in range(items):
        if stream.tell() == len(data) - 1:
            return f"a truncated {what}: {whole} of its {items} items are there"
        try:
            _decoder(stream).decode()
        except cbor2.CBORDecodeEOF:
            return f"a truncated {what}: {whole} of its {items} items are whole, in {len(data)} bytes"
        except (cbor2.CBORError, ValueError, OverflowError, MemoryError, RecursionError):
            return None
    rest = len(data) - 1 - stream.tell()
    return f"a {what} followed by {rest} more bytes" if rest else None


def _read(data: bytes) -> tuple[Any, int | None, bool]:
    """Return the first item, how many bytes it has (None: it is no CBOR), and whether it is cut off."""
    stream = io.BytesIO(data)
    try:
        item = _decoder(stream).decode()
    except cbor2.CBORDecodeEOF:
        return None, None, True
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, MemoryError, RecursionError):
        return None, None, False
    return item, stream.tell(), False


def _refuse(*_: object) -> None:
    msg = "tags are not followed"
    raise ValueError(msg)


_HARMLESS: Final = frozenset({48, 121})
"""Tags that C509 uses and that cbor2 does nothing with."""
_DECODERS: Final = dict.fromkeys(set(range(262)) - _HARMLESS, _refuse)


def _decoder(stream: io.BytesIO) -> cbor2.CBORDecoder:
    # No tag is run: some of them would compile regular expressions or read dates.
    return cbor2.CBORDecoder(stream, semantic_decoders=_DECODERS, max_depth=16)
