"""The device gives a certificate of its own back.

    IDLE ──start──> RETURNING ──receipt, or refused because it is revoked already: Drop──> DONE
                        └────── any other signed refusal, out of time ──> FAILED

Nothing is stored before it is sent: after power loss the device still has the certificate, and gives it
back again.
"""

from protocol import c509
from protocol.errors import ProblemKind
from protocol.exchange.device import State
from protocol.exchange.device_effects import Credential, Drop, Effects
from protocol.exchange.device_pace import Patience
from protocol.exchange.device_statement import Statement
from protocol.exchange.device_trust import Trust
from protocol.exchange.request import Revocation, RevocationReason
from protocol.labels import Operation
from protocol.problem import Problem
from protocol.validity import Clock


class GiveBack(Statement):
    """Has one certificate revoked at the device's own wish.

    Args:
        trust: What the device believes of its authority.
        label: Under which the certificate was issued.
        certificate: The certificate to give back, encoded.
        signer: Of `profile.rekeyed_by`; may be the certificate itself.
        reason: Why.
        clock: What is known of the time at `start`.
        patience: Limits of waiting.
    """

    def __init__(
        self,
        trust: Trust,
        label: str,
        certificate: bytes,
        signer: Credential,
        reason: RevocationReason,
        clock: Clock,
        patience: Patience | None = None,
    ) -> None:
        serial = c509.decode_certificate(certificate).serial
        payload = Revocation(trust.anchor.authority, serial, reason).encode()
        super().__init__(trust, label, Operation.REV, payload, signer, State.RETURNING, clock, patience)
        self._is_signed_by_itself = signer.certificate == certificate

    def agreed(self) -> Effects:
        """Forget the certificate."""
        return (Drop(),)

    def refused(self, problem: Problem) -> Effects | None:
        """Take it for done where the receipt of an earlier attempt was lost, or somebody else was quicker."""
        if problem.kind is ProblemKind.SIGNER_REVOKED and self._is_signed_by_itself:
            return (Drop(),)
        return None
