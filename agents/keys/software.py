"""A signer whose key is in this process's memory, handled by OpenSSL through `cryptography`."""

import hashlib
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agents.keys.files import PrivateKey
from protocol.cose import Algorithm, algorithm_of
from protocol.even_y import with_even_y
from protocol.low_s import with_low_s

_CURVES: Final = {
    Algorithm.ES256: (ec.SECP256R1, hashes.SHA256(), hashlib.sha256, 32),
    Algorithm.ES384: (ec.SECP384R1, hashes.SHA384(), hashlib.sha384, 48),
    Algorithm.ES512: (ec.SECP521R1, hashes.SHA512(), hashlib.sha512, 66),
}


def generate(algorithm: Algorithm = Algorithm.ES256) -> PrivateKey:
    """Return a new private key for `algorithm`."""
    if algorithm is Algorithm.EDDSA:
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(_CURVES[algorithm][0]())


class SoftwareSigner:
    """Implements `protocol.signing.Signer`, and `protocol.ev.Agreement`, over a key in memory.

    Args:
        key: The private key; it never leaves this object.
        even_y: Whether P-256 signatures are those whose R has an even y (`protocol.even_y`), so that
            messages and requests can be verified many at a time. It costs 0.3 ms a signature, ten times
            the signature itself, and checks it on the way. Off for whoever signs certificates, CRLs or
            TLS: nobody batches those; then the smaller s is taken, so that a certificate has one
            thumbprint (`protocol.low_s`).
    """

    def __init__(self, key: PrivateKey, *, even_y: bool = True) -> None:
        self._key = key
        self._public_key = key.public_key()
        self.algorithm: Final = algorithm_of(self._public_key)
        """The one algorithm that this key is used with."""
        self.public_key: Final = (
            self._public_key.public_bytes_raw()
            if isinstance(self._public_key, ed25519.Ed25519PublicKey)
            else self._public_key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        )
        """SEC1 compressed point, or 32 bytes of an Ed25519 key."""
        self._even_y = even_y and self.algorithm is Algorithm.ES256

    def __repr__(self) -> str:
        return f"<SoftwareSigner {self.algorithm.name} {self.public_key[:4].hex()}…>"

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        """Return the x-coordinate of the point shared with `peer_public_key`: `protocol.ev.Agreement`.

        Raises:
            ValueError: The two keys are not of one curve.
        """
        if not isinstance(self._key, ec.EllipticCurvePrivateKey):
            msg = "an Ed25519 key agrees on nothing"
            raise ValueError(msg)  # noqa: TRY004 (as a key of another curve)
        return self._key.exchange(algorithm, peer_public_key)

    def sign(self, data: bytes) -> bytes:
        """Return r ‖ s over `data`."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(data)
        _, name, hash_of, size = _CURVES[self.algorithm]
        digest = hash_of(data).digest()
        r, s = decode_dss_signature(self._key.sign(digest, ec.ECDSA(Prehashed(name))))
        signature = r.to_bytes(size, "big") + s.to_bytes(size, "big")
        if self._even_y and isinstance(self._public_key, ec.EllipticCurvePublicKey):
            return with_even_y(self._public_key, digest, signature)
        return with_low_s(self.algorithm, signature)
