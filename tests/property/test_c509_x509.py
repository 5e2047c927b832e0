"""Certificates and requests that `cryptography` makes become C509 and come back, or are refused aloud."""

import datetime as dt
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from protocol import c509

KEYS: dict[str, tuple[CertificateIssuerPrivateKeyTypes, HashAlgorithm | None]] = {
    "P-256": (ec.derive_private_key(1001, ec.SECP256R1()), SHA256()),
    "P-384": (ec.derive_private_key(1002, ec.SECP384R1()), SHA384()),
    "P-521": (ec.derive_private_key(1003, ec.SECP521R1()), SHA512()),
    "P-224, without a number": (ec.derive_private_key(1004, ec.SECP224R1()), SHA256()),
    "brainpoolP512r1": (ec.derive_private_key(1005, ec.BrainpoolP512R1()), SHA512()),
    "Ed25519": (ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)), None),
    "Ed448": (ed448.Ed448PrivateKey.from_private_bytes(bytes(57)), None),
    "RSA": (rsa.generate_private_key(65537, 1024), SHA256()),
    "RSA, exponent 3": (rsa.generate_private_key(3, 1024), SHA512()),
}
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
P256 = KEYS["P-256"][0]

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=16)
HEX = st.binary(min_size=1, max_size=16).map(bytes.hex)
OIDS = [
    NameOID.COMMON_NAME,
    NameOID.ORGANIZATION_NAME,
    NameOID.ORGANIZATIONAL_UNIT_NAME,
    NameOID.LOCALITY_NAME,
    NameOID.USER_ID,
    NameOID.PSEUDONYM,
    x509.ObjectIdentifier("1.3.6.1.4.1.32473.1"),
]
ATTRIBUTE = st.builds(x509.NameAttribute, st.sampled_from(OIDS), TEXT | HEX) | st.builds(
    x509.NameAttribute,
    st.sampled_from([NameOID.COUNTRY_NAME, NameOID.SERIAL_NUMBER, NameOID.DN_QUALIFIER]),
    st.text("ABCDEF09", min_size=2, max_size=2),
)
NAME = st.lists(ATTRIBUTE, max_size=5).map(x509.Name)
LABEL = st.text("abcdefghij0123456789", min_size=1, max_size=10)
HOST = st.lists(LABEL, min_size=1, max_size=3).map(".".join)
URI = HOST.map(lambda host: x509.UniformResourceIdentifier(f"coaps://{host}/x"))
ANY_OID = st.tuples(st.integers(0, 2**40), st.integers(0, 200)).map(
    lambda arcs: x509.ObjectIdentifier(f"1.3.6.1.4.1.{arcs[0]}.{arcs[1]}")
)
GENERAL_NAME = (
    HOST.map(x509.DNSName)
    | HOST.map(lambda host: x509.RFC822Name(f"a@{host}"))
    | URI
    | st.binary(min_size=4, max_size=4).map(lambda ip: x509.IPAddress(ipaddress.IPv4Address(ip)))
    | st.binary(min_size=16, max_size=16).map(lambda ip: x509.IPAddress(ipaddress.IPv6Address(ip)))
    | NAME.map(x509.DirectoryName)
    | ANY_OID.map(x509.RegisteredID)
    | st.builds(x509.OtherName, ANY_OID, st.just(b"\x0c\x01x"))
)
GENERAL_NAMES = st.lists(GENERAL_NAME, min_size=1, max_size=4)
EXTENSION = (
    GENERAL_NAMES.map(x509.SubjectAlternativeName)
    | GENERAL_NAMES.map(x509.IssuerAlternativeName)
    | st.one_of(
        st.just(x509.BasicConstraints(False, None)),
        st.none().map(lambda length: x509.BasicConstraints(True, length)),
        st.integers(0, 300).map(lambda length: x509.BasicConstraints(True, length)),
    )
    | st.builds(x509.SubjectKeyIdentifier, st.binary(max_size=32))
    | st.builds(
        x509.AuthorityKeyIdentifier,
        st.binary(min_size=1, max_size=20),
        GENERAL_NAMES,
        st.integers(1, 2**159),
    )
    | st.lists(
        st.sampled_from([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]) | ANY_OID,
        min_size=1,
        max_size=4,
    ).map(x509.ExtendedKeyUsage)
    | st.lists(
        st.builds(
            x509.AccessDescription, st.just(AuthorityInformationAccessOID.OCSP) | ANY_OID, URI | GENERAL_NAME
        ),
        min_size=1,
        max_size=3,
    ).map(x509.AuthorityInformationAccess)
    | st.lists(
        st.builds(
            x509.DistributionPoint,
            st.lists(URI | GENERAL_NAME, min_size=1, max_size=3),
            st.none(),
            st.none() | st.just(frozenset({x509.ReasonFlags.key_compromise, x509.ReasonFlags.aa_compromise})),
            st.none() | NAME.map(lambda name: [x509.DirectoryName(name)]),
        ),
        min_size=1,
        max_size=3,
    ).map(x509.CRLDistributionPoints)
    | st.lists(
        st.builds(
            x509.PolicyInformation,
            ANY_OID | st.just(x509.ObjectIdentifier("2.5.29.32.0")),
            st.none()
            | st.lists(
                st.just("http://cps.example")
                | st.builds(
                    x509.UserNotice,
                    st.none() | st.just(x509.NoticeReference("org", [1])),
                    st.none()
                    | st.text(st.characters(codec="ascii", min_codepoint=32), min_size=1, max_size=20),
                ),
                min_size=1,
                max_size=2,
            ),
        ),
        min_size=1,
        max_size=3,
    ).map(x509.CertificatePolicies)
    | st.builds(
        x509.NameConstraints,
        st.lists(
            HOST.map(x509.DNSName)
            | st.integers(0, 32).map(
                lambda bits: x509.IPAddress(
                    ipaddress.ip_network(((0xC0000200 >> 32 - bits) << 32 - bits, bits))
                )
            ),
            min_size=1,
            max_size=3,
        ),
        st.none() | st.lists(NAME.map(x509.DirectoryName), min_size=1, max_size=2),
    )
    | st.builds(x509.PolicyConstraints, st.integers(0, 300), st.none() | st.integers(0, 3))
    | st.builds(x509.InhibitAnyPolicy, st.integers(0, 2**70))
    | st.just(x509.OCSPNoCheck())
    | st.lists(st.sampled_from(list(x509.TLSFeatureType)), min_size=1, unique=True).map(x509.TLSFeature)
    | st.builds(x509.UnrecognizedExtension, ANY_OID, st.binary(max_size=20))
)
EXTENSIONS = st.lists(
    st.tuples(EXTENSION, st.booleans()), max_size=6, unique_by=lambda pair: pair[0].oid.dotted_string
)


def make(
    key: CertificateIssuerPrivateKeyTypes,
    algorithm: HashAlgorithm | None,
    subject: x509.Name,
    extensions: list[tuple[x509.ExtensionType, bool]],
    *,
    issuer: x509.Name | None = None,
    serial: int = 1,
    not_after: dt.datetime = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC),
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(NOW)
        .not_valid_after(not_after)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, algorithm)  # type: ignore[arg-type]  # the table pairs keys and hashes


@given(
    subject=NAME,
    issuer=st.none() | NAME,
    extensions=EXTENSIONS,
    serial=st.integers(1, 2**159 - 1),
    seconds=st.integers(1, 2**37),
)
def test_certificates_come_back_byte_for_byte(
    subject: x509.Name,
    issuer: x509.Name | None,
    extensions: list[tuple[x509.ExtensionType, bool]],
    serial: int,
    seconds: int,
) -> None:
    not_after = NOW + dt.timedelta(seconds=seconds)
    made = make(P256, SHA256(), subject, extensions, issuer=issuer, serial=serial, not_after=not_after)
    data = made.public_bytes(Encoding.DER)
    certificate = c509.from_der(data)
    assert certificate.to_der() == data
    assert c509.decode_certificate(certificate.encoded).to_der() == data
    assert len(certificate.encoded) < len(data)
    assert certificate.serial_number == serial
    assert certificate.signed_bytes == made.tbs_certificate_bytes
    assert c509.is_canonical(certificate)
    assert [extension.critical for extension in certificate.extensions] == [
        critical for _, critical in extensions
    ]


@pytest.mark.parametrize("name", KEYS)
def test_every_kind_of_key_and_signature_comes_back(name: str) -> None:
    key, algorithm = KEYS[name]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "02-00-00-FF-FE-00-00-01")])
    made = make(key, algorithm, subject, [])
    data = made.public_bytes(Encoding.DER)
    certificate = c509.from_der(data)
    assert certificate.to_der() == data
    assert isinstance(certificate.public_key_algorithm, c509.Algorithm) == ("without a number" in name)
    assert certificate.load_public_key() == key.public_key()
    assert certificate.spki_der == key.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    assert certificate.signature_der == made.signature
    assert certificate.signed_bytes == made.tbs_certificate_bytes


@pytest.mark.parametrize("salt", [32, 20])
def test_pss_has_a_number_only_with_its_own_salt(salt: int) -> None:
    key, algorithm = KEYS["RSA"]
    assert isinstance(key, rsa.RSAPrivateKey)
    made = (
        x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), 1, NOW, NOW)
        .sign(key, algorithm, rsa_padding=padding.PSS(padding.MGF1(SHA256()), salt))  # type: ignore[arg-type]
        .public_bytes(Encoding.DER)
    )
    certificate = c509.from_der(made)
    assert certificate.to_der() == made
    assert isinstance(certificate.signature_algorithm, c509.Algorithm) == (salt != 32)


@pytest.mark.parametrize("name", KEYS)
@given(
    subject=NAME, extensions=EXTENSIONS, password=st.none() | st.text("abcXYZ 0!é", min_size=1, max_size=20)
)
def test_requests_come_back_byte_for_byte(
    name: str, subject: x509.Name, extensions: list[tuple[x509.ExtensionType, bool]], password: str | None
) -> None:
    key, algorithm = KEYS[name]
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    if password is not None:
        builder = builder.add_attribute(x509.oid.AttributeOID.CHALLENGE_PASSWORD, password.encode())
    data = builder.sign(key, algorithm).public_bytes(Encoding.DER)  # type: ignore[arg-type]
    request = c509.request_from_der(data)
    assert request.to_der() == data
    assert len(request.requested_extensions) == len(extensions)
    if password is not None:
        assert request.attribute(c509.RequestAttributeType.CHALLENGE_PASSWORD).text == password
    assert request.load_public_key() == key.public_key()


def test_an_rdn_with_two_attributes_is_refused_with_a_reason() -> None:
    two = x509.RelativeDistinguishedName(
        [x509.NameAttribute(NameOID.COMMON_NAME, "a"), x509.NameAttribute(NameOID.USER_ID, "b")]
    )
    data = make(P256, SHA256(), x509.Name([two]), []).public_bytes(Encoding.DER)
    with pytest.raises(c509.NotConvertible, match="several attributes"):
        c509.from_der(data)
