"""What `inspect` says of right files and of wrong ones."""

import base64
import contextlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from agents.authority import audit
from agents.factory.manifest import ManifestEntry, write_manifest
from agents.inspect import Finding, NotRecognised, inspect
from agents.keys import SoftwareSigner
from protocol import c509, cbor
from protocol.errors import ProblemKind
from protocol.exchange.request import (
    Confirmation,
    Door,
    Revocation,
    RevocationReason,
    certification_request,
    sign_request,
)
from protocol.labels import Operation
from protocol.message import sign_message
from protocol.problem import Problem
from protocol.receipt import Receipt, sign_verdict
from protocol.voucher import Voucher

NOW = 1_800_000_000.0
KEY = ec.generate_private_key(ec.SECP256R1())
SIGNER = SoftwareSigner(KEY)
NAME = "0123456789ABCDEF"
DOOR = Door(bytes(32), "meter-ds", Operation.SEN, 0)


def der_certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    start = datetime.fromtimestamp(NOW, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(0x1234)
        .not_valid_before(start - timedelta(days=1))
        .not_valid_after(start + timedelta(days=400))
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, False, False, False, False),
            critical=True,
        )
        .sign(KEY, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )  # fmt: skip


DER = der_certificate()
C509 = c509.from_der(DER).encoded
PKCS8 = KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
REQUEST = certification_request(c509.Name.common_name(NAME), SIGNER)
SIGNED = sign_request(SIGNER, C509, DOOR, REQUEST)


def one(data: bytes) -> Finding:
    (finding,) = inspect(data, NOW)
    return finding


def told(data: bytes) -> str:
    with pytest.raises(NotRecognised) as refusal:
        inspect(data, NOW)
    return str(refusal.value)


def fields(finding: Finding) -> dict[str, str]:
    return {field.name: field.text for field in finding.fields}


def pem(label: str, data: bytes) -> bytes:
    body = base64.encodebytes(data).decode()
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n".encode()


def test_a_certificate_is_told_in_words() -> None:
    said = fields(one(DER))
    assert said["subject"] == f"CN={NAME}"
    assert said["issuer"].endswith("(itself)")
    assert said["valid now"] == "yes, 400 days left"
    assert said["key usage"] == "digital signature (critical)"
    assert said["self-signed"] == "verifies"
    assert said["profile"].startswith("none; nearest: meter-ds (IEC 62056 C(DataSign))")
    assert f"{len(DER)} bytes as DER, {len(C509)} as C509" in said["size"]


@pytest.mark.parametrize(
    "armoured",
    [
        pem("CERTIFICATE", DER),
        DER.hex().encode(),
        b"0x" + DER.hex().upper().encode() + b"\n",
        ":".join(f"{byte:02x}" for byte in DER).encode(),
        base64.b64encode(DER),
        base64.encodebytes(DER),
        base64.urlsafe_b64encode(DER).rstrip(b"="),
    ],
    ids=["pem", "hex", "0x", "colons", "base64", "base64 lines", "base64url"],
)
def test_armour_is_taken_off(armoured: bytes) -> None:
    found = one(armoured)
    assert found.kind == "x509-certificate"
    assert fields(found) == fields(one(DER))


def test_each_certificate_of_a_bundle_is_told() -> None:
    assert [found.kind for found in inspect(pem("CERTIFICATE", DER) * 3, NOW)] == ["x509-certificate"] * 3


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (C509, "c509-certificate"),
        (C509[1:], "c509-certificate"),
        (c509.encode_chain([c509.decode_certificate(C509)]), "cose-c509"),
        (c509.encode_chain([c509.decode_certificate(C509)] * 2), "cose-c509"),
        (REQUEST, "c509-request"),
        (c509.RequestTemplate(request_types=(2,)).encode(), "c509-template"),
        (SIGNED, "signed-request"),
        (b"\xd2" + SIGNED, "signed-request"),
        (sign_request(SIGNER, C509, DOOR, Confirmation(bytes(32), 0).encode()), "confirmation"),
        (
            sign_request(
                SIGNER, C509, DOOR, Revocation(bytes(32), b"\x12", RevocationReason.UNSPECIFIED).encode()
            ),
            "revocation",
        ),
        (sign_message(SIGNER, bytes(8), "readings", b"1.5 kWh", counter=7, time=int(NOW)), "message"),
        (Voucher.issue(SIGNER, bytes(32), NAME, bytes(32), 0).encoded, "voucher"),
        (audit.sign_head(audit.Head(5, bytes(32)), SIGNER, bytes(32), int(NOW)), "audit-head"),
        (
            write_manifest(
                SIGNER,
                KEY.public_key(),
                "meter-boot",
                bytes(32),
                bytes(32),
                [ManifestEntry(NAME, "id", bytes(32))] * 30,
            ),
            "manifest",
        ),
        (Problem(ProblemKind.OVERLOADED, "busy", 3.0).encode(0x9D), "problem"),
        (cbor.encode([bytes(8), b"body"]), "mqtt-reply"),
        (cbor.encode([bytes(8), 5]), "mqtt-pending"),
        (cbor.encode([NAME, 7, None, b"x"]), "verified-message"),
        (KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), "public-key"),
        (PKCS8, "private-key"),
        (cbor.encode([0, 1, bytes(32)]), "private-key"),
        (cbor.encode({1: 2, -1: 1, -2: bytes(32), -4: bytes(32)}), "cose-key"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_form_is_recognised_also_as_hex_and_base64(data: bytes, kind: str) -> None:
    assert one(data).kind == kind
    assert one(data.hex().encode()).kind == kind
    assert one(base64.b64encode(data)).kind == kind


def test_the_request_in_an_envelope_is_a_part_and_its_proof_is_checked() -> None:
    (inner,) = one(SIGNED).parts
    assert fields(inner)["proof of possession"] == "verifies"
    broken = bytearray(REQUEST)
    broken[-1] ^= 1
    assert fields(one(bytes(broken)))["proof of possession"] == "does NOT verify"


def test_a_signer_by_value_is_shown_beside_the_request() -> None:
    by_value = sign_request(SIGNER, C509, DOOR, REQUEST, by_value=True)
    assert [part.kind for part in one(by_value).parts] == ["c509-certificate", "c509-request"]


def test_receipts_and_refusals_say_what_was_decided() -> None:
    def verdict(what: Receipt | Problem) -> Finding:
        return one(
            sign_verdict(
                what, SIGNER, thumbprint=bytes(8), request_digest=bytes(32), authority=bytes(32),
                label="meter-ds", op=Operation.CONF,
            )
        )  # fmt: skip

    assert verdict(Receipt(0)).kind == "receipt"
    refusal = verdict(Problem(ProblemKind.NOT_ENTITLED, "not in the inventory", 60.0))
    assert refusal.kind == "refusal"
    assert fields(refusal)["why"] == "16: not entitled"
    assert fields(refusal)["detail"] == "not in the inventory"
    assert fields(refusal)["retry after"] == "60 seconds"


def test_a_revocation_list_names_what_is_revoked() -> None:
    start = datetime.fromtimestamp(NOW, UTC)
    revoked = (
        x509.RevokedCertificateBuilder()
        .serial_number(0xABC)
        .revocation_date(start)
        .add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
        .build()
    )
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA")]))
        .last_update(start)
        .next_update(start + timedelta(days=7))
        .add_extension(x509.CRLNumber(5), critical=False)
        .add_revoked_certificate(revoked)
        .sign(KEY, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    said = fields(one(crl))
    assert said["number"] == "5"
    assert said["revoked"] == "1 certificate"
    assert said["serial 0abc"].startswith("keyCompromise, since ")
    assert one(crl).to_json()["revoked"][0]["serial"] == "0abc"


def test_what_has_no_c509_form_is_told_all_the_same_with_the_reason() -> None:
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COMMON_NAME, "x"),
            x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "DE"),
        ]
    )
    several = x509.Name([x509.RelativeDistinguishedName(list(name))])
    start = datetime.fromtimestamp(NOW, UTC)
    der = (
        x509.CertificateBuilder().subject_name(several).issuer_name(several).public_key(key.public_key())
        .serial_number(5).not_valid_before(start).not_valid_after(start + timedelta(days=1))
        .sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    )  # fmt: skip
    found = one(der)
    assert found.notes[0].startswith("cannot travel as C509: ")
    assert fields(found)["public key"] == "RSA, 1024 bits"


SECRET = KEY.private_numbers().private_value.to_bytes(32, "big")


@pytest.mark.parametrize(
    "data",
    [
        PKCS8,
        KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
        KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")),
        KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"secret")),
        KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        PKCS8.hex().encode(),
        c509.C509PrivateKey.from_private_key(KEY).encode(),
        cbor.encode({1: 2, -1: 1, -4: SECRET}),
        pem("PRIVATE KEY", PKCS8[:-3]),
    ],
    ids=["pkcs8", "pem", "sec1", "encrypted", "old encrypted", "openssh", "hex", "c509", "cose", "damaged"],
)
def test_a_private_key_is_named_and_not_shown(data: bytes) -> None:
    shown = repr(one(data))
    assert "not shown" in shown
    assert SECRET.hex() not in shown
    assert SECRET.hex()[:12] not in shown


def test_bytes_that_are_not_known_are_not_shown_either() -> None:
    for data in (SECRET, cbor.encode([1, SECRET]), SECRET.hex().encode(), b"correct horse battery staple"):
        said = told(data)
        assert SECRET.hex()[:6] not in said
        assert "horse" not in said


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "it is empty"),
        (C509[:40], "truncated C509 certificate"),
        (C509 + b"\0", "C509 certificate followed by 1 more bytes"),
        (C509[:40].hex().encode(), "hex of a truncated C509 certificate"),
        (base64.b64encode(C509[:40]), "base64 of a truncated C509 certificate"),
        (REQUEST[:20], "truncated C509 certification request"),
        (SIGNED[:30], "truncated COSE_Sign1"),
        (DER[:50], "truncated DER: 50 of "),
        (DER + b"x", "followed by 1 more"),
        (b"\x30\x03\x02\x01\x05", "DER (5 bytes), but no certificate"),
        (pem("CERTIFICATE", DER)[:200], "truncated PEM of a CERTIFICATE"),
        (pem("CERTIFICATE", DER).replace(b"\nM", b"\n!"), "PEM of a CERTIFICATE whose base64 is damaged"),
        (pem("CERTIFICATE", b"hello"), "PEM of a CERTIFICATE, which holds"),
        (b'{"a": 1}', "JSON: an object with 1 member"),
        (b'{"device": "D1", "label": "meter-boot", "client_id": "x"}', "JSON: the identity of device D1"),
        (b'{"kty": "EC", "d": "x"}', "JSON Web Key"),
        (b"[1, 2]", "JSON"),
        (b"Dear Sir or Madam,\nplease", "text (2 lines)"),
        (b"coap://127.0.0.1", "a URI"),
        (b"SQLite format 3\x00" + bytes(10), "SQLite database"),
        (b"PK\x03\x04zip\xff", "ZIP archive"),
        (cbor.encode({"a": 2}), "CBOR, but nothing of Trillium's"),
        (bytes(range(200, 256)), "looks like"),
    ],
)
def test_wrong_input_is_told_what_it_looked_like(data: bytes, what: str) -> None:
    assert what in told(data)


def test_a_certificate_that_breaks_a_rule_is_told_which() -> None:
    broken = C509.replace(b"\x8b\x03", b"\x8b\x07", 1)
    assert told(broken) == "this looks like a C509 certificate, but: certificate type is 2 or 3"


def test_a_certificate_that_is_cut_after_a_tag_is_told_how_much_is_there() -> None:
    gateway = c509.decode_certificate(C509)
    named = c509.TbsCertificate(
        2, b"\1", 0, None, 0, None, c509.Name.common_name("02-00-00-FF-FE-00-00-01"), 1,
        gateway.public_key_bytes, (),
    ).with_signature(bytes(64))  # fmt: skip
    said = told(named.encoded[:40])
    assert said == "this looks like a truncated C509 certificate: 8 of its 11 items are whole, in 40 bytes"


def test_more_than_any_certificate_is_not_looked_at() -> None:
    assert "longer than" in told(bytes(1024 * 1024 + 1))


def explained_or_told_apart(data: bytes) -> None:
    """Nothing but `NotRecognised` leaves, and what is found can be written as JSON."""
    with contextlib.suppress(NotRecognised):
        json.dumps([found.to_json() for found in inspect(data, NOW)])


@given(st.binary(max_size=300))
def test_any_bytes_are_explained_or_told_apart(data: bytes) -> None:
    explained_or_told_apart(data)


@given(st.sampled_from([C509, REQUEST, SIGNED, DER, PKCS8]), st.data())
def test_damaged_objects_are_explained_or_told_apart(whole: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole[: data.draw(st.integers(at + 1, len(whole)))])
    damaged[at] = data.draw(st.integers(0, 255))
    for form in (bytes(damaged), bytes(damaged).hex().encode(), pem("CERTIFICATE", bytes(damaged))):
        explained_or_told_apart(form)


@given(st.text(max_size=200))
def test_any_text_is_explained_or_told_apart(text: str) -> None:
    explained_or_told_apart(text.encode())


def test_the_published_vectors_are_all_recognised(vectors: Path) -> None:
    kinds = {"cert": "cert", "a": "cert", "csr-": "request", "csrt": "template", "key-": "private-key"}
    kinds |= {"A1_c": "pkcs7", "A2_sen_req": "request", "A2_sen_resp": "pkcs7"}
    seen = 0
    for path in sorted((*vectors.glob("c509/*.hex"), *vectors.glob("est/*.hex"))):
        found = one(path.read_bytes())
        expected = next(kind for prefix, kind in kinds.items() if path.name.startswith(prefix))
        if "certdata" in path.name:
            expected = "cose-c509"
        assert expected in found.kind, path.name
        seen += 1
    assert seen > 20
