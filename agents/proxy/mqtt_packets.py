"""As much of MQTT (3.1.1 and 5) as a proxy needs: packet borders, and what a PUBLISH is.

Source:
    OASIS MQTT 3.1.1 §2.2, §3.1, §3.3, §3.4; MQTT 5.0 §2.2.2, §3.3.2.3.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

MAX_PACKET_BYTES: Final = 1024 * 1024
"""Longest packet carried; nobody here sends more than some KiB, and a proxy must not buffer floods."""


class PacketType(IntEnum):
    """MQTT control packet types that mean something to the proxy."""

    CONNECT = 1
    PUBLISH = 3
    PUBACK = 4
    DISCONNECT = 14


class NotMqtt(Exception):
    """The bytes are no MQTT packet, or one that is too long; the connection is of no use any more."""


def variable_length(data: bytes | bytearray, start: int) -> tuple[int, int] | None:
    """Return (value, index after it) of the variable byte integer at `start`; None if more bytes are needed.

    Raises:
        NotMqtt: More than four bytes.
    """
    value = 0
    for index in range(4):
        if start + index >= len(data):
            return None
        byte = data[start + index]
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return value, start + index + 1
    raise NotMqtt("a length of more than four bytes")


class PacketReader:
    """Cuts a byte stream into packets; sans-I/O."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the packets that are whole now.

        Raises:
            NotMqtt: A malformed or overlong length.
        """
        self._buffer += data
        packets: list[bytes] = []
        while len(self._buffer) >= 2:
            length = variable_length(self._buffer, 1)
            if length is None:
                break
            end = length[0] + length[1]
            if end > MAX_PACKET_BYTES:
                raise NotMqtt(f"a packet of {end} bytes")
            if len(self._buffer) < end:
                break
            packets.append(bytes(self._buffer[:end]))
            del self._buffer[:end]
        return packets


def packet_type(packet: bytes) -> int:
    """Return the type in a packet's first byte."""
    return packet[0] >> 4


def protocol_level(connect: bytes) -> int:
    """Return 4 (MQTT 3.1.1) or 5 from a CONNECT packet; anything unreadable counts as 4."""
    _, start = variable_length(connect, 1) or (0, 2)
    name_length = int.from_bytes(connect[start : start + 2], "big")
    level = connect[start + 2 + name_length : start + 3 + name_length]
    return level[0] if level else 4


_TOPIC_ALIAS: Final = 0x23
_FIXED_PROPERTIES: Final = {0x01: 1, 0x02: 4, _TOPIC_ALIAS: 2}
_STRING_PROPERTIES: Final = {0x03: 1, 0x08: 1, 0x09: 1, 0x26: 2}
"""Properties of a PUBLISH by their size in bytes, or by how many length-prefixed strings they are."""


@dataclass(frozen=True, slots=True)
class Publish:
    """The parts of a PUBLISH that decide what may be done to it."""

    qos: int
    packet_id: int | None
    """None with QoS 0."""
    has_topic_alias: bool
    """It names its topic by an earlier packet, or is that earlier packet (MQTT 5)."""


def read_publish(packet: bytes, level: int) -> Publish:
    """Return what there is to know about a PUBLISH.

    Raises:
        NotMqtt: It is cut short.
    """
    try:
        _, start = variable_length(packet, 1) or (0, len(packet))
        qos = (packet[0] >> 1) & 3
        topic_length = int.from_bytes(packet[start : start + 2], "big")
        index = start + 2 + topic_length
        packet_id: int | None = None
        if qos:
            packet_id = int.from_bytes(packet[index : index + 2], "big")
            index += 2
        if index > len(packet):
            raise NotMqtt("a PUBLISH that is cut short")
        has_alias = level >= 5 and (topic_length == 0 or _has_topic_alias(packet, index))
    except IndexError:
        raise NotMqtt("a PUBLISH that is cut short") from None
    return Publish(qos, packet_id, has_alias)


def _has_topic_alias(packet: bytes, index: int) -> bool:
    length = variable_length(packet, index)
    if length is None:
        raise NotMqtt("a PUBLISH without properties")
    size, index = length
    end = index + size
    while index < end:
        name = packet[index]
        index += 1
        if name == _TOPIC_ALIAS:
            return True
        if name in _FIXED_PROPERTIES:
            index += _FIXED_PROPERTIES[name]
            continue
        if name == 0x0B:  # subscription identifier
            number = variable_length(packet, index)
            if number is None:
                raise NotMqtt("a property that is cut short")
            index = number[1]
            continue
        if name not in _STRING_PROPERTIES:
            raise NotMqtt(f"property {name:#x} has no place in a PUBLISH")
        for _ in range(_STRING_PROPERTIES[name]):
            index += 2 + int.from_bytes(packet[index : index + 2], "big")
    return False


def puback(packet_id: int) -> bytes:
    """Return the acknowledgement of a QoS 1 PUBLISH; the short form means success in MQTT 5, too."""
    return bytes((PacketType.PUBACK << 4, 2)) + packet_id.to_bytes(2, "big")


def acknowledged_id(packet: bytes) -> int:
    """Return the packet identifier of a PUBACK."""
    _, start = variable_length(packet, 1) or (0, 2)
    return int.from_bytes(packet[start : start + 2], "big")


def as_duplicate(packet: bytes) -> bytes:
    """Return a QoS 1 PUBLISH with its DUP flag set, as a redelivery has it [MQTT-3.3.1-1]."""
    return bytes((packet[0] | 0x08,)) + packet[1:]
