"""Subject public keys: the C509 field, X.509's SubjectPublicKeyInfo, and `cryptography`'s objects.

In Python the field is always bytes: the point as sent for elliptic curves (octet 02, 03 or 04; FE and FD
stand for an uncompressed point that travels compressed), PKCS#1 RSAPublicKey in DER for RSA, the raw
key for the Montgomery and Edwards curves, the BIT STRING's octets for algorithms without a number.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from protocol.c509 import der
from protocol.c509.algorithms import EC_PUBLIC_KEY, PUBLIC_KEY_DER, Algorithm, algorithm_to_der
from protocol.c509.checks import malformed, members, positive_magnitude

RSA: Final = 0
_DEFAULT_EXPONENT: Final = b"\x01\x00\x01"

_RAW_SIZES: Final = {8: 32, 9: 56, 12: 32, 13: 57}
POINT_SIZES: Final = {1: 32, 2: 48, 3: 66, 6: 32, 24: 32, 25: 48, 26: 64, 27: 32}
"""Octets of a coordinate on each registered curve."""
_CURVES: Final[dict[int, ec.EllipticCurve]] = {
    1: ec.SECP256R1(),
    2: ec.SECP384R1(),
    3: ec.SECP521R1(),
    24: ec.BrainpoolP256R1(),
    25: ec.BrainpoolP384R1(),
    26: ec.BrainpoolP512R1(),
}


@dataclass(frozen=True, slots=True)
class _Weierstrass:
    """y² = x³ - 3x + b over the integers modulo p, p ≡ 3 (mod 4)."""

    p: int
    b: int


_UNSUPPORTED_CURVES: Final = {
    6: _Weierstrass(
        p=0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF,
        b=0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93,
    ),
    27: _Weierstrass(
        p=0xF1FD178C0B3AD58F10126DE8CE42435B3961ADBCABC8CA6DE8FCF353D86E9C03,
        b=0xEE353FCA5428A9300D4ABA754A44C00FDFEC0C9AE4B1A1803075ED967B7BB73F,
    ),
}
"""Registered curves that `cryptography` does not have: sm2p256v1 and FRP256v1."""


def check_key(algorithm: int | Algorithm, key: bytes) -> None:
    """Check form and length of a public-key field other than RSA's.

    Raises:
        MalformedMessage: No key of `algorithm` looks like this.
    """
    if isinstance(algorithm, Algorithm):
        if algorithm.oid == EC_PUBLIC_KEY and key[:1] in (b"\xfe", b"\xfd"):
            malformed("a point on an unknown curve cannot be decompressed")
        return
    size = POINT_SIZES.get(algorithm)
    if size is None:
        if len(key) != _RAW_SIZES[algorithm]:
            malformed("public key of the wrong length")
        return
    first = key[0] if key else 0
    if first in (2, 3, 0xFE, 0xFD):
        if len(key) != size + 1:
            malformed("compressed point of the wrong length")
    elif first != 4 or len(key) != 2 * size + 1:
        malformed("not a point")


def key_from_item(algorithm: int | Algorithm, item: Any) -> bytes:  # noqa: ANN401 (checked here)
    """Return the public-key field that a CBOR item holds.

    Raises:
        MalformedMessage: Not a key of `algorithm`.
    """
    if algorithm == RSA:
        if type(item) is bytes:
            modulus, exponent = item, _DEFAULT_EXPONENT
        else:
            modulus, exponent = members(item, 2, "an RSA key with its exponent")
            if positive_magnitude(exponent) == _DEFAULT_EXPONENT:
                malformed("exponent 65537 is left out")
        return der.sequence(der.unsigned(positive_magnitude(modulus)), der.unsigned(exponent))
    if type(item) is not bytes:
        malformed("public key is not a byte string")
    check_key(algorithm, item)
    return item


def key_item(algorithm: int | Algorithm, key: bytes) -> object:
    """Return the CBOR item for a public-key field.

    Raises:
        DerError: An RSA key that is not PKCS#1.
    """
    if algorithm != RSA:
        return key
    reader = der.Reader(der.whole(key, der.SEQUENCE))
    modulus = der.read_unsigned(reader.take(der.INTEGER))
    exponent = der.read_unsigned(reader.take(der.INTEGER))
    reader.finish()
    if not modulus or not exponent:
        msg = "zero in an RSA key"
        raise der.DerError(msg)
    return modulus if exponent == _DEFAULT_EXPONENT else (modulus, exponent)


def native_key(algorithm: int | Algorithm, key: bytes) -> bytes:
    """Return the field as a native object has it: FE and FD become 02 and 03."""
    if key[:1] in (b"\xfe", b"\xfd") and isinstance(algorithm, int) and algorithm in POINT_SIZES:
        return bytes((0x100 - key[0],)) + key[1:]
    return key


def compressed(algorithm: int | Algorithm, key: bytes) -> bytes:
    """Return the field with an uncompressed point travelling compressed (FE, FD); others as they are."""
    if isinstance(algorithm, int) and algorithm in POINT_SIZES and key[:1] == b"\x04":
        return (b"\xfd" if key[-1] & 1 else b"\xfe") + key[1 : 1 + POINT_SIZES[algorithm]]
    return key


@lru_cache(maxsize=64)
def decompress(algorithm: int, point: bytes) -> bytes:
    """Return a compressed point (02, 03) uncompressed.

    Issuers' keys come again and again, so the last few are kept.

    Raises:
        MalformedMessage: Not on the curve.
    """
    curve = _CURVES.get(algorithm)
    if curve is not None:
        try:
            key = ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
        except (ValueError, UnsupportedAlgorithm):
            malformed("point is not on the curve")
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    p, b = _UNSUPPORTED_CURVES[algorithm].p, _UNSUPPORTED_CURVES[algorithm].b
    x = int.from_bytes(point[1:], "big")
    square = (x * x * x - 3 * x + b) % p
    y = pow(square, (p + 1) // 4, p)
    if x >= p or y * y % p != square:
        malformed("point is not on the curve")
    if y & 1 != point[0] & 1:
        y = p - y
    size = POINT_SIZES[algorithm]
    return b"\x04" + point[1:] + y.to_bytes(size, "big")


def bit_string_octets(algorithm: int | Algorithm, key: bytes) -> bytes:
    """Return the octets of X.509's subjectPublicKey: FE and FD become the uncompressed point.

    Raises:
        MalformedMessage: The point is not on the curve.
    """
    if isinstance(algorithm, int) and algorithm in POINT_SIZES and key[0] >= 0xFD:
        return decompress(algorithm, native_key(algorithm, key))
    return key


def spki(algorithm: int | Algorithm, key: bytes) -> bytes:
    """Return X.509's SubjectPublicKeyInfo.

    Raises:
        MalformedMessage: A point that has to be decompressed is not on the curve.
    """
    identifier = algorithm_to_der(algorithm, PUBLIC_KEY_DER)
    return der.sequence(identifier, der.bit_string(bit_string_octets(algorithm, key)))


def load(algorithm: int | Algorithm, key: bytes) -> PublicKeyTypes:
    """Return the key for use with `cryptography`.

    Raises:
        MalformedMessage: Not on the curve, weak beyond use, or of an algorithm that cannot be loaded.
    """
    try:
        curve = _CURVES.get(algorithm) if isinstance(algorithm, int) else None
        if curve is not None:
            return ec.EllipticCurvePublicKey.from_encoded_point(curve, native_key(algorithm, key))
        return load_der_public_key(spki(algorithm, key))
    except (ValueError, UnsupportedAlgorithm):
        malformed("public key is not valid, or its algorithm is not supported")
