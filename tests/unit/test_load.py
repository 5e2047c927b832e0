"""How many renewals come when: cut by days, weeks and months, and counted again and again."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from agents.authority.load import DAY, HOUR, By, all_generations, listed, midnight, stretches, whole
from protocol.profiles import profile_of

WEDNESDAY = int(datetime(2028, 3, 1, tzinfo=UTC).timestamp())


def test_a_day_begins_at_midnight_utc() -> None:
    assert midnight(WEDNESDAY) == midnight(WEDNESDAY + DAY - 1) == WEDNESDAY


@pytest.mark.parametrize(
    ("by", "days", "cut"),
    [
        (By.DAY, 3, [1, 1, 1]),
        (By.WEEK, 16, [5, 7, 4]),  # Wednesday to Sunday first
        (By.WEEK, 5, [5]),
        (By.MONTH, 92, [31, 30, 31]),
        (By.MONTH, 63, [31, 30, 2]),
        (By.MONTH, 1, [1]),
    ],
)
def test_time_is_cut_where_days_weeks_and_months_end(by: By, days: int, cut: list[int]) -> None:
    made = stretches(WEDNESDAY, days, by)
    assert [stretch.days for stretch in made] == cut
    assert made[0].begins == WEDNESDAY
    assert all(b.begins == a.begins + a.days * DAY for a, b in pairwise(made))


def test_a_leap_year_and_a_turn_of_the_year_have_all_their_months() -> None:
    begins = int(datetime(2027, 12, 15, tzinfo=UTC).timestamp())
    assert [stretch.days for stretch in stretches(begins, 77, By.MONTH)] == [17, 31, 29]


def test_later_generations_come_back_spread_over_their_window() -> None:
    profile = profile_of("meter-session")  # 7 days, renewed from 80 to 90 % of them
    hours = 28 * 24
    loads = all_generations([1000] + [0] * (hours - 1), profile)
    window = range(round(0.8 * 168), round(0.9 * 168))
    assert loads[0] == 1000
    assert all(loads[hour] == 0 for hour in range(1, window.start))
    assert sum(loads[hour] for hour in window) == pytest.approx(1000)
    assert max(loads[hour] for hour in window) == pytest.approx(1000 / len(window))
    second = [hour for hour in range(window.stop, hours) if loads[hour] > 1e-9]
    assert second[0] == 2 * window.start
    # Nobody gets lost: in four weeks a thousand sessions are renewed at 0, 5.9, 11.9, 17.8 and 23.7 days.
    assert sum(loads) == pytest.approx(5000, rel=0.01)


def test_what_has_no_end_comes_once() -> None:
    assert all_generations([1, 2, 3], profile_of("smki-ds")) == [1.0, 2.0, 3.0]


def test_what_lives_for_minutes_cannot_make_the_forecast_endless() -> None:
    from dataclasses import replace

    short = replace(profile_of("meter-session"), validity=600)
    assert all_generations([1, 0, 0, 0], short) == [1.0, 1.0, 1.0, 1.0]


def test_rounding_loses_nobody() -> None:
    assert whole([0.25] * 4) == [0, 0, 1, 0]
    assert whole([1.0, 0.0, 2.0]) == [1, 0, 2]
    assert sum(whole([1 / 3] * 300)) == 100


def test_a_superseded_certificate_stays_listed_until_its_own_end() -> None:
    profile = profile_of("ev-secc")  # 80 days, renewed at three quarters on the average
    change = listed([10.0] + [0.0] * (40 * 24), profile, kept=DAY)
    assert change[0] == 10.0
    (leaves,) = [hour for hour, step in enumerate(change) if step < 0]
    assert leaves * HOUR == 20 * DAY + DAY
    assert sum(change) == 0
