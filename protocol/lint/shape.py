"""What a certificate under a label looks like: all that rules know, derived from declarations alone.

Labels of end entities come from `protocol.profiles`, names of CAs from `protocol.profiles.authorities`; no
rule knows either by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from protocol.c509 import ExtensionId, KeyUsage, PublicKeyAlgorithm, SignatureAlgorithm
from protocol.cose import Algorithm
from protocol.exchange.request import KEY_ALGORITHMS, SIGNATURE_ALGORITHMS
from protocol.labels import Domain, Tier
from protocol.lint.deviation import Deviation, Rule, Severity
from protocol.profiles import Form, Naming, Profile
from protocol.profiles.authorities import lines_of

NOT_A_CA: Final = -2
"""Basic constraints CA:FALSE, as C509 has it."""
CA_WITHOUT_LIMIT: Final = -1
CA_USAGE: Final = int(KeyUsage.KEY_CERT_SIGN | KeyUsage.CRL_SIGN)
ALWAYS_CRITICAL: Final = frozenset({ExtensionId.KEY_USAGE, ExtensionId.BASIC_CONSTRAINTS})
_GENERAL: Final[Mapping[Rule, str]] = {
    Rule.ENCODING: "X.690 §10 (DER)",
    Rule.VERSION: "RFC 5280 §4.1.2.1",
    Rule.SERIAL: "RFC 5280 §4.1.2.2",
    Rule.ISSUER: "RFC 5280 §4.1.2.4",
    Rule.SIGNATURE: "RFC 5280 §4.1.1.3",
    Rule.PUBLIC_KEY: "RFC 5480 §2.2",
}
"""What asks for it of every certificate, where the profile names nothing."""
_SAME_CLAUSE: Final[Mapping[Rule, Rule]] = {
    Rule.SIGNATURE_ALGORITHM: Rule.ALGORITHM,
    Rule.PATH_LENGTH: Rule.BASIC_CONSTRAINTS,
    Rule.NAME: Rule.SUBJECT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is asked of a certificate."""

    label: str
    title: str
    """For people: what the standard calls it."""
    version: int = 1
    requirements: Mapping[str, str]
    form: Form = Form.X509
    is_authority: bool = False
    is_root: bool = False
    key_algorithms: frozenset[int]
    """Registered C509 numbers."""
    signature_algorithms: frozenset[int]
    """Of the issuer."""
    tolerated_signatures: frozenset[int] = frozenset()
    """Of issuers that the standard permits and our domain does not have."""
    naming: Naming | None = None
    """Grammar of the common name, or of what stands for it; None: any."""
    is_alternative: bool = False
    """The subject is empty and a HardwareModuleName has the name."""
    component: str | None = None
    has_organisation: bool = False
    has_country: bool = False
    key_usage: int
    extended_key_usage: frozenset[int] = frozenset()
    constraints: frozenset[int] = frozenset()
    """Basic constraints that will do; empty: none are there."""
    key_identifier_bytes: int
    has_revocation_pointers: bool
    critical: frozenset[ExtensionId]
    """Besides key usage and basic constraints."""
    optional: frozenset[ExtensionId] = frozenset()
    forbidden: frozenset[ExtensionId] = frozenset()
    is_closed: bool = False
    policies: frozenset[str] = frozenset()
    max_der: int | None
    validity: int | None
    """Seconds at most; None: no expiry."""
    least_validity: int = 0
    """Seconds at least."""
    source: str = field(init=False)
    """What asks for whatever no standard asks for."""

    def __post_init__(self) -> None:
        kind = "authority" if self.is_authority else "profile"
        object.__setattr__(self, "source", f"{kind} {self.label} version {self.version}")

    @classmethod
    def of(cls, profile: Profile) -> "Shape":
        """Return the shape of an end entity's certificate."""
        signatures = _signatures_of(profile)
        tolerated: frozenset[int] = frozenset()
        if profile.domain is Domain.METERING:
            # Green Book 9.2.6.4: a CA on either curve may certify a P-256 key.
            tolerated = frozenset({int(SignatureAlgorithm.ECDSA_SHA384)})
        return cls(
            label=profile.label,
            title=title_of(profile),
            version=profile.version,
            requirements=profile.requirements,
            form=profile.form,
            key_algorithms=frozenset(KEY_ALGORITHMS[algorithm] for algorithm in profile.algorithms),
            signature_algorithms=signatures,
            tolerated_signatures=tolerated,
            naming=profile.naming,
            is_alternative=profile.subject.is_alternative,
            component=profile.subject.component,
            has_organisation=profile.subject.has_organisation,
            has_country=profile.subject.has_country,
            key_usage=int(profile.key_usage),
            extended_key_usage=frozenset(profile.extended_key_usage),
            constraints=frozenset({NOT_A_CA} if profile.has_basic_constraints else ()),
            key_identifier_bytes=profile.key_identifier_bytes,
            has_revocation_pointers=profile.has_revocation_pointers,
            critical=profile.critical,
            optional=profile.optional,
            forbidden=profile.forbidden,
            is_closed=profile.is_closed,
            policies=frozenset(profile.policies),
            max_der=profile.max_der,
            # notBefore lies before issuance by this much, and the end is counted from issuance.
            validity=None if profile.validity is None else profile.validity + profile.backdate,
        )

    @property
    def declared(self) -> frozenset[ExtensionId]:
        """Extensions that are there."""
        wanted = {
            ExtensionId.KEY_USAGE: True,
            ExtensionId.BASIC_CONSTRAINTS: bool(self.constraints),
            ExtensionId.EXTENDED_KEY_USAGE: bool(self.extended_key_usage),
            ExtensionId.SUBJECT_ALT_NAME: self.is_alternative,
            ExtensionId.SUBJECT_KEY_IDENTIFIER: bool(self.key_identifier_bytes),
            ExtensionId.AUTHORITY_KEY_IDENTIFIER: bool(self.key_identifier_bytes),
            ExtensionId.AUTHORITY_INFO_ACCESS: self.has_revocation_pointers,
            ExtensionId.CRL_DISTRIBUTION_POINTS: self.has_revocation_pointers,
            ExtensionId.CERTIFICATE_POLICIES: bool(self.policies),
        }
        return frozenset(number for number, is_wanted in wanted.items() if is_wanted)

    def requirement(self, rule: Rule) -> str:
        """Return what asks for `rule`."""
        clause = self.requirements.get(rule) or self.requirements.get(_SAME_CLAUSE.get(rule, rule))
        return clause or _GENERAL.get(rule) or self.source

    def is_required(self, rule: Rule) -> bool:
        """Return whether a standard asks for `rule`, and not this profile alone."""
        return rule in self.requirements or _SAME_CLAUSE.get(rule, rule) in self.requirements

    def deviation(
        self,
        rule: Rule,
        found: str,
        expected: str,
        severity: Severity | None = Severity.ERROR,
        requirement: str | None = None,
    ) -> Deviation:
        """Return a deviation from this shape; severity None: an error where a standard asks for the rule."""
        if severity is None:
            severity = Severity.ERROR if self.is_required(rule) else Severity.WARNING
        return Deviation(rule, requirement or self.requirement(rule), found, expected, severity)


def _signatures_of(profile: Profile) -> frozenset[int]:
    lines = lines_of(profile.domain)
    issuer = (lines.maker if profile.tier is Tier.BOOTSTRAPPING else lines.operator)[-1]
    return frozenset({SIGNATURE_ALGORITHMS[issuer.algorithm]})


SIGNATURE_OF_KEY: Final[Mapping[int, int]] = {
    KEY_ALGORITHMS[algorithm]: SIGNATURE_ALGORITHMS[algorithm] for algorithm in Algorithm
}
"""Signature algorithm that a key of each kind signs with here."""
HALF_SIGNATURE: Final[Mapping[int, int]] = {
    SignatureAlgorithm.ECDSA_SHA256: 32,
    SignatureAlgorithm.ECDSA_SHA384: 48,
    SignatureAlgorithm.ECDSA_SHA512: 66,
}
"""Octets of r and of s by the curve that goes with each hash."""
CURVES: Final[Mapping[int, str]] = {
    PublicKeyAlgorithm.RSA: "RSA",
    PublicKeyAlgorithm.P256: "P-256",
    PublicKeyAlgorithm.P384: "P-384",
    PublicKeyAlgorithm.P521: "P-521",
    PublicKeyAlgorithm.ED25519: "Ed25519",
    PublicKeyAlgorithm.ED448: "Ed448",
}

_STANDARDS: Final[Mapping[Domain, str]] = {
    Domain.METERING: "IEC 62056",
    Domain.METERING2: "IEC 62056 suite 2",
    Domain.SMKI: "GB SMKI",
    Domain.EV_MO: "ISO 15118-2",
    Domain.EV_CPO: "ISO 15118-2",
    Domain.EV_CPS: "ISO 15118-2",
    Domain.EV20_MO: "ISO 15118-20",
    Domain.EV20_CPO: "ISO 15118-20",
    Domain.EV20_CPS: "ISO 15118-20",
    Domain.ITS: "vehicle-to-vehicle",
}
_PURPOSES: Final[Mapping[int, str]] = {
    int(KeyUsage.DIGITAL_SIGNATURE): "C(DataSign)",
    int(KeyUsage.KEY_AGREEMENT): "C(KeyAgree)",
    int(KeyUsage.DIGITAL_SIGNATURE | KeyUsage.KEY_AGREEMENT): "C(TLS)",
}
_HOLDERS: Final[Mapping[Naming, str]] = {
    Naming.PCID: "OEM provisioning",
    Naming.EMAID: "contract",
    Naming.SECCID: "SECC leaf",
    Naming.SERVICE: "CPS leaf",
}


def standard_of(domain: Domain) -> str:
    """Return the standard that a domain's certificates follow."""
    return _STANDARDS[domain]


def title_of(profile: Profile) -> str:
    """Return what a label's standard calls its certificate, for people."""
    standard = _STANDARDS[profile.domain]
    if profile.tier is Tier.BOOTSTRAPPING and profile.naming is not Naming.PCID:
        return f"{standard} bootstrapping"
    if profile.form is Form.NATIVE:
        return f"{standard} {'session' if profile.tier is Tier.ADDED_VALUE else 'enrollment'}"
    holder = _HOLDERS.get(profile.naming)
    return f"{standard} {holder or _PURPOSES.get(int(profile.key_usage), 'certificate')}"
