import hashlib

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from agents.keys import SoftwareSigner, generate
from protocol import cbor
from protocol.cose import Algorithm, PublicKey
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.signing import sign1
from protocol.voucher import Voucher, key_identifier, read_voucher

DEVICE = "54524C0000000001"
OWNER = bytes(range(32))
AAD = cbor.encode(["voucher"])


def maker(algorithm: Algorithm = Algorithm.ES256) -> tuple[SoftwareSigner, PublicKey]:
    key = generate(algorithm)
    return SoftwareSigner(key), key.public_key()


def issue(signer: SoftwareSigner, key: PublicKey, device: str = DEVICE, epoch: int = 0) -> bytes:
    return Voucher.issue(signer, key_identifier(key), device, OWNER, epoch).encoded


def refusal(data: bytes, *keys: PublicKey, device: str = DEVICE, lowest_epoch: int = 0) -> ProblemKind:
    with pytest.raises(RequestRejected) as caught:
        read_voucher(data, keys, device=device, lowest_epoch=lowest_epoch)
    return caught.value.reason


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_voucher_names_the_owner(algorithm: Algorithm) -> None:
    signer, key = maker(algorithm)
    data = issue(signer, key, epoch=3)
    assert read_voucher(data, (key,), device=DEVICE) == Voucher(DEVICE, OWNER, 3, data)


def test_the_signing_key_is_found_among_those_that_are_pinned() -> None:
    signer, key = maker()
    others = [maker()[1] for _ in range(3)]
    assert read_voucher(issue(signer, key), (*others, key), device=DEVICE).authority == OWNER
    assert refusal(issue(signer, key), *others) is ProblemKind.UNKNOWN_SIGNER
    assert refusal(issue(signer, key)) is ProblemKind.UNKNOWN_SIGNER


def test_keys_are_named_by_their_subject_public_key_info() -> None:
    _, key = maker()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert key_identifier(key) == hashlib.sha256(spki).digest()


def test_who_names_a_pinned_key_but_has_another_is_refused() -> None:
    _, pinned = maker()
    thief, _ = maker()
    assert refusal(issue(thief, pinned), pinned) is ProblemKind.BAD_SIGNATURE


def test_a_voucher_is_for_one_device() -> None:
    signer, key = maker()
    assert refusal(issue(signer, key, device="54524C0000000002"), key) is ProblemKind.WRONG_SUBJECT


def test_an_owner_before_this_one_is_over() -> None:
    signer, key = maker()
    data = issue(signer, key, epoch=4)
    assert read_voucher(data, (key,), device=DEVICE, lowest_epoch=4).epoch == 4
    assert refusal(data, key, lowest_epoch=5) is ProblemKind.SIGNER_SUPERSEDED


def test_what_a_voucher_key_signed_for_another_purpose_is_no_voucher() -> None:
    signer, key = maker()
    payload = cbor.encode([DEVICE, OWNER, 0])
    data = sign1(signer, payload, cbor.encode(["est"]), key_id=key_identifier(key)[:8])
    assert refusal(data, key) is ProblemKind.BAD_SIGNATURE


@pytest.mark.parametrize(
    "payload",
    [
        [DEVICE, OWNER],
        [DEVICE, OWNER, 0, 0],
        [DEVICE.encode(), OWNER, 0],
        [DEVICE, OWNER[:31], 0],
        [DEVICE, OWNER + b"\x00", 0],
        [DEVICE, OWNER.hex(), 0],
        [DEVICE, OWNER, -1],
        [DEVICE, OWNER, True],
        [DEVICE, OWNER, None],
        {0: DEVICE, 1: OWNER, 2: 0},
        0,
    ],
)
def test_no_other_payload_is_taken(payload: object) -> None:
    signer, key = maker()
    data = sign1(signer, cbor.encode(payload), AAD, key_id=key_identifier(key)[:8])
    with pytest.raises(MalformedMessage):
        read_voucher(data, (key,), device=DEVICE)


def test_a_voucher_that_names_its_key_otherwise_is_by_nobody() -> None:
    signer, key = maker()
    data = sign1(signer, cbor.encode([DEVICE, OWNER, 0]), AAD, thumbprint=key_identifier(key)[:8])
    assert refusal(data, key) is ProblemKind.UNKNOWN_SIGNER


SIGNER, KEY = maker()
GOOD = issue(SIGNER, KEY)


@given(st.binary(max_size=150))
def test_any_bytes_are_malformed_or_refused(data: bytes) -> None:
    with pytest.raises((MalformedMessage, RequestRejected)):
        read_voucher(data, (KEY,), device=DEVICE)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_one_wrong_byte_spoils_it(at: int, change: int) -> None:
    data = bytearray(GOOD)
    data[at] ^= change
    with pytest.raises((MalformedMessage, RequestRejected)):
        read_voucher(bytes(data), (KEY,), device=DEVICE)
