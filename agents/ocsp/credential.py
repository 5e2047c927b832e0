"""The certificate by which an operator CA lets its OCSP responder sign (RFC 6960 §4.2.2.2).

Made when `serve --ocsp` starts, and again when a third of its life is left. It says `nocheck`: nobody asks
whether it is revoked, so it lives for three months only. Its key is kept beside the registration key,
encrypted by the same passphrase:

    operators/<domain>/ocsp.key   operators/<domain>/ocsp.pem   certificates/<domain>-ocsp.pem
"""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from agents.authority.domain import DomainAuthority
from agents.authority.intents import new_serial
from agents.authority.layout import Layout
from agents.keys import load_private_key, save_private_key, write_atomically

DAY: Final = 24 * 3600
LIFE: Final = 90 * DAY
"""Seconds: nobody can revoke it, so it ends by itself."""
RENEW_BEFORE: Final = LIFE // 3
"""Seconds before its end from which on it is replaced."""
BACKDATE: Final = DAY
"""Seconds by which notBefore lies before it was made, for relying parties whose clock is behind."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What a responder signs with."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def not_after(self) -> int:
        """When it ends, POSIX seconds."""
        return int(self.certificate.not_valid_after_utc.timestamp())

    def is_worn(self, now: int) -> bool:
        """Whether it is time for the next."""
        return now > self.not_after - RENEW_BEFORE


def credential_of(
    layout: Layout, authority: DomainAuthority, passphrase: bytes, now: int
) -> tuple[Credential, bool]:
    """Return the responder's key and certificate, and whether they were made now; blocks on the disk.

    Raises:
        OSError: They cannot be written.
        ValueError: A wrong passphrase, or a CA whose key is none.
    """
    folder = layout.operator(authority.domain)
    found = _load(folder, authority, passphrase, now)
    if found is not None:
        return found, False
    public = authority.issuer.certificate.load_public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise ValueError("an operator CA's key is on a curve of NIST's")  # noqa: TRY004 (a bad certificate)
    key = ec.generate_private_key(public.curve)
    save_private_key(folder / "ocsp.key", key, passphrase)
    made = Credential(key, _certify(authority, key, now))
    keep_certificate(layout, authority, made)
    return made, True


def renewed(authority: DomainAuthority, credential: Credential, now: int) -> Credential:
    """Return the same key with a new certificate, for a responder that runs for months."""
    return Credential(credential.key, _certify(authority, credential.key, now))


def keep_certificate(layout: Layout, authority: DomainAuthority, credential: Credential) -> None:
    """Write the certificate beside its key, and for everybody; blocks on the disk."""
    pem = credential.certificate.public_bytes(Encoding.PEM)
    for path in (
        layout.operator(authority.domain) / "ocsp.pem",
        layout.certificates / f"{authority.domain.value}-ocsp.pem",
    ):
        write_atomically(path, pem, mode=0o644)


def _load(folder: Path, authority: DomainAuthority, passphrase: bytes, now: int) -> Credential | None:
    try:
        certificate = x509.load_pem_x509_certificate((folder / "ocsp.pem").read_bytes())
        ca = x509.load_der_x509_certificate(authority.issuer.certificate.to_der())
        certificate.verify_directly_issued_by(ca)
    except (OSError, ValueError, TypeError, InvalidSignature):
        return None  # none yet, or of a CA before this one
    if not (folder / "ocsp.key").is_file():
        return None
    key = load_private_key(folder / "ocsp.key", passphrase)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        return None
    found = Credential(key, certificate)
    return None if found.is_worn(now) else found


def _certify(authority: DomainAuthority, key: ec.EllipticCurvePrivateKey, now: int) -> x509.Certificate:
    start = dt.datetime.fromtimestamp(now - BACKDATE, dt.UTC)
    end = dt.datetime.fromtimestamp(min(now + LIFE, authority.issuer.not_after), dt.UTC)
    name = authority.issuer.certificate.subject.cn or authority.domain.value
    usage = dict.fromkeys(
        (
            "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
            "crl_sign", "encipher_only", "decipher_only",
        ),
        False,
    )  # fmt: skip
    return authority.issuer.certify(
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name} OCSP")]))
        .public_key(key.public_key())
        .serial_number(int.from_bytes(new_serial(), "big"))
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), critical=False)
        .add_extension(x509.OCSPNoCheck(), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
