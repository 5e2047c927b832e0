"""What either machine of a rollover asks of its driver, and what both are told at the start."""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from protocol.metering import envelope
from protocol.metering.agreement import GREEN_BOOK, KdfSettings
from protocol.metering.keys import KeySet
from protocol.metering.rollover_messages import OTHER_INFORMATION, Message, Reason, Step, decode, encode
from protocol.metering.rollover_state import HeadEndState, MeterState
from protocol.metering.suite import Suite
from protocol.metering.title import SystemTitle
from protocol.signing import Signer


@dataclass(frozen=True, slots=True)
class Store:
    """Put this on disk, whole, in place of what was there, before the next effect."""

    state: HeadEndState | MeterState


@dataclass(frozen=True, slots=True)
class Send:
    """Send this to the other side: a general-signing APDU."""

    message: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """These keys are in use from now on, and their invocation counters start again."""

    keys: KeySet


@dataclass(frozen=True, slots=True)
class Refused:
    """This generation will never be used; the keys from before stay in use on both sides."""

    generation: int
    step: Step
    reason: Reason


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message changed nothing, for this reason; for the log."""

    why: str


Effect = Store | Send | Done | Refused | Ignored
Effects = tuple[Effect, ...]
"""To be done in this order, each finished before the next."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """A head-end and a meter, as one of them sees it."""

    suite: Suite
    title: SystemTitle
    """One's own."""
    signer: Signer
    """One's own DataSign key."""
    peer: SystemTitle
    peer_key: ec.EllipticCurvePublicKey
    """The other side's DataSign key; its certificate was checked by the caller."""
    settings: KdfSettings = GREEN_BOOK

    def seal(self, transaction_id: bytes, message: Message) -> bytes:
        """Return the signed envelope of `message` for the other side."""
        return envelope.sign(
            self.signer,
            transaction_id=transaction_id,
            originator=self.title,
            recipient=self.peer,
            content=encode(message),
            other_information=OTHER_INFORMATION,
        ).encode()

    def is_for_us(self, sealed: envelope.GeneralSigning) -> bool:
        """Return whether an envelope says that it is of a rollover, from the other side, and for this one."""
        names = (sealed.originator, sealed.recipient, sealed.other_information)
        return names == (self.peer, self.title, OTHER_INFORMATION)

    def open(self, sealed: envelope.GeneralSigning) -> Message:
        """Return the message in an envelope that the other side has signed.

        Raises:
            RequestRejected: BAD_SIGNATURE.
            MalformedMessage: Signed, but no message.
        """
        envelope.verify(self.suite, sealed, self.peer_key)
        return decode(sealed.content)
