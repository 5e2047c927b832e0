"""What a device takes for its authority's revocation list: DER or C509 form, whole or what is new.

Verified up to the authority that the device's voucher names, never of a lower number than one seen before,
never out of its time. A delta is joined to the list at hand: what comes out is a whole list.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from protocol.cose import is_signature_valid
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.path import SUBJECT_KEY_IDENTIFIER, Authority, cose_algorithm
from protocol.ports import Media
from protocol.revocation_list import MAX_LIST_BYTES, MAX_NUMBER, Head, decode_list
from protocol.validity import Clock, Verdict

_UNREADABLE: Final = (
    ValueError, TypeError, OverflowError, UnsupportedAlgorithm, InvalidSignature,
    x509.InvalidVersion, x509.DuplicateExtension, x509.ExtensionNotFound,
)  # fmt: skip
"""All that `cryptography` raises over a list that is none, some of it only when a field is read."""


@dataclass(frozen=True, slots=True)
class RevocationList:
    """An authority's verified revocation list."""

    number: int
    """crlNumber."""
    this_update: int
    """POSIX seconds."""
    next_update: int | None
    """POSIX seconds."""
    serials: frozenset[bytes]
    """Serial numbers without leading zero."""


class _Read(NamedTuple):
    """What is in one list, its signature verified."""

    head: Head
    revoked: frozenset[bytes]
    removed: frozenset[bytes]


def read_revocation_list(
    data: bytes,
    authority: Authority,
    *,
    lowest_number: int,
    clock: Clock,
    media: Media = Media.PKIX_CRL,
    known: RevocationList | None = None,
) -> RevocationList:
    """Return the revocation list of `authority` as it is now.

    Args:
        data: CertificateList (RFC 5280 §5), or a list in C509 form.
        authority: Who has to have signed it.
        lowest_number: The highest crlNumber seen so far.
        clock: What is known of the time.
        media: PKIX_CRL or C509_CRL.
        known: A list of the same authority that was read before, for `data` that says what is new.

    Raises:
        MalformedMessage: Not a revocation list. No other exception but the next leaves this function.
        RequestRejected: Of another issuer, without number, a delta to what is not known, older than one seen,
            or out of its time.
    """
    if len(data) > MAX_LIST_BYTES:
        raise MalformedMessage(f"a revocation list of more than {MAX_LIST_BYTES} bytes")
    read = (_read_c509 if media is Media.C509_CRL else _read_der)(data, authority)
    head, revoked = read.head, read.revoked
    if head.number > MAX_NUMBER:
        raise RequestRejected(ProblemKind.UNSUPPORTED_FORMAT, "a revocation list with too large a number")
    if head.number < lowest_number or (known is not None and head.number < known.number):
        raise RequestRejected(ProblemKind.SIGNER_SUPERSEDED, "an older revocation list than was seen before")
    if clock.judge(head.this_update, head.next_update) in (Verdict.EXPIRED, Verdict.NOT_YET):
        raise RequestRejected(ProblemKind.SIGNER_EXPIRED, "a revocation list out of its time")
    if head.base is not None:
        # RFC 5280 §5.2.4: the list at hand may be newer than the base, and must not be older.
        if known is None or known.number < head.base:
            raise RequestRejected(ProblemKind.UNSUPPORTED_FORMAT, "not the issuer's whole revocation list")
        revoked |= known.serials - read.removed
    return RevocationList(head.number, head.this_update, head.next_update, revoked)


def _read_c509(data: bytes, authority: Authority) -> _Read:
    found = decode_list(data)
    algorithm = cose_algorithm(found.algorithm)
    if algorithm is None or not is_signature_valid(
        authority.public_key, algorithm, found.signature, found.signed_bytes
    ):
        raise RequestRejected(ProblemKind.BAD_SIGNATURE, "a revocation list of another issuer")
    certificate = authority.certificate
    if found.issuer != certificate.subject or found.key_identifier not in (
        None,
        certificate.extension(SUBJECT_KEY_IDENTIFIER),
    ):
        raise RequestRejected(ProblemKind.BAD_SIGNATURE, "a revocation list under another name")
    return _Read(found.head, frozenset(found.revoked), found.removed)


def _read_der(data: bytes, authority: Authority) -> _Read:
    try:
        crl = x509.load_der_x509_crl(data)
        is_signed = crl.is_signature_valid(authority.public_key)
        # Bits of the signature that are said to be unused, and are zero by chance, would go unnoticed.
        is_signed = is_signed and data.endswith(b"\0" + crl.signature)
    except _UNREADABLE as error:
        raise MalformedMessage(f"not a revocation list: {error}") from None
    if not is_signed:
        # Nothing more of it is read: what is in a stranger's list is nobody's business.
        raise RequestRejected(ProblemKind.BAD_SIGNATURE, "a revocation list of another issuer")
    try:
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        critical = [extension.value for extension in crl.extensions if extension.critical]
        bases = [value.crl_number for value in critical if isinstance(value, x509.DeltaCRLIndicator)]
        is_partial = len(critical) > len(bases)
        removed = _removed(crl) if bases else frozenset[bytes]()
        serials = frozenset(_octets(entry.serial_number) for entry in crl) - removed
        this_update = int(crl.last_update_utc.timestamp())
        next_update = None if crl.next_update_utc is None else int(crl.next_update_utc.timestamp())
        is_ours = crl.issuer.public_bytes() == authority.certificate.subject.to_der()
    except _UNREADABLE as error:
        raise MalformedMessage(f"not a revocation list: {error}") from None
    if not is_ours:
        raise RequestRejected(ProblemKind.BAD_SIGNATURE, "a revocation list under another name")
    if is_partial:
        raise RequestRejected(ProblemKind.UNSUPPORTED_FORMAT, "not the issuer's whole revocation list")
    return _Read(Head(number, this_update, next_update, bases[0] if bases else None), serials, removed)


def _removed(entries: Iterable[x509.RevokedCertificate]) -> frozenset[bytes]:
    """Return what a delta takes off the list (reason removeFromCRL)."""
    return frozenset(
        _octets(entry.serial_number)
        for entry in entries
        for extension in entry.extensions
        if isinstance(extension.value, x509.CRLReason)
        and extension.value.reason is x509.ReasonFlags.remove_from_crl
    )


def _octets(serial: int) -> bytes:
    return serial.to_bytes((serial.bit_length() + 7) // 8, "big")
