"""Names of ISO 15118: contracts (eMAID), cars (PCID), stations (SECCID) and charging points (EVSEID, CPID).

Two ways in for each: `parse` takes the one canonical spelling (upper case, no separators: what stands in
certificates and signed data), `normalise` takes what people and other systems write and returns the
canonical spelling. All are ASCII; country codes are two letters that are not looked up in ISO 3166.

| name   | canonical                                               | example             |
|--------|---------------------------------------------------------|---------------------|
| eMAID  | country 2, provider 3, instance 9, check character 0-1  | DE83DUIEN83QGZD     |
| PCID   | WMI 3, maker's own 14, check character 0-1              | TRL00000000000001   |
| SECCID | country 2, operator 3, S, controller 32-57, check 0-1   | DE8AAS0000…432      |
| EVSEID | country 2, operator 3, E, outlet 1-31                   | DEICEE45B78C        |
| CPID   | as EVSEID, with P                                       | DEICEP45B78C        |

The check character of an eMAID is verified. Those of PCID and SECCID are carried as they are: their
computation is not verified here (the eMAID's, extended to more characters, does not give the one that
the SECCID's published example has), nor can anybody tell from a SECCID alone whether it has one.

Source: ISO 15118-1 and -2 Annex H, ISO 15118-20 Annex C, VDE-AR-E 2802-100-1.
"""

import re
from dataclasses import dataclass
from typing import Final, NoReturn

from protocol.errors import ProblemKind, RequestRejected
from protocol.ev.check_character import check_character


def _refuse(text: str, what: str) -> NoReturn:
    raise RequestRejected(ProblemKind.WRONG_SUBJECT, f"{text[:80]!r} is no {what}")


_EMAID: Final = re.compile(r"([A-Z]{2})([0-9A-Z]{3})([0-9A-Z]{9})([0-9A-Z]?)")
_EMAID_WRITTEN: Final = re.compile(r"([A-Z]{2})(-?)([0-9A-Z]{3})\2([0-9A-Z]{9})(?:\2([0-9A-Z]))?")
_PCID: Final = re.compile(r"[0-9A-Z]{17,18}")
_SECCID: Final = re.compile(r"([A-Z]{2})([0-9A-Z]{3})S([0-9A-Z]{32,58})")
_SECCID_WRITTEN: Final = re.compile(r"([A-Z]{2})(-?)([0-9A-Z]{3})\2S\2([0-9A-Z]{32,57})(?:\2([0-9A-Z]))?")
_EVSEID: Final = re.compile(r"([A-Z]{2})([0-9A-Z]{3})([EP])([0-9A-Z]{1,31})")
_EVSEID_WRITTEN: Final = re.compile(r"([A-Z]{2})\*?([0-9A-Z]{3})\*?([EP])([0-9A-Z](?:\*?[0-9A-Z])*)")


def _upper(text: str) -> str:
    """Return ASCII `text` in upper case; anything else as it is, for the grammar to refuse."""
    return text.upper() if text.isascii() else text


@dataclass(frozen=True, slots=True)
class Emaid:
    """A contract's identifier, 14 characters, 15 with the check character."""

    country: str
    provider: str
    instance: str
    check: str
    """Check character, or nothing."""

    @classmethod
    def parse(cls, text: str, *, verify: bool = True) -> "Emaid":
        """Return the eMAID that `text` is.

        Args:
            text: The canonical spelling.
            verify: Refuse a wrong check character. There are contracts in use (and test certificates of
                peers) that have one nobody computed; whoever has to live with them says False.

        Raises:
            RequestRejected: It is none; WRONG_SUBJECT.
        """
        if (found := _EMAID.fullmatch(text)) is None:
            _refuse(text, "eMAID (two letters, then 12 or 13 capitals and digits)")
        name = cls(*found.groups())
        if verify and name.check not in ("", name.computed_check):
            _refuse(text, "eMAID: its check character is wrong")
        return name

    @classmethod
    def normalise(cls, text: str, *, verify: bool = True) -> str:
        """Return the canonical spelling of `text`: any case, hyphens between all parts or none.

        Raises:
            RequestRejected: It is no eMAID; WRONG_SUBJECT.
        """
        if (found := _EMAID_WRITTEN.fullmatch(_upper(text))) is None:
            _refuse(text, "eMAID (like DE-83D-UIEN83QGZ-D)")
        country, _, provider, instance, check = found.groups("")
        return str(cls.parse(country + provider + instance + check, verify=verify))

    @property
    def computed_check(self) -> str:
        """The check character that belongs to the other 14."""
        return check_character(self.country + self.provider + self.instance)

    def __str__(self) -> str:
        return self.country + self.provider + self.instance + self.check


@dataclass(frozen=True, slots=True)
class Pcid:
    """A car's provisioning identifier, 17 or 18 characters; ISO 15118-20 binds keys to those of 18 only."""

    text: str

    @classmethod
    def parse(cls, text: str) -> "Pcid":
        """Return the PCID that `text` is, or raise RequestRejected (WRONG_SUBJECT)."""
        if not _PCID.fullmatch(text):
            _refuse(text, "PCID (17 or 18 capitals and digits)")
        return cls(text)

    @classmethod
    def normalise(cls, text: str) -> str:
        """Return the canonical spelling of `text` (any case), or raise RequestRejected (WRONG_SUBJECT)."""
        return str(cls.parse(_upper(text)))

    @property
    def wmi(self) -> str:
        """World manufacturer identifier, three characters (ISO 3780)."""
        return self.text[:3]

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Seccid:
    """A station's communication controller (part 20), 38 to 64 characters."""

    country: str
    operator: str
    controller: str
    """Controller identifier, and the check character if there is one: nothing tells them apart."""

    @classmethod
    def parse(cls, text: str) -> "Seccid":
        """Return the SECCID that `text` is, or raise RequestRejected (WRONG_SUBJECT)."""
        if (found := _SECCID.fullmatch(text)) is None:
            _refuse(text, "SECCID (two letters, three of the operator, S, then 32 to 58 capitals and digits)")
        return cls(*found.groups())

    @classmethod
    def normalise(cls, text: str) -> str:
        """Return the canonical spelling of `text`: any case, hyphens between all parts or none.

        Raises:
            RequestRejected: It is no SECCID; WRONG_SUBJECT.
        """
        if (found := _SECCID_WRITTEN.fullmatch(_upper(text))) is None:
            _refuse(text, "SECCID (like DE-8AA-S-…)")
        country, _, operator, controller, check = found.groups("")
        return str(cls.parse(f"{country}{operator}S{controller}{check}"))

    def __str__(self) -> str:
        return f"{self.country}{self.operator}S{self.controller}"


@dataclass(frozen=True, slots=True)
class Evseid:
    """A charging point (E) or what several hang on (P, the CPID of a station's certificate), 7 to 37."""

    country: str
    operator: str
    kind: str
    """E or P."""
    outlet: str

    @classmethod
    def parse(cls, text: str) -> "Evseid":
        """Return the EVSEID or CPID that `text` is, or raise RequestRejected (WRONG_SUBJECT)."""
        if (found := _EVSEID.fullmatch(text)) is None:
            _refuse(text, "EVSEID (two letters, three of the operator, E or P, 1 to 31 capitals and digits)")
        return cls(*found.groups())

    @classmethod
    def normalise(cls, text: str) -> str:
        """Return the canonical spelling of `text`: any case, stars after any part and inside the outlet.

        Stars separate for the eye only, so names that differ in them alone become the same.

        Raises:
            RequestRejected: It is no EVSEID; WRONG_SUBJECT.
        """
        if (found := _EVSEID_WRITTEN.fullmatch(_upper(text))) is None:
            _refuse(text, "EVSEID (like DE*ICE*E45B*78C)")
        return str(cls.parse("".join(found.groups()).replace("*", "")))

    def __str__(self) -> str:
        return f"{self.country}{self.operator}{self.kind}{self.outlet}"
