"""Security suites 1 and 2 of DLMS/COSEM, and the raw form of their public keys."""

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol.cose import SIGNATURE_BYTES, Algorithm
from protocol.errors import ProblemKind, RequestRejected


@dataclass(frozen=True, slots=True, eq=False)
class Suite:
    """What one security suite is made of (Green Book, security suites)."""

    number: int
    """Security suite id: 1 or 2. Suite 0 has no public keys and is no business of Trillium's."""
    algorithm: Algorithm
    """Of signatures."""
    curve: ec.EllipticCurve
    """For signatures and key agreement alike."""
    hash: hashes.HashAlgorithm
    """In signatures and in the key derivation."""
    coordinate_bytes: int
    """Length of x, of y, of r and of s."""
    key_bytes: int
    """Length of an AES key, for AES-GCM and for the key wrap."""

    @property
    def signature_bytes(self) -> int:
        """Length of r ‖ s: 64 or 96."""
        return SIGNATURE_BYTES[self.algorithm]

    @property
    def point_bytes(self) -> int:
        """Length of a public key as x ‖ y: 64 or 96."""
        return 2 * self.coordinate_bytes


SUITE_1: Final = Suite(1, Algorithm.ES256, ec.SECP256R1(), hashes.SHA256(), 32, 16)
"""ECDSA and ECDH with P-256, SHA-256, AES-128."""
SUITE_2: Final = Suite(2, Algorithm.ES384, ec.SECP384R1(), hashes.SHA384(), 48, 32)
"""ECDSA and ECDH with P-384, SHA-384, AES-256."""
SUITES: Final = {suite.number: suite for suite in (SUITE_1, SUITE_2)}


def encode_point(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return `key` as DLMS carries it: x ‖ y, without the 04 of SEC 1."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def load_point(suite: Suite, point: bytes) -> ec.EllipticCurvePublicKey:
    """Return the public key that `point` (x ‖ y) is.

    Raises:
        RequestRejected: BAD_KEY: of another length, or not on the suite's curve.
    """
    if len(point) == suite.point_bytes:
        try:
            return ec.EllipticCurvePublicKey.from_encoded_point(suite.curve, b"\x04" + point)
        except ValueError:
            pass
    raise RequestRejected(ProblemKind.BAD_KEY, f"not a point of {suite.curve.name}")
