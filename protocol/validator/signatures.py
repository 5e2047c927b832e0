"""Signatures on certificates: which key made which kind, and whether this one is good.

A suite is a pair: the issuer's key and the signature made with it. COSE binds each curve to one hash, X.509
does not, so a P-521 key may sign with SHA-256 in X.509, and peers take it. Here a policy lists the suites
that it takes; a certificate with another is refused by name. None is ever skipped.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from protocol import c509
from protocol.c509 import PublicKeyAlgorithm as Key
from protocol.c509 import SignatureAlgorithm as Signature
from protocol.c509 import der, keys
from protocol.errors import MalformedMessage

MIN_RSA_BITS: Final = 2048


class Suite(NamedTuple):
    """An issuer's key and what it signs with, by their C509 numbers."""

    key: int
    signature: int


P256_SHA256: Final = Suite(Key.P256, Signature.ECDSA_SHA256)
P384_SHA384: Final = Suite(Key.P384, Signature.ECDSA_SHA384)
P521_SHA512: Final = Suite(Key.P521, Signature.ECDSA_SHA512)
ED25519: Final = Suite(Key.ED25519, Signature.ED25519)
ED448: Final = Suite(Key.ED448, Signature.ED448)

_HASHES: Final[dict[int, hashes.HashAlgorithm]] = {
    Signature.ECDSA_SHA256: hashes.SHA256(),
    Signature.ECDSA_SHA384: hashes.SHA384(),
    Signature.ECDSA_SHA512: hashes.SHA512(),
    Signature.RSA_PKCS1_SHA256: hashes.SHA256(),
    Signature.RSA_PKCS1_SHA384: hashes.SHA384(),
    Signature.RSA_PKCS1_SHA512: hashes.SHA512(),
}
_ECDSA: Final = {
    number: ec.ECDSA(_HASHES[number])
    for number in (Signature.ECDSA_SHA256, Signature.ECDSA_SHA384, Signature.ECDSA_SHA512)
}
_RSA: Final = (Signature.RSA_PKCS1_SHA256, Signature.RSA_PKCS1_SHA384, Signature.RSA_PKCS1_SHA512)
_CURVES: Final = (Key.P256, Key.P384, Key.P521, Key.BRAINPOOL_P256, Key.BRAINPOOL_P384, Key.BRAINPOOL_P512)

COMPUTABLE: Final = frozenset(
    {
        *(Suite(curve, signature) for curve in _CURVES for signature in _ECDSA),
        *(Suite(Key.RSA, signature) for signature in _RSA),
        ED25519,
        ED448,
    }
)
"""Every suite that a policy may allow."""


def suite_name(key: int | c509.Algorithm, signature: int | c509.Algorithm) -> str:
    """Return words for a suite, also for one without registered numbers."""
    return f"a signature by {_name(Signature, signature)} of a {_name(Key, key)} key"


def _name(table: type[Key] | type[Signature], number: int | c509.Algorithm) -> str:
    if isinstance(number, c509.Algorithm):
        return f"algorithm {der.oid_to_text(number.oid)}"
    return table(number).name.replace("_", "-")


@lru_cache(maxsize=64)
def issuer_key(algorithm: int, key: bytes) -> PublicKeyTypes:
    """Return an issuer's key for use with `cryptography`.

    Few issuers certify many devices and a compressed point costs a third of a signature check, so the
    last few keys are kept. They are public.

    Raises:
        MalformedMessage: Not on its curve, or too weak.
    """
    loaded = keys.load(algorithm, key)
    if isinstance(loaded, rsa.RSAPublicKey) and loaded.key_size < MIN_RSA_BITS:
        raise MalformedMessage(f"an RSA key under {MIN_RSA_BITS} bits")
    return loaded


def is_signed_with(certificate: c509.Certificate, key: PublicKeyTypes) -> bool:
    """Return whether `key` signed `certificate`; the caller has looked at the suite.

    X.509's r and s are integers of any length, a native certificate's are of the curve's length.

    Raises:
        MalformedMessage: The certificate's own key is not on its curve, so there is no DER to check.
    """
    signature = certificate.signature_algorithm
    verify: Callable[..., Any]
    arguments: tuple[object, ...]
    if isinstance(key, ec.EllipticCurvePublicKey) and signature in _ECDSA:
        if certificate.type == c509.NATIVE and len(certificate.signature) != 2 * (-(-key.key_size // 8)):
            return False
        verify, arguments = key.verify, (_ECDSA[Signature(signature)],)
    elif isinstance(key, rsa.RSAPublicKey) and signature in _RSA:
        verify, arguments = key.verify, (padding.PKCS1v15(), _HASHES[Signature(signature)])
    elif (isinstance(key, ed25519.Ed25519PublicKey) and signature == Signature.ED25519) or (
        isinstance(key, ed448.Ed448PublicKey) and signature == Signature.ED448
    ):
        verify, arguments = key.verify, ()
    else:
        return False
    try:
        verify(certificate.signature_der, certificate.signed_bytes, *arguments)
    except (InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
