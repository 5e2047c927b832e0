from hypothesis import given
from hypothesis import strategies as st

from agents.verifier.replay import WINDOW, Counters, ReplayWindow
from agents.verifier.sources import CAPACITY, LEAK, MAX_SOURCES, Sources
from protocol.exchange.facts import CertificateRef

REF = CertificateRef(bytes(32), b"\x01")


@given(st.none() | st.integers(0, 300), st.lists(st.integers(0, 700), max_size=200))
def test_a_counter_is_used_once_and_an_old_one_never(mark: int | None, counters: list[int]) -> None:
    window = ReplayWindow(mark)
    used: set[int] = set() if mark is None else set(range(mark + 1))
    highest = -1 if mark is None else mark
    for counter in counters:
        is_fresh = counter not in used and counter > highest - WINDOW
        assert window.was_used(counter) is not is_fresh
        assert window.use(counter) is is_fresh
        if is_fresh:
            used.add(counter)
            highest = max(highest, counter)
        assert window.highest == highest
        assert window.was_used(counter)


def test_a_leap_to_the_end_is_the_signers_own_affair() -> None:
    window = ReplayWindow()
    assert window.use(2**63 - 1)
    assert window.use(2**63 - WINDOW)
    assert not window.use(2**63 - WINDOW - 1)
    assert not window.use(0)


def test_a_certificate_has_one_window() -> None:
    counters = Counters({REF: 7})
    window = counters.window(REF)
    assert window is counters.window(CertificateRef(bytes(32), b"\x01"))
    assert window.was_used(7)
    assert not counters.use(REF, window, 7)
    assert counters.use(REF, window, 8)
    other = CertificateRef(bytes(32), b"\x02")
    assert counters.window(other) is counters.window(other)
    assert not counters.window(other).was_used(0)


def test_a_source_is_shut_out_when_its_bucket_is_full_and_let_in_when_it_is_empty() -> None:
    table = Sources()
    charges = [table.charge("a", 0.0) for _ in range(int(CAPACITY) + 1)]
    assert charges == [False] * int(CAPACITY) + [True]
    assert table.shut_out_for("a", 0.0) == CAPACITY / LEAK
    assert table.shut_out_for("a", 4.0) == CAPACITY / LEAK - 4.0
    assert table.shut_out_for("b", 4.0) == 0
    assert table.shut_out_for("a", 10.0) == 0
    assert not table.charge("a", 10.0), "and it starts from nothing"


def test_what_a_source_had_under_way_does_not_lengthen_its_time() -> None:
    table = Sources()
    for _ in range(5000):
        table.charge("a", 0.0)
    assert table.shut_out_for("a", 0.0) == CAPACITY / LEAK


def test_a_few_bad_ones_now_and_then_are_forgiven() -> None:
    table = Sources()
    for second in range(1000):
        assert not any(table.charge("a", float(second)) for _ in range(int(LEAK)))
    assert table.shut_out_for("a", 1000.0) == 0


def test_the_table_of_sources_is_bounded_and_forgets_the_oldest() -> None:
    table = Sources()
    for number in range(MAX_SOURCES + 10):
        table.charge(str(number), 0.0)
    assert len(table) == MAX_SOURCES
    for _ in range(int(CAPACITY) + 1):
        table.charge("worst", 0.0)
    for number in range(MAX_SOURCES - 1):
        table.charge(f"x{number}", 0.0)
    assert table.shut_out_for("worst", 0.0) > 0
