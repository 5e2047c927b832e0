"""A message on its way through the verifier, and at its end."""

from collections.abc import Callable
from dataclasses import dataclass

from agents.verifier.signers import KnownSigner
from protocol.exchange.facts import CertificateRef
from protocol.message import SignedMessage
from protocol.ports import InboundMessage
from protocol.problem import Problem


@dataclass(frozen=True, slots=True)
class VerifiedMessage:
    """A good message."""

    device: str
    client_id: str
    signer: CertificateRef
    stream: str
    counter: int
    time: int | None
    """POSIX seconds by the device's clock."""
    body: bytes
    label: str
    """Of the signer's certificate."""


Verdict = VerifiedMessage | Problem


class Ticket:
    """One message that was taken.

    Args:
        inbound: As it came.
        message: As it was read.
        aad: external_aad of its stream.
        known: Its signer when it came.
        on_verdict: Told how it ended, if somebody waits for that; never raises.
    """

    __slots__ = ("aad", "inbound", "is_retired", "known", "message", "on_verdict")

    def __init__(
        self,
        inbound: InboundMessage,
        message: SignedMessage,
        aad: bytes,
        known: KnownSigner,
        on_verdict: Callable[[Verdict], None] | None,
    ) -> None:
        self.inbound = inbound
        self.message = message
        self.aad = aad
        self.known = known
        self.on_verdict = on_verdict
        self.is_retired = False
        """Refused already: all that is left to find out is whether a retired key is in use."""
