"""Which of the two points R an ECDSA signature came from, and the twin whose R has an even y.

A signature r ‖ s says the x of R and not which y, so many of them cannot be verified as one sum. A
signer can settle it for free: (r, s) and (r, n-s) are both good and belong to R and -R, so it sends the
one with the even y. To everyone else that is a plain ECDSA signature.

R = u1·G + u2·Q is public, and it is found here from public values alone; the nonce is never touched.
OpenSSL does the two multiplications: A = u1·G is the public key of the "private key" u1, and the x of
B = u2·Q is an ECDH of the "private key" u2 with Q. Only the y of B is open, and knowing the x of A + B,
which is r, makes it the solution of a linear equation:

    (yB - yA)² = (r + xA + xB)·(xB - xA)²   and   yB² = xB³ + a·xB + b
    ⇒  yB = (xB³ + a·xB + b + yA² - (r + xA + xB)·(xB - xA)²) / 2·yA

The solution is on the curve exactly when the signature is good, so finding the parity verifies it too.
Everything here may leak through time: it handles nothing that the signature does not tell.
"""

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

# P-256 (SP 800-186 §3.2.1.3): y² = x³ - 3x + b over the integers modulo _P; the group has _N points.
_P: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B: Final = 0x5AC635D8_AA3A93E7_B3EBBD55_769886BC_651D06B0_CC53B0F6_3BCE3C3E_27D2604B
_N: Final = 0xFFFFFFFF_00000000_FFFFFFFF_FFFFFFFF_BCE6FAAD_A7179E84_F3B9CAC2_FC632551
_CURVE: Final = ec.SECP256R1()
_ECDH: Final = ec.ECDH()
_PREHASHED: Final = ec.ECDSA(Prehashed(hashes.SHA256()))

Point = tuple[int, int]


def has_even_y(key: ec.EllipticCurvePublicKey, digest: bytes, signature: bytes) -> bool:
    """Return whether the R of a good signature has an even y.

    Args:
        key: P-256 public key of the signer.
        digest: SHA-256 of what was signed, 32 bytes.
        signature: r ‖ s, 64 bytes.

    Raises:
        ValueError: Not a signature over `digest` by `key`, or a key of another curve.

    Source:
        SEC 1 §4.1.6 (R from a signature); one verification's work, about 0.3 ms.
    """
    if not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("even-y signatures are for P-256")  # noqa: TRY004 (a bad key, not a bad type)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if len(digest) != 32 or len(signature) != 64 or not 0 < r < _N or not 0 < s < _N:
        raise ValueError("not a P-256 signature")
    w = pow(s, -1, _N)
    u1, u2 = int.from_bytes(digest, "big") * w % _N, r * w % _N
    x_b = _x_of_multiple(u2, key)
    a = _multiple_of_g(u1) if u1 else None
    if a is None or a[0] == x_b:
        y = _y_of_special(key, digest, r, s, a, u2)
    else:
        y = _y_of_sum(a, x_b, r)
        if y is None and r + _N < _P:
            y = _y_of_sum(a, x_b, r + _N)
    if y is None:
        raise ValueError("not a signature by this key")
    return y % 2 == 0


def with_even_y(key: ec.EllipticCurvePublicKey, digest: bytes, signature: bytes) -> bytes:
    """Return r ‖ s or r ‖ n-s, whichever has an R with an even y; arguments and errors as `has_even_y`."""
    if has_even_y(key, digest, signature):
        return signature
    return signature[:32] + (_N - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")


def _multiple_of_g(scalar: int) -> Point:
    numbers = ec.derive_private_key(scalar, _CURVE).public_key().public_numbers()
    return numbers.x, numbers.y


def _x_of_multiple(scalar: int, key: ec.EllipticCurvePublicKey) -> int:
    return int.from_bytes(ec.derive_private_key(scalar, _CURVE).exchange(_ECDH, key), "big")


def _y_of_second(a: Point, x_b: int, x_sum: int) -> int | None:
    """Return the y of B, of which the x is known and the x of A + B; None if there is no such B."""
    x_a, y_a = a
    square = (x_b * x_b - 3) * x_b + _B
    # No point of a group of odd order has y = 0, so 2·yA can be inverted.
    y_b = (square + y_a * y_a - (x_sum + x_a + x_b) * (x_b - x_a) ** 2) * pow(2 * y_a, -1, _P) % _P
    return y_b if (y_b * y_b - square) % _P == 0 else None


def _y_of_sum(a: Point, x_b: int, x_sum: int) -> int | None:
    """Return the y of A + B, of which the x is known and the x of B (not that of A); None if it is not so."""
    y_b = _y_of_second(a, x_b, x_sum)
    if y_b is None:
        return None
    x_a, y_a = a
    slope = (y_b - y_a) * pow(x_b - x_a, -1, _P)
    return (slope * (x_a - x_sum) - y_a) % _P


def _y_of_special(
    key: ec.EllipticCurvePublicKey, digest: bytes, r: int, s: int, a: Point | None, u2: int
) -> int | None:
    """Return the y of R where A is no point (the digest is 0 modulo n) or A = ±B.

    Nobody meets these by chance, and the formulas above divide by zero in them, so that the signature is
    good is not a by-product here.
    """
    try:
        key.verify(encode_dss_signature(r, s), digest, _PREHASHED)
    except InvalidSignature:
        return None
    if a is not None:  # R is not the point at infinity, so it is A + A.
        x_a, y_a = a
        slope = 3 * (x_a * x_a - 1) * pow(2 * y_a, -1, _P)
        return (slope * (3 * x_a - slope * slope) - y_a) % _P
    # R = u2·Q. Its y follows from the x of Q + R = (u2 + 1)·Q.
    q = key.public_numbers()
    if u2 in (1, _N - 1):
        return q.y if u2 == 1 else _P - q.y
    x_r = _x_of_multiple(u2, key)
    return _y_of_second((q.x, q.y), x_r, _x_of_multiple(u2 + 1, key))
