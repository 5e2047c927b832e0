"""One value for every refusal, and its map on the wire (RFC 9290).

A `Problem` is an unsigned hint: nobody vouches for it, so a device takes it only as a reason to wait
and try again. What an authority means is in a signed refusal (`protocol.receipt`).
"""

import re
from dataclasses import dataclass
from typing import Any, Final, cast

from protocol import cbor
from protocol.errors import MalformedMessage, OwnerChanged, ProblemKind, RequestRejected

MAX_RETRY_AFTER: Final = 24 * 3600.0
"""Longest pause an authority may impose on a device, in seconds."""
MAX_DETAIL_CHARS: Final = 120
"""A sentence; the rest is cut, because the map must fit one datagram."""

_TITLE: Final = -1
_DETAIL: Final = -2
_RESPONSE_CODE: Final = -4
_OURS: Final = "tag:trillium,2026:problem"
"""Custom problem detail (RFC 9290 §3.2): {0: kind, 1: retry_after in whole seconds}."""

TITLES: Final[dict[ProblemKind, str]] = {
    ProblemKind.MALFORMED: "malformed message",
    ProblemKind.UNEXPECTED: "unexpected message",
    ProblemKind.NOT_FOUND: "no such resource",
    ProblemKind.UNSUPPORTED_FORMAT: "unsupported format",
    ProblemKind.UNKNOWN_SIGNER: "unknown signer",
    ProblemKind.BAD_SIGNATURE: "bad signature",
    ProblemKind.SIGNER_EXPIRED: "signer expired",
    ProblemKind.SIGNER_NOT_YET_VALID: "signer not yet valid",
    ProblemKind.SIGNER_REVOKED: "signer revoked",
    ProblemKind.SIGNER_SUPERSEDED: "signer superseded",
    ProblemKind.WRONG_SIGNER: "wrong signer",
    ProblemKind.WRONG_SUBJECT: "wrong subject",
    ProblemKind.PROOF_FAILED: "proof of possession failed",
    ProblemKind.BAD_KEY: "bad key",
    ProblemKind.KEY_USED: "key used before",
    ProblemKind.NOT_ENTITLED: "not entitled",
    ProblemKind.NO_SUCH_CERTIFICATE: "no such certificate",
    ProblemKind.OVERLOADED: "overloaded",
    ProblemKind.UNAVAILABLE: "unavailable",
    ProblemKind.TOO_LARGE: "too large",
    ProblemKind.STALE_MESSAGE: "stale message",
    ProblemKind.WRONG_CLIENT: "wrong client",
    ProblemKind.OWNER_CHANGED: "owner changed",
}

TEMPORARY: Final = frozenset(
    {
        ProblemKind.OVERLOADED,
        ProblemKind.UNAVAILABLE,
        ProblemKind.UNKNOWN_SIGNER,
        ProblemKind.SIGNER_NOT_YET_VALID,
    }
)
"""Refusals that say nothing about the next try; they are never remembered."""


ADDRESS: Final = re.compile(r"(coap|mqtt|mqtts)://[0-9A-Za-z.:\[\]_-]{1,100}")
"""Where an authority can be reached: a URI without a path."""


@dataclass(frozen=True, slots=True)
class Successor:
    """The owner after this one, as a refusal of kind OWNER_CHANGED names it."""

    voucher: bytes
    """Signed (`protocol.voucher`); whoever reads it verifies it."""
    at: str | None = None
    """Where that owner's authority is, an `ADDRESS`; None: where this one is, or as configured."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal as a value."""

    kind: ProblemKind
    detail: str = ""
    """For people. Nobody parses it."""
    retry_after: float | None = None
    """Seconds until the same request may do better; None where it will not."""
    successor: Successor | None = None
    """With OWNER_CHANGED; travels in signed refusals only."""

    @classmethod
    def of(cls, error: RequestRejected) -> "Problem":
        """Return the refusal that `error` stands for."""
        return cls(error.reason, error.detail, error.retry_after)

    def as_error(self) -> RequestRejected:
        """Return the exception that stands for it: `OwnerChanged` where there is a successor."""
        if self.successor is not None:
            return OwnerChanged(self.detail, self.successor.at)
        return RequestRejected(self.kind, self.detail, self.retry_after)

    @property
    def is_temporary(self) -> bool:
        """Whether the same bytes may be answered differently later."""
        return self.kind in TEMPORARY

    def encode(self, response_code: int | None = None) -> bytes:
        """Return the concise problem details map.

        Args:
            response_code: The CoAP code as one byte (class << 5 | detail), equal to the response's own.

        Source:
            RFC 9290 §2, §3.
        """
        ours: dict[int, int] = {0: int(self.kind)}
        if self.retry_after is not None:
            ours[1] = max(0, int(self.retry_after + 0.999))
        problem: dict[int | str, object] = {_TITLE: TITLES[self.kind], _OURS: ours}
        if self.detail:
            problem[_DETAIL] = self.detail[:MAX_DETAIL_CHARS]
        if response_code is not None:
            problem[_RESPONSE_CODE] = response_code
        return cbor.encode(problem)

    @classmethod
    def decode(cls, data: bytes) -> "Problem":
        """Return the problem in `data`; keys that are not known are passed over, as RFC 9290 asks.

        Raises:
            MalformedMessage: Not such a map. A map without our custom detail is UNAVAILABLE.
        """
        item = cbor.decode_map(data, max_bytes=1024, tags=frozenset({38}))
        ours: object = item.get(_OURS, {})
        if type(ours) is not dict:
            raise MalformedMessage("our problem detail is a map")
        number: Any = cast("dict[Any, Any]", ours).get(0, ProblemKind.UNAVAILABLE)
        retry_after: Any = cast("dict[Any, Any]", ours).get(1)
        kind = ProblemKind.UNAVAILABLE
        if type(number) is int and number in TITLES:
            kind = ProblemKind(number)
        if retry_after is not None and (type(retry_after) is not int or retry_after < 0):
            raise MalformedMessage("retry_after is a number of seconds")
        return cls(
            kind,
            _text(item.get(_DETAIL)),
            None if retry_after is None else min(float(retry_after), MAX_RETRY_AFTER),
        )


def _text(item: object) -> str:
    """Return a text, with or without a language (RFC 9290 §A: tag 38, `[language, text]` or one more)."""
    match item:
        case str():
            return item
        case cbor.CBORTag(tag=38, value=[str(), str() as text, *_]):
            return text
        case _:
            return ""
