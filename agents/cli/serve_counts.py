"""What `trillium serve` prints besides "ready": a line of counts now and then, as JSON."""

import json
import sys
from dataclasses import dataclass
from typing import Any

import anyio

from agents.authority import AuthorityAgent
from agents.verifier import Verifier
from broker.embedded import EmbeddedBroker


def print_line(line: str) -> None:
    """Write one line to stdout, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class Counts:
    """Whose counts are told."""

    authority: AuthorityAgent
    verifier: Verifier
    broker: EmbeddedBroker | None

    def tell(self) -> None:
        """Print them once."""
        print_line(f"stats {self.as_json()}")

    async def tell_now_and_then(self, seconds: float) -> None:
        """Print them every so many seconds, if they changed; until cancelled."""
        last = ""
        while True:
            now = self.as_json()
            if now != last:
                print_line(f"stats {now}")
                last = now
            await anyio.sleep(seconds)

    def as_json(self) -> str:
        """Return the counts since the start."""
        tally = self.authority.tally
        told: dict[str, Any] = {
            "authority": {
                "issued": tally.issued,
                "confirmed": tally.confirmed,
                "revoked": tally.revoked,
                "repeated": tally.repeated,
                "refused": {kind.name.lower(): count for kind, count in sorted(tally.refused.items())},
                "unauthenticated": {kind.name.lower(): count for kind, count in sorted(tally.hints.items())},
            },
            "messages": self.verifier.stats.as_dict(),
        }
        if self.broker is not None:
            counters = self.broker.counters
            told["broker"] = {
                "connections": counters.connections,
                "messages": counters.messages,
                "dropped": counters.dropped,
                "forbidden": counters.forbidden,
            }
        return json.dumps(told)
