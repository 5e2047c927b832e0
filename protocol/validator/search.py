"""Find the path: from the leaf up, through an unordered pool, to one of several roots.

    leaf ──issuer name──▶ roots of that name, then candidates of that name ──▶ … ──▶ root

At each step the cheap questions come first: key identifier, suite, form, time; then the signature. The
search goes on to the next issuer where one does not lead to a root, so cross-certificates, rolled-over
keys and up to ten roots of one name are ordinary. It ends for certain: the depth is the policy's, no name
with the same key occurs twice on a path, and both signature checks and steps are counted.
"""

from collections.abc import Callable, Iterable
from typing import Final, cast

from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from protocol import c509
from protocol.c509 import PublicKeyAlgorithm
from protocol.cose import PublicKey
from protocol.errors import MalformedMessage
from protocol.validator.issuer import (
    authority_identifier,
    is_named_issuer,
    issuer_findings,
    key_identifier,
)
from protocol.validator.period import check_time, usable
from protocol.validator.policy import Policy
from protocol.validator.reasons import Finding, Reason
from protocol.validator.sentences import Complaint, described, findings_of, place_of, printable
from protocol.validator.signatures import is_signed_with, issuer_key, suite_name
from protocol.validity import Clock, Verdict
from protocol.voucher import key_identifier as spki_identifier

IsRevoked = Callable[[bytes, bytes], bool | None]
"""(SHA-256 of the issuer's SubjectPublicKeyInfo, serial number's octets) to revoked, not, or unknown."""
STEPS_PER_CHECK: Final = 8
"""Issuers that may be looked at for each signature check that is allowed: looking costs about an eighth."""

Certificates = tuple[c509.Certificate, ...]
ByName = dict[c509.Name, dict[c509.Certificate, None]]
"""Certificates by their subject: in the order given, each once."""
_LOOKED_AT: Final = 0
_TRIED: Final = 1
"""How far an attempt came with an issuer: some are only passed by, and tell nothing if another was tried."""


class Search:
    """One search; used once."""

    def __init__(
        self,
        candidates: Iterable[c509.Certificate],
        roots: Iterable[c509.Certificate],
        policy: Policy,
        clock: Clock,
        is_revoked: IsRevoked | None,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._is_revoked = is_revoked
        self._roots = _by_name(roots)
        anchors = {root for same in self._roots.values() for root in same}
        self._candidates = _by_name(found for found in candidates if found not in anchors)
        self._checks = 0
        self._steps = 0
        self._furthest = (-1, -1)
        self._exhausted: list[Finding] = []
        self._findings: list[Finding] = []
        self.unknown: set[c509.Certificate] = set()
        """Certificates that may be revoked or not."""

    @property
    def findings(self) -> list[Finding]:
        """What is wrong, by those attempts that came furthest."""
        return [*self._exhausted, *self._findings]

    def path_from(self, path: Certificates) -> Certificates | None:
        """Return the first whole path that begins with `path`, the leaf first; None if there is none."""
        child = path[-1]
        name = child.issuer_name
        above = len(path)  # place of the issuer; CAs between leaf and it: above - 1
        roots = self._roots.get(name, {})
        others = self._candidates.get(name, {})
        identifier = authority_identifier(child)
        if not roots and not others:
            self._no_issuer(path)
        for issuer in (*_likely_first(roots, identifier), *_likely_first(others, identifier)):
            is_root = issuer in roots
            if not is_root and above > self._policy.max_intermediates:
                words = f"would be CA number {above} of at most {self._policy.max_intermediates}"
                self._fail(path, _LOOKED_AT, issuer, (Reason.PATH_TOO_LONG, words))
            elif is_root and above - 1 < self._policy.min_intermediates:
                words = f"must not be reached by fewer than {self._policy.min_intermediates} CAs"
                self._fail(path, _LOOKED_AT, issuer, (Reason.PATH_TOO_SHORT, words), is_root=True)
            elif self._is_exhausted(path, issuer):
                return None
            elif self._is_issued(path, issuer, is_root=is_root):
                longer = (*path, issuer)
                found = self._whole(longer) if is_root else self.path_from(longer)
                if found is not None:
                    return found
        return None

    def _whole(self, path: Certificates) -> Certificates | None:
        """Return the `path` that has reached a root, if nothing is wrong with it as a whole."""
        check = self._policy.check
        wrong = None if check is None else check(path)
        if wrong:
            complaint = (Reason.NAME_NOT_PERMITTED, printable(wrong))
            self._note((len(path), _TRIED), findings_of(place_of(0), path[0], [complaint], self._policy))
            return None
        return path if self._is_timely(path) else None

    def _is_timely(self, path: Certificates) -> bool:
        """Return whether, without a clock too, all of `path` can be valid at one time.

        All of it is verified, so it is later than the latest notBefore on it.
        """
        clock = usable(self._clock)
        if clock.now is not None:
            return True
        clock = clock.at_least(max(certificate.not_before for certificate in path))
        for place, certificate in enumerate(path):
            verdict, late = check_time(certificate, clock, self._policy)
            if verdict is Verdict.EXPIRED and late is not None:
                named = place_of(place, is_root=place == len(path) - 1)
                self._note((len(path), _TRIED), findings_of(named, certificate, [late], self._policy))
                return False
        return True

    def _is_exhausted(self, path: Certificates, issuer: c509.Certificate) -> bool:
        """Return whether the work that the policy allows is done; counts a step if not."""
        limit = self._policy.max_checks
        if self._checks < limit and self._steps < limit * STEPS_PER_CHECK:
            self._steps += 1
            return False
        words = f"was not tried: {self._checks} signatures and {self._steps} issuers were looked at before"
        complaint = (Reason.TOO_MANY_CHECKS, words)
        self._exhausted = findings_of(place_of(len(path), is_root=False), issuer, [complaint], self._policy)
        return True

    def _is_issued(self, path: Certificates, issuer: c509.Certificate, *, is_root: bool) -> bool:
        """Return whether `issuer` issued the last of `path` and may have; notes why not."""
        child = path[-1]
        if any(ca.subject == issuer.subject and _same_key(ca, issuer) for ca in path[1:]):
            self._fail(path, _LOOKED_AT, issuer, (Reason.LOOP, "is on the path already"), is_root=is_root)
            return False
        if not is_named_issuer(child, issuer):
            words = "has another key than the certificate below it names"
            self._fail(path, _LOOKED_AT, issuer, (Reason.KEY_IDENTIFIER, words), is_root=is_root)
            return False
        unfit = self._suite_complaint(path, issuer)
        if unfit is not None:
            self._fail_child(path, unfit)
            return False
        wrong = issuer_findings(issuer, path, self._policy, self._clock, is_root=is_root)
        if wrong:
            self._note((len(path), _TRIED), wrong)
            return False
        return self._is_signed(path, issuer) and self._is_current(path, issuer)

    def _suite_complaint(self, path: Certificates, issuer: c509.Certificate) -> Complaint | None:
        child, key = path[-1], issuer.public_key_algorithm
        if (key, child.signature_algorithm) not in self._policy.suites:
            return Reason.ALGORITHM, f"has {suite_name(key, child.signature_algorithm)}"
        signers = (
            self._policy.signers.get(cast("int", child.public_key_algorithm)) if len(path) == 1 else None
        )
        if signers is not None and key not in signers:
            own = PublicKeyAlgorithm(cast("int", child.public_key_algorithm)).name
            words = f"has a {own} key, certified by a {PublicKeyAlgorithm(cast('int', key)).name} key"
            return Reason.CURVE, words
        return None

    def _is_signed(self, path: Certificates, issuer: c509.Certificate) -> bool:
        child = path[-1]
        self._checks += 1
        try:
            key = self._key(issuer)
        except MalformedMessage as error:
            self._fail(path, _TRIED, issuer, (Reason.BAD_KEY, f"has a bad public key: {error}"))
            return False
        try:
            if is_signed_with(child, key):
                return True
        except MalformedMessage as error:
            complaint = (Reason.BAD_KEY, f"has a bad public key: {error}")
        else:
            complaint = (
                Reason.BAD_SIGNATURE,
                f"is not signed by {described(issuer, 'the key of its issuer')}",
            )
        self._fail_child(path, complaint)
        return False

    def _key(self, issuer: c509.Certificate) -> PublicKeyTypes:
        # Its algorithm has a number, or its suite would not be the policy's.
        return issuer_key(cast("int", issuer.public_key_algorithm), issuer.public_key)

    def _is_current(self, path: Certificates, issuer: c509.Certificate) -> bool:
        """Return whether nothing is known of a revocation of the last of `path`."""
        if self._is_revoked is None:
            status = None
        else:
            # Every public key has the method that is used; only COSE's are named in the type.
            identifier = spki_identifier(cast("PublicKey", self._key(issuer)))
            status = self._is_revoked(identifier, path[-1].serial)
        if status:
            complaint = (Reason.REVOKED, "is revoked")
        elif status is None and self._policy.needs_status:
            complaint = (Reason.STATUS_UNKNOWN, "may be revoked: nothing is known")
        else:
            if status is None:
                self.unknown.add(path[-1])
            return True
        self._fail_child(path, complaint)
        return False

    def _no_issuer(self, path: Certificates) -> None:
        """Note that nobody has the issuer's name; who has its key under another name is named."""
        child = path[-1]
        wanted = authority_identifier(child)
        everybody = (
            c for by_name in (self._roots, self._candidates) for same in by_name.values() for c in same
        )
        named = printable(child.issuer_name.text)
        other = None if wanted is None else next((c for c in everybody if key_identifier(c) == wanted), None)
        if other is None:
            complaint = (Reason.NO_ISSUER, f"is issued by {named}, which is neither a root nor a candidate")
        else:
            words = (
                f"names {named} as its issuer, but its key identifier is {printable(other.subject.text)}'s"
            )
            complaint = (Reason.ISSUER_NAME, words)
        self._fail_child(path, complaint)

    def _fail(
        self,
        path: Certificates,
        stage: int,
        issuer: c509.Certificate,
        complaint: Complaint,
        *,
        is_root: bool = False,
    ) -> None:
        place = place_of(len(path), is_root=is_root)
        self._note((len(path), stage), findings_of(place, issuer, [complaint], self._policy))

    def _fail_child(self, path: Certificates, complaint: Complaint) -> None:
        place = place_of(len(path) - 1, is_root=False)
        self._note((len(path), _TRIED), findings_of(place, path[-1], [complaint], self._policy))

    def _note(self, how_far: tuple[int, int], findings: list[Finding]) -> None:
        """Keep the findings of the attempts that came furthest: nearest to a root, then by stage."""
        if how_far > self._furthest:
            self._furthest = how_far
            self._findings = []
        if how_far == self._furthest:
            self._findings += findings


def _by_name(certificates: Iterable[c509.Certificate]) -> ByName:
    found: ByName = {}
    for certificate in certificates:
        found.setdefault(certificate.subject, {})[certificate] = None
    return found


def _likely_first(
    issuers: Iterable[c509.Certificate], identifier: bytes | None
) -> Iterable[c509.Certificate]:
    """Return `issuers`, those with this key identifier first: the others cost a signature check each."""
    if identifier is None:
        return issuers
    return sorted(issuers, key=lambda issuer: key_identifier(issuer) != identifier)


def _same_key(one: c509.Certificate, other: c509.Certificate) -> bool:
    return (
        one.public_key_algorithm == other.public_key_algorithm
        and one.public_key_bytes == other.public_key_bytes
    )
