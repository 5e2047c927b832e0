"""`certificates.cbor`: every certificate of a batch, appended as they are made; nothing in it is secret.

A CBOR sequence (RFC 8742) of byte strings, each the encoding of one record
[device name, client-id, origin of the key, serial, client, certificate (C509)]. The batch says how many bytes
of the file count: what a crash left behind these is cut off. Together with the manifest, which has the
digests, it is all that another operator needs.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from agents.factory.manifest import ManifestEntry, Origin
from protocol import cbor
from protocol.errors import MalformedMessage

MAX_RECORD_BYTES: Final = 4096
_SHORT, _ONE_BYTE, _TWO_BYTES = 0x57, 0x58, 0x59


@dataclass(frozen=True, slots=True)
class Record:
    """One device of a batch, with its certificate."""

    device: str
    client_id: str
    origin: Origin
    serial: str
    client: str
    certificate: bytes
    """C509."""

    @property
    def entry(self) -> ManifestEntry:
        """The same as the manifest has it."""
        digest = hashlib.sha256(self.certificate).digest()
        return ManifestEntry(self.device, self.client_id, digest, self.origin, self.serial, self.client)

    def encode(self) -> bytes:
        """Return the record as it stands in the file."""
        fields = [
            self.device, self.client_id, int(self.origin), self.serial, self.client, self.certificate,
        ]  # fmt: skip
        return cbor.encode_bytes(cbor.encode(fields))


def append(path: Path, size: int, records: Iterable[Record]) -> int:
    """Append records, flushed to disk.

    Args:
        path: The file; made if it is not there.
        size: Bytes of it that count; what is behind them goes.
        records: In order.

    Returns:
        Bytes that count now.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(b"".join(record.encode() for record in records))
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def read(path: Path) -> Iterator[Record]:
    """Yield the records of a file, in order.

    Raises:
        MalformedMessage: It is none, or ends within a record.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        while head := file.read(1):
            yield _record(file.read(_length(head[0], file)))


def _length(head: int, file: BinaryIO) -> int:
    if 0x40 <= head <= _SHORT:
        length = head - 0x40
    elif head in (_ONE_BYTE, _TWO_BYTES):
        length = int.from_bytes(file.read(head - _SHORT), "big")
    else:
        raise MalformedMessage("not the certificates of a batch")
    if length > MAX_RECORD_BYTES:
        raise MalformedMessage("not the certificates of a batch: a record is too long")
    return length


def _record(data: bytes) -> Record:
    match cbor.decode(data):
        case [str(device), str(client_id), int(origin), str(serial), str(client), bytes(certificate)] if (
            origin in set(Origin)
        ):
            return Record(device, client_id, Origin(origin), serial, client, certificate)
        case _:
            raise MalformedMessage("not the certificates of a batch")
