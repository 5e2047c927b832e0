"""Small parts of C509: names, DER, what a certificate says of itself, proofs in requests."""

import pytest

from protocol import c509
from protocol.c509 import der
from protocol.c509.x509_writer import time_from_der, time_to_der
from tests import c509_samples
from tests.c509_samples import COMPRESSED, ISSUER, PRIVATE_OID


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("RFC test CA", "6b524643207465737420434120"[:24]),
        ("0123456789abcdef", "480123456789abcdef"),
        ("0123456789abcde", "6f303132333435363738396162636465"),
        ("0123456789ABCDEF", "7030313233343536373839414243444546"),
        ("01-23-45-FF-FE-67-89-AB", "d830460123456789ab"),
        ("01-23-45-67-89-AB-CD-EF", "d830480123456789abcdef"),
        ("01-23-45-FF-FE-67-89-ab", "7730312d32332d34352d46462d46452d36372d38392d6162"),
        ("", "60"),
        ("ab", "41ab"),
        ("é", "62c3a9"),
    ],
)
def test_a_common_name_has_one_shortest_form(text: str, encoded: str) -> None:
    name = c509.Name.common_name(text)
    assert name.encoded.hex() == encoded
    assert c509.Name.decode(name.encoded).cn == text


def test_names_read_innermost_first() -> None:
    name = c509.Name(((4, "DE"), (8, "A, B & Co"), (-1, " #1"), (PRIVATE_OID, b"\x05\x00"), (0, "a@b ")))
    assert name.text == r"emailAddress=a@b\ ,1.3.6.1.4.1.32473.6=#0500,CN=\ #1,O=A\, B & Co,C=DE"
    assert str(name) == name.text
    assert c509.Name().text == ""
    assert c509.Name.common_name("#x").text == r"CN=\#x"
    assert (name.cn, c509.Name().cn, c509.Name(((8, "x"),)).cn) == (" #1", None, None)


def test_names_are_values() -> None:
    assert {ISSUER: 1}[c509.Name.common_name("Op CA")] == 1
    assert c509.Name(((-1, "Op CA"),)) != ISSUER
    assert c509.Name(((c509.AttributeType.COMMON_NAME, "Op CA"),)) == ISSUER
    with pytest.raises(AttributeError):
        ISSUER.attributes = ()  # type: ignore[misc]  # frozen is what is tested


def test_a_certificate_answers_for_itself() -> None:
    certificate = c509_samples.certificate()
    assert certificate.key_usage == 0x105
    assert certificate.is_ca
    assert certificate.extension(c509.ExtensionId.SUBJECT_KEY_IDENTIFIER) == bytes(20)
    assert certificate.extension(PRIVATE_OID) == b"anything"
    assert certificate.extension(99) is None
    found = certificate.find_extension(c509.ExtensionId.OCSP_NO_CHECK)
    assert found == c509.Extension(36, False, None)
    bare = c509_samples.certificate(extensions=())
    assert (bare.key_usage, bare.is_ca, bare.extensions) == (None, False, ())
    assert {certificate, bare, c509.decode_certificate(bare.encoded)} == {bare, certificate}
    assert certificate != certificate.encoded
    assert c509_samples.request() != c509_samples.certificate()
    assert len({c509_samples.request(), c509_samples.request(3)}) == 2


@pytest.mark.parametrize(("constraints", "is_ca"), [(-2, False), (-1, True), (0, True), (5, True)])
def test_basic_constraints_say_who_is_a_ca(constraints: int, is_ca: bool) -> None:
    extensions = (c509.Extension(4, True, constraints),)
    assert c509_samples.certificate(extensions=extensions).is_ca is is_ca


@pytest.mark.parametrize("kind", [2, 3])
@pytest.mark.parametrize("with_recipient", [False, True])
def test_a_proof_by_static_diffie_hellman_comes_back(kind: int, with_recipient: bool) -> None:
    tbs = c509.TbsRequest(kind, c509.SignatureAlgorithm.DH_POP_SHA256, ISSUER, 1, COMPRESSED)
    recipient = (c509_samples.RICH_NAME, b"\x7f") if with_recipient else None
    request = tbs.with_signature(bytes(range(32)), recipient)
    decoded = c509.decode_request(request.encoded)
    assert (decoded.signature, decoded.recipient) == (bytes(range(32)), recipient)
    assert decoded.tbs == tbs.tbs
    if kind == 3:
        assert c509.request_from_der(request.to_der()) == request


def test_a_request_without_attributes_asks_for_nothing() -> None:
    request = c509.TbsRequest(2, 0, ISSUER, 1, COMPRESSED).with_signature(bytes(64))
    assert request.requested_extensions == ()
    assert request.attribute(1) is None
    assert len(request.encoded) == 2 + 1 + 6 + 1 + 35 + 1 + 66


@pytest.mark.parametrize(
    ("seconds", "encoded"),
    [
        (0, "170d3730303130313030303030305a"),
        (946684799, "170d3939313233313233353935395a"),
        (2524607999, "170d3439313233313233353935395a"),
        (2524608000, "180f32303530303130313030303030305a"),
        (253402300799, "180f39393939313233313233353935395a"),
    ],
)
def test_times_have_four_digits_of_year_from_2050(seconds: int, encoded: str) -> None:
    assert time_to_der(seconds).hex() == encoded
    assert time_from_der(der.Reader(bytes.fromhex(encoded))) == seconds


@pytest.mark.parametrize(
    "text", ["500101000000Z", "000101000060Z", "0001010000Z", "0001010000000", "001301000000Z"]
)
def test_times_that_posix_cannot_count_are_not_converted(text: str) -> None:
    data = c509_samples.certificate(3).to_der()
    good = time_to_der(1_700_000_000)
    assert good in data
    changed = data.replace(good, der.tlv(der.UTC_TIME, text.encode()).ljust(len(good), b"\0")[: len(good)])
    with pytest.raises(c509.NotConvertible):
        c509.from_der(changed)


@pytest.mark.parametrize(
    "text",
    [
        "2.5.4.3",
        "1.2.840.113549",
        "0.9.2342.19200300.100.1.25",
        "2.999.1",
        "1.3.6.1.4.1.4294967296.0",
        "2.47",
    ],
)
def test_object_identifiers_come_back(text: str) -> None:
    octets = der.oid_from_text(text)
    assert der.oid_to_text(octets) == text
    assert der.is_oid(octets)


@pytest.mark.parametrize("text", ["1", "3.1", "1.40", "1.2.x", "1.-2", ""])
def test_what_is_no_object_identifier_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        der.oid_from_text(text)


@pytest.mark.parametrize("octets", [b"", b"\x80", b"\x2a\x80", b"\x2a\x80\x01", b"\x2a" * 65])
def test_octets_that_are_no_object_identifier_are_known(octets: bytes) -> None:
    assert not der.is_oid(octets)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65535, 65536])
def test_der_lengths_come_back_in_their_shortest_form(size: int) -> None:
    element = der.tlv(der.OCTET_STRING, bytes(size))
    assert der.whole(element, der.OCTET_STRING) == bytes(size)
    assert der.is_element(element)


@pytest.mark.parametrize(
    "data", ["0480", "048100", "04817f", "0482000101", "0485000000000100", "1f0101", "04", "0402ff"]
)
def test_other_der_lengths_are_refused(data: str) -> None:
    assert not der.is_element(bytes.fromhex(data))


@pytest.mark.parametrize("content", ["", "80", "0001", "007f"])
def test_numbers_are_positive_and_shortest(content: str) -> None:
    with pytest.raises(der.DerError):
        der.read_unsigned(bytes.fromhex(content))


@pytest.mark.parametrize("bits", [0, 1, 2, 0x80, 0x100, 0x105, 0x1FF, 0xFFFF])
def test_named_bits_come_back(bits: int) -> None:
    encoded = der.named_bits(bits)
    assert der.read_named_bits(der.whole(encoded, der.BIT_STRING)) == bits
    assert encoded[-1] != 0 or bits == 0


def test_why_x509_is_not_convertible_is_said() -> None:
    data = c509_samples.certificate(3).to_der()
    for change, reason in [
        (data.replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020101"), 1), "version 3"),
        (data.replace(bytes.fromhex("02027f01"), bytes.fromhex("0202ff01"), 1), "negative"),
        (data + b"\0", "more elements"),
        (data[:-1], "cut off"),
        (b"", "expected"),
    ]:
        with pytest.raises(c509.NotConvertible, match=reason):
            c509.from_der(change)


def framed(tbs: bytes, algorithm: str = "300a06082a8648ce3d040302", signature: bytes = b"\x30\x06") -> bytes:
    """Return a certificate around a TBSCertificate, signed with r = s = 1."""
    return der.sequence(
        tbs, bytes.fromhex(algorithm), der.bit_string(signature + b"\x02\x01\x01\x02\x01\x01")
    )


def test_what_c509_has_no_place_for_is_refused_with_its_reason() -> None:
    tbs = c509_samples.certificate(3, ()).tbs_der
    content = der.whole(tbs, der.SEQUENCE)
    assert c509.from_der(framed(tbs)).extensions == ()
    one_of_v1 = content.removeprefix(bytes.fromhex("a003020102"))
    spki = c509_samples.certificate(3).spki_der
    odd_bits = content.replace(spki, spki.replace(b"\x03\x42\x00\x04", b"\x03\x42\x01\x04"))
    for changed, reason in [
        (framed(der.sequence(one_of_v1)), "version 3"),
        (framed(der.sequence(content, b"\x81\x02\x00\xff")), "unique identifiers"),
        (framed(der.sequence(content, b"\xa1\x04\x03\x02\x00\xff")), "unique identifiers"),
        (framed(der.sequence(odd_bits)), "unused bits"),
        (framed(der.sequence(content, b"\xa3\x02\x30\x00")), "every byte"),
        (framed(tbs, "300a06082a8648ce3d040303"), "algorithms differ"),
        (framed(tbs, signature=b"\x31\x06"), "expected"),
    ]:
        with pytest.raises(c509.NotConvertible, match=reason):
            c509.from_der(changed)


def test_requests_of_another_version_or_with_values_missing_are_refused() -> None:
    data = c509_samples.request(3).to_der()
    info = der.Reader(der.whole(data, der.SEQUENCE)).raw()
    rest = data[-len(data) + 4 + len(info) :]
    content = der.whole(info, der.SEQUENCE)
    assert der.sequence(info, rest) == data
    empty = der.sequence(der.tlv(der.OID, PRIVATE_OID), der.tlv(der.SET, b""))
    for changed, reason in [
        (b"\x02\x01\x01" + content[3:], "version 1"),
        (content[: content.index(b"\xa0\x82")], "expected"),
        (content[: content.index(b"\xa0\x82")] + der.tlv(0xA0, empty), "cut off"),
    ]:
        with pytest.raises(c509.NotConvertible, match=reason):
            c509.request_from_der(der.sequence(der.sequence(changed), rest))


@pytest.mark.parametrize("count", [2, 23, 24, 300])
def test_chains_of_any_length_have_the_shortest_head(count: int) -> None:
    link = c509_samples.certificate(extensions=())
    chain = c509.encode_chain([link] * count)
    assert c509.decode_chain(chain) == (link,) * count


def test_critical_key_usage_of_no_bits_keeps_its_criticality() -> None:
    # As the only extension it would be minus zero.
    alone = (c509.Extension(2, True, 0),)
    both = (*alone, c509.Extension(4, True, -2))
    for extensions in (alone, both):
        tbs = c509.TbsCertificate(3, b"\x01", 0, None, 0, 1, ISSUER, 1, COMPRESSED, extensions)
        data = c509.TbsCertificate(3, b"\x01", 0, None, 0, 1, ISSUER, 1, COMPRESSED, extensions).tbs_der
        assert data == tbs.tbs_der
        signature = der.sequence(der.integer(1), der.integer(1))
        frame = der.sequence(data, bytes.fromhex("300a06082a8648ce3d040302"), der.bit_string(signature))
        converted = c509.from_der(frame)
        assert converted.to_der() == frame
        assert converted.extensions[0].critical
        assert c509.decode_certificate(converted.encoded).extensions[0].critical
