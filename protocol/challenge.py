"""Asking whoever is at the other end to prove with which certificate it works: what adapters carry for that.

An operation asks an authority that may be far behind the other end; this asks the other end itself. What a
proof is made of is its domain's matter (`protocol.ev.station_proof`); no adapter looks into it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from protocol.ports import DeviceTransport
from protocol.problem import Problem

MIN_NONCE_BYTES: Final = 16
"""Shorter ones repeat by chance."""
MAX_NONCE_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge as an adapter received it."""

    label: str
    """Of the certificate that is to be proved."""
    nonce: bytes
    """`MIN_NONCE_BYTES` to `MAX_NONCE_BYTES`, drawn by whoever asks."""
    source: str
    """As in `protocol.ports.Inbound`."""


ProofHandler = Callable[[Challenge], Awaitable[bytes | Problem]]
"""Answers with a COSE_Sign1, or says why not."""


class ProvingTransport(DeviceTransport, Protocol):
    """A transport whose other end can be asked for a proof."""

    async def challenge(self, label: str, nonce: bytes) -> bytes | Problem:
        """Ask for a proof over `nonce`; nothing in the answer is verified.

        Raises:
            Unreachable: No answer, or one that is not understood.
        """
        ...
