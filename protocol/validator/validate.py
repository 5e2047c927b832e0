"""Validate a certificate: the leaf by itself, then a path to a root."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from protocol import c509
from protocol.errors import MalformedMessage
from protocol.validator.leaf import leaf_findings
from protocol.validator.period import usable
from protocol.validator.policy import MAX_CANDIDATES, Policy
from protocol.validator.reasons import Finding, PathRejected, Reason
from protocol.validator.search import IsRevoked, Search
from protocol.validator.sentences import findings_of
from protocol.validity import Clock, Verdict


@dataclass(frozen=True, slots=True)
class Path:
    """A path that was verified."""

    certificates: tuple[c509.Certificate, ...]
    """The leaf first, the root last."""
    public_key: PublicKeyTypes
    """The leaf's."""
    verdict: Verdict
    """VALID, or TIME_UNKNOWN where a certificate of the path may not be valid now."""
    latest_not_before: int
    """POSIX seconds: the latest notBefore of the path. It is later now, if the CAs do not post-date:
    `clock.at_least(path.latest_not_before)`."""
    unknown_status: tuple[c509.Certificate, ...]
    """Certificates of which nobody knew if they are revoked; without a hook all but the root."""

    @property
    def leaf(self) -> c509.Certificate:
        """The certificate that was asked about."""
        return self.certificates[0]

    @property
    def intermediates(self) -> tuple[c509.Certificate, ...]:
        """The CAs between leaf and root, the leaf's issuer first."""
        return self.certificates[1:-1]

    @property
    def root(self) -> c509.Certificate:
        """The trust anchor."""
        return self.certificates[-1]


def validate(
    leaf: c509.Certificate,
    candidates: Iterable[c509.Certificate],
    roots: Iterable[c509.Certificate],
    *,
    policy: Policy,
    clock: Clock,
    is_revoked: IsRevoked | None = None,
) -> Path:
    """Return a path from `leaf` to one of `roots` that `policy` accepts.

    The order of checks is the order of cost: the leaf by itself, then for each issuer names and form, and
    only then a signature. Names are compared as they are encoded (RFC 5280 §4.1.2.6 has issuers copy their
    subject); roots are trusted because they are given, so their own signature is not checked, but
    everything else is: a root that has expired or is no CA's ends no path.

    Args:
        leaf: The certificate in question, X.509 (`c509.from_der`) or native.
        candidates: CA certificates that may be between, in any order; nobody vouches for them. At most
            `MAX_CANDIDATES`; roots and strangers among them do no harm.
        roots: Trust anchors. Several may have one subject.
        policy: What is asked.
        clock: What is known of the time. A wall clock that is behind `clock.floor` counts as none.
        is_revoked: Asked for each verified certificate below the root.

    Raises:
        PathRejected: There is none; every reason with a sentence. No other exception leaves, but what
            `is_revoked` raises.

    Source:
        RFC 5280 §6.1, RFC 4158 §2.
    """
    wrong = leaf_findings(leaf, policy, clock)
    if wrong:
        raise PathRejected(wrong)
    pool = tuple(islice(candidates, MAX_CANDIDATES + 1))
    if len(pool) > MAX_CANDIDATES:
        words = f"{policy.name}: a pool of more than {MAX_CANDIDATES} candidates"
        raise PathRejected([Finding(Reason.TOO_MANY_CANDIDATES, words)])
    search = Search(pool, roots, policy, clock, is_revoked)
    path = search.path_from((leaf,))
    if path is None:
        raise PathRejected(search.findings)
    try:
        key = leaf.load_public_key()
    except MalformedMessage as error:
        complaint = (Reason.BAD_KEY, f"has a bad public key: {error}")
        raise PathRejected(findings_of("the leaf", leaf, [complaint], policy)) from None
    return Path(
        path,
        key,
        _verdict(path, clock),
        max(certificate.not_before for certificate in path),
        tuple(certificate for certificate in path if certificate in search.unknown),
    )


def _verdict(path: tuple[c509.Certificate, ...], clock: Clock) -> Verdict:
    known = usable(clock)
    if all(known.judge(one.not_before, one.not_after) is Verdict.VALID for one in path):
        return Verdict.VALID
    return Verdict.TIME_UNKNOWN
