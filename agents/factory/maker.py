"""What the factory needs of a manufacturer: an object that issues, vouches and enters into the inventory."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from protocol import c509
from protocol.cose import PublicKey
from protocol.path import Authority
from protocol.profiles import Profile
from protocol.signing import Signer


@dataclass(frozen=True, slots=True)
class MadeDevice:
    """A device as the inventory is told of it."""

    name: str
    label: str
    """Of its tier 1 certificate."""
    certificate: c509.Certificate
    client_id: str


class Maker(Protocol):
    """A manufacturer, open for work. Blocks on keys and on the store."""

    @property
    def root(self) -> c509.Certificate:
        """The root that devices pin."""
        ...

    @property
    def anchors(self) -> Sequence[c509.Certificate]:
        """Roots that a device's TLS trusts, its own first."""
        ...

    @property
    def more_anchors(self) -> Mapping[str, c509.Certificate]:
        """Roots that a device pins besides `root`, by the stem of their file in its identity folder."""
        ...

    @property
    def authority(self) -> Authority:
        """The CA that issues tier 1 certificates, with what its path permits."""
        ...

    @property
    def path(self) -> Sequence[c509.Certificate]:
        """The CA that issues tier 1 certificates, then those above it, without the root."""
        ...

    @property
    def voucher_signer(self) -> Signer:
        """The key that says whose a device is."""
        ...

    @property
    def voucher_key(self) -> PublicKey:
        """Its public half, pinned in every device."""
        ...

    @property
    def owner(self) -> bytes:
        """Key identifier of the first owner's authority, 32 bytes."""
        ...

    def issue(self, profile: Profile, name: str, public_key: bytes) -> c509.Certificate:
        """Return a tier 1 certificate.

        Args:
            profile: Of a tier 1 label of this maker's domain.
            name: The device's.
            public_key: SEC1 point, uncompressed; or the 32 bytes of an Ed25519 key.
        """
        ...

    def known_devices(self, client_ids: Sequence[str]) -> Collection[str]:
        """Return those of these client-ids (a few hundred at most) that the inventory has."""
        ...

    def known_keys(self, public_keys: Sequence[bytes]) -> Collection[bytes]:
        """Return those of these public keys (as `issue` takes them) that were certified before."""
        ...

    def register(self, devices: Sequence[MadeDevice]) -> None:
        """Enter devices into the inventory, all or none; the same ones again change nothing.

        Raises:
            ValueError: A name is taken by another device, or another maker's to give.
        """
        ...
