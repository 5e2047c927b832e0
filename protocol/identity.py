"""How a device is called on MQTT topics and in the inventory."""

import base64
import hashlib
import re
from typing import Final

from protocol import cbor

CLIENT_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")
"""Grammar of a client-id: one topic level, no wildcard, printable everywhere."""


def client_id(maker: bytes, device: str) -> str:
    """Return a device's client-id: 22 characters of base64url.

    A hash of maker and name, so that two makers' equal names do not collide, and so that a topic does
    not tell the name.

    Args:
        maker: Key identifier of the CA that issued the tier 1 certificate, 32 bytes.
        device: The name that the certificate proves.
    """
    digest = hashlib.sha256(cbor.encode([maker, device])).digest()
    return base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()
