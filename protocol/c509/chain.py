"""COSE_C509, the value of c5c and c5b, and the thumbprint c5t (draft-ietf-cose-cbor-encoded-cert §3.4)."""

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Final

from protocol import cbor
from protocol.c509.certificate import Certificate, decode_certificate
from protocol.c509.checks import array
from protocol.c509.checks import byte_string as checked_bytes
from protocol.c509.encoding import array_head, byte_string

MAX_CHAIN_BYTES: Final = 65536
"""Longest accepted chain in bytes: four of the longest re-encoded certificates in use."""


def thumbprint(encoded: bytes) -> bytes:
    """Return the value of c5t with SHA-256/64 (COSE algorithm -15): 8 bytes over the whole array."""
    return sha256(encoded).digest()[:8]


def encode_chain(certificates: Iterable[Certificate]) -> bytes:
    """Return a COSE_C509: one certificate in a byte string, or an array of two or more.

    Raises:
        ValueError: No certificate.
    """
    wrapped = [byte_string(certificate.encoded) for certificate in certificates]
    if not wrapped:
        msg = "a COSE_C509 holds one certificate at least"
        raise ValueError(msg)
    if len(wrapped) == 1:
        return wrapped[0]
    return array_head(len(wrapped)) + b"".join(wrapped)


def decode_chain(
    data: bytes, *, max_bytes: int = MAX_CHAIN_BYTES, sequence: bool = False
) -> tuple[Certificate, ...]:
    """Return the certificates of a COSE_C509, in order.

    Args:
        data: Any bytes.
        max_bytes: Longest accepted input.
        sequence: As for `decode_certificate`.

    Raises:
        MalformedMessage: Not a COSE_C509.
    """
    item = cbor.decode(data, max_bytes=max_bytes, tags=frozenset())
    return chain_from_item(item, max_bytes=max_bytes, sequence=sequence)


def chain_from_item(item: Any, *, max_bytes: int, sequence: bool = False) -> tuple[Certificate, ...]:  # noqa: ANN401
    """Return the certificates of a decoded COSE_C509 (the value of c5c and c5b).

    Raises:
        MalformedMessage: Not a COSE_C509.
    """
    wrapped = [item] if type(item) is bytes else array(item, 2)
    return tuple(
        decode_certificate(checked_bytes(member), max_bytes=max_bytes, sequence=sequence)
        for member in wrapped
    )
