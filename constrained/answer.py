"""A response as a device reads it."""

from dataclasses import dataclass, replace

from constrained.codes import implied_kind
from constrained.formats import COSE_SIGN1, PROBLEM_DETAILS, ContentFormats
from constrained.wire import Block, Code, Datagram, Option
from protocol.errors import MalformedMessage, Unreachable
from protocol.ports import Content, Pending, Reply, SignedRefusal
from protocol.problem import MAX_RETRY_AFTER, Problem

_DEFAULT_MAX_AGE = 60.0
"""Seconds that a response without Max-Age means (RFC 7252 §5.10.5)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What of a response matters to us. Nothing in it is authenticated."""

    code: int
    payload: bytes
    content_format: int | None = None
    max_age: float | None = None
    """Seconds; at most `MAX_RETRY_AFTER`, because it is nobody's word."""
    etag: bytes | None = None
    block1: Block | None = None
    block2: Block | None = None

    @classmethod
    def of(cls, message: Datagram) -> "Answer":
        """Return what `message` says.

        Raises:
            Unreachable: It is no response, or a block has the reserved size.
        """
        options = dict(message.options)
        blocks = [
            None if (value := options.get(number)) is None else Block.decode(value)
            for number in (Option.BLOCK1, Option.BLOCK2)
        ]
        if not 64 <= message.code < 192 or any(block is not None and block.szx == 7 for block in blocks):
            raise Unreachable("an answer that is not understood")
        content_format, max_age = options.get(Option.CONTENT_FORMAT), options.get(Option.MAX_AGE)
        return cls(
            message.code,
            message.payload,
            None if content_format is None else int.from_bytes(content_format),
            None if max_age is None else min(MAX_RETRY_AFTER, float(int.from_bytes(max_age))),
            options.get(Option.ETAG),
            *blocks,
        )

    def with_payload(self, payload: bytes) -> "Answer":
        """Return this with the whole of its body."""
        return replace(self, payload=payload)

    def as_reply(self, formats: ContentFormats) -> Reply:
        """Return what `protocol.ports` calls it.

        Raises:
            Unreachable: A success whose body is nothing we know.
        """
        if self.code < 128:
            media = formats.media(self.content_format)
            if media is None or self.code not in (Code.CONTENT, Code.CHANGED):
                raise Unreachable("an answer that is not understood")
            return Content(self.payload, media, self.etag)
        kind = implied_kind(self.code)
        if self.content_format == COSE_SIGN1:
            return SignedRefusal(self.payload, Problem(kind, "", self.max_age))
        if self.content_format == PROBLEM_DETAILS:
            try:
                problem = Problem.decode(self.payload)
            except MalformedMessage:
                return Problem(kind, "", self.max_age)
            return problem if problem.retry_after is not None else replace(problem, retry_after=self.max_age)
        if self.code == Code.SERVICE_UNAVAILABLE and not self.payload:
            age = _DEFAULT_MAX_AGE if self.max_age is None else self.max_age
            return Pending(max(1.0, age))
        return Problem(kind, "", self.max_age)
