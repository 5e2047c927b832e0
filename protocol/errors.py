"""What can go wrong, by meaning.

Inside, exceptions; at the edge of an agent, one `protocol.problem.Problem`; on the wire, each
transport's own words for its `ProblemKind`.

    RuntimeError
    └─ LocalProtocolError        a machine used out of order: our bug; nobody catches it
    EnrollmentError              everything raised on purpose
    ├─ RemoteProtocolError       the peer broke the protocol
    │  ├─ MalformedMessage           not a message: the only thing a decoder raises
    │  ├─ UnexpectedMessage          a message, but not now
    │  └─ CertificateUnusable        the authority's own certificate, and not as it should be
    ├─ RequestRejected           understood, and no
    │  └─ OwnerChanged               the device belongs to somebody else now
    └─ ServiceError              not the peer's fault: try again later
       ├─ Overloaded
       ├─ Unreachable
       └─ ExchangeTimeout
"""

from enum import IntEnum
from typing import ClassVar


class ProblemKind(IntEnum):
    """Why not. Numbers go on the wire and are never reused."""

    MALFORMED = 1
    """Not deterministic CBOR, not the expected shape, or over a limit."""
    UNEXPECTED = 2
    """Well-formed, but not at this point of the exchange."""
    NOT_FOUND = 3
    """No such label, operation or resource at this authority."""
    UNSUPPORTED_FORMAT = 4
    """A request format that this door does not take (CoAP 4.15)."""
    UNKNOWN_SIGNER = 5
    """The thumbprint names no certificate known here: repeat with the whole certificate (c5c)."""
    BAD_SIGNATURE = 6
    """The outer signature does not verify: wrong key, authority, epoch, label or operation."""
    SIGNER_EXPIRED = 7
    SIGNER_NOT_YET_VALID = 8
    SIGNER_REVOKED = 9
    SIGNER_SUPERSEDED = 10
    """The signing certificate was replaced, voided or never became current."""
    WRONG_SIGNER = 11
    """A certificate of another tier, label or domain than this door is opened by."""
    WRONG_SUBJECT = 12
    """The request asks for another name than the signing certificate proves."""
    PROOF_FAILED = 13
    """The inner signature does not prove possession of the new key."""
    BAD_KEY = 14
    """Unknown algorithm, weak key, or a point that is not on the curve."""
    KEY_USED = 15
    """This public key was certified before: for another device, label or an ended certificate."""
    NOT_ENTITLED = 16
    """Registration says no: not in the inventory, not this label, quota used up."""
    NO_SUCH_CERTIFICATE = 17
    """The certificate to confirm or revoke is not the signer's, or is not pending."""
    OVERLOADED = 18
    """Too much work in hand: come back after `retry_after`."""
    UNAVAILABLE = 19
    """The authority cannot answer just now: come back after `retry_after`."""
    TOO_LARGE = 20
    """More bytes than this door takes (CoAP 4.13)."""
    STALE_MESSAGE = 21
    """A signed message whose counter was used before, or is too old to tell."""
    WRONG_CLIENT = 22
    """A topic or connection that belongs to another client than the certificate names."""
    OWNER_CHANGED = 23
    """Good under an epoch that is over: the signed refusal carries the voucher of the next owner."""


class LocalProtocolError(RuntimeError):
    """A machine was used out of order. This is our own bug, so no handler catches it."""


class EnrollmentError(Exception):
    """Base of everything raised on purpose.

    Attributes:
        kind: What goes on the wire.
        public: Whether the detail may be told to the peer.
    """

    kind: ClassVar[ProblemKind] = ProblemKind.UNAVAILABLE
    public: ClassVar[bool] = False


class RemoteProtocolError(EnrollmentError):
    """The peer broke the protocol."""

    kind = ProblemKind.UNEXPECTED
    public = True


class MalformedMessage(RemoteProtocolError):
    """The bytes are not a message of this protocol; no decoder raises anything else."""

    kind = ProblemKind.MALFORMED


class UnexpectedMessage(RemoteProtocolError):
    """A message, but not one that belongs at this point."""


class CertificateUnusable(RemoteProtocolError):
    """The authority certified this key, and what it made cannot be installed: ask anew with another key.

    Args:
        problem_kind: What is wrong with it; becomes `reason`, and the status that the device reports.
        detail: For people.
    """

    def __init__(self, problem_kind: ProblemKind, detail: str) -> None:
        super().__init__(detail)
        self.reason = problem_kind


class RequestRejected(EnrollmentError):
    """Understood, authenticated as far as it goes, and refused.

    Args:
        problem_kind: Why; becomes `reason`.
        detail: For people; told to the peer only where it cannot leak what they do not know already.
    """

    public = True

    def __init__(self, problem_kind: ProblemKind, detail: str = "", retry_after: float | None = None) -> None:
        super().__init__(detail or problem_kind.name.lower().replace("_", " "))
        self.reason = problem_kind
        self.detail = detail
        self.retry_after = retry_after


class OwnerChanged(RequestRejected):
    """The device has got another owner, whose voucher it has verified: ask again, for that owner.

    Args:
        detail: For people.
        at: Where the new owner's authority is, a URI; None where it is the same place as before.
    """

    def __init__(self, detail: str = "", at: str | None = None) -> None:
        super().__init__(ProblemKind.OWNER_CHANGED, detail)
        self.at = at


class ServiceError(EnrollmentError):
    """Not the peer's fault; the same request may succeed later."""


class Overloaded(ServiceError):
    """Too much work in hand. `retry_after` is in seconds."""

    kind = ProblemKind.OVERLOADED

    def __init__(self, retry_after: float = 1.0) -> None:
        super().__init__(f"too much work in hand; retry after {retry_after:g} s")
        self.retry_after = retry_after


class Unreachable(ServiceError):
    """The other side could not be reached."""


class ExchangeTimeout(ServiceError):
    """No usable answer before the deadline."""
