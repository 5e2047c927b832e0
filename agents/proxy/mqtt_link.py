"""One MQTT connection through a bad network: sans-I/O, time as an argument.

Only PUBLISH packets are harmed, in both directions; everything else passes at once, so that the
connection itself stays whole:

* a lost QoS 1 PUBLISH is acknowledged to its sender here, as by a broker that lost it afterwards;
* a repeated one has its second PUBACK swallowed, so that each sender sees one per PUBLISH;
* QoS 2 and packets with a topic alias (MQTT 5) pass unharmed: both tie later packets to this one;
* what is held back leaves before a DISCONNECT does.
"""

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from random import Random

from agents.proxy import mqtt_packets
from agents.proxy.faults import Counts, Faults, Mangler
from agents.proxy.mqtt_packets import PacketReader, PacketType


class Side(Enum):
    """Who is at the other end of a stream."""

    CLIENT = "client"
    BROKER = "broker"

    @property
    def other(self) -> "Side":
        """The side across."""
        return Side.BROKER if self is Side.CLIENT else Side.CLIENT


@dataclass(frozen=True, slots=True)
class Send:
    """Effect: write `data` to the stream of `side`."""

    side: Side
    data: bytes


class _Flow:
    """PUBLISH packets from one side to the other, and the acknowledgements that come back."""

    def __init__(self, faults: Faults, random: Random, counts: Counts) -> None:
        self.reader = PacketReader()
        self.mangler: Mangler[bytes] = Mangler(faults, random, counts)
        self.unanswered: set[int] = set()
        """Packet identifiers that the sender waits for; at most 65535."""
        self.surplus: Counter[int] = Counter()
        """PUBACKs that will come for copies of ours and must not reach the sender."""


class Link:
    """Both directions of one connection.

    Args:
        faults: How bad both directions are.
        seed: Makes the decisions repeatable.
        counts: Where to count; may be shared.
    """

    def __init__(self, faults: Faults, seed: str, counts: Counts) -> None:
        # Not for secrets: a seed makes a bad network repeatable.
        self._flows = {side: _Flow(faults, Random(f"{seed}:{side.value}"), counts) for side in Side}  # noqa: S311
        self._level = 4

    @property
    def deadline(self) -> float | None:
        """When `timeout` is next due; None while nothing is held back."""
        deadlines = [d for flow in self._flows.values() if (d := flow.mangler.deadline) is not None]
        return min(deadlines, default=None)

    def receive(self, side: Side, data: bytes, now: float) -> list[Send]:
        """Return what to write where, now that `side` sent `data`.

        Raises:
            NotMqtt: The bytes are no MQTT; close both streams.
        """
        effects: list[Send] = []
        for packet in self._flows[side].reader.feed(data):
            effects += self._packet(side, packet, now)
        return effects

    def timeout(self, now: float) -> list[Send]:
        """Return the held packets whose time has come."""
        return [
            Send(side.other, packet) for side, flow in self._flows.items() for packet in flow.mangler.due(now)
        ]

    def _packet(self, side: Side, packet: bytes, now: float) -> list[Send]:
        match mqtt_packets.packet_type(packet):
            case PacketType.PUBLISH:
                return self._publish(side, packet, now)
            case PacketType.PUBACK:
                return self._puback(side, packet)
            case PacketType.CONNECT:
                self._level = mqtt_packets.protocol_level(packet)
            case PacketType.DISCONNECT:
                held = self._flows[side].mangler.flush()
                return [Send(side.other, one) for one in (*held, packet)]
            case _:
                pass
        return [Send(side.other, packet)]

    def _publish(self, side: Side, packet: bytes, now: float) -> list[Send]:
        publish = mqtt_packets.read_publish(packet, self._level)
        flow = self._flows[side]
        if publish.qos > 1 or publish.has_topic_alias:
            return [Send(side.other, packet)]
        if publish.packet_id is None:
            fate = flow.mangler.take(packet, now)
        else:
            fate = flow.mangler.take(packet, now, again=mqtt_packets.as_duplicate(packet))
            if fate.copies == 0:
                return [Send(side, mqtt_packets.puback(publish.packet_id))]
            flow.unanswered.add(publish.packet_id)
            flow.surplus[publish.packet_id] += fate.copies - 1
        return [Send(side.other, one) for one in fate.leaving]

    def _puback(self, side: Side, packet: bytes) -> list[Send]:
        """`side` acknowledges a PUBLISH of the other one."""
        flow = self._flows[side.other]
        packet_id = mqtt_packets.acknowledged_id(packet)
        if packet_id in flow.unanswered:
            flow.unanswered.discard(packet_id)
        elif flow.surplus[packet_id] > 0:
            flow.surplus[packet_id] -= 1
            return []
        return [Send(side.other, packet)]
