"""The little DER that C509's X.509 side needs (X.690 §8, §10).

`cryptography` reads and writes certificates but does not hand back the bytes of their parts, and a
re-encoded certificate must give back every byte. Only tag numbers below 31 occur in X.509.
"""

from typing import Final, NoReturn

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OID: Final = 0x06
UTF8_STRING: Final = 0x0C
PRINTABLE_STRING: Final = 0x13
IA5_STRING: Final = 0x16
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31

TRUE: Final = b"\x01\x01\xff"
NULL_VALUE: Final = b"\x05\x00"


class DerError(ValueError):
    """Not DER, or not the structure that was asked for."""


def _fail(detail: str) -> NoReturn:
    raise DerError(detail)


def tlv(tag: int, content: bytes) -> bytes:
    """Return one element: tag octet, shortest length, content."""
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    if length < 0x100:
        return bytes((tag, 0x81, length)) + content
    if length < 0x10000:
        return bytes((tag, 0x82, length >> 8, length & 0xFF)) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def sequence(*parts: bytes) -> bytes:
    """Return a SEQUENCE of whole elements."""
    return tlv(SEQUENCE, b"".join(parts))


def unsigned(magnitude: bytes, tag: int = INTEGER) -> bytes:
    """Return a non-negative INTEGER from its big-endian octets (leading zeros are dropped)."""
    content = magnitude.lstrip(b"\0")
    if not content or content[0] & 0x80:
        content = b"\0" + content
    return tlv(tag, content)


def integer(value: int, tag: int = INTEGER) -> bytes:
    """Return a non-negative INTEGER."""
    return tlv(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def bit_string(content: bytes) -> bytes:
    """Return a BIT STRING of whole octets."""
    return tlv(BIT_STRING, b"\0" + content)


def named_bits(value: int, tag: int = BIT_STRING) -> bytes:
    """Return a named-bit BIT STRING: bit i of the ASN.1 list is 2^i of `value` (X.690 §11.2.2)."""
    if not value:
        return tlv(tag, b"\0")
    size = (value.bit_length() + 7) // 8
    flipped = int(f"{value:0{size * 8}b}"[::-1], 2)
    return tlv(tag, bytes((size * 8 - value.bit_length(),)) + flipped.to_bytes(size, "big"))


def read_named_bits(content: bytes) -> int:
    """Return the sum of 2^i over the set bits of a BIT STRING's content."""
    if not content:
        _fail("empty BIT STRING")
    bits = "".join(f"{octet:08b}" for octet in content[1:])
    return int(bits[::-1] or "0", 2)


def read_unsigned(content: bytes) -> bytes:
    """Return the magnitude of a non-negative INTEGER's content, without leading zero; zero is empty."""
    if not content or content[0] & 0x80:
        _fail("negative or empty INTEGER")
    if content[0] == 0 and len(content) > 1 and not content[1] & 0x80:
        _fail("INTEGER is not the shortest")
    return content.lstrip(b"\0")


class Reader:
    """Reads elements one after another; every method raises `DerError` where it cannot."""

    __slots__ = ("_data", "_end", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0
        self._end = len(data)

    @property
    def more(self) -> bool:
        """Whether anything is left."""
        return self._position < self._end

    def peek(self) -> int:
        """Return the next tag octet, or -1 at the end."""
        return self._data[self._position] if self._position < self._end else -1

    def _header(self) -> tuple[int, int]:
        """Return start and end of the next element's content."""
        data, position = self._data, self._position
        if position + 2 > self._end:
            _fail("cut off")
        if data[position] & 0x1F == 0x1F:
            _fail("high tag number")
        length = data[position + 1]
        position += 2
        if length & 0x80:
            size = length & 0x7F
            octets = data[position : position + size]
            length = int.from_bytes(octets, "big")
            if not 0 < size <= 4 or len(octets) < size or length < 0x80 or octets[0] == 0:
                _fail("length is indefinite, too long or not the shortest")
            position += size
        if position + length > self._end:
            _fail("cut off")
        return position, position + length

    def take(self, tag: int) -> bytes:
        """Return the content of the next element, which has this tag octet."""
        if self.peek() != tag:
            _fail(f"tag {tag:#04x} expected, {self.peek():#04x} found")
        start, self._position = self._header()
        return self._data[start : self._position]

    def raw(self) -> bytes:
        """Return the next element whole."""
        start = self._position
        _, self._position = self._header()
        return self._data[start : self._position]

    def inner(self, tag: int) -> "Reader":
        """Return a reader of the content of the next element, which has this tag octet."""
        return Reader(self.take(tag))

    def finish(self) -> None:
        """Check that nothing is left."""
        if self._position != self._end:
            _fail("followed by more elements")


def whole(data: bytes, tag: int) -> bytes:
    """Return the content of the one element that `data` is."""
    reader = Reader(data)
    content = reader.take(tag)
    reader.finish()
    return content


def is_element(data: bytes) -> bool:
    """Return whether `data` is exactly one element (its content is not looked at)."""
    reader = Reader(data)
    try:
        reader.raw()
        reader.finish()
    except DerError:
        return False
    return True


def is_oid(content: bytes) -> bool:
    """Return whether `content` is an object identifier's octets (X.690 §8.19)."""
    return (
        0 < len(content) <= 64
        and not content[-1] & 0x80
        and content[0] != 0x80
        and all(octet != 0x80 or content[at] & 0x80 for at, octet in enumerate(content[1:]))
    )


def oid_from_text(text: str) -> bytes:
    """Return the octets of a dotted object identifier.

    Raises:
        ValueError: `text` is not one.
    """
    arcs = [int(arc) for arc in text.split(".")]
    if len(arcs) < 2 or not 0 <= arcs[0] <= 2 or (arcs[0] < 2 and arcs[1] > 39) or min(arcs) < 0:
        msg = f"{text!r} is not an object identifier"
        raise ValueError(msg)
    octets = bytearray()
    for arc in (arcs[0] * 40 + arcs[1], *arcs[2:]):
        group = [arc & 0x7F]
        while arc := arc >> 7:
            group.append(0x80 | arc & 0x7F)
        octets += bytes(reversed(group))
    return bytes(octets)


def oid_to_text(content: bytes) -> str:
    """Return the dotted form of an object identifier's octets."""
    arcs: list[int] = []
    value = 0
    for octet in content:
        value = value << 7 | octet & 0x7F
        if not octet & 0x80:
            if not arcs:
                first = min(value // 40, 2)
                arcs.append(first)
                value -= first * 40
            arcs.append(value)
            value = 0
    return ".".join(map(str, arcs))
