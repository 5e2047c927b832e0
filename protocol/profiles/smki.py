"""Labels of Great Britain's meters (SMKI, GBCS): a profile of its own beside IEC 62056.

The subject is empty; the name stands in a critical subjectAltName. Key identifiers have 8 bytes, policies
are critical, and certificates do not end: a device is re-keyed when its owner says so.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from protocol.c509 import ExtensionId, KeyUsage
from protocol.labels import Domain, Tier
from protocol.profiles.declaration import POLICY_ARC, Form, Profile
from protocol.profiles.naming import Naming, SubjectForm

_REQUIREMENTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "algorithm": "GBCS 12: P-256 with SHA-256 only",
        "subject": "GBCS 12: empty subject, critical subjectAltName with the entity identifier",
        "key-usage": "GBCS 12: exactly one of digitalSignature and keyAgreement, critical",
        "key-identifiers": "GBCS 12: method 2, 8 bytes, not critical",
        "policies": "GBCS 12: a single policy, critical",
        "critical": "GBCS 12: key usage, policies and subjectAltName are critical",
        "validity": "GBCS 12: device certificates end on 99991231235959Z",
    }
)
_SUBJECT: Final = SubjectForm(is_alternative=True)
_CRITICAL: Final = frozenset({ExtensionId.CERTIFICATE_POLICIES, ExtensionId.SUBJECT_ALT_NAME})

SMKI_BOOT = Profile(
    label="smki-boot",
    number=22,
    domain=Domain.SMKI,
    tier=Tier.BOOTSTRAPPING,
    form=Form.X509,
    naming=Naming.EUI64,
    subject=_SUBJECT,
    key_identifier_bytes=8,
    policies=(f"{POLICY_ARC}.22",),
    critical=_CRITICAL,
    requirements=_REQUIREMENTS,
)
SMKI_DS = Profile(
    label="smki-ds",
    number=23,
    domain=Domain.SMKI,
    tier=Tier.PARTICIPATION,
    form=Form.X509,
    naming=Naming.EUI64,
    subject=_SUBJECT,
    opened_by=("smki-boot",),
    rekeyed_by="smki-ds",
    confirmed_by="smki-ds",
    signs_messages=True,
    key_identifier_bytes=8,
    policies=(f"{POLICY_ARC}.23",),
    critical=_CRITICAL,
    requirements=_REQUIREMENTS,
)
SMKI_KA = Profile(
    label="smki-ka",
    number=24,
    domain=Domain.SMKI,
    tier=Tier.PARTICIPATION,
    form=Form.X509,
    naming=Naming.EUI64,
    subject=_SUBJECT,
    opened_by=("smki-ds",),
    rekeyed_by="smki-ds",
    confirmed_by="smki-ds",
    key_usage=KeyUsage.KEY_AGREEMENT,
    key_identifier_bytes=8,
    policies=(f"{POLICY_ARC}.24",),
    critical=_CRITICAL,
    requirements=_REQUIREMENTS,
)
PROFILES: Final = (SMKI_BOOT, SMKI_DS, SMKI_KA)
