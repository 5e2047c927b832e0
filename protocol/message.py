"""Signed messages: the fast path's bytes (COSE form).

    COSE_Sign1({1: alg, 22: c5t}, payload = [counter, time/null, body bstr], aad = ["msg", stream])

`counter` is persistent and increases per certificate, so (certificate, counter) knows duplicates;
`time` is POSIX seconds, null on a device without a clock.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from protocol import cbor
from protocol.cose import Sign1, decode_sign1
from protocol.errors import MalformedMessage
from protocol.signing import Signer, sign1

MAX_COUNTER: Final = 2**63 - 1
"""Fits a database's integer; at a thousand messages a second it lasts 292 million years."""
STREAM: Final = re.compile(r"[0-9a-z_-]{1,32}")


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """A message as read; nothing is verified yet."""

    signed: Sign1
    counter: int
    time: int | None
    """POSIX seconds by the device's clock."""
    body: bytes


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
