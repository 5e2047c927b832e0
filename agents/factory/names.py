"""How a batch's devices are called when they are counted: what tells whose they are, then a serial number.

| naming       | name                                                   | example                   |
|--------------|--------------------------------------------------------|---------------------------|
| SYSTEM_TITLE | maker's FLAG id, five bytes; a meter's client has the  | 54524C0000000001,         |
|              | highest bit of these set, so that no name is both's    | 54524C8000000001          |
| EUI64        | maker's OUI, five bytes                                | 02-54-52-00-00-00-00-01   |
| PCID         | maker's WMI, 14 digits, then 0                         | TRL000000000000010        |
| SECCID       | operator, P, 10 digits (ISO 15118-2: a CPID);          | DETRLP0000000001          |
|              | operator, S, 32 digits (ISO 15118-20)                  | DETRLS000…0001            |
| SERVICE      | cps-, number                                           | cps-1                     |

The last character of a PCID is a check character whose computation is not verified here
(`protocol.ev.names`): counted names have 0 there. A maker that has its own PCIDs, with theirs, gives them in
a CSV file.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

from protocol.labels import Domain, Tier
from protocol.profiles import PROFILES, Naming, Profile, name_space
from protocol.profiles.prefixes import PREFIX_BYTES

MAX_SERIAL: Final = 2**40 - 1
"""Of a name that has five bytes for it."""
SECOND: Final = 2**39
"""Added to the serial numbers of a domain's second kind of devices, where both are named alike."""
DEFAULT_PREFIX: Final = {
    # What an authority's makers get that is made without being told another.
    # "TRL" stands where a maker's FLAG id is; an EUI-64 that nobody assigned has the local bit set.
    Naming.SYSTEM_TITLE: b"TRL",
    Naming.EUI64: b"\x02TR",
    Naming.PCID: b"TRL",
}
_PCID_DIGITS: Final = 14
_CPID_DIGITS: Final = 10
_SECCID_DIGITS: Final = 32
_PCID_CHECK: Final = "0"


@dataclass(frozen=True, slots=True)
class Numbering:
    """How the devices of one label are counted.

    Raises:
        ValueError: A prefix or operator of another form, or one where such names have none.
    """

    profile: Profile
    """Of the tier 1 label."""
    prefix: bytes = b""
    """Three bytes: a FLAG id, OUI or WMI; none where names are no maker's."""
    operator: str = ""
    """Country and operator of stations: two letters, then three letters or digits."""

    def __post_init__(self) -> None:
        naming = self.profile.naming
        if len(self.prefix) != (0 if name_space(naming) is None else PREFIX_BYTES):
            raise ValueError("a maker's prefix has three bytes")
        if (naming is Naming.SECCID) != bool(self.operator):
            raise ValueError(
                f"names of {self.profile.label} begin with an operator, like DETRL"
                if not self.operator
                else f"names of {self.profile.label} have no operator"
            )
        self.name(1)

    @property
    def last(self) -> int:
        """The highest serial number."""
        match self.profile.naming:
            case Naming.SYSTEM_TITLE:
                return SECOND - 1 if _is_second(self.profile) else MAX_SERIAL
            case Naming.EUI64:
                return MAX_SERIAL
            case Naming.PCID:
                return int(10**_PCID_DIGITS) - 1
            case _:
                return int(10**_CPID_DIGITS) - 1

    def name(self, serial: int) -> str:
        """Return the name of the device with this serial number.

        Raises:
            ValueError: No such serial number.
            RequestRejected: An operator of another form; WRONG_SUBJECT.
        """
        if not 0 <= serial <= self.last:
            raise ValueError(f"a serial number is 0 to {self.last}")
        match self.profile.naming:
            case Naming.SYSTEM_TITLE | Naming.EUI64 as naming:
                if _is_second(self.profile):
                    serial += SECOND
                octets = self.prefix + serial.to_bytes(5, "big")
                name = octets.hex("-").upper() if naming is Naming.EUI64 else octets.hex().upper()
            case Naming.PCID:
                name = f"{self.prefix.decode('latin-1')}{serial:0{_PCID_DIGITS}}{_PCID_CHECK}"
            case Naming.SECCID if self.profile.domain is Domain.EV20_CPO:
                name = f"{self.operator}S{serial:0{_SECCID_DIGITS}}"
            case Naming.SECCID:
                name = f"{self.operator}P{serial:0{_CPID_DIGITS}}"
            case _:
                name = f"cps-{serial}"
        return self.profile.naming.check(name)


@cache
def _is_second(profile: Profile) -> bool:
    """Whether another tier 1 label of the domain, named the same way, was declared before this one."""
    alike = (
        other.label
        for other in PROFILES.values()
        if other.tier is Tier.BOOTSTRAPPING
        and (other.domain, other.naming) == (profile.domain, profile.naming)
    )
    return next(alike) != profile.label


def device_name(profile: Profile, prefix: bytes, serial: int) -> str:
    """Return the name of the device with this serial number, as its maker counts.

    Args:
        profile: Of the tier 1 label.
        prefix: Three bytes: a FLAG id (system title), an OUI (EUI-64), or a WMI (PCID).
        serial: 0 to 2^40 - 1.

    Raises:
        ValueError: Prefix or serial number are of another size.
    """
    return Numbering(profile, prefix).name(serial)
