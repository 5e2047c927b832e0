"""Labels of smart metering (IEC 62056 DLMS/COSEM): one key and one certificate per purpose.

Both security suites have the same labels; suite 2 says so with a 2. Clients of a meter (head-ends and third
parties) have system titles and certificates of their own. What the clauses ask for is in `_REQUIREMENTS`,
by lint rule; Green Book numbers, edition 9 and later.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from protocol.c509 import ExtensionId, KeyUsage
from protocol.cose import Algorithm
from protocol.labels import Domain, Tier
from protocol.profiles.declaration import DAY, POLICY_ARC, Form, Profile
from protocol.profiles.naming import Naming

_REQUIREMENTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "algorithm": "Green Book 9.2.6.4, security suite",
        "subject": "Green Book 9.2.6.4, naming: the common name is the system title",
        "key-usage": "Green Book 9.2.6.4, key usage per purpose",
        "extended-key-usage": "Green Book 9.2.6.4, extended key usage for TLS alone",
        "basic-constraints": "Green Book 9.2.6.4, no basic constraints in an end entity",
        "key-identifiers": "Green Book 9.2.6.4, key identifiers by method 1 or 2",
        "critical": "Green Book 9.2.6.4, key usage alone is critical",
        "policies": "Green Book 9.2.6.4, certificate policies for TLS",
        "extensions": "Green Book 9.2.6.4, no issuer alternative name and no CRL places in an end entity",
    }
)
_BOTH: Final = KeyUsage.DIGITAL_SIGNATURE | KeyUsage.KEY_AGREEMENT
_OPTIONAL: Final = frozenset({ExtensionId.CERTIFICATE_POLICIES, ExtensionId.SUBJECT_ALT_NAME})
_FORBIDDEN: Final = frozenset({ExtensionId.ISSUER_ALT_NAME, ExtensionId.CRL_DISTRIBUTION_POINTS})
_VALIDITY: Final = 3 * 365 * DAY


def _bootstrap(domain: Domain, label: str, number: int, algorithm: Algorithm) -> Profile:
    return Profile(
        label=label,
        number=number,
        domain=domain,
        tier=Tier.BOOTSTRAPPING,
        form=Form.X509,
        naming=Naming.SYSTEM_TITLE,
        algorithms=(algorithm,),
        key_identifier_bytes=20,
        optional=_OPTIONAL,
        forbidden=_FORBIDDEN,
        requirements=_REQUIREMENTS,
    )


def _purposes(
    domain: Domain, holder: str, number: int, algorithm: Algorithm
) -> tuple[Profile, Profile, Profile]:
    """Return the three certificates of one holder: signature, key agreement, TLS."""
    ds = Profile(
        label=f"{holder}-ds",
        number=number,
        domain=domain,
        tier=Tier.PARTICIPATION,
        form=Form.X509,
        naming=Naming.SYSTEM_TITLE,
        opened_by=(f"{holder}-boot",),
        rekeyed_by=f"{holder}-ds",
        confirmed_by=f"{holder}-ds",
        algorithms=(algorithm,),
        signs_messages=True,
        key_identifier_bytes=20,
        optional=_OPTIONAL,
        forbidden=_FORBIDDEN,
        validity=_VALIDITY,
        requirements=_REQUIREMENTS,
    )
    ka = Profile(
        label=f"{holder}-ka",
        number=number + 1,
        domain=domain,
        tier=Tier.PARTICIPATION,
        form=Form.X509,
        naming=Naming.SYSTEM_TITLE,
        # A key-agreement key cannot sign: the device's own signature certificate speaks for it.
        opened_by=(ds.label,),
        rekeyed_by=ds.label,
        confirmed_by=ds.label,
        algorithms=(algorithm,),
        key_usage=KeyUsage.KEY_AGREEMENT,
        key_identifier_bytes=20,
        optional=_OPTIONAL,
        forbidden=_FORBIDDEN,
        validity=_VALIDITY,
        requirements=_REQUIREMENTS,
    )
    tls = Profile(
        label=f"{holder}-tls",
        number=number + 2,
        domain=domain,
        tier=Tier.PARTICIPATION,
        form=Form.X509,
        naming=Naming.SYSTEM_TITLE,
        opened_by=(ds.label,),
        rekeyed_by=ds.label,
        confirmed_by=ds.label,
        algorithms=(algorithm,),
        key_usage=_BOTH,
        extended_key_usage=(1, 2),
        key_identifier_bytes=20,
        optional=_OPTIONAL,
        forbidden=_FORBIDDEN,
        policies=(f"{POLICY_ARC}.{number + 2}",),
        validity=_VALIDITY,
        requirements=_REQUIREMENTS,
    )
    return ds, ka, tls


def _session(domain: Domain, holder: str, number: int, algorithm: Algorithm) -> Profile:
    """Return the label of a meter's short-lived certificate, for messages alone: every byte counts."""
    return Profile(
        label=f"{holder}-session",
        number=number,
        domain=domain,
        tier=Tier.ADDED_VALUE,
        form=Form.NATIVE,
        naming=Naming.SYSTEM_TITLE,
        opened_by=(f"{holder}-ds",),
        rekeyed_by=f"{holder}-session",
        confirmed_by=f"{holder}-session",
        algorithms=(algorithm,),
        signs_messages=True,
        validity=7 * DAY,
    )


PROFILES: Final = (
    _bootstrap(Domain.METERING, "meter-boot", 1, Algorithm.ES256),
    *_purposes(Domain.METERING, "meter", 2, Algorithm.ES256),
    _session(Domain.METERING, "meter", 5, Algorithm.ES256),
    _bootstrap(Domain.METERING, "client-boot", 6, Algorithm.ES256),
    *_purposes(Domain.METERING, "client", 7, Algorithm.ES256),
    _bootstrap(Domain.METERING2, "meter2-boot", 11, Algorithm.ES384),
    *_purposes(Domain.METERING2, "meter2", 12, Algorithm.ES384),
    _session(Domain.METERING2, "meter2", 15, Algorithm.ES384),
    _bootstrap(Domain.METERING2, "client2-boot", 16, Algorithm.ES384),
    *_purposes(Domain.METERING2, "client2", 17, Algorithm.ES384),
)
