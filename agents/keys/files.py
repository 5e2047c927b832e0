"""Keys on disk: PKCS#8, encrypted where there is a passphrase, written so that a crash leaves old or new."""

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Put `data` at `path` so that after power loss at any instruction the old or the new content is there.

    Written to a neighbour, flushed to disk, renamed, and the folder flushed: only then does it return.
    """
    neighbour = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(neighbour, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        neighbour.replace(path)
    except BaseException:
        neighbour.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename or unlink in it survives power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_private_key(path: Path, key: PrivateKey, passphrase: bytes | None) -> None:
    """Write `key` as PEM PKCS#8, mode 600, encrypted if there is a passphrase."""
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    write_atomically(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))


def load_private_key(path: Path, passphrase: bytes | None) -> PrivateKey:
    """Return the key at `path`.

    Raises:
        OSError: It cannot be read.
        ValueError: Not a key of ours, or the passphrase is wrong or missing; names the file only.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), passphrase)
    except (ValueError, TypeError):
        raise ValueError(f"{path}: not a private key, or the passphrase is wrong or missing") from None
    if not isinstance(key, (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
        raise ValueError(f"{path}: a {type(key).__name__} is not used here")  # noqa: TRY004 (a bad file, not a bad type)
    return key
