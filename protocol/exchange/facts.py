"""What a store knows, as values: the words between those who decide and those who remember.

`protocol.exchange.authority` decides on `Facts`; the verifier asks through `Signers`. Both can be tested
without a store, and the store (`agents/authority`) implements both without knowing the rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from protocol.cose import Algorithm
from protocol.labels import Domain
from protocol.ports import Media
from protocol.problem import Problem, Successor


class CertificateState(StrEnum):
    """Where a certificate is in its life; expiry is not a state but a comparison with the clock."""

    PENDING = "pending"
    """Issued, not yet confirmed by its device; lives as long as its parent."""
    CURRENT = "current"
    SUPERSEDED = "superseded"
    """Replaced by the next one; on the CRL."""
    REVOKED = "revoked"
    VOID = "void"
    """Was pending and never became current."""

    @property
    def is_alive(self) -> bool:
        """Whether the certificate may still be, or become, good for something."""
        return self in _ALIVE


_ALIVE = frozenset({CertificateState.PENDING, CertificateState.CURRENT})


@dataclass(frozen=True, slots=True)
class CertificateRef:
    """The one name of a certificate; never a hash of its bytes, which have several encodings."""

    authority: bytes
    """Key identifier of the issuing CA, 32 bytes."""
    serial: bytes
    """Without leading zero."""


@dataclass(frozen=True, slots=True)
class SignerRecord:
    """A certificate that may have signed something, with its device."""

    ref: CertificateRef
    device: str
    """The name that the certificate proves."""
    client_id: str
    """What the device is called on topics; a message on another client's topic is WRONG_CLIENT."""
    domain: Domain
    label: str
    state: CertificateState
    not_before: int
    """POSIX seconds."""
    not_after: int | None
    """POSIX seconds; None never ends."""
    algorithm: Algorithm
    """What its key is used with."""
    public_key: bytes
    """SEC1 point, uncompressed where the store has it so (it loads three times as fast), or the 32 bytes of
    an Ed25519 key."""
    certificate: bytes
    """The whole C509 certificate, encoded."""


class Signers(Protocol):
    """What the verifier needs of a store. Every method may be cancelled; nothing is left half done."""

    async def lookup(self, thumbprints: Sequence[bytes]) -> Mapping[bytes, SignerRecord | None]:
        """Return the certificate behind each c5t (8 bytes); None: not known here.

        Every thumbprint asked for is a key of the answer. A None is worth nothing a moment later (the
        certificate may just have been issued); a record is good until `revision` changes or it expires.
        """
        ...

    async def revision(self) -> int:
        """Return a number that grows whenever some certificate ends: revoked, superseded or void.

        Cheap enough to ask several times a second, also when another process makes the changes.
        """
        ...

    async def activate(self, ref: CertificateRef) -> bool:
        """Make a pending certificate current, because a first valid message was signed with it.

        Returns:
            Whether it is current now, also when it was before; False if it ended or its parent did.
        """
        ...

    async def alarm(self, ref: CertificateRef, what: str) -> None:
        """Leave an audit record that something is wrong with a certificate, e.g. its retired key is in use.

        Args:
            ref: The certificate that was used.
            what: A few words; at most 120 characters are kept. At most one record per certificate and
                minute is kept, so a flood fills no disk.
        """
        ...

    async def load_counters(self) -> Mapping[CertificateRef, int]:
        """Return the high-water mark of the message counter of each certificate that has one."""
        ...

    async def save_counters(self, counters: Mapping[CertificateRef, int]) -> None:
        """Keep these marks durably, in one transaction; a mark is never lowered."""
        ...


@dataclass(frozen=True, slots=True)
class FormerEpoch:
    """A time in which this authority owned a device, and which is over."""

    epoch: int
    successor: Successor
    """What a device that still lives in it is told."""


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """One device of the inventory."""

    id: int
    """The store's own number."""
    name: str
    client_id: str
    epoch: int
    """Owner number of the voucher by which the device came here."""
    entitled: frozenset[str]
    """Labels that it may have."""
    is_ours: bool = True
    """Whether it belongs to this authority in its present epoch; False where another authority has it."""
    former: tuple[FormerEpoch, ...] = ()
    """Newest first."""


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """One certificate as the store knows it: a signer, or what is to be confirmed or revoked."""

    id: int
    """The store's own number."""
    device: DeviceFacts
    ref: CertificateRef
    label: str
    state: CertificateState
    is_parent_alive: bool
    """Whether the certificate that opened the door for it is current, and not over; True for tier 1."""
    not_before: int
    not_after: int | None
    algorithm: Algorithm
    public_key: bytes
    """As in `SignerRecord`."""
    encoded: bytes


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """Who had a public key certified, or is about to."""

    authority: bytes
    label: str
    device_id: int
    signer_id: int | None
    """None: the key came with the device."""
    state: CertificateState | None
    """Of its certificate; None: only the intent is there, its certificate was never released."""
    not_after: int | None


@dataclass(frozen=True, slots=True)
class GrantFacts:
    """A name that an operator grants a device under one label; no longer granted, there is none."""

    id: int
    """The store's own number."""
    name: str
    """The common name that its certificate will have."""
    not_after: int | None
    """POSIX seconds; None: for as long as certificates last."""


@dataclass(frozen=True, slots=True)
class RememberedCertificate:
    """These very bytes were asked before, and this was given."""

    encoded: bytes
    """The certificate, or the package that it came in."""
    state: CertificateState
    """The certificate's."""
    not_after: int | None
    media: Media = Media.C509_CERTIFICATE
    """What `encoded` is."""


@dataclass(frozen=True, slots=True)
class RememberedRefusal:
    """These very bytes were asked before, and refused for good."""

    encoded: bytes
    """COSE_Sign1 by the registration key."""
    problem: Problem


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found for one `Lookup`."""

    signer: CertificateFacts | None = None
    registered: DeviceFacts | None = None
    """For a signer sent by value: the device of that maker and name."""
    has_bootstrap: bool = False
    """For a signer sent by value: whether a bootstrap certificate of that device is known already."""
    answer: RememberedCertificate | RememberedRefusal | None = None
    key: KeyFacts | None = None
    target: CertificateFacts | None = None
    grant: GrantFacts | None = None
    """`skg`: what the device is granted under this label."""
    wait: float | None = None
    """Seconds until the quotas of source and signer allow more work; None: now."""
