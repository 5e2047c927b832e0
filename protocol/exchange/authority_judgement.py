"""Judging one request: which order it becomes, or which refusal.

The judgement is made before the signatures are verified (it costs less), and counts only if they are good.
"""

from dataclasses import dataclass

from protocol import c509
from protocol.cose import Algorithm
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.exchange import authority_rules as rules
from protocol.exchange.authority_effects import (
    Ask,
    Confirm,
    Generate,
    Issue,
    NewSigner,
    Order,
    Refuse,
    Revoke,
)
from protocol.exchange.facts import CertificateFacts, CertificateState, Facts
from protocol.exchange.request import (
    INSTALLED,
    KEY_ALGORITHMS,
    Confirmation,
    KeyRequest,
    Payload,
    Revocation,
)
from protocol.labels import Operation, Tier
from protocol.path import (
    AUTHORITY_KEY_IDENTIFIER,
    SUBJECT_KEY_IDENTIFIER,
    Authority,
    check_leaf,
    is_as_issued,
)
from protocol.problem import Problem
from protocol.profiles import PROFILES, Profile


@dataclass(frozen=True, slots=True)
class Place:
    """The authority behind one label."""

    authority: bytes
    """Key identifier of the issuing CA, 32 bytes."""
    profile: Profile
    makers: tuple[Authority, ...] = ()
    """Whose bootstrap certificates are taken by value; verified when they were read."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """A signer that came by value and says it is of this maker."""

    certificate: c509.Certificate
    maker: Authority
    label: str
    name: str


def usable_key(certificate: c509.Certificate) -> tuple[Algorithm, bytes]:
    """Return a certificate's algorithm and compressed key; RequestRejected BAD_KEY if it has none."""
    algorithm = rules.cose_algorithm(certificate.public_key_algorithm)
    return algorithm, rules.compressed(KEY_ALGORITHMS[algorithm], certificate.public_key)


def read_bootstrap(encoded: bytes, place: Place) -> Bootstrap | None:
    """Return the signer that came by value, if it says it is by a maker who may open this door.

    Raises:
        MalformedMessage: No certificate, or not in the form that its maker gave it.
        RequestRejected: It has not the shape of its profile, or its name is not that maker's to give.
    """
    certificate = c509.decode_certificate(encoded)
    for maker in place.makers:
        if not _names(certificate, maker.certificate):
            continue
        for label in place.profile.opened_by:
            profile = PROFILES[label]
            if profile.tier is Tier.BOOTSTRAPPING and label in maker.labels:
                name = check_leaf(certificate, maker, profile)
                if not is_as_issued(certificate):
                    # It would be recorded under a thumbprint that nobody else knows it by.
                    raise MalformedMessage("another form of the certificate than its maker made")
                return Bootstrap(certificate, maker, label, name)
    return None


def _names(certificate: c509.Certificate, issuer: c509.Certificate) -> bool:
    """Return whether `certificate` says that `issuer` made it; makers' names may be equal, their keys not."""
    if certificate.issuer_name != issuer.subject:
        return False
    key, own = certificate.extension(AUTHORITY_KEY_IDENTIFIER), issuer.extension(SUBJECT_KEY_IDENTIFIER)
    return key == own or not isinstance(key, bytes) or not isinstance(own, bytes)


def judge(
    ask: Ask, place: Place, payload: Payload, signer: CertificateFacts, facts: Facts, now: int
) -> Order | Refuse:
    """Return what becomes of a request by a known signer, if its signatures turn out to be good."""
    authority, profile = place.authority, place.profile
    try:
        rules.check_label(signer, profile, ask.op)
        is_own_failure = _is_own_failure(payload, facts.target, signer)
        if not is_own_failure:
            rules.check_time(signer, now)
        match payload:
            case Confirmation() as confirmation:
                if not is_own_failure:
                    rules.check_signer_state(signer)
                target = rules.check_confirmation(confirmation, facts.target, signer, authority, profile)
                return Confirm(ask, signer, target, confirmation.status)
            case Revocation() as revocation:
                target = rules.check_revocation(revocation, facts.target, signer, authority, profile)
                if target.state is not CertificateState.REVOKED:
                    rules.check_signer_state(signer)
                return Revoke(ask, signer, target, revocation.reason)
            case KeyRequest() as request:
                return _judge_generate(ask, profile, signer, request, facts, now)
            case c509.CertificationRequest() as request:
                return _judge_issue(ask, profile, signer, request, facts, now)
    except RequestRejected as error:
        return Refuse(ask, Problem.of(error), signer.device, signer, _alarm(ask, signer, facts))


def _judge_issue(
    ask: Ask,
    profile: Profile,
    signer: CertificateFacts,
    request: c509.CertificationRequest,
    facts: Facts,
    now: int,
) -> Issue:
    # A request signed again for a certificate that has retired its signer in the meantime is no news.
    is_known = rules.is_repeat(facts.key, ask.authority, ask.label, signer) and rules.has_certificate(
        facts.key, now
    )
    if not (is_known and signer.state is CertificateState.SUPERSEDED):
        rules.check_signer_state(signer)
    algorithm, public_key, key_hash = rules.key_of_request(request)
    rules.check_request(request, algorithm, profile, signer.device)
    rules.check_key(facts.key, ask.authority, ask.label, signer, now)
    is_first_use = signer.state is CertificateState.PENDING
    return Issue(ask, profile, signer, public_key, algorithm, key_hash, is_first_use)


def _judge_generate(
    ask: Ask, profile: Profile, signer: CertificateFacts, request: KeyRequest, facts: Facts, now: int
) -> Generate:
    rules.check_signer_state(signer)
    name = rules.proven_name(signer)
    grant = rules.check_grant(request, name, profile, signer.device, facts.grant, now)
    key_hash = rules.nonce_hash(ask.authority, ask.label, c509.thumbprint(signer.encoded), request.nonce)
    rules.check_key(facts.key, ask.authority, ask.label, signer, now)
    _check_recipient(signer.algorithm, profile)
    is_first_use = signer.state is CertificateState.PENDING
    return Generate(ask, profile, signer, grant, key_hash, is_first_use)


def _check_recipient(algorithm: Algorithm, profile: Profile) -> None:
    """Check that a generated key can be wrapped to the signer's."""
    if algorithm not in profile.algorithms:
        raise RequestRejected(ProblemKind.BAD_KEY, f"{profile.label} keys are wrapped to no such key")


def _is_own_failure(payload: Payload, target: CertificateFacts | None, signer: CertificateFacts) -> bool:
    """Whether a device says that it could not install the certificate that it signs with.

    That one may be void (it says so again) or out of its time (which may be just why): all that comes of it
    is that it is void.
    """
    return (
        isinstance(payload, Confirmation)
        and payload.status != INSTALLED
        and target is not None
        and target.id == signer.id
    )


def _alarm(ask: Ask, signer: CertificateFacts, facts: Facts) -> str:
    """Say why a refused request is alarming: a retired key signed something new."""
    if signer.state is not CertificateState.SUPERSEDED or ask.op is Operation.CONF:
        return ""
    if rules.is_repeat(facts.key, ask.authority, ask.label, signer):
        return ""  # an old request, perhaps with its signature turned inside out
    return "a superseded key signed a new request"


def judge_bootstrap(
    ask: Ask, profile: Profile, request: Payload, bootstrap: Bootstrap, facts: Facts, now: int
) -> Issue | Generate:
    """Return what becomes of a request whose signer came by value, if all signatures are good.

    Raises:
        RequestRejected: Nothing; why not.
    """
    certificate, device = bootstrap.certificate, facts.registered
    if device is None:
        raise RequestRejected(ProblemKind.NOT_ENTITLED, "the device is not in the inventory")
    if facts.has_bootstrap:
        raise RequestRejected(ProblemKind.WRONG_SIGNER, "another bootstrap certificate is registered")
    if rules.is_over(certificate.not_after, now):
        raise RequestRejected(ProblemKind.SIGNER_EXPIRED, "the bootstrap certificate has expired")
    if now < certificate.not_before:
        raise RequestRejected(ProblemKind.SIGNER_NOT_YET_VALID, "the bootstrap certificate is not yet valid")
    signer = NewSigner(device, bootstrap.label, bootstrap.maker.key_id, certificate)
    own_algorithm, own_key = usable_key(certificate)
    if isinstance(request, KeyRequest):
        grant = rules.check_grant(request, device.name, profile, device, facts.grant, now)
        _check_recipient(own_algorithm, profile)
        thumbprint = c509.thumbprint(certificate.encoded)
        key_hash = rules.nonce_hash(ask.authority, ask.label, thumbprint, request.nonce)
        return Generate(ask, profile, signer, grant, key_hash)
    assert isinstance(request, c509.CertificationRequest)
    algorithm, public_key, key_hash = rules.key_of_request(request)
    rules.check_request(request, algorithm, profile, device)
    if facts.key is not None or public_key == own_key:
        raise RequestRejected(ProblemKind.KEY_USED, "this key was certified before")
    return Issue(ask, profile, signer, public_key, algorithm, key_hash)
