"""Readings that look like a meter's and a vehicle gateway's: made up, and the same for the same seed.

Bodies are CBOR maps with small integer keys, as a constrained device would send them.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Final

from protocol import cbor

QUARTER: Final = 900
"""Seconds between two readings of a meter (a load profile's usual period)."""
_DAY: Final = 24 * 3600


def _noise(seed: bytes, index: int, what: str) -> float:
    """Return a number, >= 0 and < 1, that is always the same for the same arguments."""
    digest = hashlib.sha256(seed + index.to_bytes(8, "big") + what.encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


@dataclass(frozen=True, slots=True)
class MeterReadings:
    """A household's load profile: {1: register in Wh, 2: mean power in W, 3: voltage in dV}."""

    seed: bytes
    """Any bytes: the device's name, say."""

    def body(self, index: int) -> bytes:
        """Return the reading of the quarter-hour `index`, counted from any midnight."""
        power = self.power(index)
        register = round(self._mean() * index * QUARTER / 3600 + power * QUARTER / 3600)
        voltage = 2300 + round(60 * (_noise(self.seed, index, "voltage") - 0.5))
        return cbor.encode({1: register, 2: power, 3: voltage})

    def power(self, index: int) -> int:
        """Return the mean power of a quarter-hour in W: a base load, an evening, and what is switched on."""
        hour = index * QUARTER % _DAY / 3600
        evening = math.exp(-(((hour - 19.5) / 2.5) ** 2))
        switched = 2000 * max(0.0, _noise(self.seed, index, "load") - 0.8)
        return round(self._mean() * (0.6 + 1.2 * evening) + switched)

    def _mean(self) -> float:
        return 150 + 500 * _noise(self.seed, 0, "household")


@dataclass(frozen=True, slots=True)
class GatewayReadings:
    """A vehicle on a road: {1: odometer in m, 2: speed in cm/s, 3: state of charge in 0.1 %}."""

    seed: bytes
    """Any bytes: the device's name, say."""

    def body(self, index: int) -> bytes:
        """Return the reading of the second `index` of a drive."""
        cruise = 800 + 2500 * _noise(self.seed, 0, "road")
        speed = round(cruise * (0.8 + 0.2 * math.sin(index / 40) + 0.05 * _noise(self.seed, index, "speed")))
        start = 10_000_000 * _noise(self.seed, 0, "odometer")
        odometer = round(start + cruise * 0.8 * index / 100)
        charge = max(50, round(900 - index / 12))
        return cbor.encode({1: odometer, 2: speed, 3: charge})
