"""Transfer bundles, and the refusal that carries a voucher: what they hold, and what is none."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.keys import SoftwareSigner, generate
from protocol import cbor
from protocol.cose import PublicKey
from protocol.errors import MalformedMessage, OwnerChanged, ProblemKind, RequestRejected
from protocol.labels import Domain, Operation
from protocol.problem import Problem, Successor
from protocol.receipt import Receipt, read_verdict, sign_verdict
from protocol.signing import sign1
from protocol.transfer import TransferBundle, TransferredDevice, decode_bundle, verify_bundle
from protocol.voucher import key_identifier

_KEY = generate()
SIGNER, KEY = SoftwareSigner(_KEY), _KEY.public_key()
KEY_ID = key_identifier(KEY)
DEVICE = TransferredDevice("54524C0000000001", "meter-boot", "client", 1, b"voucher", b"certificate", 0)
BUNDLE = TransferBundle(
    Domain.METERING, bytes(32), bytes(range(32)), b"chain", (b"maker",), "alice", 5, (DEVICE,)
)
DEVICES = st.builds(
    TransferredDevice,
    st.text(),
    st.text(),
    st.from_regex(r"[0-9A-Za-z_-]{1,64}", fullmatch=True),
    st.integers(1, 2**63),
    st.binary(),
    st.binary(),
    st.just(0),
)
BUNDLES = st.builds(
    TransferBundle,
    st.sampled_from(Domain),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
    st.binary(),
    st.lists(st.binary(), min_size=1, max_size=3).map(tuple),
    st.text(max_size=64),
    st.integers(0, 2**40),
    st.lists(DEVICES, max_size=4).map(tuple),
)


@given(BUNDLES)
def test_a_bundle_comes_back_as_it_was(bundle: TransferBundle) -> None:
    signed, found = decode_bundle(bundle.sign(SIGNER, KEY_ID))
    assert found == bundle
    verify_bundle(signed, KEY)


@given(st.binary())
def test_any_other_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_bundle(data)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(DEVICE, epoch=0),
        replace(DEVICE, maker=1),
        replace(DEVICE, maker=-1),
        replace(DEVICE, client_id="a/b"),
        replace(DEVICE, client_id=""),
    ],
    ids=repr,
)
def test_a_device_that_is_none_makes_a_bundle_malformed(wrong: TransferredDevice) -> None:
    with pytest.raises(MalformedMessage):
        decode_bundle(replace(BUNDLE, devices=(DEVICE, wrong)).sign(SIGNER, KEY_ID))


@pytest.mark.parametrize(
    "wrong",
    [
        replace(BUNDLE, giver=bytes(31)),
        replace(BUNDLE, receiver=bytes(33)),
        replace(BUNDLE, approved_by="x" * 65),
        replace(BUNDLE, makers=(b"maker",) * 65),
        replace(BUNDLE, time=True),
    ],
    ids=lambda bundle: str(hash(bundle))[:6],
)
def test_a_bundle_over_its_limits_is_malformed(wrong: TransferBundle) -> None:
    with pytest.raises(MalformedMessage):
        decode_bundle(wrong.sign(SIGNER, KEY_ID))


@pytest.mark.parametrize("item", [[], [1], "bundle", [2, *[None] * 8]])
def test_a_payload_of_another_shape_is_malformed(item: object) -> None:
    with pytest.raises(MalformedMessage):
        decode_bundle(sign1(SIGNER, cbor.encode(item), cbor.encode(["transfer"]), key_id=KEY_ID[:8]))


def test_a_bundle_is_its_signers_alone() -> None:
    other = generate()
    signed, _ = decode_bundle(BUNDLE.sign(SIGNER, KEY_ID))
    with pytest.raises(RequestRejected):
        verify_bundle(signed, other.public_key())
    forged, _ = decode_bundle(BUNDLE.sign(SoftwareSigner(other), KEY_ID))
    with pytest.raises(RequestRejected):
        verify_bundle(forged, KEY)
    for aad in (["voucher"], ["manifest", "meter-boot"]):
        moved = sign1(SIGNER, signed.payload, cbor.encode(aad), key_id=KEY_ID[:8])
        with pytest.raises(RequestRejected):
            verify_bundle(decode_bundle(moved)[0], KEY)


# --- the refusal that carries a voucher -------------------------------------------------------------------


def verdict(payload: list[object] | None = None, problem: Problem | Receipt | None = None) -> bytes:
    if payload is None:
        assert problem is not None
        return sign_verdict(
            problem,
            SIGNER,
            thumbprint=b"thumb-ra",
            request_digest=hashlib.sha256(b"request").digest(),
            authority=bytes(32),
            label="meter-ds",
            op=Operation.SREN,
        )
    aad = cbor.encode([payload[0], bytes(32), "meter-ds", "sren"])
    return sign1(SIGNER, cbor.encode(payload[1:]), aad, thumbprint=b"thumb-ra")


def read(data: bytes, key: PublicKey = KEY) -> Receipt | Problem:
    return read_verdict(
        data, key, request=b"request", authority=bytes(32), label="meter-ds", op=Operation.SREN
    )


@pytest.mark.parametrize(
    "at", [None, "coap://192.0.2.7:5683", "mqtts://pki.example", "coap://[2001:db8::1]:5683"]
)
def test_a_refusal_carries_the_next_owner(at: str | None) -> None:
    problem = Problem(ProblemKind.OWNER_CHANGED, "sold", None, Successor(b"voucher", at))
    assert read(verdict(problem=problem)) == problem
    error = problem.as_error()
    assert isinstance(error, OwnerChanged)
    assert (error.at, error.reason) == (at, ProblemKind.OWNER_CHANGED)


def test_a_refusal_without_a_voucher_is_one_like_others() -> None:
    problem = Problem(ProblemKind.OWNER_CHANGED, "sold")
    assert read(verdict(problem=problem)) == problem
    assert not isinstance(problem.as_error(), OwnerChanged)


DIGEST = hashlib.sha256(b"request").digest()


@pytest.mark.parametrize(
    "payload",
    [
        ["est-no", DIGEST, 23, "", None, b"voucher"],
        ["est-no", DIGEST, 23, "", None, b"voucher", None, None],
        ["est-no", DIGEST, 23, "", None, "voucher", None],
        ["est-no", DIGEST, 23, "", None, b"voucher", "http://192.0.2.7"],
        ["est-no", DIGEST, 23, "", None, b"voucher", "coap://192.0.2.7/path"],
        ["est-no", DIGEST, 23, "", None, b"voucher", "coap://" + "x" * 101],
        ["est-no", DIGEST, 16, "", None, b"voucher", None],
        ["est-ok", DIGEST, 23, "", None, b"voucher", None],
    ],
    ids=lambda payload: f"{payload[0]} {payload[2]} {payload[5:]}"[:60],
)
def test_whatever_else_follows_makes_a_verdict_malformed(payload: list[object]) -> None:
    with pytest.raises(MalformedMessage):
        read(verdict(payload))
