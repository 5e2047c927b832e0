"""Revocation lists in C509 form: what they look like, how long they are, what is none."""

from contextlib import suppress
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.keys import SoftwareSigner, generate
from protocol import c509, cbor
from protocol.cose import Algorithm, is_signature_valid
from protocol.errors import MalformedMessage
from protocol.path import cose_algorithm, verification_key
from protocol.revocation_list import REASONS, Head, decode_list, encode_list
from tests.world import NOW, Ca

DAY = 24 * 3600
WEEK = 7 * DAY
HEAD = Head(1234, NOW, NOW + WEEK)
DELTA = Head(1235, NOW, NOW + WEEK, base=1234)
SKI = bytes.fromhex("2f45e78d2caedf368cdf53c39005d492450e1056")


def ca(name: str) -> Ca:
    """Return a CA with a key identifier."""
    signer = SoftwareSigner(generate(), even_y=False)
    tbs = c509.build_certificate(
        type=2,
        serial=b"\1",
        issuer=c509.Name.common_name("root"),
        subject=c509.Name.common_name(name),
        not_before=NOW - WEEK,
        not_after=None,
        public_key=signer.public_key,
        public_key_algorithm=1,
        signature_algorithm=0,
        extensions=(c509.Extension(c509.ExtensionId.SUBJECT_KEY_IDENTIFIER, critical=False, value=SKI),),
    )
    return Ca(signer, tbs.with_signature(signer.sign(tbs.to_be_signed())))


CA = ca("TRL-M")
SERIALS = [bytes([first]) * 8 for first in (0x70, 0x11, 0x42)]


def made(head: Head, *entries: tuple[bytes, int]) -> bytes:
    return encode_list(CA.signer, CA.certificate, head, entries)


def test_a_list_reads_back_and_its_signature_is_the_issuers() -> None:
    found = decode_list(made(HEAD, (SERIALS[0], 1), (SERIALS[1], 4), (SERIALS[2], 0)))
    assert found.head == HEAD
    assert found.issuer == CA.certificate.subject
    assert found.key_identifier == SKI
    assert dict(found.revoked) == {SERIALS[0]: 1, SERIALS[1]: 4, SERIALS[2]: 0}
    algorithm = cose_algorithm(found.algorithm)
    assert algorithm is Algorithm.ES256
    assert is_signature_valid(
        verification_key(CA.certificate), algorithm, found.signature, found.signed_bytes
    )


@pytest.mark.parametrize("algorithm", [Algorithm.ES384, Algorithm.ES512])
def test_larger_curves_sign_with_their_own_hash(algorithm: Algorithm) -> None:
    key = generate(algorithm)
    found = decode_list(encode_list(SoftwareSigner(key), CA.certificate, HEAD, ()))
    assert cose_algorithm(found.algorithm) is algorithm
    assert is_signature_valid(
        key.public_key(),
        algorithm,
        found.signature,
        found.signed_bytes,
    )


def test_a_meter_follows_with_a_few_bytes() -> None:
    # Name of five letters, P-256, numbers of two bytes, serials of eight.
    assert len(made(HEAD)) == 112
    assert len(made(DELTA)) == 114, "nothing is new"
    assert len(made(DELTA, (SERIALS[0], 1))) == 114 + 22
    assert len(made(DELTA, *((serial, 1) for serial in SERIALS))) == 114 + 23 + 2 * 9
    many = [(number.to_bytes(8, "big"), 1) for number in range(2**56, 2**56 + 1000)]
    assert len(made(HEAD, *many)) == 112 + 15 + 1000 * 9


def test_the_drafts_first_example_comes_out_as_it_stands_there() -> None:
    # Facts of draft-liao-cose-c509-revocation-00, A.1: all but the signature, which is another key's.
    head = Head(1, 1735776000, 1735776000 + WEEK)
    signer = SoftwareSigner(generate(Algorithm.EDDSA))
    encoded = encode_list(signer, ca("test crlocsp-ca").certificate, head, ())
    assert len(encoded) == 120
    assert sha256(encoded[:54]).hexdigest() == (
        "e4d925ea391f0841acdea04df47a1828e47f889a038c95385855094539583646"
    )


@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=20).map(lambda b: bytes([b[0] | 1]) + b[1:]),
        st.sampled_from(sorted(REASONS)),
        max_size=12,
    ),
    st.integers(0, 2**63 - 1),
    st.none() | st.integers(0, WEEK),
)
def test_whatever_is_listed_is_read_and_there_is_one_encoding(
    entries: dict[bytes, int], number: int, lasts: int | None
) -> None:
    head = Head(number, NOW, None if lasts is None else NOW + lasts, number or None)
    encoded = encode_list(CA.signer, CA.certificate, head, entries.items())
    found = decode_list(encoded)
    assert (found.head, dict(found.revoked)) == (head, entries)
    again = encode_list(CA.signer, CA.certificate, found.head, reversed(list(found.revoked.items())))
    assert decode_list(again).signed_bytes == found.signed_bytes


@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 255))
def test_any_bytes_are_a_list_or_malformed(junk: bytes, position: int, byte: int) -> None:
    good = bytearray(made(DELTA, (SERIALS[0], 1)))
    good[position % len(good)] = byte
    for data in (junk, bytes(good), bytes(good[:position])):
        with suppress(MalformedMessage):
            decode_list(data)


def items(**changes: object) -> bytes:
    """Return a list with some of its parts replaced, by name."""
    parts: dict[str, object] = {
        "kind": 0,
        "algorithm": 0,
        "name": "TRL-M",
        "key_identifier": b"\1" * 20,
        "number": 5,
        "this_update": NOW,
        "lasts": WEEK,
        "base": 4,
        "extensions": [],
        "listed": [None, [3, 2, 0, NOW], [], b"\x01\x02\1\x01\x03\1", None],
        "signature": bytes(64),
    }
    assert parts.keys() >= changes.keys()
    return cbor.encode(list((parts | changes).values()))


WRONG: dict[str, dict[str, object]] = {
    "another type": {"kind": 1},
    "a type that is true": {"kind": False},
    "a number below zero": {"number": -1},
    "a number beyond all bounds": {"number": 2**63},
    "a base above the number": {"base": 6},
    "a time before the epoch": {"this_update": -1},
    "an end before the beginning": {"lasts": -1},
    "an end behind the calendar": {"lasts": 2**40},
    "a critical extension": {"extensions": [-5, "x"]},
    "half an extension": {"extensions": [5]},
    "no extensions at all": {"extensions": None},
    "a name that is none": {"name": 5},
    "no signature": {"signature": None},
    "a list of nothing": {"listed": [None, [3, 2, 0, NOW], [], None, None]},
    "records of nothing": {"listed": [None, [3, 2, 0, NOW], [], b"", None]},
    "no list": {"listed": []},
    "several issuers": {"listed": ["TRL-I", [3, 2, 0, NOW], [], b"\1\2\1", None]},
    "flags of another time": {"listed": [None, [7, 2, 0, NOW], [], b"\1\2\1", None]},
    "serials of no bytes": {"listed": [None, [1, 0, 0, NOW], [], b"\1", None]},
    "serials of 21 bytes": {"listed": [None, [1, 21, 0, NOW], [], bytes(range(1, 22)), None]},
    "records that are cut off": {"listed": [None, [3, 2, 0, NOW], [], b"\1\2\1\1", None]},
    "records out of order": {"listed": [None, [3, 2, 0, NOW], [], b"\1\3\1\1\2\1", None]},
    "a serial twice": {"listed": [None, [2, 2, 0, NOW], [], b"\1\2\1\1\2\4", None]},
    "serials wider than needed": {"listed": [None, [3, 2, 0, NOW], [], b"\0\2\1", None]},
    "serial zero": {"listed": [None, [3, 1, 0, NOW], [], b"\0\1\1\1", None]},
    "a reason for taking off": {"listed": [None, [3, 2, 0, NOW], [], b"\1\2\x08", None]},
    "off a full list": {"base": None, "listed": [None, [3, 2, 0, NOW], [], None, b"\1\2"]},
    "on and off": {"listed": [None, [3, 2, 0, NOW], [], b"\1\2\1", b"\1\2"]},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG.keys())
def test_what_is_not_such_a_list_is_malformed(changes: dict[str, object]) -> None:
    decode_list(items())
    with pytest.raises(MalformedMessage):
        decode_list(items(**changes))


def test_what_others_may_write_is_read() -> None:
    # With dates, without reasons, not in order, taking one off, with an extension that is not critical.
    listed = [None, [0, 1, 3, NOW], [87, NOW], b"\x09\0\0\1\x05\0\0\2", b"\x07\0\0\3"]
    found = decode_list(items(listed=listed))
    assert dict(found.revoked) == {b"\x09": 0, b"\x05": 0}
    assert found.removed == {b"\x07"}
