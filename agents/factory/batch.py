"""Makes device identities by the batch, and goes on where it was interrupted.

    OUT/batch.json       the order, how many devices are on disk, how many of them are registered
    OUT/<device name>/   one identity folder (`agents.devices.identity`) each
    OUT/manifest.cose    signed by the maker; manifest.json says the same for people

Files are not flushed one by one, which would take ten times as long as everything else: a chunk of
devices is written, then the file systems are synchronised once, then `batch.json` counts the chunk, and
only then is it registered. After power loss, devices that are not counted are made anew, with new keys:
nobody has heard of the old ones.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from agents.devices.identity import (
    BOOTSTRAP,
    BOOTSTRAP_KEY,
    BOOTSTRAP_PEM,
    IDENTITY,
    ROOT,
    ROOT_PEM,
    STATE,
    VOUCHER,
    VOUCHER_KEY,
    Identity,
    IdentityError,
)
from agents.factory.maker import MadeDevice, Maker
from agents.factory.manifest import ManifestEntry, write_manifest
from agents.factory.names import MAX_SERIAL, device_name
from agents.keys import generate, write_atomically
from agents.keys.files import PrivateKey
from protocol import c509
from protocol.errors import EnrollmentError, RequestRejected
from protocol.identity import client_id
from protocol.labels import Tier
from protocol.path import check_prefix
from protocol.profiles import Prefix, Profile, name_space, profile_of
from protocol.voucher import Voucher, key_identifier

BATCH: Final = "batch.json"
MANIFEST: Final = "manifest.cose"
MANIFEST_JSON: Final = "manifest.json"
CHUNK: Final = 256
"""Devices between two flushes, and in one transaction of the inventory."""


class FactoryError(ValueError):
    """The batch cannot be made as asked; the text is for people."""


@dataclass(frozen=True, slots=True)
class Batch:
    """An order, and how far it is."""

    label: str
    count: int
    prefix: str
    """Three bytes, hex."""
    start: int
    """Serial number of the first device."""
    maker: str
    """Key identifier of the issuing CA, hex."""
    made: int = 0
    """Devices whose folders are on disk."""
    registered: int = 0
    """Of these, how many the inventory has."""

    def names(self, first: int, last: int) -> Iterator[str]:
        """Yield the names of the devices from `first` to before `last`, counted from 0."""
        profile = profile_of(self.label)
        for index in range(first, last):
            yield device_name(profile, bytes.fromhex(self.prefix), self.start + index)


def make_batch(
    maker: Maker,
    label: str,
    count: int,
    out: Path,
    *,
    device_passphrase: bytes | None = None,
    prefix: bytes | None = None,
    start: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Batch:
    """Make `count` identities under `out`, or go on making them. Blocks on keys, disk and store.

    Args:
        maker: Open for work.
        label: A tier 1 label.
        count: Number of devices, >= 1.
        out: A folder that does not exist, is empty, or holds this same order's batch.
        device_passphrase: For the devices' private keys; None leaves them unencrypted, as most devices
            have nowhere to keep a passphrase.
        prefix: Three bytes, one of the maker's FLAG ids or OUIs; None if it has only one.
        start: Serial number of the first device; two batches must not overlap.
        progress: Told (done, count) now and then.

    Returns:
        The finished batch.

    Raises:
        FactoryError: Not such a label, count or folder; a prefix that is not the maker's, said before
            anything is made; or a name is taken by another device.
        OSError: The disk failed; calling again goes on.
    """
    profile = _tier_one(label)
    if count < 1 or start < 0 or start + count - 1 > MAX_SERIAL:
        raise FactoryError("a batch has 1 to 2^40 devices, and its serial numbers are below 2^40")
    prefix = _prefix(maker, profile, prefix)
    maker_id = maker.authority.key_id
    batch = _open(out, Batch(label, count, prefix.hex(), start, maker_id.hex()))
    line = _Line(maker, maker_id, profile, out, device_passphrase)
    _report(progress, batch)
    while batch.registered < count:
        if batch.made == batch.registered:
            last = min(count, batch.made + CHUNK)
            for name in batch.names(batch.made, last):
                line.make(name)
            os.sync()
            batch = _keep(out, replace(batch, made=last))
        devices = [_read(out / name) for name in batch.names(batch.registered, batch.made)]
        try:
            maker.register(devices)
        except ValueError as error:
            raise FactoryError(str(error)) from error
        batch = _keep(out, replace(batch, registered=batch.made))
        _report(progress, batch)
    _write_manifest(maker, out, batch)
    return batch


def _tier_one(label: str) -> Profile:
    try:
        profile = profile_of(label)
    except EnrollmentError as error:
        raise FactoryError(str(error)) from None
    if profile.tier is not Tier.BOOTSTRAPPING:
        raise FactoryError(f"{label} certificates are enrolled over the air; a factory makes tier 1")
    return profile


def _prefix(maker: Maker, profile: Profile, given: bytes | None) -> bytes:
    """Return what the names of a batch begin with, if the maker may name devices so."""
    space = name_space(profile.naming)
    if space is None:  # nobody assigns such prefixes: `device_name` says what will do
        return given or b""
    own = sorted(maker.authority.prefixes.get(space, ()))
    if not own:
        raise FactoryError(f"the maker's CA lists no {space.title}, so it names no devices")
    if given is None and len(own) > 1:
        raise FactoryError(f"say which {space.title} the names begin with: {', '.join(map(str, own))}")
    try:
        prefix = own[0] if given is None else Prefix(space, given)
        check_prefix(prefix, maker.authority, profile)
    except (ValueError, RequestRejected) as error:
        raise FactoryError(str(error)) from None
    return prefix.octets


def _report(progress: Callable[[int, int], None] | None, batch: Batch) -> None:
    if progress is not None:
        progress(batch.registered, batch.count)


def _open(out: Path, order: Batch) -> Batch:
    """Return how far the order is; start it if need be."""
    try:
        known = Batch(**json.loads((out / BATCH).read_text()))
    except FileNotFoundError:
        if out.exists() and any(out.iterdir()):
            raise FactoryError(f"{out} has other content") from None
        out.mkdir(parents=True, exist_ok=True)
        return _keep(out, order)
    except (ValueError, TypeError, NotADirectoryError):
        raise FactoryError(f"{out} has other content") from None
    if replace(known, made=0, registered=0) != order:
        raise FactoryError(f"{out} holds another batch: {known.count} of {known.label} from {known.start}")
    return known


def _keep(out: Path, batch: Batch) -> Batch:
    write_atomically(out / BATCH, json.dumps(asdict(batch), indent=2).encode(), mode=0o644)
    return batch


def _read(folder: Path) -> MadeDevice:
    try:
        identity = Identity.load(folder)
        certificate = c509.decode_certificate((folder / BOOTSTRAP).read_bytes())
    except (IdentityError, EnrollmentError, OSError) as error:
        raise FactoryError(f"{folder} was made and is damaged: {error}") from None
    return MadeDevice(identity.device, identity.label, certificate, identity.client_id)


def _write_manifest(maker: Maker, out: Path, batch: Batch) -> None:
    devices = (_read(out / name) for name in batch.names(0, batch.count))
    entries = [
        ManifestEntry(d.name, d.client_id, hashlib.sha256(d.certificate.encoded).digest()) for d in devices
    ]
    signed = write_manifest(maker.voucher_signer, maker.voucher_key, batch.label, entries)
    people = {
        "label": batch.label,
        "maker": batch.maker,
        "devices": [
            {"device": e.device, "client_id": e.client_id, "certificate_sha256": e.digest.hex()}
            for e in entries
        ],
    }
    write_atomically(out / MANIFEST_JSON, json.dumps(people, indent=1).encode(), mode=0o644)
    write_atomically(out / MANIFEST, signed, mode=0o644)


class _Line:
    """The assembly line: what is the same for every device of a batch is made once."""

    def __init__(
        self, maker: Maker, maker_id: bytes, profile: Profile, out: Path, passphrase: bytes | None
    ) -> None:
        self._maker = maker
        self._maker_id = maker_id
        self._profile = profile
        self._out = out
        self._encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        self._voucher_key_id = key_identifier(maker.voucher_key)
        self._path_pem = b"".join(_pem(certificate) for certificate in maker.path)
        self._common = {
            ROOT: maker.root.encoded,
            ROOT_PEM: b"".join(_pem(anchor) for anchor in maker.anchors),
            VOUCHER_KEY: maker.voucher_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        }

    def make(self, name: str) -> None:
        """Make one device; whatever an earlier attempt left of it goes."""
        folder = self._out / name
        if folder.exists():
            shutil.rmtree(folder)
        key = generate(self._profile.algorithms[0])
        certificate = self._maker.issue(self._profile, name, _point(key))
        voucher = Voucher.issue(
            self._maker.voucher_signer, self._voucher_key_id, name, self._maker.owner, epoch=0
        )
        identity = {
            "device": name,
            "label": self._profile.label,
            "domain": self._profile.domain.value,
            "client_id": client_id(self._maker_id, name),
            "maker": self._maker_id.hex(),
        }
        (folder / STATE).mkdir(parents=True, mode=0o700)
        _write(folder / BOOTSTRAP_KEY, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, self._encryption))
        _write(folder / BOOTSTRAP, certificate.encoded)
        # With the CAs above it, as TLS wants to show it.
        _write(folder / BOOTSTRAP_PEM, _pem(certificate) + self._path_pem)
        for file, content in self._common.items():
            _write(folder / file, content)
        _write(folder / VOUCHER, voucher.encoded)
        _write(folder / IDENTITY, json.dumps(identity, indent=1).encode())


def _point(key: PrivateKey) -> bytes:
    public_key = key.public_key()
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return public_key.public_bytes_raw()
    return public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _write(path: Path, data: bytes) -> None:
    mode = 0o600 if path.name == BOOTSTRAP_KEY else 0o644
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _pem(certificate: c509.Certificate) -> bytes:
    return x509.load_der_x509_certificate(certificate.to_der()).public_bytes(Encoding.PEM)
