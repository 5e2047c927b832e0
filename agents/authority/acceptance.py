"""The receiving end of a transfer: a bundle becomes entries of the inventory, once.

A bundle is believed if an owner that is known here signed it (`agents.authority.owners`), each device's tier
1 certificate is by a maker whose devices we take, and each voucher names us and is by that owner or by the
maker. An epoch never goes down: a bundle from before is refused, the same one again changes nothing.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from agents.authority.domain import read_line
from agents.authority.inventory import InventoryError
from agents.authority.layout import BadDirectory, Layout, read_settings
from agents.authority.maker_paths import ENDLESS, verified_makers
from agents.authority.makers import read_statements, voucher_key_of
from agents.authority.owners import KnownOwner, known_owners, verify_chain
from agents.authority.ownership import GROUP, Giver, Handed, Progress
from agents.authority.reception import Arrival, Reception, look
from agents.authority.store import Store
from protocol import c509
from protocol.cose import PublicKey, decode_sign1
from protocol.errors import EnrollmentError
from protocol.identity import client_id
from protocol.labels import Domain, Tier
from protocol.path import Authority, verification_key, verify_leaf
from protocol.profiles import PROFILES
from protocol.transfer import TransferBundle, TransferredDevice, decode_bundle, verify_bundle
from protocol.voucher import key_identifier, read_voucher


def accept_bundle(
    store: Store,
    directory: Path,
    data: bytes,
    *,
    now: int,
    approved_by: str,
    voucher_keys: Sequence[PublicKey] = (),
    giver: Callable[[Domain], Giver] | None = None,
    progress: Progress | None = None,
) -> list[Handed]:
    """Enter the devices of a transfer bundle in the inventory.

    Args:
        store: Open; an authority may serve from it meanwhile.
        directory: Of the authority that gets them.
        data: The bundle.
        now: POSIX seconds, for the record.
        approved_by: Who answers for it here.
        voucher_keys: Of makers that are not known here, for vouchers that the old owner did not sign itself.
        giver: Opens our own CA key, which is needed for devices that come back to us alone.
        progress: Told after each group.

    Raises:
        InventoryError: It is not by an owner whom we know, not for us, from before, or something in it does
            not hold: nothing was changed. Or a device changed hands in between: asking again goes on.
        BadDirectory: Our own directory cannot be read.
    """
    settings, layout = read_settings(directory), Layout(directory)
    try:
        signed, bundle = decode_bundle(data)
        if bundle.domain not in settings.domains:
            raise InventoryError(
                f"the bundle is of {bundle.domain.value}, which is no domain of this authority"
            )
        root, path = read_line(layout, settings.lines(bundle.domain).operator)
        here = key_identifier(verification_key(path[0]))
        old = _old_owner(directory, bundle, here)
        chain = verify_chain(bundle.chain, root)
        if chain.key_id != bundle.giver or chain.registration is None:
            raise InventoryError("the bundle's certificates are another authority's")
        verify_bundle(signed, verification_key(chain.registration))
        makers = verified_makers(store, layout, settings, bundle.domain, bundle.makers)
        issuers = [key_identifier(verification_key(c509.decode_chain(one)[0])) for one in bundle.makers]
    except EnrollmentError as error:
        raise InventoryError(f"transfer bundle: {error}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, InventoryError):
            raise
        raise BadDirectory(f"{directory}: {error}") from None
    names = [one.client_id for one in bundle.devices]
    if len(set(names)) != len(names):
        raise InventoryError("transfer bundle: a device is in it twice")
    keys = (chain.public_key, *voucher_keys, *_voucher_keys(store, layout, bundle.domain))
    arrivals = [_verify(one, bundle, makers[issuers[one.maker]], here, chain, keys) for one in bundle.devices]
    look(store, arrivals, here)
    reception = Reception(
        store, bundle, dict(zip(issuers, bundle.makers, strict=True)), here, old.name, approved_by, now, giver
    )
    done: list[Handed] = []
    for start in range(0, len(arrivals), GROUP):
        done += reception.take(arrivals[start : start + GROUP])
        if progress is not None:
            progress(len(done))
    return done


def _voucher_keys(store: Store, layout: Layout, domain: Domain) -> list[PublicKey]:
    """Return the voucher keys of the makers whom we know."""
    own = layout.maker(domain) / "voucher-key.der"
    with store.reading() as connection:
        stated = [one.voucher_key for one in read_statements(connection, domain)]
    found = [own.read_bytes()] if own.is_file() else []
    return [voucher_key_of(spki) for spki in (*found, *stated) if spki is not None]


def _old_owner(directory: Path, bundle: TransferBundle, here: bytes) -> KnownOwner:
    if bundle.receiver != here:
        raise InventoryError(f"the bundle is for authority {bundle.receiver.hex()}, this is {here.hex()}")
    for owner in known_owners(directory):
        authority = owner.authorities.get(bundle.domain)
        if authority is not None and authority.key_id == bundle.giver:
            return owner
    whose = bundle.giver.hex()
    raise InventoryError(f"the bundle is by authority {whose}, which is none that `trillium owner add` added")


def _verify(
    device: TransferredDevice,
    bundle: TransferBundle,
    maker: Authority,
    here: bytes,
    old: Authority,
    keys: tuple[PublicKey, ...],
) -> Arrival:
    profile = PROFILES.get(device.label)
    if profile is None or profile.tier is not Tier.BOOTSTRAPPING or profile.domain is not bundle.domain:
        raise InventoryError(f"{device.name}: {device.label!r} is no tier 1 label of {bundle.domain.value}")
    try:
        certificate = c509.decode_certificate(device.certificate)
        if verify_leaf(certificate, maker, profile, ENDLESS) != device.name:
            raise InventoryError(f"{device.name}: the certificate is another device's")
        if not c509.is_canonical(certificate):
            raise InventoryError(f"{device.name}: the certificate is encoded in another way than ours")
        voucher = read_voucher(device.voucher, keys, device=device.name)
    except EnrollmentError as error:
        raise InventoryError(f"{device.name}: {error}") from None
    if (voucher.authority, voucher.epoch) != (here, device.epoch):
        raise InventoryError(f"{device.name}: the voucher names another owner")
    if device.client_id != client_id(maker.key_id, device.name):
        raise InventoryError(f"{device.name}: the client-id is another device's")
    short = decode_sign1(device.voucher).header.key_id
    signed_by = next(found for found in map(key_identifier, keys) if found[:8] == short)
    return Arrival(device, maker.key_id, certificate, signed_by, is_by_maker=signed_by != old.key_id)
