"""Why a path is refused: one enumerated value and one sentence each."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from protocol.errors import ProblemKind, RequestRejected

MAX_FINDINGS: Final = 16
"""Most findings of one refusal: it is read by people and logged, and its causes are a peer's bytes."""


class Reason(Enum):
    """What is wrong. The words are stable: logs and tests may count them."""

    FORM = "form"
    """Native where X.509 is asked for, or the other way round."""
    TOO_LARGE = "too large"
    SERIAL = "serial number"
    """Longer than 20 octets."""
    KEY_ALGORITHM = "key algorithm"
    """The leaf's key is of a kind that the policy does not list."""
    BAD_KEY = "bad key"
    """Not on its curve, too short, or not loadable."""
    SUBJECT = "subject"
    ROLE = "role"
    """The subject attribute that names the role is missing, another, or there twice."""
    KEY_USAGE = "key usage"
    EXTENDED_KEY_USAGE = "extended key usage"
    POLICIES = "certificate policies"
    LEAF_IS_CA = "leaf is a CA"
    BASIC_CONSTRAINTS = "basic constraints"
    NOT_A_CA = "not a CA"
    EXTENSION_MISSING = "extension missing"
    EXTENSION_FORBIDDEN = "extension forbidden"
    EXTENSION_REPEATED = "extension repeated"
    EXTENSION_UNREADABLE = "extension unreadable"
    """One that decides something here, and is not in its one DER form."""
    CRITICALITY = "criticality"
    UNHANDLED_CRITICAL = "unhandled critical extension"
    UNHANDLED_CONSTRAINT = "unhandled constraint"
    """A constraint on whole paths that nobody here enforces: better no path than a wrong one."""
    KEY_IDENTIFIER = "key identifier"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    CLOCK_UNKNOWN = "clock unknown"
    """The policy needs the time and there is no clock; this is not `EXPIRED`."""
    CLOCK_WRONG = "clock wrong"
    """The clock is behind what was verified to be past already; this is not `NOT_YET_VALID`."""
    NO_ISSUER = "no issuer"
    ISSUER_NAME = "issuer name"
    """The key identifier finds an issuer, which has another name than the certificate says."""
    BAD_SIGNATURE = "bad signature"
    ALGORITHM = "signature algorithm"
    """A combination of issuer's key and signature algorithm that the policy does not list."""
    CURVE = "curve"
    """The leaf's key must not be certified by a key of the issuer's kind."""
    PATH_LENGTH = "path length"
    """A CA on the path permits fewer CAs below it, or does not say its exact position."""
    PATH_TOO_LONG = "path too long"
    PATH_TOO_SHORT = "path too short"
    LOOP = "loop"
    NOT_A_ROOT = "not a root"
    LABEL = "label"
    """A CA on the path is not permitted to issue the label."""
    NAME_NOT_PERMITTED = "name not permitted"
    """The name is another's to give than the CAs' on the path."""
    REVOKED = "revoked"
    STATUS_UNKNOWN = "status unknown"
    TOO_MANY_CANDIDATES = "too many candidates"
    TOO_MANY_CHECKS = "too many checks"


PROBLEMS: Final[dict[Reason, ProblemKind]] = {
    Reason.FORM: ProblemKind.WRONG_SIGNER,
    Reason.TOO_LARGE: ProblemKind.TOO_LARGE,
    Reason.SERIAL: ProblemKind.WRONG_SIGNER,
    Reason.KEY_ALGORITHM: ProblemKind.BAD_KEY,
    Reason.BAD_KEY: ProblemKind.BAD_KEY,
    Reason.SUBJECT: ProblemKind.WRONG_SUBJECT,
    Reason.ROLE: ProblemKind.WRONG_SUBJECT,
    Reason.KEY_USAGE: ProblemKind.WRONG_SIGNER,
    Reason.EXTENDED_KEY_USAGE: ProblemKind.WRONG_SIGNER,
    Reason.POLICIES: ProblemKind.WRONG_SIGNER,
    Reason.LEAF_IS_CA: ProblemKind.WRONG_SIGNER,
    Reason.BASIC_CONSTRAINTS: ProblemKind.WRONG_SIGNER,
    Reason.NOT_A_CA: ProblemKind.WRONG_SIGNER,
    Reason.EXTENSION_MISSING: ProblemKind.WRONG_SIGNER,
    Reason.EXTENSION_FORBIDDEN: ProblemKind.WRONG_SIGNER,
    Reason.EXTENSION_REPEATED: ProblemKind.WRONG_SIGNER,
    Reason.EXTENSION_UNREADABLE: ProblemKind.WRONG_SIGNER,
    Reason.CRITICALITY: ProblemKind.WRONG_SIGNER,
    Reason.UNHANDLED_CRITICAL: ProblemKind.WRONG_SIGNER,
    Reason.UNHANDLED_CONSTRAINT: ProblemKind.WRONG_SIGNER,
    Reason.KEY_IDENTIFIER: ProblemKind.WRONG_SIGNER,
    Reason.EXPIRED: ProblemKind.SIGNER_EXPIRED,
    Reason.NOT_YET_VALID: ProblemKind.SIGNER_NOT_YET_VALID,
    Reason.CLOCK_UNKNOWN: ProblemKind.UNAVAILABLE,
    Reason.CLOCK_WRONG: ProblemKind.UNAVAILABLE,
    Reason.NO_ISSUER: ProblemKind.UNKNOWN_SIGNER,
    Reason.ISSUER_NAME: ProblemKind.WRONG_SIGNER,
    Reason.BAD_SIGNATURE: ProblemKind.BAD_SIGNATURE,
    Reason.ALGORITHM: ProblemKind.BAD_KEY,
    Reason.CURVE: ProblemKind.BAD_KEY,
    Reason.PATH_LENGTH: ProblemKind.WRONG_SIGNER,
    Reason.PATH_TOO_LONG: ProblemKind.WRONG_SIGNER,
    Reason.PATH_TOO_SHORT: ProblemKind.WRONG_SIGNER,
    Reason.LOOP: ProblemKind.WRONG_SIGNER,
    Reason.NOT_A_ROOT: ProblemKind.WRONG_SIGNER,
    Reason.LABEL: ProblemKind.WRONG_SIGNER,
    Reason.NAME_NOT_PERMITTED: ProblemKind.WRONG_SUBJECT,
    Reason.REVOKED: ProblemKind.SIGNER_REVOKED,
    Reason.STATUS_UNKNOWN: ProblemKind.UNAVAILABLE,
    Reason.TOO_MANY_CANDIDATES: ProblemKind.TOO_LARGE,
    Reason.TOO_MANY_CHECKS: ProblemKind.WRONG_SIGNER,
}
"""What goes on the wire for each. What our own side lacks (a clock, a revocation list) is UNAVAILABLE: the
same path may be taken later."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with one certificate."""

    reason: Reason
    sentence: str
    """Names the certificate and the requirement. For people; printable, whatever the certificate holds."""

    def __str__(self) -> str:
        return self.sentence


class PathRejected(RequestRejected):
    """No path that the policy accepts.

    Attributes:
        findings: What is wrong, at least one and at most `MAX_FINDINGS`. Of several ways to build a
            path, those that came furthest tell.
    """

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(dict.fromkeys(findings))[:MAX_FINDINGS]
        super().__init__(PROBLEMS[self.findings[0].reason], "; ".join(map(str, self.findings)))

    @property
    def reasons(self) -> frozenset[Reason]:
        """The reasons without their sentences."""
        return frozenset(finding.reason for finding in self.findings)
