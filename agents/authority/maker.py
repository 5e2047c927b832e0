"""A manufacturer in an authority's directory: tier 1 certificates, first vouchers, and the inventory.

`MakerIssuer` is what `agents.factory` takes as its maker.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import bindparam, select

from agents.authority.domain import read_certificate, read_line
from agents.authority.intents import new_serial
from agents.authority.inventory import NewDevice, register_devices
from agents.authority.issuer import Issuer, ToBeIssued
from agents.authority.layout import BadDirectory, Layout, Settings, read_settings
from agents.authority.schema import DEVICES, KEYS
from agents.authority.store import Store
from agents.devices.identity import VOUCHING_ROOT
from agents.factory.maker import MadeDevice
from agents.keys import SoftwareSigner, load_private_key
from protocol import c509
from protocol.cose import Algorithm, PublicKey
from protocol.errors import EnrollmentError
from protocol.exchange.authority_rules import key_hash
from protocol.exchange.request import KEY_ALGORITHMS
from protocol.labels import Domain
from protocol.path import Authority, check_name, verification_key, verify_authority
from protocol.profiles import PROFILES, Profile, profile_of, services_of
from protocol.signing import Signer
from protocol.validity import Clock
from protocol.voucher import Voucher, key_identifier

_KNOWN_DEVICES = select(DEVICES.c.client_id).where(DEVICES.c.client_id.in_(bindparam("ids", expanding=True)))
_KNOWN_KEYS = select(KEYS.c.key_hash).where(KEYS.c.key_hash.in_(bindparam("hashes", expanding=True)))


@dataclass(frozen=True, slots=True)
class FirstOwner:
    """Another operator, for whom devices are made."""

    key_id: bytes
    """Key identifier of its CA, 32 bytes: what the first vouchers name."""
    root: c509.Certificate
    """The root above it, which the devices pin."""


class MakerIssuer:
    """A maker, open for work; close it, or use it in a `with`. Threads: any for `issue`.

    Args:
        directory: Of the authority.
        domain: Which of its makers.
        passphrase: Of its keys.
        clock: POSIX seconds.
        owner: For whom devices are made; None: for the domain's own operator.

    Raises:
        BadDirectory: No such maker, or the passphrase is wrong.
        WrongStore: The directory's store cannot be used.
    """

    def __init__(
        self,
        directory: Path,
        domain: Domain,
        passphrase: bytes,
        *,
        clock: Callable[[], float] = time.time,
        owner: FirstOwner | None = None,
    ) -> None:
        settings = read_settings(directory)
        if domain not in settings.domains:
            known = ", ".join(one.value for one in settings.domains)
            raise BadDirectory(f"{directory}: has no domain {domain.value}, but {known}")
        lines = settings.lines(domain)
        layout = Layout(directory)
        folder = layout.maker(domain)
        try:
            key = load_private_key(folder / "ca.key", passphrase)
            voucher_key = load_private_key(folder / "voucher.key", passphrase)
            above, path = read_line(layout, lines.maker)
            root, operator = read_line(layout, lines.operator)
            roots = {settings.lines(one).root.name: None for one in (domain, *settings.domains)}
            public_key = verification_key(path[0])
            # Of its time, those judge who are shown its certificates.
            authority = verify_authority(path, root=above, authority=None, clock=Clock(None))
            own = key_identifier(verification_key(operator[0]))
            self.anchors: Final = (
                tuple(read_certificate(layout.certificate(name)) for name in roots)
                if owner is None or owner.root == root
                else (owner.root,)
            )
            """Roots that a device's TLS trusts: its own first, then those of the other domains, under one of
            which the broker's certificate is."""
            self.more_anchors: Final[Mapping[str, c509.Certificate]] = _more_anchors(layout, settings, domain)
            """Roots that a device pins besides its own, by the stem of their file in its identity folder."""
        except (OSError, ValueError, EnrollmentError) as error:
            raise BadDirectory(f"{domain.value} maker: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or public_key != key.public_key():
            raise BadDirectory(f"{domain.value} maker: the CA key and its certificate do not match")
        self.domain: Final = domain
        self.root: Final = root if owner is None else owner.root
        """The root above the first owner, pinned in every device."""
        if self.root != root and self.more_anchors:
            raise BadDirectory(f"{domain.value} maker: its devices pin more roots than another owner's one")
        self.path: Final[Sequence[c509.Certificate]] = path
        """The CA that issues tier 1 certificates, then those above it, without the root."""
        self.authority: Final[Authority] = authority
        """The CA with what its path permits: labels, and prefixes of names."""
        self.key_id: Final = authority.key_id
        """Key identifier of the manufacturer CA, 32 bytes; part of every client-id."""
        self.owner: Final = own if owner is None else owner.key_id
        """Key identifier of the operator CA that first vouchers name, 32 bytes."""
        self._is_own: Final = self.owner == own
        self.voucher_signer: Signer = SoftwareSigner(voucher_key, even_y=False)
        self.voucher_key: PublicKey = voucher_key.public_key()
        """Pinned in every device."""
        self._voucher_key_id = key_identifier(self.voucher_key)
        self._issuer = Issuer(key, path[0], settings.pointers(lines.maker[-1].name))
        self._clock = clock
        self._store = Store(layout.store)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the inventory."""
        self._store.close()

    def issue(self, profile: Profile, name: str, public_key: bytes) -> c509.Certificate:
        """Return a tier 1 certificate.

        Args:
            profile: Of a tier 1 label of this maker's domain.
            name: The device's.
            public_key: SEC1 point on the profile's curve; an uncompressed one saves some time.

        Raises:
            RequestRejected: A name that the profile does not take, or that is another maker's to give.
        """
        check_name(profile.naming.check(name), self.authority, profile)
        now = int(self._clock())
        order = ToBeIssued(
            profile,
            new_serial(),
            name,
            now - profile.backdate,
            None if profile.validity is None else min(now + profile.validity, self._issuer.not_after),
            profile.algorithms[0],
            public_key,
        )
        return c509.decode_certificate(self._issuer.issue(order))

    def voucher(self, name: str, *, epoch: int = 0) -> bytes:
        """Return a voucher that names `owner` as the device's owner."""
        return Voucher.issue(self.voucher_signer, self._voucher_key_id, name, self.owner, epoch).encoded

    def known_devices(self, client_ids: Sequence[str]) -> frozenset[str]:
        """Return those of these client-ids (a few hundred at most) that the inventory has."""
        with self._store.reading() as connection:
            return frozenset(connection.execute(_KNOWN_DEVICES, {"ids": list(client_ids)}).scalars())

    def known_keys(self, public_keys: Sequence[bytes]) -> frozenset[bytes]:
        """Return those of these keys, as uncompressed points, that were certified before."""
        hashes = {key_hash(self._key_number(key), key): key for key in public_keys}
        if not hashes:
            return frozenset()
        with self._store.reading() as connection:
            found = connection.execute(_KNOWN_KEYS, {"hashes": list(hashes)}).scalars()
            return frozenset(hashes[one] for one in found)

    @staticmethod
    def _key_number(key: bytes) -> int:
        """Return the registered algorithm of a public key, which its length tells."""
        sizes = {65: Algorithm.ES256, 97: Algorithm.ES384, 133: Algorithm.ES512, 32: Algorithm.EDDSA}
        return KEY_ALGORITHMS[sizes[len(key)]]

    def register(self, devices: Sequence[MadeDevice]) -> None:
        """Enter devices into the inventory, entitled to every label that theirs opens; all or none.

        Those that are made for another operator are entitled to nothing here: the inventory knows their
        names, keys and certificates, so that none is made twice. The same ones again change nothing.

        Raises:
            InventoryError: A name is taken by another device, or another maker's to give.
        """
        labels = {device.label for device in devices}
        services = {label: services_of(label) if self._is_own else () for label in labels}
        register_devices(
            self._store,
            [
                NewDevice(
                    device.name,
                    device.label,
                    self.key_id,
                    device.client_id,
                    services[device.label],
                    device.certificate.encoded,
                )
                for device in devices
            ],
            int(self._clock()),
            (self.authority,),
        )


def _more_anchors(layout: Layout, settings: Settings, domain: Domain) -> Mapping[str, c509.Certificate]:
    """Return the roots of those who vouch for what this domain's authority makes for a device."""
    for profile in PROFILES.values():
        if profile.domain is domain and profile.vouched_by is not None:
            other = profile_of(profile.vouched_by).domain
            if other in settings.domains:
                return {VOUCHING_ROOT: read_line(layout, settings.lines(other).operator)[0]}
    return {}


def maker_issuer(directory: Path, domain: Domain, passphrase: bytes) -> MakerIssuer:
    """Return the maker of `domain` in an authority's directory."""
    return MakerIssuer(directory, domain, passphrase)
