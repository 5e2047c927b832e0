"""An MQTT connection through a bad network, without a network."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.proxy.faults import Counts, Faults
from agents.proxy.mqtt_link import Link, Send, Side
from agents.proxy.mqtt_packets import MAX_PACKET_BYTES, NotMqtt, PacketReader, puback, read_publish

CLIENT, BROKER = Side.CLIENT, Side.BROKER
CONNECT_4 = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a"
CONNECT_5 = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a"
PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"


def publish(
    topic: str, body: bytes, packet_id: int | None = None, *, qos: int = 1, properties: bytes | None = None
) -> bytes:
    name = topic.encode()
    rest = len(name).to_bytes(2, "big") + name
    if packet_id is not None:
        rest += packet_id.to_bytes(2, "big")
    if properties is not None:
        rest += bytes((len(properties),)) + properties
    rest += body
    first = 0x30 | ((qos if packet_id is not None else 0) << 1)
    return (
        bytes((first, len(rest) & 0x7F | (0x80 if len(rest) > 127 else 0)))
        + (bytes((len(rest) >> 7,)) if len(rest) > 127 else b"")
        + rest
    )


def link(faults: Faults, level: bytes = CONNECT_4) -> Link:
    made = Link(faults, "seed", Counts())
    assert made.receive(CLIENT, level, 0.0) == [Send(BROKER, level)]
    return made


def test_packets_are_cut_the_same_however_the_stream_is_chopped() -> None:
    packets = [CONNECT_4, publish("t", b"x" * 300, 1), PINGREQ, puback(9)]
    stream = b"".join(packets)
    for step in (1, 2, 3, 7, len(stream)):
        reader = PacketReader()
        got = [p for i in range(0, len(stream), step) for p in reader.feed(stream[i : i + step])]
        assert got == packets


@pytest.mark.parametrize("data", [b"\x30\xff\xff\xff\xff\x01", b"\x30\xff\xff\xff\x7f"])
def test_an_overlong_packet_is_refused_before_it_is_buffered(data: bytes) -> None:
    with pytest.raises(NotMqtt):
        PacketReader().feed(data)
    assert MAX_PACKET_BYTES < 0x7F << 21


@given(st.binary(max_size=200), st.sampled_from([4, 5]))
def test_any_bytes_are_a_packet_or_not_mqtt(data: bytes, level: int) -> None:
    try:
        for packet in PacketReader().feed(data):
            if packet[0] >> 4 == 3:
                read_publish(packet, level)
    except NotMqtt:
        pass


def test_a_lost_publish_is_acknowledged_to_its_sender_and_goes_nowhere() -> None:
    lossy = link(Faults(drop=1.0))
    assert lossy.receive(CLIENT, publish("t", b"x", 5), 0.0) == [Send(CLIENT, puback(5))]
    assert lossy.receive(BROKER, publish("t", b"x", 9), 0.0) == [Send(BROKER, puback(9))]
    assert lossy.receive(CLIENT, publish("t", b"x"), 0.0) == []


def test_a_repeated_publish_is_acknowledged_once_to_its_sender() -> None:
    lossy = link(Faults(repeat=1.0))
    packet = publish("t", b"x", 5)
    first, second = lossy.receive(CLIENT, packet, 0.0)
    assert first == Send(BROKER, packet)
    assert second == Send(BROKER, bytes((packet[0] | 8,)) + packet[1:])  # DUP
    assert lossy.receive(BROKER, puback(5), 0.0) == [Send(CLIENT, puback(5))]
    assert lossy.receive(BROKER, puback(5), 0.0) == []
    # The identifier is free again: the next round looks the same.
    assert len(lossy.receive(CLIENT, packet, 0.0)) == 2
    assert lossy.receive(BROKER, puback(5) * 2, 0.0) == [Send(CLIENT, puback(5))]


def test_the_directions_do_not_mix_up_their_identifiers() -> None:
    lossy = link(Faults(repeat=1.0))
    lossy.receive(CLIENT, publish("t", b"x", 5), 0.0)
    lossy.receive(BROKER, publish("t", b"y", 5), 0.0)
    assert lossy.receive(CLIENT, puback(5), 0.0) == [Send(BROKER, puback(5))]
    assert lossy.receive(BROKER, puback(5), 0.0) == [Send(CLIENT, puback(5))]
    assert lossy.receive(CLIENT, puback(5), 0.0) == []
    assert lossy.receive(BROKER, puback(5), 0.0) == []


def test_nothing_but_publish_is_harmed() -> None:
    lossy = link(Faults(drop=1.0, repeat=1.0, reorder=1.0))
    subscribe = b"\x82\x06\x00\x01\x00\x01t\x01"
    for packet in (subscribe, PINGREQ, b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x01"):
        assert lossy.receive(CLIENT, packet, 0.0) == [Send(BROKER, packet)]


def test_quality_of_service_two_passes_whole() -> None:
    lossy = link(Faults(drop=1.0))
    packet = publish("t", b"x", 5, qos=2)
    assert lossy.receive(CLIENT, packet, 0.0) == [Send(BROKER, packet)]


def test_a_topic_alias_passes_whole_because_later_packets_need_it() -> None:
    lossy = link(Faults(drop=1.0), CONNECT_5)
    with_alias = publish("t", b"x", 5, properties=b"\x26\x00\x01a\x00\x01b\x23\x00\x01")
    by_alias = publish("", b"x", 6, properties=b"\x23\x00\x01")
    without = publish("t", b"x", 7, properties=b"\x08\x00\x01r\x0b\x80\x01")
    assert lossy.receive(CLIENT, with_alias, 0.0) == [Send(BROKER, with_alias)]
    assert lossy.receive(CLIENT, by_alias, 0.0) == [Send(BROKER, by_alias)]
    assert lossy.receive(CLIENT, without, 0.0) == [Send(CLIENT, puback(7))]


def test_what_is_held_back_leaves_at_its_time_or_before_a_disconnect() -> None:
    lossy = link(Faults(reorder=1.0))
    packet = publish("t", b"x", 5)
    assert lossy.receive(CLIENT, packet, 10.0) == []
    assert lossy.deadline is not None
    assert lossy.timeout(lossy.deadline) == [Send(BROKER, packet)]
    assert lossy.receive(CLIENT, packet, 20.0) == []
    assert lossy.receive(CLIENT, DISCONNECT, 20.0) == [Send(BROKER, packet), Send(BROKER, DISCONNECT)]
    assert lossy.deadline is None


@given(st.lists(st.sampled_from([CLIENT, BROKER]), max_size=60), st.floats(0, 0.9), st.integers(0, 1000))
def test_each_sender_gets_exactly_one_acknowledgement_per_publish(
    senders: list[Side], loss: float, seed: int
) -> None:
    lossy = Link(Faults.of_loss(loss), str(seed), Counts())
    acknowledged = {CLIENT: 0, BROKER: 0}
    sent = {CLIENT: 0, BROKER: 0}

    def settle(effects: list[Send]) -> None:
        for effect in effects:
            if effect.data[0] >> 4 == 4:
                acknowledged[effect.side] += 1
            else:  # the receiver acknowledges what it gets
                packet_id = read_publish(effect.data, 4).packet_id
                assert packet_id is not None
                settle(lossy.receive(effect.side, puback(packet_id), 0.0))

    for number, side in enumerate(senders, start=1):
        sent[side] += 1
        settle(lossy.receive(side, publish("t", b"x", number), float(number)))
    settle(lossy.timeout(float("inf")))
    assert acknowledged == sent
