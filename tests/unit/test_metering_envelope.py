"""general-signing envelopes: strict reading, and a signature over every field."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from agents.keys import SoftwareSigner
from protocol.errors import MalformedMessage, RequestRejected
from protocol.metering import axdr, envelope
from protocol.metering.envelope import GeneralSigning
from protocol.metering.suite import SUITE_1, SUITE_2, SUITES, Suite
from protocol.metering.title import SystemTitle

HEAD_END, METER = SystemTitle.of_maker("TRL", 1), SystemTitle.of_maker("TRL", 2)
KEYS = {suite: ec.generate_private_key(suite.curve) for suite in SUITES.values()}
both_suites = pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: f"suite {suite.number}")


def sealed(suite: Suite, content: bytes = b"\xc0\x01\xc1\x00\x08") -> GeneralSigning:
    return envelope.sign(
        SoftwareSigner(KEYS[suite]),
        transaction_id=bytes(range(8)),
        originator=HEAD_END,
        recipient=METER,
        content=content,
        date_time=bytes.fromhex("07ea0b1607111e0000003c80"),
        other_information=b"other",
    )


def test_the_octets_are_those_of_the_table() -> None:
    bare = GeneralSigning(b"\1\2", HEAD_END, METER, b"\xaa", b"", b"", bytes(64))
    titles = "0854524c00000000010854524c0000000002"
    assert bare.signed_bytes.hex() == f"020102{titles}000001aa"
    assert bare.encode().hex() == f"df020102{titles}000001aa40" + "00" * 64


@both_suites
def test_what_was_signed_reads_back_and_verifies(suite: Suite) -> None:
    before = sealed(suite)
    after = envelope.decode(before.encode())
    assert after == before
    assert len(after.signature) == suite.signature_bytes
    envelope.verify(suite, after, KEYS[suite].public_key())


@both_suites
def test_no_bit_can_be_changed(suite: Suite) -> None:
    data = sealed(suite).encode()
    key = KEYS[suite].public_key()
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((MalformedMessage, RequestRejected)):
            envelope.verify(suite, envelope.decode(bytes(changed)), key)


def test_octets_cannot_move_from_one_field_to_the_next() -> None:
    before = sealed(SUITE_1)
    moved = replace(before, other_information=b"othe", content=b"r" + before.content)
    with pytest.raises(RequestRejected):
        envelope.verify(SUITE_1, moved, KEYS[SUITE_1].public_key())


def test_another_key_or_the_other_suites_is_not_the_signer() -> None:
    before = sealed(SUITE_1)
    for key in (ec.generate_private_key(SUITE_1.curve), KEYS[SUITE_2]):
        with pytest.raises(RequestRejected):
            envelope.verify(SUITE_1, before, key.public_key())
    with pytest.raises(RequestRejected):
        envelope.verify(SUITE_2, before, KEYS[SUITE_1].public_key())


def test_truncated_anywhere_or_with_more_behind_it_it_is_malformed() -> None:
    data = sealed(SUITE_1, bytes(200)).encode()
    for cut in range(len(data)):
        with pytest.raises(MalformedMessage):
            envelope.decode(data[:cut])
    with pytest.raises(MalformedMessage):
        envelope.decode(data + b"\0")


def test_only_the_shortest_definite_length_is_taken() -> None:
    titles = axdr.octets(HEAD_END.octets) + axdr.octets(METER.octets)
    tail = b"\x00\x00" + axdr.octets(b"\xaa") + axdr.octets(bytes(64))
    assert envelope.decode(b"\xdf\x01\x07" + titles + tail).transaction_id == b"\x07"
    for length in (b"\x81\x01", b"\x82\x00\x01", b"\x80", b"\x85\x00\x00\x00\x00\x01"):
        with pytest.raises(MalformedMessage):
            envelope.decode(b"\xdf" + length + b"\x07" + titles + tail)


def test_every_field_has_its_limit() -> None:
    good = sealed(SUITE_1)
    for change in (
        {"transaction_id": bytes(17)},
        {"date_time": bytes(11)},
        {"date_time": bytes(13)},
        {"other_information": bytes(129)},
        {"content": bytes(4097)},
        {"signature": b""},
        {"signature": bytes(63)},
        {"signature": bytes(132)},
    ):
        bad = replace(good, **change)  # type: ignore[arg-type]  # each a field of octets
        with pytest.raises(ValueError, match="envelope"):
            bad.encode()
        with pytest.raises(MalformedMessage):
            envelope.decode(b"\xdf" + bad.signed_bytes + axdr.octets(bad.signature))
    largest = replace(good, content=bytes(4096), other_information=bytes(128), transaction_id=bytes(16))
    assert envelope.decode(largest.encode()) == largest


@pytest.mark.parametrize("octets", [7, 9])
def test_a_title_of_another_length_is_malformed(octets: int) -> None:
    fields = [b"", bytes(octets), METER.octets, b"", b"", b"", bytes(64)]
    with pytest.raises(MalformedMessage):
        envelope.decode(b"\xdf" + b"".join(axdr.octets(field) for field in fields))


@given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda tail: b"\xdf" + tail))
def test_any_bytes_are_an_envelope_or_malformed(data: bytes) -> None:
    try:
        read = envelope.decode(data)
    except MalformedMessage:
        return
    assert read.encode() == data


@given(st.integers(0, 2**32 - 1))
def test_a_length_reads_back_and_has_no_octet_too_many(value: int) -> None:
    written = axdr.length(value)
    assert len(written) == (1 if value < 128 else 1 + (value.bit_length() + 7) // 8)
    reader = axdr.Reader(written)
    assert reader.length(value) == value
    reader.end()
    with pytest.raises(MalformedMessage):
        axdr.Reader(written).length(value - 1)
