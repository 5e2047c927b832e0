"""X.509 revocation lists (RFC 5280 §5) in DER, put together from entries that were encoded once.

Why not `cryptography`'s builder: it holds the interpreter lock while it encodes, parses and encodes again,
5 ms for each thousand entries, in which an event loop stands still. Here ten thousand entries are one join
and one hash. The tests compare with what that builder makes, byte for byte.

A list with a base number is a delta (§5.2.4): what changed since the list of that number.
"""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from agents.authority.pki import HASHES
from protocol import c509
from protocol.c509 import der
from protocol.c509.x509_writer import time_to_der
from protocol.path import verification_key

_VERSION_2: Final = der.integer(1)
_SIGNATURES: Final[dict[str, tuple[str, Callable[[bytes], Any]]]] = {
    "secp256r1": ("1.2.840.10045.4.3.2", hashlib.sha256),
    "secp384r1": ("1.2.840.10045.4.3.3", hashlib.sha384),
    "secp521r1": ("1.2.840.10045.4.3.4", hashlib.sha512),
}
"""Signature algorithm of an issuer's curve (RFC 5758 §3.2), and its hash."""
_CRL_NUMBER: Final = der.tlv(der.OID, der.oid_from_text("2.5.29.20"))
_REASON: Final = der.tlv(der.OID, der.oid_from_text("2.5.29.21"))
_DELTA_INDICATOR: Final = der.tlv(der.OID, der.oid_from_text("2.5.29.27"))
_AUTHORITY_KEY_IDENTIFIER: Final = der.tlv(der.OID, der.oid_from_text("2.5.29.35"))
_ENUMERATED: Final = 0x0A
_CRL_EXTENSIONS: Final = 0xA0
_KEY_IDENTIFIER: Final = 0x80


def _extension(oid: bytes, value: bytes, *, critical: bool = False) -> bytes:
    return der.sequence(oid, der.TRUE if critical else b"", der.tlv(der.OCTET_STRING, value))


_REASONS: Final = {
    reason: der.sequence(_extension(_REASON, der.tlv(_ENUMERATED, bytes([reason]))))
    for reason in range(1, 11)
}


def number_of(path: Path, issuer: c509.Certificate) -> int:
    """Return the number of the full list in a file; 0 if there is none, or it is not by `issuer`."""
    key = verification_key(issuer)
    try:
        found = x509.load_der_x509_crl(path.read_bytes())
        if not found.is_signature_valid(key):
            return 0
        return found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (
        OSError,
        ValueError,
        TypeError,
        x509.InvalidVersion,
        x509.ExtensionNotFound,
        UnsupportedAlgorithm,
    ):
        return 0


def encode_entry(serial: bytes, revoked_at: int, reason: int) -> bytes:
    """Return one revoked certificate.

    Args:
        serial: Without leading zero.
        revoked_at: POSIX seconds.
        reason: RFC 5280 §5.3.1; 0 is left out, as it says nothing.
    """
    return der.sequence(der.unsigned(serial), time_to_der(revoked_at), _REASONS.get(reason, b""))


def encode_list(
    key: ec.EllipticCurvePrivateKey,
    issuer: c509.Name,
    key_identifier: bytes,
    *,
    number: int,
    this_update: int,
    next_update: int,
    entries: Iterable[bytes],
    base: int | None = None,
) -> bytes:
    """Return a signed CertificateList.

    Args:
        key: The issuer's, P-256 (with SHA-256), P-384 (SHA-384) or P-521 (SHA-512).
        issuer: The issuer's name.
        key_identifier: The issuer's subject key identifier.
        number: crlNumber, > 0.
        this_update: POSIX seconds.
        next_update: POSIX seconds.
        entries: Of `encode_entry`, each certificate once.
        base: For a delta: number of the full list that it goes on from.
    """
    oid, hash_of = _SIGNATURES[key.curve.name]
    algorithm = der.sequence(der.tlv(der.OID, der.oid_from_text(oid)))
    listed = b"".join(entries)
    extensions = der.sequence(
        _extension(_AUTHORITY_KEY_IDENTIFIER, der.sequence(der.tlv(_KEY_IDENTIFIER, key_identifier))),
        _extension(_CRL_NUMBER, der.integer(number)),
        b"" if base is None else _extension(_DELTA_INDICATOR, der.integer(base), critical=True),
    )
    tbs = der.sequence(
        _VERSION_2,
        algorithm,
        issuer.to_der(),
        time_to_der(this_update),
        time_to_der(next_update),
        der.sequence(listed) if listed else b"",
        der.tlv(_CRL_EXTENSIONS, extensions),
    )
    # hashlib lets the interpreter go on while it reads the whole list.
    signature = key.sign(hash_of(tbs).digest(), ec.ECDSA(Prehashed(HASHES[key.curve.name])))
    return der.sequence(tbs, algorithm, der.bit_string(signature))
