"""The rollover's machines, message by message: the way to new keys, and what a head-end may ask."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agents.keys import SoftwareSigner
from protocol.errors import LocalProtocolError
from protocol.metering import envelope, rollover
from protocol.metering.agreement import Scheme
from protocol.metering.keys import KeyKind, KeySet
from protocol.metering.rollover import (
    Done,
    HeadEnd,
    Ignored,
    Meter,
    MeterState,
    Pairing,
    Plan,
    Reason,
    Send,
    Settled,
    Step,
    Store,
    Switching,
)
from protocol.metering.rollover_messages import Answer, Refusal, Switch, Switched
from protocol.metering.suite import SUITE_2
from tests.metering_world import (
    AGREED,
    FIRST,
    HEAD_END,
    METER,
    SCHEMES,
    by_head_end,
    by_meter,
    head_end,
    key,
    meter,
    new,
    only,
    pairing_of,
    plan,
    said,
    sent,
)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_four_messages_and_both_use_the_new_keys(scheme: Scheme) -> None:
    us, it = head_end(), meter()
    broadcast = b"broadcast key 16"
    offer = us.begin(plan(scheme, transferred={KeyKind.BROADCAST: broadcast}), 0.0)
    answer = it.receive(sent(offer))
    assert it.keys == FIRST
    switch = us.receive(sent(answer), 1.0)
    assert us.keys[0] == FIRST
    switched = it.receive(sent(switch))
    done = us.receive(sent(switched), 2.0)
    (keys,) = us.keys
    assert keys == it.keys == only(switched, Done).keys == only(done, Done).keys
    assert keys.generation == 1
    assert keys.keys[KeyKind.BROADCAST] == broadcast
    assert {len(value) for value in keys.keys.values()} == {16}
    assert not keys.has_twins
    assert us.deadline == float("inf")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_works_with_suite_2(scheme: Scheme) -> None:
    keys = {name: ec.generate_private_key(SUITE_2.curve) for name in ("us", "it", "ka")}
    first = KeySet(0, {KeyKind.UNICAST: bytes(32), KeyKind.AUTHENTICATION: b"1" * 32})
    to_it = Pairing(SUITE_2, HEAD_END, SoftwareSigner(keys["us"]), METER, keys["it"].public_key())
    to_us = Pairing(SUITE_2, METER, SoftwareSigner(keys["it"]), HEAD_END, keys["us"].public_key())
    us = HeadEnd(to_it, Settled(first), keys["ka"].public_key())
    it = Meter(to_us, MeterState(first), lambda: ec.generate_private_key(SUITE_2.curve), keys["ka"])
    kinds = [kind for kind in KeyKind if kind is not KeyKind.BROADCAST]
    ephemerals: dict[KeyKind, ec.EllipticCurvePrivateKey] = {
        kind: ec.generate_private_key(SUITE_2.curve) for kind in kinds
    }
    offer = us.begin(Plan(scheme, b"12345678", ephemerals, {KeyKind.BROADCAST: b"b" * 32}), 0.0)
    switch = us.receive(sent(it.receive(sent(offer))), 0.0)
    us.receive(sent(it.receive(sent(switch))), 0.0)
    assert us.keys == (it.keys,)
    assert it.keys.generation == 1
    assert {len(value) for value in it.keys.keys.values()} == {32}


def test_every_state_is_stored_before_its_message_leaves() -> None:
    us, it = head_end(), meter()
    effects = us.begin(plan(), 0.0)
    for hear in (it.receive, lambda data: us.receive(data, 0.0), it.receive):
        kinds = [type(effect) for effect in effects]
        assert kinds.index(Store) < kinds.index(Send)
        effects = hear(sent(effects))
    kinds = [type(effect) for effect in effects]
    assert kinds == [Store, Done, Send]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_repeat_of_any_message_gets_the_same_octets_back(scheme: Scheme) -> None:
    us, it = head_end(), meter()
    offer = sent(us.begin(plan(scheme), 0.0))
    answer = sent(it.receive(offer))
    assert it.receive(offer) == (Send(answer),)
    switch = sent(us.receive(answer, 0.0))
    assert isinstance(us.receive(answer, 0.0)[0], Ignored)
    switched = sent(it.receive(switch))
    assert it.receive(switch) == (Send(switched),)
    assert it.receive(offer) == (Send(switched),), "an old offer gets the last word"
    us.receive(switched, 0.0)
    assert isinstance(us.receive(switched, 0.0)[0], Ignored)


def test_a_state_survives_as_bytes_at_every_step() -> None:
    us, it = head_end(), meter()
    offer = us.begin(plan(transferred={KeyKind.BROADCAST: b"b" * 16}), 0.0)
    us = head_end(rollover.decode_head_end(rollover.encode_head_end(us.state)))
    assert sent(us.resume(1.0)) == sent(offer)
    answer = sent(it.receive(sent(offer)))
    it = meter(rollover.decode_meter(rollover.encode_meter(it.state)))
    switch = sent(us.receive(answer, 0.0))
    us = head_end(rollover.decode_head_end(rollover.encode_head_end(us.state)))
    assert isinstance(us.state, Switching)
    us.receive(sent(it.receive(switch)), 0.0)
    assert us.keys == (it.keys,)
    assert rollover.decode_head_end(rollover.encode_head_end(us.state)) == us.state
    assert us.resume(2.0) == ()


def test_a_state_does_not_show_its_keys() -> None:
    us = head_end()
    us.begin(plan(Scheme.ONE_PASS, transferred={KeyKind.BROADCAST: b"very secret key!"}), 0.0)
    assert "secret" not in repr(us.state)
    assert "agreed" not in repr(us.state)


def test_the_head_end_sends_again_after_a_pause_and_never_gives_up() -> None:
    us = head_end()
    offer = sent(us.begin(plan(), 0.0))
    now, again = 0.0, 0
    for _ in range(100):
        assert us.timeout(us.deadline - 0.001, 0.5) == ()
        now = us.deadline
        for effect in us.timeout(now, 0.5):
            assert effect == Send(offer)
            again += 1
    assert again == 50
    assert now > 86400 / 20


def test_an_offer_can_be_abandoned_and_its_number_is_not_used_again() -> None:
    us, it = head_end(), meter()
    answer = sent(it.receive(sent(us.begin(plan(), 0.0))))
    assert only(us.abandon(), Store).state == us.state
    assert isinstance(us.receive(answer, 0.0)[0], Ignored)
    us.begin(plan(), 0.0)
    assert us.state.counter == 2


def test_a_switch_cannot_be_abandoned_and_nothing_begins_beside_it() -> None:
    us, it = head_end(), meter()
    us.receive(sent(it.receive(sent(us.begin(plan(), 0.0)))), 0.0)
    with pytest.raises(LocalProtocolError):
        us.abandon()
    with pytest.raises(LocalProtocolError):
        us.begin(plan(), 0.0)
    with pytest.raises(LocalProtocolError):
        head_end().abandon()


@pytest.mark.parametrize(
    "bad",
    [
        plan(kinds=[KeyKind.UNICAST, KeyKind.MASTER]),
        plan(kinds=[KeyKind.UNICAST, KeyKind.AUTHENTICATION]),  # the master key is left as it is
        plan(Scheme.STATIC),
        plan(transferred={KeyKind.MASTER: b"m" * 16}),
        plan(transferred={KeyKind.BROADCAST: b"b" * 32}),
        plan(transferred={KeyKind.BROADCAST: FIRST.keys[KeyKind.UNICAST]}),
        Plan(Scheme.EPHEMERAL, b"", dict.fromkeys(AGREED, new())),
        Plan(Scheme.EPHEMERAL, b"", {kind: ec.generate_private_key(SUITE_2.curve) for kind in AGREED}),
    ],
)
def test_a_plan_that_cannot_work_is_our_own_mistake(bad: Plan) -> None:
    with pytest.raises(ValueError):
        head_end().begin(bad, 0.0)


def test_a_transferred_key_needs_a_master_key_that_is_agreed_on() -> None:
    first = KeySet(0, {})
    short = plan(kinds=[KeyKind.UNICAST, KeyKind.AUTHENTICATION], transferred={KeyKind.BROADCAST: b"b" * 16})
    with pytest.raises(ValueError, match="master"):
        head_end(Settled(first)).begin(short, 0.0)


def test_without_the_meters_key_there_is_no_one_pass() -> None:
    us = HeadEnd(pairing_of("head-end", "meter"), Settled(FIRST))
    with pytest.raises(ValueError, match="scheme"):
        us.begin(plan(Scheme.ONE_PASS), 0.0)


def test_an_ephemeral_key_is_offered_once() -> None:
    us, same = head_end(), plan()
    us.begin(same, 0.0)
    us.abandon()
    with pytest.raises(ValueError, match="once"):
        us.begin(same, 0.0)


def test_the_last_generation_is_the_last() -> None:
    us = head_end(Settled(FIRST, 2**32 - 1))
    with pytest.raises(ValueError, match="generation"):
        us.begin(plan(), 0.0)


def test_a_confirmation_with_other_keys_leaves_both_sets_in_place() -> None:
    us, it = head_end(), meter()
    us.receive(sent(it.receive(sent(us.begin(plan(), 0.0)))), 0.0)
    assert isinstance(us.state, Switching)
    own = said(us.state.message)
    assert isinstance(own, Switch)
    for bad in (bytes(44), b"", own.confirmation):
        assert isinstance(us.receive(by_meter(Switched(1, bad)), 0.0)[0], Ignored)
    assert len(us.keys) == 2


def test_neither_side_hears_strangers() -> None:
    us, it = head_end(), meter()
    offer = sent(us.begin(plan(), 0.0))
    answer = sent(meter().receive(offer))
    for data in (b"", b"\xdf", offer[:-1] + bytes([offer[-1] ^ 1]), answer):
        assert isinstance(it.receive(data)[0], Ignored)
    for data in (b"", answer[:-1] + bytes([answer[-1] ^ 1]), offer):
        assert isinstance(us.receive(data, 0.0)[0], Ignored)
    sealed = envelope.decode(offer)
    other = envelope.sign(
        SoftwareSigner(key("head-end")),
        transaction_id=b"",
        originator=HEAD_END,
        recipient=METER,
        content=sealed.content,
    )
    assert isinstance(it.receive(other.encode())[0], Ignored), "an envelope for something else"
    stranger = replace(pairing_of("head-end", "meter"), signer=SoftwareSigner(key("stranger")))
    assert isinstance(it.receive(stranger.seal(b"", said(offer)))[0], Ignored)
    assert isinstance(it.receive(by_head_end(Answer(9, {})))[0], Ignored)
    assert it.state == MeterState(FIRST)


def test_the_head_end_hears_this_conversation_and_generation_alone() -> None:
    us, it = head_end(), meter()
    answer = said(sent(it.receive(sent(us.begin(plan(), 0.0)))))
    before = us.state
    assert isinstance(answer, Answer)
    for data in (
        by_meter(answer, b"another"),
        by_meter(replace(answer, generation=2)),
        by_meter(Switched(1, bytes(44))),
        by_meter(Refusal(1, Step.SWITCH, Reason.STALE, 1)),
    ):
        assert isinstance(us.receive(data, 0.0)[0], Ignored)
    assert us.state == before
    assert us.timeout(us.deadline - 1, 0.0) == ()
    assert head_end().timeout(1e9, 0.0) == ()
    assert isinstance(head_end().receive(by_meter(answer), 0.0)[0], Ignored)
