"""The parts of a rollover: states as bytes, messages, confirmations."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import cbor
from protocol.errors import MalformedMessage
from protocol.metering import rollover, rollover_messages
from protocol.metering.agreement import Scheme
from protocol.metering.confirmation import confirm, is_confirmed
from protocol.metering.keys import KeyKind, KeySet
from protocol.metering.rollover import (
    Reason,
    Step,
)
from protocol.metering.rollover_messages import Answer, Message, Offer, Refusal, Switch, Switched
from protocol.metering.suite import SUITE_1
from tests.metering_world import (
    HEAD_END,
    METER,
)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_state_or_malformed(data: bytes) -> None:
    for decode in (rollover.decode_head_end, rollover.decode_meter):
        with pytest.raises(MalformedMessage):
            decode(data)


@pytest.mark.parametrize(
    "item",
    [
        ["settled", [3, {0: b"k"}], 2, []],
        ["settled", [0, {4: b"k"}], 0, []],
        ["settled", [0, {0: 1}], 0, []],
        ["settled", [0, []], 0, []],
        ["settled", [0, {}], 0, {}],
        ["settled", [0, {}], 0, [1]],
        ["settled", [2**32, {}], 2**33, []],
        [[3, {}], 2, None, b"", b"", []],
        [[0, {}], 0, 1, b"", b"", []],
        [[0, {}], 0, [[0, {}], [9]], b"", b"", []],
    ],
)
def test_a_state_that_contradicts_itself_is_malformed(item: object) -> None:
    for decode in (rollover.decode_head_end, rollover.decode_meter):
        with pytest.raises(MalformedMessage):
            decode(cbor.encode(item))


MESSAGES = [
    Offer(1, 1, Scheme.EPHEMERAL, {KeyKind.UNICAST: b"k"}, (KeyKind.BROADCAST, KeyKind.MASTER)),
    Answer(2, {}),
    Switch(3, {KeyKind.BROADCAST: bytes(24)}, bytes(44)),
    Switched(4, bytes(60)),
    Refusal(5, Step.SWITCH, Reason.STALE, 9),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_reads_back_and_a_cut_or_longer_one_is_malformed(message: Message) -> None:
    content = rollover_messages.encode(message)
    assert rollover_messages.decode(content) == message
    for bad in (*(content[:cut] for cut in range(len(content))), content + b"\0"):
        with pytest.raises(MalformedMessage):
            rollover_messages.decode(bad)


@given(st.sampled_from(MESSAGES), st.data())
def test_a_changed_message_is_malformed_or_another_one(message: Message, data: st.DataObject) -> None:
    content = bytearray(rollover_messages.encode(message))
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = rollover_messages.decode(bytes(content))
    except MalformedMessage:
        return
    assert rollover_messages.encode(read) == bytes(content)


def test_entries_have_one_order() -> None:
    content = rollover_messages.encode(Answer(1, {KeyKind.UNICAST: b"a", KeyKind.MASTER: b"b"}))
    first, second = content[-14:-7], content[-7:]
    with pytest.raises(MalformedMessage):
        rollover_messages.decode(content[:-14] + second + first)
    twice = Offer(1, 1, Scheme.EPHEMERAL, {}, (KeyKind.MASTER, KeyKind.BROADCAST))
    with pytest.raises(MalformedMessage):
        rollover_messages.decode(rollover_messages.encode(twice))


def test_a_confirmation_is_of_these_keys_this_step_and_this_direction() -> None:
    keys = KeySet(1, {kind: bytes([9, kind]) * 8 for kind in KeyKind})
    proof = confirm(SUITE_1, keys, Step.SWITCH, HEAD_END, METER)
    assert len(proof) == 44
    assert is_confirmed(SUITE_1, keys, Step.SWITCH, HEAD_END, METER, proof)
    assert not is_confirmed(SUITE_1, keys, Step.SWITCHED, HEAD_END, METER, proof)
    assert not is_confirmed(SUITE_1, keys, Step.SWITCH, METER, HEAD_END, proof)
    assert not is_confirmed(SUITE_1, keys, Step.SWITCH, HEAD_END, HEAD_END, proof)
    assert not is_confirmed(SUITE_1, keys, Step.SWITCH, HEAD_END, METER, proof[:-1])
    assert not is_confirmed(SUITE_1, replace(keys, generation=2), Step.SWITCH, HEAD_END, METER, proof)
    for kind in KeyKind:
        other = KeySet(1, {**keys.keys, kind: bytes(16)})
        assert not is_confirmed(SUITE_1, other, Step.SWITCH, HEAD_END, METER, proof)
