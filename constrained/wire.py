"""CoAP's message syntax (RFC 7252 §3), strict and bounded.

Why not aiocoap's decoder alone: 0.4.17 remembers every option number and every content-format number
it was ever sent (both enumerations grow, and a number may be as long as a datagram), raises
UnicodeDecodeError where a path is not UTF-8, and takes reserved token lengths. So every datagram is
read here first, and aiocoap sees only what is understood. Paths stay bytes: they are looked up, never
shown.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from protocol.errors import MalformedMessage

MAX_DATAGRAM_BYTES: Final = 4096 + 512
"""Longest datagram that is read: the longest body and generous options."""
MAX_OPTIONS: Final = 64
"""Most options in one message: ours have ten at most, and each costs a third of a microsecond."""


class Type(IntEnum):
    """Message types (RFC 7252 §4)."""

    CON = 0
    NON = 1
    ACK = 2
    RST = 3


class Code(IntEnum):
    """The codes that we send or tell apart (RFC 7252 §12.1, RFC 7959, RFC 8132, RFC 8516)."""

    EMPTY = 0x00
    GET = 0x01
    POST = 0x02
    CHANGED = 0x44
    VALID = 0x43
    CONTENT = 0x45
    CONTINUE = 0x5F
    BAD_REQUEST = 0x80
    UNAUTHORIZED = 0x81
    BAD_OPTION = 0x82
    FORBIDDEN = 0x83
    NOT_FOUND = 0x84
    METHOD_NOT_ALLOWED = 0x85
    NOT_ACCEPTABLE = 0x86
    REQUEST_ENTITY_INCOMPLETE = 0x88
    CONFLICT = 0x89
    REQUEST_ENTITY_TOO_LARGE = 0x8D
    UNSUPPORTED_CONTENT_FORMAT = 0x8F
    UNPROCESSABLE_ENTITY = 0x96
    TOO_MANY_REQUESTS = 0x9D
    INTERNAL_SERVER_ERROR = 0xA0
    SERVICE_UNAVAILABLE = 0xA3
    PROXYING_NOT_SUPPORTED = 0xA5


class Option(IntEnum):
    """The options that we understand; odd numbers are critical (RFC 7252 §5.4.6)."""

    URI_HOST = 3
    ETAG = 4
    URI_PORT = 7
    URI_PATH = 11
    CONTENT_FORMAT = 12
    MAX_AGE = 14
    URI_QUERY = 15
    ACCEPT = 17
    BLOCK2 = 23
    BLOCK1 = 27
    SIZE2 = 28
    PROXY_URI = 35
    PROXY_SCHEME = 39
    SIZE1 = 60
    NO_RESPONSE = 258
    REQUEST_TAG = 292


_LENGTHS: Final[dict[int, tuple[int, int]]] = {
    Option.URI_HOST: (1, 255),
    Option.ETAG: (1, 8),
    Option.URI_PORT: (0, 2),
    Option.URI_PATH: (0, 255),
    Option.CONTENT_FORMAT: (0, 2),
    Option.MAX_AGE: (0, 4),
    Option.URI_QUERY: (0, 255),
    Option.ACCEPT: (0, 2),
    Option.BLOCK2: (0, 3),
    Option.BLOCK1: (0, 3),
    Option.SIZE2: (0, 4),
    Option.PROXY_URI: (1, 1034),
    Option.PROXY_SCHEME: (1, 255),
    Option.SIZE1: (0, 4),
    Option.NO_RESPONSE: (0, 1),
    Option.REQUEST_TAG: (0, 8),
}
_REPEATABLE: Final = frozenset({Option.ETAG, Option.URI_PATH, Option.URI_QUERY, Option.REQUEST_TAG})


class Block(NamedTuple):
    """The value of Block1 and Block2 (RFC 7959 §2.2)."""

    number: int
    more: bool
    szx: int
    """Size exponent 0 to 6: blocks of 16 to 1024 bytes; 7 is reserved over UDP."""

    @property
    def size(self) -> int:
        """Bytes in a full block."""
        return 16 << self.szx

    @property
    def start(self) -> int:
        """Offset of the block in the body."""
        return self.number << (self.szx + 4)

    def encode(self) -> bytes:
        """Return the option's value."""
        return encode_uint(self.number << 4 | self.more << 3 | self.szx)

    @classmethod
    def decode(cls, value: bytes) -> "Block":
        """Return the block that an option's value of up to 3 bytes means."""
        number = int.from_bytes(value)
        return cls(number >> 4, bool(number & 8), number & 7)


MAX_BLOCK_SIZE: Final = 1024
"""Largest regular block (RFC 7959 §2.2)."""


def szx_of(size: int) -> int:
    """Return the size exponent of blocks of `size` bytes.

    Raises:
        ValueError: `size` is not 16, 32, 64, 128, 256, 512 or 1024.
    """
    szx = size.bit_length() - 5
    if not 0 <= szx <= 6 or 16 << szx != size:
        msg = f"a block has 16, 32, 64, 128, 256, 512 or 1024 bytes, not {size}"
        raise ValueError(msg)
    return szx


class Datagram(NamedTuple):
    """One CoAP message as it stands on the wire."""

    type: int
    code: int
    mid: int
    token: bytes
    options: tuple[tuple[int, bytes], ...]
    """In rising order of number; only such as `Option` lists, with lengths that the RFCs allow."""
    payload: bytes
    refused: int | None = None
    """A critical option that is not understood, if there was one (RFC 7252 §5.4.1)."""


def encode_uint(value: int) -> bytes:
    """Return `value` in as few bytes as it needs; zero is empty (RFC 7252 §3.2)."""
    return value.to_bytes((value.bit_length() + 7) >> 3)


_TRUNCATED: Final = "an option is cut short"


def decode(data: bytes) -> Datagram:
    """Return the message in `data`.

    Options that are not understood, or whose length or repetition is not allowed, are left out if
    they are elective and reported in `refused` if they are critical (RFC 7252 §5.4.1, §5.4.3, §5.4.5).

    Raises:
        MalformedMessage: Not CoAP version 1, a reserved token length, an option cut short or a
            reserved nibble, a payload marker without a payload, or an empty message that is not
            empty. No other exception leaves this function.

    Source:
        RFC 7252 §3, §3.1, §4.1.
    """
    if len(data) < 4 or data[0] >> 6 != 1:
        raise MalformedMessage("not CoAP version 1")
    token_end = 4 + (data[0] & 15)
    if token_end > 12 or len(data) < token_end:
        raise MalformedMessage("reserved or missing token")
    code = data[1]
    if code == 0 and len(data) > 4:
        raise MalformedMessage("an empty message has nothing after its message ID")
    options, at, refused = _options(data, token_end)
    if len(data) == at + 1:
        raise MalformedMessage("a payload marker, and no payload")
    kind, mid = data[0] >> 4 & 3, data[2] << 8 | data[3]
    return Datagram(kind, code, mid, data[4:token_end], tuple(options), data[at + 1 :], refused)


def _options(data: bytes, at: int) -> tuple[list[tuple[int, bytes]], int, int | None]:
    """Return the understood options, where they end (payload marker or end), and a refused one."""
    options: list[tuple[int, bytes]] = []
    number, previous, count, end, refused = 0, -1, 0, len(data), None
    while at < end and data[at] != 0xFF:
        delta, length = data[at] >> 4, data[at] & 15
        at += 1
        if delta > 12:
            delta, at = _extended(data, at, delta)
        if length > 12:
            length, at = _extended(data, at, length)
        number += delta
        if at + length > end or number > 0xFFFF:
            raise MalformedMessage(_TRUNCATED)
        bounds = _LENGTHS.get(number)
        if (
            bounds is not None
            and bounds[0] <= length <= bounds[1]
            and (number != previous or number in _REPEATABLE)
        ):
            options.append((number, data[at : at + length]))
        elif number & 1 and refused is None:
            refused = number
        previous = number
        at += length
        count += 1
        if count > MAX_OPTIONS:
            raise MalformedMessage("too many options")
    return options, at, refused


def _extended(data: bytes, at: int, nibble: int) -> tuple[int, int]:
    if nibble == 15:
        raise MalformedMessage("a reserved option nibble")
    width = nibble - 12
    if at + width > len(data):
        raise MalformedMessage(_TRUNCATED)
    return int.from_bytes(data[at : at + width]) + (13 if width == 1 else 269), at + width


def encode(
    kind: int,
    code: int,
    mid: int,
    token: bytes,
    options: Iterable[tuple[int, bytes]] = (),
    payload: bytes = b"",
) -> bytes:
    """Return the message as a datagram.

    Args:
        kind: A `Type`.
        code: A `Code`.
        mid: Message ID, 0 to 65535.
        token: At most 8 bytes.
        options: In any order; equal numbers keep theirs.
        payload: May be empty.

    Source:
        RFC 7252 §3.
    """
    parts = [bytes((0x40 | kind << 4 | len(token), code, mid >> 8, mid & 0xFF)), token]
    previous = 0
    for number, value in sorted(options, key=_number):
        delta, delta_bytes = _nibble(number - previous)
        length, length_bytes = _nibble(len(value))
        parts += (bytes((delta << 4 | length,)), delta_bytes, length_bytes, value)
        previous = number
    if payload:
        parts += (b"\xff", payload)
    return b"".join(parts)


def _number(option: tuple[int, bytes]) -> int:
    return option[0]


def _nibble(value: int) -> tuple[int, bytes]:
    if value < 13:
        return value, b""
    if value < 269:
        return 13, bytes((value - 13,))
    return 14, (value - 269).to_bytes(2)


@dataclass(slots=True)
class Request:
    """A request as the door sees it, whatever carried it. Nothing in it is authenticated."""

    code: int
    source: str
    """Who delivered it: "coap:192.0.2.1:5683"."""
    payload: bytes = b""
    path: tuple[bytes, ...] = ()
    query: tuple[bytes, ...] = ()
    content_format: int | None = None
    accept: int | None = None
    etags: tuple[bytes, ...] = ()
    block1: Block | None = None
    block2: Block | None = None
    size1: int | None = None
    no_response: int = 0
    """Bit n - 1 is set if no response of class n is wanted (RFC 7967 §2.1)."""
    tags: tuple[bytes, ...] = ()
    """Request-Tag (RFC 9175 §3): tells uploads of one peer apart."""
    proxied: bool = False
    refused: int | None = None
    """As in `Datagram`."""

    @classmethod
    def of(cls, message: Datagram, source: str) -> "Request":
        """Return what `message` asks for."""
        request = cls(message.code, source, message.payload, refused=message.refused)
        path: list[bytes] = []
        for number, value in message.options:
            if number == Option.URI_PATH:
                path.append(value)
            else:
                request._take(number, value)
        request.path = tuple(path)
        return request

    def _take(self, number: int, value: bytes) -> None:
        match number:
            case Option.CONTENT_FORMAT:
                self.content_format = int.from_bytes(value)
            case Option.BLOCK1:
                self.block1 = Block.decode(value)
            case Option.BLOCK2:
                self.block2 = Block.decode(value)
            case Option.ACCEPT:
                self.accept = int.from_bytes(value)
            case Option.ETAG:
                self.etags += (value,)
            case Option.URI_QUERY:
                self.query += (value,)
            case Option.SIZE1:
                self.size1 = int.from_bytes(value)
            case Option.NO_RESPONSE:
                self.no_response = int.from_bytes(value)
            case Option.REQUEST_TAG:
                self.tags += (value,)
            case Option.PROXY_URI | Option.PROXY_SCHEME:
                self.proxied = True
            case _:  # Uri-Host and Uri-Port: whoever reached us meant us
                pass


class Response(NamedTuple):
    """A response before it is put into a datagram."""

    code: int
    options: tuple[tuple[int, bytes], ...] = ()
    payload: bytes = b""

    def is_wanted(self, no_response: int) -> bool:
        """Return whether a peer that sent No-Response with `no_response` wants this (RFC 7967 §2.1)."""
        return not no_response >> ((self.code >> 5) - 1) & 1
