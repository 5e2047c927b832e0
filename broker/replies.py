"""Reply payloads: `[request-id, body]`, `[request-id, seconds]`, `[request-id, refusal]` (wire.md §2).

MQTT 3.1.1 has no correlation data, so the pairing is in the payload. A refusal is a problem map
(RFC 9290), which nobody vouches for, or a signed one; the first byte tells them apart.
"""

import hashlib
import math
from typing import Final

from broker.topics import Outcome
from protocol import cbor
from protocol.errors import MalformedMessage, ProblemKind
from protocol.labels import Operation
from protocol.ports import Content, Media, Pending, Reply, SignedRefusal
from protocol.problem import MAX_RETRY_AFTER, Problem

REQUEST_ID_BYTES: Final = 8
MAX_REPLY_BYTES: Final = 65536
"""Longest reply payload; a revocation list is the only one that comes near."""

MEDIA: Final[dict[Operation, Media]] = {
    Operation.CRTS: Media.COSE_C509,
    Operation.ATT: Media.C509_TEMPLATE,
    Operation.SEN: Media.C509_CERTIFICATE,
    Operation.SREN: Media.C509_CERTIFICATE,
    Operation.SKG: Media.CONTRACT_PACKAGE,
    Operation.CONF: Media.SIGN1,
    Operation.REV: Media.SIGN1,
    Operation.CRL: Media.PKIX_CRL,
    Operation.MAIL: Media.CBOR,
}
"""What a good answer is; MQTT says nothing about it, and no device can ask for another form."""

_SIGN1: Final = 0x84
_UNTOLD: Final = Problem(ProblemKind.NOT_ENTITLED)
"""What a signed refusal is taken for in clear: only its signed body says which refusal it is."""

_TOO_LONG: Final = Problem(ProblemKind.TOO_LARGE, "longer than a broker takes: ask for it in parts")


def request_id(request: bytes) -> bytes:
    """Return the 8 bytes that pair a reply with the request message `request`."""
    return hashlib.sha256(request).digest()[:REQUEST_ID_BYTES]


def encode_reply(reply: Reply, request: bytes) -> tuple[Outcome, bytes]:
    """Return the last topic level and the payload that carry `reply` to the message `request`.

    What is longer than brokers take is refused: sent, it would cost us the connection.
    """
    ident = request_id(request)
    match reply:
        case Content(body):
            payload = cbor.encode([ident, body])
            if len(payload) <= MAX_REPLY_BYTES:
                return Outcome.ACCEPTED, payload
            return Outcome.REJECTED, cbor.encode([ident, _TOO_LONG.encode()])
        case Pending(retry_after):
            return Outcome.PENDING, cbor.encode([ident, max(1, math.ceil(retry_after))])
        case SignedRefusal(body):
            return Outcome.REJECTED, cbor.encode([ident, body])
        case Problem():
            return Outcome.REJECTED, cbor.encode([ident, reply.encode()])


def decode_reply(outcome: Outcome, payload: bytes, op: Operation) -> tuple[bytes, Reply]:
    """Return request-id and reply; nothing in it is authenticated.

    Raises:
        MalformedMessage: Not a reply. No other exception leaves this function.
    """
    ident, content = cbor.decode_array(payload, 2, max_bytes=MAX_REPLY_BYTES)
    if type(ident) is not bytes or len(ident) != REQUEST_ID_BYTES:
        msg = "request-id is 8 bytes"
        raise MalformedMessage(msg)
    if outcome is Outcome.PENDING:
        if type(content) is not int or content < 1:
            msg = "pending is a whole number of seconds"
            raise MalformedMessage(msg)
        return ident, Pending(min(float(content), MAX_RETRY_AFTER))
    if type(content) is not bytes or not content:
        msg = "the body is a byte string"
        raise MalformedMessage(msg)
    if outcome is Outcome.ACCEPTED:
        return ident, Content(content, MEDIA[op])
    if content[0] == _SIGN1:
        return ident, SignedRefusal(content, _UNTOLD)
    return ident, Problem.decode(content)
