"""How devices are named, and how a certificate carries the name.

| naming       | example                                | source                                     |
|--------------|----------------------------------------|--------------------------------------------|
| SYSTEM_TITLE | 54524C0000000001                       | IEC 62056: 8 bytes, the first 3 a FLAG id  |
| EUI64        | 02-54-52-00-00-00-00-01                | IEEE; GB SMKI's entity identifier          |
| PCID         | TRL00000000000001                      | ISO 15118: 3 characters WMI, then a number |
| EMAID        | DETRLC000000001                        | ISO 15118: country, provider, instance     |
| SECCID       | DETRLS0000…                            | ISO 15118: country, operator, S or E or P  |
| SERVICE      | cps-1                                  | ours                                       |

All are written in one way only: upper case, no separators (EUI-64 with hyphens).
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from protocol.errors import ProblemKind, RequestRejected


class Naming(Enum):
    """How the holder of a certificate is named."""

    SYSTEM_TITLE = "system title: 16 upper-case hex digits, the first three bytes the maker's FLAG id"
    EUI64 = "EUI-64: HH-HH-HH-HH-HH-HH-HH-HH, upper-case hex digits"
    PCID = "PCID: 17 or 18 upper-case letters and digits, the first three the maker's WMI"
    EMAID = "eMAID: two letters, then 12 or 13 upper-case letters and digits, no separators"
    SECCID = "SECC identifier: two letters, three of an operator, E, P or S, then up to 58 letters and digits"
    SERVICE = "name of a service: 1 to 32 letters, digits and hyphens"

    def check(self, name: str) -> str:
        """Return `name` if it is of this grammar.

        Raises:
            RequestRejected: It is not; WRONG_SUBJECT.
        """
        if not _GRAMMAR[self].fullmatch(name):
            raise RequestRejected(ProblemKind.WRONG_SUBJECT, f"{name!r} is no {self.value}")
        return name


_GRAMMAR: Final = {
    Naming.SYSTEM_TITLE: re.compile(r"[0-9A-F]{16}"),
    Naming.EUI64: re.compile(r"[0-9A-F]{2}(-[0-9A-F]{2}){7}"),
    Naming.PCID: re.compile(r"[0-9A-Z]{17,18}"),
    Naming.EMAID: re.compile(r"[A-Z]{2}[0-9A-Z]{12,13}"),
    Naming.SECCID: re.compile(r"[A-Z]{2}[0-9A-Z]{3}[EPS][0-9A-Z]{1,58}"),
    Naming.SERVICE: re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,31}"),
}


@dataclass(frozen=True, slots=True)
class SubjectForm:
    """How a certificate's subject says the name.

    The default is a lone common name, which is the smallest.
    """

    component: str | None = None
    """Domain component (DC) that tells the role: ISO 15118 has V2G, CPO, CSO, CPS, MO, OEM."""
    has_organisation: bool = False
    """Whether O of the issuing CA is repeated."""
    has_country: bool = False
    """Whether C of the issuing CA is repeated."""
    is_alternative: bool = False
    """The subject is empty; a critical subjectAltName has one otherName HardwareModuleName (RFC 4108)
    whose hwSerialNum is the name's 8 bytes."""


LONE_COMMON_NAME: Final = SubjectForm()
