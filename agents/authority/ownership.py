"""A device changes hands: what its owner gave it ends, its epoch goes up, and a voucher names the next owner.

One transaction for each group of devices: the owner's certificates of tier 2 and 3 are revoked, tier 1 stays,
the new epoch and its voucher are recorded, and the audit log says who approved. Whatever is interrupted is
done or not done, device by device; asking again goes on where it stopped, because whom a device belongs to
already is left alone.

Vouchers are signed before the transaction, so that a serving authority beside this process waits for a few
milliseconds only. Nobody asks what time it is: epochs decide, and clocks are for the record.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from agents.authority import life
from agents.authority.audit import Entry, Event
from agents.authority.grants import end_grants
from agents.authority.inventory import InventoryError
from agents.authority.possession import Held, find_devices
from agents.authority.schema import ANSWERS, CERTIFICATES, DEVICES, OWNERS, REPORTS
from agents.authority.store import Store, Writing
from protocol.exchange.request import RevocationReason
from protocol.labels import Domain
from protocol.signing import Signer
from protocol.voucher import Voucher

GROUP: Final = 256
"""Devices in one transaction: some milliseconds, so that nobody who enrolls waits long."""
MAX_NAME_CHARS: Final = 64
"""Of owners, and of who approves."""
_PAGE: Final = 500
_D: Final = DEVICES.c
_WITH_TIER_1 = select(CERTIFICATES.c.device_id).where(
    CERTIFICATES.c.device_id.in_(bindparam("ids", expanding=True)),
    CERTIFICATES.c.parent_id.is_(None),
    CERTIFICATES.c.state == life.CURRENT,
)
_EPOCHS = select(_D.id, _D.epoch).where(_D.id.in_(bindparam("ids", expanding=True)))
_HAND_OVER = (
    update(DEVICES)
    .where(_D.id == bindparam("target"))
    .values(epoch=bindparam("next"), owner=bindparam("whose"), entitled=bindparam("labels"))
)
_KEEP_FIRST = upsert(OWNERS).on_conflict_do_nothing()
_ADD = upsert(OWNERS)
_FORGET_REFUSALS = delete(ANSWERS).where(
    ANSWERS.c.device_id.in_(bindparam("ids", expanding=True)), ANSWERS.c.refusal.is_not(None)
)


_FORGET_REPORTS = delete(REPORTS).where(REPORTS.c.device_id.in_(bindparam("ids", expanding=True)))


@dataclass(frozen=True, slots=True)
class Giver:
    """Who signs vouchers for the present owner, in one domain."""

    authority: bytes
    """Key identifier of the owner's CA, 32 bytes."""
    signer: Signer
    key_id: bytes
    """Key identifier of the signing key, 32 bytes: the CA's own, or the maker's voucher key."""
    maker: bytes | None = None
    """Key identifier of the manufacturer CA whose voucher key that is; None: it is the CA's own."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """The next owner."""

    name: str
    authorities: Mapping[Domain, bytes]
    """Key identifier of the owner's CA in each domain, 32 bytes; empty: shares the present authority."""
    at: str | None = None
    """Where the owner's authority is reached, a URI; None: where the present one is, or as devices know."""


@dataclass(frozen=True, slots=True)
class Handed:
    """What became of one device."""

    device: str
    client_id: str
    domain: Domain
    epoch: int
    is_new: bool
    """False: it was that owner's already, and nothing changed."""
    ended: int
    """Certificates that were revoked."""


Progress = Callable[[int], None]
"""Told how many devices are done."""


def transfer_devices(
    store: Store,
    words: Sequence[str],
    receiver: Receiver,
    givers: Mapping[Domain, Giver],
    *,
    now: int,
    approved_by: str,
    progress: Progress | None = None,
) -> list[Handed]:
    """Give devices to another owner, in groups; each group is a durable transaction.

    Args:
        store: Open; an authority may serve from it meanwhile.
        words: Names or client-ids.
        receiver: Who gets them. Those whose they are already are left alone.
        givers: Who signs, by domain; at least those of the devices.
        now: POSIX seconds, for the record.
        approved_by: Who answers for it; the audit log says so.
        progress: Told after each group.

    Raises:
        InventoryError: One is unknown, another authority's, or cannot go there: nothing was changed. Or one
            changed hands in between: the groups before are done, and asking again goes on.
    """
    devices = find_devices(store, words)
    for device in devices:
        _check(device, receiver, givers)
    order = _Order(receiver, givers, approved_by, Event.TRANSFER, RevocationReason.AFFILIATION_CHANGED)
    todo = [device for device in devices if not _has(device, receiver, givers)]
    if receiver.authorities:
        _check_tier_1(store, todo)
    return _carry_out(store, devices, todo, order, now, progress)


def reset_devices(
    store: Store,
    words: Sequence[str],
    givers: Mapping[Domain, Giver],
    *,
    now: int,
    approved_by: str,
    progress: Progress | None = None,
) -> list[Handed]:
    """End all that an owner gave to devices, and start another epoch of the same owner: a car is sold.

    Tier 1 stays, and so does what the device is registered for; what was granted to whoever used it is not
    granted any more. Arguments and errors are those of `transfer_devices`; each call starts an epoch.
    """
    devices = find_devices(store, words)
    for device in devices:
        _check(device, None, givers)
    order = _Order(None, givers, approved_by, Event.RESET, RevocationReason.CESSATION_OF_OPERATION)
    return _carry_out(store, devices, devices, order, now, progress)


@dataclass(frozen=True, slots=True)
class _Order:
    receiver: Receiver | None
    """None: the owner stays."""
    givers: Mapping[Domain, Giver]
    approved_by: str
    event: Event
    reason: RevocationReason


def _check(device: Held, receiver: Receiver | None, givers: Mapping[Domain, Giver]) -> None:
    giver = givers.get(device.domain)
    if giver is None:
        raise InventoryError(f"{device.name}: there is no authority for {device.domain.value} here")
    if receiver is not None and receiver.authorities:
        authority = receiver.authorities.get(device.domain)
        if authority is None:
            raise InventoryError(f"{device.name}: {receiver.name} has no authority for {device.domain.value}")
        if authority == giver.authority:
            raise InventoryError(f"{device.name}: {receiver.name} is the authority that it belongs to")
        if device.authority(giver.authority) == authority:
            return
    if device.authority(giver.authority) != giver.authority:
        last = device.epochs[-1]
        raise InventoryError(
            f"{device.name}: is not ours any more, but {last.owner or last.authority.hex()}'s"
        )
    if giver.maker not in (None, device.maker):
        raise InventoryError(f"{device.name}: its maker's voucher key is not here; have the authority sign")


def _check_tier_1(store: Store, devices: Sequence[Held]) -> None:
    """Check that each device can be shown to another authority: its tier 1 certificate is here, and good."""
    ids = [device.id for device in devices]
    shown: set[int] = set()
    with store.reading() as connection:
        for start in range(0, len(ids), _PAGE):
            rows = connection.execute(_WITH_TIER_1, {"ids": ids[start : start + _PAGE]})
            shown.update(rows.scalars())
    for device in devices:
        if device.id not in shown:
            raise InventoryError(f"{device.name}: has no tier 1 certificate here that is good")


def _has(device: Held, receiver: Receiver, givers: Mapping[Domain, Giver]) -> bool:
    """Whether the device is the receiver's already."""
    here = givers[device.domain].authority
    if receiver.authorities:
        return device.authority(here) == receiver.authorities[device.domain]
    return device.owner == receiver.name


def _carry_out(
    store: Store,
    devices: Sequence[Held],
    todo: Sequence[Held],
    order: _Order,
    now: int,
    progress: Progress | None,
) -> list[Handed]:
    done: dict[int, Handed] = {}
    before = len(devices) - len(todo)
    for start in range(0, len(todo), GROUP):
        done |= _hand_over(store, todo[start : start + GROUP], order, now)
        if progress is not None:
            progress(before + len(done))
    return [
        done.get(one.id) or Handed(one.name, one.client_id, one.domain, one.epoch, is_new=False, ended=0)
        for one in devices
    ]


def _hand_over(store: Store, group: Sequence[Held], order: _Order, now: int) -> dict[int, Handed]:
    rows = [_row(device, order, now) for device in group]
    ids = [device.id for device in group]
    with store.writing(now) as writing:
        connection = writing.connection
        found = {row.id: row.epoch for row in connection.execute(_EPOCHS, {"ids": ids})}
        for device in group:
            if found.get(device.id) != device.epoch:
                raise InventoryError(f"{device.name}: changes hands just now; ask again")
        ended = end_services(writing, ids, order.reason, f"{order.event.value}: {order.reason.name.lower()}")
        connection.execute(_KEEP_FIRST, [_first(device, order) for device in group])
        connection.execute(_ADD, rows)
        connection.execute(
            _HAND_OVER,
            [
                {
                    "target": device.id,
                    "next": row["epoch"],
                    "whose": row["owner"] or None,
                    "labels": device.entitled if _stays(device, order) else "",
                }
                for device, row in zip(group, rows, strict=True)
            ],
        )
        # What was refused to the owner before may be right for the next one; and who asks again for the owner
        # before shall hear of the newest one.
        connection.execute(_FORGET_REFUSALS, {"ids": ids})
        gone = [device.id for device in group if not _stays(device, order)]
        if gone:  # and report to somebody else from now on
            connection.execute(_FORGET_REPORTS, {"ids": gone})
        for device, row in zip(group, rows, strict=True):
            writing.note(Entry(order.event, device.client_id, device.name, detail=_detail(row)))
    return {
        device.id: Handed(
            device.name,
            device.client_id,
            device.domain,
            device.epoch + 1,
            is_new=True,
            ended=ended.get(device.id, 0),
        )
        for device in group
    }


def end_services(
    writing: Writing, devices: Sequence[int], reason: RevocationReason, detail: str
) -> dict[int, int]:
    """Revoke whatever is pending or current of these devices but for tier 1; what was granted has ended.

    Returns:
        How many certificates ended, by device.
    """
    end_grants(writing, devices, detail)
    ended: dict[int, int] = {}
    for one in life.revoke(writing, life.services_of_devices(writing, devices), reason, detail):
        ended[one.device_id] = ended.get(one.device_id, 0) + 1
    return ended


def _stays(device: Held, order: _Order) -> bool:
    """Whether the device goes on with the authority here."""
    return order.receiver is None or not order.receiver.authorities


def _row(device: Held, order: _Order, now: int) -> dict[str, Any]:
    giver, receiver = order.givers[device.domain], order.receiver
    authority = giver.authority
    if receiver is not None and receiver.authorities:
        authority = receiver.authorities[device.domain]
    epoch = device.epoch + 1
    voucher = Voucher.issue(giver.signer, giver.key_id, device.name, authority, epoch)
    return {
        "device_id": device.id,
        "epoch": epoch,
        "authority": authority,
        "owner": device.owner if receiver is None else receiver.name,
        "voucher": voucher.encoded,
        "signed_by": giver.key_id,
        "is_by_maker": int(giver.maker is not None),
        "shortcut": None,
        "at": None if receiver is None else receiver.at,
        "since": now,
        "approved_by": order.approved_by,
    }


def _first(device: Held, order: _Order) -> dict[str, Any]:
    """Return the row of the owner whom the device has now, for whom nothing had to be written down yet."""
    return {
        "device_id": device.id,
        "epoch": device.epoch,
        "authority": order.givers[device.domain].authority,
        "owner": device.owner,
        "voucher": None,
        "signed_by": None,
        "is_by_maker": 0,
        "shortcut": None,
        "at": None,
        "since": device.registered_at,
        "approved_by": "",
    }


def _detail(row: Mapping[str, Any]) -> str:
    owner = f"{row['owner']!r}, " if row["owner"] else ""
    by = "the maker" if row["is_by_maker"] else "the authority before"
    return (
        f"epoch {row['epoch']}: {owner}authority {row['authority'].hex()[:16]}, "
        f"voucher by {by}, approved by {row['approved_by']!r}"
    )
