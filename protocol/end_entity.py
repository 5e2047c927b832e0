"""What the certificate of an end entity says under its profile: made by issuers, read by everybody.

The profile decides all of it but four things: the holder's name, the key, and the issuer's name and places.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from protocol import c509
from protocol.c509 import Extension, ExtensionId
from protocol.c509.der import oid_from_text
from protocol.errors import ProblemKind, RequestRejected
from protocol.profiles import Naming, Profile

COMMON_NAME: Final = 1
COUNTRY: Final = 4
ORGANISATION: Final = 8
DOMAIN_COMPONENT: Final = 22
_OCSP: Final = 1
_CA_FALSE: Final = -2
_HARDWARE_TYPE: Final = oid_from_text("2.25.161999519730467352631162911968179934231.0")
"""hwType of HardwareModuleName (RFC 4108 §5): names the numbering, which the profile's naming fixes."""


@dataclass(frozen=True, slots=True)
class Pointers:
    """Where relying parties learn of revocation; both are part of a certificate, so keep them short."""

    ocsp: str
    """http URL of the OCSP responder."""
    crl: str
    """http URL of the issuer's revocation list."""


def key_identifier(public_key: bytes, length: int = 20) -> bytes:
    """Return a key identifier (RFC 5280 §4.2.1.2): method 1 has 20 bytes of SHA-1, method 2 has 8.

    A name, not a protection: SHA-1 is what relying parties compute.

    Args:
        public_key: Uncompressed SEC1 point, or 32 bytes of an Ed25519 key.
        length: 20 or 8.
    """
    digest = hashlib.sha1(public_key, usedforsecurity=False).digest()
    if length == 20:
        return digest
    return bytes((0x40 | digest[12] & 0x0F,)) + digest[13:]


def subject_of(profile: Profile, name: str, issuer: c509.Name) -> c509.Name:
    """Return the subject of `name`'s certificate; organisation and country are the issuer's."""
    form = profile.subject
    if form.is_alternative:
        return _EMPTY
    if not (form.component or form.has_organisation or form.has_country):
        return c509.Name.common_name(name)
    attributes: list[tuple[int | bytes, str | bytes]] = []
    if form.component is not None:
        attributes.append((DOMAIN_COMPONENT, form.component))
    for number, is_wanted in ((COUNTRY, form.has_country), (ORGANISATION, form.has_organisation)):
        if is_wanted:
            attributes += [found for found in issuer.attributes if found[0] in (number, -number)][:1]
    attributes.append((COMMON_NAME, name))
    return c509.Name(tuple(attributes))


_EMPTY: Final = c509.Name()


def extensions_of(
    profile: Profile,
    name: str,
    *,
    public_key: bytes,
    issuer_key_identifier: bytes,
    pointers: Pointers | None,
) -> tuple[Extension, ...]:
    """Return a certificate's extensions, in the order that every issuer here gives them.

    Args:
        profile: Of the label.
        name: The holder's.
        public_key: Its key: uncompressed SEC1 point, or 32 bytes of an Ed25519 key.
        issuer_key_identifier: The issuing CA's subject key identifier.
        pointers: Where revocation is published; ignored by profiles that do not say it.

    Raises:
        ValueError: The profile wants pointers, and there are none.
    """
    found = _fixed_extensions(profile)
    if profile.subject.is_alternative:
        found = (*found, _alternative_name(profile, name))
    if profile.key_identifier_bytes:
        own = key_identifier(public_key, profile.key_identifier_bytes)
        found = (
            *found,
            _extension(profile, ExtensionId.SUBJECT_KEY_IDENTIFIER, own),
            _extension(profile, ExtensionId.AUTHORITY_KEY_IDENTIFIER, issuer_key_identifier),
        )
    if profile.has_revocation_pointers:
        if pointers is None:
            msg = f"{profile.label} certificates say where revocation is published: set it"
            raise ValueError(msg)
        found = (*found, *pointer_extensions(profile, pointers))
    return found


@lru_cache(maxsize=64)
def pointer_extensions(profile: Profile, pointers: Pointers) -> tuple[Extension, ...]:
    """Return authority information access and CRL distribution points."""
    return (
        _extension(profile, ExtensionId.AUTHORITY_INFO_ACCESS, ((_OCSP, pointers.ocsp),)),
        _extension(profile, ExtensionId.CRL_DISTRIBUTION_POINTS, (c509.DistributionPoint((pointers.crl,)),)),
    )


def _extension(profile: Profile, number: ExtensionId, value: object) -> Extension:
    return Extension(number, profile.is_critical(number), value)


# One entry per label.
@lru_cache(maxsize=64)
def _fixed_extensions(profile: Profile) -> tuple[Extension, ...]:
    found = [_extension(profile, ExtensionId.KEY_USAGE, int(profile.key_usage))]
    if profile.has_basic_constraints:
        found.append(_extension(profile, ExtensionId.BASIC_CONSTRAINTS, _CA_FALSE))
    if profile.extended_key_usage:
        found.append(_extension(profile, ExtensionId.EXTENDED_KEY_USAGE, profile.extended_key_usage))
    if profile.policies:
        policies = tuple(c509.PolicyInformation(oid_from_text(policy)) for policy in profile.policies)
        found.append(_extension(profile, ExtensionId.CERTIFICATE_POLICIES, policies))
    return tuple(found)


def _alternative_name(profile: Profile, name: str) -> Extension:
    octets = bytes.fromhex(name.replace("-", ""))
    module = c509.GeneralName(c509.GeneralNameType.HARDWARE_MODULE_NAME, (_HARDWARE_TYPE, octets))
    return _extension(profile, ExtensionId.SUBJECT_ALT_NAME, (module,))


def holder_of(certificate: c509.Certificate, profile: Profile) -> str:
    """Return the name that a certificate proves, if it is written as its profile says.

    Raises:
        RequestRejected: It is not; WRONG_SUBJECT.
    """
    subject, form = certificate.subject, profile.subject
    if form.is_alternative:
        name = _read_alternative(certificate, profile)
    else:
        expected = [number for number, is_there in (
            (DOMAIN_COMPONENT, form.component is not None),
            (COUNTRY, form.has_country),
            (ORGANISATION, form.has_organisation),
            (COMMON_NAME, True),
        ) if is_there]  # fmt: skip
        found = sorted(abs(kind) if isinstance(kind, int) else 0 for kind, _ in subject.attributes)
        if found != sorted(expected):
            raise RequestRejected(
                ProblemKind.WRONG_SUBJECT,
                "a device is named by a lone common name"
                if expected == [COMMON_NAME]
                else f"the subject of {profile.label} has other attributes",
            )
        if form.component is not None and component_of(subject) != form.component:
            raise RequestRejected(
                ProblemKind.WRONG_SUBJECT, f"the domain component of {profile.label} is {form.component}"
            )
        name = subject.cn or ""
    return profile.naming.check(name)


def component_of(subject: c509.Name) -> str | None:
    """Return the subject's domain component; None where there is none, or several."""
    found = [value for kind, value in subject.attributes if kind in (DOMAIN_COMPONENT, -DOMAIN_COMPONENT)]
    return found[0] if len(found) == 1 and isinstance(found[0], str) else None


def _read_alternative(certificate: c509.Certificate, profile: Profile) -> str:
    names: tuple[c509.GeneralName, ...] = certificate.extension(ExtensionId.SUBJECT_ALT_NAME) or ()
    if (
        certificate.subject.attributes
        or len(names) != 1
        or names[0].type != c509.GeneralNameType.HARDWARE_MODULE_NAME
    ):
        raise RequestRejected(
            ProblemKind.WRONG_SUBJECT, f"{profile.label} is named by one HardwareModuleName alone"
        )
    value = names[0].value
    assert isinstance(value, tuple)
    separator = "-" if profile.naming is Naming.EUI64 else ""
    return separator.join(f"{octet:02X}" for octet in value[1])
