"""The DER side of re-encoded objects: TBSCertificate, CertificationRequestInfo and their frames."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from protocol.c509 import der
from protocol.c509.algorithms import SIGNATURE_DER, Algorithm, algorithm_to_der, signature_to_der
from protocol.c509.extensions import Extension, extensions_to_der
from protocol.c509.name import Name

NO_EXPIRY: Final = 253402300799
"""99991231235959Z in POSIX seconds: what RFC 5280 §4.1.2.5 writes where nothing ends."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_GENERALIZED_FROM: Final = 2524608000
"""2050-01-01: from here on RFC 5280 wants four digits for the year."""
_VERSION_3: Final = bytes.fromhex("a003020102")


@lru_cache(maxsize=256)
def time_to_der(seconds: int) -> bytes:
    """Return UTCTime or GeneralizedTime as RFC 5280 §4.1.2.5 chooses.

    Certificates issued in the same second share their times, hence the cache.
    """
    moment = _EPOCH + timedelta(seconds=seconds)
    if seconds < _GENERALIZED_FROM:
        return der.tlv(der.UTC_TIME, f"{moment:%y%m%d%H%M%SZ}".encode())
    return der.tlv(der.GENERALIZED_TIME, f"{moment.year:04}{moment:%m%d%H%M%SZ}".encode())


def time_from_der(reader: der.Reader) -> int:
    """Return the POSIX seconds of the next element, a Time.

    Raises:
        ValueError: Not a Time with whole seconds in UTC, or a leap second.
    """
    if reader.peek() == der.UTC_TIME:
        text = reader.take(der.UTC_TIME).decode("ascii")
        text = ("19" if text >= "50" else "20") + text
    else:
        text = reader.take(der.GENERALIZED_TIME).decode("ascii")
    if len(text) != 15 or not text[:14].isdigit() or text[14] != "Z":
        msg = "time is not in whole seconds of UTC"
        raise der.DerError(msg)
    fields = [int(text[:4]), *(int(text[at : at + 2]) for at in range(4, 14, 2))]
    moment = datetime(fields[0], fields[1], fields[2], fields[3], fields[4], fields[5], tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(seconds=1)


def tbs_certificate(
    *,
    serial: bytes,
    signature_algorithm: int | Algorithm,
    issuer: Name,
    not_before: int,
    not_after: int | None,
    subject: Name,
    spki: bytes,
    extensions: Iterable[Extension],
) -> bytes:
    """Return a version 3 TBSCertificate (RFC 5280 §4.1)."""
    listed = tuple(extensions)
    return der.sequence(
        _VERSION_3,
        der.unsigned(serial),
        algorithm_to_der(signature_algorithm, SIGNATURE_DER),
        issuer.to_der(),
        validity(not_before, not_after),
        subject.to_der(),
        spki,
        der.tlv(0xA3, extensions_to_der(listed)) if listed else b"",
    )


def validity(not_before: int, not_after: int | None) -> bytes:
    """Return X.509's Validity."""
    return der.sequence(time_to_der(not_before), time_to_der(NO_EXPIRY if not_after is None else not_after))


def request_info(subject: Name, spki: bytes, attributes: bytes) -> bytes:
    """Return a CertificationRequestInfo (RFC 2986 §4.1); `attributes` is the content of [0]."""
    return der.sequence(der.integer(0), subject.to_der(), spki, der.tlv(0xA0, attributes))


def signed(to_be_signed: bytes, algorithm: int | Algorithm, signature: bytes) -> bytes:
    """Return the frame of a certificate or request: what is signed, algorithm, signature."""
    identifier = algorithm_to_der(algorithm, SIGNATURE_DER)
    return der.sequence(to_be_signed, identifier, der.bit_string(signature_to_der(algorithm, signature)))
