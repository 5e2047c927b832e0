"""System titles: the 8 octets by which DLMS/COSEM names every meter and every client of one."""

from dataclasses import dataclass
from typing import Final

from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.profiles.naming import Naming

TITLE_BYTES: Final = 8


@dataclass(frozen=True, slots=True, order=True)
class SystemTitle:
    """A system title.

    Args:
        octets: Exactly 8.

    Raises:
        MalformedMessage: It has another length.
    """

    octets: bytes

    def __post_init__(self) -> None:
        if len(self.octets) != TITLE_BYTES:
            raise MalformedMessage(f"a system title has {TITLE_BYTES} octets, not {len(self.octets)}")

    @classmethod
    def of_name(cls, name: str) -> "SystemTitle":
        """Return the title that a certificate's subject `name` says: 16 upper-case hex digits.

        Raises:
            RequestRejected: WRONG_SUBJECT: another grammar.
        """
        return cls(bytes.fromhex(Naming.SYSTEM_TITLE.check(name)))

    @classmethod
    def of_maker(cls, flag_id: str, number: int) -> "SystemTitle":
        """Return the title of a maker's device.

        Args:
            flag_id: Three upper-case letters, as the FLAG association gave them to the maker.
            number: Serial number of the device, at least 0 and below 2^40.

        Raises:
            RequestRejected: WRONG_SUBJECT: no such FLAG id or number.
        """
        is_flag = len(flag_id) == 3 and flag_id.isascii() and flag_id.isalpha() and flag_id.isupper()
        if not is_flag or not 0 <= number < 1 << 40:
            raise RequestRejected(ProblemKind.WRONG_SUBJECT, "a title is a FLAG id and a number of 5 octets")
        return cls(flag_id.encode() + number.to_bytes(5, "big"))

    @property
    def name(self) -> str:
        """As certificates write it."""
        return self.octets.hex().upper()

    @property
    def flag_id(self) -> str | None:
        """The maker's FLAG id; None where the title does not begin with one (an EUI-64)."""
        flag_id = self.octets[:3]
        return flag_id.decode() if flag_id.isalpha() and flag_id.isupper() else None

    def __str__(self) -> str:
        return self.name
