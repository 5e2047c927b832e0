"""Registration's rules: whether an authenticated request may have what it asks for.

Everything here is arithmetic on values. Each rule raises `RequestRejected`; the first that does is the
answer. Which labels sign for which is the profile's declaration and appears here by no name.
"""

from hashlib import sha256

from protocol import c509, cbor
from protocol.cose import Algorithm
from protocol.end_entity import holder_of
from protocol.errors import ProblemKind, RequestRejected
from protocol.exchange.facts import CertificateFacts, CertificateState, DeviceFacts, GrantFacts, KeyFacts
from protocol.exchange.request import (
    INSTALLED,
    KEY_ALGORITHMS,
    Confirmation,
    KeyRequest,
    Revocation,
    algorithm_of_request,
)
from protocol.labels import Operation
from protocol.profiles import Profile, profile_of

_ENDED = {
    CertificateState.REVOKED: (ProblemKind.SIGNER_REVOKED, "the signing certificate is revoked"),
    CertificateState.SUPERSEDED: (ProblemKind.SIGNER_SUPERSEDED, "the signing certificate was replaced"),
    CertificateState.VOID: (ProblemKind.SIGNER_SUPERSEDED, "the signing certificate never became current"),
}
_COORDINATE_BYTES = {1: 32, 2: 48, 3: 66}


def compressed(algorithm: int, key: bytes) -> bytes:
    """Return the one form of a public key that is compared, hashed and stored.

    Args:
        algorithm: Registered C509 public key algorithm.
        key: The field of a request or certificate: a point (02, 03, 04; FE, FD in type 3) or 32 bytes.

    Raises:
        RequestRejected: No such algorithm here, or not a point of this curve's length; BAD_KEY.
    """
    size = _COORDINATE_BYTES.get(algorithm)
    if size is None:
        if algorithm == 12 and len(key) == 32:
            return key
    elif len(key) == size + 1:
        if key[0] in (2, 3):
            return key
        if key[0] in (0xFE, 0xFD):  # even, odd
            return (b"\x02" if key[0] == 0xFE else b"\x03") + key[1:]
    elif len(key) == 2 * size + 1 and key[0] == 4:
        return (b"\x03" if key[-1] & 1 else b"\x02") + key[1 : size + 1]
    raise RequestRejected(ProblemKind.BAD_KEY, "unknown key algorithm, or not a point")


def cose_algorithm(number: object) -> Algorithm:
    """Return the COSE algorithm of a C509 public key algorithm; RequestRejected BAD_KEY if none of ours."""
    for algorithm, registered in KEY_ALGORITHMS.items():
        if registered == number:
            return algorithm
    raise RequestRejected(ProblemKind.BAD_KEY, "unknown key algorithm")


def key_hash(algorithm: int, key: bytes) -> bytes:
    """Return the 32 bytes by which the store knows a public key, whatever form it came in."""
    return _hash(algorithm, compressed(algorithm, key))


def _hash(algorithm: int, key: bytes) -> bytes:
    return sha256(bytes([algorithm]) + key).digest()


def key_of_request(request: c509.CertificationRequest) -> tuple[Algorithm, bytes, bytes]:
    """Return algorithm, compressed key and key hash of a request; RequestRejected BAD_KEY if it has none."""
    algorithm = algorithm_of_request(request)
    number = KEY_ALGORITHMS[algorithm]
    key = compressed(number, request.public_key)
    return algorithm, key, _hash(number, key)


def nonce_hash(authority: bytes, label: str, thumbprint: bytes, nonce: bytes) -> bytes:
    """Return the 32 bytes that stand for the key that an `skg` request is for.

    Args:
        authority: Key identifier of the issuing CA.
        label: Asked for.
        thumbprint: c5t of the signing certificate.
        nonce: The request's.
    """
    return sha256(cbor.encode(["skg", authority, label, thumbprint, nonce])).digest()


def proven_name(signer: CertificateFacts) -> str:
    """Return the name that a signing certificate proves: its device's own, or the one that was granted.

    Raises:
        RequestRejected: The certificate is not of its own profile; WRONG_SUBJECT.
    """
    profile = profile_of(signer.label)
    if not profile.is_granted_name:
        return signer.device.name
    return holder_of(c509.decode_certificate(signer.encoded), profile)


def is_over(not_after: int | None, now: int) -> bool:
    """Return whether a period has ended."""
    return not_after is not None and now > not_after


def is_repeat(key: KeyFacts | None, authority: bytes, label: str, signer: CertificateFacts) -> bool:
    """Return whether this signer asked for this key at this door before."""
    return (
        key is not None
        and key.signer_id == signer.id
        and key.label == label
        and key.authority == authority
        and key.device_id == signer.device.id
    )


def has_certificate(key: KeyFacts | None, now: int) -> bool:
    """Return whether the key's certificate was given out and is still good."""
    return (
        key is not None and key.state is not None and key.state.is_alive and not is_over(key.not_after, now)
    )


def check_label(signer: CertificateFacts, profile: Profile, op: Operation) -> None:
    """Check that the signer's label opens this door."""
    if signer.label not in profile.signers_of(op):
        raise RequestRejected(
            ProblemKind.WRONG_SIGNER, f"{op.value} of {profile.label} is not for {signer.label}"
        )


def check_time(signer: CertificateFacts, now: int) -> None:
    """Check that the signer's time is now."""
    if is_over(signer.not_after, now):
        raise RequestRejected(ProblemKind.SIGNER_EXPIRED, "the signing certificate has expired")
    if now < signer.not_before:
        raise RequestRejected(ProblemKind.SIGNER_NOT_YET_VALID, "the signing certificate is not yet valid")


def check_signer_state(signer: CertificateFacts) -> None:
    """Check that the signer is current, or pending under a living parent (and so about to be current)."""
    ended = _ENDED.get(signer.state)
    if ended is not None:
        raise RequestRejected(*ended)
    if signer.state is CertificateState.PENDING and not signer.is_parent_alive:
        raise RequestRejected(*_ENDED[CertificateState.VOID])


def check_request(
    request: c509.CertificationRequest, algorithm: Algorithm, profile: Profile, device: DeviceFacts
) -> None:
    """Check name, key type and entitlement."""
    if request.subject.cn != device.name:
        raise RequestRejected(
            ProblemKind.WRONG_SUBJECT, "the request asks for another name than the signer proves"
        )
    if algorithm not in profile.algorithms:
        raise RequestRejected(ProblemKind.BAD_KEY, f"{profile.label} takes no {algorithm.name} key")
    if profile.label not in device.entitled:
        raise RequestRejected(ProblemKind.NOT_ENTITLED, f"the device is not registered for {profile.label}")


def check_grant(
    request: KeyRequest, name: str, profile: Profile, device: DeviceFacts, grant: GrantFacts | None, now: int
) -> GrantFacts:
    """Return what the device is granted, if it is asked for by whom it should be.

    Args:
        request: The device's.
        name: What the signing certificate proves; a granted name has to be the one that still is.
        profile: Asked for.
        device: Whose request it is.
        grant: What its operator grants it under this label.
        now: POSIX seconds.

    Raises:
        RequestRejected: WRONG_SUBJECT, or NOT_ENTITLED.
    """
    if request.name != name:
        raise RequestRejected(
            ProblemKind.WRONG_SUBJECT, "the request is for another name than the signer proves"
        )
    if profile.label not in device.entitled:
        raise RequestRejected(ProblemKind.NOT_ENTITLED, f"the device is not registered for {profile.label}")
    if grant is None or is_over(grant.not_after, now):
        raise RequestRejected(ProblemKind.NOT_ENTITLED, f"nothing is granted under {profile.label}")
    if name not in (device.name, grant.name):
        raise RequestRejected(ProblemKind.NOT_ENTITLED, "what the signer was granted has ended")
    return grant


def check_key(key: KeyFacts | None, authority: bytes, label: str, signer: CertificateFacts, now: int) -> None:
    """Check that the key is new, or this signer's own and not at its end."""
    if key is None:
        return
    if not is_repeat(key, authority, label, signer):
        raise RequestRejected(
            ProblemKind.KEY_USED, "this key was certified for another device, label or signer"
        )
    if key.state is not None and not has_certificate(key, now):
        raise RequestRejected(ProblemKind.KEY_USED, "the certificate of this key has ended")


def check_confirmation(
    confirmation: Confirmation,
    target: CertificateFacts | None,
    signer: CertificateFacts,
    authority: bytes,
    profile: Profile,
) -> CertificateFacts:
    """Return the certificate to confirm, if the signer may."""
    if (
        target is None
        or not _is_own(target, signer, authority, profile)
        or sha256(target.encoded).digest() != confirmation.certificate_digest
        or (profile.confirmed_by == profile.label and target.id != signer.id)
    ):
        raise RequestRejected(ProblemKind.NO_SUCH_CERTIFICATE, "no certificate of this device to confirm")
    expected = (
        (CertificateState.PENDING, CertificateState.CURRENT)
        if confirmation.status == INSTALLED
        else (CertificateState.PENDING, CertificateState.VOID)
    )
    if target.state not in expected:
        raise RequestRejected(ProblemKind.NO_SUCH_CERTIFICATE, f"the certificate is {target.state.value}")
    return target


def check_revocation(
    revocation: Revocation,
    target: CertificateFacts | None,
    signer: CertificateFacts,
    authority: bytes,
    profile: Profile,
) -> CertificateFacts:
    """Return the certificate to revoke, if it is the device's own."""
    if (
        target is None
        or revocation.issuer != authority
        or target.ref.serial != revocation.serial
        or not _is_own(target, signer, authority, profile)
    ):
        raise RequestRejected(ProblemKind.NO_SUCH_CERTIFICATE, "no certificate of this device to revoke")
    return target


def _is_own(target: CertificateFacts, signer: CertificateFacts, authority: bytes, profile: Profile) -> bool:
    return (
        target.device.id == signer.device.id
        and target.label == profile.label
        and target.ref.authority == authority
    )
