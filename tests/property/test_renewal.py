"""When devices come back: inside their window, spread over it, and never because they have no clock."""

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.profiles import PROFILES, Profile, over_the_air, profile_of
from protocol.profiles.declaration import DAY
from protocol.renewal import is_renewal_due, renewal_time, renewal_window
from protocol.validity import Clock

HOUR = 3600
NOW = 1_800_000_000
RENEWED = [profile_of(label) for label in over_the_air()]
ENDING = [profile for profile in RENEWED if profile.validity is not None]
CONTRACTS = [profile for profile in ENDING if profile.is_granted_name]

profiles = st.sampled_from(RENEWED)
moments = st.integers(0, 1 << 40)
names = st.text(max_size=40)


def test_there_is_something_to_test() -> None:
    assert {"meter-ds", "meter-session", "ev-contract", "ev-secc", "its-enroll"} <= {p.label for p in ENDING}
    assert {"ev-contract", "ev20-contract"} == {p.label for p in CONTRACTS}


@given(profiles, moments, st.integers(4, 40 * 365 * DAY), names)
@example(profile_of("meter-ds"), NOW, 4, "")
@example(profile_of("ev-secc"), NOW, 5, "")
def test_the_moment_is_inside_the_window_and_the_window_inside_the_period(
    profile: Profile, not_before: int, span: int, device: str
) -> None:
    window = renewal_window(profile, not_before, not_before + span)
    due = renewal_time(profile, not_before, not_before + span, device)
    assert window is not None
    assert due is not None
    assert not_before < window[0] <= due < window[1] < not_before + span


@given(st.sampled_from(ENDING), moments, st.integers(0, 365 * DAY), names)
def test_a_certificate_of_full_length_is_renewed_where_its_profile_says(
    profile: Profile, not_before: int, longer: int, device: str
) -> None:
    span = (profile.validity or 0) + longer
    due = renewal_time(profile, not_before, not_before + span, device)
    assert due is not None
    assert profile.renew_after * span - 1 <= due - not_before
    assert due - not_before <= (profile.renew_after + profile.renew_spread) * span + 1


@given(profiles, moments, st.integers(-(1 << 30), 3), names)
def test_a_certificate_without_a_period_is_due_at_once(
    profile: Profile, not_before: int, span: int, device: str
) -> None:
    assert renewal_time(profile, not_before, not_before + span, device) == not_before


@given(st.sampled_from(CONTRACTS), moments, st.integers(28 * DAY, 5 * 365 * DAY), names)
@example(profile_of("ev-contract"), NOW, 28 * DAY, "")
def test_a_contract_is_renewed_before_stations_warn_that_it_ends(
    contract: Profile, not_before: int, span: int, car: str
) -> None:
    due = renewal_time(contract, not_before, not_before + span, car)
    assert due is not None
    assert due < not_before + span - 14 * DAY


@given(profiles, moments, names)
def test_what_never_ends_is_never_due(profile: Profile, not_before: int, device: str) -> None:
    assert renewal_time(profile, not_before, None, device) is None
    assert is_renewal_due(profile, not_before, None, device, Clock(1 << 50)) is False
    assert is_renewal_due(profile, not_before, None, device, Clock(None)) is False


def test_what_the_factory_made_is_not_asked_for_again() -> None:
    car = PROFILES["ev-oem"]
    assert car.validity is not None
    assert renewal_window(car, NOW, NOW + car.validity) is None


@pytest.mark.parametrize("profile", ENDING, ids=lambda profile: profile.label)
def test_a_fleet_that_enrolled_in_one_hour_does_not_come_back_in_one(profile: Profile) -> None:
    """Chance alone puts more than six deviations into an hour once in a million fleets; this one is fixed."""
    fleet, life = 10_000, profile.validity or 0
    hours: Counter[int] = Counter()
    for number in range(fleet):
        issued = NOW + number * HOUR // fleet
        due = renewal_time(profile, issued - profile.backdate, issued + life, f"54524C{number:010X}")
        assert due is not None
        hours[due // HOUR] += 1
    mean = fleet / (profile.renew_spread * life / HOUR)
    assert max(hours.values()) <= mean + 6 * max(mean, 1) ** 0.5
    # And they use all of the window, not a part of it.
    assert len(hours) >= 0.95 * min(fleet, profile.renew_spread * life / HOUR) * (1 if mean > 3 else 0.5)


def test_devices_labels_and_generations_have_moments_of_their_own() -> None:
    profile, life = profile_of("meter-ds"), 3 * 365 * DAY
    parts = {
        renewal_time(profile_of(label), NOW + later, NOW + later + life, device)
        for label in ("meter-ds", "meter-ka", "meter-tls")
        for later in (0, 1)
        for device in ("54524C0000000001", "54524C0000000002")
    }
    assert len(parts) == 12
    assert renewal_time(profile, NOW, NOW + life, "54524C0000000001") in parts


def test_the_moment_is_the_same_in_every_version() -> None:
    """A device in the field and an authority updated since must agree: this number never changes."""
    ten_years = renewal_time(profile_of("meter-ds"), NOW, NOW + 315_360_000, "54524C0000000001")
    assert ten_years == 2_054_332_081


@given(st.sampled_from(ENDING), names, st.integers(-(10**9), 10**9))
def test_a_clock_decides(profile: Profile, device: str, shift: int) -> None:
    period = NOW, NOW + (profile.validity or 0)
    due = renewal_time(profile, *period, device)
    assert due is not None
    is_due = shift >= 0
    assert is_renewal_due(profile, *period, device, Clock(due + shift)) is is_due
    assert is_renewal_due(profile, *period, device, Clock(0, floor=due + shift)) is is_due


@given(st.sampled_from(ENDING), names, st.integers(0, 10**9))
def test_without_a_clock_it_is_unknown_until_something_verified_is_later(
    profile: Profile, device: str, shift: int
) -> None:
    period = NOW, NOW + (profile.validity or 0)
    due = renewal_time(profile, *period, device)
    assert due is not None
    assert is_renewal_due(profile, *period, device, Clock(None, floor=due - 1 - shift)) is None
    assert is_renewal_due(profile, *period, device, Clock(None, floor=due + shift)) is True
