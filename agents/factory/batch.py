"""Makes the identities of an order, and goes on where it was interrupted.

    OUT/batch.json         the order, how many devices are on disk, how many of them are registered
    OUT/<device name>/     one identity folder (`agents.devices.identity`) each, or <device name>.zip
    OUT/certificates.cbor  every certificate (`agents.factory.ledger`)
    OUT/manifest.cose      signed by the maker; manifest.json says the same for people
    OUT/order.cbor         the devices of the order, unless they are counted; report.json: those left out

Files are not flushed one by one, which would take ten times as long as everything else: a chunk of
devices is written, then the file systems are synchronised once, then the certificates are appended and
`batch.json` counts the chunk, and only then is it registered. After power loss, devices that are not counted
are made anew, with new keys: nobody has heard of the old ones.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from agents.factory import ledger
from agents.factory.bundle import Bundle, put
from agents.factory.ledger import Record
from agents.factory.line import Line
from agents.factory.maker import MadeDevice, Maker
from agents.factory.manifest import write_manifest
from agents.factory.order import (
    FactoryError,
    Item,
    Order,
    check_inventory,
    counted,
    numbering_of,
    tier_one,
)
from agents.factory.sheet import Wrong
from agents.keys import write_atomically
from protocol import c509, cbor
from protocol.errors import MalformedMessage

BATCH: Final = "batch.json"
LEDGER: Final = "certificates.cbor"
MANIFEST: Final = "manifest.cose"
MANIFEST_JSON: Final = "manifest.json"
ORDER: Final = "order.cbor"
REPORT: Final = "report.json"
CHUNK: Final = 512
"""Devices between two flushes, and in one transaction of the inventory."""
_MAX_ORDER_BYTES: Final = 1 << 28
Progress = Callable[[int, int], None]


class WrongRows(FactoryError):
    """Some of an order cannot be made, so nothing was.

    Attributes:
        order: What could be made, and what is wrong.
    """

    def __init__(self, order: Order) -> None:
        first = order.wrong[0]
        where = ": ".join(part for part in (first.where, first.device, first.reason) if part)
        more = f", and {len(order.wrong) - 1} more" if len(order.wrong) > 1 else ""
        super().__init__(f"{where}{more}")
        self.order = order


@dataclass(frozen=True, slots=True)
class Batch:
    """An order, and how far it is."""

    label: str
    count: int
    source: str
    """What was asked for, in words."""
    order: str
    """Digest of it, hex."""
    maker: str
    """Key identifier of the issuing CA, hex."""
    bundle: str = Bundle.FOLDER.value
    made: int = 0
    """Devices that are on disk."""
    registered: int = 0
    """Of these, how many the inventory has."""
    certificates: int = 0
    """Bytes of the file of certificates that count."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A batch that is done."""

    batch: Batch
    items: Sequence[Item]
    wrong: tuple[Wrong, ...] = ()
    """What was left out."""

    def names(self) -> Iterator[str]:
        """Yield the names of its devices, in order."""
        return (item.name for item in self.items)


def make_batch(  # noqa: PLR0913 (what a count needs to become names, each by its name)
    maker: Maker,
    label: str,
    count: int,
    out: Path,
    *,
    device_passphrase: bytes | None = None,
    prefix: bytes | None = None,
    operator: str | None = None,
    start: int = 1,
    progress: Progress | None = None,
) -> Finished:
    """Make `count` identities under `out`, or go on making them. Blocks on keys, disk and store.

    Args:
        maker: Open for work.
        label: A tier 1 label.
        count: Number of devices, >= 1.
        out: A folder that does not exist, is empty, or holds this same order's batch.
        device_passphrase: For the devices' private keys; None leaves them unencrypted, as most devices
            have nowhere to keep a passphrase.
        prefix: Three bytes, one of the maker's FLAG ids, OUIs or WMIs; None if it has only one.
        operator: Of stations: country and operator, like DETRL.
        start: Serial number of the first device; two batches must not overlap.
        progress: Told (done, count) now and then.

    Raises:
        FactoryError: Not such a label, count or folder; a prefix that is not the maker's, said before
            anything is made; or a name is taken by another device.
        OSError: The disk failed; calling again goes on.
    """
    numbering = numbering_of(maker, tier_one(label), prefix, operator)
    order = counted(maker, label, count, numbering, start=start)
    return make_order(maker, order, out, device_passphrase=device_passphrase, progress=progress)


def make_order(
    maker: Maker,
    order: Order,
    out: Path,
    *,
    device_passphrase: bytes | None = None,
    bundle: Bundle = Bundle.FOLDER,
    only_good: bool = False,
    progress: Progress | None = None,
) -> Finished:
    """Make what an order asks for under `out`, or go on making it. Blocks on keys, disk and store.

    Args:
        maker: Open for work.
        order: As `counted`, `from_sheet` or `from_requests` made it, for this maker.
        out: A folder that does not exist, is empty, or holds this same order's batch.
        device_passphrase: As in `make_batch`.
        bundle: How each device's identity is written.
        only_good: Make the others where some cannot be made.
        progress: Told (done, count) now and then.

    Raises:
        WrongRows: Some cannot be made, and `only_good` does not say to go on. Nothing was made.
        FactoryError: As in `make_batch`.
        OSError: The disk failed; calling again goes on.
    """
    profile = tier_one(order.label)
    known = _known(out, order, bundle)
    if known is None:
        order = check_inventory(maker, order)
        if order.wrong and not only_good:
            raise WrongRows(order)
        if not order.items:
            raise FactoryError("nothing is left to be made")
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        batch, items, wrong = _open(out, order, bundle, maker)
        works = _Works(maker, out, items, Line(maker, profile, device_passphrase), progress)
        works.run(batch)
        return Finished(works.batch, items, wrong)


def _known(out: Path, order: Order, bundle: Bundle) -> Batch | None:
    """Return the batch in a folder; None where there is none yet."""
    try:
        known = Batch(**json.loads((out / BATCH).read_text()))
    except FileNotFoundError:
        # What is written before the batch itself may be left of an attempt.
        if out.exists() and any(path.name not in (ORDER, REPORT) for path in out.iterdir()):
            raise FactoryError(f"{out} has other content") from None
        return None
    except (ValueError, TypeError, NotADirectoryError):
        raise FactoryError(f"{out} has other content") from None
    if (known.order, known.bundle) != (order.digest.hex(), bundle.value):
        raise FactoryError(f"{out} holds another batch: {known.label}, {known.source}, as {known.bundle}s")
    return known


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold a folder: two processes that make one batch would count each other's devices."""
    descriptor = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise FactoryError(f"{out}: another process is making this batch") from None
    finally:
        os.close(descriptor)


def _open(
    out: Path, order: Order, bundle: Bundle, maker: Maker
) -> tuple[Batch, Sequence[Item], tuple[Wrong, ...]]:
    """Return how far the batch is, its items and what was left out; start it if need be."""
    known = _known(out, order, bundle)
    if known is not None:
        items = _load_items(out) if (out / ORDER).exists() else order.items
        if len(items) != known.count:
            raise FactoryError(f"{out / ORDER} is damaged")
        return known, items, _load_report(out)
    is_counted = not order.where and not order.wrong
    for name in (ORDER, REPORT):
        (out / name).unlink(missing_ok=True)
    if not is_counted:
        encoded = cbor.encode([[item.name, item.key, item.serial, item.client] for item in order.items])
        write_atomically(out / ORDER, encoded, mode=0o644)
    if order.wrong:
        report = json.dumps({"left_out": [asdict(one) for one in order.wrong]}, indent=1)
        write_atomically(out / REPORT, report.encode(), mode=0o644)
    batch = Batch(
        order.label,
        len(order.items),
        order.source,
        order.digest.hex(),
        maker.authority.key_id.hex(),
        bundle.value,
    )
    return _keep(out, batch), order.items, order.wrong


def _load_items(out: Path) -> list[Item]:
    try:
        listed: Any = cbor.decode((out / ORDER).read_bytes(), max_bytes=_MAX_ORDER_BYTES)
        return [Item(name, key, serial, client) for name, key, serial, client in listed]
    except (MalformedMessage, TypeError, ValueError):
        raise FactoryError(f"{out / ORDER} is damaged") from None


def _load_report(out: Path) -> tuple[Wrong, ...]:
    try:
        report = json.loads((out / REPORT).read_text())
        return tuple(Wrong(**one) for one in report["left_out"])
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError, KeyError):
        raise FactoryError(f"{out / REPORT} is damaged") from None


def _keep(out: Path, batch: Batch) -> Batch:
    write_atomically(out / BATCH, json.dumps(asdict(batch), indent=2).encode(), mode=0o644)
    return batch


class _Works:
    """Makes a batch, chunk by chunk."""

    def __init__(
        self, maker: Maker, out: Path, items: Sequence[Item], line: Line, progress: Progress | None
    ) -> None:
        self._maker = maker
        self._out = out
        self._items = items
        self._line = line
        self._progress = progress

    def run(self, batch: Batch) -> None:
        """Make what is missing, and the manifest."""
        self.batch = batch
        self._report()
        if batch.registered < batch.made:
            self._register(self._made_before())
        while self.batch.made < batch.count:
            self._register(self._make())
        if not (self._out / MANIFEST).exists():
            self._write_manifest()

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self.batch.registered, self.batch.count)

    def _make(self) -> list[MadeDevice]:
        first, batch = self.batch.made, self.batch
        chunk = self._items[first : first + CHUNK]
        records: list[Record] = []
        devices: list[MadeDevice] = []
        for item in chunk:
            made = self._line.make(item)
            put(self._out, item.name, made.files, Bundle(batch.bundle))
            records.append(made.record)
            devices.append(made.device)
        os.sync()
        size = ledger.append(self._out / LEDGER, batch.certificates, records)
        self.batch = _keep(self._out, replace(batch, made=first + len(chunk), certificates=size))
        return devices

    def _made_before(self) -> list[MadeDevice]:
        """Return the devices that are on disk, and perhaps not registered."""
        batch, devices = self.batch, []
        for record in islice(self._records(), batch.registered, batch.made):
            certificate = c509.decode_certificate(record.certificate)
            devices.append(MadeDevice(record.device, batch.label, certificate, record.client_id))
        return devices

    def _records(self) -> Iterator[Record]:
        try:
            records = islice(ledger.read(self._out / LEDGER), self.batch.made)
            for record, item in zip(records, self._items[: self.batch.made], strict=True):
                if record.device != item.name:
                    raise MalformedMessage("another device than was ordered")  # noqa: TRY301 (as all others)
                yield record
        except (MalformedMessage, ValueError, OSError) as error:
            raise FactoryError(f"{self._out / LEDGER} is damaged: {error}") from None

    def _register(self, devices: Sequence[MadeDevice]) -> None:
        try:
            self._maker.register(devices)
        except ValueError as error:
            raise FactoryError(str(error)) from error
        self.batch = _keep(self._out, replace(self.batch, registered=self.batch.made))
        self._report()

    def _write_manifest(self) -> None:
        maker, batch = self._maker, self.batch
        signed = write_manifest(
            maker.voucher_signer,
            maker.voucher_key,
            batch.label,
            maker.authority.key_id,
            maker.owner,
            (record.entry for record in self._records()),
        )
        write_atomically(self._out / MANIFEST_JSON, self._for_people(), mode=0o644)
        write_atomically(self._out / MANIFEST, signed, mode=0o644)

    def _for_people(self) -> bytes:
        head = {"label": self.batch.label, "maker": self.batch.maker, "owner": self._maker.owner.hex()}
        lines = [
            json.dumps(
                {
                    "device": entry.device,
                    "client_id": entry.client_id,
                    "certificate_sha256": entry.digest.hex(),
                    "key_origin": entry.origin.name.lower(),
                    "serial": entry.serial,
                    "client": entry.client,
                }
            )
            for entry in (record.entry for record in self._records())
        ]
        devices = ",\n  ".join(lines)
        return f'{json.dumps(head)[:-1]}, "devices": [\n  {devices}\n]}}\n'.encode()
