"""COSE_Sign1 (RFC 9052 §4.2) as Trillium uses it: untagged, deterministic, signer named by C509 thumbprint.

Protected header, nothing else is accepted:

    {1: alg, 22: [-15, h'8 bytes']}     c5t: SHA-256/64 of the signer's whole C509 certificate
    {1: alg, 25: bstr}                  c5c: the one certificate itself, for a receiver that does not know it
    {1: alg, 4: bstr}                   kid: vouchers and published audit heads, signed by pinned keys

The unprotected header is empty. The payload is always attached.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from protocol import cbor
from protocol.errors import MalformedMessage

_ALG: Final = 1
_KID: Final = 4
_C5T: Final = 22
_C5C: Final = 25
_SHA256_64: Final = -15
"""COSE algorithm number of SHA-256 truncated to 64 bits (RFC 9054 §3.1)."""
_SIGNATURE1: Final = b"\x84\x6aSignature1"
"""How a Sig_structure begins: an array of four, the first a text."""
THUMBPRINT_BYTES: Final = 8
MAX_KID_BYTES: Final = 32


class Algorithm(IntEnum):
    """COSE signature algorithms taken here (RFC 9053 §2.1, §2.2)."""

    ES256 = -7
    ES384 = -35
    ES512 = -36
    EDDSA = -8


_NO_HEADER: Final[dict[int, object]] = {}
SIGNATURE_BYTES: Final = {Algorithm.ES256: 64, Algorithm.ES384: 96, Algorithm.ES512: 132, Algorithm.EDDSA: 64}
_CURVES: Final[dict[int, tuple[type[ec.EllipticCurve], Callable[[bytes], Any], ec.ECDSA, int]]] = {
    Algorithm.ES256: (ec.SECP256R1, hashlib.sha256, ec.ECDSA(Prehashed(hashes.SHA256())), 32),
    Algorithm.ES384: (ec.SECP384R1, hashlib.sha384, ec.ECDSA(Prehashed(hashes.SHA384())), 48),
    Algorithm.ES512: (ec.SECP521R1, hashlib.sha512, ec.ECDSA(Prehashed(hashes.SHA512())), 66),
}
"""Curve, hash, scheme for hashed data, and bytes of r and of s."""

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class Header:
    """A protected header, as it was read."""

    algorithm: Algorithm
    thumbprint: bytes | None = None
    """c5t: 8 bytes."""
    certificate: bytes | None = None
    """c5c: one C509 certificate, not yet looked at."""
    key_id: bytes | None = None
    """kid: 1 to 32 bytes."""

    def encode(self) -> bytes:
        """Return the serialised map, without the byte string around it."""
        header: dict[int, object] = {_ALG: int(self.algorithm)}
        if self.thumbprint is not None:
            header[_C5T] = [_SHA256_64, self.thumbprint]
        if self.certificate is not None:
            header[_C5C] = self.certificate
        if self.key_id is not None:
            header[_KID] = self.key_id
        return cbor.encode(header)


class Sign1(NamedTuple):
    """A signed object, read but not verified; a named tuple, because one is made for every message."""

    protected: bytes
    """The serialised protected header, as it stands in the signature input."""
    header: Header
    payload: bytes
    signature: bytes
    """r ‖ s for ECDSA, 64, 96 or 132 bytes; 64 for Ed25519."""

    def signed_bytes(self, external_aad: bytes) -> bytes:
        """Return the bytes that the signature is over (RFC 9052 §4.4)."""
        return signature_input(self.protected, external_aad, self.payload)

    def encode(self) -> bytes:
        """Return the whole untagged COSE_Sign1."""
        return cbor.encode([self.protected, _NO_HEADER, self.payload, self.signature])


def signature_input(protected: bytes, external_aad: bytes, payload: bytes) -> bytes:
    """Return the Sig_structure of a COSE_Sign1 (RFC 9052 §4.4)."""
    return b"".join(
        (
            _SIGNATURE1,
            cbor.encode_bytes(protected),
            cbor.encode_bytes(external_aad),
            cbor.encode_bytes(payload),
        )
    )


def decode_sign1(data: bytes, *, max_bytes: int = cbor.MAX_MESSAGE_BYTES) -> Sign1:
    """Return the signed object in `data`.

    Raises:
        MalformedMessage: Not such an object: tagged, detached, not deterministic, with another header
            than the three above, or with a signature of the wrong length. No other exception leaves
            this function.

    Source:
        RFC 9052 §4.2.
    """
    protected, unprotected, payload, signature = cbor.decode_array(data, 4, max_bytes=max_bytes)
    if type(protected) is not bytes or type(payload) is not bytes or type(signature) is not bytes:
        raise MalformedMessage("protected header, payload and signature are byte strings")
    if unprotected != {}:
        raise MalformedMessage("the unprotected header is empty here")
    header = decode_header(protected)
    if len(signature) != SIGNATURE_BYTES[header.algorithm]:
        raise MalformedMessage(f"a signature of {header.algorithm.name} has another length")
    return Sign1(protected, header, payload, signature)


def decode_header(protected: bytes) -> Header:
    """Return the serialised protected header `protected` as read, or raise MalformedMessage."""
    return _decode_short(protected) if len(protected) <= _SHORT else _decode_header(protected)


_SHORT: Final = 48
"""Longest header that is remembered, in bytes: those with a c5t or kid, but no certificate."""


# A signer's protected header is the same in each of its messages.
@lru_cache(maxsize=16_384)
def _decode_short(protected: bytes) -> Header:
    return _decode_header(protected)


def _decode_header(protected: bytes) -> Header:
    header = cbor.decode_map(protected)
    if len(header) != 2 or any(type(key) is not int for key in header):  # to Python, true is a 1
        raise MalformedMessage("the protected header has an algorithm and one way to find the key")
    try:
        algorithm = Algorithm(header[_ALG])
    except (KeyError, ValueError):
        raise MalformedMessage("unknown signature algorithm") from None
    match header:
        case {22: [-15, bytes(thumbprint)]} if len(thumbprint) == THUMBPRINT_BYTES:
            return Header(algorithm, thumbprint=thumbprint)
        case {25: bytes(certificate)}:
            return Header(algorithm, certificate=certificate)
        case {4: bytes(key_id)} if 1 <= len(key_id) <= MAX_KID_BYTES:
            return Header(algorithm, key_id=key_id)
        case _:
            raise MalformedMessage("the key is named by c5t (SHA-256/64), c5c (one certificate) or kid")


def algorithm_of(key: PublicKey) -> Algorithm:
    """Return the one algorithm that `key` is used with here.

    Raises:
        MalformedMessage: A curve that no profile uses.
    """
    if isinstance(key, ed25519.Ed25519PublicKey):
        return Algorithm.EDDSA
    for algorithm, (curve, *_) in _CURVES.items():
        if isinstance(key.curve, curve):
            return Algorithm(algorithm)
    raise MalformedMessage(f"no signature algorithm for curve {key.curve.name}")


Prepared = tuple[Callable[..., None], tuple[object, ...]]
"""What is left to call: it returns if the signature is good, and raises InvalidSignature if not."""


def prepare(key: PublicKey, algorithm: int, signature: bytes, signed_bytes: bytes) -> Prepared | None:
    """Return a verification with all its Python done: what remains lets go of the interpreter.

    Whoever verifies many in a thread prepares them all first, so that between one signature and the next
    there is nothing to wait for other threads with.

    Args:
        key: Whose signature it should be.
        algorithm: What the message says it is.
        signature: r ‖ s, or Ed25519's.
        signed_bytes: What it should be over.

    Returns:
        None if it cannot be a signature of this key: another algorithm, or another length.
    """
    if isinstance(key, ed25519.Ed25519PublicKey):
        return (key.verify, (signature, signed_bytes)) if algorithm == Algorithm.EDDSA else None
    known = _CURVES.get(algorithm)
    if known is None:
        return None
    curve, digest, scheme, half = known
    if not isinstance(key.curve, curve) or len(signature) != 2 * half:
        return None
    r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
    return key.verify, (encode_dss_signature(r, s), digest(signed_bytes).digest(), scheme)


def is_signature_valid(key: PublicKey, algorithm: int, signature: bytes, signed_bytes: bytes) -> bool:
    """Return whether `signature` (r ‖ s, or Ed25519) over `signed_bytes` is by `key`.

    A key of another type or curve than `algorithm` asks for is a plain False: whoever batches checks
    must not lose the others' results to one bad item.
    """
    return is_good(prepare(key, algorithm, signature, signed_bytes))


def is_good(prepared: Prepared | None) -> bool:
    """Return whether a prepared signature is good; None is not."""
    if prepared is None:
        return False
    verify, arguments = prepared
    try:
        verify(*arguments)
    except InvalidSignature:
        return False
    return True
