"""Three answers to "is it time?", and a wrong clock is named as what it is."""

from dataclasses import replace
from typing import Any

import pytest

from protocol.errors import ProblemKind
from protocol.validator import PathRejected, Reason
from protocol.validity import Clock, Verdict
from tests.ev_policies import SECC_2, accept
from tests.ev_world import DAY, NOW, YEAR, EvWorld, Party

NEEDS_TIME = replace(SECC_2, needs_time=True)


@pytest.fixture(scope="module")
def world() -> EvWorld:
    return EvWorld()


def refusal(world: EvWorld, leaf: Party, clock: Clock, policy: Any = SECC_2, **named: Any) -> PathRejected:
    with pytest.raises(PathRejected) as caught:
        accept(world, leaf, policy, clock=clock, **named)
    return caught.value


def test_without_a_clock_the_time_is_unknown_and_that_is_no_expiry(world: EvWorld) -> None:
    path = accept(world, world.secc(), SECC_2, clock=Clock(None))
    assert path.verdict is Verdict.TIME_UNKNOWN
    assert path.latest_not_before == NOW - DAY


def test_a_policy_that_needs_the_time_names_the_missing_clock(world: EvWorld) -> None:
    error = refusal(world, world.secc(), Clock(None), NEEDS_TIME)
    assert error.reasons == {Reason.CLOCK_UNKNOWN}
    assert error.reason is ProblemKind.UNAVAILABLE
    assert "there is no clock" in str(error)
    assert accept(world, world.secc(), NEEDS_TIME).verdict is Verdict.VALID


def test_a_clock_behind_what_was_verified_is_wrong_and_counts_as_none(world: EvWorld) -> None:
    behind = Clock(NOW - 30 * YEAR, floor=NOW)
    assert accept(world, world.secc(), SECC_2, clock=behind).verdict is Verdict.TIME_UNKNOWN
    error = refusal(world, world.secc(), behind, NEEDS_TIME)
    assert error.reasons == {Reason.CLOCK_WRONG}
    assert "set the clock" in str(error)


def test_a_clock_that_starts_in_1970_makes_nothing_expired(world: EvWorld) -> None:
    error = refusal(world, world.secc(), Clock(0))
    assert error.reasons == {Reason.NOT_YET_VALID}
    assert "this clock says 1970-01-01 00:00:00Z" in str(error)


def test_what_was_verified_before_ends_a_certificate_without_a_clock(world: EvWorld) -> None:
    leaf = world.secc(not_after=NOW - 1)
    error = refusal(world, leaf, Clock(None, floor=NOW))
    assert error.reasons == {Reason.EXPIRED}
    assert error.reason is ProblemKind.SIGNER_EXPIRED
    assert "by what was verified before" in str(error)
    assert "by this clock" in str(refusal(world, leaf, Clock(NOW)))


def test_without_a_clock_a_ca_that_ended_before_its_leaf_began_has_expired(world: EvWorld) -> None:
    sub = world.v2g.ca("Sub", 0, role="V2G", not_after=NOW - 2 * DAY)
    leaf = world.secc(sub)  # begins a day ago, so it is later than that
    pool = [sub.certificate]
    error = refusal(world, leaf, Clock(None), pool=pool)
    assert error.reasons == {Reason.EXPIRED}
    assert "CA 1 above the leaf" in str(error)
    longer = world.v2g.ca("Sub", 0, role="V2G", key=sub.key)
    pool = [sub.certificate, longer.certificate]
    assert longer.certificate in accept(world, leaf, SECC_2, clock=Clock(None), pool=pool).certificates


def test_the_verdict_is_that_of_the_whole_path(world: EvWorld) -> None:
    floor = Clock(None, floor=NOW)
    assert accept(world, world.secc(), SECC_2, clock=floor).verdict is Verdict.TIME_UNKNOWN
    assert accept(world, world.secc(), SECC_2, clock=Clock(NOW)).verdict is Verdict.VALID


@pytest.mark.parametrize(("moment", "is_valid"), [(-1, False), (0, True), (1, True)])
def test_a_period_includes_its_first_and_last_second(world: EvWorld, moment: int, is_valid: bool) -> None:
    begins = world.secc(not_before=NOW)
    ends = world.secc(not_after=NOW)
    for leaf, now in ((begins, NOW + moment), (ends, NOW - moment)):
        if is_valid:
            assert accept(world, leaf, SECC_2, clock=Clock(now))
        else:
            assert refusal(world, leaf, Clock(now))
