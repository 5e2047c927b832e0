"""What a profile declares. Adding a label is adding one `Profile`; no code elsewhere knows a label.

A profile overrules the request: the authority takes from it the public key alone, and the name that the
signing certificate proves. Names, usages, extensions and validity are the profile's.
"""

import re
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from protocol.cose import Algorithm
from protocol.errors import ProblemKind, RequestRejected
from protocol.labels import Domain, Operation, Tier


class Form(IntEnum):
    """What the authority signs; the number is the C509 type on the wire."""

    NATIVE = 2
    """C509 native: the CBOR is signed; there is no DER."""
    X509 = 3
    """X.509: the DER is signed, C509 carries it re-encoded."""


class Naming(Enum):
    """How a device of this label is named in its certificates' common name."""

    SYSTEM_TITLE = "system title: 16 upper-case hex digits, the first three bytes the maker's FLAG id"
    EUI64 = "EUI-64: HH-HH-HH-HH-HH-HH-HH-HH, upper-case hex digits"

    def check(self, name: str) -> str:
        """Return `name` if it is of this grammar.

        Raises:
            RequestRejected: It is not; WRONG_SUBJECT.
        """
        if not _GRAMMAR[self].fullmatch(name):
            raise RequestRejected(ProblemKind.WRONG_SUBJECT, f"{name!r} is no {self.value}")
        return name


_GRAMMAR: Final = {
    Naming.SYSTEM_TITLE: re.compile(r"[0-9A-F]{16}"),
    Naming.EUI64: re.compile(r"[0-9A-F]{2}(-[0-9A-F]{2}){7}"),
}


class KeyUsage(IntEnum):
    """Bits of keyUsage as C509 sums them: bit i of RFC 5280 §4.2.1.3 is 2^i."""

    DIGITAL_SIGNATURE = 1
    KEY_AGREEMENT = 16
    KEY_CERT_SIGN = 32
    CRL_SIGN = 64


DAY: Final = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One label: which certificate it gives, to whom, and who opens its doors."""

    label: str
    number: int
    """Last arc of the label's policy OID; >= 1, never reused."""
    domain: Domain
    tier: Tier
    form: Form
    naming: Naming
    opened_by: tuple[str, ...] = ()
    """Labels of the certificates, of the same device, that sign `sen`; empty: factory only."""
    rekeyed_by: str | None = None
    """Label of the certificate that signs `sren` and `rev`: its own label, or the one above it."""
    confirmed_by: str | None = None
    """Label of the certificate that signs `conf`; its own label means the new certificate itself."""
    algorithms: tuple[Algorithm, ...] = (Algorithm.ES256,)
    """Key types a request may bring, by the algorithm each is used with."""
    key_usage: int = KeyUsage.DIGITAL_SIGNATURE
    """Sum of `KeyUsage` bits; critical in the certificate."""
    extended_key_usage: tuple[int, ...] = ()
    """Registered C509 numbers of extended key usages (1 serverAuth, 2 clientAuth)."""
    has_key_identifiers: bool = False
    """Whether certificates carry authority and subject key identifiers (20 bytes each)."""
    validity: int | None = None
    """Seconds; None: no expiry (99991231235959Z)."""
    renew_after: float = 0.8
    """Part of the validity after which a device asks for the next."""
    backdate: int = 300
    """Seconds by which notBefore lies before issuance, for receivers whose clock is behind."""
    policies: tuple[str, ...] = ()
    """Certificate policies in the certificate itself, dotted; none keeps it small."""

    def __post_init__(self) -> None:
        if bool(self.opened_by) != (self.rekeyed_by is not None) or bool(self.opened_by) != (
            self.confirmed_by is not None
        ):
            raise ValueError(f"{self.label}: a label that opens over the air says who rekeys and confirms")
        if self.tier is Tier.BOOTSTRAPPING and self.opened_by:
            raise ValueError(f"{self.label}: tier 1 comes from the factory only")

    @property
    def is_over_the_air(self) -> bool:
        """Whether the label can be asked for at all; tier 1 comes from the factory."""
        return bool(self.opened_by)

    @property
    def signs(self) -> bool:
        """Whether a key of this label may sign messages and requests."""
        return bool(self.key_usage & KeyUsage.DIGITAL_SIGNATURE)

    def signers_of(self, op: Operation) -> tuple[str, ...]:
        """Return the labels whose certificates sign `op` for this label; empty: nobody may."""
        match op:
            case Operation.SEN:
                return self.opened_by
            case Operation.SREN | Operation.REV:
                return () if self.rekeyed_by is None else (self.rekeyed_by,)
            case Operation.CONF:
                return () if self.confirmed_by is None else (self.confirmed_by,)
            case _:
                return ()
