"""What a relying party asks of a certificate and of the path above it.

A `Policy` is data. It says what the leaf must be, what its issuers must be, and how much work one
validation may cost; `protocol.validator.validate` does the rest and knows no standard by name.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from protocol import c509
from protocol.c509 import ExtensionId, KeyUsage, PublicKeyAlgorithm
from protocol.validator.reasons import Reason
from protocol.validator.signatures import COMPUTABLE, P256_SHA256, Suite

ALL_USAGES: Final = 0x1FF
"""Every bit of the key usage extension."""
MAX_CANDIDATES: Final = 256
"""Longest pool of candidates: a peer sends at most a few CA certificates, a store of all sub-CAs of a
scheme has dozens; indexing this many takes a fraction of a millisecond."""


class Presence(Enum):
    """Whether an extension is there."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    FORBIDDEN = "forbidden"


class Criticality(Enum):
    """Whether an extension that is there is critical."""

    MUST = "must be critical"
    MAY = "may be critical"
    MUST_NOT = "must not be critical"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is asked of one extension. A rule that lets it be critical also says that it is understood."""

    presence: Presence = Presence.OPTIONAL
    critical: Criticality = Criticality.MUST_NOT


@dataclass(frozen=True, slots=True)
class Extensions:
    """What is asked of the extensions of one kind of certificate."""

    rules: Mapping[int | bytes, Rule] = field(default_factory=dict[int | bytes, Rule])
    """By `ExtensionId` or object identifier."""
    others: bool = True
    """Whether there may be extensions without a rule; critical ones only if they are understood anyway."""
    one_of: tuple[frozenset[int | bytes], ...] = ()
    """Of each of these at least one is there."""


class LeafConstraints(Enum):
    """What basic constraints a leaf has. A CA is never a leaf."""

    ABSENT = "absent"
    CA_FALSE = "present, CA:FALSE"
    EITHER = "absent, or CA:FALSE"


@dataclass(frozen=True, slots=True)
class Grammar:
    """How a name is spelled."""

    words: str
    """For people: "PCID: 17 or 18 letters and digits"."""
    pattern: re.Pattern[str]
    """Matches the whole name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is asked of the leaf's subject."""

    common_name: Grammar | None = None
    """Grammar of the one common name; None: any, or none at all."""
    required: frozenset[int] = frozenset()
    """`AttributeType`s that are there, once each."""
    permitted: frozenset[int] | None = None
    """The only attribute types that may be there, once each; None: any."""
    empty: bool = False
    """Whether the subject is empty, and a critical subject alternative name stands for it."""
    check: Callable[[c509.Certificate], str | None] | None = None
    """Anything else: returns what is wrong with the certificate's names, or None. Raises nothing."""


@dataclass(frozen=True, slots=True)
class Role:
    """A role that the subject's domain component names (DC=CPS)."""

    values: frozenset[str]
    """The roles that will do; compared exactly."""
    required: bool = True
    """Whether the attribute must be there; one that is there is always one of `values`, and the only one."""
    attribute: int = c509.AttributeType.DOMAIN_COMPONENT

    @classmethod
    def of(cls, *values: str, required: bool = True) -> "Role":
        """Return the role that is one of `values`."""
        return cls(frozenset(values), required)


CA_EXTENSIONS: Final = Extensions(
    {
        ExtensionId.BASIC_CONSTRAINTS: Rule(Presence.REQUIRED, Criticality.MUST),
        ExtensionId.KEY_USAGE: Rule(Presence.REQUIRED, Criticality.MAY),
    }
)
"""What RFC 5280 §4.2.1.3 and §4.2.1.9 ask of every CA."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is asked of a path, from the leaf up. The defaults are RFC 5280's, with P-256 and no role."""

    name: str
    """For sentences: "ev-secc (ISO 15118-2)"."""

    # --- the leaf ---
    form: int | None = c509.REENCODED
    """C509 type of the leaf; None: either."""
    leaf_keys: frozenset[int] = frozenset({PublicKeyAlgorithm.P256})
    """`PublicKeyAlgorithm`s that the leaf's key may be of."""
    key_usage: int = int(KeyUsage.DIGITAL_SIGNATURE)
    """Sum of the `KeyUsage` bits that must be set."""
    key_usage_forbidden: int | None = None
    """Sum of those that must not be set; None: all the others."""
    extended_key_usage: frozenset[int | bytes] | None = frozenset()
    """Exactly these `KeyPurpose`s and object identifiers; empty: none at all; None: any."""
    basic_constraints: LeafConstraints = LeafConstraints.EITHER
    subject: Subject = Subject()
    role: Role | None = None
    extensions: Extensions = Extensions()
    policies: frozenset[str] = frozenset()
    """Dotted object identifiers of certificate policies that the leaf lists, among others perhaps."""
    key_identifier_bytes: frozenset[int] | None = None
    """Lengths that the leaf's subject key identifier may have (8: RFC 5280's method 2); None: any."""

    # --- the CAs ---
    suites: frozenset[Suite] = frozenset({P256_SHA256})
    """Which keys may have signed a certificate of the path, and with what."""
    signers: Mapping[int, frozenset[int]] = field(default_factory=dict[int, frozenset[int]])
    """Curve rule: for a leaf's key algorithm those that its issuer's key may be of; not listed: any."""
    ca_key_usage: int = int(KeyUsage.KEY_CERT_SIGN)
    """Sum of the `KeyUsage` bits that every CA must have."""
    ca_role: Role | None = None
    """Role of every CA between root and leaf."""
    ca_extensions: Extensions = CA_EXTENSIONS
    exact_path_lengths: bool = False
    """Whether a CA between root and leaf says exactly how many CAs are below it."""
    root_role: Role | None = None
    root_extensions: Extensions = CA_EXTENSIONS
    label: str | None = None
    """Every CA below the root, and whoever issues the leaf, lists this label's policy object identifier."""

    # --- the path ---
    max_der: int | None = None
    """Longest encoding of the leaf and of each CA below the root, in bytes."""
    min_intermediates: int = 0
    max_intermediates: int = 3
    needs_time: bool = False
    """Whether a path of which it is unknown if it is valid now is refused."""
    needs_status: bool = False
    """Whether a certificate of which it is unknown if it is revoked is refused."""
    max_checks: int = 32
    """Most signature checks for one path. An honest pool needs one for each certificate, and one more for
    each other CA with the issuer's name and key identifier (ten roots may share a name)."""
    check: Callable[[tuple[c509.Certificate, ...]], str | None] | None = None
    """Anything else about a whole path, the leaf first, verified but for this: returns why the issuers may
    not give the leaf its name, or None. Raises nothing."""
    sources: Mapping[Reason, str] = field(default_factory=dict[Reason, str])
    """Requirements that sentences end with: {Reason.ROLE: "[V2G2-925]"}."""

    def __post_init__(self) -> None:
        if not self.suites <= COMPUTABLE:
            raise ValueError(f"{self.name}: a suite that cannot be verified here")
        if not 0 <= self.min_intermediates <= self.max_intermediates:
            raise ValueError(f"{self.name}: no path has so many intermediates")
        if self.max_checks < 1:
            raise ValueError(f"{self.name}: a path needs a signature check")

    @property
    def forbidden_usages(self) -> int:
        """Sum of the `KeyUsage` bits that the leaf must not have."""
        if self.key_usage_forbidden is None:
            return ALL_USAGES & ~self.key_usage
        return self.key_usage_forbidden
