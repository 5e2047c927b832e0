"""Vouchers: which authority owns a device now.

    COSE_Sign1({1: alg, 4: kid}, payload = [device name, authority (32 bytes), epoch], aad = ["voucher"])

Signed by a voucher key of the device's maker that was pinned in the factory bundle, or by the
authority of the epoch before, so that a chain of owners needs no maker. `epoch` counts owners, 0 from
the factory, and never goes down. kid is the first 8 bytes of SHA-256 of the signing key's
SubjectPublicKeyInfo.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol import cbor
from protocol.cose import PublicKey, decode_sign1, is_signature_valid
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.signing import Signer, sign1

AUTHORITY_BYTES: Final = 32
"""An authority is named by SHA-256 of its DER SubjectPublicKeyInfo."""
_AAD: Final = cbor.encode(["voucher"])


def key_identifier(key: PublicKey) -> bytes:
    """Return SHA-256 of the key's DER SubjectPublicKeyInfo, 32 bytes: how authorities are named."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


@dataclass(frozen=True, slots=True)
class Voucher:
    """What a voucher says; `encoded` is the signed object."""

    device: str
    authority: bytes
    epoch: int
    encoded: bytes

    @classmethod
    def issue(
        cls, signer: Signer, signer_key_id: bytes, device: str, authority: bytes, epoch: int
    ) -> "Voucher":
        """Sign a new voucher.

        Args:
            signer: The maker's voucher key, or the key of the authority of the epoch before.
            signer_key_id: Its `key_identifier`, 32 bytes.
            device: The name that the device's tier 1 certificate proves.
            authority: The new owner's key identifier, 32 bytes.
            epoch: Number of owners before; >= 0.
        """
        payload = cbor.encode([device, authority, epoch])
        return cls(device, authority, epoch, sign1(signer, payload, _AAD, key_id=signer_key_id[:8]))


def read_voucher(data: bytes, keys: tuple[PublicKey, ...], *, device: str, lowest_epoch: int = 0) -> Voucher:
    """Return the voucher in `data` if one of `keys` signed it for `device`.

    Raises:
        MalformedMessage: Not a voucher.
        RequestRejected: By a key that is not pinned, for another device, or of an epoch that is over.
    """
    signed = decode_sign1(data, max_bytes=1024)
    item = cbor.decode(signed.payload)
    match item:
        case [str(name), bytes(authority), int(epoch)] if (
            len(authority) == AUTHORITY_BYTES and type(epoch) is int and epoch >= 0
        ):
            pass
        case _:
            raise MalformedMessage("a voucher is [device name, authority, epoch]")
    for key in keys:
        if key_identifier(key)[:8] == signed.header.key_id:
            if not is_signature_valid(
                key, signed.header.algorithm, signed.signature, signed.signed_bytes(_AAD)
            ):
                raise RequestRejected(ProblemKind.BAD_SIGNATURE, "the voucher's signature is wrong")
            break
    else:
        raise RequestRejected(ProblemKind.UNKNOWN_SIGNER, "the voucher is signed by a key that is not pinned")
    if name != device:
        raise RequestRejected(ProblemKind.WRONG_SUBJECT, "the voucher is for another device")
    if epoch < lowest_epoch:
        raise RequestRejected(ProblemKind.SIGNER_SUPERSEDED, "the voucher is of an owner before this one")
    return Voucher(name, authority, epoch, data)
