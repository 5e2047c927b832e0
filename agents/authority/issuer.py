"""The issuer: alone with the CA key. Orders in, signed certificates out; it decides nothing.

Runs in a worker thread: a pure function of its arguments, but for the signature's own randomness.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from agents.authority import crl
from agents.keys import SoftwareSigner
from protocol import c509
from protocol.c509 import Extension, ExtensionId, keys
from protocol.c509.der import oid_from_text
from protocol.c509.x509_writer import NO_EXPIRY
from protocol.cose import Algorithm
from protocol.exchange.request import KEY_ALGORITHMS, SIGNATURE_ALGORITHMS
from protocol.profiles import Profile


@dataclass(frozen=True, slots=True)
class ToBeIssued:
    """Everything that a certificate says but for its issuer."""

    profile: Profile
    serial: bytes
    subject: str
    not_before: int
    not_after: int | None
    algorithm: Algorithm
    public_key: bytes
    """SEC1 point, uncompressed if it is at hand, or 32 bytes of an Ed25519 key."""


def key_identifier(public_key: bytes) -> bytes:
    """Return SHA-1 of a public key's BIT STRING, 20 bytes (RFC 5280 §4.2.1.2, method 1).

    A name, not a protection: SHA-1 is what relying parties compute.

    Args:
        public_key: Uncompressed SEC1 point, or 32 bytes of an Ed25519 key.
    """
    return hashlib.sha1(public_key, usedforsecurity=False).digest()


class Issuer:
    """One CA: its key, and the name that its certificates carry.

    Args:
        key: The CA's key; it never leaves this object.
        certificate: The CA's certificate, type 3.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: c509.Certificate) -> None:
        self._key = key
        signer = self._signer = SoftwareSigner(key, even_y=False)
        self.certificate: Final = certificate
        self._name: Final = certificate.subject
        identifier = certificate.extension(ExtensionId.SUBJECT_KEY_IDENTIFIER)
        if not isinstance(identifier, bytes):
            raise ValueError("a CA certificate has a subject key identifier")  # noqa: TRY004 (a bad certificate)
        self._key_identifier: Final = identifier
        self._signature_algorithm: Final = SIGNATURE_ALGORITHMS[signer.algorithm]

    @property
    def not_after(self) -> int:
        """When the CA ends, in POSIX seconds; no certificate of its outlives it."""
        return NO_EXPIRY if self.certificate.not_after is None else self.certificate.not_after

    def issue(self, order: ToBeIssued) -> bytes:
        """Return the certificate, signed and encoded."""
        profile = order.profile
        extensions = _fixed_extensions(profile)
        if profile.has_key_identifiers:
            point = order.public_key
            if point[0] in (2, 3):
                point = keys.decompress(KEY_ALGORITHMS[order.algorithm], point)
            extensions = (
                *extensions,
                Extension(ExtensionId.SUBJECT_KEY_IDENTIFIER, critical=False, value=key_identifier(point)),
                Extension(ExtensionId.AUTHORITY_KEY_IDENTIFIER, critical=False, value=self._key_identifier),
            )
        tbs = c509.build_certificate(
            type=int(profile.form),
            serial=order.serial,
            issuer=self._name,
            subject=c509.Name.common_name(order.subject),
            not_before=order.not_before,
            not_after=order.not_after,
            public_key=order.public_key,
            public_key_algorithm=KEY_ALGORITHMS[order.algorithm],
            signature_algorithm=self._signature_algorithm,
            extensions=extensions,
        )
        return tbs.with_signature(self._signer.sign(tbs.to_be_signed())).encoded

    def sign_crl(self, entries: Iterable[bytes], *, number: int, this_update: int, next_update: int) -> bytes:
        """Return a revocation list (`agents.authority.crl`), signed, as DER."""
        return crl.encode_list(
            self._key,
            self._name,
            self._key_identifier,
            number=number,
            this_update=this_update,
            next_update=next_update,
            entries=entries,
        )


# One entry per label.
@lru_cache(maxsize=64)
def _fixed_extensions(profile: Profile) -> tuple[Extension, ...]:
    found = [Extension(ExtensionId.KEY_USAGE, critical=True, value=int(profile.key_usage))]
    if profile.extended_key_usage:
        usages = profile.extended_key_usage
        found.append(Extension(ExtensionId.EXTENDED_KEY_USAGE, critical=False, value=usages))
    if profile.policies:
        policies = tuple(c509.PolicyInformation(oid_from_text(policy)) for policy in profile.policies)
        found.append(Extension(ExtensionId.CERTIFICATE_POLICIES, critical=False, value=policies))
    return tuple(found)
