"""The symmetric keys of one meter: their kinds, the set of one generation, and the key wrap (RFC 3394)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from cryptography.hazmat.primitives import constant_time
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from protocol.errors import ProblemKind, RequestRejected
from protocol.metering.suite import Suite

WRAP_BYTES: Final = 8
"""What the key wrap adds to a key (RFC 3394 §2.2.1)."""
MAX_GENERATION: Final = 2**32 - 1


class KeyKind(IntEnum):
    """What a key is for; the numbers are key_id of the security setup object (class 64, version 1)."""

    UNICAST = 0
    """Global unicast encryption key: AES-GCM between one client and one meter."""
    BROADCAST = 1
    """Global broadcast encryption key: one for a group of meters, so it is transferred, never agreed on."""
    AUTHENTICATION = 2
    """Global authentication key: part of the additional data of AES-GCM."""
    MASTER = 3
    """Master key, or key encrypting key: it wraps the others."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one generation. They are used together, and never in another generation."""

    generation: int
    """0 from the factory; every rollover has a number of its own, which only goes up."""
    keys: Mapping[KeyKind, bytes] = field(repr=False)
    """Each 16 octets (suite 1) or 32 (suite 2)."""

    def has_key_of(self, other: "KeySet") -> bool:
        """Return whether any key is in both sets, whatever it is for there."""
        pairs = [(a, b) for a in self.keys.values() for b in other.keys.values()]
        return any([constant_time.bytes_eq(a, b) for a, b in pairs])  # noqa: C419 (all of them: no early end)

    @property
    def has_twins(self) -> bool:
        """Whether one key serves for two kinds."""
        return len(set(self.keys.values())) < len(self.keys)


def wrap_key(suite: Suite, master_key: bytes, key: bytes) -> bytes:
    """Return `key` wrapped: 24 or 40 octets.

    Raises:
        ValueError: A key of another length than the suite's.

    Source:
        RFC 3394 §2.2.1; key_transfer of the security setup object.
    """
    if len(master_key) != suite.key_bytes or len(key) != suite.key_bytes:
        raise ValueError(f"keys of suite {suite.number} have {suite.key_bytes} octets")
    return aes_key_wrap(master_key, key)


def unwrap_key(suite: Suite, master_key: bytes, wrapped: bytes) -> bytes:
    """Return the key in `wrapped`.

    Raises:
        RequestRejected: BAD_KEY: of another length, changed, or wrapped with another master key.
        ValueError: The master key has another length than the suite's.
    """
    if len(master_key) != suite.key_bytes:
        raise ValueError(f"keys of suite {suite.number} have {suite.key_bytes} octets")
    if len(wrapped) == suite.key_bytes + WRAP_BYTES:
        try:
            return aes_key_unwrap(master_key, wrapped)
        except InvalidUnwrap:
            pass
    raise RequestRejected(ProblemKind.BAD_KEY, "not a key wrapped with this master key")
