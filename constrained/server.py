"""The CoAP server: an authority's operations and the verifier's streams for constrained devices."""

import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from constrained import aiocoap_engine, lean_engine
from constrained.door import Door, Limits
from constrained.formats import DEFAULT_FORMATS, ContentFormats
from constrained.quiet import QuietLog
from constrained.sockets import address_of
from constrained.sockets import bind as bind_socket
from protocol.challenge import ProofHandler
from protocol.ports import Handler, MessageHandler

__all__ = ["CoapServer", "ContentFormats", "Engine", "Limits", "serve"]

Engine = Literal["aiocoap", "lean"]
"""What speaks CoAP: the library, or our own endpoint for many devices."""


@dataclass(frozen=True, slots=True)
class CoapServer:
    """A server that is up."""

    addresses: tuple[tuple[str, int], ...]
    """Host and port as they are, never port 0."""

    @property
    def uris(self) -> tuple[str, ...]:
        """The same as base URIs: "coap://127.0.0.1:5683"."""
        return tuple(
            f"coap://[{host}]:{port}" if ":" in host else f"coap://{host}:{port}"
            for host, port in self.addresses
        )


@asynccontextmanager
async def serve(
    handler: Handler,
    labels: Iterable[str],
    *,
    bind: tuple[str, int] = ("127.0.0.1", 5683),
    messages: MessageHandler | None = None,
    formats: ContentFormats = DEFAULT_FORMATS,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    engine: Engine = "aiocoap",
    proofs: Mapping[str, ProofHandler] | None = None,
) -> AsyncIterator[CoapServer]:
    """Serve as long as the block is open; when it is entered, the socket is bound.

    `/.well-known/est/<label>/<op>`, the same under `/e/`, both in `/.well-known/core`, and
    `/m/<stream>` if `messages` is given. There is no DTLS and no OSCORE yet: what is carried is
    protected as an object, and everybody on the path can read it.

    Args:
        handler: Asked once for every whole request; cancelled when the block is left, or when a peer
            uses the token of a request for another.
        labels: Certificate profiles to serve; each [0-9a-z-]{1,32}.
        bind: Host and port; port 0 is any free one.
        messages: Asked once for every signed message.
        formats: Content-Format numbers that IANA has not assigned.
        limits: Bounds on what strangers can make the server hold.
        engine: What speaks CoAP.
        proofs: Who proves the server's own certificate, by its label: POST `…/<label>/proof` with a nonce
            (Content-Format 42) is answered with a COSE_Sign1. Charging stations have them, authorities
            do not.

    Raises:
        OSError: `bind` cannot be had.
        ValueError: A label is not spelled like one.

    Source:
        RFC 7252, RFC 7959, RFC 9148 §4, RFC 9290.
    """
    log = QuietLog(logging.getLogger(__name__))
    door = Door(handler, labels, messages=messages, formats=formats, limits=limits, log=log, proofs=proofs)
    bound = await bind_socket(bind)
    server = CoapServer((address_of(bound),))
    listen = {"aiocoap": aiocoap_engine.listen, "lean": lean_engine.listen}[engine]
    try:
        async with listen(bound, door, limits, log):
            yield server
    finally:
        bound.close()
