"""What a C509 decoder refuses, and why: one case a rule of the draft."""

from typing import Any

import pytest

from protocol import c509, cbor
from protocol.c509.der import oid_from_text
from protocol.cbor import CBORTag, undefined
from protocol.errors import MalformedMessage
from tests import c509_samples
from tests.c509_samples import COMPRESSED, POINT, PRIVATE_OID

SHORT = c509_samples.certificate(extensions=c509_samples.EXTENSIONS[1:2]).encoded
KEY_USAGE = oid_from_text("2.5.29.15")
COMMON_NAME = oid_from_text("2.5.4.3")
ES256 = oid_from_text("1.2.840.10045.4.3.2")

TYPE, SERIAL, ALGORITHM, ISSUER, BEFORE, AFTER, SUBJECT, KEY_ALGORITHM, KEY, EXTENSIONS, SIGNATURE = range(11)


def with_item(place: int, item: object, kind: int = c509.NATIVE) -> bytes:
    """Return a good certificate with another item in one place."""
    items = cbor.decode(SHORT, tags=frozenset({48}))
    items[TYPE] = kind
    items[place] = item
    return cbor.encode(items)


def test_the_certificate_that_is_changed_here_is_good() -> None:
    assert c509.decode_certificate(SHORT).encoded == SHORT
    assert c509.decode_certificate(with_item(TYPE, 3)).type == c509.REENCODED


@pytest.mark.parametrize(
    ("place", "item"),
    [
        (TYPE, 0),
        (TYPE, 1),
        (TYPE, 4),
        (TYPE, True),
        (TYPE, b"\x02"),
        (SERIAL, 1),
        (SERIAL, b""),
        (SERIAL, b"\0\x01"),
        (SERIAL, "1"),
        (ALGORITHM, 6),
        (ALGORITHM, False),
        (ALGORITHM, None),
        (ALGORITHM, b""),
        (ALGORITHM, b"\x80"),
        (ALGORITHM, [PRIVATE_OID]),
        (ALGORITHM, [PRIVATE_OID, b"\x05"]),
        (ALGORITHM, [PRIVATE_OID, None]),
        (ISSUER, undefined),
        (ISSUER, 1),
        (ISSUER, b""),
        (BEFORE, -1),
        (BEFORE, 253402300800),
        (BEFORE, None),
        (BEFORE, True),
        (AFTER, 253402300799),
        (AFTER, -1),
        (AFTER, b""),
        (SUBJECT, None),
        (SUBJECT, "0a"),
        (SUBJECT, "00-11-22-33-44-55-66-77"),
        (SUBJECT, CBORTag(48, b"1234567")),
        (SUBJECT, CBORTag(48, b"123\xff\xfe678")),
        (SUBJECT, CBORTag(48, "123456")),
        (SUBJECT, [1, "lone"]),
        (SUBJECT, [1, "odd", 8]),
        (SUBJECT, [23, "no such attribute"]),
        (SUBJECT, [8, None, 9, "x"]),
        (SUBJECT, [True, "x", 8, "y"]),
        (SUBJECT, [22, "höst", 8, "not ASCII"]),
        (SUBJECT, [-22, "host", 8, "always IA5"]),
        (SUBJECT, [PRIVATE_OID, "text"]),
        (SUBJECT, [PRIVATE_OID, b"not DER"]),
        (KEY_ALGORITHM, 4),
        (KEY_ALGORITHM, -1),
        (KEY, undefined),
        (KEY, b""),
        (KEY, COMPRESSED[:-1]),
        (KEY, COMPRESSED + b"\0"),
        (KEY, b"\x05" + COMPRESSED[1:]),
        (KEY, POINT[:-1]),
        (KEY, b"\x06" + POINT[1:]),
        (EXTENSIONS, None),
        (EXTENSIONS, 0x200),
        (EXTENSIONS, -0x200),
        (EXTENSIONS, [2, 1]),
        (EXTENSIONS, [-2, 1]),
        (EXTENSIONS, [2]),
        (EXTENSIONS, [37, None]),
        (EXTENSIONS, [1, b"a", -1, b"b"]),
        (EXTENSIONS, [PRIVATE_OID, 1]),
        (EXTENSIONS, [PRIVATE_OID, [b"a", b"b"]]),
        (EXTENSIONS, [PRIVATE_OID, b"a", PRIVATE_OID, [b"a"]]),
        (EXTENSIONS, {1: b"a"}),
        (SIGNATURE, None),
        (SIGNATURE, b""),
        (SIGNATURE, bytes(63)),
        (SIGNATURE, [b"a"]),
    ],
)
@pytest.mark.parametrize("kind", [c509.NATIVE, c509.REENCODED])
def test_an_item_out_of_its_type_or_range_is_refused(kind: int, place: int, item: object) -> None:
    with pytest.raises(MalformedMessage):
        c509.decode_certificate(with_item(place, item, kind))


@pytest.mark.parametrize(
    ("place", "item"),
    [
        (ALGORITHM, ES256),
        (KEY_ALGORITHM, [oid_from_text("1.2.840.10045.2.1"), bytes.fromhex("06082a8648ce3d030107")]),
        (SUBJECT, [COMMON_NAME, b"\x0c\x01x"]),
        (SUBJECT, [-8, "printable"]),
        (EXTENSIONS, [KEY_USAGE, b"\x03\x02\x07\x80"]),
        (EXTENSIONS, [8, oid_from_text("1.3.6.1.5.5.7.3.1")]),
        (EXTENSIONS, [3, [0, [oid_from_text("1.3.6.1.5.5.7.8.9"), b"\x0c\x01x"]]]),
    ],
)
def test_a_native_certificate_uses_the_specific_form_and_a_reencoded_one_may_not(
    place: int, item: object
) -> None:
    with pytest.raises(MalformedMessage):
        c509.decode_certificate(with_item(place, item))
    loose = c509.decode_certificate(with_item(place, item, c509.REENCODED))
    assert loose.encoded == with_item(place, item, c509.REENCODED)
    if place != SUBJECT or item[0] != -8:  # type: ignore[index]  # subjects are lists here
        assert not c509.is_canonical(loose)


BAD_VALUES: list[tuple[int, Any]] = [
    (1, "text"),
    (2, -1),
    (2, 0x200),
    (3, "dnß"),
    (3, []),
    (3, [2, "lone.example"]),
    (3, [3, b""]),
    (3, [9, b""]),
    (3, [7, b"12345"]),
    (3, [7, b"1234\x18"]),
    (3, [1, b"bytes"]),
    (3, [-3, b"12345"]),
    (3, [-2, b"bytes"]),
    (3, [-1, [PRIVATE_OID]]),
    (3, [0, [PRIVATE_OID, b"not DER"]]),
    (3, ["2", "x"]),
    (3, [8, b"\x80"]),
    (4, -3),
    (4, True),
    (5, []),
    (5, [["http://lone.example", None, None]]),
    (5, [[["http://one.example"], 1, None]]),
    (5, [["http://a.example", 0x200, None]]),
    (5, [["http://a.example", 1]]),
    (5, [["http://a.example", 1, 2]]),
    (6, []),
    (6, [0]),
    (6, [5, []]),
    (6, [0, [3, "x"]]),
    (6, [0, [1, "ü"]]),
    (6, [0, None]),
    (7, []),
    (7, [b"id", [], b"\x01"]),
    (7, [b"id", [2, "x"], b"\0"]),
    (7, None),
    (8, []),
    (8, [1]),
    (8, 5),
    (8, [1, None]),
    (9, []),
    (9, [1, "http://ü"]),
    (9, [4, "http://a"]),
    (24, [4, []]),
    (24, [4, "DE"]),
    (24, []),
    (24, [True, ["x"]]),
    (24, [1, [[8, "x", 9, "y"]]]),
    (24, [1, [["x"]]]),
    (26, [[7, b"1234"], None]),
    (26, [[7, b"1234\x21"], None]),
    (26, [None]),
    (26, [[], None]),
    (27, []),
    (27, [0, 5]),
    (28, [None]),
    (28, [-1, None]),
    (30, -1),
    (32, [1, None]),
    (32, [0x10000, None, None]),
    (32, [1, 0x100, None]),
    (32, [1, None, []]),
    (32, [1, None, [0]]),
    (32, [1, None, [0x0901]]),
    (32, [1, None, [0x02C1]]),
    (32, [1, None, [1 << 60, 1 << 63]]),
    (32, [1, None, [[0x01C0]]]),
    (32, [1, None, [b"\x00\xc0"]]),
    (32, [1, None, [bytes(18)]]),
    (32, [1, None, [[bytes(9)]]]),
    (33, []),
    (33, [-1]),
    (33, [0xFFFFFFFF, 1]),
    (33, [[1]]),
    (33, [[1, -1]]),
    (36, b""),
    (38, [-1]),
    (38, 5),
]


@pytest.mark.parametrize(("number", "value"), BAD_VALUES)
@pytest.mark.parametrize("kind", [c509.NATIVE, c509.REENCODED])
def test_a_value_that_an_extension_cannot_have_is_refused(kind: int, number: int, value: object) -> None:
    # A second extension keeps key usage from being alone.
    with pytest.raises(MalformedMessage):
        c509.decode_certificate(with_item(EXTENSIONS, [number, value, PRIVATE_OID, b""], kind))


def test_key_usage_alone_is_one_number_whose_sign_is_criticality() -> None:
    for item, expected in [(5, (False, 5)), (-5, (True, 5)), (0, (False, 0))]:
        (extension,) = c509.decode_certificate(with_item(EXTENSIONS, item)).extensions
        assert (extension.critical, extension.value) == expected
        assert extension.id == c509.ExtensionId.KEY_USAGE


def test_an_issuer_equal_to_the_subject_is_null() -> None:
    subject = cbor.decode(SHORT, tags=frozenset({48}))[SUBJECT]
    with pytest.raises(MalformedMessage):
        c509.decode_certificate(with_item(ISSUER, subject))
    alone = c509.decode_certificate(with_item(ISSUER, None))
    assert alone.issuer is None
    assert alone.issuer_name == alone.subject


def test_a_certificate_has_eleven_items_in_shortest_form() -> None:
    items = cbor.decode(SHORT, tags=frozenset({48}))
    for wrong in (items[:-1], [*items, None], {1: 2}, None, b""):
        with pytest.raises(MalformedMessage):
            c509.decode_certificate(cbor.encode(wrong))
    for loose in (b"\x98\x0b" + SHORT[1:], b"\x9f" + SHORT[1:] + b"\xff", b"\x8b\x18\x02" + SHORT[2:]):
        with pytest.raises(MalformedMessage):
            c509.decode_certificate(loose)


def test_the_size_limit_is_the_callers() -> None:
    assert c509.decode_certificate(SHORT, max_bytes=len(SHORT))
    with pytest.raises(MalformedMessage):
        c509.decode_certificate(SHORT, max_bytes=len(SHORT) - 1)


def test_the_form_before_revision_20_is_taken_only_when_asked_for() -> None:
    old = SHORT[1:]
    assert c509.decode_certificate_sequence(old).encoded == SHORT
    assert c509.decode_certificate(old, sequence=True).encoded == SHORT
    wrapped = cbor.encode(old)
    assert c509.decode_chain(wrapped, sequence=True)[0].encoded == SHORT
    with pytest.raises(MalformedMessage):
        c509.decode_certificate(old)
    with pytest.raises(MalformedMessage):
        c509.decode_chain(wrapped)
    request = c509_samples.request()
    assert c509.decode_request(request.encoded[1:], sequence=True) == request


@pytest.mark.parametrize("chain", [[], [b""], [SHORT], [SHORT, 1], 1, None, "x", [[SHORT]]])
def test_a_chain_is_one_byte_string_or_an_array_of_two_or_more(chain: object) -> None:
    with pytest.raises(MalformedMessage):
        c509.decode_chain(cbor.encode(chain))


def test_chains_keep_their_order() -> None:
    one, other = c509.decode_certificate(SHORT), c509_samples.certificate()
    for certificates in ([one, other], [other, one], [one], [one] * 30):
        assert list(c509.decode_chain(c509.encode_chain(certificates))) == certificates
    with pytest.raises(ValueError, match="one certificate at least"):
        c509.encode_chain([])


def test_the_thumbprint_is_over_the_whole_array() -> None:
    assert SHORT[0] == 0x8B
    assert len(c509.thumbprint(SHORT)) == 8
    assert c509.thumbprint(SHORT) != c509.thumbprint(SHORT[1:])


@pytest.mark.parametrize(
    "attributes",
    [
        None,
        [0],
        [3, None],
        [-1, "x"],
        [1, b"secret"],
        [1, CBORTag(121, "secret")],
        [1, CBORTag(48, b"123456")],
        [2, []],
        [2, ["issuer", b"\0", None]],
        [2, ["issuer", b"\x01", b"not a certificate"]],
        [2, ["issuer", b"\x01", []]],
        [1, "a", 1, "b"],
        [0, 1, 0, 2],
        [PRIVATE_OID, b"not DER"],
        [PRIVATE_OID, "x"],
        [oid_from_text("1.2.840.113549.1.9.7"), b"\x0c\x01x"],
    ],
)
def test_a_native_request_refuses_bad_attributes(attributes: object) -> None:
    items = cbor.decode(c509_samples.request().encoded, tags=frozenset({48}))
    items[5] = attributes
    with pytest.raises(MalformedMessage):
        c509.decode_request(cbor.encode(items))


def test_a_printable_password_belongs_to_reencoded_requests() -> None:
    request = c509.decode_request(c509_samples.request(c509.REENCODED).encoded)
    assert request.attribute(1) == c509.ChallengePassword("secret", printable=True)


@pytest.mark.parametrize(
    "items",
    [
        [1, undefined, undefined, undefined, undefined, undefined, undefined],
        [0, [], undefined, undefined, undefined, undefined, undefined],
        [0, [True], undefined, undefined, undefined, undefined, undefined],
        [0, undefined, [6], undefined, undefined, undefined, undefined],
        [0, undefined, undefined, [1, 1, 0, undefined], undefined, undefined, undefined],
        [0, undefined, undefined, [1, 0, 0, undefined], undefined, undefined, undefined],
        [0, undefined, undefined, [-4, 1, 1, undefined], undefined, undefined, undefined],
        [0, undefined, undefined, [1, 1, 1], undefined, undefined, undefined],
        [0, undefined, undefined, [1, 1, 1, None], undefined, undefined, undefined],
        [0, undefined, undefined, undefined, [], undefined, undefined],
        [0, undefined, undefined, undefined, undefined, b"key", undefined],
        [0, undefined, undefined, undefined, undefined, undefined, [-3, True, undefined]],
        [0, undefined, undefined, undefined, undefined, undefined, [3, 1, undefined]],
        [0, undefined, undefined, undefined, undefined, undefined, [PRIVATE_OID, True, 1]],
        [0, undefined, undefined, undefined, undefined, undefined],
        None,
    ],
)
def test_a_template_refuses_what_it_cannot_ask_for(items: object) -> None:
    with pytest.raises(MalformedMessage):
        c509.decode_template(cbor.encode(items))


def test_a_template_decodes_to_what_was_encoded() -> None:
    decoded = c509.decode_template(c509_samples.TEMPLATE.encode())
    assert decoded == c509_samples.TEMPLATE
    assert decoded.extensions is not None
    assert decoded.extensions[1].value is c509.ANY


@pytest.mark.parametrize(
    "items",
    [None, [0, 1], [2, 1, b""], [0, 4, b""], [0, 1, {1: 2}], [1, 1, b"key"], [True, 1, b"key"]],
)
def test_a_private_key_structure_refuses_other_shapes(items: object) -> None:
    for decode, data in (
        (c509.decode_private_key, cbor.encode(items)),
        (c509.decode_pem, cbor.encode([items, None])),
    ):
        with pytest.raises(MalformedMessage):
            decode(data)
