"""What the lab's programs print, read line by line as it comes."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import anyio

from agents.lab.children import Child
from agents.lab.tally import FleetTally


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of device, and how it reaches its authority."""

    name: str
    label: str
    """Of its tier 1 certificate."""
    scheme: str
    """coap or mqtt."""
    count: int


@dataclass(slots=True)
class Server:
    """What `serve` printed."""

    addresses: dict[str, str] = field(default_factory=dict)
    """Scheme -> URI."""
    ready: anyio.Event = field(default_factory=anyio.Event)
    stats: dict[str, Any] = field(default_factory=dict)
    changed: anyio.Event = field(default_factory=anyio.Event)
    """Set, and replaced, with each line of stats."""

    def read(self, line: str) -> None:
        """Take over one line."""
        word, _, rest = line.partition(" ")
        if word == "ready":
            self.addresses = {uri.partition(":")[0]: uri for uri in rest.split()}
            self.ready.set()
        elif word == "stats":
            self.stats = json.loads(rest)
            self.changed.set()
            self.changed = anyio.Event()

    @property
    def verified(self) -> int:
        """Messages found good so far."""
        return int(self.stats.get("messages", {}).get("verified", 0))

    @property
    def refused(self) -> Counter[str]:
        """Messages refused so far, by reason."""
        return Counter(self.stats.get("messages", {}).get("refused", {}))


@dataclass(slots=True)
class Fleet:
    """One kind of device and the process that runs them."""

    kind: Kind
    tally: FleetTally
    done: anyio.Event = field(default_factory=anyio.Event)
    answered: anyio.Event = field(default_factory=anyio.Event)
    answer: dict[str, Any] = field(default_factory=dict)
    child: Child | None = None

    def read(self, line: str) -> None:
        """Take over one line."""
        report = json.loads(line)
        match report.pop("event"):
            case "progress":
                self.tally.read(report)
            case "done":
                self.tally.read(report)
                self.done.set()
            case "sent":
                self.answer = report
                self.answered.set()
            case _:
                pass

    async def tell(self, **order: Any) -> None:  # noqa: ANN401 (JSON)
        """Give its process something to do."""
        assert self.child is not None
        await self.child.write(json.dumps(order))
