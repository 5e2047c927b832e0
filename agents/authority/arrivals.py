"""Certificates out of whatever another maker sends: a manifest's batch, a folder, PEM, DER, C509 or CSV."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from agents.authority.intake import Arrival
from agents.devices.identity import BOOTSTRAP
from agents.factory import ledger
from agents.factory.batch import LEDGER
from agents.factory.manifest import Manifest
from agents.factory.sheet import Column, SheetError, Wrong, read_sheet
from protocol import c509
from protocol.errors import MalformedMessage

MAX_FILE_BYTES: Final = 1 << 28
MAX_CERTIFICATE_BYTES: Final = 64 * 1024
COLUMNS: Final = {
    "device": Column(64),
    "pcid": Column(64),
    "certificate": Column(12 * 1024, is_text=False),
    "serial": Column(40),
    "client": Column(40),
}
"""What a CSV file of certificates may have; `pcid` is another word for `device`."""
_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_NO_KEYS: Final = "a private key is in it: whoever sent it has to replace that key"


class NoCertificates(ValueError):
    """A file as a whole cannot be used; the text is for people."""


def read_file(path: Path) -> bytes:
    """Return a file's content, of bounded length; OSError or NoCertificates if there is none."""
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise NoCertificates(f"{path}: is longer than {MAX_FILE_BYTES >> 20} MiB; split it")
    return data


def certificates_in(path: Path) -> Iterator[Arrival]:
    """Yield every certificate of a file or folder.

    Raises:
        NoCertificates: While iterating: it cannot be used as a whole.
        OSError: A file cannot be read.
    """
    if not path.is_dir():
        yield from _in_file(read_file(path), path.suffix.lower())
        return
    for file in sorted(path.iterdir()):
        if file.is_file() and not file.name.startswith("."):
            with file.open("rb") as opened:
                data = opened.read(MAX_CERTIFICATE_BYTES + 1)
            yield _single(data, file.name)


def _single(data: bytes, where: str) -> Arrival:
    if len(data) > MAX_CERTIFICATE_BYTES:
        return Arrival(where, problem=f"longer than {MAX_CERTIFICATE_BYTES} bytes")
    if b"PRIVATE KEY" in data:
        return Arrival(where, problem=_NO_KEYS)
    found = _PEM.search(data)
    if found is not None:
        return _from_base64(found[1], where, "")
    return _from_binary(data, where, "")


def _in_file(data: bytes, suffix: str) -> Iterator[Arrival]:
    if suffix == ".csv":
        yield from _in_sheet(data)
    elif b"PRIVATE KEY" in data:
        raise NoCertificates(_NO_KEYS)
    elif _PEM.search(data) is not None:
        for number, found in enumerate(_PEM.finditer(data), start=1):
            yield _from_base64(found[1], f"certificate {number}", "")
    elif data[:1] in (b"\x30", b"\x8b"):
        yield _from_binary(data, "certificate 1", "")
    else:
        raise NoCertificates("no certificates: a folder, PEM, DER, C509 or a file called .csv will do")


def _in_sheet(data: bytes) -> Iterator[Arrival]:
    try:
        for row in read_sheet(data, COLUMNS):
            if isinstance(row, Wrong):
                yield Arrival(row.where, row.device, problem=row.reason)
                continue
            text = row.cells.get("certificate")
            if text is None:
                raise NoCertificates("CSV: a column certificate is missing")
            device = row.cells.get("device") or row.cells.get("pcid", "")
            encoded = text.encode()
            found = _PEM.search(encoded)
            yield _from_base64(encoded if found is None else found[1], row.where, device)
    except SheetError as error:
        raise NoCertificates(f"CSV: {error}") from None


def _from_base64(text: bytes, where: str, device: str) -> Arrival:
    try:
        data = base64.b64decode(b"".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return Arrival(where, device, problem="its base64 is damaged")
    return _from_binary(data, where, device)


def _from_binary(data: bytes, where: str, device: str) -> Arrival:
    try:
        if data[:1] == b"\x8b":
            return Arrival(where, device, c509.decode_certificate(data))
        return Arrival(where, device, c509.from_der(data), data)
    except MalformedMessage as error:
        return Arrival(where, device, problem=str(error))
    except c509.NotConvertible as error:
        return Arrival(where, device, der=data, problem=str(error))


def of_manifest(manifest: Manifest, certificates: Path) -> Iterator[Arrival]:
    """Yield the certificate of every device of a manifest, which says which one it is.

    Args:
        manifest: Its signature verified.
        certificates: `certificates.cbor` of the batch, the batch's folder, or a folder of certificates.

    Raises:
        NoCertificates: While iterating: they cannot be read.
        OSError: A file cannot be read.
    """
    found = _by_digest(certificates)
    for number, entry in enumerate(manifest.entries, start=1):
        where = f"entry {number}"
        encoded = found.get(entry.digest)
        if encoded is None:
            yield Arrival(where, entry.device, problem="the certificate that the manifest names is not here")
            continue
        yield Arrival(where, entry.device, c509.decode_certificate(encoded))


def _by_digest(path: Path) -> Mapping[bytes, bytes]:
    """Return certificates by their SHA-256, from wherever they are."""
    found: dict[bytes, bytes] = {}
    if path.is_dir() and (path / LEDGER).is_file():
        path /= LEDGER
    if path.is_file():
        try:
            for record in ledger.read(path):
                found[hashlib.sha256(record.certificate).digest()] = record.certificate
        except MalformedMessage as error:
            raise NoCertificates(f"{path}: {error}") from None
        return found
    for file in sorted((*path.glob(f"*/{BOOTSTRAP}"), *(one for one in path.iterdir() if one.is_file()))):
        with file.open("rb") as opened:
            arrival = _single(opened.read(MAX_CERTIFICATE_BYTES + 1), file.name)
        if arrival.certificate is not None:
            encoded = arrival.certificate.encoded
            found[hashlib.sha256(encoded).digest()] = encoded
    return found
