"""Wrapping a contract key as ISO 15118-20 does: ephemeral ECDH on P-521, AES-256-GCM.

    encrypted = IV (12) ‖ GCM(K, IV, scalar, AAD) (66) ‖ tag (16)
    K   = ConcatKDF-SHA512(Z, 32 bytes, 01 ‖ 'U' ‖ 'V')
    AAD = PCID (18 characters, upper case) ‖ subject key identifier of the contract certificate, as 16
          upper-case hexadecimal digits

The text allows the key identifier 16 bytes, which as hexadecimal is an identifier of 8 bytes (RFC 5280
§4.2.1.2 method 2): contract certificates carry those, and no other length is wrapped or unwrapped here.

Source: [V2G20-2492], [V2G20-2535], [V2G20-2678].
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.ev.agreement import (
    P521,
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
from protocol.ev.names import Pcid

IV_BYTES: Final = 12
TAG_BYTES: Final = 16
ENCRYPTED_BYTES: Final = 94
PCID_CHARACTERS: Final = 18
KEY_IDENTIFIER_BYTES: Final = 8
_KEY_BYTES: Final = 32
_BLOCK: Final = 16


def additional_data(pcid: str, key_identifier: bytes) -> bytes:
    """Return what a wrapped key is bound to, 34 bytes.

    Args:
        pcid: Canonical, of 18 characters: one without a check character is too short to be bound to.
        key_identifier: Subject key identifier of the contract certificate, 8 bytes.

    Raises:
        RequestRejected: Either has another length or form; WRONG_SUBJECT.
    """
    name = str(Pcid.parse(pcid))
    if len(name) != PCID_CHARACTERS:
        raise RequestRejected(ProblemKind.WRONG_SUBJECT, "a contract key is bound to a PCID of 18 characters")
    if len(key_identifier) != KEY_IDENTIFIER_BYTES:
        raise RequestRejected(
            ProblemKind.WRONG_SUBJECT, "a contract certificate has a subject key identifier of 8 bytes"
        )
    return name.encode() + key_identifier.hex().upper().encode()


def wrap(
    contract_key: ec.EllipticCurvePrivateKey,
    recipient: ec.EllipticCurvePublicKey,
    *,
    ephemeral: ec.EllipticCurvePrivateKey,
    iv: bytes,
    pcid: str,
    key_identifier: bytes,
) -> WrappedKey:
    """Return `contract_key` wrapped to `recipient`.

    Args:
        contract_key: P-521.
        recipient: The key in the car's provisioning certificate.
        ephemeral: A new P-521 key, used for this once and then dropped.
        iv: 12 bytes; the key that they go with is used for this once, so any will do.
        pcid: Whose car, see `additional_data`.
        key_identifier: Of the contract certificate, see `additional_data`.

    Raises:
        RequestRejected: The recipient's key is of another curve (BAD_KEY), or see `additional_data`.
        ValueError: One of our own arguments is not what it should be.
    """
    if len(iv) != IV_BYTES:
        msg = f"an initialisation vector has {IV_BYTES} bytes"
        raise ValueError(msg)
    require_own(P521, contract_key, ephemeral)
    require_curve(P521, recipient, "the recipient's key")
    bound_to = additional_data(pcid, key_identifier)
    scalar = scalar_of(P521, contract_key)
    try:
        key = derive_key(ephemeral, recipient, hashes.SHA512(), _KEY_BYTES)
        try:
            encryptor = Cipher(algorithms.AES(key), modes.GCM(iv)).encryptor()
            encryptor.authenticate_additional_data(bound_to)
            encrypted = encryptor.update(scalar) + encryptor.finalize()
        finally:
            wipe(key)
    finally:
        wipe(scalar)
    return WrappedKey(encode_point(ephemeral.public_key()), iv + encrypted + encryptor.tag)


def unwrap(
    wrapped: WrappedKey,
    own: Agreement,
    certified: ec.EllipticCurvePublicKey,
    *,
    pcid: str,
    key_identifier: bytes,
) -> ec.EllipticCurvePrivateKey:
    """Return the contract key.

    Args:
        wrapped: As it came.
        own: The private key it was wrapped to.
        certified: The public key in the contract certificate that came with it.
        pcid: The car's own, not what the package says.
        key_identifier: Of that contract certificate.

    Raises:
        MalformedMessage: A length is wrong.
        RequestRejected: It was wrapped for another car, certificate or key, or was changed
            (BAD_SIGNATURE: the tag is wrong); the ephemeral key is not on the curve, one of the keys is of
            another curve, the seven leading bits are not zero, or what comes out is not the certificate's
            private key (BAD_KEY); or see `additional_data`.
    """
    if len(wrapped.encrypted) != ENCRYPTED_BYTES:
        raise MalformedMessage(f"an encrypted private key has {ENCRYPTED_BYTES} bytes")
    peer = decode_point(P521, wrapped.dh_public_key)
    require_curve(P521, certified, "the contract certificate's key")
    bound_to = additional_data(pcid, key_identifier)
    iv, tag = wrapped.encrypted[:IV_BYTES], wrapped.encrypted[-TAG_BYTES:]
    encrypted = wrapped.encrypted[IV_BYTES:-TAG_BYTES]
    key = derive_key(own, peer, hashes.SHA512(), _KEY_BYTES)
    # update_into wants room for a block more than it writes.
    scalar = bytearray(len(encrypted) + _BLOCK - 1)
    try:
        decryptor = Cipher(algorithms.AES(key), modes.GCM(iv, tag)).decryptor()
        decryptor.authenticate_additional_data(bound_to)
        decryptor.update_into(encrypted, scalar)
        decryptor.finalize()
        del scalar[P521.scalar_bytes :]  # in place: so little less moves nothing
        # The seven leading bits of 66 bytes are zero for every scalar below n < 2^521, so the check of the
        # range is also theirs [V2G20-2678].
        return private_key_of(P521, scalar, certified)
    except InvalidTag:
        raise RequestRejected(
            ProblemKind.BAD_SIGNATURE, "the key was wrapped for another car or certificate, or was changed"
        ) from None
    finally:
        wipe(key, scalar)
