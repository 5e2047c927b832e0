"""Devices that come from another owner, written into the inventory: each group in one durable transaction."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from agents.authority import life
from agents.authority.audit import Entry, Event
from agents.authority.epochs import Epoch, read_epochs
from agents.authority.intents import bootstrap_rows
from agents.authority.inventory import InventoryError
from agents.authority.maker_paths import keep_paths
from agents.authority.ownership import GROUP, Giver, Handed
from agents.authority.schema import CERTIFICATES, DEVICES, KEYS, OWNERS
from agents.authority.store import Store, Writing
from agents.authority.tier1 import retire
from protocol import c509
from protocol.exchange.request import RevocationReason
from protocol.labels import Domain
from protocol.profiles import services_of
from protocol.transfer import TransferBundle, TransferredDevice
from protocol.voucher import Voucher

_D: Final = DEVICES.c
_KNOWN = select(DEVICES).where(_D.client_id.in_(bindparam("clients", expanding=True)))
_TIER_1 = select(CERTIFICATES.c.id, CERTIFICATES.c.device_id, CERTIFICATES.c.encoded).where(
    CERTIFICATES.c.device_id.in_(bindparam("devices", expanding=True)),
    CERTIFICATES.c.parent_id.is_(None),
    CERTIFICATES.c.state == life.CURRENT,
)
_TAKE = (
    update(DEVICES)
    .where(_D.id == bindparam("target"))
    .values(epoch=bindparam("next"), owner=None, entitled=bindparam("labels"))
)
_LAST_DEVICE = select(func.max(_D.id))
_LAST_KEY = select(func.max(KEYS.c.id))


@dataclass(frozen=True, slots=True)
class Arrival:
    """One device of a bundle, verified."""

    device: TransferredDevice
    maker: bytes
    certificate: c509.Certificate
    signed_by: bytes
    """Key identifier of the voucher's signer."""
    is_by_maker: bool


def look(store: Store, arrivals: Sequence[Arrival], here: bytes) -> None:
    """Refuse a bundle of which one device cannot be taken, before any is."""
    with store.reading() as connection:
        for start in range(0, len(arrivals), GROUP):
            group = arrivals[start : start + GROUP]
            clients = [one.device.client_id for one in group]
            rows = {row.client_id: row for row in connection.execute(_KNOWN, {"clients": clients})}
            epochs = read_epochs(connection, [row.id for row in rows.values() if row.epoch > 0])
            for one in group:
                row = rows.get(one.device.client_id)
                if row is not None:
                    _is_known(one, row, epochs.get(row.id, []), here)


def _is_known(arrival: Arrival, row: Any, epochs: Sequence[Epoch], here: bytes) -> bool:  # noqa: ANN401 (a row)
    """Return whether this very transfer was accepted before; InventoryError if it is from before another."""
    device = arrival.device
    present = epochs[-1].authority if epochs else here
    if row.epoch == device.epoch and present == here and epochs and epochs[-1].voucher == device.voucher:
        return True
    if row.epoch >= device.epoch:
        raise InventoryError(
            f"{device.name}: the bundle is of epoch {device.epoch}, here it is in epoch {row.epoch} already"
        )
    if present == here:
        raise InventoryError(f"{device.name}: belongs to this authority; nobody else can give it")
    return False


class Reception:
    """Takes groups of devices in, each in one durable transaction."""

    def __init__(
        self,
        store: Store,
        bundle: TransferBundle,
        makers: Mapping[bytes, bytes],
        here: bytes,
        old: str,
        approved_by: str,
        now: int,
        giver: Callable[[Domain], Giver] | None,
    ) -> None:
        self._store = store
        self._bundle = bundle
        self._makers = makers
        self._here = here
        self._old = old
        self._approved_by = approved_by
        self._now = now
        self._open = giver
        self._giver: Giver | None = None

    def take(self, group: Sequence[Arrival]) -> list[Handed]:
        """Enter a group; return what became of each device, in order."""
        clients = [one.device.client_id for one in group]
        with self._store.reading() as connection:
            ids = connection.execute(_KNOWN, {"clients": clients}).all()
        shortcuts = self._shortcuts(group, {row.client_id for row in ids})
        with self._store.writing(self._now) as writing:
            rows = {row.client_id: row for row in writing.connection.execute(_KNOWN, {"clients": clients})}
            epochs = read_epochs(writing.connection, [row.id for row in rows.values() if row.epoch > 0])
            tier_1 = {
                row.device_id: row
                for row in writing.connection.execute(_TIER_1, {"devices": [row.id for row in rows.values()]})
            }
            fresh: list[tuple[Arrival, Any]] = []
            for one in group:
                row = rows.get(one.device.client_id)
                if row is None or not _is_known(one, row, epochs.get(row.id, []), self._here):
                    fresh.append((one, row))
            self._write(writing, fresh, tier_1, shortcuts)
        new = {one.device.client_id for one, _ in fresh}
        return [
            Handed(
                one.device.name,
                one.device.client_id,
                self._bundle.domain,
                one.device.epoch,
                is_new=one.device.client_id in new,
                ended=0,
            )
            for one in group
        ]

    def _shortcuts(self, group: Sequence[Arrival], known: set[str]) -> dict[str, bytes]:
        """Return our own vouchers for devices that come back, for whoever believes that it never went."""
        back = [one.device for one in group if one.device.client_id in known]
        if not back or self._open is None:
            return {}
        if self._giver is None:
            self._giver = self._open(self._bundle.domain)
        giver = self._giver
        return {
            device.client_id: Voucher.issue(
                giver.signer, giver.key_id, device.name, self._here, device.epoch
            ).encoded
            for device in back
        }

    def _write(
        self,
        writing: Writing,
        fresh: Sequence[tuple[Arrival, Any]],
        tier_1: Mapping[int, Any],
        shortcuts: Mapping[str, bytes],
    ) -> None:
        connection, now = writing.connection, self._now
        number = int(connection.execute(_LAST_DEVICE).scalar_one() or 0)
        key_number = int(connection.execute(_LAST_KEY).scalar_one() or 0)
        new: list[dict[str, Any]] = []
        changed: list[dict[str, Any]] = []
        owners: list[dict[str, Any]] = []
        keys: list[dict[str, object]] = []
        certificates: list[dict[str, object]] = []
        replaced: list[int] = []
        for one, row in fresh:
            device = one.device
            labels = " ".join(services_of(device.label))
            if row is None:
                number += 1
                device_id = number
                new.append(self._device(one, number, labels))
            else:
                device_id = row.id
                changed.append({"target": row.id, "next": device.epoch, "labels": labels})
            held = tier_1.get(device_id)
            if held is None or held.encoded != device.certificate:
                if held is not None:
                    replaced.append(held.id)
                key_number += 1
                key, certificate = bootstrap_rows(
                    key_number, device_id, one.maker, device.label, one.certificate, now
                )
                keys.append(key)
                certificates.append(certificate)
            owners.append(self._owner(one, device_id, shortcuts.get(device.client_id)))
            writing.note(self._entry(one))
        keep_paths(writing, self._bundle.domain, self._makers)
        retire(writing, replaced, RevocationReason.SUPERSEDED, "another came with its new owner")
        try:
            for statement, rows in (
                (insert(DEVICES), new),
                (_TAKE, changed),
                (insert(KEYS), keys),
                (insert(CERTIFICATES), certificates),
                (insert(OWNERS), owners),
            ):
                if rows:
                    connection.execute(statement, rows)
        except IntegrityError as error:
            raise InventoryError(f"a name or key is registered for another device ({error.orig})") from None

    def _device(self, arrival: Arrival, number: int, labels: str) -> dict[str, Any]:
        device = arrival.device
        return {
            "id": number,
            "name": device.name,
            "domain": self._bundle.domain.value,
            "label": device.label,
            "maker": arrival.maker,
            "client_id": device.client_id,
            "epoch": device.epoch,
            "entitled": labels,
            "registered_at": self._now,
        }

    def _owner(self, arrival: Arrival, device_id: int, shortcut: bytes | None) -> dict[str, Any]:
        device = arrival.device
        return {
            "device_id": device_id,
            "epoch": device.epoch,
            "authority": self._here,
            "owner": "",
            "voucher": device.voucher,
            "signed_by": arrival.signed_by,
            "is_by_maker": int(arrival.is_by_maker),
            "shortcut": shortcut,
            "at": None,
            "since": self._now,
            "approved_by": self._approved_by,
        }

    def _entry(self, arrival: Arrival) -> Entry:
        device = arrival.device
        bundle = self._bundle
        detail = (
            f"epoch {device.epoch}: from {self._old!r}, authority {bundle.giver.hex()[:16]}, "
            f"approved there by {bundle.approved_by!r}, here by {self._approved_by!r}"
        )
        return Entry(
            Event.TRANSFER, device.client_id, device.name, device.label, arrival.certificate.serial, detail
        )
