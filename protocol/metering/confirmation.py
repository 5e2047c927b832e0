"""The proof that both sides have the same keys: the first message under the new ones.

    invocation 0 of the sender: AES-GCM(unicast key, nonce = title ‖ 00000000,
        additional data = security control ‖ authentication key ‖ step, generation,
        plaintext = hash over all keys of the generation and both titles)

It is protected as DLMS protects any APDU (tag of 12 octets), so the unicast and the authentication key are
shown by use; the other kinds are shown by the hash, which nobody sees but the holder of the first two.
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocol.metering.invocation import CONFIRMATION
from protocol.metering.keys import KeyKind, KeySet
from protocol.metering.suite import Suite
from protocol.metering.title import SystemTitle

TAG_BYTES: Final = 12
"""Length of AES-GCM's tag in DLMS."""
_AUTHENTICATED_ENCRYPTION: Final = 0x30
"""Security control: authentication and encryption; the suite id is in the low bits."""
_LABEL: Final = b"trillium keys of a generation"


def confirm(suite: Suite, keys: KeySet, step: int, sender: SystemTitle, recipient: SystemTitle) -> bytes:
    """Return the confirmation that `sender` has `keys`: 44 or 60 octets.

    Args:
        suite: Whose AES and hash.
        keys: The new keys; at least unicast and authentication.
        step: Of the rollover's message that carries it: what the sender said is not what it will hear.
        sender: Whose invocation 0 it is.
        recipient: Who shall believe it.
    """
    nonce = sender.octets + CONFIRMATION.to_bytes(4, "big")
    encryptor = Cipher(algorithms.AES(keys.keys[KeyKind.UNICAST]), modes.GCM(nonce)).encryptor()
    encryptor.authenticate_additional_data(_additional(suite, keys, step))
    text = encryptor.update(_digest(suite, keys, sender, recipient)) + encryptor.finalize()
    return text + encryptor.tag[:TAG_BYTES]


def is_confirmed(
    suite: Suite, keys: KeySet, step: int, sender: SystemTitle, recipient: SystemTitle, confirmation: bytes
) -> bool:
    """Return whether `confirmation` shows that `sender` has the very same keys."""
    if len(confirmation) != suite.hash.digest_size + TAG_BYTES:
        return False
    text, tag = confirmation[:-TAG_BYTES], confirmation[-TAG_BYTES:]
    nonce = sender.octets + CONFIRMATION.to_bytes(4, "big")
    mode = modes.GCM(nonce, tag, min_tag_length=TAG_BYTES)
    decryptor = Cipher(algorithms.AES(keys.keys[KeyKind.UNICAST]), mode).decryptor()
    decryptor.authenticate_additional_data(_additional(suite, keys, step))
    try:
        digest = decryptor.update(text) + decryptor.finalize()
    except InvalidTag:
        return False
    return constant_time.bytes_eq(digest, _digest(suite, keys, sender, recipient))


def _additional(suite: Suite, keys: KeySet, step: int) -> bytes:
    control = bytes((_AUTHENTICATED_ENCRYPTION | suite.number,))
    return control + keys.keys[KeyKind.AUTHENTICATION] + bytes((step,)) + keys.generation.to_bytes(4, "big")


def _digest(suite: Suite, keys: KeySet, sender: SystemTitle, recipient: SystemTitle) -> bytes:
    digest = hashes.Hash(suite.hash)
    digest.update(_LABEL + keys.generation.to_bytes(4, "big") + sender.octets + recipient.octets)
    for kind, key in sorted(keys.keys.items()):
        digest.update(bytes((kind,)) + key)
    return digest.finalize()
