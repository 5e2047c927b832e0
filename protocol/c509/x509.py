"""From X.509 certificates to C509 type 3; `Certificate.to_der` goes the other way."""

from protocol.c509 import der, keys, x509_writer
from protocol.c509.algorithms import (
    PUBLIC_KEY_DER,
    SIGNATURE_DER,
    Algorithm,
    algorithm_from_der,
    signature_from_der,
)
from protocol.c509.certificate import REENCODED, Certificate, TbsCertificate, decode_certificate
from protocol.c509.checks import NotConvertible
from protocol.c509.extensions import Extension, extensions_from_der
from protocol.c509.name import Name
from protocol.errors import MalformedMessage

_VERSION_3 = der.integer(2)


def from_der(data: bytes, *, compress: bool = True) -> Certificate:
    """Return the C509 form (type 3) of an X.509 certificate.

    Args:
        data: One DER certificate.
        compress: Let uncompressed points travel compressed (FE, FD).

    Returns:
        A certificate whose `to_der()` is `data`.

    Raises:
        NotConvertible: It has no C509 form, or none that gives every byte back: another version than 3,
            RDNs with several attributes, unique identifiers, a serial number below 1, times before 1970
            or not in whole seconds of UTC, what is not DER.
    """
    try:
        certificate = decode_certificate(_parse(data, compress=compress).encoded)
        same = certificate.to_der() == data
    except (ValueError, KeyError, OverflowError, MalformedMessage) as error:
        msg = f"no C509 form: {error}"
        raise NotConvertible(msg) from None
    if not same:
        msg = "its C509 form would not give every byte back: not DER, or a choice that C509 does not keep"
        raise NotConvertible(msg)
    return certificate


def is_canonical(certificate: Certificate) -> bool:
    """Return whether the encoding is the one that this library makes, of several that mean the same.

    A re-encoded certificate's points may travel compressed or not, and registered extensions, algorithms
    and names may be spelled out; a native one's point may have the octets of a re-encoded one.

    Raises:
        MalformedMessage: The public key has to be decompressed and is not on the curve.
    """
    if certificate.type != REENCODED:
        return certificate.public_key_bytes == certificate.public_key
    try:
        return from_der(certificate.to_der()).encoded == certificate.encoded
    except NotConvertible:
        return False


def public_key_from_der(data: bytes, *, compress: bool) -> tuple[int | Algorithm, bytes]:
    """Return algorithm and field of a SubjectPublicKeyInfo.

    Raises:
        DerError: Not that.
    """
    reader = der.Reader(der.whole(data, der.SEQUENCE))
    algorithm = algorithm_from_der(reader.raw(), PUBLIC_KEY_DER)
    key = whole_octets(reader.take(der.BIT_STRING))
    reader.finish()
    shorter = keys.compressed(algorithm, key)
    if compress and shorter != key and _is_on_curve(algorithm, shorter, key):
        key = shorter
    return algorithm, key


def _is_on_curve(algorithm: int | Algorithm, shorter: bytes, key: bytes) -> bool:
    try:
        return keys.bit_string_octets(algorithm, shorter) == key
    except MalformedMessage:
        return False


def whole_octets(content: bytes) -> bytes:
    """Return a BIT STRING's octets.

    Raises:
        DerError: Some bits of the last octet are unused.
    """
    if content[:1] != b"\0":
        msg = "BIT STRING with unused bits"
        raise der.DerError(msg)
    return content[1:]


def _parse(data: bytes, *, compress: bool) -> Certificate:
    frame = der.Reader(der.whole(data, der.SEQUENCE))
    tbs = frame.inner(der.SEQUENCE)
    outer = frame.raw()
    signature = whole_octets(frame.take(der.BIT_STRING))
    frame.finish()
    if tbs.peek() != 0xA0 or tbs.take(0xA0) != _VERSION_3:
        msg = "not version 3"
        raise der.DerError(msg)
    serial = der.read_unsigned(tbs.take(der.INTEGER))
    inner = tbs.raw()
    if inner != outer:
        msg = "the two signature algorithms differ"
        raise der.DerError(msg)
    algorithm = algorithm_from_der(inner, SIGNATURE_DER)
    issuer = Name.from_der(tbs.raw())
    times = tbs.inner(der.SEQUENCE)
    not_before, not_after = x509_writer.time_from_der(times), x509_writer.time_from_der(times)
    times.finish()
    subject = Name.from_der(tbs.raw())
    key_algorithm, key = public_key_from_der(tbs.raw(), compress=compress)
    if tbs.peek() in (0x81, 0x82, 0xA1, 0xA2):
        msg = "unique identifiers"
        raise der.DerError(msg)
    extensions: tuple[Extension, ...] = ()
    if tbs.more:
        extensions = extensions_from_der(tbs.take(0xA3))
    tbs.finish()
    # A certificate that its own key signed tells the length of r and s.
    own_size = keys.POINT_SIZES.get(key_algorithm) if isinstance(key_algorithm, int) else None
    size = own_size if issuer == subject else None
    return TbsCertificate(
        REENCODED,
        serial,
        algorithm,
        None if issuer == subject else issuer,
        not_before,
        None if not_after == x509_writer.NO_EXPIRY else not_after,
        subject,
        key_algorithm,
        key,
        extensions,
    ).with_signature(signature_from_der(algorithm, signature, size))
