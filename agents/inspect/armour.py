"""What bytes are wrapped in to pass through text: PEM, hex, base64."""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from agents.inspect.finding import NotRecognised

MAX_BLOCKS: Final = 1000
"""Most PEM blocks of one file."""
_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_PEM_BEGIN: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")
_HEX: Final = re.compile(r"(?:0x)?[0-9A-Fa-f]{2}(?:[\s:,-]*[0-9A-Fa-f]{2})*")
_BASE64: Final = re.compile(r"[0-9A-Za-z+/_\s-]+={0,2}\s*")
_SECRET: Final = frozenset({"OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK", "DSA PRIVATE KEY"})
"""PEM labels of private keys that are not even opened."""


class Block(NamedTuple):
    """One block of PEM."""

    label: str
    data: bytes | None
    """What is in it; None for a private key that is not opened."""


class Plain(NamedTuple):
    """What a text stands for."""

    name: str
    """Hex or base64."""
    data: bytes


def as_text(data: bytes) -> str | None:
    """Return the text that `data` is; None where it is no text."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return text if all(char.isprintable() or char.isspace() for char in text) else None


def is_pem(text: str) -> bool:
    """Return whether there is PEM in `text`, whole or cut."""
    return "-----BEGIN " in text


def pem_blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of PEM, in order.

    Raises:
        NotRecognised: PEM that is cut, damaged, empty, or too much.
    """
    blocks = list(_PEM.finditer(text))
    if not blocks:
        name = _PEM_BEGIN.search(text)
        what = name.group(1) if name else "something"
        raise NotRecognised(f"this looks like truncated PEM of a {what}: its END line is missing")
    if len(blocks) > MAX_BLOCKS:
        raise NotRecognised(f"this looks like PEM with {len(blocks)} blocks; at most {MAX_BLOCKS} are shown")
    for block in blocks:
        label, body = block.group(1), block.group(2)
        if label in _SECRET or "Proc-Type:" in body:
            yield Block(label, None)
            continue
        # RFC 1421 headers stand before an empty line.
        body = re.sub(r"\A\s*(?:[A-Za-z-]+:.*\n)+\s*\n", "", body)
        try:
            data = base64.b64decode("".join(body.split()), validate=True)
        except (binascii.Error, ValueError):
            raise NotRecognised(f"this looks like PEM of a {label} whose base64 is damaged") from None
        if not data:
            raise NotRecognised(f"this looks like PEM of a {label} with nothing in it")
        yield Block(label, data)


def plain(text: str) -> Plain | None:
    """Return the bytes that hex or base64 stands for; None where `text` is neither."""
    stripped = text.strip()
    if _HEX.fullmatch(stripped):
        return Plain("hex", bytes.fromhex(re.sub(r"^0x|[\s:,-]", "", stripped)))
    if not _BASE64.fullmatch(stripped) or len(stripped) < 8:
        return None
    unpadded = "".join(stripped.split()).rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        data = base64.b64decode(unpadded + "=" * (-len(unpadded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return Plain("base64", data) if data else None
