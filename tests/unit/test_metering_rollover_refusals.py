"""Rollovers that come to nothing: who refuses what, and that nothing is split by it."""

from dataclasses import replace

import pytest

from protocol.metering.agreement import KdfSettings, Scheme, agree, other_info
from protocol.metering.confirmation import confirm
from protocol.metering.keys import KeyKind, KeySet, wrap_key
from protocol.metering.rollover import (
    Effects,
    HeadEnd,
    Ignored,
    Meter,
    MeterState,
    Offered,
    Reason,
    Refused,
    Send,
    Settled,
    Step,
    Switching,
)
from protocol.metering.rollover_messages import Answer, Offer, Refusal, Switch
from protocol.metering.suite import SUITE_1
from tests.metering_world import (
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


def refusal_of(effects: Effects) -> Refusal:
    refusal = said(sent(effects))
    assert isinstance(refusal, Refusal)
    return refusal


def offer_of(us: HeadEnd) -> Offer:
    assert isinstance(us.state, Offered)
    offer = said(us.state.message)
    assert isinstance(offer, Offer)
    return offer


def test_a_meter_without_a_key_agreement_key_refuses_one_pass_for_good() -> None:
    us, it = head_end(), meter(has_static=False)
    offer = sent(us.begin(plan(Scheme.ONE_PASS), 0.0))
    refused = it.receive(offer)
    assert refusal_of(refused) == Refusal(1, Step.OFFER, Reason.UNSUPPORTED, 1)
    it = meter(it.state)
    assert it.receive(offer) == (Send(sent(refused)),), "also with the key, it stays refused"
    assert only(us.receive(sent(refused), 0.0), Refused) == Refused(1, Step.OFFER, Reason.UNSUPPORTED)
    assert us.state == Settled(FIRST, 1, us.state.spent)
    assert it.keys == FIRST


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"suite": 2}, Reason.UNSUPPORTED),
        ({"scheme": Scheme.STATIC}, Reason.UNSUPPORTED),
        ({"transferred": (KeyKind.UNICAST,)}, Reason.UNSUPPORTED),
        ({"key_data": {}}, Reason.UNSUPPORTED),
    ],
)
def test_offers_that_make_no_sense_are_unsupported(change: dict[str, object], reason: Reason) -> None:
    us, it = head_end(), meter()
    us.begin(plan(), 0.0)
    offer = replace(offer_of(us), **change)  # type: ignore[arg-type]  # fields of an offer
    assert refusal_of(it.receive(by_head_end(offer))).reason is reason


def test_a_transfer_without_a_master_key_is_unsupported() -> None:
    us, it = head_end(Settled(KeySet(0, {}))), meter(MeterState(KeySet(0, {})))
    us.begin(plan(kinds=[KeyKind.UNICAST, KeyKind.AUTHENTICATION]), 0.0)
    offer = replace(offer_of(us), transferred=(KeyKind.BROADCAST,))
    assert refusal_of(it.receive(by_head_end(offer))).reason is Reason.UNSUPPORTED


def test_a_meter_lets_no_key_be_left_as_it_is() -> None:
    held = KeySet(0, {**FIRST.keys, KeyKind.BROADCAST: b"b" * 16})
    us, it = head_end(), meter(MeterState(held))
    assert refusal_of(it.receive(sent(us.begin(plan(), 0.0)))).reason is Reason.INCOMPLETE


def test_a_meter_refuses_ephemeral_keys_that_are_not_good() -> None:
    us = head_end()
    us.begin(plan(), 0.0)
    offer = offer_of(us)
    swapped = dict(zip(offer.key_data, list(offer.key_data.values())[::-1], strict=True))
    broken = {kind: data[:-1] + b"\0" for kind, data in offer.key_data.items()}
    for key_data in (swapped, broken):
        refusal = refusal_of(meter().receive(by_head_end(replace(offer, key_data=key_data))))
        assert refusal.reason is Reason.BAD_KEY


def test_a_meter_refuses_an_ephemeral_key_that_it_has_seen() -> None:
    us, it = head_end(), meter()
    offer = sent(us.begin(plan(), 0.0))
    it.receive(offer)
    again = replace(offer_of(us), generation=2)
    assert refusal_of(it.receive(by_head_end(again))).reason is Reason.BAD_KEY


@pytest.mark.parametrize("scheme", SCHEMES)
def test_sides_that_derive_differently_find_out_before_they_switch(scheme: Scheme) -> None:
    us, it = head_end(settings=KdfSettings(is_wrap_for_master=True)), meter()
    switch = us.receive(sent(it.receive(sent(us.begin(plan(scheme), 0.0)))), 0.0)
    refused = it.receive(sent(switch))
    assert refusal_of(refused) == Refusal(1, Step.SWITCH, Reason.KEYS_DIFFER, 1)
    assert it.state.pending is None
    us.receive(sent(refused), 0.0)
    assert us.keys == (it.keys,) == (FIRST,)


def test_a_replaced_key_agreement_key_is_found_out_too() -> None:
    us, it = head_end(), meter(kind="newer ka")
    switch = us.receive(sent(it.receive(sent(us.begin(plan(Scheme.ONE_PASS), 0.0)))), 0.0)
    assert refusal_of(it.receive(sent(switch))).reason is Reason.KEYS_DIFFER


def test_a_broadcast_key_that_does_not_unwrap_or_was_in_use_ends_the_generation() -> None:
    old = b"the old broadcast"[:16]
    held = KeySet(0, {**FIRST.keys, KeyKind.BROADCAST: old})
    for key_sent, reason in ((None, Reason.KEYS_DIFFER), (old, Reason.BAD_KEY)):
        us, it = head_end(Settled(held)), meter(MeterState(held))
        offer = us.begin(plan(transferred={KeyKind.BROADCAST: b"b" * 16}), 0.0)
        us.receive(sent(it.receive(sent(offer))), 0.0)
        state = us.state
        assert isinstance(state, Switching)
        good = said(state.message)
        assert isinstance(good, Switch)
        if key_sent is None:
            switch = replace(good, wrapped={KeyKind.BROADCAST: bytes(24)})
        else:
            keys = KeySet(1, {**state.next.keys, KeyKind.BROADCAST: key_sent})
            wrapped = wrap_key(SUITE_1, keys.keys[KeyKind.MASTER], key_sent)
            proof = confirm(SUITE_1, keys, Step.SWITCH, HEAD_END, METER)
            switch = Switch(1, {KeyKind.BROADCAST: wrapped}, proof)
        assert refusal_of(it.receive(by_head_end(switch))).reason is reason
        assert it.keys == held
    us, it = head_end(), meter()
    us.receive(sent(it.receive(sent(us.begin(plan(), 0.0)))), 0.0)
    more = Switch(1, {KeyKind.BROADCAST: bytes(24)}, bytes(44))
    assert refusal_of(it.receive(by_head_end(more))).reason is Reason.INCOMPLETE


def test_a_meter_that_forgot_says_so_and_never_follows_that_switch() -> None:
    us = head_end()
    offer = sent(us.begin(plan(), 0.0))
    switch = sent(us.receive(sent(meter().receive(offer)), 0.0))
    it = meter()  # an empty flash
    refused = it.receive(switch)
    assert refusal_of(refused) == Refusal(1, Step.SWITCH, Reason.UNKNOWN_GENERATION, 1)
    late = it.receive(offer)  # a copy that was on its way for long
    assert it.keys == FIRST
    assert it.state.pending is None
    assert sent(late) == sent(refused)
    us.receive(sent(refused), 0.0)
    assert us.keys == (FIRST,)


def test_a_late_refusal_of_the_offer_does_not_undo_the_switch() -> None:
    us, it = head_end(), meter()
    us.receive(sent(it.receive(sent(us.begin(plan(), 0.0)))), 0.0)
    late = by_meter(Refusal(1, Step.OFFER, Reason.UNSUPPORTED, 1))
    assert isinstance(us.receive(late, 0.0)[0], Ignored)
    assert len(us.keys) == 2


def test_a_newer_offer_voids_pending_keys_and_an_older_one_is_stale() -> None:
    us, it = head_end(), meter()
    old = sent(us.begin(plan(), 0.0))
    old_switch = sent(us.receive(sent(meter().receive(old)), 0.0))
    other = head_end(Settled(FIRST, 1))
    it.receive(sent(other.begin(plan(), 0.0)))
    assert refusal_of(it.receive(old)) == Refusal(1, Step.OFFER, Reason.STALE, 2)
    assert refusal_of(it.receive(old_switch)).reason is Reason.UNKNOWN_GENERATION
    assert it.state.pending is not None
    assert it.state.pending.keys.generation == 2


def test_an_old_switch_after_a_newer_offer_changes_nothing() -> None:
    us, it = head_end(), meter()
    switch = sent(us.receive(sent(it.receive(sent(us.begin(plan(), 0.0)))), 0.0))
    us.receive(sent(it.receive(switch)), 0.0)
    it.receive(sent(us.begin(plan(), 0.0)))
    before = it.state
    assert isinstance(it.receive(switch)[0], Ignored)
    assert it.state == before


def test_a_head_end_restored_from_an_old_backup_finds_its_meter_again() -> None:
    us, it = head_end(), meter()
    for _ in range(3):
        switch = us.receive(sent(it.receive(sent(us.begin(plan(), 0.0)))), 0.0)
        us.receive(sent(it.receive(sent(switch))), 0.0)
    restored = us
    for counter in (0, 2):  # behind the meter's floor, and about to offer what it is
        restored = head_end(Settled(FIRST, counter))
        made = replace(plan(), transaction_id=b"restored")
        refused = restored.receive(sent(it.receive(sent(restored.begin(made, 0.0)))), 0.0)
        assert only(refused, Refused).reason is Reason.STALE
        assert restored.state.counter == 3
    switch = restored.receive(sent(it.receive(sent(restored.begin(plan(), 0.0)))), 0.0)
    restored.receive(sent(it.receive(sent(switch))), 0.0)
    assert restored.keys == (it.keys,)
    assert it.keys.generation == 4


def test_a_bad_answer_ends_the_offer() -> None:
    for wrong in ("kinds", "signature"):
        us, it = head_end(), meter()
        answer = said(sent(it.receive(sent(us.begin(plan(), 0.0)))))
        assert isinstance(answer, Answer)
        data = dict(answer.key_data)
        if wrong == "kinds":
            del data[KeyKind.MASTER]
        else:
            data[KeyKind.MASTER] = data[KeyKind.UNICAST]
        effects = us.receive(by_meter(Answer(1, data)), 0.0)
        assert only(effects, Refused) == Refused(1, Step.ANSWER, Reason.BAD_KEY)
        assert us.keys == (FIRST,)


@pytest.mark.parametrize("held_by", ["head-end", "meter"])
def test_a_new_key_that_is_in_use_already_is_refused_by_whoever_holds_it(held_by: str) -> None:
    made = plan(Scheme.ONE_PASS)
    info = other_info(SUITE_1, KeyKind.MASTER, HEAD_END, METER)
    derived = agree(SUITE_1, made.ephemerals[KeyKind.MASTER], key("ka").public_key(), info)
    held = KeySet(0, {**FIRST.keys, KeyKind.UNICAST: derived})
    us = head_end(Settled(held if held_by == "head-end" else FIRST))
    it = meter(MeterState(held if held_by == "meter" else FIRST))
    answered = it.receive(sent(us.begin(made, 0.0)))
    if held_by == "meter":
        assert refusal_of(answered) == Refusal(1, Step.OFFER, Reason.BAD_KEY, 1)
    else:
        assert only(us.receive(sent(answered), 0.0), Refused).reason is Reason.BAD_KEY


def test_a_repeat_is_answered_before_its_signature_is_looked_at() -> None:
    us, it = head_end(), meter()
    offer = sent(us.begin(plan(), 0.0))
    answer = sent(it.receive(offer))
    forgetful = replace(pairing_of("meter", "head-end"), peer_key=key("stranger").public_key())
    assert Meter(forgetful, it.state, new, key("ka")).receive(offer) == (Send(answer),)
