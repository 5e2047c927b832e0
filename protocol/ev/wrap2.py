"""Wrapping a contract key as ISO 15118-2 does: ephemeral ECDH on P-256, AES-128-CBC without padding.

    encrypted = IV (16) ‖ CBC(K, IV, scalar) (32)        K = ConcatKDF-SHA256(Z, 16 bytes, 01 ‖ 'U' ‖ 'V')

The static key is the car's provisioning key, or that of the contract which the new one replaces
([V2G2-820], [V2G2-821]). Nothing in it notices a changed byte: integrity comes from the provisioning
service's signature over the package, and from the check that the key belongs to the certificate.

Source: [V2G2-818] to [V2G2-823].
"""

from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocol.errors import MalformedMessage
from protocol.ev.agreement import (
    P256,
    Agreement,
    WrappedKey,
    decode_point,
    derive_key,
    encode_point,
    private_key_of,
    require_curve,
    require_own,
    scalar_of,
    wipe,
)

IV_BYTES: Final = 16
ENCRYPTED_BYTES: Final = 48
_KEY_BYTES: Final = 16


def wrap(
    contract_key: ec.EllipticCurvePrivateKey,
    recipient: ec.EllipticCurvePublicKey,
    *,
    ephemeral: ec.EllipticCurvePrivateKey,
    iv: bytes,
) -> WrappedKey:
    """Return `contract_key` wrapped to `recipient`.

    Args:
        contract_key: P-256.
        recipient: The key in the car's provisioning certificate, or in its old contract certificate.
        ephemeral: A new P-256 key, used for this once and then dropped.
        iv: 16 random bytes.

    Raises:
        RequestRejected: The recipient's key is of another curve; BAD_KEY.
        ValueError: One of our own arguments is not what it should be.
    """
    if len(iv) != IV_BYTES:
        msg = f"an initialisation vector has {IV_BYTES} bytes"
        raise ValueError(msg)
    require_own(P256, contract_key, ephemeral)
    require_curve(P256, recipient, "the recipient's key")
    scalar = scalar_of(P256, contract_key)
    try:
        key = derive_key(ephemeral, recipient, hashes.SHA256(), _KEY_BYTES)
        try:
            encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
            encrypted = encryptor.update(scalar) + encryptor.finalize()
        finally:
            wipe(key)
    finally:
        wipe(scalar)
    return WrappedKey(encode_point(ephemeral.public_key()), iv + encrypted)


def unwrap(
    wrapped: WrappedKey, own: Agreement, certified: ec.EllipticCurvePublicKey
) -> ec.EllipticCurvePrivateKey:
    """Return the contract key.

    Args:
        wrapped: As it came.
        own: The private key it was wrapped to.
        certified: The public key in the contract certificate that came with it.

    Raises:
        MalformedMessage: A length is wrong.
        RequestRejected: The ephemeral key is not on the curve, `own` or `certified` is of another curve,
            or what comes out is not the certificate's private key; BAD_KEY.
    """
    if len(wrapped.encrypted) != ENCRYPTED_BYTES:
        raise MalformedMessage(f"an encrypted private key has {ENCRYPTED_BYTES} bytes")
    peer = decode_point(P256, wrapped.dh_public_key)
    require_curve(P256, certified, "the contract certificate's key")
    iv, encrypted = wrapped.encrypted[:IV_BYTES], wrapped.encrypted[IV_BYTES:]
    key = derive_key(own, peer, hashes.SHA256(), _KEY_BYTES)
    # update_into wants room for a block more than it writes.
    scalar = bytearray(len(encrypted) + IV_BYTES - 1)
    try:
        decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
        decryptor.update_into(encrypted, scalar)
        decryptor.finalize()
        del scalar[P256.scalar_bytes :]  # in place: so little less moves nothing
        return private_key_of(P256, scalar, certified)
    finally:
        wipe(key, scalar)
