"""Signed messages: the fast path's bytes (COSE form).

    COSE_Sign1({1: alg, 22: c5t}, payload = [counter, time/null, body bstr], aad = ["msg", stream])

`counter` is persistent and increases per certificate, so (certificate, counter) knows duplicates;
`time` is POSIX seconds, null on a device without a clock.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

from protocol import cbor
from protocol.cose import Sign1, decode_header, decode_sign1
from protocol.errors import MalformedMessage
from protocol.signing import Signer, sign1

MAX_COUNTER: Final = 2**63 - 1
"""Fits a database's integer; at a thousand messages a second it lasts 292 million years."""
STREAM: Final = re.compile(r"[0-9a-z_-]{1,32}")


class SignedMessage(NamedTuple):
    """A message as read; nothing is verified yet."""

    signed: Sign1
    counter: int
    time: int | None
    """POSIX seconds by the device's clock."""
    body: bytes

    @property
    def thumbprint(self) -> bytes:
        """c5t of the signer's certificate, 8 bytes."""
        thumbprint = self.signed.header.thumbprint
        assert thumbprint is not None  # `decode_message` takes no other header
        return thumbprint

    def attributed_to(self, device: str) -> bytes:
        """Return CBOR [device name, counter, time/null, body]: the message as a verifier passes it on."""
        # The payload is an array of the last three, in the one encoding there is.
        return b"".join((b"\x84", cbor.encode_text(device), self.signed.payload[1:]))


@lru_cache(maxsize=256)
def stream_aad(stream: str) -> bytes:
    """Return the external_aad of a stream; a message of one stream is no message of another."""
    if not STREAM.fullmatch(stream):
        raise MalformedMessage("a stream is 1 to 32 of 0-9 a-z _ -")
    return cbor.encode(["msg", stream])


def sign_message(
    signer: Signer, thumbprint: bytes, stream: str, body: bytes, *, counter: int, time: int | None
) -> bytes:
    """Return a signed message; `counter` was never used before with this certificate."""
    return sign1(signer, cbor.encode([counter, time, body]), stream_aad(stream), thumbprint=thumbprint)


def decode_message(data: bytes) -> SignedMessage:
    """Return the message in `data`.

    Raises:
        MalformedMessage: Not a signed message. No other exception leaves this function.
    """
    return decode_usual(data) or decode_any(data)


def decode_any(data: bytes) -> SignedMessage:
    """As `decode_message`, with the general decoder: it is the judge of everything but the usual shape."""
    signed = decode_sign1(data)
    if signed.header.thumbprint is None:
        raise MalformedMessage("a message names its signer by c5t")
    counter, time, body = cbor.decode_array(signed.payload, 3)
    if type(counter) is not int or not 0 <= counter <= MAX_COUNTER:
        raise MalformedMessage("the counter is an unsigned integer")
    if time is not None and (type(time) is not int or not 0 <= time < 1 << 48):
        raise MalformedMessage("the time is POSIX seconds or null")
    if type(body) is not bytes:
        raise MalformedMessage("the body is a byte string")
    return SignedMessage(signed, counter, time, body)


_USUAL: Final = bytes.fromhex("844fa2012616822e48")
"""How a message with ES256 begins: [h'{1: -7, 22: [-15, h'…, and then the thumbprint's 8 bytes."""
_PAYLOAD: Final = 18
"""Where its payload begins: after the 15 bytes of protected header and the empty unprotected one."""
_SIGNATURE: Final = 66
"""Length of its end: a byte string of 64."""


def decode_usual(data: bytes) -> SignedMessage | None:
    """Return the message in `data` if it has the one shape that nearly all have, and None if not.

    Bytes at fixed places are cut out instead of decoded, encoded again and compared: a third of the time,
    which matters because parsing is all that holds the interpreter while other threads verify. A None
    says nothing but that `decode_any` must look.
    """
    end = len(data) - _SIGNATURE
    if not data.startswith(_USUAL) or not _PAYLOAD < end <= cbor.MAX_MESSAGE_BYTES - _SIGNATURE:
        return None
    try:
        start, size = _head(data, _PAYLOAD, 0x40)
        if data[_PAYLOAD - 1] != 0xA0 or start + size != end or data[end : end + 2] != b"\x58\x40":
            return None
        if data[start] != 0x83:
            return None
        at, counter = _head(data, start + 1, 0x00)
        if data[at] == 0xF6:
            at, time = at + 1, None
        else:
            at, time = _head(data, at, 0x00)
        at, size = _head(data, at, 0x40)
    except (IndexError, ValueError):
        return None
    if at + size != end or counter > MAX_COUNTER or (time is not None and time >= 1 << 48):
        return None
    protected = data[2 : _PAYLOAD - 1]
    signed = Sign1(protected, decode_header(protected), data[start:end], data[end + 2 :])
    return SignedMessage(signed, counter, time, data[at:end])


def _head(data: bytes, at: int, major: int) -> tuple[int, int]:
    """Return where the content begins, and the argument, of the item head at `at`.

    Raises:
        ValueError: Another major type, or not the shortest head.
        IndexError: `data` ends before the head does.
    """
    info = data[at] - major
    if 0 <= info < 24:
        return at + 1, info
    if info == 24:
        argument, end, lowest = data[at + 1], at + 2, 24
    elif 25 <= info <= 27:
        end = at + 1 + (1 << info - 24)
        argument, lowest = int.from_bytes(data[at + 1 : end], "big"), 1 << (8 << info - 25)
    else:
        raise ValueError
    if argument < lowest:
        raise ValueError
    return end, argument
