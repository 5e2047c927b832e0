"""Invocation counters: the half of AES-GCM's nonce that may never repeat under one key.

Nonce of a message: its sender's system title (8 octets) ‖ invocation counter (4 octets). Rules:

* A side counts its own messages under one generation of keys, up and only up. It sets numbers aside in blocks
  and stores that *before* it uses them: after a power failure the rest of a block is lost, not used twice.
* A side takes from the other only numbers above all that it has taken under this generation.
* Both counters start again with new keys, and with nothing else. The new generation's number is higher than
  the old one's, so a counter can never be set back under keys that were used.
* Number 0 belongs to the confirmation that a rollover sends under the new keys; messages start at 1.
"""

from dataclasses import dataclass, replace
from typing import Final

from protocol.errors import ProblemKind, RequestRejected

CONFIRMATION: Final = 0
"""Invocation counter of a rollover's confirmation."""
FIRST: Final = 1
"""Invocation counter of the first message under new keys."""
LAST: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Invocations:
    """One side's counters under one generation of keys."""

    generation: int
    next_sent: int = FIRST
    """Lowest number that was never set aside."""
    next_received: int = FIRST
    """Lowest number that is taken from the other side."""

    def reserve(self, count: int) -> tuple["Invocations", range]:
        """Return the counters to store, and the numbers that may be used once they are stored.

        Raises:
            RequestRejected: STALE_MESSAGE: not that many are left; only new keys help.
        """
        end = self.next_sent + count
        if end > LAST + 1:
            raise RequestRejected(ProblemKind.STALE_MESSAGE, "the invocation counter is at its end")
        return replace(self, next_sent=end), range(self.next_sent, end)

    def accept(self, number: int) -> "Invocations":
        """Return the counters to store after a message with `number`, whose tag was found good.

        Raises:
            RequestRejected: STALE_MESSAGE: it, or a later one, was taken before.
        """
        if not self.next_received <= number <= LAST:
            raise RequestRejected(ProblemKind.STALE_MESSAGE, "an invocation counter that was used before")
        return replace(self, next_received=number + 1)

    def start_again(self, generation: int) -> "Invocations":
        """Return the counters of new keys.

        Raises:
            ValueError: They are not newer.
        """
        if generation <= self.generation:
            raise ValueError("counters start again with newer keys only")
        return Invocations(generation)
