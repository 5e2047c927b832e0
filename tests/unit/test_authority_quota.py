"""Token buckets: what they hold, how they fill, and that there are never too many."""

import pytest

from agents.authority.quota import Buckets, Rate, origin


def test_a_bucket_gives_its_burst_and_then_what_flows_in() -> None:
    buckets: Buckets[str] = Buckets(Rate(3, 0.5), 10)
    for _ in range(3):
        assert buckets.wait("a", 100.0) is None
        buckets.charge("a", 100.0)
    assert buckets.wait("a", 100.0) == pytest.approx(2.0)
    assert buckets.wait("a", 101.0) == pytest.approx(1.0)
    assert buckets.wait("a", 102.0) is None
    assert buckets.wait("b", 100.0) is None, "another's is another's"


def test_waiting_always_ends_however_much_was_charged() -> None:
    buckets: Buckets[str] = Buckets(Rate(3, 0.5), 10)
    for _ in range(1000):
        buckets.charge("a", 100.0)
    assert buckets.wait("a", 100.0) == pytest.approx(2.0)


def test_a_clock_that_goes_back_gives_nothing_away_and_takes_nothing() -> None:
    buckets: Buckets[str] = Buckets(Rate(1, 1.0), 10)
    buckets.charge("a", 100.0)
    assert buckets.wait("a", 50.0) == pytest.approx(1.0)
    assert buckets.wait("a", 101.0) is None


def test_the_least_recently_charged_bucket_makes_room() -> None:
    buckets: Buckets[int] = Buckets(Rate(1, 0.001), 3)
    for key in (1, 2, 3, 1, 4):
        buckets.charge(key, 100.0)
    assert [key for key in (1, 2, 3, 4) if buckets.wait(key, 100.0) is None] == [2]


@pytest.mark.parametrize(
    ("source", "charged"),
    [
        ("coap:192.0.2.1:5683", "coap:192.0.2.1"),
        ("coap:[2001:db8::1]:61616", "coap:[2001:db8::1]"),
        ("mqtt:client", "mqtt:client"),
    ],
)
def test_a_coap_peer_is_charged_whatever_its_port(source: str, charged: str) -> None:
    assert origin(source) == charged
