"""Judging: a certificate against a shape, DER that nobody could read, and which shape is nearest."""

from protocol import c509
from protocol.c509 import der as x690
from protocol.cose import Algorithm
from protocol.exchange.request import SIGNATURE_ALGORITHMS
from protocol.lint.authorities import authority_names, shape_of
from protocol.lint.body import body_deviations
from protocol.lint.deviation import Deviation, Rule
from protocol.lint.extensions import extension_deviations
from protocol.lint.names import name_deviations
from protocol.lint.pointers import identifier_deviations, pointer_deviations
from protocol.lint.shape import Shape
from protocol.lint.view import View
from protocol.low_s import with_low_s
from protocol.profiles import PROFILES, Profile


def lint(
    certificate: c509.Certificate,
    der: bytes | None,
    profile: Profile | Shape,
    *,
    issuer: c509.Certificate | None = None,
) -> tuple[Deviation, ...]:
    """Return every way in which a certificate is not as a profile says.

    No clock is asked, and no path: `protocol.validator` does that.

    Args:
        certificate: Any certificate that decodes, whoever made it.
        der: Its DER as it was found; None where there was C509 alone.
        profile: Of a label, or `shape_of` a CA.
        issuer: The issuing CA's certificate; where it is known, signature and key identifier are
            compared with it. One of another name is ignored.

    Returns:
        In the order of the rules; empty if the certificate is as its profile says. Nothing is raised.
    """
    shape = shape_of(profile.label) if isinstance(profile, Profile) else profile
    return _judge(View.of(certificate, der, issuer), shape)


def _judge(view: View, shape: Shape) -> tuple[Deviation, ...]:
    return (
        *body_deviations(view, shape),
        *name_deviations(view, shape),
        *extension_deviations(view, shape),
        *identifier_deviations(view, shape),
        *pointer_deviations(view, shape),
    )


def lint_der(data: bytes, label: str, *, issuer: c509.Certificate | None = None) -> tuple[Deviation, ...]:
    """Return every way in which DER, that may be broken, is not as a label's profile says.

    Where C509 cannot hold a certificate (it is not DER, not of version 3, …), that is the first deviation
    and, unless bytes after it were all that was wrong, the only one: nothing else of it is known for sure.

    Args:
        data: A certificate, or what somebody takes for one; any bytes.
        label: Of a profile, or a CA's name.
        issuer: As in `lint`.

    Raises:
        RequestRejected: No such label; NOT_FOUND.
    """
    try:
        certificate = c509.from_der(data)
    except c509.NotConvertible as error:
        return _unreadable(data, str(error), label, issuer)
    return lint(certificate, data, shape_of(label, is_root=certificate.issuer is None), issuer=issuer)


def _unreadable(
    data: bytes, reason: str, label: str, issuer: c509.Certificate | None
) -> tuple[Deviation, ...]:
    shape = shape_of(label)
    expected = "a certificate in DER that C509 gives back byte for byte"
    whole = _first_element(data)
    if whole is not None and whole != data:
        found = f"cannot be re-encoded: {len(data) - len(whole)} more bytes follow the certificate"
        return (shape.deviation(Rule.ENCODING, found, expected), *lint_der(whole, label, issuer=issuer))
    version = None if whole is None else _version(whole)
    if version is not None and version != 3:
        extent = ", which has no extensions" if version < 3 else ""
        return (
            shape.deviation(Rule.VERSION, f"cannot be re-encoded: version {version}{extent}", "version 3"),
        )
    serial = None if whole is None else _serial(whole)
    if serial is not None and (serial[:1] >= b"\x80" or not any(serial)):
        found = f"cannot be re-encoded: {'zero' if not any(serial) else 'negative'}"
        return (shape.deviation(Rule.SERIAL, found, "a positive number of at most 20 octets"),)
    reason = reason.removeprefix("no C509 form: ")
    return (shape.deviation(Rule.ENCODING, f"cannot be re-encoded: {reason}", expected),)


def _first_element(data: bytes) -> bytes | None:
    try:
        return x690.Reader(data).raw()
    except x690.DerError:
        return None


def _tbs(data: bytes) -> x690.Reader:
    return x690.Reader(x690.whole(data, x690.SEQUENCE)).inner(x690.SEQUENCE)


def _version(data: bytes) -> int | None:
    """Return the version that a certificate says; None where it cannot be read."""
    try:
        tbs = _tbs(data)
        if tbs.peek() != 0xA0:
            return 1 if tbs.peek() == x690.INTEGER else None
        octets = x690.whole(tbs.take(0xA0), x690.INTEGER)
    except x690.DerError:
        return None
    return int.from_bytes(octets, "big") + 1 if len(octets) == 1 else None


def _serial(data: bytes) -> bytes | None:
    """Return the octets of a certificate's serial number; None where they cannot be read."""
    try:
        tbs = _tbs(data)
        if tbs.peek() == 0xA0:
            tbs.raw()
        return tbs.take(x690.INTEGER)
    except x690.DerError:
        return None


def notes(certificate: c509.Certificate) -> tuple[str, ...]:
    """Return what only we care for: nobody else refuses a certificate for it."""
    algorithm = next(
        (
            known
            for known, number in SIGNATURE_ALGORITHMS.items()
            if number == certificate.signature_algorithm
        ),
        None,
    )
    if certificate.is_ca or algorithm is None or algorithm is Algorithm.EDDSA:
        return ()  # CA certificates are known by their keys, so either form of their signature will do
    if with_low_s(algorithm, certificate.signature) == certificate.signature:
        return ()
    return ("the larger of two possible s in its signature: issuers here write the smaller",)


def recognise(certificate: c509.Certificate, der: bytes | None = None) -> list[tuple[str, int]]:
    """Return how far a certificate is from each label of its form, or from each CA if it is a CA's.

    Returns:
        (label, number of deviations), the nearest first; those that are as near in their declared order.
    """
    view = View.of(certificate, der, None)
    if certificate.is_ca:
        candidates = [shape_of(name, is_root=view.is_self_issued) for name in authority_names()]
    else:
        shapes = map(shape_of, PROFILES)
        candidates = [shape for shape in shapes if int(shape.form) == certificate.type]
    judged = [(shape.label, _judge(view, shape)) for shape in candidates]
    judged.sort(key=lambda found: (len(found[1]), sum(one.is_error for one in found[1])))
    return [(label, len(deviations)) for label, deviations in judged]
