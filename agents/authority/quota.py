"""How much one peer may ask for: token buckets, bounded in number.

Charged after the fact: a device for what its own key had done, a source for everything else that it
delivered, forged, refused or asked for again. A recording can be played back by anybody, so it is never
charged to who signed it: nobody can use up another's quota.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

_Key = TypeVar("_Key")

MAX_SOURCES: Final = 8192
"""Buckets of sources; the least recently charged is forgotten (and so forgiven). 1 MiB or so."""
MAX_DEVICES: Final = 65536
"""Buckets of devices, likewise; 8 MiB or so."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a bucket holds, and how fast it fills."""

    burst: float
    per_second: float


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an authority does at once and for whom."""

    in_work: int = 4096
    """Requests waiting or in work, about 4 KiB each; the next is refused at once."""
    group: int = 256
    """Requests that share transactions: more saves little, and makes the first wait for the last (0.1 s)."""
    groups: int = 1
    """Groups in work at a time. One verifies on all cores; two take each other the interpreter's lock, which
    costs 15 %, unless the disk takes longer than 10 ms to flush: then one works while the other waits."""
    failures: Rate = Rate(500, 50)
    """Requests of one source that came to nothing: not authentic, or refused."""
    repeats: Rate = Rate(1000, 100)
    """Authentic requests of one source for what was done before, which cost as much as new ones: honest on a
    bad line, and a replay elsewhere. Equal bytes that are answered from memory do not count."""
    requests: Rate = Rate(60, 1 / 60)
    """Changes that one device's keys asked for; enrolling under every label takes about ten. Each certificate
    that it asks for and does not confirm stays on the revocation list until it expires, and everybody loads
    that list."""
    refusals: Rate = Rate(10, 1 / 60)
    """Signed refusals for one device; beyond, it is told to wait."""


class Buckets(Generic[_Key]):
    """Token buckets by key. Threads: any."""

    def __init__(self, rate: Rate, maximum: int) -> None:
        self._rate = rate
        self._maximum = maximum
        self._spent: OrderedDict[_Key, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, key: _Key, now: float) -> float | None:
        """Return the seconds until there is a token again, None if there is one."""
        with self._lock:
            spent = self._level(key, now)
        missing = spent + 1 - self._rate.burst
        return None if missing <= 0 else missing / self._rate.per_second

    def charge(self, key: _Key, now: float) -> None:
        """Take a token; below none it stays at none, so that waiting always ends."""
        with self._lock:
            spent = min(self._level(key, now) + 1, self._rate.burst)
            self._spent[key] = spent, now
            self._spent.move_to_end(key)
            if len(self._spent) > self._maximum:
                self._spent.popitem(last=False)

    def _level(self, key: _Key, now: float) -> float:
        spent, since = self._spent.get(key, (0.0, now))
        return max(0.0, spent - max(0.0, now - since) * self._rate.per_second)


def origin(source: str) -> str:
    """Return what of a source's name is charged: a CoAP peer's address without its port."""
    return source.rpartition(":")[0] if source.startswith("coap") else source
