"""What is built decodes to the same; what is made from it for X.509 comes back; `cryptography` agrees."""

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from protocol import c509
from protocol.c509 import der
from protocol.c509.registry import ATTRIBUTES, IA5_ATTRIBUTES
from tests import c509_samples
from tests.c509_samples import COMPRESSED, EXTENSIONS, PRIVATE_OID

HEX = st.binary(min_size=1, max_size=12).map(bytes.hex)
EUI64 = st.binary(min_size=8, max_size=8).map(lambda eui: eui.hex("-").upper())
EUI48 = st.binary(min_size=6, max_size=6).map(lambda eui: (eui[:3] + b"\xff\xfe" + eui[3:]).hex("-").upper())
ODD_HEX = st.text("0123456789abcdefABCDEF-", max_size=23)
IA5 = st.text(st.characters(max_codepoint=127), max_size=20)
TEXT = st.text(max_size=20) | HEX | EUI64 | EUI48 | ODD_HEX | IA5
PRINTABLE = st.text("ABCxyz019 '()+,-./:=?", max_size=20) | HEX | EUI64

UTF8_TYPES = st.sampled_from(sorted(set(ATTRIBUTES.oids) - IA5_ATTRIBUTES))
ATTRIBUTE = (
    st.tuples(UTF8_TYPES, TEXT)
    | st.tuples(st.sampled_from(sorted(IA5_ATTRIBUTES)), IA5)
    | st.tuples(
        st.just(PRIVATE_OID), st.binary(max_size=9).map(lambda value: der.tlv(der.OCTET_STRING, value))
    )
)
NATIVE_NAME = st.lists(ATTRIBUTE, max_size=4).map(lambda found: c509.Name(tuple(found)))
PRINTABLE_ATTRIBUTE = st.tuples(UTF8_TYPES.map(lambda kind: -kind), PRINTABLE)
X509_NAME = st.lists(ATTRIBUTE | PRINTABLE_ATTRIBUTE, max_size=4).map(lambda found: c509.Name(tuple(found)))

SERIAL = st.binary(min_size=1, max_size=20).filter(lambda serial: serial[0] != 0)
TIME = st.integers(0, 253402300799)


def extensions() -> st.SearchStrategy[tuple[c509.Extension, ...]]:
    """Return some of the sample extensions, in any order, each critical or not."""
    some = st.lists(st.tuples(st.sampled_from(EXTENSIONS), st.booleans()), unique_by=lambda pair: pair[0].id)
    return some.map(
        lambda found: tuple(c509.Extension(one.id, critical, one.value) for one, critical in found)
    )


@st.composite
def unsigned(draw: st.DrawFn, kind: int) -> c509.TbsCertificate:
    names = NATIVE_NAME if kind == c509.NATIVE else X509_NAME
    subject = draw(names)
    return c509.build_certificate(
        type=kind,
        serial=draw(SERIAL),
        issuer=draw(names | st.just(subject)),
        subject=subject,
        not_before=draw(TIME),
        not_after=draw(st.none() | TIME),
        public_key=draw(st.sampled_from([COMPRESSED, c509_samples.POINT])),
        extensions=draw(extensions()),
    )


def fields(certificate: c509.TbsCertificate) -> tuple[Any, ...]:
    return (
        certificate.type,
        certificate.serial,
        certificate.signature_algorithm,
        certificate.issuer,
        certificate.not_before,
        certificate.not_after,
        certificate.subject,
        certificate.public_key_algorithm,
        certificate.public_key,
        certificate.extensions,
    )


@pytest.mark.parametrize("kind", [c509.NATIVE, c509.REENCODED])
@given(data=st.data())
def test_what_is_built_decodes_to_the_same(kind: int, data: st.DataObject) -> None:
    tbs = data.draw(unsigned(kind))
    certificate = tbs.with_signature(bytes(range(64)))
    decoded = c509.decode_certificate(certificate.encoded)
    assert decoded == certificate
    assert fields(decoded) == fields(certificate) == fields(tbs)
    assert decoded.tbs == tbs.tbs
    assert decoded.signed_bytes == tbs.to_be_signed()
    assert c509.decode_certificate_sequence(certificate.encoded[1:]) == certificate
    assert c509.is_canonical(decoded)
    (unwrapped,) = c509.decode_chain(c509.encode_chain([certificate]))
    assert unwrapped == certificate


@given(data=st.data())
def test_a_reencoded_certificate_comes_back_from_x509(data: st.DataObject) -> None:
    certificate = data.draw(unsigned(c509.REENCODED)).with_signature(b"\x00" * 31 + bytes(range(33)))
    encoded = certificate.to_der()
    assert c509.from_der(encoded) == certificate
    plain = c509.from_der(encoded, compress=False)
    assert plain.public_key == c509_samples.POINT
    assert plain.to_der() == encoded
    assert not c509.is_canonical(plain)


# `cryptography` is stricter about names than X.509: no empty text, one character set.
ORDINARY_NAME = st.lists(
    st.tuples(st.sampled_from([1, 5, 8, 9]), TEXT.filter(lambda text: 0 < len(text.encode()) <= 64))
    | st.tuples(st.just(-8), PRINTABLE.filter(bool)),
    max_size=4,
).map(lambda found: c509.Name(tuple(found)))


@given(name=ORDINARY_NAME, serial=SERIAL, not_before=TIME)
def test_cryptography_reads_the_x509_form(name: c509.Name, serial: bytes, not_before: int) -> None:
    tbs = c509.build_certificate(
        type=c509.REENCODED,
        serial=serial,
        issuer=c509_samples.ISSUER,
        subject=name,
        not_before=not_before,
        not_after=None,
        public_key=COMPRESSED,
        extensions=EXTENSIONS[:2],
    )
    certificate = tbs.with_signature(c509_samples.sign(tbs.to_be_signed()))
    read = x509.load_der_x509_certificate(certificate.to_der())
    assert read.serial_number == certificate.serial_number
    assert int(read.not_valid_before_utc.timestamp()) == not_before
    assert read.public_key() == certificate.load_public_key() == c509_samples.KEY.public_key()
    assert [attribute.value for attribute in read.subject] == [value for _, value in name.attributes]
    assert read.tbs_certificate_bytes == certificate.signed_bytes
    assert read.signature == certificate.signature_der
    c509_samples.KEY.public_key().verify(read.signature, certificate.signed_bytes, ec.ECDSA(SHA256()))


@given(text=TEXT)
def test_a_common_name_is_the_same_text_again(text: str) -> None:
    name = c509.Name.common_name(text)
    assert c509.Name.decode(name.encoded) == name
    assert name.cn == text
    assert c509.Name.from_der(name.to_der()) == name


@given(name=X509_NAME)
def test_names_decode_encode_and_come_back_from_x509(name: c509.Name) -> None:
    assert c509.Name.decode(name.encoded, native=False) == name
    assert c509.Name.from_der(name.to_der()) == name
    assert hash(c509.Name.decode(name.encoded, native=False)) == hash(name)


@given(one=NATIVE_NAME, other=NATIVE_NAME)
def test_names_are_equal_where_their_encodings_are(one: c509.Name, other: c509.Name) -> None:
    assert (one == other) == (one.encoded == other.encoded) == (one.to_der() == other.to_der())


@given(
    name=NATIVE_NAME,
    extensions=extensions(),
    password=st.none() | st.text(max_size=20),
    kind=st.sampled_from([c509.NATIVE, c509.REENCODED]),
)
def test_requests_decode_to_the_same(
    name: c509.Name, extensions: tuple[c509.Extension, ...], password: str | None, kind: int
) -> None:
    attributes = [c509.RequestAttribute(0, extensions)]
    if password is not None:
        attributes.append(c509.RequestAttribute(1, c509.ChallengePassword(password)))
    tbs = c509.TbsRequest(kind, 0, name, 1, COMPRESSED, tuple(attributes))
    request = tbs.with_signature(bytes(range(64)))
    decoded = c509.decode_request(request.encoded)
    assert decoded == request
    assert decoded.attributes == tuple(attributes)
    assert decoded.subject == name
    assert decoded.signed_bytes == tbs.to_be_signed()
    if kind == c509.REENCODED:
        assert c509.request_from_der(request.to_der()) == request
