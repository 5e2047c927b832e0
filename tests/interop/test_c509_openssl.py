"""OpenSSL makes X.509 that becomes C509 and comes back, and reads the X.509 that we build."""

import shutil
import subprocess
from pathlib import Path

import pytest

from protocol import c509
from tests import c509_samples

OPENSSL = shutil.which("openssl")
pytestmark = [
    pytest.mark.outside,
    pytest.mark.skipif(OPENSSL is None, reason="the openssl program is not installed"),
]

CONFIG = """
[req]
distinguished_name = name
prompt = no
req_extensions = everything
x509_extensions = everything
string_mask = MASK
[name]
C = DE
O = Stadtwerke
OU = 00ff
CN = 02-00-00-FF-FE-00-00-01
emailAddress = ca@example.org
[everything]
subjectKeyIdentifier = hash
keyUsage = critical, digitalSignature, keyCertSign, cRLSign, decipherOnly, keyAgreement
basicConstraints = critical, CA:TRUE, pathlen:2
extendedKeyUsage = serverAuth, clientAuth, 1.3.6.1.4.1.45605.1, 1.3.6.1.4.1.32473.1
subjectAltName = DNS:example.org, IP:192.0.2.1, IP:2001:db8::1, email:a@example.org, \
URI:coaps://example.org, RID:1.3.6.1.4.1.32473.2, otherName:1.3.6.1.4.1.32473.3;UTF8:some, dirName:other
certificatePolicies = 2.5.29.32.0, 1.3.6.1.4.1.32473.4, @policy
crlDistributionPoints = point, URI:http://crl.example/two
authorityInfoAccess = OCSP;URI:http://ocsp.example, caIssuers;URI:http://ca.example
nameConstraints = critical, permitted;IP:10.0.0.0/255.0.0.0, excluded;DNS:bad.example, \
permitted;email:.a.example
policyConstraints = requireExplicitPolicy:3, inhibitPolicyMapping:0
inhibitAnyPolicy = 1
noCheck = ignored
tlsfeature = status_request
1.3.6.1.4.1.32473.5 = critical, ASN1:UTF8String:own
[other]
CN = Elsewhere
[policy]
policyIdentifier = 1.3.6.1.4.1.32473.6
CPS.1 = http://cps.example
userNotice.1 = @notice
[notice]
explicitText = UTF8:noted
[point]
fullname = URI:http://crl.example/one
CRLissuer = dirName:other
reasons = keyCompromise, CACompromise
"""
KEYS = {
    "P-256": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "P-384": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-sha384"],
    "P-521": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521", "-sha512"],
    "brainpoolP384r1": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:brainpoolP384r1", "-sha384"],
    "Ed25519": ["-newkey", "ed25519"],
    "Ed448": ["-newkey", "ed448"],
    "RSA": ["-newkey", "rsa:2048"],
    "RSA PSS": ["-newkey", "rsa:2048", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"],
}  # fmt: skip


def openssl(*arguments: str | Path, folder: Path) -> bytes:
    assert OPENSSL is not None
    done = subprocess.run(
        [OPENSSL, *map(str, arguments)], cwd=folder, capture_output=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def write_config(folder: Path, mask: str = "utf8only") -> Path:
    path = folder / "openssl.cnf"
    path.write_text(CONFIG.replace("MASK", mask))
    return path


@pytest.mark.parametrize("name", KEYS)
def test_certificates_of_openssl_come_back_byte_for_byte(tmp_path: Path, name: str) -> None:
    config = write_config(tmp_path)
    data = openssl(
        *("req", "-x509", "-config", config, "-nodes", "-keyout", "key.pem", "-outform", "DER", "-days", "9"),
        *KEYS[name],
        folder=tmp_path,
    )
    certificate = c509.from_der(data)
    assert certificate.to_der() == data
    assert c509.decode_certificate(certificate.encoded).to_der() == data
    assert isinstance(certificate.public_key_algorithm, int)
    assert isinstance(certificate.signature_algorithm, int)
    spelled_out = [extension.id for extension in certificate.extensions if isinstance(extension.id, bytes)]
    assert len(spelled_out) == 1  # the one of our own
    assert all(isinstance(kind, int) for kind, _ in certificate.subject.attributes)
    assert certificate.subject.cn == "02-00-00-FF-FE-00-00-01"
    assert certificate.key_usage == 1 | 16 | 32 | 64 | 256


def test_a_point_that_is_compressed_in_x509_stays_so(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    openssl("genpkey", "-algorithm", "EC", *KEYS["P-256"][2:], "-out", "key.pem", folder=tmp_path)
    openssl("ec", "-in", "key.pem", "-conv_form", "compressed", "-out", "short.pem", folder=tmp_path)
    data = openssl("req", "-x509", "-config", config, "-key", "short.pem", "-outform", "DER", folder=tmp_path)
    certificate = c509.from_der(data)
    assert certificate.public_key[0] in (2, 3)
    assert certificate.to_der() == data


@pytest.mark.parametrize("mask", ["utf8only", "pkix", "nombstr"])
@pytest.mark.parametrize("name", ["P-256", "RSA"])
def test_requests_of_openssl_come_back_byte_for_byte(tmp_path: Path, name: str, mask: str) -> None:
    config = write_config(tmp_path, mask)
    data = openssl(
        *("req", "-new", "-config", config, "-nodes", "-keyout", "key.pem", "-outform", "DER"),
        *KEYS[name],
        folder=tmp_path,
    )
    request = c509.request_from_der(data)
    assert request.to_der() == data
    assert len(request.requested_extensions) == 14
    assert request.subject.cn == "02-00-00-FF-FE-00-00-01"


def test_openssl_verifies_a_chain_that_we_built(tmp_path: Path) -> None:
    root_name = c509.Name.common_name("Root")
    usage = c509.KeyUsage
    root = c509.build_certificate(
        type=c509.REENCODED,
        serial=1,
        issuer=root_name,
        subject=root_name,
        not_before=1_700_000_000,
        not_after=None,
        public_key=c509_samples.POINT,
        extensions=(
            c509.Extension(4, critical=True, value=-1),
            c509.Extension(2, critical=True, value=usage.KEY_CERT_SIGN | usage.CRL_SIGN),
            c509.Extension(1, critical=False, value=c509.key_identifier(3, c509_samples.POINT)),
        ),
    )
    leaf = c509.build_certificate(
        type=c509.REENCODED,
        serial=0x8000,
        issuer=root_name,
        subject=c509_samples.SUBJECT,
        not_before=1_700_000_000,
        not_after=4_000_000_000,
        public_key=c509_samples.COMPRESSED,
        extensions=(
            c509.Extension(2, critical=True, value=usage.DIGITAL_SIGNATURE),
            c509.Extension(7, critical=False, value=c509.key_identifier(3, c509_samples.POINT)),
        ),
    )
    for name, tbs in (("root", root), ("leaf", leaf)):
        data = tbs.with_signature(c509_samples.sign(tbs.to_be_signed())).to_der()
        (tmp_path / f"{name}.der").write_bytes(data)
        openssl("x509", "-inform", "DER", "-in", f"{name}.der", "-out", f"{name}.pem", folder=tmp_path)
    said = openssl("verify", "-x509_strict", "-CAfile", "root.pem", "leaf.pem", folder=tmp_path)
    assert b"leaf.pem: OK" in said


def test_openssl_reads_every_extension_that_we_write(tmp_path: Path) -> None:
    (tmp_path / "rich.der").write_bytes(c509_samples.certificate(c509.REENCODED).to_der())
    said = openssl("x509", "-inform", "DER", "-in", "rich.der", "-noout", "-text", folder=tmp_path).decode()
    for words in (
        "Digital Signature, Key Encipherment, Decipher Only",
        "SmtpUTF8Mailbox::jörg@example.org",
        "CA:TRUE, pathlen:3",
        "Key Compromise, AA Compromise",
        "Explicit Text: noted: é",
        "IP:192.0.2.0/255.255.255.0",
        "2.23.140.1.2.2:2.23.140.1.2.1",
        "Inhibit Policy Mapping:1",
        "198.51.100.0/28",
        "203.0.0.0-203.0.113.255",
        "1:203:405:607:809::/80",
        "3-6",
        "64512",
        "status_request, status_request_v2",
    ):
        assert words in said
    assert "<INVALID" not in said
    assert "ERROR" not in said


def test_openssl_verifies_a_request_that_we_built(tmp_path: Path) -> None:
    (tmp_path / "request.der").write_bytes(c509_samples.request(c509.REENCODED).to_der())
    said = openssl(
        "req", "-inform", "DER", "-in", "request.der", "-noout", "-text", "-verify", folder=tmp_path
    ).decode()
    assert "secret" in said
    assert "RID:1.3.6.1.4.1.32473.6" in said.replace("Registered ID", "RID")
