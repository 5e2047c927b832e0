"""The issuer: alone with the CA key. Orders in, signed certificates out; it decides nothing.

Runs in a worker thread: a pure function of its arguments, but for the signature's own randomness.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from agents.authority import crl
from agents.authority.pki import HASHES
from agents.keys import SoftwareSigner
from protocol import c509, revocation_list
from protocol.c509 import ExtensionId, keys
from protocol.c509.x509_writer import NO_EXPIRY
from protocol.cose import Algorithm
from protocol.end_entity import Pointers, extensions_of, subject_of
from protocol.errors import ProblemKind, RequestRejected
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


class Issuer:
    """One CA: its key, and the name that its certificates carry.

    Args:
        key: The CA's key; it never leaves this object.
        certificate: The CA's certificate, type 3.
        pointers: Where its revocations are published; certificates of some labels say it.
    """

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        certificate: c509.Certificate,
        pointers: Pointers | None = None,
    ) -> None:
        self._key = key
        signer = self._signer = SoftwareSigner(key, even_y=False)
        self.certificate: Final = certificate
        self._name: Final = certificate.subject
        self._pointers: Final = pointers
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
        """Return the certificate, signed and encoded.

        Raises:
            RequestRejected: It would be longer than the relying parties of its profile read; TOO_LARGE.
        """
        profile = order.profile
        point = order.public_key
        if profile.key_identifier_bytes and point[0] in (2, 3):
            point = keys.decompress(KEY_ALGORITHMS[order.algorithm], point)
        extensions = extensions_of(
            profile,
            order.subject,
            public_key=point,
            issuer_key_identifier=self._key_identifier,
            pointers=self._pointers,
        )
        tbs = c509.build_certificate(
            type=int(profile.form),
            serial=order.serial,
            issuer=self._name,
            subject=subject_of(profile, order.subject, self._name),
            not_before=order.not_before,
            not_after=order.not_after,
            public_key=order.public_key,
            public_key_algorithm=KEY_ALGORITHMS[order.algorithm],
            signature_algorithm=self._signature_algorithm,
            extensions=extensions,
        )
        certificate = tbs.with_signature(self._signer.sign(tbs.to_be_signed()))
        if profile.max_der is not None and (length := len(certificate.to_der())) > profile.max_der:
            raise RequestRejected(
                ProblemKind.TOO_LARGE,
                f"a certificate of {length} bytes, {profile.label} has at most {profile.max_der}: "
                "shorter names, or a shorter address for revocation",
            )
        return certificate.encoded

    def sign_crl(
        self,
        entries: Iterable[bytes],
        *,
        number: int,
        this_update: int,
        next_update: int,
        base: int | None = None,
    ) -> bytes:
        """Return a revocation list, or a delta to `base` (`agents.authority.crl`), signed, as DER."""
        return crl.encode_list(
            self._key,
            self._name,
            self._key_identifier,
            number=number,
            this_update=this_update,
            next_update=next_update,
            entries=entries,
            base=base,
        )

    def sign_c509_crl(self, entries: Iterable[tuple[bytes, int]], head: revocation_list.Head) -> bytes:
        """Return a revocation list in C509 form (`protocol.revocation_list`), signed."""
        return revocation_list.encode_list(self._signer, self.certificate, head, entries)

    def certify(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        """Return the certificate that `builder` describes but for its issuer: a service of the CA's own."""
        issuer = x509.load_der_x509_certificate(self.certificate.to_der())
        identifier = x509.AuthorityKeyIdentifier(self._key_identifier, None, None)
        return (
            builder.issuer_name(issuer.subject)
            .add_extension(identifier, critical=False)
            .sign(self._key, HASHES[self._key.curve.name])
        )
