"""What a station does for its cars: bounds and deadlines, with time as a number."""

from agents.charging.errands import DEADLINE, Bounds, Errand, Errands
from protocol.errors import ProblemKind
from protocol.labels import Operation
from protocol.ports import Content, Media, Outbound, Pending, Reply, SignedRefusal
from protocol.problem import Problem

PACKAGE = Content(b"package", Media.CONTRACT_PACKAGE)


def question(body: bytes = b"request") -> Outbound:
    return Outbound("ev-contract", Operation.SKG, body)


def asked(errands: Errands, car: str, body: bytes, now: float) -> Errand:
    errand = errands.ask(car, question(body), now)
    assert isinstance(errand, Errand)
    return errand


def turned_away(reply: object) -> bool:
    return isinstance(reply, Problem) and reply.kind is ProblemKind.OVERLOADED and bool(reply.retry_after)


def test_a_car_is_answered_before_its_own_patience_ends() -> None:
    assert Errands().deadline(100.0) < 100.0 + DEADLINE


def test_an_answer_in_time_is_handed_over_once() -> None:
    errands = Errands()
    errand = asked(errands, "car", b"1", 0.0)
    errands.answered(errand, PACKAGE, 1.0)
    assert errands.left(errand, "car", 1.0) is PACKAGE
    assert (errands.in_work, errands.kept) == (0, 0)
    # Should it be lost on the cable, the same bytes go to the authority again.
    assert asked(errands, "car", b"1", 2.0) is not errand


def test_what_is_read_block_by_block_stays_for_its_other_blocks() -> None:
    errands = Errands(Bounds(fresh=5.0))
    chain = Content(b"chain", Media.COSE_C509)
    question = Outbound("ev-contract", Operation.CRTS)
    errand = errands.ask("car", question, 0.0)
    assert isinstance(errand, Errand)
    errands.left(errand, "car", 4.25)
    errands.answered(errand, chain, 20.0)
    for now in (30.0, 31.0, 35.0):
        again = errands.ask("car", question, now)
        assert again is errand
        assert errands.left(errand, "car", now) is chain
    assert errands.ask("car", question, 35.1) is not errand, "from its first block on"


def test_who_waits_too_long_is_told_when_to_come_and_finds_the_answer_then() -> None:
    errands = Errands()
    errand = asked(errands, "car", b"1", 0.0)
    assert errands.left(errand, "car", 4.25) == Pending(2.0)
    errands.answered(errand, PACKAGE, 5.0)
    assert errands.kept == 1
    again = asked(errands, "car", b"1", 6.25)
    assert again is errand
    assert errands.left(again, "car", 6.25) is PACKAGE
    assert errands.kept == 0


def test_the_seconds_to_wait_are_those_that_the_back_end_says() -> None:
    errands = Errands()
    errand = asked(errands, "car", b"1", 0.0)
    assert errands.wait(errand, 1.0, 30.0) == 31.0
    assert errands.left(errand, "car", 4.5) == Pending(27.0)


def test_an_absurd_wait_of_the_back_end_is_no_longer_than_anybody_is_interested() -> None:
    errands = Errands(Bounds(interest=60.0))
    errand = asked(errands, "car", b"1", 0.0)
    assert errands.wait(errand, 0.0, 86400.0) == 60.0
    assert errands.wait(errand, 0.0, -5.0) == 1.0


def test_a_car_has_one_question_in_work() -> None:
    errands = Errands()
    asked(errands, "car", b"1", 0.0)
    assert turned_away(errands.ask("car", question(b"2"), 0.1))
    assert errands.in_work == 1
    assert isinstance(errands.ask("other", question(b"2"), 0.1), Errand)


def test_a_repeat_of_the_same_bytes_waits_for_the_same_answer() -> None:
    errands = Errands()
    errand = asked(errands, "car", b"1", 0.0)
    assert asked(errands, "car", b"1", 2.0) is errand
    assert asked(errands, "car, from another port", b"1", 2.0) is errand
    errands.answered(errand, PACKAGE, 3.0)
    for car in ("car", "car", "car, from another port"):
        assert errands.left(errand, car, 3.0) is PACKAGE
    assert errands.kept == 0


def test_a_car_that_comes_back_for_something_else_gives_the_first_up() -> None:
    errands = Errands()
    first = asked(errands, "car", b"1", 0.0)
    changes: list[bool] = []
    first.on_change = lambda: changes.append(first.is_gone)
    errands.left(first, "car", 4.25)
    asked(errands, "car", b"2", 6.0)
    assert changes == [True]
    assert not errands.is_wanted(first, 6.0)
    assert errands.in_work == 1
    errands.answered(first, PACKAGE, 7.0)
    assert errands.kept == 0


def test_another_car_s_question_of_the_same_bytes_stays_when_one_gives_it_up() -> None:
    errands = Errands()
    shared = asked(errands, "one", b"", 0.0)
    asked(errands, "two", b"", 0.0)
    errands.left(shared, "one", 4.25)
    asked(errands, "one", b"1", 5.0)
    assert errands.is_wanted(shared, 5.0)


def test_more_cars_than_a_station_takes_are_turned_away_at_once() -> None:
    errands = Errands(Bounds(cars=3))
    for number in range(3):
        asked(errands, f"car {number}", b"%d" % number, 0.0)
    assert turned_away(errands.ask("car 3", question(b"3"), 0.0))
    assert errands.counts.turned_away == 1
    assert turned_away(errands.ask("car 3", question(b"0"), 0.0)), "also for what is under way"
    errands.answered(asked(errands, "car 1", b"1", 0.5), PACKAGE, 1.0)
    assert isinstance(errands.ask("car 3", question(b"3"), 1.0), Errand)


def test_cars_that_do_not_come_back_make_room_after_a_while() -> None:
    errands = Errands(Bounds(cars=1, interest=60.0))
    errand = asked(errands, "gone", b"1", 0.0)
    errands.left(errand, "gone", 4.25)
    assert errands.is_wanted(errand, 60.0)
    assert turned_away(errands.ask("car", question(b"2"), 60.0))
    assert isinstance(errands.ask("car", question(b"2"), 60.1), Errand)
    assert errand.is_gone
    assert not errands.is_wanted(errand, 60.1)


def test_whoever_does_an_errand_drops_it_when_nobody_wants_it_any_more() -> None:
    errands = Errands(Bounds(interest=60.0))
    errand = asked(errands, "gone", b"1", 0.0)
    assert errands.is_wanted(errand, 1000.0), "somebody waits"
    errands.abandon(errand, "gone")
    assert not errands.is_wanted(errand, 60.1)
    assert errands.in_work == 0


def test_an_answer_nobody_comes_for_is_forgotten() -> None:
    errands = Errands(Bounds(interest=60.0))
    errand = asked(errands, "car", b"1", 0.0)
    errands.left(errand, "car", 4.25)
    errands.answered(errand, PACKAGE, 10.0)
    asked(errands, "other", b"2", 69.0)
    assert errands.kept == 1
    asked(errands, "another", b"3", 70.1)
    assert errands.kept == 0


def kept(errands: Errands, count: int, reply: Reply) -> None:
    for number in range(count):
        errand = asked(errands, f"car {number}", b"%d" % number, float(number))
        errands.left(errand, f"car {number}", number + 0.5)
        errands.answered(errand, reply, number + 0.5)


def test_answers_that_wait_have_a_limit_in_bytes_and_in_number() -> None:
    errands = Errands(Bounds(kept_bytes=250, kept=10))
    kept(errands, 5, SignedRefusal(bytes(100), Problem(ProblemKind.NOT_ENTITLED)))
    assert errands.kept == 2
    errands = Errands(Bounds(kept=3))
    kept(errands, 5, Problem(ProblemKind.NOT_FOUND))
    assert errands.kept == 3
    oldest_left = asked(errands, "car 2", b"2", 6.0)
    assert oldest_left.reply is not None


def test_an_answer_that_is_too_long_is_refused_and_not_kept() -> None:
    errands = Errands(Bounds(answer_bytes=10))
    errand = asked(errands, "car", b"1", 0.0)
    errands.answered(errand, Content(bytes(11), Media.PKIX_CRL), 1.0)
    reply = errands.left(errand, "car", 1.0)
    assert isinstance(reply, Problem)
    assert reply.kind is ProblemKind.TOO_LARGE


def test_everything_that_happens_is_counted() -> None:
    errands = Errands()
    errand = asked(errands, "car", b"1", 0.0)
    errands.ask("car", question(b"2"), 0.0)
    errands.left(errand, "car", 4.25)
    errands.answered(errand, PACKAGE, 5.0)
    errands.left(asked(errands, "car", b"1", 6.0), "car", 6.0)
    counts = errands.counts
    assert (counts.asked, counts.pending, counts.answered, counts.turned_away) == (3, 1, 1, 1)
