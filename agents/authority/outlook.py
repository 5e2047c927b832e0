"""A forecast as values: bars of load, labels, ends of CAs, lengths of revocation lists."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from agents.authority.crl import encode_entry
from agents.authority.load import By, Stretch
from protocol.labels import Domain

EXCEPTIONAL: Final = 1.5
"""A load above this multiple of the mean is worth an announcement (metering infrastructures ask for one)."""
ENTRY_BYTES: Final = len(encode_entry(bytes([0x7F] * 8), 1_800_000_000, 4))
"""Of one certificate on a revocation list, DER, with our serial numbers."""


@dataclass(slots=True)
class LabelOutlook:
    """What is coming under one label."""

    label: str
    current: int = 0
    """Certificates in use."""
    renewals: int = 0
    """Expected within the forecast, of all generations."""
    silent: int = 0
    """Not renewed though their moment has passed: their devices are off, cut off or gone."""
    expiries: int = 0
    """Of those, and of certificates that are not renewed at all: how many end within the forecast."""
    lapsed: int = 0
    """Of those: how many have ended already."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One stretch of the time ahead."""

    stretch: Stretch
    renewals: Mapping[str, int]
    """Expected, by label; none that is 0."""
    expiries: Mapping[str, int]
    """Of certificates that nobody renewed, by label; none that is 0."""

    @property
    def load(self) -> int:
        """All renewals."""
        return sum(self.renewals.values())

    @property
    def ends(self) -> int:
        """All expiries."""
        return sum(self.expiries.values())


@dataclass(frozen=True, slots=True)
class CaEnd:
    """When one of the authority's own certificates ends."""

    name: str
    """Of its file."""
    not_after: int | None
    shortens_from: int | None
    """From when on what it issues is shorter than its profile says, because the CA ends first; None if it
    issues no end entities that are renewed."""


@dataclass(frozen=True, slots=True)
class ListOutlook:
    """One domain's revocation list."""

    domain: Domain
    entries: int
    """Certificates on it now."""
    most: int
    """Most of them within the forecast, if nobody revokes more."""

    @property
    def most_bytes(self) -> int:
        """About how long the full list is then, DER."""
        return self.most * ENTRY_BYTES + 300


@dataclass(frozen=True)
class Forecast:
    """What is coming, from `begins` (midnight UTC) on."""

    now: int
    begins: int
    days: int
    by: By
    bars: tuple[Bar, ...]
    labels: tuple[LabelOutlook, ...]
    cas: tuple[CaEnd, ...]
    """Soonest end first."""
    lists: tuple[ListOutlook, ...]

    @cached_property
    def renewals(self) -> int:
        """All that are expected."""
        return sum(bar.load for bar in self.bars)

    @property
    def daily_mean(self) -> float:
        """Renewals a day, over the whole forecast."""
        return self.renewals / self.days

    @property
    def peak(self) -> Bar | None:
        """The fullest bar; None if nothing is expected."""
        fullest = max(self.bars, key=lambda bar: bar.load)
        return fullest if fullest.load else None

    def times_mean(self, bar: Bar) -> float:
        """Return how many times the mean of a stretch as long the load of `bar` is."""
        return bar.load / (self.daily_mean * bar.stretch.days) if self.renewals else 0.0

    def is_exceptional(self, bar: Bar) -> bool:
        """Whether the load of `bar` is more than `EXCEPTIONAL` times the mean."""
        return self.times_mean(bar) > EXCEPTIONAL
