"""What lint says: one sentence's worth per rule that is not kept."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is for whoever holds the certificate."""

    ERROR = "error"
    """Relying parties refuse it, or may: the requirement says so."""
    WARNING = "warning"
    """Relying parties take it, and something is lost: size, reach, or only our own profile's wish."""


class Rule(StrEnum):
    """What is judged; `Profile.requirements` names clauses by these words."""

    ENCODING = "encoding"
    FORM = "form"
    VERSION = "version"
    SERIAL = "serial"
    ALGORITHM = "algorithm"
    SIGNATURE_ALGORITHM = "signature-algorithm"
    PUBLIC_KEY = "public-key"
    ISSUER = "issuer"
    SIGNATURE = "signature"
    SUBJECT = "subject"
    NAME = "name"
    VALIDITY = "validity"
    KEY_USAGE = "key-usage"
    EXTENDED_KEY_USAGE = "extended-key-usage"
    BASIC_CONSTRAINTS = "basic-constraints"
    PATH_LENGTH = "path-length"
    KEY_IDENTIFIERS = "key-identifiers"
    CRITICAL = "critical"
    POLICIES = "policies"
    REVOCATION_POINTERS = "revocation-pointers"
    EXTENSIONS = "extensions"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class Deviation:
    """One way in which a certificate is not as its profile says."""

    rule: Rule
    requirement: str
    """Clause or requirement that asks for it; where no standard does, the profile and its version."""
    found: str
    """In words. Text that the certificate's writer chose is in it as it is: escape it for a terminal."""
    expected: str
    severity: Severity = Severity.ERROR

    @property
    def is_error(self) -> bool:
        """Whether relying parties refuse the certificate for it."""
        return self.severity is Severity.ERROR

    def __str__(self) -> str:
        return f"{self.rule}: {self.found}; expected {self.expected} [{self.requirement}]"
