"""What both ways to wrap a contract key share: ECDH with an ephemeral key, ConcatKDF, and the key check.

Zeroing: the agreed key, the derived key and the scalar on its way out are kept in bytearrays and
overwritten. What cannot be: the shared secret that `cryptography` returns as bytes, the integer or bytes in
which it hands out a private key's scalar (when wrapping), copies inside OpenSSL, and whatever the
interpreter or the operating system moved elsewhere. A process that holds such keys should live short.
"""

import hmac
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key

from protocol.errors import MalformedMessage, ProblemKind, RequestRejected


class Agreement(Protocol):
    """A private key that can agree on a secret: `cryptography`'s are, one in an HSM can be made to be."""

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        """Return the x-coordinate of the shared point.

        Raises:
            ValueError: The peer's key is of another curve.
        """
        ...


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A contract key on its way to a car."""

    dh_public_key: bytes
    """The ephemeral key: an uncompressed point, 65 bytes (P-256) or 133 (P-521)."""
    encrypted: bytes
    """48 bytes (part 2) or 94 (part 20)."""


@dataclass(frozen=True, slots=True)
class Group:
    """A curve, and how its private keys look."""

    curve: ec.EllipticCurve
    scalar_bytes: int
    order: bytes
    """n, in `scalar_bytes` bytes."""
    before: bytes
    """What stands before the scalar in a DER ECPrivateKey (RFC 5915) without its public key."""
    after: bytes
    """What stands after it: the curve's name."""

    @property
    def point_bytes(self) -> int:
        """Length of an uncompressed point."""
        return 1 + 2 * self.scalar_bytes


P256: Final = Group(
    ec.SECP256R1(),
    32,
    bytes.fromhex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"),
    bytes.fromhex("30310201010420"),
    bytes.fromhex("a00a06082a8648ce3d030107"),
)
P521: Final = Group(
    ec.SECP521R1(),
    66,
    bytes.fromhex(
        "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa"
        "51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409"
    ),
    bytes.fromhex("30500201010442"),
    bytes.fromhex("a00706052b81040023"),
)

OTHER_INFO: Final = b"\x01UV"
"""AlgorithmID 01, party U (the sender) 'U', party V (the receiver) 'V' ([V2G2-818], [V2G20-2535])."""


def wipe(*buffers: bytearray) -> None:
    """Overwrite each buffer with zeros, in place."""
    for buffer in buffers:
        buffer[:] = bytes(len(buffer))


def encode_point(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the uncompressed point."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def decode_point(group: Group, data: bytes) -> ec.EllipticCurvePublicKey:
    """Return the public key whose uncompressed point is `data`.

    Raises:
        MalformedMessage: Another length or form.
        RequestRejected: Not a point of the curve; BAD_KEY.
    """
    if len(data) != group.point_bytes or data[0] != 4:
        raise MalformedMessage(f"a DH public key is an uncompressed point of {group.point_bytes} bytes")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(group.curve, data)
    except ValueError:
        raise RequestRejected(ProblemKind.BAD_KEY, "the DH public key is not on the curve") from None


def require_curve(group: Group, key: object, whose: str) -> None:
    """Refuse a public key that is not of the group's curve.

    Raises:
        RequestRejected: BAD_KEY.
    """
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != group.curve.name:
        raise RequestRejected(ProblemKind.BAD_KEY, f"{whose} is no {group.curve.name} key")


def derive_key(
    own: Agreement, peer: ec.EllipticCurvePublicKey, algorithm: hashes.HashAlgorithm, length: int
) -> bytearray:
    """Return the symmetric key of `length` bytes that both sides derive; the caller wipes it.

    Raises:
        RequestRejected: The two keys are of different curves; BAD_KEY.

    Source:
        NIST SP 800-56A §5.8.1 (concatenation KDF), SP 800-56A §6.2.2.2 (C(1e, 1s)).
    """
    try:
        secret = own.exchange(ec.ECDH(), peer)
    except ValueError:
        raise RequestRejected(ProblemKind.BAD_KEY, "the two keys cannot agree: different curves") from None
    key = bytearray(length)
    ConcatKDFHash(algorithm, length, OTHER_INFO).derive_into(secret, key)
    return key


def require_own(group: Group, *keys: ec.EllipticCurvePrivateKey) -> None:
    """Refuse private keys, made by ourselves, that are not of the group's curve.

    Raises:
        ValueError: One is of another curve.
    """
    for key in keys:
        if key.curve.name != group.curve.name:
            msg = f"a key here is of {group.curve.name}, not {key.curve.name}"
            raise ValueError(msg)


def scalar_of(group: Group, key: ec.EllipticCurvePrivateKey) -> bytearray:
    """Return the private scalar, big-endian in `group.scalar_bytes`; the caller wipes it."""
    return bytearray(key.private_numbers().private_value.to_bytes(group.scalar_bytes, "big"))


def private_key_of(
    group: Group, scalar: bytearray, certified: ec.EllipticCurvePublicKey
) -> ec.EllipticCurvePrivateKey:
    """Return the private key with this scalar, if it is the one that the certificate speaks of.

    This is the check that peers leave out ([V2G2-823]): without it a changed initialisation vector
    installs a key that no signature will ever verify with.

    Args:
        group: The curve.
        scalar: What was unwrapped; stays the caller's, who wipes it.
        certified: The public key in the contract certificate.

    Raises:
        RequestRejected: 0, not below the curve's order, or the key of another certificate; BAD_KEY, and
            nobody is told which.
    """
    refusal = RequestRejected(ProblemKind.BAD_KEY, "the unwrapped key is not the contract certificate's")
    if len(scalar) != group.scalar_bytes or not bytes(group.scalar_bytes) < scalar < group.order:
        raise refusal
    # Through DER and not through an integer: a bytearray can be overwritten.
    der = bytearray(group.before) + scalar + group.after
    try:
        key = load_der_private_key(der, None)
    except ValueError:
        raise refusal from None
    finally:
        wipe(der)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not hmac.compare_digest(
        encode_point(key.public_key()), encode_point(certified)
    ):
        raise refusal
    return key
