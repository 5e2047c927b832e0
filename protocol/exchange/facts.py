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
    """SEC1 compressed point (33, 49 or 67 bytes), or the 32 bytes of an Ed25519 key."""
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
