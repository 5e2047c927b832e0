"""What an issuer does: put fields together, sign, done.

All but the signature takes about 17 µs for a native certificate, 29 µs for a re-encoded one (bench/c509.py),
so nothing is kept between certificates but what names and times remember of themselves: use one `Name`
object for the issuer.
"""

from collections.abc import Iterable
from hashlib import sha256

from protocol.c509 import keys, x509_writer
from protocol.c509.algorithms import Algorithm, PublicKeyAlgorithm, SignatureAlgorithm
from protocol.c509.certificate import NATIVE, TbsCertificate
from protocol.c509.encoding import byte_string
from protocol.c509.extensions import Extension
from protocol.c509.name import Name
from protocol.errors import MalformedMessage


def build_certificate(  # noqa: PLR0913 (the fields of a certificate, each by its name)
    *,
    type: int,
    serial: bytes | int,
    issuer: Name,
    subject: Name,
    not_before: int,
    not_after: int | None,
    public_key: bytes,
    public_key_algorithm: int | Algorithm = PublicKeyAlgorithm.P256,
    signature_algorithm: int | Algorithm = SignatureAlgorithm.ECDSA_SHA256,
    extensions: Iterable[Extension] = (),
) -> TbsCertificate:
    """Return a certificate that lacks only its signature.

    Args:
        type: `NATIVE` or `REENCODED`.
        serial: Above zero; bytes without leading zero.
        issuer: The issuer's name, also where it equals the subject.
        subject: The subject's name.
        not_before: POSIX seconds.
        not_after: POSIX seconds, or None for no end.
        public_key: On curves any SEC1 form of the point (02, 03, 04; FE and FD too): it travels compressed,
            and X.509 has it uncompressed. Give 04 for `REENCODED` if it is at hand: decompressing costs
            more than all the rest. Other algorithms: as in `protocol.c509.keys`.
        public_key_algorithm: Of `public_key`.
        signature_algorithm: That the issuer signs with.
        extensions: In order.

    Raises:
        ValueError: A serial number or time out of range, or not a key of its algorithm.
        MalformedMessage: The point is not on its curve (seen only where it has to be decompressed).
    """
    if isinstance(serial, int):
        serial = serial.to_bytes((serial.bit_length() + 7) // 8, "big")
    if not serial or serial[0] == 0:
        msg = "a serial number is above zero and has no leading zero"
        raise ValueError(msg)
    end = x509_writer.NO_EXPIRY if not_after is None else not_after
    if not 0 <= not_before <= x509_writer.NO_EXPIRY or not 0 <= end <= x509_writer.NO_EXPIRY:
        msg = "time out of range"
        raise ValueError(msg)
    field, point = _key(type, public_key_algorithm, public_key)
    tbs = TbsCertificate(
        type,
        serial,
        signature_algorithm,
        None if issuer == subject else issuer,
        not_before,
        None if end == x509_writer.NO_EXPIRY else end,
        subject,
        public_key_algorithm,
        field,
        tuple(extensions),
    )
    if type != NATIVE:
        tbs.keep_tbs_der(keys.spki(public_key_algorithm, point))
    return tbs


def _key(kind: int, algorithm: int | Algorithm, key: bytes) -> tuple[bytes, bytes]:
    """Return the field of a certificate of type `kind`, and the key for its SubjectPublicKeyInfo."""
    if algorithm != keys.RSA:
        try:
            keys.check_key(algorithm, key)
        except MalformedMessage as error:
            raise ValueError(str(error)) from None
    if not isinstance(algorithm, int) or algorithm not in keys.POINT_SIZES:
        return key, key
    shorter = keys.compressed(algorithm, key)
    if kind == NATIVE:
        return keys.native_key(algorithm, shorter), key
    if shorter[0] < 4:
        shorter = bytes((0x100 - shorter[0],)) + shorter[1:]
    return shorter, key if key[0] == 4 else shorter


def key_identifier(type: int, public_key: bytes) -> bytes:
    """Return a 20-byte key identifier.

    Args:
        type: For `NATIVE` the leftmost 160 bits of SHA-256 over the CBOR encoding of `public_key`, as the
            draft suggests (§3.3); for `REENCODED` the same over the octets of X.509's BIT STRING
            (RFC 7093 §2, method 1).
        public_key: The field of a native certificate; for `REENCODED` the uncompressed point.
    """
    return sha256(byte_string(public_key) if type == NATIVE else public_key).digest()[:20]
