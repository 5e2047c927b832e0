"""What a profile declares. Adding a label is adding one `Profile`; no code elsewhere knows a label.

A profile overrules the request: the authority takes from it the public key alone, and the name that the
signing certificate proves. Names, usages, extensions and validity are the profile's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from protocol.c509 import ExtensionId, KeyUsage
from protocol.cose import Algorithm
from protocol.labels import Domain, Industry, Operation, Tier
from protocol.profiles.naming import LONE_COMMON_NAME, Naming, SubjectForm

POLICY_ARC: Final = "2.25.161999519730467352631162911968179934231"
"""Our arc of policy OIDs (ITU-T X.667: a UUID needs no registration): a CA certificate that lists
`POLICY_ARC.n` may issue certificates of the label whose number is n."""


class Form(IntEnum):
    """What the authority signs; the number is the C509 type on the wire."""

    NATIVE = 2
    """C509 native: the CBOR is signed; there is no DER."""
    X509 = 3
    """X.509: the DER is signed, C509 carries it re-encoded."""


DAY: Final = 24 * 3600
_ALWAYS_CRITICAL: Final = frozenset({ExtensionId.KEY_USAGE, ExtensionId.BASIC_CONSTRAINTS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One label: which certificate it gives, to whom, and who opens its doors."""

    label: str
    number: int
    """Last arc of the label's policy OID; >= 1, never reused."""
    version: int = 1
    """Grows whenever certificates of this label begin to look otherwise."""
    domain: Domain
    tier: Tier
    form: Form
    naming: Naming
    """How the certificate's holder is named."""
    subject: SubjectForm = LONE_COMMON_NAME
    is_granted_name: bool = False
    """The name is not the device's own but what the inventory grants it: a contract's eMAID."""
    opened_by: tuple[str, ...] = ()
    """Labels of the certificates, of the same device, that sign `sen` (or `skg`); empty: factory only."""
    rekeyed_by: str | None = None
    """Label of the certificate that signs `sren` (or `skg`) and `rev`: its own label, or the one above it."""
    confirmed_by: str | None = None
    """Label of the certificate that signs `conf`; its own label means the new certificate itself."""
    is_key_generated: bool = False
    """The authority makes the key pair and wraps the private key: `skg` in place of `sen` and `sren`."""
    vouched_by: str | None = None
    """Label, of another domain, of the certificate that signs the package in which a generated key comes."""
    algorithms: tuple[Algorithm, ...] = (Algorithm.ES256,)
    """Key types a request may bring, by the algorithm each is used with."""
    key_usage: int = KeyUsage.DIGITAL_SIGNATURE
    """Sum of `KeyUsage` bits; critical in the certificate."""
    signs_messages: bool = False
    """Whether signed messages (wire format of `protocol.message`) by its keys are taken."""
    extended_key_usage: tuple[int, ...] = ()
    """Registered C509 numbers of extended key usages (1 serverAuth, 2 clientAuth)."""
    has_basic_constraints: bool = False
    """Whether CA:FALSE is said (critical), or no basic constraints are there at all."""
    key_identifier_bytes: int = 0
    """Length of the authority and subject key identifiers: 20 (RFC 5280 §4.2.1.2 method 1), 8 (method 2),
    or 0 for none."""
    has_revocation_pointers: bool = False
    """Whether it says where OCSP (authority information access) and CRL (distribution points) are."""
    critical: frozenset[ExtensionId] = frozenset()
    """Extensions that are critical besides key usage and basic constraints."""
    optional: frozenset[ExtensionId] = frozenset()
    """Extensions that others may have besides; our issuers leave them out."""
    forbidden: frozenset[ExtensionId] = frozenset()
    """Extensions that the standard rules out, besides those that other fields do."""
    is_closed: bool = False
    """Relying parties reject any extension or attribute that is not declared here (or optional)."""
    policies: tuple[str, ...] = ()
    """Certificate policies in the certificate itself, dotted; none keeps it small."""
    max_der: int | None = None
    """Most bytes of the DER form that relying parties read; None: no limit is known."""
    validity: int | None = None
    """Seconds; None: no expiry (99991231235959Z)."""
    renew_after: float = 0.8
    """Part of the validity after which a device asks for the next."""
    renew_spread: float = 0.1
    """Part of the validity over which a fleet that enrolled together spreads its renewals, from
    `renew_after` on."""
    backdate: int = 300
    """Seconds by which notBefore lies before issuance, for receivers whose clock is behind."""
    requirements: Mapping[str, str] = field(default_factory=dict[str, str], compare=False)
    """Where a rule stands: the name of a lint rule -> the clause or requirement that asks for it."""

    def __post_init__(self) -> None:
        if bool(self.opened_by) != (self.rekeyed_by is not None) or bool(self.opened_by) != (
            self.confirmed_by is not None
        ):
            raise ValueError(f"{self.label}: a label that opens over the air says who rekeys and confirms")
        if self.is_key_generated != (self.vouched_by is not None):
            raise ValueError(f"{self.label}: somebody vouches for a key that is generated, and for no other")
        if self.tier is Tier.BOOTSTRAPPING and self.opened_by:
            raise ValueError(f"{self.label}: tier 1 comes from the factory only")
        if self.key_identifier_bytes not in (0, 8, 20):
            raise ValueError(f"{self.label}: key identifiers of 8 or 20 bytes")
        if self.opened_by and self.validity is None and self.form is Form.NATIVE:
            raise ValueError(f"{self.label}: a service certificate ends")
        if not 0 < self.renew_after < self.renew_after + self.renew_spread < 1:
            raise ValueError(f"{self.label}: renewal begins and ends within the validity")

    @property
    def is_over_the_air(self) -> bool:
        """Whether the label can be asked for at all; tier 1 comes from the factory."""
        return bool(self.opened_by)

    @property
    def signs(self) -> bool:
        """Whether a key of this label may sign messages and requests."""
        return bool(self.key_usage & KeyUsage.DIGITAL_SIGNATURE)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """What can be asked under this label."""
        always = (Operation.CRTS, Operation.ATT, Operation.CRL)
        has_mail = self.signs_messages and self.domain.industry is Industry.METERING
        return tuple(
            op
            for op in Operation
            if op in always or self.signers_of(op) or (op is Operation.MAIL and has_mail)
        )

    def is_critical(self, extension: int) -> bool:
        """Return whether the extension of this registered number is critical."""
        return extension in _ALWAYS_CRITICAL or extension in self.critical

    def signers_of(self, op: Operation) -> tuple[str, ...]:
        """Return the labels whose certificates sign `op` for this label; empty: nobody may."""
        rekeyers = () if self.rekeyed_by is None else (self.rekeyed_by,)
        match op:
            case Operation.SEN:
                return () if self.is_key_generated else self.opened_by
            case Operation.SREN:
                return () if self.is_key_generated else rekeyers
            case Operation.SKG:
                return (*self.opened_by, *rekeyers) if self.is_key_generated else ()
            case Operation.REV:
                return rekeyers
            case Operation.CONF:
                return () if self.confirmed_by is None else (self.confirmed_by,)
            case _:
                return ()
