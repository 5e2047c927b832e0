"""Making CA certificates: what `protocol.profiles.authorities` declares, with keys and signatures."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from agents.authority.intents import new_serial
from agents.keys import generate
from protocol.c509 import ExtensionId
from protocol.cose import Algorithm
from protocol.end_entity import Pointers, key_identifier
from protocol.profiles import policy_oid
from protocol.profiles.authorities import CaProfile
from protocol.profiles.prefixes import Prefix

DAY: Final = 24 * 3600
BACKDATE: Final = DAY
"""Seconds by which a CA's notBefore lies before it was made, for devices whose clock is behind."""
CMC_RA: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28")
"""id-kp-cmcRA (RFC 6402): a registration authority's key."""
HASHES: Final[Mapping[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
"""What a key of each curve signs with."""


@dataclass(frozen=True, slots=True)
class Ca:
    """One CA, as it is made."""

    profile: CaProfile
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def hash(self) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512:
        """What its signatures are made with."""
        return HASHES[self.key.curve.name]


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose CAs they are: what their subjects say."""

    organisation: str
    country: str
    """Two letters (ISO 3166-1)."""


def make_ca(
    profile: CaProfile,
    owner: Owner,
    issuer: Ca | None,
    *,
    labels: Sequence[str],
    prefixes: Sequence[Prefix] = (),
    path_length: int,
    pointers: Pointers | None = None,
    now: int,
) -> Ca:
    """Return a new CA with a new key.

    Args:
        profile: What it is.
        owner: Whose.
        issuer: The CA above it; None for a root.
        labels: What it may issue, one policy OID each.
        prefixes: What the names that it gives begin with; none for those that give no names.
        path_length: CAs that may follow below it.
        pointers: Where the issuer's revocations are published, for profiles that say it.
        now: POSIX seconds.
    """
    key = generate(profile.algorithm)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    listed = [policy_oid(label) for label in labels] + [prefix.policy_oid for prefix in prefixes]
    policies = [x509.PolicyInformation(x509.ObjectIdentifier(oid), None) for oid in listed]
    builder = certificate_builder(
        subject_of(profile, owner),
        issuer,
        key.public_key(),
        now=now,
        life=profile.validity,
        own=_identifier(key, profile.key_identifier_bytes),
        critical=profile.critical,
    )
    builder = (
        builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=path_length if profile.has_path_length else None),
            critical=True,
        )
        .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.CertificatePolicies(policies), critical=False)
    )
    if profile.has_revocation_pointers and pointers is not None:
        builder = _with_pointers(builder, pointers, profile.critical)
    signer = key if issuer is None else issuer.key
    return Ca(profile, key, builder.sign(signer, HASHES[signer.curve.name]))


def subject_of(profile: CaProfile, owner: Owner) -> x509.Name:
    """Return the subject of a CA."""
    common_name = profile.common_name.format(organisation=owner.organisation)
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if profile.has_organisation:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, owner.organisation))
        attributes.insert(0, x509.NameAttribute(NameOID.COUNTRY_NAME, owner.country))
    if profile.component is not None:
        attributes.insert(0, x509.NameAttribute(NameOID.DOMAIN_COMPONENT, profile.component))
    return x509.Name(attributes)


def make_registration(issuer: Ca, name: str, *, now: int, life: int) -> Ca:
    """Return a registration key with its certificate: signs receipts and refusals, P-256 everywhere."""
    key = generate(Algorithm.ES256)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} registration")])
    builder = (
        certificate_builder(
            subject, issuer, key.public_key(), now=now, life=life, own=_identifier(key, 20), critical=()
        )
        .add_extension(key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([CMC_RA]), critical=False)
    )
    return Ca(issuer.profile, key, builder.sign(issuer.key, issuer.hash))


def certificate_builder(
    subject: x509.Name,
    issuer: Ca | None,
    key: ec.EllipticCurvePublicKey,
    *,
    now: int,
    life: int,
    own: bytes,
    critical: Sequence[ExtensionId] | frozenset[ExtensionId],
) -> x509.CertificateBuilder:
    """Return what every certificate of a line begins with; it ends no later than its issuer."""
    start = dt.datetime.fromtimestamp(now - BACKDATE, dt.UTC)
    end = start + dt.timedelta(seconds=life)
    if issuer is not None:
        end = min(end, issuer.certificate.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key)
        .serial_number(int.from_bytes(new_serial(), "big"))
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(
            x509.SubjectKeyIdentifier(own), critical=ExtensionId.SUBJECT_KEY_IDENTIFIER in critical
        )
    )
    if issuer is None:
        return builder
    above = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    return builder.add_extension(
        x509.AuthorityKeyIdentifier(above, None, None),
        critical=ExtensionId.AUTHORITY_KEY_IDENTIFIER in critical,
    )


def _with_pointers(
    builder: x509.CertificateBuilder, pointers: Pointers, critical: frozenset[ExtensionId]
) -> x509.CertificateBuilder:
    ocsp = x509.AccessDescription(
        AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(pointers.ocsp)
    )
    crl = x509.DistributionPoint([x509.UniformResourceIdentifier(pointers.crl)], None, None, None)
    return builder.add_extension(
        x509.AuthorityInformationAccess([ocsp]), critical=ExtensionId.AUTHORITY_INFO_ACCESS in critical
    ).add_extension(
        x509.CRLDistributionPoints([crl]), critical=ExtensionId.CRL_DISTRIBUTION_POINTS in critical
    )


def _identifier(key: ec.EllipticCurvePrivateKey, length: int) -> bytes:
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return key_identifier(point, length)


def key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    """Return a key usage with these bits."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
