"""Signature and public-key algorithms: registry numbers, X.509 AlgorithmIdentifiers, signature forms."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from protocol.c509 import der
from protocol.c509.checks import byte_string, malformed, members


class SignatureAlgorithm(IntEnum):
    """Registered signature and proof-of-possession algorithms."""

    RSA_PKCS1_SHA1 = -256
    ECDSA_SHA1 = -255
    ECDSA_SHA256 = 0
    ECDSA_SHA384 = 1
    ECDSA_SHA512 = 2
    ECDSA_SHAKE128 = 3
    ECDSA_SHAKE256 = 4
    UNSIGNED = 5
    SM2_SM3 = 8
    ED25519 = 12
    ED448 = 13
    DH_POP_SHA256 = 14
    DH_POP_SHA384 = 15
    DH_POP_SHA512 = 16
    RSA_PKCS1_SHA256 = 23
    RSA_PKCS1_SHA384 = 24
    RSA_PKCS1_SHA512 = 25
    RSA_PSS_SHA256 = 26
    RSA_PSS_SHA384 = 27
    RSA_PSS_SHA512 = 28
    RSA_PSS_SHAKE128 = 29
    RSA_PSS_SHAKE256 = 30


class PublicKeyAlgorithm(IntEnum):
    """Registered public-key algorithms; elliptic curves include their parameters."""

    RSA = 0
    P256 = 1
    P384 = 2
    P521 = 3
    SM2 = 6
    X25519 = 8
    X448 = 9
    ED25519 = 12
    ED448 = 13
    BRAINPOOL_P256 = 24
    BRAINPOOL_P384 = 25
    BRAINPOOL_P512 = 26
    FRP256V1 = 27


@dataclass(frozen=True, slots=True)
class Algorithm:
    """An algorithm without a registered number."""

    oid: bytes
    """Octets of the object identifier."""
    parameters: bytes | None = None
    """One DER element, or None where absent."""

    def to_der(self) -> bytes:
        """Return the X.509 AlgorithmIdentifier."""
        return der.sequence(der.tlv(der.OID, self.oid), self.parameters or b"")


def _identifier(oid: str, parameters: bytes = b"") -> bytes:
    return der.sequence(_oid(oid), parameters)


def _oid(oid: str) -> bytes:
    return der.tlv(der.OID, der.oid_from_text(oid))


def _pss(hash_oid: str, salt: int) -> bytes:
    hashing = _identifier(hash_oid, der.NULL_VALUE)
    mask = der.sequence(_oid("1.2.840.113549.1.1.8"), hashing)
    parameters = der.tlv(0xA0, hashing) + der.tlv(0xA1, mask) + der.tlv(0xA2, der.integer(salt))
    return _identifier("1.2.840.113549.1.1.10", der.sequence(parameters))


_SHA2: Final = "2.16.840.1.101.3.4.2."
SIGNATURE_DER: Final[dict[int, bytes]] = {
    -256: _identifier("1.2.840.113549.1.1.5", der.NULL_VALUE),
    -255: _identifier("1.2.840.10045.4.1"),
    0: _identifier("1.2.840.10045.4.3.2"),
    1: _identifier("1.2.840.10045.4.3.3"),
    2: _identifier("1.2.840.10045.4.3.4"),
    3: _identifier("1.3.6.1.5.5.7.6.32"),
    4: _identifier("1.3.6.1.5.5.7.6.33"),
    5: _identifier("1.3.6.1.5.5.7.6.36"),
    8: _identifier("1.2.156.10197.1.501"),
    12: _identifier("1.3.101.112"),
    13: _identifier("1.3.101.113"),
    14: _identifier("1.3.6.1.5.5.7.6.26"),
    15: _identifier("1.3.6.1.5.5.7.6.27"),
    16: _identifier("1.3.6.1.5.5.7.6.28"),
    23: _identifier("1.2.840.113549.1.1.11", der.NULL_VALUE),
    24: _identifier("1.2.840.113549.1.1.12", der.NULL_VALUE),
    25: _identifier("1.2.840.113549.1.1.13", der.NULL_VALUE),
    26: _pss(_SHA2 + "1", 32),
    27: _pss(_SHA2 + "2", 48),
    28: _pss(_SHA2 + "3", 64),
    29: _identifier("1.3.6.1.5.5.7.6.30"),
    30: _identifier("1.3.6.1.5.5.7.6.31"),
}
"""AlgorithmIdentifier of each registered signature algorithm."""

EC_PUBLIC_KEY: Final = der.oid_from_text("1.2.840.10045.2.1")


def _curve(oid: str) -> bytes:
    return der.sequence(der.tlv(der.OID, EC_PUBLIC_KEY), _oid(oid))


PUBLIC_KEY_DER: Final[dict[int, bytes]] = {
    0: _identifier("1.2.840.113549.1.1.1", der.NULL_VALUE),
    1: _curve("1.2.840.10045.3.1.7"),
    2: _curve("1.3.132.0.34"),
    3: _curve("1.3.132.0.35"),
    6: _curve("1.2.156.10197.1.301"),
    8: _identifier("1.3.101.110"),
    9: _identifier("1.3.101.111"),
    12: _identifier("1.3.101.112"),
    13: _identifier("1.3.101.113"),
    24: _curve("1.3.36.3.3.2.8.1.1.7"),
    25: _curve("1.3.36.3.3.2.8.1.1.11"),
    26: _curve("1.3.36.3.3.2.8.1.1.13"),
    27: _curve("1.2.250.1.223.101.256.1"),
}
"""AlgorithmIdentifier of each registered public-key algorithm."""

_SIGNATURE_NUMBERS: Final = {identifier: number for number, identifier in SIGNATURE_DER.items()}
_PUBLIC_KEY_NUMBERS: Final = {identifier: number for number, identifier in PUBLIC_KEY_DER.items()}

ECDSA_LIKE: Final = frozenset({-255, 0, 1, 2, 3, 4, 8})
"""Signatures that are r and s: DER SEQUENCE in X.509, r‖s of equal lengths in C509."""
DH_POP: Final = frozenset({14, 15, 16})
_FIXED_SIZES: Final = {5: 0, 12: 64, 13: 114, 14: 32, 15: 48, 16: 64}


def algorithm_to_der(algorithm: int | Algorithm, table: dict[int, bytes]) -> bytes:
    """Return the AlgorithmIdentifier; `table` is `SIGNATURE_DER` or `PUBLIC_KEY_DER`."""
    return algorithm.to_der() if isinstance(algorithm, Algorithm) else table[algorithm]


def algorithm_from_der(identifier: bytes, table: dict[int, bytes]) -> int | Algorithm:
    """Return the registered number of an AlgorithmIdentifier, or the identifier itself.

    Raises:
        DerError: Not an AlgorithmIdentifier.
    """
    numbers = _SIGNATURE_NUMBERS if table is SIGNATURE_DER else _PUBLIC_KEY_NUMBERS
    number = numbers.get(identifier)
    if number is not None:
        return number
    reader = der.Reader(der.whole(identifier, der.SEQUENCE))
    oid = reader.take(der.OID)
    parameters = reader.raw() if reader.more else None
    reader.finish()
    if not der.is_oid(oid):
        msg = "bad object identifier"
        raise der.DerError(msg)
    return Algorithm(oid, parameters)


def algorithm_from_item(item: Any, table: dict[int, bytes], *, native: bool) -> int | Algorithm:  # noqa: ANN401
    """Return the algorithm that a CBOR item names.

    Raises:
        MalformedMessage: No such algorithm, or (native) one with a number is spelled out.
    """
    if type(item) is int:
        if item in table:
            return item
        malformed(f"algorithm {item} is not registered")
    if type(item) is bytes:
        algorithm = Algorithm(item)
    else:
        identifier, parameters = members(item, 2, "an algorithm with parameters")
        algorithm = Algorithm(byte_string(identifier), byte_string(parameters))
        if not der.is_element(parameters):
            malformed("algorithm parameters are not one DER element")
    if not der.is_oid(algorithm.oid):
        malformed("bad object identifier")
    if native and algorithm.to_der() in (
        _SIGNATURE_NUMBERS if table is SIGNATURE_DER else _PUBLIC_KEY_NUMBERS
    ):
        malformed("algorithm has a registered number")
    return algorithm


def algorithm_item(algorithm: int | Algorithm) -> object:
    """Return the CBOR item for an algorithm."""
    if isinstance(algorithm, Algorithm):
        return algorithm.oid if algorithm.parameters is None else (algorithm.oid, algorithm.parameters)
    return algorithm


def check_signature(algorithm: int | Algorithm, signature: bytes) -> None:
    """Check the length of a signature as C509 carries it.

    Raises:
        MalformedMessage: No signature of `algorithm` has this length.
    """
    if algorithm in ECDSA_LIKE:
        if len(signature) % 2 or not signature:
            malformed("r and s are not of equal length")
    elif isinstance(algorithm, int) and _FIXED_SIZES.get(algorithm, len(signature)) != len(signature):
        malformed("signature of the wrong length")


def signature_to_der(algorithm: int | Algorithm, signature: bytes) -> bytes:
    """Return the octets of X.509's signature BIT STRING: DER for ECDSA, otherwise as it is."""
    if algorithm in ECDSA_LIKE:
        half = len(signature) // 2
        return der.sequence(der.unsigned(signature[:half]), der.unsigned(signature[half:]))
    return signature


_ORDER_SIZES: Final = (32, 48, 64, 66)


def signature_from_der(algorithm: int | Algorithm, signature: bytes, size: int | None) -> bytes:
    """Return a signature as C509 carries it (RFC 9053 §2.1 for ECDSA).

    Args:
        algorithm: Of the signature.
        signature: The octets of X.509's BIT STRING.
        size: Octets of the group order of the signer's curve; None guesses the smallest common one
            that holds r and s.

    Raises:
        DerError: Not an ECDSA signature in DER.
    """
    if algorithm not in ECDSA_LIKE:
        return signature
    reader = der.Reader(der.whole(signature, der.SEQUENCE))
    r = der.read_unsigned(reader.take(der.INTEGER))
    s = der.read_unsigned(reader.take(der.INTEGER))
    reader.finish()
    longest = max(len(r), len(s))
    if size is None or size < longest:
        size = next((size for size in _ORDER_SIZES if size >= longest), longest)
    return r.rjust(size, b"\0") + s.rjust(size, b"\0")
