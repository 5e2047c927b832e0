"""Which names a CA may give: makers' prefixes, and how a CA certificate lists them.

| name space | whose prefix                     | where it is in a name             | kind |
|------------|----------------------------------|-----------------------------------|------|
| FLAG       | maker's FLAG id, e.g. TRL        | first 3 bytes of a system title   | 1    |
| OUI        | maker's OUI, e.g. 02-54-52       | first 3 bytes of an EUI-64        | 2    |
| WMI        | maker's world code, e.g. TRL     | first 3 characters of a PCID      | 3    |

A CA certificate lists a prefix as the policy `POLICY_ARC.0.<kind>.<its 3 bytes as a number>`. Labels are
`POLICY_ARC.<number>` with numbers from 1, so neither is ever taken for the other. Every prefix is three
bytes, and a number below 2^24 is exactly one of them. Longer assignments of IEEE (MA-M, MA-S) are not told
apart: their makers share the OUI.

Names that no maker gives (contracts, stations, services) have no name space and no prefix.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from protocol.profiles.declaration import POLICY_ARC
from protocol.profiles.naming import Naming

PREFIX_BYTES: Final = 3
_HYPHENED: Final = re.compile(r"[0-9A-F]{2}(-[0-9A-F]{2}){2}")


class NameSpace(IntEnum):
    """Who hands out the beginnings of names; the number is the kind in a policy OID, never reused."""

    FLAG = 1
    OUI = 2
    WMI = 3

    @property
    def title(self) -> str:
        """What people call a prefix of it."""
        return "FLAG id" if self is NameSpace.FLAG else self.name


_TEXT: Final = {NameSpace.FLAG: re.compile(r"[A-Z]{3}"), NameSpace.WMI: re.compile(r"[0-9A-Z]{3}")}


@dataclass(frozen=True, slots=True, order=True)
class Prefix:
    """What all names of one maker begin with, in one name space."""

    space: NameSpace
    octets: bytes
    """Three bytes; of a WMI the ASCII of three upper-case letters or digits.

    Raises:
        ValueError: Of another length, or no WMI.
    """

    def __post_init__(self) -> None:
        if len(self.octets) != PREFIX_BYTES:
            raise ValueError("a maker's prefix has three bytes")
        if self.space is NameSpace.WMI and not _TEXT[NameSpace.WMI].fullmatch(self.octets.decode("latin-1")):
            raise ValueError("a WMI is three upper-case letters or digits")

    @classmethod
    def parse(cls, space: NameSpace, text: str) -> "Prefix":
        """Return the prefix that people write as `text`: TRL (FLAG id, WMI), 02-54-52 (OUI).

        Raises:
            ValueError: It is none; the message says how one looks.
        """
        written = _TEXT.get(space)
        if written is None:
            if not _HYPHENED.fullmatch(text):
                raise ValueError(f"{text!r} is no {space.title}: HH-HH-HH, upper-case hex digits")
            return cls(space, bytes.fromhex(text.replace("-", "")))
        if not written.fullmatch(text):
            kinds = "letters" if space is NameSpace.FLAG else "letters or digits"
            raise ValueError(f"{text!r} is no {space.title}: three upper-case {kinds}")
        return cls(space, text.encode())

    @property
    def policy_oid(self) -> str:
        """The dotted policy OID by which a CA certificate lists it."""
        return f"{POLICY_ARC}.0.{int(self.space)}.{int.from_bytes(self.octets, 'big')}"

    def __str__(self) -> str:
        """The prefix as `parse` reads it; one that no FLAG id is (a system title may have any) as hex."""
        written, text = _TEXT.get(self.space), self.octets.decode("latin-1")
        return text if written is not None and written.fullmatch(text) else self.octets.hex("-").upper()


_SPACES: Final[Mapping[Naming, NameSpace]] = {
    Naming.SYSTEM_TITLE: NameSpace.FLAG,
    Naming.EUI64: NameSpace.OUI,
    Naming.PCID: NameSpace.WMI,
}


def name_space(naming: Naming) -> NameSpace | None:
    """Return the name space of names of this grammar; None where they are no maker's to give."""
    return _SPACES.get(naming)


def prefix_of_name(naming: Naming, name: str) -> Prefix | None:
    """Return the prefix that `name` begins with; None where its kind has none.

    Args:
        naming: Whose grammar `name` is of; check that before.
        name: A device's.
    """
    space = name_space(naming)
    match space:
        case None:
            return None
        case NameSpace.FLAG:
            return Prefix(space, bytes.fromhex(name[:6]))
        case NameSpace.OUI:
            return Prefix(space, bytes.fromhex(name[:8].replace("-", "")))
        case NameSpace.WMI:
            return Prefix(space, name[:3].encode())


Listed = Mapping[NameSpace, frozenset[Prefix]]
"""Prefixes that are permitted, by name space. One that is not in it is not restricted; one with an empty
set permits no name at all."""


def prefixes_of_policies(policies: Iterable[str]) -> Listed:
    """Return the prefixes that a list of dotted policy OIDs has.

    Labels and foreign OIDs are none. What lists a prefix of a name space that it spells in no way known here
    restricts all the same: its name space is in the answer, so that a mistake never permits more.
    """
    found: dict[NameSpace, set[Prefix]] = {}
    for policy in policies:
        if not policy.startswith(f"{POLICY_ARC}.0."):
            continue
        kind, _, number = policy[len(POLICY_ARC) + 3 :].partition(".")
        for space in NameSpace:
            if kind == str(int(space)):
                listed = found.setdefault(space, set())
                prefix = _prefix(space, number)
                if prefix is not None:
                    listed.add(prefix)
    return {space: frozenset(listed) for space, listed in found.items()}


def _prefix(space: NameSpace, number: str) -> Prefix | None:
    if not re.fullmatch(r"0|[1-9][0-9]{0,7}", number) or int(number) >> (8 * PREFIX_BYTES):
        return None
    try:
        return Prefix(space, int(number).to_bytes(PREFIX_BYTES, "big"))
    except ValueError:
        return None


def narrowed(permitted: Listed, listed: Listed) -> Listed:
    """Return what is left of `permitted` under a CA that lists `listed`; the order does not matter."""
    return {
        space: permitted[space] & listed[space]
        if space in permitted and space in listed
        else (permitted if space in permitted else listed)[space]
        for space in sorted(permitted.keys() | listed.keys())
    }
