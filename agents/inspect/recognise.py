"""Find out what a file holds: PEM, hex and base64 are taken off, then each known form is tried."""

import base64
import binascii
import re
from collections.abc import Callable
from typing import Final

from agents.inspect.certificates import explain_certificate, explain_chain, explain_request, explain_template
from agents.inspect.finding import Field, Finding, NotRecognised
from agents.inspect.guess import guess_binary, guess_text
from agents.inspect.signed import explain_problem, explain_sign1, explain_small_array
from agents.inspect.x509 import explain_der
from protocol import c509, cbor
from protocol.cose import decode_sign1
from protocol.errors import EnrollmentError, MalformedMessage

MAX_BYTES: Final = 1024 * 1024
"""Longest input that is looked at; a bundle of all public roots is smaller."""
MAX_BLOCKS: Final = 1000
"""Most PEM blocks of one file."""
_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_PEM_BEGIN: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")
_HEX: Final = re.compile(r"(?:0x)?[0-9A-Fa-f]{2}(?:[\s:,-]*[0-9A-Fa-f]{2})*")
_BASE64: Final = re.compile(r"[0-9A-Za-z+/_\s-]+={0,2}\s*")
_SIGN1_TAG: Final = b"\xd2"


def inspect(data: bytes, now: float) -> tuple[Finding, ...]:
    """Return everything that was found in `data`, in order; PEM may hold several objects.

    Args:
        data: A file's content.
        now: POSIX seconds, to say whether certificates are valid.

    Raises:
        NotRecognised: Nothing was; says what it looked like.
    """
    if not data:
        raise NotRecognised("it is empty")
    if len(data) > MAX_BYTES:
        raise NotRecognised(f"it is longer than {MAX_BYTES} bytes, which no certificate is")
    found = explain_binary(data, now)
    if found is not None:
        return (found,)
    text = _as_text(data)
    if text is None:
        raise NotRecognised(f"this looks like {_looks_like(data)}")
    if "-----BEGIN " in text:
        return tuple(_pem(text, now))
    return (_encoded_text(text, now),)


def _as_text(data: bytes) -> str | None:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return text if all(char.isprintable() or char.isspace() for char in text) else None


def _pem(text: str, now: float) -> list[Finding]:
    blocks = list(_PEM.finditer(text))
    if not blocks:
        name = _PEM_BEGIN.search(text)
        what = name.group(1) if name else "something"
        raise NotRecognised(f"this looks like truncated PEM of a {what}: its END line is missing")
    if len(blocks) > MAX_BLOCKS:
        raise NotRecognised(f"this looks like PEM with {len(blocks)} blocks; at most {MAX_BLOCKS} are shown")
    findings: list[Finding] = []
    for block in blocks:
        label, body = block.group(1), block.group(2)
        if label in _SECRET or "Proc-Type:" in body:
            findings.append(Finding("private-key", f"PEM of a private key ({label}): not shown"))
            continue
        # RFC 1421 headers stand before an empty line.
        body = re.sub(r"\A\s*(?:[A-Za-z-]+:.*\n)+\s*\n", "", body)
        try:
            data = base64.b64decode("".join(body.split()), validate=True)
        except (binascii.Error, ValueError):
            raise NotRecognised(f"this looks like PEM of a {label} whose base64 is damaged") from None
        if not data:
            raise NotRecognised(f"this looks like PEM of a {label} with nothing in it")
        found = explain_binary(data, now)
        if found is None and "PRIVATE KEY" in label:
            found = Finding("private-key", f"PEM of a private key ({label}): not shown, and not readable")
        if found is None:
            raise NotRecognised(f"this looks like PEM of a {label}, which holds {_looks_like(data)}")
        findings.append(found)
    return findings


_SECRET: Final = frozenset({"OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK", "DSA PRIVATE KEY"})
"""PEM labels of private keys that are not even opened."""


def _encoded_text(text: str, now: float) -> Finding:
    stripped = text.strip()
    if _HEX.fullmatch(stripped):
        data = bytes.fromhex(re.sub(r"^0x|[\s:,-]", "", stripped))
        found = explain_binary(data, now)
        if found is not None:
            return found.with_note("it was given as hex")
        raise NotRecognised(f"this looks like hex of {_looks_like(data)}")
    if _BASE64.fullmatch(stripped) and len(stripped) >= 8:
        plain = "".join(stripped.split()).rstrip("=").translate(str.maketrans("-_", "+/"))
        try:
            data = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        except (binascii.Error, ValueError):
            data = b""
        found = explain_binary(data, now) if data else None
        if found is not None:
            return found.with_note("it was given as base64")
        if data and data[0] in (0x30, 0x84, 0x87, 0x8B):
            raise NotRecognised(f"this looks like base64 of {_looks_like(data)}")
    raise NotRecognised(f"this looks like {guess_text(text)}")


def explain_binary(data: bytes, now: float) -> Finding | None:
    """Return what `data`, without any armour, is; None if it is nothing that is known."""
    if data[0] == 0x30:
        return explain_der(data, now)
    if data[0] == 0x8B:
        return _certificate(data, now)
    if data[0] == 0x87:
        return _request(data)
    if data[:1] == _SIGN1_TAG:
        tagged = _sign1(data[1:], now)
        return tagged and tagged.with_note("it has tag 18; Trillium's signed objects are untagged")
    if data[0] == 0x84:
        signed = _sign1(data, now)
        if signed is not None:
            return signed
    if data[0] in (0x02, 0x03):
        return _older_form(data, now)
    return _private_key(data) or _chain(data, now) or explain_problem(data) or _other(data)


def _certificate(data: bytes, now: float) -> Finding | None:
    try:
        return explain_certificate(c509.decode_certificate(data), now)
    except MalformedMessage:
        return None


def _request(data: bytes) -> Finding | None:
    try:
        return explain_request(c509.decode_request(data))
    except MalformedMessage:
        pass
    try:
        return explain_template(c509.decode_template(data), len(data))
    except MalformedMessage:
        return None


def _private_key(data: bytes) -> Finding | None:
    for decode, what in ((c509.decode_private_key, "C509 private key"), (c509.decode_pem, "C509 PEM bundle")):
        try:
            decode(data)
        except MalformedMessage:
            continue
        return Finding("private-key", f"{what}: not shown")
    return None


def _sign1(data: bytes, now: float) -> Finding | None:
    try:
        return explain_sign1(decode_sign1(data, max_bytes=MAX_BYTES), len(data), now)
    except MalformedMessage:
        return None


def _older_form(data: bytes, now: float) -> Finding | None:
    try:
        found = explain_certificate(c509.decode_certificate_sequence(data), now)
    except MalformedMessage:
        return None
    return found.with_note("it has the older form, without the array (before revision 20 of the draft)")


def _chain(data: bytes, now: float) -> Finding | None:
    try:
        return explain_chain(c509.decode_chain(data), now)
    except MalformedMessage:
        return None


def _other(data: bytes) -> Finding | None:
    try:
        item = cbor.decode(data)
    except MalformedMessage:
        return None
    if isinstance(item, dict) and item.get(1) in (1, 2, 3, 4) and (-4 in item or -1 in item):
        return Finding("cose-key", "COSE_Key: not shown", (Field("private", "yes" if -4 in item else "no"),))
    return explain_small_array(item)


_SHAPES: Final = {0x8B: "a C509 certificate", 0x87: "a C509 request or template", 0x84: "a COSE_Sign1"}


def _looks_like(data: bytes) -> str:
    """Return what binary data looks like; of what has the right shape, also what is wrong with it."""
    guess = guess_binary(data)
    decoders: dict[int, Callable[[bytes], object]] = {
        0x8B: c509.decode_certificate,
        0x87: c509.decode_template if data[1:2] == b"\0" else c509.decode_request,
        0x84: decode_sign1,
    }
    if data[0] not in decoders or "truncated" in guess or "followed by" in guess:
        return guess
    try:
        decoders[data[0]](data)
    except EnrollmentError as error:
        return f"{_SHAPES[data[0]]}, but: {error}"
    return guess
