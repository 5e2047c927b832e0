"""A bounded dictionary whose entries age: what the CoAP side remembers about strangers."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Shelf(Generic[K, V]):
    """At most `size` entries, each for `lifetime` seconds after it was last put.

    A full shelf loses its oldest entry: an attacker who fills it costs others a repeat, not us memory.

    Args:
        size: Most entries, >= 1.
        lifetime: Seconds, on `clock`.
        clock: Never goes back.
    """

    def __init__(self, size: int, lifetime: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._lifetime = lifetime
        self._clock = clock
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: K, value: V) -> None:
        """Remember `value`, as the newest entry."""
        now = self._clock()
        entries = self._entries
        entries[key] = (now + self._lifetime, value)
        entries.move_to_end(key)
        while len(entries) > self._size or next(iter(entries.values()))[0] <= now:
            entries.popitem(last=False)

    def get(self, key: K) -> V | None:
        """Return what was put under `key`, if it is still there; its age does not change."""
        entry = self._entries.get(key)
        if entry is None or entry[0] <= self._clock():
            return None
        return entry[1]

    def pop(self, key: K) -> None:
        """Forget `key`, if it is there."""
        self._entries.pop(key, None)
