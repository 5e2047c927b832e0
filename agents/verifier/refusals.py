"""What may be said of a message from its signer's record alone, before any signature is verified."""

from typing import Final

from agents.verifier.signers import KnownSigner
from protocol.errors import ProblemKind
from protocol.exchange.facts import CertificateState
from protocol.message import SignedMessage
from protocol.problem import Problem

RETRY_SECONDS: Final = 1.0
"""When to come back to a full queue or a silent store: both take a fraction of it to recover."""

# One value for each: refusing must cost less than sending.
UNKNOWN_SIGNER: Final = Problem(ProblemKind.UNKNOWN_SIGNER)
BAD_SIGNATURE: Final = Problem(ProblemKind.BAD_SIGNATURE)
STALE: Final = Problem(ProblemKind.STALE_MESSAGE)
SUPERSEDED: Final = Problem(ProblemKind.SIGNER_SUPERSEDED)
OVERLOADED: Final = Problem(ProblemKind.OVERLOADED, retry_after=RETRY_SECONDS)
UNAVAILABLE: Final = Problem(ProblemKind.UNAVAILABLE, retry_after=RETRY_SECONDS)
_WRONG_SIGNER: Final = Problem(ProblemKind.WRONG_SIGNER, "certificates of this label sign no messages")
_WRONG_CLIENT: Final = Problem(ProblemKind.WRONG_CLIENT, "a topic of another client")
_NOT_YET_VALID: Final = Problem(ProblemKind.SIGNER_NOT_YET_VALID)
_EXPIRED: Final = Problem(ProblemKind.SIGNER_EXPIRED)
_ENDED: Final = {
    CertificateState.REVOKED: Problem(ProblemKind.SIGNER_REVOKED),
    CertificateState.SUPERSEDED: SUPERSEDED,
    CertificateState.VOID: Problem(ProblemKind.SIGNER_SUPERSEDED, "never became current"),
}


def judge(known: KnownSigner, message: SignedMessage, client_id: str | None, now: float) -> Problem | None:
    """Return why `message` cannot be good whatever its signature; None if it may be.

    Args:
        known: Its signer.
        message: As read.
        client_id: Whose topic it came on; None where the transport has none.
        now: POSIX seconds.
    """
    record = known.record
    if not known.may_sign:
        return _WRONG_SIGNER
    if client_id is not None and client_id != record.client_id:
        return _WRONG_CLIENT
    if not record.state.is_alive:
        return _ENDED[record.state]
    if now < record.not_before:
        return _NOT_YET_VALID
    if record.not_after is not None and now > record.not_after:
        return _EXPIRED
    if message.signed.header.algorithm is not record.algorithm:
        return BAD_SIGNATURE
    if known.window.was_used(message.counter):
        return STALE
    return None
