"""Rules about everything of a certificate but its names and extensions."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from protocol import c509
from protocol.c509 import PublicKeyAlgorithm, SignatureAlgorithm
from protocol.c509.der import oid_to_text
from protocol.cose import Algorithm, is_signature_valid
from protocol.errors import EnrollmentError
from protocol.exchange.request import SIGNATURE_ALGORITHMS
from protocol.lint.deviation import Deviation, Rule, Severity
from protocol.lint.shape import CURVES, HALF_SIGNATURE, SIGNATURE_OF_KEY, Shape
from protocol.lint.view import View
from protocol.path import verification_key

MAX_SERIAL_BITS: Final = 159
"""Twenty octets of a positive INTEGER (RFC 5280 §4.1.2.2)."""
_FORMS: Final = {c509.NATIVE: "native C509 (type 2)", c509.REENCODED: "X.509 (type 3)"}
_DAY: Final = 24 * 3600


def body_deviations(view: View, shape: Shape) -> Iterator[Deviation]:
    """Yield what is wrong with form, serial number, key, signature, validity and size."""
    certificate = view.certificate
    if certificate.type != int(shape.form):
        yield shape.deviation(Rule.FORM, _FORMS[certificate.type], _FORMS[int(shape.form)])
    bits = certificate.serial_number.bit_length()
    if bits > MAX_SERIAL_BITS:
        yield shape.deviation(
            Rule.SERIAL, f"{bits // 8 + 1} octets", "a positive number of at most 20 octets"
        )
    yield from _encoding(view, shape)
    yield from _key(view, shape)
    yield from _signature(view, shape)
    yield from _validity(certificate, shape)
    if shape.max_der is not None and view.der is not None and len(view.der) > shape.max_der:
        yield shape.deviation(Rule.SIZE, f"{len(view.der)} bytes of DER", f"at most {shape.max_der}")


def _encoding(view: View, shape: Shape) -> Iterator[Deviation]:
    certificate = view.certificate
    if view.der is None or view.point is None:
        return
    if certificate.to_der() != view.der:
        yield shape.deviation(
            Rule.ENCODING,
            "cannot be re-encoded: C509 does not give every byte back",
            "DER, each value in its one form",
        )


def _key(view: View, shape: Shape) -> Iterator[Deviation]:
    certificate = view.certificate
    algorithm = certificate.public_key_algorithm
    wanted = " or ".join(key_name(number) for number in sorted(shape.key_algorithms))
    if algorithm not in shape.key_algorithms:
        yield shape.deviation(Rule.ALGORITHM, f"a key of {key_name(algorithm)}", wanted)
        return
    if not view.is_key_good:
        yield shape.deviation(Rule.PUBLIC_KEY, "a point that is not on the curve", f"a key of {wanted}")
        return
    if view.point is not None and view.point[:1] in (b"\2", b"\3"):
        yield shape.deviation(
            Rule.PUBLIC_KEY,
            "a compressed point, which relying parties need not read",
            "an uncompressed point",
            Severity.WARNING,
        )


def key_name(algorithm: object) -> str:
    """Return what people call a public-key algorithm."""
    if isinstance(algorithm, c509.Algorithm):
        return f"object identifier {oid_to_text(algorithm.oid)}"
    assert isinstance(algorithm, int)
    return CURVES.get(algorithm) or PublicKeyAlgorithm(algorithm).name


def _signature_name(algorithm: object) -> str:
    if isinstance(algorithm, c509.Algorithm):
        return f"object identifier {oid_to_text(algorithm.oid)}"
    assert isinstance(algorithm, int)
    name = SignatureAlgorithm(algorithm).name
    return name.replace("RSA_PKCS1_", "RSA with ").replace("ECDSA_", "ECDSA with ").replace("SHA", "SHA-")


def _signature(view: View, shape: Shape) -> Iterator[Deviation]:
    certificate, issuer = view.certificate, view.issuer
    if view.is_self_issued != shape.is_root:
        found, wanted = (
            ("itself", "a CA above it") if view.is_self_issued else ("a CA above it", "itself: a root")
        )
        yield shape.deviation(Rule.ISSUER, found, wanted)
        issuer = None
    yield from _signature_algorithm(certificate, issuer, shape)
    cose = _COSE.get(certificate.signature_algorithm)
    if issuer is None or cose is None or not _goes_with(issuer, certificate):
        return
    if not _verifies(certificate, issuer, cose):
        found = "does not verify with the issuer's key"
        yield shape.deviation(Rule.SIGNATURE, found, "the issuer's signature")


_COSE: Final[Mapping[object, Algorithm]] = {number: known for known, number in SIGNATURE_ALGORITHMS.items()}


def _signature_algorithm(
    certificate: c509.Certificate, issuer: c509.Certificate | None, shape: Shape
) -> Iterator[Deviation]:
    algorithm = certificate.signature_algorithm
    name = _signature_name(algorithm)
    wanted = " or ".join(_signature_name(number) for number in sorted(shape.signature_algorithms))
    if algorithm not in shape.signature_algorithms:
        is_tolerated = algorithm in shape.tolerated_signatures
        if is_tolerated:
            wanted += ": a CA on another curve may sign, and not every device verifies it"
        severity = Severity.WARNING if is_tolerated else Severity.ERROR
        yield shape.deviation(Rule.SIGNATURE_ALGORITHM, name, wanted, severity)
    elif issuer is not None:
        if not _goes_with(issuer, certificate):
            found = f"{name} by a key of {key_name(issuer.public_key_algorithm)}"
            yield shape.deviation(Rule.SIGNATURE_ALGORITHM, found, f"{wanted} by a key that goes with it")
    else:
        # The issuer's curve shows in the length of r and s, unless both happen to be small.
        octets, usual = len(certificate.signature) // 2, _half(algorithm)
        if usual is not None and octets > usual:
            found = f"{name} by a key on a larger curve: r and s have {octets} octets"
            yield shape.deviation(Rule.SIGNATURE_ALGORITHM, found, f"{wanted} and r and s of {usual} octets")


def _half(algorithm: int | c509.Algorithm) -> int | None:
    return HALF_SIGNATURE.get(algorithm) if isinstance(algorithm, int) else None


def _goes_with(issuer: c509.Certificate, certificate: c509.Certificate) -> bool:
    curve = issuer.public_key_algorithm
    return isinstance(curve, int) and SIGNATURE_OF_KEY.get(curve) == certificate.signature_algorithm


def _verifies(certificate: c509.Certificate, issuer: c509.Certificate, algorithm: Algorithm) -> bool:
    try:
        key = verification_key(issuer)
        return is_signature_valid(key, algorithm, certificate.signature, certificate.signed_bytes)
    except EnrollmentError:
        return False


def _validity(certificate: c509.Certificate, shape: Shape) -> Iterator[Deviation]:
    begin, end = certificate.not_before, certificate.not_after
    if end is not None and end <= begin:
        yield shape.deviation(
            Rule.VALIDITY,
            f"from {_moment(begin)} until {_moment(end)}",
            "a beginning before the end",
            requirement="RFC 5280 §4.1.2.5",
        )
        return
    if end is None:
        if shape.validity is not None:
            yield shape.deviation(Rule.VALIDITY, "no expiry", f"an end after {_days(shape.validity)}", None)
    elif shape.validity is None:
        yield shape.deviation(Rule.VALIDITY, f"an end on {_moment(end)}", "no expiry (99991231235959Z)", None)
    elif end - begin > shape.validity:
        yield shape.deviation(Rule.VALIDITY, _days(end - begin), f"at most {_days(shape.validity)}", None)
    elif end - begin < shape.least_validity - _DAY:
        yield shape.deviation(
            Rule.VALIDITY, _days(end - begin), f"at least {_days(shape.least_validity)}", Severity.WARNING
        )


def _moment(seconds: int) -> str:
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%SZ}"


def _days(seconds: int) -> str:
    days = seconds / _DAY
    return f"{days:.0f} days" if days >= 2 else f"{seconds} seconds"
