"""The giving end of a transfer: who signs vouchers, and the bundles for another authority.

A bundle says nothing that the store does not know, so it is made after the transaction, and anew whenever
somebody has lost it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sqlalchemy import bindparam, select

from agents.authority import life
from agents.authority.domain import read_line
from agents.authority.epochs import Epoch
from agents.authority.inventory import InventoryError
from agents.authority.layout import BadDirectory, Layout, read_settings
from agents.authority.maker_paths import maker_paths
from agents.authority.owners import own_card
from agents.authority.ownership import Giver
from agents.authority.possession import Held, find_devices
from agents.authority.schema import CERTIFICATES
from agents.authority.store import Store
from agents.keys import SoftwareSigner, load_private_key
from protocol import c509
from protocol.errors import EnrollmentError
from protocol.labels import Domain
from protocol.path import verification_key
from protocol.transfer import MAX_DEVICES, TransferBundle, TransferredDevice
from protocol.voucher import key_identifier

_PAGE: Final = 500
_C: Final = CERTIFICATES.c
_TIER_1 = select(_C.device_id, _C.encoded).where(
    _C.device_id.in_(bindparam("devices", expanding=True)),
    _C.parent_id.is_(None),
    _C.state == life.CURRENT,
)


def open_giver(directory: Path, domain: Domain, passphrase: bytes, *, by_maker: bool = False) -> Giver:
    """Return who signs vouchers for one domain.

    Args:
        directory: Of the authority whose devices they are.
        domain: Of the devices.
        passphrase: Of its keys.
        by_maker: Sign with the voucher key of the maker whose CA is in this directory, which every device of
            that maker has pinned, in place of the authority's own key.

    Raises:
        BadDirectory: The key is not here, or the passphrase is wrong.
    """
    settings, layout = read_settings(directory), Layout(directory)
    lines = settings.lines(domain)
    folder = layout.maker(domain) if by_maker else layout.operator(domain)
    try:
        _, operators = read_line(layout, lines.operator)
        _, makers = read_line(layout, lines.maker)
        key = load_private_key(folder / ("voucher.key" if by_maker else "ca.key"), passphrase)
        own, maker = (key_identifier(verification_key(path[0])) for path in (operators, makers))
    except (OSError, ValueError, EnrollmentError) as error:
        raise BadDirectory(f"{domain.value}: {error}") from None
    # Nobody verifies vouchers by the batch.
    signer = SoftwareSigner(key, even_y=False)
    return Giver(own, signer, key_identifier(key.public_key()), maker if by_maker else None)


def make_bundles(directory: Path, store: Store, words: Sequence[str], passphrase: bytes) -> list[bytes]:
    """Return the bundles for the authorities that devices were given to last.

    Args:
        directory: Of the authority that gave them.
        store: Its own, open.
        words: Names or client-ids.
        passphrase: Of the registration keys.

    Returns:
        As few as can be: one for each domain, receiver and who approved, and for each `MAX_DEVICES`.

    Raises:
        InventoryError: A device is unknown, or was never given to another authority.
        BadDirectory: The directory cannot be read, or the passphrase is wrong.
    """
    settings, layout = read_settings(directory), Layout(directory)
    card = own_card(directory)
    chains = {domain: c509.decode_chain(chain) for domain, chain in card.chains.items()}
    here = {domain: key_identifier(verification_key(chain[0])) for domain, chain in chains.items()}
    sorted_out: dict[tuple[Domain, bytes, str], list[tuple[Held, Epoch]]] = {}
    for device in find_devices(store, words):
        epoch = given_epoch(device, here[device.domain])
        if epoch is None:
            raise InventoryError(f"{device.name}: was given to no other authority")
        where = device.domain, epoch.authority, epoch.approved_by
        sorted_out.setdefault(where, []).append((device, epoch))
    bundles: list[bytes] = []
    for (domain, receiver, approved_by), given in sorted_out.items():
        paths = maker_paths(store, layout, settings, domain)
        try:
            key = load_private_key(layout.operator(domain) / "registration.key", passphrase)
        except (OSError, ValueError) as error:
            raise BadDirectory(f"{domain.value}: {error}") from None
        signer, key_id = SoftwareSigner(key, even_y=False), key_identifier(key.public_key())
        for start in range(0, len(given), MAX_DEVICES):
            part = given[start : start + MAX_DEVICES]
            makers = list(dict.fromkeys(device.maker for device, _ in part))
            unknown = [maker.hex() for maker in makers if maker not in paths]
            if unknown:
                raise InventoryError(f"nobody knows the maker {unknown[0]}")
            bundle = TransferBundle(
                domain,
                here[domain],
                receiver,
                card.chains[domain],
                tuple(paths[maker] for maker in makers),
                approved_by,
                max(epoch.since for _, epoch in part),
                _devices(store, part, makers),
            )
            bundles.append(bundle.sign(signer, key_id))
    return bundles


def given_epoch(device: Held, here: bytes) -> Epoch | None:
    """Return the epoch that began when `here` gave a device to another authority the last time."""
    epochs = device.epochs
    for before, after in zip(reversed(epochs[:-1]), reversed(epochs), strict=False):
        if before.authority == here != after.authority:
            return after
    return None


def _devices(
    store: Store, given: Sequence[tuple[Held, Epoch]], makers: Sequence[bytes]
) -> tuple[TransferredDevice, ...]:
    ids = [device.id for device, _ in given]
    certificates: dict[int, bytes] = {}
    with store.reading() as connection:
        for start in range(0, len(ids), _PAGE):
            rows = connection.execute(_TIER_1, {"devices": ids[start : start + _PAGE]})
            certificates |= {row.device_id: row.encoded for row in rows}
    made: list[TransferredDevice] = []
    for device, epoch in given:
        certificate, voucher = certificates.get(device.id), epoch.voucher
        if certificate is None or voucher is None:
            raise InventoryError(f"{device.name}: has no tier 1 certificate here that is good")
        place = makers.index(device.maker)
        made.append(
            TransferredDevice(
                device.name, device.label, device.client_id, epoch.number, voucher, certificate, place
            )
        )
    return tuple(made)
