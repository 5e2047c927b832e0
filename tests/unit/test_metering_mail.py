"""The mail's formats, and the mailbox's bounds."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.metering.mailbox import KEEP_SECONDS, RETRY_SECONDS, Address, Bounds, Mailbox
from protocol import cbor
from protocol.errors import MalformedMessage, ProblemKind
from protocol.labels import Domain
from protocol.metering import mail
from protocol.metering.mail import Delivery, Letter, Visit, WhoWrote, Writers, name_of
from protocol.metering.title import SystemTitle
from protocol.problem import Problem


def title(number: int) -> SystemTitle:
    return SystemTitle.of_maker("TRL", number)


def meter(number: int) -> Address:
    return Address(Domain.METERING, True, title(number))


def client(number: int) -> Address:
    return Address(Domain.METERING, False, title(number))


NAMES = st.binary(min_size=8, max_size=8)
TITLES = NAMES.map(SystemTitle)
REQUESTS = st.one_of(
    st.builds(Visit, TITLES, st.none() | st.binary(min_size=1, max_size=40), st.none() | NAMES),
    st.just(WhoWrote()),
)
LETTERS = st.builds(Letter, st.binary(), st.binary(), st.none() | st.binary())


@given(REQUESTS)
def test_a_request_comes_back(request: mail.Request) -> None:
    assert mail.decode_request(request.encode()) == request


@given(NAMES, st.none() | st.binary(), st.lists(TITLES, max_size=5), LETTERS)
def test_answers_and_letters_come_back(
    mailbox: bytes, letter: bytes | None, titles: list[SystemTitle], written: Letter
) -> None:
    assert mail.decode_delivery(Delivery(mailbox, letter).encode()) == Delivery(mailbox, letter)
    writers = Writers(mailbox, tuple(titles))
    assert mail.decode_writers(writers.encode()) == writers
    assert mail.decode_letter(written.encode()) == written


@pytest.mark.parametrize(
    "read", [mail.decode_request, mail.decode_delivery, mail.decode_writers, mail.decode_letter]
)
@given(data=st.binary(max_size=60))
def test_any_bytes_are_read_or_malformed(read: object, data: bytes) -> None:
    assert callable(read)
    with suppress(MalformedMessage):
        read(data)


@pytest.mark.parametrize(
    "item",
    [
        [None, b"letter", None],
        [None, None, bytes(8)],
        [bytes(7), None, None],
        [bytes(8), b"", None],
        [bytes(8), bytes(mail.MAX_LETTER_BYTES + 1), None],
        [bytes(8), None, bytes(7)],
        [bytes(8), None],
        [bytes(8), "letter", None],
    ],
    ids=repr,
)
def test_a_request_out_of_shape_is_malformed(item: list[object]) -> None:
    with pytest.raises(MalformedMessage):
        mail.decode_request(cbor.encode(item))


@pytest.mark.parametrize(
    "item",
    [
        [bytes(8), [title(1).octets] * (mail.MAX_WRITERS + 1)],
        [bytes(8), ["title"]],
        [bytes(7), []],
        [bytes(8), None],
    ],
    ids=lambda item: repr(item)[:30],
)
def test_a_list_of_writers_out_of_shape_is_malformed(item: list[object]) -> None:
    with pytest.raises(MalformedMessage):
        mail.decode_writers(cbor.encode(item))


def test_the_longest_answers_and_letters_fit() -> None:
    writers = Writers(bytes(8), tuple(title(number) for number in range(mail.MAX_WRITERS)))
    assert mail.decode_writers(writers.encode()) == writers
    longest = Letter(bytes(1024), bytes(1024), bytes(1500))
    assert len(longest.encode()) <= mail.MAX_LETTER_BYTES
    with pytest.raises(MalformedMessage):
        mail.decode_letter(replace(longest, envelope=bytes(mail.MAX_ENVELOPE_BYTES + 1)).encode())
    with pytest.raises(MalformedMessage):
        mail.decode_letter(replace(longest, signature_certificate=bytes(1025)).encode())


def leave(box: Mailbox, writer: Address, reader: SystemTitle, letter: bytes = b"x") -> Delivery | Problem:
    return box.visit(writer, Visit(reader, letter))


def fetch(box: Mailbox, reader: Address, writer: SystemTitle, taken: bytes | None = None) -> bytes | None:
    delivery = box.visit(reader, Visit(writer, None, taken))
    assert isinstance(delivery, Delivery)
    return delivery.letter


def test_a_letter_stays_until_its_reader_has_taken_that_very_letter() -> None:
    box = Mailbox()
    leave(box, client(1), title(2), b"offer")
    assert fetch(box, meter(2), title(1)) == b"offer"
    assert fetch(box, meter(2), title(1), name_of(b"another")) == b"offer"
    leave(box, client(1), title(2), b"newer")
    assert fetch(box, meter(2), title(1), name_of(b"offer")) == b"newer"
    assert fetch(box, meter(2), title(1), name_of(b"newer")) is None
    assert len(box) == 0


def test_letters_go_between_the_sides_of_one_domain_alone() -> None:
    box = Mailbox()
    leave(box, client(1), title(2))
    assert fetch(box, client(2), title(1)) is None
    assert fetch(box, meter(3), title(1)) is None
    assert fetch(box, meter(2), title(3)) is None
    assert fetch(box, replace(meter(2), domain=Domain.METERING2), title(1)) is None
    leave(box, meter(1), title(2))  # a meter and a client with one title are two
    assert box.writers(client(2)).titles == (title(1),)
    assert box.writers(meter(2)).titles == (title(1),)
    assert box.writers(client(9)).titles == ()


def test_who_waits_longest_is_told_first_and_not_too_many_at_once() -> None:
    box = Mailbox()
    for number in (3, 1, 2, 3):
        leave(box, meter(number), title(9))
    assert box.writers(client(9)).titles == (title(3), title(1), title(2))
    for number in range(10, 10 + mail.MAX_WRITERS):
        leave(box, meter(number), title(9))
    assert len(box.writers(client(9)).titles) == mail.MAX_WRITERS


def test_a_full_mailbox_refuses_what_is_new_and_keeps_what_waits() -> None:
    now = 0.0
    box = Mailbox(Bounds(letters=4, of_meter=2, of_client=3), clock=lambda: now)

    def is_taken(writer: Address, reader: SystemTitle) -> bool:
        outcome = leave(box, writer, reader)
        if isinstance(outcome, Problem):
            assert (outcome.kind, outcome.retry_after) == (ProblemKind.OVERLOADED, RETRY_SECONDS)
            return False
        return True

    assert [is_taken(meter(1), title(10 + number)) for number in range(3)] == [True, True, False]
    assert [is_taken(client(1), title(10 + number)) for number in range(3)] == [True, True, False]
    assert is_taken(meter(1), title(10)), "in place of its own older one"
    assert len(box) == 4
    assert box.refused == 2
    fetch(box, client(10), title(1), name_of(b"x"))
    assert is_taken(client(1), title(12))
    now = KEEP_SECONDS + 1
    assert is_taken(meter(2), title(1)), "what nobody has fetched for a week makes room"
    assert len(box) == 1


def test_each_mailbox_has_a_name_of_its_own() -> None:
    assert Mailbox().name != Mailbox().name
