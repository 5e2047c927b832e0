"""Reading a package with a generated key, as the device that asked for it.

What is not vouched for, or answers somebody else's request, is noise. What a provisioning service under the
pinned root signed for this very request is the answer, and if the device cannot use it, it never will.
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from protocol import c509
from protocol.errors import CertificateUnusable, MalformedMessage, ProblemKind, RequestRejected
from protocol.ev import Agreement, CpsPackage, Edition, Installation, check, request_digest
from protocol.exchange.device_trust import Trust
from protocol.path import is_as_issued, is_issued_by, verify_leaf
from protocol.problem import TEMPORARY
from protocol.profiles import Profile, profile_of
from protocol.validator import PathRejected, policy_of, validate
from protocol.validity import Clock


@dataclass(frozen=True, slots=True)
class Expected:
    """What the device asked for, and what it opens the answer with."""

    profile: Profile
    root: c509.Certificate
    """The pinned root above the services that may sign packages."""
    agreement: Agreement
    """The private key of the certificate that signed the request."""
    granted: str | None
    """Name of the contract that is renewed; None for a first one, whose name only the operator knows."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A package that was opened."""

    certificate: bytes
    """C509, type 3."""
    key: ec.EllipticCurvePrivateKey
    """Belongs to the certificate."""
    unusable: CertificateUnusable | None
    """What is wrong with the certificate, if anything is."""


def open_package(data: bytes, request: bytes, expected: Expected, trust: Trust, clock: Clock) -> Delivered:
    """Return what is in a package.

    Args:
        data: Any bytes.
        request: The whole request as it was sent last.
        expected: What was asked for.
        trust: The authority is known.
        clock: What is known of the time.

    Raises:
        MalformedMessage: Not a package.
        RequestRejected: Nobody who may has signed it, or for another request, or it is not by this
            device's authority, or not yet valid.
        CertificateUnusable: It is the answer, and the key in it does not open or is another certificate's.
    """
    package = CpsPackage.decode(data)
    label, device = expected.profile.label, trust.anchor.device
    name = expected.granted if package.installation.edition is Edition.PART_2 else device
    service = _service_key(package, expected, clock)
    installation = check(package, service, label=label, request=request_digest(request), name=name)
    certificate = _from_der(installation.contract_chain[0])
    authority = trust.authority
    if authority is None or not is_issued_by(certificate, authority.certificate):
        raise RequestRejected(ProblemKind.BAD_SIGNATURE, "the contract is not by this device's authority")
    unusable: CertificateUnusable | None = None
    try:
        _check_certificate(certificate, installation, expected, trust, clock)
    except RequestRejected as error:
        if error.reason in TEMPORARY:
            raise  # what is not yet valid will be: the same answer comes again
        unusable = CertificateUnusable(error.reason, str(error))
    try:
        key = installation.unwrap(expected.agreement, pcid=device)
    except (MalformedMessage, RequestRejected) as error:
        raise CertificateUnusable(ProblemKind.BAD_KEY, str(error)) from None
    return Delivered(certificate.encoded, key, unusable)


def _service_key(
    package: CpsPackage, expected: Expected, clock: Clock
) -> ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey:
    """Return the key of who signed, if it is a provisioning service under the pinned root."""
    assert expected.profile.vouched_by is not None  # or no key would be generated
    policy = policy_of(profile_of(expected.profile.vouched_by))
    leaf, *above = map(_from_der, package.cps_chain)
    try:
        path = validate(leaf, above, (expected.root,), policy=policy, clock=clock)
    except PathRejected as error:
        raise RequestRejected(ProblemKind.WRONG_SIGNER, str(error)) from None
    key = path.public_key
    if not isinstance(key, (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)):
        raise RequestRejected(ProblemKind.BAD_KEY, "a key that no service has")
    return key


def _check_certificate(
    certificate: c509.Certificate, installation: Installation, expected: Expected, trust: Trust, clock: Clock
) -> None:
    """Check the contract certificate, and the chain that comes with it: stations will be shown both."""
    authority = trust.authority
    assert authority is not None
    name = verify_leaf(certificate, authority, expected.profile, clock)
    if expected.granted not in (None, name):
        raise RequestRejected(ProblemKind.WRONG_SUBJECT, "another contract than the one that is renewed")
    try:
        above = [_from_der(der) for der in installation.contract_chain[1:]]
        validate(certificate, above, (trust.anchor.root,), policy=policy_of(expected.profile), clock=clock)
    except PathRejected as error:
        raise RequestRejected(ProblemKind.WRONG_SIGNER, str(error)) from None
    if not is_as_issued(certificate):
        raise RequestRejected(ProblemKind.MALFORMED, "another form of the certificate than its issuer makes")


def _from_der(der: bytes) -> c509.Certificate:
    try:
        return c509.from_der(der)
    except c509.NotConvertible as error:
        raise MalformedMessage(f"a certificate that has no C509 form: {error}") from None
