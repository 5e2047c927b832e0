"""Who of a fleet is due, and the invocation counters that make them so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ProblemKind, RequestRejected
from protocol.metering.invocation import FIRST, LAST, Invocations
from protocol.metering.schedule import MeterRecord, Policy, choose, due_at
from protocol.metering.title import SystemTitle

DAY = 86400.0
POLICY = Policy(interval=30 * DAY, jitter=0.2, parallel=10)


def fleet(count: int, **change: float) -> list[MeterRecord]:
    return [MeterRecord(SystemTitle.of_maker("TRL", n), 1, 0.0, **change) for n in range(count)]  # type: ignore[arg-type]


def test_a_fleet_of_one_night_comes_back_over_days() -> None:
    due = sorted(due_at(record, POLICY) for record in fleet(2000))
    assert due[0] >= 24 * DAY
    assert due[-1] <= 30 * DAY
    busiest = max(sum(day * DAY <= at < (day + 1) * DAY for at in due) for day in range(24, 30))
    assert busiest < 2000 / 6 * 1.25


def test_a_meter_is_due_at_the_same_time_after_a_restart_and_at_another_in_the_next_generation() -> None:
    record = fleet(1)[0]
    assert due_at(record, POLICY) == due_at(fleet(1)[0], POLICY)
    assert due_at(record, POLICY) != due_at(MeterRecord(record.title, 2, 0.0), POLICY)


def test_no_more_begin_than_there_are_places_and_the_longest_overdue_first() -> None:
    records = fleet(25)
    choice = choose(records, 31 * DAY, POLICY)
    in_order = sorted(records, key=lambda record: due_at(record, POLICY))
    assert choice.start == tuple(record.title for record in in_order[:10])
    assert choice.wake_at == 31 * DAY
    busy = fleet(25, is_under_way=True)[:8]
    choice = choose([*busy, *records[8:]], 31 * DAY, POLICY)
    assert len(choice.start) == 2
    assert not {record.title for record in busy} & set(choice.start)
    assert choose(fleet(25, is_under_way=True), 31 * DAY, POLICY).start == ()


def test_nobody_due_means_waiting_for_the_first() -> None:
    records = fleet(5)
    choice = choose(records, DAY, POLICY)
    assert choice.start == ()
    assert choice.wake_at == min(due_at(record, POLICY) for record in records)
    assert choose([], DAY, POLICY).wake_at == float("inf")


def test_a_refused_meter_waits_and_one_that_talks_much_is_due_at_once() -> None:
    (waiting,) = fleet(1, not_before=50 * DAY)
    assert due_at(waiting, POLICY) == 50 * DAY
    (busy,) = fleet(1, invocations=1 << 31)
    assert choose([busy], 0.0, POLICY).start == (busy.title,)
    (both,) = fleet(1, invocations=1 << 31, not_before=DAY)
    assert due_at(both, POLICY) == DAY


@given(st.floats(0, 1), st.floats(1, 1e9), st.integers(0, 1 << 40 - 1), st.integers(0, 2**32 - 1))
def test_jitter_is_early_never_late(jitter: float, interval: float, number: int, generation: int) -> None:
    record = MeterRecord(SystemTitle.of_maker("TRL", number), generation, 0.0)
    at = due_at(record, Policy(interval=interval, jitter=jitter))
    assert interval * (1 - jitter) * 0.999 <= at <= interval


def test_a_counter_that_was_set_aside_is_never_given_again() -> None:
    counters, first = Invocations(1).reserve(10)
    counters, second = counters.reserve(5)
    assert list(first) == list(range(FIRST, 11))
    assert list(second) == list(range(11, 16))


def test_a_counter_is_taken_once_and_only_upwards() -> None:
    counters = Invocations(1).accept(5)
    for number in (0, 1, 5):
        with pytest.raises(RequestRejected) as caught:
            counters.accept(number)
        assert caught.value.reason is ProblemKind.STALE_MESSAGE
    assert counters.accept(6).next_received == 7


def test_the_confirmations_number_is_for_no_message() -> None:
    with pytest.raises(RequestRejected):
        Invocations(1).accept(0)
    assert 0 not in Invocations(1).reserve(3)[1]


def test_at_its_end_a_counter_stops_until_there_are_new_keys() -> None:
    counters, numbers = Invocations(1, next_sent=LAST).reserve(1)
    assert list(numbers) == [LAST]
    with pytest.raises(RequestRejected):
        counters.reserve(1)
    done = Invocations(1).accept(LAST)
    for number in (LAST, LAST + 1):
        with pytest.raises(RequestRejected):
            done.accept(number)
    assert done.start_again(2) == Invocations(2)
    for generation in (1, 0):
        with pytest.raises(ValueError, match="newer"):
            done.start_again(generation)
