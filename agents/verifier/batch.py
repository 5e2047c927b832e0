"""What worker threads do: many signatures per hop, values in, verdicts out."""

from collections.abc import Sequence
from typing import Final

from protocol.cose import PublicKey, is_good, prepare
from protocol.message import SignedMessage

MAX_CHUNK: Final = 64
"""Signatures per thread hop, some 4 ms of one core: longer gains nothing, and a hop for each loses half."""

Check = tuple[PublicKey, SignedMessage, bytes]
"""Key of the signer, the message, and the external_aad of its stream."""


def verify_batch(checks: Sequence[Check]) -> list[bool]:
    """Return for each check, in order, whether the signature is good; a bad one spoils no other.

    Touches nothing but its arguments, so any number may run at once. Hashing and encoding come first, for
    all of them: `cryptography` lets go of the interpreter while it verifies, and the less a thread has to
    do before it lets go again, the less the event loop and the other threads wait for it, and it for them.
    """
    prepared = [
        prepare(
            key, message.signed.header.algorithm, message.signed.signature, message.signed.signed_bytes(aad)
        )
        for key, message, aad in checks
    ]
    return [is_good(check) for check in prepared]
