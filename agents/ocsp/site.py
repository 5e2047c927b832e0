"""What is at which path: OCSP (RFC 6960 §A.1, RFC 5019 §5) and revocation lists.

    POST /ocsp or /                       application/ocsp-request in, application/ocsp-response out
    GET  /ocsp/<base64> or /<base64>      the same, for caches
    GET  /crl/<domain>.crl, /crl/<CA>.crl the list as DER

Answers say for how long caches may keep them: until the next one is due, and not at all where nothing was
signed.
"""

import base64
import binascii
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Final
from urllib.parse import unquote_to_bytes

from agents.authority import AuthorityAgent
from agents.authority.domain import DomainAuthority
from agents.ocsp.http import HttpRequest, HttpResponse, HttpServer, serve_http
from agents.ocsp.responder import Answer, Responder
from protocol.labels import Operation
from protocol.ports import Content, Inbound

_REQUEST: Final = b"application/ocsp-request"
_OCSP: Final = ("Content-Type", "application/ocsp-response")
_CRL: Final = ("Content-Type", "application/pkix-crl")
LIST_AGE: Final = 60
"""Seconds for which a cache may keep a list without asking whether it is still the current one."""
_NOT_FOUND: Final = HttpResponse(404)
_BAD_REQUEST: Final = HttpResponse(400)


class Site:
    """Routes requests.

    Args:
        responder: Answers OCSP.
        agent: Gives out lists.
        names: Other names of the authorities' lists: what certificates say as CRL distribution point.
        clock: POSIX seconds.
    """

    def __init__(
        self,
        responder: Responder,
        agent: AuthorityAgent,
        names: Mapping[str, DomainAuthority],
        clock: Callable[[], float],
    ) -> None:
        self._responder = responder
        self._agent = agent
        self._clock = clock
        own = {authority.domain.value: authority for authority in agent.authorities.values()}
        self._lists = {f"/crl/{name}.crl".encode(): found for name, found in (own | dict(names)).items()}

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Return the response to one request."""
        path = request.path.partition(b"?")[0]
        if path in self._lists:
            return await self._give_list(request, self._lists[path])
        is_root = path in (b"/", b"/ocsp", b"/ocsp/")
        match request.method:
            case b"POST" if is_root:
                if request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != _REQUEST:
                    return HttpResponse(415)
                return self._as_response(await self._responder.answer(request.body))
            case b"GET" if is_root or path.startswith(b"/crl/"):
                return _NOT_FOUND
            case b"GET":
                question = _from_path(path)
                if question is None:
                    return _BAD_REQUEST
                return self._as_response(await self._responder.answer(question))
            case b"POST":
                return _NOT_FOUND
            case _:
                return HttpResponse(405, headers=(("Allow", "GET, POST"),))

    def _as_response(self, answer: Answer) -> HttpResponse:
        left = int(answer.next_update - self._clock())
        if left <= 0:
            return HttpResponse(200, answer.der, (_OCSP, ("Cache-Control", "no-store")))
        # RFC 5019 §6.2
        headers = (
            _OCSP,
            ("Cache-Control", f"max-age={left}, public, no-transform, must-revalidate"),
            ("Last-Modified", formatdate(answer.this_update, usegmt=True)),
            ("Expires", formatdate(answer.next_update, usegmt=True)),
        )
        return HttpResponse(200, answer.der, headers)

    async def _give_list(self, request: HttpRequest, authority: DomainAuthority) -> HttpResponse:
        if request.method != b"GET":
            return HttpResponse(405, headers=(("Allow", "GET"),))
        label = next(iter(authority.places))
        reply = await self._agent.handle(Inbound(label, Operation.CRL, b"", request.source))
        if not isinstance(reply, Content):
            return HttpResponse(503, headers=(("Retry-After", "5"),))
        etag = f'"{(reply.etag or b"").hex()}"'
        headers = (("ETag", etag), ("Cache-Control", f"max-age={LIST_AGE}, public"))
        if etag.encode() in request.headers.get(b"if-none-match", b""):
            return HttpResponse(304, headers=headers)
        return HttpResponse(200, reply.body, (_CRL, *headers))


def _from_path(path: bytes) -> bytes | None:
    """Return the request in a path: base64, percent-encoded or not; None for what is none."""
    text = unquote_to_bytes(path.removeprefix(b"/ocsp").lstrip(b"/"))
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return None


@asynccontextmanager
async def serve(
    responder: Responder,
    agent: AuthorityAgent,
    *,
    bind: tuple[str, int],
    names: Mapping[str, DomainAuthority],
    clock: Callable[[], float],
) -> AsyncIterator[HttpServer]:
    """Serve OCSP and revocation lists over HTTP while the body runs.

    Args:
        responder: As `open_responder` opened it.
        agent: The authority.
        bind: Host and port; port 0 takes any free one.
        names: As `Site`.
        clock: POSIX seconds.

    Raises:
        OSError: The socket cannot be bound.
    """
    async with serve_http(Site(responder, agent, names, clock).handle, bind=bind) as server:
        yield server
