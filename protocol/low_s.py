"""One of the two forms of an ECDSA signature, for whatever is known by a hash of its bytes.

With (r, s), (r, n - s) is a signature of the same text by the same key, and anybody can compute it. A
certificate's thumbprint is over its signature too, so whoever is in the middle could hand a device a
certificate that verifies and that nobody else knows by that name. So issuers here take the smaller s,
and devices install no other.

Messages have their own rule (`protocol.even_y`); they are known by their counter.
"""

from typing import Final

from protocol.cose import Algorithm

_ORDERS: Final[dict[int, int]] = {
    Algorithm.ES256: 0xFFFFFFFF_00000000_FFFFFFFF_FFFFFFFF_BCE6FAAD_A7179E84_F3B9CAC2_FC632551,
    Algorithm.ES384: int("F" * 48 + "C7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16),
    Algorithm.ES512: int(
        "1" + "F" * 65 + "A51868783BF2F966B7FCC0148F709A5D03BB5C9B8899C47AEBB6FB71E91386409", 16
    ),
}
"""Number of points of each curve (SP 800-186 §3.2.1)."""


def with_low_s(algorithm: Algorithm, signature: bytes) -> bytes:
    """Return the form of `signature` whose s is at most half the order.

    Args:
        algorithm: What it was made with; an Ed25519 signature has one form only (RFC 8032 §5.1.7).
        signature: r ‖ s, by anybody. An s beyond the order is no signature at all, and comes back as it is.
    """
    order = _ORDERS.get(algorithm)
    if order is None:
        return signature
    half = len(signature) // 2
    s = int.from_bytes(signature[half:], "big")
    if 2 * s <= order or s > order:
        return signature
    return signature[:half] + (order - s).to_bytes(half, "big")
