"""What actors need of adapters, and adapters of actors.

Adapters are shaped by their library; both satisfy the same few types. An adapter knows nothing of
certificates: it carries `Inbound` to a `Handler` and renders the `Reply`, or carries an `Outbound`
and hands back the `Reply` it got.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from protocol.labels import Operation
from protocol.problem import Problem


class Media(Enum):
    """What the bytes of a body are. Adapters have one table from it to their own numbers or names."""

    SIGN1 = "application/cose; cose-type=cose-sign1"
    C509_CERTIFICATE = "application/cose-c509-cert+cbor"
    COSE_C509 = "application/cose-c509+cbor; usage=chain"
    C509_TEMPLATE = "application/cose-c509-crtemplate+cbor"
    PKCS7_CERTS_ONLY = "application/pkcs7-mime; smime-type=certs-only"
    PKIX_CERT = "application/pkix-cert"
    PKIX_CRL = "application/pkix-crl"
    C509_CRL = "application/c509-crl+cbor"
    CONTRACT_PACKAGE = "application/vnd.trillium.contract-package+cbor"
    CBOR = "application/cbor"


@dataclass(frozen=True, slots=True)
class Inbound:
    """One request as an adapter received it; nothing in it is authenticated."""

    label: str
    op: Operation
    body: bytes
    """Empty for operations without a body."""
    source: str
    """Who delivered it, for quotas and logs only: "coap:192.0.2.1:5683", "mqtt:<client-id>"."""
    accept: Media | None = None
    """The form that the peer asked for, where the transport can say so."""
    base: int | None = None
    """`crl`: number of the list that the peer has; a delta to it will do."""


@dataclass(frozen=True, slots=True)
class Content:
    """A good answer."""

    body: bytes
    media: Media
    etag: bytes | None = None
    """At most 8 bytes; equal as long as the body is."""


@dataclass(frozen=True, slots=True)
class Pending:
    """Still working: ask again with the same bytes."""

    retry_after: float
    """Seconds, > 0."""


@dataclass(frozen=True, slots=True)
class SignedRefusal:
    """A refusal that the authority's registration key vouches for."""

    body: bytes
    """COSE_Sign1 (`protocol.receipt`)."""
    problem: Problem
    """The same in clear, for the transport's own code and for logs."""


Reply = Content | Pending | SignedRefusal | Problem
"""What a handler returns; a bare `Problem` is an unsigned hint."""

Handler = Callable[[Inbound], Awaitable[Reply]]
"""The authority's door. It never raises but for cancellation and our own bugs."""


@dataclass(frozen=True, slots=True)
class InboundMessage:
    """One signed message as an adapter received it."""

    stream: str
    """[0-9a-z_-]{1,32}."""
    body: bytes
    source: str
    """As in `Inbound`."""
    client_id: str | None = None
    """The client whose topic it came on; None where the transport has none (CoAP)."""


MessageHandler = Callable[[InboundMessage], Awaitable[Problem | None]]
"""The verifier's door: None once the message is accepted for verification."""


@dataclass(frozen=True, slots=True)
class Outbound:
    """One request that a device sends."""

    label: str
    op: Operation
    body: bytes = b""
    accept: Media | None = None
    """The form that is wanted; None: the operation's first."""
    base: int | None = None
    """`crl`: number of the list that is at hand, > 0."""


class DeviceTransport(Protocol):
    """A device's side of a transport, already connected.

    Cancellation: every method may be cancelled at any point; the request may or may not have been
    delivered. Nothing is repeated by a method beyond what the transport itself does.
    """

    async def exchange(self, request: Outbound) -> Reply:
        """Send `request` and return its reply.

        `PKIX` media never come back unless asked for; `SignedRefusal.problem` carries only the kind
        that the transport's own code implies, the signed body is what counts.

        Raises:
            Unreachable: The transport failed; the request may or may not have been delivered.
        """
        ...

    async def send_message(self, stream: str, body: bytes) -> Problem | None:
        """Send one signed message; return None once the other side took it.

        Raises:
            Unreachable: As above.
        """
        ...
