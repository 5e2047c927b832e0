"""The CoAP server's resources, without a socket: from a `Request` to a `Response`.

Both engines use it. `enter` settles at once what needs nobody's judgement; what is left for a handler
comes back as a `Call`, which `answer` awaits. Checks stand in the order of their cost.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from constrained.blocks import Downloads, Refused, Uploads
from constrained.codes import CODES
from constrained.discovery import ROOTS, Listing
from constrained.formats import ANSWERS, COSE_SIGN1, LINK_FORMAT, PROBLEM_DETAILS, ContentFormats
from constrained.quiet import QuietLog
from constrained.wire import Code, Option, Request, Response, encode_uint
from protocol.challenge import MAX_NONCE_BYTES, MIN_NONCE_BYTES, Challenge, ProofHandler
from protocol.errors import ProblemKind
from protocol.labels import Operation
from protocol.ports import (
    Content,
    Handler,
    Inbound,
    InboundMessage,
    MessageHandler,
    Pending,
    Reply,
    SignedRefusal,
)
from protocol.problem import Problem

_BASE: Final = re.compile(rb"base=([1-9][0-9]{0,18})")
_NO_BASE: Final = -1
_LABEL: Final = re.compile(r"[0-9a-z-]{1,32}")
_STREAM: Final = re.compile(rb"[0-9a-z_-]{1,32}")
_MAX_AGE_LIMIT: Final = 0xFFFF_FFFF
PROOF: Final = b"proof"
"""Last path segment where the server itself is asked to prove its certificate (`protocol.challenge`)."""
OCTETS: Final = 42
"""Content-Format application/octet-stream (RFC 7252 §12.3): a nonce."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a stranger's doing is borne. Each bound costs honest devices a repeat when it is hit."""

    body: int = 4096
    """Longest body of a request in bytes (`protocol.cbor.MAX_MESSAGE_BYTES`); longer is 4.13."""
    uploads: int = 1024
    """Most unfinished block-wise uploads: 4 MiB. The one that has waited longest makes room."""
    downloads: int = 1024
    """Most answers kept for their later blocks; the oldest makes room."""
    exchanges: int = 8192
    """Most message IDs remembered, with their answers, to recognise a repeat: about 1 KiB each. The
    oldest makes room; a repeat after that is a new request, which the authority answers alike."""
    in_work: int = 2048
    """Most requests in handlers, above what any handler's own admission control lets in; one more is
    5.03 at once."""
    in_work_of_source: int = 1024
    """Of these, how many may be one source's (`constrained.sockets.network_of`): half, so that nobody alone
    shuts the others out, and no less, because a fleet behind one gateway is one source."""
    unacknowledged: int = 1024
    """Most separate responses that are repeated until acknowledged; one more is sent once, as NON."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request that is whole and may go to its handler."""

    request: Request
    inbound: Inbound | InboundMessage | Challenge


def _max_age(seconds: float | None) -> tuple[tuple[int, bytes], ...]:
    if seconds is None:
        return ()
    return ((Option.MAX_AGE, encode_uint(min(_MAX_AGE_LIMIT, max(0, math.ceil(seconds))))),)


_PROBLEM_FORMAT: Final = (Option.CONTENT_FORMAT, encode_uint(PROBLEM_DETAILS))


@lru_cache(maxsize=256)
def _hint(problem: Problem, code: int) -> Response:
    """Return an unsigned hint; remembered, because where much is refused it must cost little."""
    return Response(code, (_PROBLEM_FORMAT, *_max_age(problem.retry_after)), problem.encode(code))


def _refusal(code: Code, kind: ProblemKind, detail: str) -> Response:
    return _hint(Problem(kind, detail), code)


BUSY: Final = _hint(Problem(ProblemKind.UNAVAILABLE, "", 5.0), Code.SERVICE_UNAVAILABLE)
"""What an engine answers when `Limits.in_work` requests are in handlers, or the source's share of them."""
_NOT_FOUND: Final = _refusal(Code.NOT_FOUND, ProblemKind.NOT_FOUND, "")
_BAD_METHOD: Final = _refusal(
    Code.METHOD_NOT_ALLOWED, ProblemKind.UNEXPECTED, "GET or POST, as the operation has it"
)
_BAD_FORMAT: Final = _refusal(
    Code.UNSUPPORTED_CONTENT_FORMAT, ProblemKind.UNSUPPORTED_FORMAT, "COSE_Sign1 (Content-Format 18) only"
)
_NOT_ACCEPTABLE: Final = _refusal(
    Code.NOT_ACCEPTABLE, ProblemKind.UNSUPPORTED_FORMAT, "not available in the format of Accept"
)
_BAD_OPTION: Final = _refusal(Code.BAD_OPTION, ProblemKind.MALFORMED, "a critical option is not understood")
_NO_NONCE: Final = _refusal(
    Code.BAD_REQUEST,
    ProblemKind.MALFORMED,
    f"a nonce of {MIN_NONCE_BYTES} to {MAX_NONCE_BYTES} bytes (Content-Format {OCTETS})",
)
_BAD_BASE: Final = _refusal(Code.BAD_REQUEST, ProblemKind.MALFORMED, "base is the number of a list")
_NO_PROXY: Final = _refusal(Code.PROXYING_NOT_SUPPORTED, ProblemKind.NOT_FOUND, "not a proxy")
_OUR_FAULT: Final = _hint(Problem(ProblemKind.UNAVAILABLE, "", 60.0), Code.INTERNAL_SERVER_ERROR)
_REFUSED: Final = {
    Code.BAD_REQUEST: _refusal(Code.BAD_REQUEST, ProblemKind.MALFORMED, "a block does not fit its option"),
    Code.REQUEST_ENTITY_INCOMPLETE: _refusal(
        Code.REQUEST_ENTITY_INCOMPLETE, ProblemKind.UNEXPECTED, "blocks are missing: start again"
    ),
}
_CONTINUE: Final = Response(Code.CONTINUE)


def _base_of(query: Iterable[bytes]) -> int | None:
    """Return the number in `?base=…`, None without one, `_NO_BASE` for what is none."""
    for part in query:
        if part.startswith(b"base="):
            found = _BASE.fullmatch(part)
            return _NO_BASE if found is None else int(found[1])
    return None


class Door:
    """Resources of one server.

    Args:
        handler: The authority's door.
        labels: Certificate profiles that are served; each [0-9a-z-]{1,32}.
        messages: The verifier's door; without one there is nothing under `/m/`.
        formats: Numbers for what has none assigned.
        limits: Bounds.
        log: Where a handler's own faults go.
        proofs: Who proves the server's own certificate, by that certificate's label.

    Raises:
        ValueError: A label is not spelled like one.
    """

    def __init__(
        self,
        handler: Handler,
        labels: Iterable[str],
        *,
        messages: MessageHandler | None,
        formats: ContentFormats,
        limits: Limits,
        log: QuietLog,
        proofs: Mapping[str, ProofHandler] | None = None,
    ) -> None:
        labels = tuple(labels)
        self._proofs = dict(proofs or {})
        for label in (*labels, *self._proofs):
            if not _LABEL.fullmatch(label):
                msg = f"{label!r} is not a label"
                raise ValueError(msg)
        self._handler = handler
        self._messages = messages
        self._formats = formats
        self._log = log
        self._listing = Listing(labels, formats)
        self._routes = {
            (*root.encode().split(b"/"), label.encode(), op.encode()): (label, op)
            for root in ROOTS
            for label in labels
            for op in Operation
        }
        self._proof_routes = {
            (*root.encode().split(b"/"), label.encode(), PROOF): label
            for root in ROOTS
            for label in self._proofs
        }
        self._uploads = Uploads(limits.body, limits.uploads)
        self._downloads = Downloads(limits.downloads)
        self._too_large = Response(
            Code.REQUEST_ENTITY_TOO_LARGE,
            (_PROBLEM_FORMAT, (Option.SIZE1, encode_uint(limits.body))),
            Problem(ProblemKind.TOO_LARGE, f"at most {limits.body} bytes").encode(
                Code.REQUEST_ENTITY_TOO_LARGE
            ),
        )

    def enter(self, request: Request) -> Response | Call:
        """Return the response, or what a handler must be asked first. Raises nothing, whatever came."""
        try:
            outcome = self._enter(request)
        except Refused as refused:
            outcome = _REFUSED.get(refused.code, self._too_large)
        if outcome is _CONTINUE:
            return self._acknowledge_block(request, outcome, more=True)
        if isinstance(outcome, Response) and outcome.code >= Code.BAD_REQUEST:
            self._log.turned_away(request.source, request.path, outcome.code)
        return outcome

    async def answer(self, call: Call) -> Response:
        """Ask the handler and return the response.

        Cancellation: goes through to the handler; nothing is kept.
        """
        try:
            response = await self._ask(call)
        except Exception as error:  # noqa: BLE001 (a fault of ours must cost one request, not the server)
            self._log.fault("handler failed", error)
            response = _OUR_FAULT
        request = call.request
        try:
            response = self._downloads.cut(request, response)
        except Refused as refused:
            return _REFUSED[refused.code]
        return response if request.block1 is None else self._acknowledge_block(request, response, more=False)

    @staticmethod
    def _acknowledge_block(request: Request, response: Response, *, more: bool) -> Response:
        assert request.block1 is not None
        block = request.block1._replace(more=more)
        return response._replace(options=(*response.options, (Option.BLOCK1, block.encode())))

    def _enter(self, request: Request) -> Response | Call:
        if request.refused is not None:
            return _BAD_OPTION
        if request.proxied:
            return _NO_PROXY
        route = self._routes.get(request.path)
        if route is not None:
            return self._enter_operation(request, *route)
        proved = self._proof_routes.get(request.path)
        if proved is not None:
            return self._enter_challenge(request, proved)
        match request.path:
            case (b"m", stream) if self._messages is not None and _STREAM.fullmatch(stream):
                return self._enter_message(request, stream.decode())
            case (b".well-known", b"core"):
                return self._discover(request)
            case _:
                return _NOT_FOUND

    def _enter_operation(self, request: Request, label: str, op: Operation) -> Response | Call:
        accept = self._formats.media(request.accept)
        if request.accept is not None and accept not in ANSWERS[op]:
            return _NOT_ACCEPTABLE
        if not op.has_body:
            if request.code != Code.GET:
                return _BAD_METHOD
            if (later := self._downloads.kept(request)) is not None:
                return later
            base = _base_of(request.query) if op is Operation.CRL else None
            if base == _NO_BASE:
                return _BAD_BASE
            return Call(request, Inbound(label, op, b"", request.source, accept, base))
        body = self._body(request)
        if not isinstance(body, bytes):
            return body
        return Call(request, Inbound(label, op, body, request.source, accept))

    def _enter_message(self, request: Request, stream: str) -> Response | Call:
        body = self._body(request)
        if not isinstance(body, bytes):
            return body
        return Call(request, InboundMessage(stream, body, request.source))

    def _enter_challenge(self, request: Request, label: str) -> Response | Call:
        if request.code != Code.POST:
            return _BAD_METHOD
        if request.block2 is not None and request.block2.number:
            return self._downloads.rest(request)
        nonce = request.payload
        if (
            request.content_format != OCTETS
            or request.block1 is not None
            or not MIN_NONCE_BYTES <= len(nonce) <= MAX_NONCE_BYTES
        ):
            return _NO_NONCE
        return Call(request, Challenge(label, nonce, request.source))

    def _body(self, request: Request) -> bytes | Response:
        if request.code != Code.POST:
            return _BAD_METHOD
        if request.block2 is not None and request.block2.number:
            return self._downloads.rest(request)
        if request.content_format != COSE_SIGN1:
            return _BAD_FORMAT
        body = self._uploads.feed(request)
        return _CONTINUE if body is None else body

    def _discover(self, request: Request) -> Response:
        if request.code != Code.GET:
            return _BAD_METHOD
        if request.accept not in (None, LINK_FORMAT):
            return _NOT_ACCEPTABLE
        listing = Response(
            Code.CONTENT,
            ((Option.CONTENT_FORMAT, encode_uint(LINK_FORMAT)),),
            self._listing.select(request.query),
        )
        return self._downloads.cut(request, listing)

    async def _ask(self, call: Call) -> Response:
        inbound = call.inbound
        if isinstance(inbound, Inbound):
            return self._render(await self._handler(inbound), call.request, inbound)
        if isinstance(inbound, Challenge):
            proof = await self._proofs[inbound.label](inbound)
            if isinstance(proof, Problem):
                return _hint(proof, CODES[proof.kind])
            return Response(Code.CHANGED, ((Option.CONTENT_FORMAT, encode_uint(COSE_SIGN1)),), proof)
        assert self._messages is not None
        problem = await self._messages(inbound)
        return Response(Code.CHANGED) if problem is None else _hint(problem, CODES[problem.kind])

    def _render(self, reply: Reply, request: Request, inbound: Inbound) -> Response:
        match reply:
            case Content():
                return self._content(reply, request, inbound)
            case Pending(retry_after):
                return Response(Code.SERVICE_UNAVAILABLE, _max_age(retry_after))
            case SignedRefusal(body, problem):
                sign1 = (Option.CONTENT_FORMAT, encode_uint(COSE_SIGN1))
                return Response(CODES[problem.kind], (sign1, *_max_age(problem.retry_after)), body)
            case Problem():
                return _hint(reply, CODES[reply.kind])

    def _content(self, content: Content, request: Request, inbound: Inbound) -> Response:
        if inbound.accept is not None and content.media is not inbound.accept:
            return _NOT_ACCEPTABLE
        options = ((Option.CONTENT_FORMAT, encode_uint(self._formats.number(content.media))),)
        if inbound.op.has_body:
            return Response(Code.CHANGED, options, content.body)
        etag = content.etag or hashlib.sha256(content.body).digest()[:8]
        if etag in request.etags:
            return Response(Code.VALID, ((Option.ETAG, etag),))
        return Response(Code.CONTENT, ((Option.ETAG, etag), *options), content.body)
