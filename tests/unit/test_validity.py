import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.validity import Clock, Verdict

B, E = 1000, 2000


@pytest.mark.parametrize(
    ("clock", "verdict"),
    [
        (Clock(999), Verdict.NOT_YET),
        (Clock(1000), Verdict.VALID),
        (Clock(2000), Verdict.VALID),
        (Clock(2001), Verdict.EXPIRED),
        # A clock that is behind what was seen is known to be wrong.
        (Clock(500, floor=1500), Verdict.VALID),
        (Clock(500, floor=2001), Verdict.EXPIRED),
        (Clock(1500, floor=2001), Verdict.EXPIRED),
        (Clock(2001, floor=1500), Verdict.EXPIRED),
        # Without a clock.
        (Clock(None), Verdict.TIME_UNKNOWN),
        (Clock(None, floor=999), Verdict.TIME_UNKNOWN),
        (Clock(None, floor=1500), Verdict.TIME_UNKNOWN),
        (Clock(None, floor=2000), Verdict.TIME_UNKNOWN),
        (Clock(None, floor=2001), Verdict.EXPIRED),
    ],
)
def test_a_period_is_judged_by_what_is_known_of_the_time(clock: Clock, verdict: Verdict) -> None:
    assert clock.judge(B, E) is verdict


@pytest.mark.parametrize(
    ("clock", "verdict"),
    [
        (Clock(999), Verdict.NOT_YET),
        (Clock(10**12), Verdict.VALID),
        (Clock(None), Verdict.TIME_UNKNOWN),
        (Clock(None, floor=1000), Verdict.VALID),
    ],
)
def test_what_never_ends_needs_only_a_beginning(clock: Clock, verdict: Verdict) -> None:
    assert clock.judge(B, None) is verdict


def test_what_was_seen_only_moves_forward() -> None:
    clock = Clock(None).at_least(5).at_least(3)
    assert clock == Clock(None, floor=5)
    assert Clock(7, floor=5).at_least(9) == Clock(7, floor=9)


times = st.integers(0, 50)


@given(st.none() | times, times, times, times, st.none() | times)
def test_more_knowledge_never_brings_an_ended_period_back(
    now: int | None, floor: int, later: int, begin: int, end: int | None
) -> None:
    before = Clock(now, floor).judge(begin, end)
    after = Clock(now, floor).at_least(later).judge(begin, end)
    if before is Verdict.EXPIRED:
        assert after is Verdict.EXPIRED
    if before is Verdict.VALID:
        assert after in (Verdict.VALID, Verdict.EXPIRED)
