"""How findings are said: which certificate, what is wrong with it, and which requirement asks for it."""

from typing import Final

from protocol import c509
from protocol.validator.policy import Policy
from protocol.validator.reasons import Finding, Reason

_MAX_SUBJECT_CHARS: Final = 80
Complaint = tuple[Reason, str]
"""A reason, and what a sentence says of the certificate after naming it."""


def findings_of(
    place: str, certificate: c509.Certificate, complaints: list[Complaint], policy: Policy
) -> list[Finding]:
    """Return `complaints` as findings: each names the certificate, the policy and the requirement."""
    if not complaints:
        return []
    named = described(certificate, place)
    found: list[Finding] = []
    for reason, words in complaints:
        source = policy.sources.get(reason)
        requirement = f" ({source})" if source else ""
        found.append(Finding(reason, f"{policy.name}: {named} {words}{requirement}"))
    return found


def place_of(index: int, *, is_root: bool = False) -> str:
    """Return words for a place on a path; the leaf is 0."""
    if is_root:
        return "the root"
    return f"CA {index} above the leaf" if index else "the leaf"


def printable(text: str) -> str:
    """Return `text`, which a peer chose, short and fit for a line of a log."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[: _MAX_SUBJECT_CHARS + 1])
    return shown if len(shown) <= _MAX_SUBJECT_CHARS else shown[: _MAX_SUBJECT_CHARS - 1] + "…"


def described(certificate: c509.Certificate, place: str) -> str:
    """Return how a sentence names a certificate: its place on the path and its subject."""
    subject = certificate.subject.text if certificate.subject.attributes else "empty subject"
    return f"{place} ({printable(subject)})"
