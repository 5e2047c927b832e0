"""Who delivered bad signatures lately. They are charged to the connection, never to the signer they name.

A leaky bucket per source: each bad signature adds one, ten a second run out, and who is over the limit is
refused before any work is done, until it has run dry. A device that is cut off mid-flash never gets
there; a flood spends a hundred verifications and is out for ten seconds. A CoAP peer is its address: ports
cost nothing.
"""

from collections import OrderedDict
from typing import Final

CAPACITY: Final = 100.0
"""Bad signatures that a source may be ahead: some 7 ms of one core."""
LEAK: Final = 10.0
"""Bad signatures per second that are forgiven: a share of one core that is not worth refusing over."""
MAX_SOURCES: Final = 4096
"""Sources remembered, about a megabyte; the one that was bad longest ago is forgotten first."""


class Sources:
    """A bounded table of leaky buckets. Times are seconds on any clock that never goes back."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float, bool]] = OrderedDict()
        """Source -> (level, when it was that, whether it is shut out)."""

    def __len__(self) -> int:
        return len(self._buckets)

    def charge(self, source: str, now: float) -> bool:
        """Count one bad signature against `source`; return whether this shuts it out."""
        source = _origin(source)
        level, then, is_out = self._buckets.pop(source, (0.0, now, False))
        level = max(0.0, level - (now - then) * LEAK) + 1.0
        shuts_out = not is_out and level > CAPACITY
        # What it had under way when it was shut out does not add to that.
        level = min(level, CAPACITY)
        self._buckets[source] = (level, now, is_out or shuts_out)
        if len(self._buckets) > MAX_SOURCES:
            self._buckets.popitem(last=False)
        return shuts_out

    def shut_out_for(self, source: str, now: float) -> float:
        """Return for how many more seconds `source` is refused; 0 for nearly everybody."""
        if not self._buckets:  # nearly always
            return 0.0
        source = _origin(source)
        bucket = self._buckets.get(source)
        if bucket is None or not bucket[2]:
            return 0.0
        level, then, _ = bucket
        rest = level / LEAK - (now - then)
        if rest <= 0:
            del self._buckets[source]
            return 0.0
        return rest


def _origin(source: str) -> str:
    return source.rpartition(":")[0] if source.startswith("coap") else source
