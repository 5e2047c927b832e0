"""One table from `ProblemKind` to CoAP codes, and its way back."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from constrained.wire import Code
from protocol.errors import ProblemKind

CODES: Final[Mapping[ProblemKind, Code]] = MappingProxyType(
    {
        ProblemKind.MALFORMED: Code.BAD_REQUEST,
        ProblemKind.UNEXPECTED: Code.BAD_REQUEST,
        ProblemKind.NOT_FOUND: Code.NOT_FOUND,
        ProblemKind.UNSUPPORTED_FORMAT: Code.UNSUPPORTED_CONTENT_FORMAT,
        ProblemKind.UNKNOWN_SIGNER: Code.UNAUTHORIZED,
        ProblemKind.BAD_SIGNATURE: Code.UNAUTHORIZED,
        ProblemKind.SIGNER_EXPIRED: Code.FORBIDDEN,
        ProblemKind.SIGNER_NOT_YET_VALID: Code.FORBIDDEN,
        ProblemKind.SIGNER_REVOKED: Code.FORBIDDEN,
        ProblemKind.SIGNER_SUPERSEDED: Code.FORBIDDEN,
        ProblemKind.WRONG_SIGNER: Code.FORBIDDEN,
        ProblemKind.WRONG_SUBJECT: Code.FORBIDDEN,
        ProblemKind.PROOF_FAILED: Code.FORBIDDEN,
        ProblemKind.BAD_KEY: Code.UNPROCESSABLE_ENTITY,
        ProblemKind.KEY_USED: Code.CONFLICT,
        ProblemKind.NOT_ENTITLED: Code.FORBIDDEN,
        ProblemKind.NO_SUCH_CERTIFICATE: Code.NOT_FOUND,
        ProblemKind.OVERLOADED: Code.TOO_MANY_REQUESTS,
        ProblemKind.UNAVAILABLE: Code.SERVICE_UNAVAILABLE,
        ProblemKind.TOO_LARGE: Code.REQUEST_ENTITY_TOO_LARGE,
        ProblemKind.STALE_MESSAGE: Code.CONFLICT,
        ProblemKind.WRONG_CLIENT: Code.FORBIDDEN,
        ProblemKind.OWNER_CHANGED: Code.FORBIDDEN,
    }
)
"""The response code of every refusal; RFC 7252 §5.9.2 and §5.9.3, RFC 8132 (4.09, 4.22), RFC 8516 (4.29)."""

_IMPLIED: Final[Mapping[int, ProblemKind]] = MappingProxyType(
    {
        Code.BAD_REQUEST: ProblemKind.MALFORMED,
        Code.UNAUTHORIZED: ProblemKind.BAD_SIGNATURE,
        Code.FORBIDDEN: ProblemKind.NOT_ENTITLED,
        Code.NOT_FOUND: ProblemKind.NOT_FOUND,
        Code.METHOD_NOT_ALLOWED: ProblemKind.UNEXPECTED,
        Code.NOT_ACCEPTABLE: ProblemKind.UNSUPPORTED_FORMAT,
        Code.CONFLICT: ProblemKind.KEY_USED,
        Code.REQUEST_ENTITY_TOO_LARGE: ProblemKind.TOO_LARGE,
        Code.UNSUPPORTED_CONTENT_FORMAT: ProblemKind.UNSUPPORTED_FORMAT,
        Code.UNPROCESSABLE_ENTITY: ProblemKind.BAD_KEY,
        Code.TOO_MANY_REQUESTS: ProblemKind.OVERLOADED,
    }
)


def implied_kind(code: int) -> ProblemKind:
    """Return the least that a 4.xx or 5.xx says without a body that we can read.

    Several kinds share a code; the one named here is what a device may assume. Whatever is not in the
    table is UNAVAILABLE: it says nothing about the next try.
    """
    return _IMPLIED.get(code, ProblemKind.UNAVAILABLE)
