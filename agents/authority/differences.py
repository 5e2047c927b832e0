"""How a device's report differs from what the store expects of it: comparisons of values alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from protocol.exchange.facts import CertificateState
from protocol.held import HeldCertificate, HeldReport, HeldState
from protocol.labels import Domain


class Kind(StrEnum):
    """What is wrong, worst first."""

    FOREIGN = "another device's"
    """It holds a certificate that was issued to another device."""
    OWNER = "wrong owner"
    """It believes another authority, or another number of owner, than the store has for it."""
    ANCHOR = "wrong anchor"
    """It does not believe the root above its authority, or believes others too."""
    REVOKED = "revoked, still held"
    """It reported after the revocation, and has the certificate."""
    UNKNOWN = "unknown to us"
    """It holds a certificate that this store never issued."""
    MISSING = "missing on device"
    """The store has a current certificate that it does not hold."""
    OUTDATED = "superseded, in use"
    """It uses a certificate that has a successor: it was restored from a copy, or a copy of it exists."""
    EXPIRED = "ended, in use"
    """It uses a certificate that has ended, and has no other."""
    CHAIN = "old chain"
    """It has other certificates of its authority than that gives out now."""
    LATE = "report too old"
    SILENT = "never reported"


NEXT: Mapping[Kind, str] = {
    Kind.FOREIGN: "two devices share a key: revoke it for key-compromise, and find out which was copied",
    Kind.OWNER: "give it the voucher of its owner, and have it enroll; until then it obeys somebody else",
    Kind.ANCHOR: "replace its trust anchors over a channel of their own; a root is not replaced by enrolling",
    Kind.REVOKED: "have it removed on the device; until then whoever reads no revocations believes it",
    Kind.UNKNOWN: "find out who issued it, and have it removed if nobody answers for it",
    Kind.MISSING: "have it enroll again under that label, which retires what it lost",
    Kind.OUTDATED: "have it enroll again; if it was not restored from a copy, treat the key as copied",
    Kind.EXPIRED: "have it enroll again with its bootstrap certificate; its renewals do not arrive",
    Kind.CHAIN: "nothing, if it is few days old: it asks for the chain when it next enrolls or rekeys",
    Kind.LATE: "look whether it can be reached; what it holds now is not known",
    Kind.SILENT: "look whether it runs a version that reports, and whether messages of it arrive",
}
"""What to do about each."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it should be."""

    device: str
    client_id: str
    domain: Domain
    kind: Kind
    label: str | None = None
    thumbprint: bytes | None = None
    """c5t of the certificate that it is about, 8 bytes."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """What devices of one domain believe."""

    authority: bytes
    root: bytes
    """c5t."""
    chain: tuple[bytes, ...]
    """c5t, issuer first."""


@dataclass(frozen=True, slots=True)
class Known:
    """One certificate as the store has it."""

    label: str
    thumbprint: bytes
    state: CertificateState
    not_after: int | None
    issued_at: int
    ended_at: int | None
    device: str


@dataclass(frozen=True, slots=True)
class Subject:
    """One device as the store has it."""

    device: str
    client_id: str
    domain: Domain
    epoch: int

    def differs(
        self, kind: Kind, label: str | None = None, thumbprint: bytes | None = None, detail: str = ""
    ) -> Difference:
        """Return a difference of this device."""
        return Difference(self.device, self.client_id, self.domain, kind, label, thumbprint, detail)


def compare_trust(subject: Subject, report: HeldReport, expected: Expected) -> Iterator[Difference]:
    """Yield how what a device believes differs from what it should."""
    if report.authority != expected.authority:
        yield subject.differs(Kind.OWNER, detail=f"it names authority {report.authority.hex()[:16]}…")
    elif report.chain and report.chain[0] != expected.chain[0]:
        yield subject.differs(
            Kind.OWNER, thumbprint=report.chain[0], detail="it has another authority's chain"
        )
    elif report.epoch != subject.epoch:
        detail = f"it has owner number {report.epoch}, the store {subject.epoch}"
        yield subject.differs(Kind.OWNER, detail=detail)
    elif report.chain and report.chain != expected.chain:
        others = [one for one in report.chain if one not in expected.chain]
        yield subject.differs(Kind.CHAIN, thumbprint=others[0] if others else None)
    if expected.root not in report.anchors:
        yield subject.differs(Kind.ANCHOR, thumbprint=expected.root, detail="it does not have this root")
    for anchor in report.anchors:
        if anchor != expected.root:
            yield subject.differs(Kind.ANCHOR, thumbprint=anchor, detail="it believes this root")


def compare_certificates(
    subject: Subject,
    report: HeldReport,
    received_at: int,
    own: Sequence[Known],
    others: Mapping[bytes, Known],
) -> Iterator[Difference]:
    """Yield how the certificates on a device differ from those in the store.

    What changed after the report was made is no difference: the device could not know.

    Args:
        subject: The device.
        report: What it said.
        received_at: When, POSIX seconds.
        own: Its certificates in the store.
        others: Certificates of other devices that it reported, by thumbprint.
    """
    known = {one.thumbprint: one for one in own}
    explained: set[str] = set()
    for held in report.certificates:
        found = known.get(held.thumbprint)
        if found is not None:
            difference = _judge(subject, held, found, received_at)
        elif held.thumbprint in others:
            holder = others[held.thumbprint].device
            difference = subject.differs(Kind.FOREIGN, held.label, held.thumbprint, f"issued to {holder}")
        else:
            difference = subject.differs(Kind.UNKNOWN, held.label, held.thumbprint)
        if difference is not None:
            explained.add(held.label)
            yield difference
    reported = {held.thumbprint for held in report.certificates}
    for one in own:
        if (
            one.state is CertificateState.CURRENT
            and one.thumbprint not in reported
            and one.label not in explained
            and one.issued_at < received_at
        ):
            yield subject.differs(Kind.MISSING, one.label, one.thumbprint)


def _judge(subject: Subject, held: HeldCertificate, found: Known, received_at: int) -> Difference | None:
    has_ended = found.ended_at is not None and found.ended_at < received_at
    match found.state:
        case CertificateState.REVOKED if has_ended:
            return subject.differs(Kind.REVOKED, held.label, held.thumbprint)
        case CertificateState.SUPERSEDED | CertificateState.VOID if has_ended:
            if held.state is HeldState.CURRENT:
                return subject.differs(Kind.OUTDATED, held.label, held.thumbprint)
        case CertificateState.CURRENT:
            if (
                held.state is HeldState.CURRENT
                and found.not_after is not None
                and found.not_after < received_at
            ):
                return subject.differs(Kind.EXPIRED, held.label, held.thumbprint)
        case _:
            pass
    return None
