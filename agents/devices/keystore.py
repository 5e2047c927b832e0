"""A device's keys on disk: two at most per label, and never none that the authority accepts.

One file per label holds the current and the pending credential together and is replaced as a whole, so
every step of a rekey is one atomic change: pending key and request, pending certificate, promotion (the
old key is gone with the same rename that makes the new one current), or discard. Power loss between any
two instructions leaves the state before or after one step.

Message counters are reserved in blocks: the file says which counters may have been used, ahead of their
use, so none is used twice, and a crash skips at most `COUNTER_BLOCK` of them.

One process at a time has the store: the lock goes with the process, however it ends. The methods block
on the disk; the agent calls them from worker threads, one at a time.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from agents.devices.cabinet import Cabinet
from agents.devices.record import Current, LabelRecord, Pending, TrustRecord
from agents.keys import SoftwareSigner, generate, write_atomically
from agents.keys.files import PrivateKey, sync_folder
from protocol import c509
from protocol.cose import Algorithm
from protocol.errors import LocalProtocolError, MalformedMessage
from protocol.exchange.device_effects import (
    Credential,
    Discard,
    Drop,
    Effect,
    Install,
    InstallKey,
    Learn,
    LearnRevocations,
    Promote,
    Save,
    TakeVoucher,
)
from protocol.labels import Operation
from protocol.message import MAX_COUNTER
from protocol.profiles import PROFILES
from protocol.signing import Signer
from protocol.voucher import Voucher

COUNTER_BLOCK: Final = 256
"""Counters reserved with one write: a meter that reports every quarter of an hour writes every 64 hours,
and 2^63 counters outlast any number of crashes."""
TRUST: Final = "trust"
_LOCK: Final = "lock"


class StoreError(ValueError):
    """The key store cannot be used; the text names the file, never its content."""


class KeyStore:
    """The state folder of one identity, open in this process. Use `open_keystore`.

    Args:
        folder: The state folder.
        passphrase: For the private keys; None leaves them unencrypted.
        first: What the factory bundle says of the device's owner.
    """

    def __init__(self, folder: Path, passphrase: bytes | None, first: TrustRecord) -> None:
        self._folder = folder
        self._passphrase = passphrase
        self._credentials: dict[str, Credential] = {}
        self._fresh: dict[str, tuple[bytes, Operation]] = {}
        self._next: dict[str, int] = {}
        _remove_neighbours(folder)
        self._trust = self._read_trust() or first
        self._records = {label: self._read(label) for label in PROFILES if self._path(label).exists()}
        self._forget_former()

    @property
    def trust(self) -> TrustRecord:
        """Whom the device belongs to."""
        return self._trust

    @property
    def floor(self) -> int:
        """The time is later than this, POSIX seconds: latest notBefore that was ever verified."""
        return max(self._trust.floor, *(record.floor for record in self._records.values()), 0)

    def labels(self) -> tuple[str, ...]:
        """Return the labels under which there is anything."""
        return tuple(self._records)

    def current(self, label: str) -> Credential | None:
        """Return the credential in use; None where there is none of the present owner's.

        Raises:
            StoreError: The passphrase is wrong.
        """
        current = self._record(label).current
        if current is None or current.epoch != self._trust.epoch:
            return None
        if label not in self._credentials:
            self._credentials[label] = Credential(self._load_key(label, current.key), current.certificate)
        return self._credentials[label]

    def current_certificate(self, label: str) -> bytes | None:
        """Return the certificate of `current`; needs no passphrase."""
        current = self._record(label).current
        return None if current is None or current.epoch != self._trust.epoch else current.certificate

    def pending(self, label: str) -> Pending | None:
        """Return what was begun and not ended; None where nothing was, or for an owner before."""
        pending = self._record(label).pending
        return None if pending is None or pending.epoch != self._trust.epoch else pending

    def pending_key(self, label: str) -> Signer:
        """Return the key of `pending`; StoreError if the passphrase is wrong."""
        pending = self.pending(label)
        if pending is None:
            raise LocalProtocolError(f"nothing is pending under {label}")
        return self._load_key(label, pending.key)

    def begin(self, label: str, op: Operation, algorithm: Algorithm) -> Signer:
        """Return a new key, which `Save` will store together with its request."""
        key = generate(algorithm)
        self._fresh[label] = self._sealed(key), op
        return SoftwareSigner(key)

    def begin_without_key(self, label: str, op: Operation) -> None:
        """Prepare for a `Save` of a request whose answer will bring the key (`InstallKey`)."""
        self._fresh[label] = b"", op

    def apply(self, label: str, effect: Effect) -> None:
        """Do one effect of an exchange about `label`; when this returns, it survives power loss.

        Raises:
            OSError: The disk failed: the state is the one before or the one after.
        """
        record = self._record(label)
        match effect:
            case Learn(chain, seen):
                floor = max(self._trust.floor, seen.chain)
                self._write_trust(replace(self._trust, chain=chain, seen=seen, floor=floor))
            case LearnRevocations(number, this_update):
                floor = max(self._trust.floor, this_update)
                self._write_trust(replace(self._trust, crl_number=number, floor=floor))
            case TakeVoucher(voucher, at):
                self.take_voucher(voucher, at)
            case Save(request):
                self._write(label, replace(record, pending=self._pending(label, request)))
            case Install(certificate) | InstallKey(certificate):
                if record.pending is None:
                    raise LocalProtocolError("a certificate came before its request was stored")
                floor = max(record.floor, c509.decode_certificate(certificate).not_before)
                pending = replace(record.pending, certificate=certificate)
                if isinstance(effect, InstallKey):
                    pending = replace(pending, key=self._sealed(effect.key))
                self._write(label, replace(record, floor=floor, pending=pending))
            case Promote():
                if record.pending is None or record.pending.certificate is None:
                    raise LocalProtocolError("no certificate to promote")
                new = Current(record.pending.key, record.pending.certificate, record.pending.epoch)
                self._write(label, replace(record, current=new, pending=None))
                self._forget(label)
            case Discard():
                self._write(label, replace(record, pending=None))
            case Drop():
                self._write(label, replace(record, current=None, pending=None))
                self._forget(label)
            case _:
                raise LocalProtocolError(f"{type(effect).__name__} is not for the key store")

    def agreement_key(self, label: str) -> ec.EllipticCurvePrivateKey:
        """Return the current private key of `label`, which agrees on keys and signs nothing.

        Raises:
            LocalProtocolError: There is none.
            StoreError: The passphrase is wrong, or it is another kind of key.
        """
        current = self._record(label).current
        if self.current(label) is None or current is None:
            raise LocalProtocolError(f"no current certificate under {label}")
        key = self._load_private(label, current.key)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise StoreError(f"{self._path(label)} is damaged")
        return key

    def cabinet(self, name: str) -> Cabinet:
        """Return a folder for more secrets, under the same passphrase and lock."""
        return Cabinet(self._folder / name, self._passphrase)

    def next_counter(self, label: str) -> int:
        """Return a message counter that was never used with the current certificate of `label`."""
        record = self._record(label)
        current = record.current
        if current is None:
            raise LocalProtocolError(f"no current certificate under {label}")
        counter = self._next.get(label, current.reserved)
        if counter > MAX_COUNTER:
            raise StoreError(f"{self._path(label)}: all counters are used: rekey")
        if counter >= current.reserved:
            reserved = min(MAX_COUNTER + 1, counter + COUNTER_BLOCK)
            self._write(label, replace(record, current=replace(current, reserved=reserved)))
        self._next[label] = counter + 1
        return counter

    def take_voucher(self, voucher: Voucher, at: str | None = None) -> None:
        """Store a later owner's voucher; what the owner before issued is forgotten, keys and all.

        Args:
            voucher: Verified by the caller, its epoch too.
            at: Where the owner's authority is, a URI; None: as configured; for the same authority, as before.
        """
        trust = self._trust
        held = [label for label in PROFILES if self.current_certificate(label) or label in trust.wanted]
        if at is None and voucher.authority == trust.authority:
            at = trust.at
        # Neither the ages of chains nor what the owner before said of the time: a new one has its own, and
        # whoever's clock was years ahead would keep the device from believing it.
        record = TrustRecord(voucher.encoded, voucher.authority, voucher.epoch, at=at, wanted=tuple(held))
        self._write_trust(record)
        self._credentials.clear()
        self._next.clear()
        self._fresh.clear()
        for label in tuple(self._records):
            self._remove(label)

    def settle(self, label: str) -> None:
        """Note that the owner was asked for `label`."""
        if label in self._trust.wanted:
            wanted = tuple(one for one in self._trust.wanted if one != label)
            self._write_trust(replace(self._trust, wanted=wanted))

    def _forget_former(self) -> None:
        """Remove what a crash has left of owners before: nothing looks at it, and it holds keys."""
        for label, record in tuple(self._records.items()):
            epochs = [one.epoch for one in (record.current, record.pending) if one is not None]
            if epochs and max(epochs) < self._trust.epoch:
                self._remove(label)

    def _remove(self, label: str) -> None:
        self._path(label).unlink(missing_ok=True)
        del self._records[label]

    def _sealed(self, key: PrivateKey) -> bytes:
        encryption = BestAvailableEncryption(self._passphrase) if self._passphrase else NoEncryption()
        return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, encryption)

    def _pending(self, label: str, request: bytes) -> Pending:
        if label in self._fresh:
            key, op = self._fresh.pop(label)
            return Pending(key, op, self._trust.epoch, request)
        pending = self.pending(label)
        if pending is None:
            raise LocalProtocolError("a request without a key")
        return replace(pending, request=request)

    def _forget(self, label: str) -> None:
        self._credentials.pop(label, None)
        self._next.pop(label, None)

    def _record(self, label: str) -> LabelRecord:
        return self._records.get(label) or LabelRecord()

    def _path(self, label: str) -> Path:
        return self._folder / f"{label}.keys"

    def _write(self, label: str, record: LabelRecord) -> None:
        write_atomically(self._path(label), record.encode())
        self._records[label] = record

    def _write_trust(self, record: TrustRecord) -> None:
        write_atomically(self._folder / TRUST, record.encode())
        self._trust = record

    def _read(self, label: str) -> LabelRecord:
        path = self._path(label)
        try:
            return LabelRecord.decode(path.read_bytes())
        except MalformedMessage:
            raise StoreError(f"{path} is damaged") from None

    def _read_trust(self) -> TrustRecord | None:
        path = self._folder / TRUST
        try:
            return TrustRecord.decode(path.read_bytes())
        except FileNotFoundError:
            return None
        except MalformedMessage:
            raise StoreError(f"{path} is damaged") from None

    def _load_key(self, label: str, data: bytes) -> SoftwareSigner:
        return SoftwareSigner(self._load_private(label, data))

    def _load_private(self, label: str, data: bytes) -> PrivateKey:
        try:
            key: PrivateKey | object = load_der_private_key(data, self._passphrase)
        except (ValueError, TypeError):
            raise StoreError(f"{self._path(label)}: the passphrase is wrong or missing") from None
        if not isinstance(key, (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
            raise StoreError(f"{self._path(label)} is damaged")
        return key


@contextmanager
def open_keystore(folder: Path, passphrase: bytes | None, first: TrustRecord) -> Iterator[KeyStore]:
    """Open the state folder, which no other process may have open; make it if need be.

    Raises:
        StoreError: Another process has it, or a file in it is damaged.
        OSError: The disk failed.
    """
    if not folder.is_dir():
        folder.mkdir(mode=0o700)
        sync_folder(folder.parent)
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(f"{folder}: this identity is in use by another process") from None
        yield KeyStore(folder, passphrase, first)
    finally:
        os.close(descriptor)


def _remove_neighbours(folder: Path) -> None:
    """Remove what writes that a crash cut short have left: they may hold keys that nothing refers to."""
    for path in folder.glob(".*.new"):
        with suppress(FileNotFoundError):
            path.unlink()
