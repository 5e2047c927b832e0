"""Find out what a file holds: PEM, hex and base64 are taken off, then each known form is tried."""

from collections.abc import Callable
from typing import Final

from agents.inspect.armour import Block, as_text, is_pem, pem_blocks, plain
from agents.inspect.certificates import explain_certificate, explain_chain, explain_request, explain_template
from agents.inspect.finding import Field, Finding, NotRecognised
from agents.inspect.guess import guess_binary, guess_text
from agents.inspect.owners import explain_card
from agents.inspect.signed import explain_problem, explain_sign1, explain_small_array
from agents.inspect.x509 import explain_der
from protocol import c509, cbor
from protocol.cose import decode_sign1
from protocol.errors import EnrollmentError, MalformedMessage

MAX_BYTES: Final = 1024 * 1024
"""Longest input that is looked at; a bundle of all public roots is smaller."""
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
    text = as_text(data)
    if text is None:
        raise NotRecognised(f"this looks like {_looks_like(data)}")
    if is_pem(text):
        return tuple(_explain_block(block, now) for block in pem_blocks(text))
    return (_encoded_text(text, now),)


def _explain_block(block: Block, now: float) -> Finding:
    label, data = block
    if data is None:
        return Finding("private-key", f"PEM of a private key ({label}): not shown")
    found = explain_binary(data, now)
    if found is None and "PRIVATE KEY" in label:
        found = Finding("private-key", f"PEM of a private key ({label}): not shown, and not readable")
    if found is None:
        raise NotRecognised(f"this looks like PEM of a {label}, which holds {_looks_like(data)}")
    return found


def _encoded_text(text: str, now: float) -> Finding:
    encoded = plain(text)
    if encoded is not None:
        name, data = encoded
        found = explain_binary(data, now)
        if found is not None:
            return found.with_note(f"it was given as {name}")
        # Any long word is base64 of something; of hex nobody doubts.
        if name == "hex" or data[0] in (0x30, 0x84, 0x87, 0x8B):
            raise NotRecognised(f"this looks like {name} of {_looks_like(data)}")
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
        item = cbor.decode(data, max_bytes=MAX_BYTES)
    except MalformedMessage:
        return None
    if isinstance(item, dict) and item.get(1) in (1, 2, 3, 4) and (-4 in item or -1 in item):
        return Finding("cose-key", "COSE_Key: not shown", (Field("private", "yes" if -4 in item else "no"),))
    return explain_card(item) or explain_small_array(item)


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
