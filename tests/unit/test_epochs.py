"""Whose a device was, and what it is told that still believes so."""

from agents.authority.epochs import MAX_FORMER, Epoch, former

HERE, THERE, ELSEWHERE = b"h" * 32, b"t" * 32, b"e" * 32
MAKER = b"m" * 32


def epoch(
    number: int,
    authority: bytes,
    by: bytes | None = None,
    *,
    shortcut: bytes | None = None,
    at: str | None = None,
) -> Epoch:
    voucher = None if by is None else b"voucher %d" % number
    return Epoch(number, authority, "", voucher, by, by == MAKER, shortcut, at, 0, "")


def told(*epochs: Epoch) -> dict[int, bytes]:
    return {one.epoch: one.successor.voucher for one in former(epochs, HERE)}


def test_the_present_owner_is_nobody_former() -> None:
    assert told(epoch(0, HERE)) == {}
    assert told(epoch(3, HERE, THERE)) == {}


def test_who_went_is_told_who_has_it_now() -> None:
    assert told(epoch(0, HERE), epoch(1, THERE, HERE)) == {0: b"voucher 1"}
    (one,) = former((epoch(0, HERE), epoch(1, THERE, HERE, at="coap://x")), HERE)
    assert one.successor.at == "coap://x"


def test_owners_in_between_are_skipped_where_we_or_the_maker_vouch_for_the_last() -> None:
    tenants = [epoch(0, HERE), *(epoch(number, HERE, HERE) for number in (1, 2, 3))]
    assert told(*tenants) == {0: b"voucher 3", 1: b"voucher 3", 2: b"voucher 3"}
    assert told(*tenants, epoch(4, THERE, MAKER)) == dict.fromkeys(range(4), b"voucher 4")


def test_a_chain_is_followed_where_somebody_else_vouched() -> None:
    """What THERE signed is nothing to a device that knows HERE alone."""
    back = (epoch(0, HERE), epoch(1, THERE, HERE), epoch(2, HERE, THERE))
    assert told(*back) == {0: b"voucher 1"}


def test_a_device_that_came_back_needs_nobody_else() -> None:
    back = (epoch(0, HERE), epoch(1, THERE, HERE), epoch(2, HERE, THERE, shortcut=b"our own word"))
    assert told(*back) == {0: b"our own word"}
    again = (*back, epoch(3, ELSEWHERE, HERE))
    assert told(*again) == {0: b"voucher 3", 2: b"voucher 3"}


def test_epochs_of_others_are_not_ours_to_answer() -> None:
    assert told(epoch(1, THERE, ELSEWHERE), epoch(2, HERE, THERE)) == {}


def test_no_more_than_the_newest_are_answered() -> None:
    many = [epoch(0, HERE), *(epoch(number, HERE, HERE) for number in range(1, MAX_FORMER + 5))]
    answered = former(many, HERE)
    assert len(answered) == MAX_FORMER
    assert [one.epoch for one in answered] == list(range(MAX_FORMER + 3, 3, -1))
