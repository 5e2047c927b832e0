"""Private key structures (draft-ietf-cose-cbor-encoded-cert §3.6).

Only the frame is read here; the key stays the bytes that `cryptography` takes. Nothing in this module
prints, logs or compares a key.
"""

from dataclasses import dataclass, field
from typing import Any, Final, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from protocol import cbor
from protocol.c509 import der
from protocol.c509.algorithms import (
    PUBLIC_KEY_DER,
    Algorithm,
    algorithm_from_der,
    algorithm_from_item,
    algorithm_item,
    algorithm_to_der,
)
from protocol.c509.certificate import Certificate
from protocol.c509.chain import MAX_CHAIN_BYTES, chain_from_item, encode_chain
from protocol.c509.checks import byte_string, malformed, members

PRIVATE_KEY_OCTETS: Final = 0
"""Type of a key that is RFC 5958's PrivateKey octets."""
COSE_KEY: Final = 1
"""Type of a key that is a COSE_Key."""
_MAX_BYTES: Final = 16384


@dataclass(frozen=True, slots=True)
class C509PrivateKey:
    """A private key with its algorithm.

    Attributes:
        type: `PRIVATE_KEY_OCTETS` (0) or `COSE_KEY` (1).
        algorithm: A `PublicKeyAlgorithm`, or the `Algorithm` itself.
        key: For type 0 the octets of RFC 5958's privateKey, for type 1 an encoded COSE_Key map.
    """

    type: int
    algorithm: int | Algorithm
    key: bytes = field(repr=False)

    @classmethod
    def from_private_key(cls, key: PrivateKeyTypes) -> "C509PrivateKey":
        """Return the type 0 structure of a key."""
        pkcs8 = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        reader = der.Reader(der.whole(pkcs8, der.SEQUENCE))
        reader.take(der.INTEGER)
        algorithm = algorithm_from_der(reader.raw(), PUBLIC_KEY_DER)
        return cls(PRIVATE_KEY_OCTETS, algorithm, reader.take(der.OCTET_STRING))

    def load(self) -> PrivateKeyTypes:
        """Return the key for use with `cryptography`.

        Raises:
            MalformedMessage: Not a key of its algorithm, or a COSE_Key, which nothing here reads.
        """
        if self.type != PRIVATE_KEY_OCTETS:
            malformed("a COSE_Key is not read here")
        identifier = algorithm_to_der(self.algorithm, PUBLIC_KEY_DER)
        pkcs8 = der.sequence(der.integer(0), identifier, der.tlv(der.OCTET_STRING, self.key))
        try:
            return load_der_private_key(pkcs8, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            malformed("not a private key of its algorithm")

    def to_item(self) -> object:
        """Return the CBOR item."""
        key = self.key if self.type == PRIVATE_KEY_OCTETS else cbor.decode(self.key, max_bytes=_MAX_BYTES)
        return [self.type, algorithm_item(self.algorithm), key]

    def encode(self) -> bytes:
        """Return the deterministic encoding."""
        return cbor.encode(self.to_item())


@dataclass(frozen=True, slots=True)
class C509Pem:
    """A private key and the chain of its certificate; empty where there is none."""

    private_key: C509PrivateKey
    chain: tuple[Certificate, ...] = ()

    def encode(self) -> bytes:
        """Return the deterministic encoding."""
        chain = encode_chain(self.chain) if self.chain else cbor.encode(None)
        return b"\x82" + self.private_key.encode() + chain


def _cose_key(item: object) -> bytes:
    if not isinstance(item, dict):
        malformed("a COSE_Key is a map")
    return cbor.encode(cast("dict[object, object]", item))


def _private_key(item: Any) -> C509PrivateKey:  # noqa: ANN401 (checked here)
    kind, algorithm, key = members(item, 3, "a private key")
    if type(kind) is not int or kind not in (PRIVATE_KEY_OCTETS, COSE_KEY):
        malformed("private key type is 0 or 1")
    octets = _cose_key(key) if kind == COSE_KEY else byte_string(key)
    return C509PrivateKey(kind, algorithm_from_item(algorithm, PUBLIC_KEY_DER, native=False), octets)


def decode_private_key(data: bytes) -> C509PrivateKey:
    """Return the private key structure that `data` encodes.

    Raises:
        MalformedMessage: Not that.
    """
    return _private_key(cbor.decode(data, max_bytes=_MAX_BYTES))


def decode_pem(data: bytes, *, max_bytes: int = MAX_CHAIN_BYTES) -> C509Pem:
    """Return the bundle of private key and chain that `data` encodes.

    Raises:
        MalformedMessage: Not that.
    """
    key, chain = members(cbor.decode(data, max_bytes=max_bytes), 2, "a bundle")
    certificates = () if chain is None else chain_from_item(chain, max_bytes=max_bytes)
    return C509Pem(_private_key(key), certificates)
