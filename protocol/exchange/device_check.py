"""The device asks whether its authority still knows it: it confirms once more what it has.

    IDLE ──start──> CHECKING ──receipt──> DONE
                        └── signed refusal, out of time ──> FAILED

For a device that only sends messages: those are answered by nobody who signs (and over MQTT by nobody), so
this is how it learns that it has another owner, or that an unsigned no was true.
"""

import hashlib

from protocol.exchange.device import State
from protocol.exchange.device_effects import Credential
from protocol.exchange.device_pace import Patience
from protocol.exchange.device_statement import Statement
from protocol.exchange.device_trust import Trust
from protocol.exchange.request import INSTALLED, Confirmation
from protocol.labels import Operation
from protocol.validity import Clock


class CheckIn(Statement):
    """Confirms a current certificate again, which changes nothing.

    Args:
        trust: What the device believes of its authority.
        label: Of the certificate.
        certificate: The current one, encoded.
        signer: Of `profile.confirmed_by`.
        clock: What is known of the time at `start`.
        patience: Limits of waiting.
    """

    def __init__(
        self,
        trust: Trust,
        label: str,
        certificate: bytes,
        signer: Credential,
        clock: Clock,
        patience: Patience | None = None,
    ) -> None:
        payload = Confirmation(hashlib.sha256(certificate).digest(), INSTALLED).encode()
        super().__init__(trust, label, Operation.CONF, payload, signer, State.CHECKING, clock, patience)
