"""A folder of secrets that are no private keys: each file encrypted as a whole, replaced as a whole.

    file    [1, salt, nonce, AES-256-GCM(scrypt(passphrase, salt), content, aad = name)]
            [1, null, null, content] without a passphrase: as private keys are then, too

The name is authenticated, so that no file passes for another. Methods block on the disk; the first one with a
passphrase takes a tenth of a second.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from agents.keys import write_atomically
from agents.keys.files import sync_folder
from protocol import cbor
from protocol.errors import LocalProtocolError, MalformedMessage

MAX_BYTES: Final = 64 * 1024
"""Longest file that is read: some times what is ever written."""
_VERSION: Final = 1
_NAME: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_COST: Final = 1 << 15
"""scrypt's N, with r = 8 and p = 1: 32 MiB and about 0.1 s for each guess."""


class CabinetError(ValueError):
    """A file cannot be used; the text names it, never its content."""


class Cabinet:
    """The files of one folder, which is made with the first one.

    Args:
        folder: Its own; its parent exists.
        passphrase: None leaves what is written unencrypted.
    """

    def __init__(self, folder: Path, passphrase: bytes | None) -> None:
        self._folder = folder
        self._passphrase = passphrase
        self._ciphers: dict[bytes, AESGCM] = {}
        for path in folder.glob(".*.new"):  # of writes that a crash cut short
            with suppress(FileNotFoundError):
                path.unlink()

    def names(self) -> Iterator[str]:
        """Return the names of all files, in any order."""
        if self._folder.is_dir():
            yield from (path.name for path in self._folder.iterdir() if _NAME.fullmatch(path.name))

    def read(self, name: str) -> bytes | None:
        """Return what was last written under `name`; None if nothing was.

        Raises:
            CabinetError: The file is damaged, or the passphrase is another one.
            OSError: It cannot be read.
        """
        path = self._path(name)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            found = cbor.decode(data, max_bytes=MAX_BYTES)
        except MalformedMessage:
            raise CabinetError(f"{path} is damaged") from None
        match found:
            case [1, None, None, bytes(content)] if self._passphrase is None:
                return content
            case [1, bytes(salt), bytes(nonce), bytes(sealed)] if self._passphrase is not None and (
                len(salt),
                len(nonce),
            ) == (_SALT_BYTES, _NONCE_BYTES):
                with suppress(InvalidTag):
                    return self._cipher(salt).decrypt(nonce, sealed, name.encode())
        raise CabinetError(f"{path} is damaged, or was written under another passphrase")

    def write(self, name: str, content: bytes) -> None:
        """Put `content` under `name`; when this returns, it survives power loss.

        Raises:
            OSError: The disk failed; what was there before still is, or else `content`.
        """
        if not self._folder.is_dir():
            # Several threads may be the first.
            self._folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(self._folder.parent)
        item: list[object] = [_VERSION, None, None, content]
        if self._passphrase is not None:
            # One salt for all that this process writes: a random nonce is enough for 2^32 of them.
            salt = next(iter([*self._ciphers]), None) or os.urandom(_SALT_BYTES)
            nonce = os.urandom(_NONCE_BYTES)
            item = [_VERSION, salt, nonce, self._cipher(salt).encrypt(nonce, content, name.encode())]
        write_atomically(self._path(name), cbor.encode(item))

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise LocalProtocolError(f"{name!r} is no name of a file here")
        return self._folder / name

    def _cipher(self, salt: bytes) -> AESGCM:
        if salt not in self._ciphers:
            assert self._passphrase is not None
            key = Scrypt(salt, 32, _COST, 8, 1).derive(self._passphrase)
            self._ciphers[salt] = AESGCM(key)
        return self._ciphers[salt]
