"""A-XDR (IEC 61334-6), as much of it as keys need: lengths, octet strings, and five types of COSEM data.

Reading is strict. A length is written in the fewest octets, has a limit that the caller names, and is never
indefinite; nothing may follow the last item. The only exception is `MalformedMessage`.
"""

from collections.abc import Iterable
from typing import Final

from protocol.errors import MalformedMessage

# Tags of COSEM data (Blue Book, common data types).
_ARRAY: Final = 1
_STRUCTURE: Final = 2
_UNSIGNED32: Final = 6
_OCTET_STRING: Final = 9
_ENUM: Final = 22

MAX_LENGTH_OCTETS: Final = 4
"""Octets of a long length: 4 GiB is more than any limit of ours."""


def length(value: int) -> bytes:
    """Return `value` as a length: one octet below 128, else the number of octets and they."""
    if value < 0x80:
        return bytes((value,))
    octets = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(octets),)) + octets


def octets(value: bytes) -> bytes:
    """Return an octet string without a tag: its length and itself."""
    return length(len(value)) + value


def octet_string(value: bytes) -> bytes:
    """Return COSEM data: an octet-string."""
    return bytes((_OCTET_STRING,)) + octets(value)


def enum(value: int) -> bytes:
    """Return COSEM data: an enum, at least 0 and at most 255."""
    return bytes((_ENUM, value))


def unsigned32(value: int) -> bytes:
    """Return COSEM data: a double-long-unsigned, at least 0 and below 2^32."""
    return bytes((_UNSIGNED32,)) + value.to_bytes(4, "big")


def structure(*items: bytes) -> bytes:
    """Return COSEM data: a structure of these."""
    return bytes((_STRUCTURE,)) + length(len(items)) + b"".join(items)


def array(items: Iterable[bytes]) -> bytes:
    """Return COSEM data: an array of these."""
    every = tuple(items)
    return bytes((_ARRAY,)) + length(len(every)) + b"".join(every)


class Reader:
    """Reads one message from its first octet to its last.

    Args:
        data: The whole message.
    """

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        """Return the next `count` octets."""
        end = self._at + count
        if end > len(self._data):
            raise MalformedMessage("the message ends early")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def byte(self) -> int:
        """Return the next octet."""
        return self.take(1)[0]

    def expect(self, octets: bytes, what: str) -> None:
        """Read `octets` and nothing else."""
        if self.take(len(octets)) != octets:
            raise MalformedMessage(f"not {what}")

    def length(self, limit: int) -> int:
        """Return a length of at most `limit`, written in the fewest octets."""
        first = self.byte()
        value = first
        if first >= 0x80:
            count = first & 0x7F
            if not 1 <= count <= MAX_LENGTH_OCTETS:
                raise MalformedMessage("an indefinite or overlong length")
            value = int.from_bytes(self.take(count), "big")
            if length(value)[0] != first:
                raise MalformedMessage("a length that fits fewer octets")
        if value > limit:
            raise MalformedMessage(f"longer than the {limit} allowed here")
        return value

    def octets(self, limit: int) -> bytes:
        """Return an octet string that has no tag."""
        return self.take(self.length(limit))

    def octet_string(self, limit: int) -> bytes:
        """Return an octet-string of COSEM data."""
        self._tag(_OCTET_STRING, "an octet-string")
        return self.octets(limit)

    def enum(self) -> int:
        """Return an enum of COSEM data."""
        self._tag(_ENUM, "an enum")
        return self.byte()

    def unsigned32(self) -> int:
        """Return a double-long-unsigned of COSEM data."""
        self._tag(_UNSIGNED32, "a double-long-unsigned")
        return int.from_bytes(self.take(4), "big")

    def structure(self, count: int) -> None:
        """Enter a structure of exactly `count` items."""
        self._tag(_STRUCTURE, "a structure")
        if self.length(count) != count:
            raise MalformedMessage(f"a structure of {count} items is expected")

    def array(self, limit: int) -> int:
        """Enter an array and return how many items it has."""
        self._tag(_ARRAY, "an array")
        return self.length(limit)

    def end(self) -> None:
        """Say that the message is over."""
        if self._at != len(self._data):
            raise MalformedMessage("octets after the end")

    def _tag(self, tag: int, what: str) -> None:
        if self.byte() != tag:
            raise MalformedMessage(f"{what} is expected")
