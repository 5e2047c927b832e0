"""One direction of a bad network."""

from random import Random

import pytest

from agents.proxy.faults import MAX_HELD, MAX_HOLD, Counts, Faults, Mangler


def mangler(faults: Faults, seed: int = 1) -> tuple[Mangler[int], Counts]:
    counts = Counts()
    return Mangler(faults, Random(seed), counts), counts


def test_a_good_network_passes_everything_at_once_and_in_order() -> None:
    network, counts = mangler(Faults())
    assert [network.take(n, 0.0).leaving for n in range(100)] == [[n] for n in range(100)]
    assert network.deadline is None
    assert counts == Counts(passed=100)


def test_everything_is_lost_when_the_probability_is_one() -> None:
    network, counts = mangler(Faults(drop=1.0))
    assert [network.take(n, 0.0).copies for n in range(50)] == [0] * 50
    assert counts.dropped == 50


def test_a_repeated_item_leaves_twice_and_the_second_copy_may_look_different() -> None:
    network, _ = mangler(Faults(repeat=1.0))
    fate = network.take(7, 0.0, again=8)
    assert fate.leaving == [7, 8]
    assert fate.copies == 2


def test_a_held_item_leaves_by_its_deadline_and_later_ones_overtake_it() -> None:
    network, _ = mangler(Faults(reorder=1.0))
    for n in range(20):
        assert network.take(n, 0.0).leaving == []
    assert network.deadline is not None
    assert 0.0 <= network.deadline <= MAX_HOLD
    assert network.due(network.deadline - 1e-9) == []
    released = network.due(MAX_HOLD)
    assert sorted(released) == list(range(20))
    assert released != list(range(20))
    assert network.deadline is None


def test_flush_leaves_nothing_behind() -> None:
    network, _ = mangler(Faults(reorder=1.0))
    network.take(1, 0.0)
    assert network.flush() == [1]
    assert network.deadline is None


def test_what_is_held_has_a_bound_and_the_rest_leaves_at_once() -> None:
    network, counts = mangler(Faults(reorder=1.0))
    for n in range(MAX_HELD):
        assert network.take(n, 0.0).leaving == []
    assert network.take(MAX_HELD, 0.0).leaving == [MAX_HELD]
    assert counts.held == MAX_HELD


def test_loss_is_about_as_likely_as_it_is_said_to_be() -> None:
    network, counts = mangler(Faults.of_loss(0.3))
    for n in range(10_000):
        network.take(n, float(n))
        network.due(float(n))
    assert 0.28 < counts.dropped / counts.passed < 0.32
    survivors = counts.passed - counts.dropped
    assert 0.28 < counts.repeated / survivors < 0.32
    assert 0.28 < counts.held / (survivors + counts.repeated) < 0.32


def test_equal_seeds_give_equal_fates() -> None:
    one, _ = mangler(Faults.of_loss(0.3), seed=5)
    two, _ = mangler(Faults.of_loss(0.3), seed=5)
    other, _ = mangler(Faults.of_loss(0.3), seed=6)
    fates = [[m.take(n, 0.0).copies for n in range(200)] for m in (one, two, other)]
    assert fates[0] == fates[1]
    assert fates[0] != fates[2]


@pytest.mark.parametrize("wrong", [-0.1, 1.1])
def test_a_probability_is_between_none_and_all(wrong: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        Faults.of_loss(wrong)
