"""When a device tries again: waiting for an answer, pausing, giving up.

    send ── answer time over ──> pause ── over ──> send …     until `give_up` after the first

An answer's time doubles from one send to the next, for links that turn out to be slow; so does the
longest pause, of which a random part is taken (full jitter), so that a fleet which lost its authority
together does not come back together.
"""

from dataclasses import dataclass
from typing import Final

_MOST_DOUBLINGS: Final = 30
"""More make no difference to any limit, and a float has room for these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Limits of one exchange, all in seconds, > 0."""

    answer: float = 8.0
    """First wait for an answer: CoAP's first retransmissions (RFC 7252 §4.8: 2 to 3 s, then twice that)
    fit into it."""
    longest_answer: float = 60.0
    pause: float = 2.0
    """Longest first pause."""
    longest_pause: float = 300.0
    longest_retry_after: float = 3600.0
    """Most that a hint may impose: hints are unsigned, so anyone may have written one."""
    give_up: float = 24 * 3600.0
    """From the start to the end of all attempts; the next start goes on where this one stopped."""


class Pace:
    """The clockwork of one exchange. Times are seconds on one clock that never goes back."""

    __slots__ = ("_attempts", "_end", "_patience", "deadline", "is_paused")

    def __init__(self, patience: Patience, now: float) -> None:
        self._patience = patience
        self._end = now + patience.give_up
        self._attempts = 0
        self.deadline = now
        """When something is to be done if nothing comes."""
        self.is_paused = False
        """Whether the deadline ends a pause (send again), not a wait for an answer."""

    def is_over(self, now: float) -> bool:
        """Return whether it is time to give up."""
        return now >= self._end

    def sent(self, now: float) -> None:
        """Wait for an answer to what was just sent."""
        wait = self._patience.answer * 2.0 ** min(self._attempts, _MOST_DOUBLINGS)
        self.deadline = min(self._end, now + min(wait, self._patience.longest_answer))
        self.is_paused = False
        self._attempts += 1

    def pause(self, now: float, jitter: float, retry_after: float | None = None) -> None:
        """Wait before sending again.

        Args:
            now: The time.
            jitter: A random number, >= 0 and < 1.
            retry_after: What the other side asked for, in seconds; it is kept, up to the limit.
        """
        longest = self._patience.pause * 2.0 ** min(max(0, self._attempts - 1), _MOST_DOUBLINGS)
        wait = jitter * min(longest, self._patience.longest_pause)
        wait += min(max(0.0, retry_after or 0.0), self._patience.longest_retry_after)
        self.deadline = min(self._end, now + wait)
        self.is_paused = True

    def progressed(self) -> None:
        """Start the doubling afresh: something that verified came from the other side."""
        self._attempts = 0
