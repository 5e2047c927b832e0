"""Reports of what a device holds: read back as they were written, and nothing else is read."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import cbor
from protocol.errors import MalformedMessage
from protocol.held import (
    MAX_CERTIFICATES,
    MAX_CHAIN,
    MAX_NUMBER,
    HeldCertificate,
    HeldReport,
    HeldState,
    decode_held,
)

thumbprints = st.binary(min_size=8, max_size=8)
numbers = st.integers(0, MAX_NUMBER - 1)
reports = st.builds(
    HeldReport,
    st.binary(min_size=32, max_size=32),
    numbers,
    st.lists(thumbprints, max_size=MAX_CHAIN).map(tuple),
    st.lists(thumbprints, max_size=MAX_CHAIN).map(tuple),
    numbers,
    st.lists(
        st.builds(
            HeldCertificate,
            st.from_regex(r"[0-9a-z-]{1,32}", fullmatch=True),
            thumbprints,
            st.sampled_from(HeldState),
        ),
        max_size=MAX_CERTIFICATES,
    ).map(tuple),
)
GOOD = HeldReport(
    bytes(32), 1, (b"rootroot",), (), 7, (HeldCertificate("meter-ds", b"12345678", HeldState.CURRENT),)
)


@given(reports)
def test_what_is_written_is_read(report: HeldReport) -> None:
    assert decode_held(report.encode()) == report


@given(st.binary(max_size=200))
def test_any_bytes_are_a_report_or_malformed(body: bytes) -> None:
    try:
        report = decode_held(body)
    except MalformedMessage:
        return
    assert report.encode() == body


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, 2),
        (0, True),
        (0, b"\x01"),
        (1, bytes(31)),
        (1, "authority"),
        (2, -1),
        (2, True),
        (2, 1 << 63),
        (3, [b"1234567"]),
        (3, [bytes(8)] * (MAX_CHAIN + 1)),
        (3, None),
        (4, {}),
        (4, ["12345678"]),
        (5, None),
        (6, [["meter-ds", bytes(8)]]),
        (6, [["meter-ds", bytes(8), 2]]),
        (6, [["meter-ds", bytes(8), False]]),
        (6, [["meter-ds", bytes(9), 0]]),
        (6, [["METER", bytes(8), 0]]),
        (6, [["meter-ds\n", bytes(8), 0]]),
        (6, [["", bytes(8), 0]]),
        (6, [[b"meter-ds", bytes(8), 0]]),
        (6, [bytes(8)]),
        (6, [["meter-ds", bytes(8), 0]] * (MAX_CERTIFICATES + 1)),
    ],
)
def test_what_is_no_report_is_refused(place: int, value: Any) -> None:
    fields = cbor.decode(GOOD.encode())
    fields[place] = value
    with pytest.raises(MalformedMessage):
        decode_held(cbor.encode(fields))


def test_a_full_report_is_no_longer_than_a_message_may_be() -> None:
    full = HeldReport(
        bytes(32),
        MAX_NUMBER - 1,
        (bytes(8),) * MAX_CHAIN,
        (bytes(8),) * MAX_CHAIN,
        MAX_NUMBER - 1,
        (HeldCertificate("x" * 32, bytes(8), HeldState.PENDING),) * MAX_CERTIFICATES,
    )
    assert len(full.encode()) < cbor.MAX_MESSAGE_BYTES - 256
    assert len(GOOD.encode()) < 80
