"""What an exchange costs on a constrained link: bytes, blocks and round trips. Arithmetic only.

`estimate` is the model of RFC 9148 Appendix B (so many bytes of CoAP per message); `measure` builds
the very messages that our two sides exchange and adds up their lengths.
"""

from dataclasses import dataclass
from typing import Final

from constrained.formats import COSE_SIGN1, DEFAULT_FORMATS
from constrained.wire import Block, Code, Option, Type, encode, encode_uint, szx_of
from protocol.labels import Operation
from protocol.ports import Media


@dataclass(frozen=True, slots=True)
class Record:
    """Bytes that a security layer adds to a message, 8-byte tag included.

    Source:
        draft-ietf-iotops-security-protocol-comparison; RFC 9148 §4.6 (DTLS 1.2).
    """

    request: int
    answer: int


PLAIN: Final = Record(0, 0)
DTLS_1_2: Final = Record(29, 29)
DTLS_1_3: Final = Record(11, 11)
OSCORE: Final = Record(13, 11)

MODEL_HEADER_BYTES: Final = 10
"""CoAP header and options of one message in RFC 9148 §4.6's model."""
TOKEN_BYTES: Final = 2
"""Bytes of the tokens that our client sends, nearly always."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The sum of an exchange, without losses, UDP, IP and handshakes."""

    round_trips: int
    payload: int
    """Bytes of both bodies."""
    coap: int
    """Bytes of CoAP headers, tokens and options."""
    record: int
    """Bytes of the security layer."""
    largest: int
    """Bytes of the longest message, security layer included; what has to fit a frame."""

    @property
    def messages(self) -> int:
        """Datagrams, both ways."""
        return 2 * self.round_trips

    @property
    def total(self) -> int:
        """Bytes, both ways."""
        return self.payload + self.coap + self.record

    def seconds(self, bits_per_second: float, per_message: int = 0) -> float:
        """Return how long a half-duplex link is busy.

        Args:
            bits_per_second: Of the link, > 0.
            per_message: Bytes of the layers below (UDP, IP or its compression, frame) in each message.
        """
        return 8 * (self.total + self.messages * per_message) / bits_per_second


def blocks(length: int, block_size: int) -> int:
    """Return how many messages carry a body of `length` bytes; an empty one takes one."""
    return max(1, -(-length // block_size))


def round_trips(request: int, answer: int, block_size: int) -> int:
    """Return the round trips of bodies of these lengths: the last block up brings the first one down."""
    return blocks(request, block_size) + blocks(answer, block_size) - 1


def estimate(
    request: int,
    answer: int,
    *,
    block_size: int,
    header: int = MODEL_HEADER_BYTES,
    record: Record = PLAIN,
) -> Budget:
    """Return the budget of an exchange by RFC 9148's model.

    Args:
        request: Bytes of the request's body.
        answer: Bytes of the answer's body.
        block_size: 16, 32, 64, 128, 256, 512 or 1024.
        header: Bytes of CoAP in each message.
        record: Security layer.
    """
    szx_of(block_size)
    trips = round_trips(request, answer, block_size)
    largest = header + max(min(request, block_size) + record.request, min(answer, block_size) + record.answer)
    return Budget(
        trips, request + answer, 2 * trips * header, trips * (record.request + record.answer), largest
    )


def measure(
    label: str,
    op: Operation,
    request: int,
    answer: int,
    *,
    media: Media = Media.C509_CERTIFICATE,
    block_size: int = 1024,
    root: str = "e",
    record: Record = PLAIN,
) -> Budget:
    """Return the budget of an exchange as `constrained.client` and `constrained.server` have it.

    Args:
        label: Certificate profile.
        op: Operation; without a body, `request` counts as 0.
        request: Bytes of the request's body.
        answer: Bytes of the answer's body.
        media: What the answer is.
        block_size: As given to `connect`.
        root: As given to `connect`.
        record: Security layer.
    """
    request = request if op.has_body else 0
    up, down = (
        _requests(label, op, request, answer, block_size, root),
        _answers(op, request, answer, media, block_size),
    )
    lengths = [
        (len(encode(Type.CON, code, 0, bytes(TOKEN_BYTES), options, bytes(body))), extra, body)
        for messages, extra in ((up, record.request), (down, record.answer))
        for code, options, body in messages
    ]
    return Budget(
        len(up),
        request + answer,
        sum(length - body for length, _, body in lengths),
        sum(extra for _, extra, _ in lengths),
        max(length + extra for length, extra, _ in lengths),
    )


_Message = tuple[int, list[tuple[int, bytes]], int]
"""Code, options, length of the payload."""


def _chunks(length: int, block_size: int) -> list[int]:
    return [min(block_size, length - at) for at in range(0, length, block_size)] or [0]


def _block(option: Option, number: int, szx: int, *, more: bool) -> tuple[int, bytes]:
    return option, Block(number, more, szx).encode()


def _requests(
    label: str, op: Operation, request: int, answer: int, block_size: int, root: str
) -> list[_Message]:
    szx, code = szx_of(block_size), Code.POST if op.has_body else Code.GET
    path: list[tuple[int, bytes]] = [
        (Option.URI_PATH, part.encode()) for part in (*root.split("/"), label, op)
    ]
    if op.has_body:
        path.append((Option.CONTENT_FORMAT, encode_uint(COSE_SIGN1)))
    chunks = _chunks(request, block_size)
    messages: list[_Message] = []
    for number, chunk in enumerate(chunks):
        is_last = number == len(chunks) - 1
        options = list(path)
        if len(chunks) > 1:
            options.append(_block(Option.BLOCK1, number, szx, more=not is_last))
            if number == 0:
                options.append((Option.SIZE1, encode_uint(request)))
        if is_last and block_size < 1024:
            options.append(_block(Option.BLOCK2, 0, szx, more=False))
        messages.append((code, options, chunk))
    rest = range(1, blocks(answer, block_size))
    return messages + [(code, [*path, _block(Option.BLOCK2, number, szx, more=False)], 0) for number in rest]


def _answers(op: Operation, request: int, answer: int, media: Media, block_size: int) -> list[_Message]:
    szx = szx_of(block_size)
    ups, downs = _chunks(request, block_size), _chunks(answer, block_size)
    messages: list[_Message] = [
        (Code.CONTINUE, [_block(Option.BLOCK1, number, szx, more=True)], 0) for number in range(len(ups) - 1)
    ]
    common: list[tuple[int, bytes]] = [(Option.CONTENT_FORMAT, encode_uint(DEFAULT_FORMATS.number(media)))]
    if not op.has_body:
        common.append((Option.ETAG, bytes(8)))
    code = Code.CHANGED if op.has_body else Code.CONTENT
    for number, chunk in enumerate(downs):
        options, more = list(common), number < len(downs) - 1
        if len(downs) > 1 or block_size < 1024:
            options.append(_block(Option.BLOCK2, number, szx, more=more))
        if number == 0 and more:
            options.append((Option.SIZE2, encode_uint(answer)))
        if number == 0 and len(ups) > 1:
            options.append(_block(Option.BLOCK1, len(ups) - 1, szx, more=False))
        messages.append((code, options, chunk))
    return messages
