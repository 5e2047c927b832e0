"""Certification paths, as devices and authorities check them.

A path is trusted for one label: the issuer is the authority that was asked for (being under the root is
not enough), every CA above it is a CA, and each lists the label's policy OID, so subordinates only
narrow. Makers' CAs list the prefixes of the names that they give, too (`protocol.profiles.prefixes`): under
one root there are several makers, and none names devices of another. Signatures are verified here, because
paths are few and cached; the signed messages' own verification is batched elsewhere.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from protocol import c509
from protocol.cose import Algorithm, PublicKey, algorithm_of
from protocol.end_entity import holder_of
from protocol.errors import ProblemKind, RequestRejected
from protocol.exchange.request import KEY_ALGORITHMS, SIGNATURE_ALGORITHMS
from protocol.labels import Tier
from protocol.low_s import with_low_s
from protocol.profiles import (
    KeyUsage,
    Listed,
    NameSpace,
    Prefix,
    Profile,
    labels_of_policies,
    narrowed,
    prefix_of_name,
    prefixes_of_policies,
)
from protocol.validator.listed import policies_of
from protocol.validator.signatures import is_signed_with
from protocol.validity import Clock, Verdict
from protocol.voucher import key_identifier

MAX_PATH: Final = 4
"""Most CA certificates below the root."""
SUBJECT_KEY_IDENTIFIER: Final = 1
BASIC_CONSTRAINTS: Final = 4
CRL_DISTRIBUTION_POINTS: Final = 5
CERTIFICATE_POLICIES: Final = 6
AUTHORITY_KEY_IDENTIFIER: Final = 7
EXTENDED_KEY_USAGE: Final = 8
AUTHORITY_INFORMATION: Final = 9
CMC_RA: Final = 16
"""Registered number of id-kp-cmcRA (RFC 6402): a registration authority's key."""
KEY_USAGE: Final = 2
_UNDERSTOOD: Final = frozenset({KEY_USAGE, BASIC_CONSTRAINTS, CERTIFICATE_POLICIES, EXTENDED_KEY_USAGE})
"""Extensions that are acted on here; another one that is critical forbids to go on (RFC 5280 §4.2)."""


_INFORMATION: Final = frozenset(
    {SUBJECT_KEY_IDENTIFIER, AUTHORITY_KEY_IDENTIFIER, CRL_DISTRIBUTION_POINTS, AUTHORITY_INFORMATION}
)
"""Critical in every CA certificate of ISO 15118-20. They say where something is; the way up the path is found
without, and whether a CA is revoked is known to whoever holds its root."""


@dataclass(frozen=True, slots=True)
class Authority:
    """An issuing CA whose path was verified up to a pinned root."""

    key_id: bytes
    """SHA-256 of its SubjectPublicKeyInfo, 32 bytes."""
    certificate: c509.Certificate
    labels: frozenset[str]
    """What it may issue: the intersection along the path."""
    prefixes: Listed
    """What the names may begin with: the intersection along the path, of those CAs that list some."""
    gives: frozenset[NameSpace]
    """Name spaces in which the CA itself lists prefixes; only there does it name new devices (tier 1)."""
    registration: c509.Certificate | None
    """Certificate of its registration key, which signs receipts and refusals."""
    latest_not_before: int
    """Latest notBefore on the path: a lower bound for now, and for the age of the next path."""

    @property
    def public_key(self) -> PublicKey:
        """The key that certificates of this authority verify with."""
        return verification_key(self.certificate)


def verification_key(certificate: c509.Certificate) -> PublicKey:
    """Return the key in `certificate`, if signatures of it are taken here.

    Raises:
        MalformedMessage: Not on its curve.
        RequestRejected: A key that no profile uses (RSA, another curve); BAD_KEY.
    """
    key = certificate.load_public_key()
    if not isinstance(key, (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)):
        raise RequestRejected(ProblemKind.BAD_KEY, "a key that no profile uses")
    return key


def is_issued_by(certificate: c509.Certificate, issuer: c509.Certificate) -> bool:
    """Return whether `issuer`'s key signed `certificate`, and it names that issuer."""
    if certificate.issuer_name != issuer.subject:
        return False
    algorithm = cose_algorithm(certificate.signature_algorithm)
    key = verification_key(issuer)
    # The hash that belongs to the curve, and no other; X.509's r and s may be short.
    return algorithm is algorithm_of(key) and is_signed_with(certificate, key)


def is_as_issued(certificate: c509.Certificate) -> bool:
    """Return whether a certificate has the one form that issuers here give it.

    It has several encodings, its signature has a twin (`protocol.low_s`), and all of them verify; but a
    thumbprint names one only.

    Raises:
        MalformedMessage: Its key is not on its curve.
    """
    algorithm = cose_algorithm(certificate.signature_algorithm)
    if algorithm is None or with_low_s(algorithm, certificate.signature) != certificate.signature:
        return False
    return c509.is_canonical(certificate)


def cose_algorithm(number: object) -> Algorithm | None:
    """Return the COSE algorithm of a registered C509 signature algorithm; None for one not used here."""
    for algorithm, registered in SIGNATURE_ALGORITHMS.items():
        if registered == number:
            return algorithm
    return None


def verify_authority(
    chain: Sequence[c509.Certificate], *, root: c509.Certificate, authority: bytes | None, clock: Clock
) -> Authority:
    """Return the authority at the bottom of `chain`, if the pinned root vouches for it.

    Args:
        chain: As `crts` sends it: issuer first, root not included, the registration certificate (no CA,
            issued by the first) last.
        root: The pinned scheme root.
        authority: Key identifier that the voucher names; None where any CA under the root will do
            (a verifier, an operator that reads makers' certificates).
        clock: What is known of the time.

    Raises:
        RequestRejected: With the reason; nothing else leaves but MalformedMessage from a bad key.
    """
    registration: c509.Certificate | None = None
    path = list(chain)
    if len(path) > 1 and path[-1].extension(BASIC_CONSTRAINTS) is None:
        registration = path.pop()
    if not 1 <= len(path) <= MAX_PATH:
        raise RequestRejected(ProblemKind.WRONG_SIGNER, f"a path of {len(path)} CA certificates")
    labels: frozenset[str] | None = None
    prefixes: Listed = {}
    for depth, certificate in enumerate(path):
        issuer = path[depth + 1] if depth + 1 < len(path) else root
        if not is_issued_by(certificate, issuer):
            raise RequestRejected(ProblemKind.BAD_SIGNATURE, "a CA certificate is not signed by the next")
        _check_ca(certificate, cas_below=depth)
        _check_time(certificate, clock)
        policies = policies_of(certificate)
        permitted = labels_of_policies(policies)
        labels = permitted if labels is None else labels & permitted
        prefixes = narrowed(prefixes, prefixes_of_policies(policies))
    _check_ca(root, cas_below=len(path))
    key_id = key_identifier(verification_key(path[0]))
    if authority is not None and key_id != authority:
        raise RequestRejected(ProblemKind.WRONG_SIGNER, "another authority than the voucher names")
    if registration is not None:
        check_registration(registration, path[0], clock)
    latest = max(certificate.not_before for certificate in path)
    gives = frozenset(space for space, own in prefixes_of_policies(policies_of(path[0])).items() if own)
    return Authority(key_id, path[0], labels or frozenset(), prefixes, gives, registration, latest)


def check_registration(registration: c509.Certificate, issuer: c509.Certificate, clock: Clock) -> None:
    """Check that `registration` is a registration key's certificate of `issuer`; RequestRejected if not."""
    if not is_issued_by(registration, issuer):
        raise RequestRejected(
            ProblemKind.BAD_SIGNATURE, "the registration certificate is another authority's"
        )
    usages = registration.extension(EXTENDED_KEY_USAGE)
    if not isinstance(usages, (tuple, list)) or CMC_RA not in usages:
        raise RequestRejected(
            ProblemKind.WRONG_SIGNER, "no registration key: extended key usage cmcRA is missing"
        )
    if registration.key_usage != KeyUsage.DIGITAL_SIGNATURE or registration.is_ca:
        raise RequestRejected(ProblemKind.WRONG_SIGNER, "a registration key signs, and no certificates")
    _check_critical(registration)
    _check_time(registration, clock)


def verify_leaf(certificate: c509.Certificate, authority: Authority, profile: Profile, clock: Clock) -> str:
    """Return the device name that `certificate` proves, if `authority` issued it under `profile`.

    Raises:
        RequestRejected: Wrong issuer, signature, form, usage, subject, algorithm or time; or a name that is
            not the issuer's to give.
    """
    if profile.label not in authority.labels:
        raise RequestRejected(ProblemKind.WRONG_SIGNER, f"the authority may not issue {profile.label}")
    if not is_issued_by(certificate, authority.certificate):
        raise RequestRejected(ProblemKind.BAD_SIGNATURE, "the certificate is not signed by its authority")
    name = check_leaf(certificate, authority, profile)
    _check_time(certificate, clock)
    return name


def check_leaf(certificate: c509.Certificate, authority: Authority, profile: Profile) -> str:
    """Return the device name in `certificate`, if `authority` may issue such a one; its signature aside.

    Raises:
        RequestRejected: It may not, or the certificate has not the shape that `profile` declares.
    """
    name = check_profile(certificate, profile)
    check_name(name, authority, profile)
    return name


def check_name(name: str, authority: Authority, profile: Profile) -> None:
    """Check that `authority` may issue a certificate of this profile to `name`.

    Args:
        name: Of the profile's grammar.
        authority: Verified.
        profile: Of tier 1, where the issuer gives the name; of the others, where a maker has given it, and
            the issuer is restricted only if its path is.

    Raises:
        RequestRejected: As `check_prefix` says.
    """
    prefix = prefix_of_name(profile.naming, name)
    if prefix is not None:
        check_prefix(prefix, authority, profile)


def check_prefix(prefix: Prefix, authority: Authority, profile: Profile) -> None:
    """Check that `authority` may issue certificates of this profile to names that begin with `prefix`.

    Raises:
        RequestRejected: The name is another maker's to give: WRONG_SUBJECT, as the same issuer's certificate
            for another name would be good. Or the issuer gives no names at all: WRONG_SIGNER, as none of
            its certificates would.
    """
    space = prefix.space
    if profile.tier is Tier.BOOTSTRAPPING and space not in authority.gives:
        raise RequestRejected(
            ProblemKind.WRONG_SIGNER, f"the CA of {profile.label} certificates lists no {space.title}"
        )
    permitted = authority.prefixes.get(space)
    if permitted is not None and prefix not in permitted:
        raise RequestRejected(
            ProblemKind.WRONG_SUBJECT,
            f"{space.title} {prefix} is not the CA's, whose are: {', '.join(map(str, sorted(permitted)))}",
        )


def check_profile(certificate: c509.Certificate, profile: Profile) -> str:
    """Return the device name in `certificate`, if it has the shape that `profile` declares.

    Raises:
        RequestRejected: It has not; WRONG_SIGNER, WRONG_SUBJECT or BAD_KEY.
    """
    if certificate.type != int(profile.form):
        raise RequestRejected(
            ProblemKind.WRONG_SIGNER, f"{profile.label} certificates are of type {int(profile.form)}"
        )
    if certificate.public_key_algorithm not in {
        KEY_ALGORITHMS[algorithm] for algorithm in profile.algorithms
    }:
        raise RequestRejected(ProblemKind.BAD_KEY, f"no key for {profile.label}")
    if certificate.key_usage != profile.key_usage:
        raise RequestRejected(ProblemKind.WRONG_SIGNER, f"other key usages than {profile.label} has")
    usages: tuple[int | bytes, ...] = certificate.extension(EXTENDED_KEY_USAGE) or ()
    if usages != profile.extended_key_usage:
        raise RequestRejected(ProblemKind.WRONG_SIGNER, f"other extended key usages than {profile.label} has")
    constraint = -2 if profile.has_basic_constraints else None
    if certificate.extension(BASIC_CONSTRAINTS) != constraint:
        raise RequestRejected(
            ProblemKind.WRONG_SIGNER,
            "an end entity's certificate has no basic constraints"
            if constraint is None
            else f"{profile.label} certificates say that they are no CA's",
        )
    _check_critical(certificate, profile.critical)
    return holder_of(certificate, profile)


def _check_ca(certificate: c509.Certificate, *, cas_below: int) -> None:
    constraint = certificate.extension(BASIC_CONSTRAINTS)
    if type(constraint) is not int or constraint < -1:
        raise RequestRejected(ProblemKind.WRONG_SIGNER, "a certificate on the path is no CA's")
    if constraint != -1 and cas_below > constraint:
        raise RequestRejected(ProblemKind.WRONG_SIGNER, "the path is longer than a CA on it permits")
    usage = certificate.key_usage
    if usage is None or not usage & KeyUsage.KEY_CERT_SIGN:
        raise RequestRejected(ProblemKind.WRONG_SIGNER, "a CA on the path may not sign certificates")
    _check_critical(certificate, _INFORMATION)


def _check_critical(certificate: c509.Certificate, declared: Collection[int] = ()) -> None:
    for extension in certificate.extensions:
        if extension.critical and extension.id not in _UNDERSTOOD and extension.id not in declared:
            raise RequestRejected(ProblemKind.WRONG_SIGNER, "a critical extension that is not understood")


def _check_time(certificate: c509.Certificate, clock: Clock) -> None:
    match clock.judge(certificate.not_before, certificate.not_after):
        case Verdict.EXPIRED:
            raise RequestRejected(ProblemKind.SIGNER_EXPIRED, "a certificate has expired")
        case Verdict.NOT_YET:
            raise RequestRejected(ProblemKind.SIGNER_NOT_YET_VALID, "a certificate is not yet valid")
        case Verdict.VALID | Verdict.TIME_UNKNOWN:
            pass
