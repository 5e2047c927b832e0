"""Lint of certificates that no profile has, and of broken files: a clear deviation, never an error."""

import datetime as dt
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from protocol import c509
from protocol.c509 import ExtensionId
from protocol.c509 import der as x690
from protocol.c509.registry import EXTENSIONS
from protocol.errors import MalformedMessage
from protocol.lint import Rule, Severity, label_names, lint, lint_der, notes, recognise, shape_of
from protocol.profiles import PROFILES
from tests.ev_world import EvWorld, Wish
from tests.lint_samples import sample


def web_certificate(key: Any, digest: hashes.SHA256 | None = None) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "www.example")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2027, 1, 1, tzinfo=dt.UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("www.example")]), critical=False)
    )
    return builder.sign(key, digest).public_bytes(Encoding.DER)


EC = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)
WEB = web_certificate(EC, hashes.SHA256())


@pytest.mark.parametrize(
    ("der", "key", "signature"),
    [
        (web_certificate(RSA_KEY, hashes.SHA256()), "a key of RSA", "RSA with SHA-256"),
        (web_certificate(ed448.Ed448PrivateKey.generate()), "a key of Ed448", "ED448"),
        (
            web_certificate(ec.generate_private_key(ec.SECP256K1()), hashes.SHA256()),
            "a key of object identifier 1.2.840.10045.2.1",
            None,
        ),
    ],
    ids=["RSA", "Ed448", "secp256k1"],
)
@pytest.mark.parametrize("label", ["meter-ds", "ev20-secc", "v2g-root", "root"])
def test_keys_and_signatures_of_no_profile_are_named(
    der: bytes, key: str, signature: str | None, label: str
) -> None:
    found = {one.rule: one for one in lint_der(der, label)}
    assert found[Rule.ALGORITHM].found == key
    if signature is not None:
        assert found[Rule.SIGNATURE_ALGORITHM].found == signature


def test_sha_1_is_named() -> None:
    # No builder makes it any more: the algorithm's last arc is changed from 11 (SHA-256) to 5 (SHA-1).
    old = x690.sequence(x690.tlv(x690.OID, x690.oid_from_text("1.2.840.113549.1.1.11")), x690.NULL_VALUE)
    new = x690.sequence(x690.tlv(x690.OID, x690.oid_from_text("1.2.840.113549.1.1.5")), x690.NULL_VALUE)
    der = web_certificate(RSA_KEY, hashes.SHA256())
    assert der.count(old) == 2
    found = {one.rule: one.found for one in lint_der(der.replace(old, new), "meter-ds")}
    assert found[Rule.SIGNATURE_ALGORITHM] == "RSA with SHA-1"


def frame(tbs: bytes, like: bytes = WEB) -> bytes:
    """A certificate with another TBSCertificate; its signature is wrong, and nobody gets so far."""
    reader = x690.Reader(x690.whole(like, x690.SEQUENCE))
    reader.raw()
    return x690.sequence(tbs, reader.raw(), reader.raw())


def fields(like: bytes = WEB) -> list[bytes]:
    reader = x690.Reader(x690.whole(like, x690.SEQUENCE)).inner(x690.SEQUENCE)
    found = []
    while reader.more:
        found.append(reader.raw())
    return found


def test_a_certificate_of_version_1() -> None:
    (found,) = lint_der(frame(x690.sequence(*fields()[1:7])), "meter-ds")
    assert (found.rule, found.requirement) == (Rule.VERSION, "RFC 5280 §4.1.2.1")
    assert found.found == "cannot be re-encoded: version 1, which has no extensions"


def test_a_certificate_of_a_version_to_come() -> None:
    version = x690.tlv(0xA0, x690.integer(3))
    (found,) = lint_der(frame(x690.sequence(version, *fields()[1:])), "meter-ds")
    assert (found.rule, found.found) == (Rule.VERSION, "cannot be re-encoded: version 4")


@pytest.mark.parametrize(("octets", "word"), [(b"\0", "zero"), (b"\xff", "negative"), (b"", "zero")])
def test_a_serial_number_that_is_not_positive(octets: bytes, word: str) -> None:
    first, _, *rest = fields()
    tbs = x690.sequence(first, x690.tlv(x690.INTEGER, octets), *rest)
    (found,) = lint_der(frame(tbs), "meter-ds")
    assert (found.rule, found.found) == (Rule.SERIAL, f"cannot be re-encoded: {word}")


def test_bytes_after_a_certificate_are_a_deviation_and_it_is_judged_all_the_same() -> None:
    der = sample("meter-ds").make().to_der()
    (found,) = lint_der(der + b"\r\n", "meter-ds")
    assert found.rule is Rule.ENCODING
    assert found.found == "cannot be re-encoded: 2 more bytes follow the certificate"
    assert {one.rule for one in lint_der(der + b"\0", "meter-ka")} == {Rule.ENCODING, Rule.KEY_USAGE}


def test_a_critical_false_that_der_leaves_out_is_no_der() -> None:
    der = sample("meter-ds").make().to_der()
    identifier = x690.tlv(x690.OID, x690.oid_from_text("2.5.29.14"))
    at = der.index(identifier)
    longer = bytearray(der)
    longer[at + len(identifier) : at + len(identifier)] = b"\1\1\0"
    for head in _heads(der, at):
        _grow(longer, head, 3)
    (found,) = lint_der(bytes(longer), "meter-ds")
    assert found.rule is Rule.ENCODING
    assert found.found.startswith("cannot be re-encoded: ")


def _heads(der: bytes, at: int) -> list[int]:
    """Offsets of the elements around an offset."""
    found, position, end = [], 0, len(der)
    while position < at:
        start = position + 2 + (der[position + 1] & 0x7F if der[position + 1] & 0x80 else 0)
        size = (
            der[position + 1] if start == position + 2 else int.from_bytes(der[position + 2 : start], "big")
        )
        if start + size <= at:
            position = start + size
            continue
        found.append(position)
        position, end = start, start + size
    assert end
    return found


def _grow(der: bytearray, head: int, more: int) -> None:
    if der[head + 1] & 0x80:
        size = der[head + 1] & 0x7F
        length = int.from_bytes(der[head + 2 : head + 2 + size], "big") + more
        der[head + 2 : head + 2 + size] = length.to_bytes(size, "big")
    else:
        der[head + 1] += more
        assert der[head + 1] < 0x80


@pytest.mark.parametrize("data", [b"", b"\x30", b"\x30\x80", b"\x30\0", b"\x30\x03\x02\x01\x01", WEB[:100]])
@pytest.mark.parametrize("label", ["meter-ds", "root"])
def test_what_is_no_certificate_at_all_is_one_clear_deviation(data: bytes, label: str) -> None:
    (found,) = lint_der(data, label)
    assert found.rule is Rule.ENCODING
    assert found.found.startswith("cannot be re-encoded: ")


@given(st.integers(0, len(WEB) - 1), st.integers(1, 255), st.sampled_from(label_names()))
def test_a_flipped_byte_never_raises(at: int, bits: int, label: str) -> None:
    broken = bytearray(WEB)
    broken[at] ^= bits
    for found in lint_der(bytes(broken), label):
        assert str(found)


@given(st.binary(max_size=200), st.sampled_from(label_names()))
def test_any_bytes_are_judged(data: bytes, label: str) -> None:
    assert lint_der(data, label)


GOOD = tuple(sample(label).make() for label in ("meter-tls", "smki-ds", "ev20-secc", "meter-session"))


@given(st.data())
def test_any_certificate_that_decodes_is_judged(data: st.DataObject) -> None:
    encoded = bytearray(data.draw(st.sampled_from(GOOD)).encoded)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(encoded) - 1))
        encoded[at] = data.draw(st.integers(0, 255))
    try:
        certificate = c509.decode_certificate(bytes(encoded))
    except MalformedMessage:
        return
    for label in data.draw(st.lists(st.sampled_from(label_names()), min_size=1, max_size=5)):
        shape = shape_of(label)
        for found in lint(certificate, None, shape, issuer=certificate):
            assert str(found)
    assert recognise(certificate)
    assert len(notes(certificate)) <= 1


def test_a_known_issuer_of_no_use_is_said_and_not_followed() -> None:
    made = sample("meter-ds").make()
    unusable = lint_der(web_certificate(RSA_KEY, hashes.SHA256()), "root")
    assert {one.rule for one in unusable} >= {Rule.ALGORITHM, Rule.SIGNATURE_ALGORITHM}
    other = c509.from_der(WEB)
    assert lint(made, made.to_der(), PROFILES["meter-ds"], issuer=other) == ()


def test_a_wish_for_a_ca_of_the_other_world_is_far_from_every_label() -> None:
    certificate = c509.from_der(WEB)
    (_, least), *_ = recognise(certificate)
    assert least >= 4
    assert recognise(EvWorld().cpo2.issue(Wish(cn="DEICEP45B78C", role="CPO", country="DE")).certificate)[
        0
    ] == ("ev-secc", 0)


@pytest.mark.parametrize(
    ("label", "number", "rule"),
    [
        ("meter-ds", ExtensionId.KEY_USAGE, Rule.KEY_USAGE),
        ("meter-tls", ExtensionId.EXTENDED_KEY_USAGE, Rule.EXTENDED_KEY_USAGE),
        ("ev-secc", ExtensionId.BASIC_CONSTRAINTS, Rule.BASIC_CONSTRAINTS),
        ("meter-ds", ExtensionId.SUBJECT_KEY_IDENTIFIER, Rule.KEY_IDENTIFIERS),
        ("meter-ds", ExtensionId.AUTHORITY_KEY_IDENTIFIER, Rule.KEY_IDENTIFIERS),
        ("ev-secc", ExtensionId.CRL_DISTRIBUTION_POINTS, Rule.REVOCATION_POINTERS),
        ("meter-tls", ExtensionId.CERTIFICATE_POLICIES, Rule.POLICIES),
    ],
)
def test_an_extension_that_cannot_be_read_is_a_deviation_from_its_own_rule(
    label: str, number: ExtensionId, rule: Rule
) -> None:
    good = sample(label)
    old = good.find(number)
    assert old is not None
    broken = good.without(number).having(EXTENSIONS.oids[number], b"\x30\x01\x00", critical=old.critical)
    made = broken.make()
    (found,) = lint(made, made.to_der(), PROFILES[label])
    assert found.rule is rule
    assert found.found.endswith("that cannot be read")


def test_an_authority_key_identifier_that_says_more_is_a_warning() -> None:
    good = sample("meter-ds")
    own = good.find(ExtensionId.AUTHORITY_KEY_IDENTIFIER)
    assert own is not None
    name = (c509.GeneralName(4, c509.Name.common_name("a CA")),)
    said = c509.AuthorityKeyIdentifier(own.value, name, b"\1")
    made = good.having(ExtensionId.AUTHORITY_KEY_IDENTIFIER, said).make()
    (found,) = lint(made, made.to_der(), PROFILES["meter-ds"])
    assert (found.rule, found.severity) == (Rule.KEY_IDENTIFIERS, Severity.WARNING)


def test_der_that_is_not_what_comes_back_is_no_der() -> None:
    made = sample("meter-ds").make()
    (found,) = lint(made, made.to_der() + b"\0", PROFILES["meter-ds"])
    assert found.rule is Rule.ENCODING
