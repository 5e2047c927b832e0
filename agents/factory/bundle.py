"""How a device's identity is handed over: a folder that its agent runs from, or one zip file of it."""

import io
import os
import shutil
import zipfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from agents.devices.identity import BOOTSTRAP_KEY, STATE


class Bundle(StrEnum):
    """Which of both."""

    FOLDER = "folder"
    ZIP = "zip"


_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip file knows: equal identities are equal files."""
_DIRECTORY: Final = 0x10
_UNIX: Final = 3


def mode_of(file: str) -> int:
    """Return the permissions of a file of an identity."""
    return 0o600 if file == BOOTSTRAP_KEY else 0o644


def place_of(out: Path, name: str, bundle: Bundle) -> Path:
    """Return where the identity of a device is."""
    return out / name if bundle is Bundle.FOLDER else out / f"{name}.zip"


def put(out: Path, name: str, files: Mapping[str, bytes], bundle: Bundle) -> None:
    """Write one identity, not flushed to disk; whatever an earlier attempt left of it goes."""
    path = place_of(out, name, bundle)
    if bundle is Bundle.ZIP:
        _write(os.fspath(path), zipped(name, files), 0o600, os.O_TRUNC)
        return
    try:
        path.mkdir()
    except FileExistsError:
        shutil.rmtree(path)
        path.mkdir()
    (path / STATE).mkdir(mode=0o700)
    place = os.fspath(path)
    for file, content in files.items():
        # Ten of these for each device: paths that are objects would take as long as the files.
        _write(f"{place}/{file}", content, mode_of(file), os.O_EXCL)


def _write(path: str, data: bytes, mode: int, flag: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flag, mode)
    try:
        written = os.write(descriptor, data)
        while written < len(data):
            written += os.write(descriptor, data[written:])
    finally:
        os.close(descriptor)


def zipped(name: str, files: Mapping[str, bytes]) -> bytes:
    """Return an identity folder as a zip file, not compressed: what is in it hardly would be."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file, content in sorted(files.items()):
            archive.writestr(_info(f"{name}/{file}", 0o100000 | mode_of(file)), content)
        folder = _info(f"{name}/{STATE}/", 0o040700)
        folder.external_attr |= _DIRECTORY
        archive.writestr(folder, b"")
    return buffer.getvalue()


def _info(path: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, _EPOCH)
    info.create_system = _UNIX
    info.external_attr = mode << 16
    return info
