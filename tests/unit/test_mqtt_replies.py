"""Reply payloads, there and back."""

import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.replies import MEDIA, decode_reply, encode_reply, request_id
from broker.topics import Outcome
from protocol import cbor
from protocol.errors import MalformedMessage, ProblemKind
from protocol.labels import Operation
from protocol.ports import Content, Media, Pending, SignedRefusal
from protocol.problem import MAX_RETRY_AFTER, Problem

REQUEST = b"a request"
SIGNED = bytes.fromhex("8440a04040")


def test_no_operation_is_without_a_medium() -> None:
    assert set(MEDIA) == set(Operation)


def test_the_request_id_is_the_first_eight_bytes_of_sha256() -> None:
    assert request_id(REQUEST) == hashlib.sha256(REQUEST).digest()[:8]


@given(st.binary(min_size=1, max_size=300), st.sampled_from(Operation))
def test_a_good_answer_arrives_with_the_medium_of_its_operation(body: bytes, op: Operation) -> None:
    outcome, payload = encode_reply(Content(body, Media.PKIX_CERT), REQUEST)
    assert outcome is Outcome.ACCEPTED
    assert decode_reply(outcome, payload, op) == (request_id(REQUEST), Content(body, MEDIA[op]))


@pytest.mark.parametrize(("seconds", "heard"), [(0.2, 1.0), (7.0, 7.0), (7.1, 8.0)])
def test_pending_is_told_in_whole_seconds(seconds: float, heard: float) -> None:
    outcome, payload = encode_reply(Pending(seconds), REQUEST)
    assert payload == cbor.encode([request_id(REQUEST), int(heard)])
    assert decode_reply(outcome, payload, Operation.SEN)[1] == Pending(heard)


def test_no_broker_can_send_a_device_to_sleep_for_a_year() -> None:
    payload = cbor.encode([request_id(REQUEST), 2**60])
    assert decode_reply(Outcome.PENDING, payload, Operation.SEN)[1] == Pending(MAX_RETRY_AFTER)


@pytest.mark.parametrize("kind", ProblemKind)
def test_an_unsigned_refusal_keeps_its_kind(kind: ProblemKind) -> None:
    problem = Problem(kind, "because", 3.0)
    outcome, payload = encode_reply(problem, REQUEST)
    assert outcome is Outcome.REJECTED
    assert decode_reply(outcome, payload, Operation.SEN)[1] == problem


def test_a_signed_refusal_is_told_from_an_unsigned_one_by_its_first_byte() -> None:
    outcome, payload = encode_reply(SignedRefusal(SIGNED, Problem(ProblemKind.KEY_USED)), REQUEST)
    assert outcome is Outcome.REJECTED
    reply = decode_reply(outcome, payload, Operation.SEN)[1]
    assert isinstance(reply, SignedRefusal)
    assert reply.body == SIGNED


@given(
    st.sampled_from(Outcome),
    st.binary(max_size=40) | st.builds(cbor.encode, st.lists(st.binary() | st.integers(0, 99), max_size=3)),
)
def test_any_bytes_are_a_reply_or_malformed(outcome: Outcome, payload: bytes) -> None:
    with suppress(MalformedMessage):
        decode_reply(outcome, payload, Operation.SEN)


@pytest.mark.parametrize(
    ("outcome", "content"),
    [
        (Outcome.ACCEPTED, [b"1234567", b"body"]),
        (Outcome.ACCEPTED, [b"12345678", 5]),
        (Outcome.ACCEPTED, [b"12345678", b""]),
        (Outcome.ACCEPTED, [b"12345678", b"body", b"more"]),
        (Outcome.PENDING, [b"12345678", 0]),
        (Outcome.PENDING, [b"12345678", -3]),
        (Outcome.PENDING, [b"12345678", True]),
        (Outcome.PENDING, [b"12345678", b"5"]),
        (Outcome.REJECTED, [b"12345678", b"\x01"]),
        (Outcome.REJECTED, "no"),
    ],
)
def test_other_shapes_are_malformed(outcome: Outcome, content: object) -> None:
    with pytest.raises(MalformedMessage):
        decode_reply(outcome, cbor.encode(content), Operation.SEN)
