"""Figures of the literature, and ours against the messages they stand for."""

import pytest

from constrained.budget import DTLS_1_2, OSCORE, PLAIN, Record, estimate, measure, round_trips
from constrained.wire import Code, Option, Type, encode
from protocol.labels import Operation

FIGURES = [
    # request, answer, round trips, DTLS 1.2 and OSCORE bytes on air, all at 64-byte blocks
    pytest.param(399, 626, 16, 2273, 1729, id="RFC 9148"),
    pytest.param(166, 276, 7, 988, 750, id="the same with C509"),
    pytest.param(115, 141, 4, 568, 432, id="minimal meter"),
]


@pytest.mark.parametrize(("request_bytes", "answer", "trips", "dtls", "oscore"), FIGURES)
def test_the_model_gives_the_figures_of_the_literature(
    request_bytes: int, answer: int, trips: int, dtls: int, oscore: int
) -> None:
    over_dtls = estimate(request_bytes, answer, block_size=64, record=DTLS_1_2)
    assert (over_dtls.round_trips, over_dtls.total) == (trips, dtls)
    assert estimate(request_bytes, answer, block_size=64, record=OSCORE).total == oscore


def test_a_minimal_meter_needs_256_bytes_and_one_round_trip_with_large_blocks() -> None:
    assert estimate(115, 141, block_size=256).payload == 256
    assert round_trips(115, 141, 256) == 1
    assert round_trips(115, 141, 64) == 4


def test_an_empty_body_still_takes_a_message() -> None:
    assert round_trips(0, 0, 64) == 1
    assert round_trips(64, 65, 64) == 2


def test_an_answer_in_one_message_is_counted_byte_by_byte() -> None:
    budget = measure("meter-ds", Operation.SEN, 203, 145)
    request = encode(
        Type.CON,
        Code.POST,
        0,
        b"tk",
        [(Option.URI_PATH, b"e"), (Option.URI_PATH, b"meter-ds"), (Option.URI_PATH, b"sen"), (12, b"\x12")],
        bytes(203),
    )
    answer = encode(Type.ACK, Code.CHANGED, 0, b"tk", [(12, b"\xfd\xe8")], bytes(145))
    assert budget.round_trips == 1
    assert budget.total == len(request) + len(answer)
    assert budget.largest == len(request)


def test_the_short_root_saves_fourteen_bytes_in_every_request() -> None:
    short, long = (
        measure("meter-ds", Operation.SEN, 203, 145, block_size=64, root=r) for r in ("e", ".well-known/est")
    )
    assert long.total - short.total == 14 * short.round_trips


def test_records_are_added_to_every_message() -> None:
    plain, wrapped = (
        measure("meter-ds", Operation.SEN, 203, 145, block_size=64, record=r) for r in (PLAIN, Record(10, 20))
    )
    assert wrapped.total - plain.total == 30 * plain.round_trips
    assert wrapped.messages == 2 * wrapped.round_trips == 12


def test_a_slow_link_is_busy_for_as_long_as_its_bits_take() -> None:
    assert estimate(115, 141, block_size=256).seconds(250_000, per_message=24) == pytest.approx(
        8 * 324 / 250_000
    )


def test_a_block_size_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="a block has"):
        estimate(1, 1, block_size=100)
