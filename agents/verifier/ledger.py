"""What the verifier counts, whom it charges, and what it writes into the log."""

import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from agents.verifier.sources import Sources
from protocol.errors import ProblemKind
from protocol.ports import InboundMessage
from protocol.problem import Problem

LINES_PER_SECOND: Final = 20
"""Refusals that are logged; the rest of a flood is counted, not written down."""

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class VerifierStats:
    """Counts since the verifier was opened; they go on changing."""

    accepted: int = 0
    """Messages taken for verification; each becomes verified or refused."""
    verified: int = 0
    """Good messages."""
    refused: Counter[ProblemKind] = field(default_factory=Counter[ProblemKind])
    """Messages not taken, or taken and found bad, by reason."""
    unpublished: int = 0
    """Good messages that could not be published."""
    activated: int = 0
    """Pending certificates that a first good message made current."""
    alarms: int = 0
    """Retired certificates whose key was found in use, once a minute each."""
    shut_out: int = 0
    """Times that a source was shut out for a while."""
    batches: int = 0
    """Thread hops."""

    def as_dict(self) -> dict[str, object]:
        """Return the counts for a log line or JSON, reasons by their names in lower case."""
        return {
            "accepted": self.accepted,
            "verified": self.verified,
            "refused": {kind.name.lower(): number for kind, number in sorted(self.refused.items())},
            "unpublished": self.unpublished,
            "activated": self.activated,
            "alarms": self.alarms,
            "shut_out": self.shut_out,
            "batches": self.batches,
        }


class Ledger:
    """The counts, the sources' accounts, and a log that a flood cannot fill."""

    def __init__(self) -> None:
        self.stats = VerifierStats()
        self._sources = Sources()
        self._lines = 0
        self._lines_since = 0.0

    def shut_out(self, source: str) -> Problem | None:
        """Return the refusal for a source that delivered too many bad messages lately; None for others."""
        rest = self._sources.shut_out_for(source, time.monotonic())
        if not rest:
            return None
        return Problem(ProblemKind.OVERLOADED, "too many bad messages from here", rest)

    def charge(self, source: str) -> None:
        """Count a bad message against whoever delivered it."""
        if self._sources.charge(source, time.monotonic()):
            self.stats.shut_out += 1
            _log.warning("a source is shut out for a while", extra={"source": source})

    def refuse(self, inbound: InboundMessage, problem: Problem) -> Problem:
        """Count and log a refusal, and return it."""
        self.stats.refused[problem.kind] += 1
        self.write(
            "message refused",
            why=problem.kind.name.lower(),
            source=inbound.source,
            stream=inbound.stream,
            detail=problem.detail,
        )
        return problem

    def write(self, event: str, **fields: str) -> None:
        """Log a warning that strangers can provoke, unless there were too many this second."""
        now = time.monotonic()
        if now - self._lines_since >= 1.0:
            self._lines_since, self._lines = now, 0
        self._lines += 1
        if self._lines <= LINES_PER_SECOND:
            _log.warning(event, extra=fields)
