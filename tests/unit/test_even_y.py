import hashlib
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from protocol.even_y import has_even_y, with_even_y

# Schoolbook arithmetic, independent of the module under test: affine points, None is infinity.
P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
Point = tuple[int, int] | None


def add(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % P == 0:
            return None
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def multiply(scalar: int, point: Point) -> Point:
    result: Point = None
    for bit in f"{scalar % N:b}":
        result = add(result, result)
        if bit == "1":
            result = add(result, point)
    return result


@dataclass
class Signed:
    key: ec.EllipticCurvePublicKey
    digest: bytes
    r: int
    s: int

    @property
    def signature(self) -> bytes:
        return self.r.to_bytes(32, "big") + self.s.to_bytes(32, "big")

    @property
    def point(self) -> Point:
        """R, recomputed with the arithmetic above."""
        numbers = self.key.public_numbers()
        w = pow(self.s, -1, N)
        u1, u2 = int.from_bytes(self.digest, "big") * w, self.r * w
        return add(multiply(u1, G), multiply(u2, (numbers.x, numbers.y)))

    def verify(self) -> None:
        signature = encode_dss_signature(self.r, self.s)
        self.key.verify(signature, self.digest, ec.ECDSA(Prehashed(hashes.SHA256())))


def signed_with_nonce(private: int, nonce: int, digest: int) -> Signed:
    """A signature whose secrets were chosen by the test, so that R is where it wants it."""
    point = multiply(nonce, G)
    assert point is not None
    r = point[0] % N
    s = pow(nonce, -1, N) * (digest + r * private) % N
    key = ec.derive_private_key(private, ec.SECP256R1()).public_key()
    return Signed(key, digest.to_bytes(32, "big"), r, s)


def check(signed: Signed) -> None:
    signed.verify()
    point = signed.point
    assert point is not None
    assert point[0] % N == signed.r
    assert has_even_y(signed.key, signed.digest, signed.signature) == (point[1] % 2 == 0)
    even = with_even_y(signed.key, signed.digest, signed.signature)
    twin = Signed(signed.key, signed.digest, signed.r, int.from_bytes(even[32:], "big"))
    twin.verify()
    assert twin.point is not None
    assert twin.point[1] % 2 == 0
    assert twin.s in (signed.s, N - signed.s)
    assert with_even_y(signed.key, signed.digest, even) == even


def test_ordinary_signatures_agree_with_schoolbook_arithmetic() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    parities = set()
    for number in range(24):
        digest = hashlib.sha256(number.to_bytes(4, "big")).digest()
        r, s = decode_dss_signature(private.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
        signed = Signed(private.public_key(), digest, r, s)
        check(signed)
        parities.add(has_even_y(signed.key, digest, signed.signature))
    assert parities == {True, False}


@pytest.mark.parametrize("digest", [0, N], ids=["zero", "n"])
@pytest.mark.parametrize("nonce", [1, 2, 5, 12345, N - 5, N - 1])
def test_a_digest_of_zero_leaves_only_the_key_in_the_sum(digest: int, nonce: int) -> None:
    check(signed_with_nonce(77, nonce, digest))


@pytest.mark.parametrize("private", [77, N - 77])
def test_with_a_digest_of_zero_r_may_be_the_key_itself(private: int) -> None:
    # e = 0 makes R = u2·Q; a nonce of ±private makes u2 = ±1.
    check(signed_with_nonce(private, 77, 0))


@pytest.mark.parametrize("nonce", [3, 4, 1000, N - 2])
def test_both_summands_may_be_equal(nonce: int) -> None:
    # A = B means e = r·d, so R = 2A.
    private = 99
    point = multiply(nonce, G)
    assert point is not None
    check(signed_with_nonce(private, nonce, point[0] * private % N))


def test_opposite_summands_are_no_signature() -> None:
    # e = -r·d makes u1·G + u2·Q infinity, whatever s: refused although x(2A) may be anything.
    private, r, s = 99, 4711, 815
    key = ec.derive_private_key(private, ec.SECP256R1()).public_key()
    signed = Signed(key, (-r * private % N).to_bytes(32, "big"), r, s)
    assert signed.point is None
    with pytest.raises(ValueError, match="not a signature"):
        has_even_y(key, signed.digest, signed.signature)


@pytest.mark.parametrize("nonce", [1, 2, N - 1, N - 2])
def test_small_nonces_are_no_special_case(nonce: int) -> None:
    check(signed_with_nonce(1234567, nonce, 42))


@pytest.mark.parametrize("flip", [0, 1])
def test_an_x_between_n_and_p_is_reduced_in_the_signature(flip: int) -> None:
    # No one finds such an R by signing (2^-128), so it is built: take a point R with x in [n, p), any s and
    # e, and solve for the key: Q = (s·R - e·G) / r.
    x = N
    while pow(x**3 - 3 * x + B, (P - 1) // 2, P) != 1:
        x += 1
    assert x < P
    y = pow(x**3 - 3 * x + B, (P + 1) // 4, P)
    y = y if flip else P - y
    r, s, e = x - N, 987654321, int.from_bytes(hashlib.sha256(b"wrap").digest(), "big")
    q = multiply(pow(r, -1, N), add(multiply(s, (x, y)), multiply(-e, G)))
    assert q is not None
    key = ec.EllipticCurvePublicNumbers(*q, ec.SECP256R1()).public_key()
    check(Signed(key, e.to_bytes(32, "big"), r, s))


@pytest.mark.parametrize("part", ["digest", "r", "s", "key"])
def test_what_is_no_signature_is_refused(part: str) -> None:
    signed = signed_with_nonce(31337, 1001, 5)
    match part:
        case "digest":
            signed.digest = bytes(31) + b"\x06"
        case "r":
            signed.r += 1
        case "s":
            signed.s += 1
        case _:
            signed.key = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(ValueError, match="not a signature"):
        with_even_y(signed.key, signed.digest, signed.signature)


@pytest.mark.parametrize(("r", "s"), [(0, 1), (1, 0), (N, 1), (1, N), (2**256 - 1, 1)])
def test_numbers_out_of_range_are_refused(r: int, s: int) -> None:
    key = ec.derive_private_key(5, ec.SECP256R1()).public_key()
    with pytest.raises(ValueError, match="not a P-256 signature"):
        has_even_y(key, bytes(32), Signed(key, b"", r, s).signature)


@pytest.mark.parametrize(
    ("digest", "signature"), [(bytes(20), bytes(64)), (bytes(32), b"\x01" * 63), (bytes(32), b"")]
)
def test_wrong_lengths_are_refused(digest: bytes, signature: bytes) -> None:
    key = ec.derive_private_key(5, ec.SECP256R1()).public_key()
    with pytest.raises(ValueError, match="not a P-256 signature"):
        has_even_y(key, digest, signature)


def test_another_curve_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    with pytest.raises(ValueError, match="P-256"):
        has_even_y(key, bytes(32), bytes(64))
