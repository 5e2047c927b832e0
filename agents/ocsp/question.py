"""What an OCSP request asks (RFC 6960 §4.1, RFC 5019 §2.1), and which authority it is asked of.

One certificate for each request, as RFC 5019 has it. Signatures of requests are not looked at: everybody may
ask. A nonce is passed over, as RFC 5019 §4 allows: answers are made before they are asked for.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp

from agents.authority.domain import DomainAuthority
from protocol.c509 import der

MAX_REQUEST_BYTES: Final = 4096
"""Longest request; one without signature has some 80 bytes, 120 with a nonce."""
MAX_SERIAL_BYTES: Final = 20
NAMING_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    name.name: name
    for name in (hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512())  # noqa: S303
}
"""Hashes that name an issuer; SHA-1 is what most clients send, and it protects nothing here."""


@dataclass(frozen=True, slots=True)
class Question:
    """One certificate, as a request names it."""

    hash_name: str
    name_hash: bytes
    key_hash: bytes
    serial: bytes
    """Without leading zero, at most `MAX_SERIAL_BYTES`."""


class NotAQuestion(Exception):
    """Not an OCSP request about one certificate."""


def read_question(data: bytes) -> Question:
    """Return what `data` asks.

    Raises:
        NotAQuestion: It cannot be read. No other exception leaves this function.
    """
    if len(data) > MAX_REQUEST_BYTES:
        raise NotAQuestion(f"more than {MAX_REQUEST_BYTES} bytes")
    try:
        request = ocsp.load_der_ocsp_request(data)
        serial, name = request.serial_number, request.hash_algorithm.name
        name_hash, key_hash = request.issuer_name_hash, request.issuer_key_hash
    except (ValueError, TypeError, OverflowError, NotImplementedError, UnsupportedAlgorithm) as error:
        # NotImplementedError: several certificates in one request.
        raise NotAQuestion(str(error)) from None
    if not 0 < serial < 1 << 8 * MAX_SERIAL_BYTES:
        raise NotAQuestion("a serial number has 1 to 20 bytes")
    return Question(name, name_hash, key_hash, serial.to_bytes((serial.bit_length() + 7) // 8, "big"))


class Issuers:
    """Finds the authority that a request is about, whatever hash it names it by."""

    def __init__(self, authorities: Iterable[DomainAuthority]) -> None:
        self._found: dict[tuple[str, bytes, bytes], DomainAuthority] = {}
        self._hashes: dict[tuple[bytes, str], tuple[bytes, bytes]] = {}
        for authority in authorities:
            certificate = authority.issuer.certificate
            name = certificate.subject.to_der()
            key = _key_octets(certificate.spki_der)
            for hash_name in NAMING_HASHES:
                hashed = _digest(hash_name, name), _digest(hash_name, key)
                self._found[hash_name, *hashed] = authority
                self._hashes[authority.key_id, hash_name] = hashed

    def find(self, question: Question) -> DomainAuthority | None:
        """Return the authority; None if it is none of ours."""
        return self._found.get((question.hash_name, question.name_hash, question.key_hash))

    def hashes(self, authority: DomainAuthority, hash_name: str) -> tuple[bytes, bytes]:
        """Return the hashes of an authority's name and key."""
        return self._hashes[authority.key_id, hash_name]


def _digest(name: str, data: bytes) -> bytes:
    return hashlib.new(name, data, usedforsecurity=False).digest()


def _key_octets(spki: bytes) -> bytes:
    """Return the public key's BIT STRING without tag, length and unused bits (RFC 6960 §4.1.1)."""
    reader = der.Reader(der.whole(spki, der.SEQUENCE))
    reader.take(der.SEQUENCE)
    return reader.take(der.BIT_STRING)[1:]


def reason_flag(reason: int) -> x509.ReasonFlags | None:
    """Return RFC 5280's reason as `cryptography` has it; None says nothing."""
    return _FLAGS.get(reason)


_FLAGS: Final = {
    1: x509.ReasonFlags.key_compromise,
    2: x509.ReasonFlags.ca_compromise,
    3: x509.ReasonFlags.affiliation_changed,
    4: x509.ReasonFlags.superseded,
    5: x509.ReasonFlags.cessation_of_operation,
    6: x509.ReasonFlags.certificate_hold,
    9: x509.ReasonFlags.privilege_withdrawn,
    10: x509.ReasonFlags.aa_compromise,
}
