import hashlib
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.keys import SoftwareSigner, generate
from protocol import cbor
from protocol.cose import Algorithm, PublicKey
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.labels import Operation
from protocol.problem import MAX_DETAIL_CHARS, MAX_RETRY_AFTER, Problem
from protocol.receipt import Receipt, read_verdict, sign_verdict, signer_of
from protocol.signing import sign1

THUMBPRINT = b"thumb-ra"


@dataclass(frozen=True)
class Case:
    """One request, and what an authority or a device takes it for."""

    request: bytes = b"a request"
    authority: bytes = bytes(32)
    label: str = "meter-ds"
    op: Operation = Operation.CONF

    def sign(self, verdict: Receipt | Problem, signer: SoftwareSigner) -> bytes:
        return sign_verdict(
            verdict,
            signer,
            thumbprint=THUMBPRINT,
            request_digest=hashlib.sha256(self.request).digest(),
            authority=self.authority,
            label=self.label,
            op=self.op,
        )

    def read(self, data: bytes, key: PublicKey) -> Receipt | Problem:
        return read_verdict(
            data, key, request=self.request, authority=self.authority, label=self.label, op=self.op
        )


CASE = Case()
_KEY = generate()
SIGNER, KEY = SoftwareSigner(_KEY), _KEY.public_key()
DONE = CASE.sign(Receipt(0), SIGNER)


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize(
    "verdict",
    [
        Receipt(0),
        Receipt(7),
        Problem(ProblemKind.KEY_USED),
        Problem(ProblemKind.NOT_ENTITLED, "quota used up", 3600.0),
        *(Problem(kind) for kind in ProblemKind),
    ],
    ids=repr,
)
def test_a_verdict_says_what_was_decided(algorithm: Algorithm, verdict: Receipt | Problem) -> None:
    key = generate(algorithm)
    data = CASE.sign(verdict, SoftwareSigner(key))
    assert CASE.read(data, key.public_key()) == verdict
    assert signer_of(data) == THUMBPRINT


@pytest.mark.parametrize("verdict", [Receipt(0), Problem(ProblemKind.NOT_ENTITLED)], ids=["yes", "no"])
@pytest.mark.parametrize(
    "other",
    [{"authority": b"\x01" * 32}, {"label": "meter-tls"}, {"op": Operation.REV}],
    ids=["authority", "label", "operation"],
)
def test_a_verdict_of_another_door_is_refused(verdict: Receipt | Problem, other: dict[str, Any]) -> None:
    with pytest.raises(RequestRejected) as caught:
        CASE.read(replace(CASE, **other).sign(verdict, SIGNER), KEY)
    assert caught.value.reason is ProblemKind.BAD_SIGNATURE


def test_a_verdict_on_another_request_is_refused() -> None:
    with pytest.raises(RequestRejected, match="another request") as caught:
        CASE.read(replace(CASE, request=b"another").sign(Receipt(0), SIGNER), KEY)
    assert caught.value.reason is ProblemKind.UNEXPECTED


def test_a_verdict_by_another_key_is_refused() -> None:
    with pytest.raises(RequestRejected) as caught:
        CASE.read(CASE.sign(Receipt(0), SoftwareSigner(generate())), KEY)
    assert caught.value.reason is ProblemKind.BAD_SIGNATURE


def test_a_refusal_is_no_receipt_with_the_same_number() -> None:
    refusal = CASE.sign(Problem(ProblemKind.MALFORMED), SIGNER)
    assert CASE.read(refusal, KEY) == Problem(ProblemKind.MALFORMED)
    assert CASE.read(CASE.sign(Receipt(1), SIGNER), KEY) == Receipt(1)


def test_pauses_are_whole_seconds_rounded_up_and_no_longer_than_a_day() -> None:
    data = CASE.sign(Problem(ProblemKind.OVERLOADED, retry_after=0.2), SIGNER)
    assert CASE.read(data, KEY) == Problem(ProblemKind.OVERLOADED, retry_after=1.0)
    data = CASE.sign(Problem(ProblemKind.OVERLOADED, retry_after=1e9), SIGNER)
    assert CASE.read(data, KEY) == Problem(ProblemKind.OVERLOADED, retry_after=MAX_RETRY_AFTER)


def test_a_detail_is_cut_to_a_sentence() -> None:
    verdict = CASE.read(CASE.sign(Problem(ProblemKind.BAD_KEY, "x" * 1000), SIGNER), KEY)
    assert verdict == Problem(ProblemKind.BAD_KEY, "x" * MAX_DETAIL_CHARS)


def test_a_word_for_no_that_is_not_known_yet_is_still_a_no() -> None:
    data = _signed([hashlib.sha256(CASE.request).digest(), 4000, "something new", None], "est-no")
    assert CASE.read(data, KEY) == Problem(ProblemKind.NOT_ENTITLED, "something new")


def _signed(payload: object, verdict: str = "est-ok") -> bytes:
    aad = cbor.encode([verdict, CASE.authority, CASE.label, CASE.op.value])
    return sign1(SIGNER, cbor.encode(payload), aad, thumbprint=THUMBPRINT)


DIGEST = hashlib.sha256(CASE.request).digest()


@pytest.mark.parametrize(
    "payload",
    [
        [DIGEST, 0, ""],
        [DIGEST, 0, "", None, None],
        [DIGEST.hex(), 0, "", None],
        [DIGEST, True, "", None],
        [DIGEST, None, "", None],
        [DIGEST, 0, b"", None],
        [DIGEST, 0, None, None],
        [DIGEST, 0, "", -1],
        [DIGEST, 0, "", False],
        [DIGEST, 0, "", "1"],
        {0: DIGEST},
        None,
    ],
)
def test_no_other_payload_is_taken(payload: object) -> None:
    with pytest.raises(MalformedMessage):
        CASE.read(_signed(payload), KEY)


def test_a_verdict_names_its_signer_by_thumbprint() -> None:
    with pytest.raises(MalformedMessage, match="c5t"):
        signer_of(sign1(SIGNER, b"", b"", key_id=b"kid"))


@given(st.binary(max_size=150))
def test_any_bytes_are_malformed_or_refused(data: bytes) -> None:
    with pytest.raises((MalformedMessage, RequestRejected)):
        CASE.read(data, KEY)


@given(st.integers(0, len(DONE) - 1), st.integers(1, 255))
def test_one_wrong_byte_spoils_it(at: int, change: int) -> None:
    data = bytearray(DONE)
    data[at] ^= change
    # The thumbprint is signed too: nobody else's key may be named.
    with pytest.raises((MalformedMessage, RequestRejected)):
        CASE.read(bytes(data), KEY)
