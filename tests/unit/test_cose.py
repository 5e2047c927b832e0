import os
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import example, given
from hypothesis import strategies as st

from agents.keys import SoftwareSigner, generate
from protocol import cbor
from protocol.cose import (
    SIGNATURE_BYTES,
    Algorithm,
    Header,
    PublicKey,
    algorithm_of,
    decode_header,
    decode_sign1,
    is_signature_valid,
    signature_input,
)
from protocol.errors import MalformedMessage
from protocol.signing import sign1

N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
THUMBPRINT = bytes.fromhex("0102030405060708")
AAD = b"\x81\x63aad"


def new(algorithm: Algorithm = Algorithm.ES256) -> tuple[SoftwareSigner, PublicKey]:
    key = generate(algorithm)
    return SoftwareSigner(key), key.public_key()


@pytest.mark.parametrize("algorithm", Algorithm)
def test_what_is_signed_is_read_and_verified(algorithm: Algorithm) -> None:
    signer, key = new(algorithm)
    data = sign1(signer, b"payload", AAD, thumbprint=THUMBPRINT)
    signed = decode_sign1(data)
    assert signed.encode() == data
    assert (signed.payload, signed.header) == (b"payload", Header(algorithm, thumbprint=THUMBPRINT))
    assert is_signature_valid(key, algorithm, signed.signature, signed.signed_bytes(AAD))
    assert not is_signature_valid(key, algorithm, signed.signature, signed.signed_bytes(b"other aad"))


def test_the_bytes_are_those_of_rfc_9052() -> None:
    protected = Header(Algorithm.ES256, thumbprint=THUMBPRINT).encode()
    assert protected.hex() == "a2012616822e48" + THUMBPRINT.hex()
    assert signature_input(protected, AAD, b"p" * 300) == cbor.encode(
        ["Signature1", protected, AAD, b"p" * 300]
    )
    data = sign1(new()[0], b"p", AAD, thumbprint=THUMBPRINT)
    assert data[:2].hex() == "844f", "an untagged array of four"
    assert data[2:17] == protected
    assert data[17:22].hex() == "a041705840", "nothing unprotected, the payload, a signature of 64 bytes"


@pytest.mark.parametrize(
    ("name", "header", "encoded"),
    [
        (
            {"thumbprint": THUMBPRINT},
            Header(Algorithm.ES256, thumbprint=THUMBPRINT),
            "16822e480102030405060708",
        ),
        ({"certificate": b"\x8b\x02"}, Header(Algorithm.ES256, certificate=b"\x8b\x02"), "1819428b02"),
        ({"key_id": b"kid"}, Header(Algorithm.ES256, key_id=b"kid"), "04436b6964"),
    ],
    ids=["c5t", "c5c", "kid"],
)
def test_a_key_is_named_in_one_of_three_ways(name: dict[str, bytes], header: Header, encoded: str) -> None:
    signed = decode_sign1(sign1(new()[0], b"", AAD, **name))
    assert signed.header == header
    assert signed.protected.hex() == "a20126" + encoded
    assert decode_header(signed.protected) == header


def test_a_signer_names_its_key_in_exactly_one_way() -> None:
    for names in ({}, {"thumbprint": THUMBPRINT, "key_id": b"k"}):
        with pytest.raises(ValueError, match="exactly one way"):
            sign1(new()[0], b"", AAD, **names)


HEADERS = {
    "no algorithm": {22: [-15, THUMBPRINT]},
    "no key": {1: -7},
    "an algorithm that is not ours (RS256)": {1: -257, 22: [-15, THUMBPRINT]},
    "a MAC algorithm": {1: 5, 22: [-15, THUMBPRINT]},
    "an algorithm in words": {1: "ES256", 22: [-15, THUMBPRINT]},
    "an algorithm that is a list": {1: [-7], 22: [-15, THUMBPRINT]},
    "two ways": {1: -7, 4: b"kid", 22: [-15, THUMBPRINT]},
    "crit": {1: -7, 2: [22], 22: [-15, THUMBPRINT]},
    "a content type": {1: -7, 3: 0, 22: [-15, THUMBPRINT]},
    "another hash": {1: -7, 22: [-16, bytes(32)]},
    "a longer thumbprint": {1: -7, 22: [-15, bytes(9)]},
    "a shorter thumbprint": {1: -7, 22: [-15, bytes(7)]},
    "a thumbprint in text": {1: -7, 22: [-15, "01234567"]},
    "a thumbprint alone": {1: -7, 22: THUMBPRINT},
    "two thumbprints": {1: -7, 22: [-15, THUMBPRINT, THUMBPRINT]},
    "several certificates": {1: -7, 25: [b"\x8b", b"\x8b"]},
    "an empty kid": {1: -7, 4: b""},
    "a kid too long": {1: -7, 4: bytes(33)},
    "a kid in text": {1: -7, 4: "kid"},
    "x5chain": {1: -7, 33: b"\x30"},
    "c5t as text": {1: -7, "22": [-15, THUMBPRINT]},
    "true, which Python takes for 1": {22: [-15, THUMBPRINT], True: -7},
    "nothing": {},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=list(HEADERS))
def test_no_other_header_is_taken(header: dict[object, object]) -> None:
    with pytest.raises(MalformedMessage):
        decode_sign1(cbor.encode([cbor.encode(header), {}, b"", bytes(64)]))


@pytest.mark.parametrize("protected", ["", "80", "a2012616822e", "bf01260441ffff", "a2012604417801"])
def test_a_header_is_one_deterministic_map(protected: str) -> None:
    with pytest.raises(MalformedMessage):
        decode_sign1(cbor.encode([bytes.fromhex(protected), {}, b"", bytes(64)]))


GOOD = [Header(Algorithm.ES256, thumbprint=THUMBPRINT).encode(), {}, b"payload", bytes(64)]
OBJECTS: dict[str, Callable[[], bytes]] = {
    "tagged": lambda: cbor.encode(cbor.CBORTag(18, GOOD)),
    "detached": lambda: cbor.encode([GOOD[0], {}, None, GOOD[3]]),
    "something unprotected": lambda: cbor.encode([GOOD[0], {4: b"kid"}, GOOD[2], GOOD[3]]),
    "nothing unprotected, but as a list": lambda: cbor.encode([GOOD[0], [], GOOD[2], GOOD[3]]),
    "protected as a map": lambda: cbor.encode([{1: -7}, {}, GOOD[2], GOOD[3]]),
    "payload as text": lambda: cbor.encode([GOOD[0], {}, "payload", GOOD[3]]),
    "signature as text": lambda: cbor.encode([GOOD[0], {}, GOOD[2], "0" * 64]),
    "signature too short": lambda: cbor.encode([*GOOD[:3], bytes(63)]),
    "signature too long": lambda: cbor.encode([*GOOD[:3], bytes(65)]),
    "signature in DER": lambda: cbor.encode([*GOOD[:3], bytes.fromhex("3006020101020101")]),
    "COSE_Sign": lambda: cbor.encode([GOOD[0], {}, GOOD[2], [[b"", {}, bytes(64)]]]),
    "five members": lambda: cbor.encode([*GOOD, 0]),
    "three members": lambda: cbor.encode(GOOD[:3]),
    "more after it": lambda: cbor.encode(GOOD) + b"\x00",
    "a length that is not the shortest": lambda: cbor.encode(GOOD).replace(
        b"\x47payload", b"\x58\x07payload"
    ),
    "too long": lambda: cbor.encode([GOOD[0], {}, bytes(4096), GOOD[3]]),
}


@pytest.mark.parametrize("make", OBJECTS.values(), ids=list(OBJECTS))
def test_no_other_object_is_taken(make: Callable[[], bytes]) -> None:
    assert decode_sign1(cbor.encode(GOOD)).payload == b"payload"
    with pytest.raises(MalformedMessage):
        decode_sign1(make())


@given(st.binary(max_size=120))
@example(b"\x84\x4f\xa2\x01\x26\x16\x82\x2e\x48")
def test_any_bytes_are_an_object_or_malformed(data: bytes) -> None:
    try:
        signed = decode_sign1(data)
    except MalformedMessage:
        return
    assert signed.encode() == data


def test_the_other_signature_verifies_and_is_another_object() -> None:
    signer, key = new()
    data = sign1(signer, b"payload", AAD, thumbprint=THUMBPRINT)
    r, s = data[-64:-32], int.from_bytes(data[-32:], "big")
    flipped = data[:-32] + (N - s).to_bytes(32, "big")
    signed = decode_sign1(flipped)
    assert is_signature_valid(key, Algorithm.ES256, signed.signature, signed.signed_bytes(AAD))
    assert signed.signature[:32] == r
    assert flipped != data, "so no one may tell messages apart by their bytes"


@pytest.mark.parametrize(
    "signature",
    [
        bytes(64),
        b"\xff" * 64,
        bytes(32) + b"\x01" * 32,
        b"\x01" * 32 + bytes(32),
        b"",
        bytes(63),
        bytes(65),
        bytes(132),
    ],
    ids=["zero", "too large", "r zero", "s zero", "none", "63", "65", "132"],
)
def test_numbers_that_are_no_signature_are_a_plain_no(signature: bytes) -> None:
    _, key = new()
    assert is_signature_valid(key, Algorithm.ES256, signature, b"data") is False


@pytest.mark.parametrize("claimed", [*Algorithm, -257, 0, 5, -(2**40)])
@pytest.mark.parametrize("actual", Algorithm)
def test_a_key_verifies_with_its_own_algorithm_only(actual: Algorithm, claimed: int) -> None:
    signer, key = new(actual)
    signature = signer.sign(b"data")
    for length in {len(signature), *SIGNATURE_BYTES.values()}:
        padded = (signature + bytes(132))[:length]
        expected = claimed == actual and length == len(signature)
        assert is_signature_valid(key, claimed, padded, b"data") is expected


def test_keys_of_other_curves_have_no_algorithm() -> None:
    for algorithm in Algorithm:
        assert algorithm_of(new(algorithm)[1]) is algorithm
    for curve in (ec.SECP256K1(), ec.SECP224R1(), ec.BrainpoolP256R1()):
        key = ec.generate_private_key(curve).public_key()
        with pytest.raises(MalformedMessage, match="no signature algorithm"):
            algorithm_of(key)
        assert not is_signature_valid(key, Algorithm.ES256, os.urandom(64), b"data")
