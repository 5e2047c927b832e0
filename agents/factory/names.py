"""How a batch's devices are called: a maker's prefix, then a serial number of five bytes."""

from typing import Final

from protocol.profiles import Naming, Profile
from protocol.profiles.prefixes import PREFIX_BYTES

MAX_SERIAL: Final = 2**40 - 1
DEFAULT_PREFIX: Final = {
    # What an authority's makers get that is made without being told another.
    # "TRL" stands where a maker's FLAG id is; an EUI-64 that nobody assigned has the local bit set.
    Naming.SYSTEM_TITLE: b"TRL",
    Naming.EUI64: b"\x02TR",
    Naming.PCID: b"TRL",
}


def device_name(profile: Profile, prefix: bytes, serial: int) -> str:
    """Return the name of the device with this serial number.

    Args:
        profile: Of the tier 1 label.
        prefix: Three bytes: a FLAG id (system title), or an OUI (EUI-64).
        serial: 0 to 2^40 - 1.

    Raises:
        ValueError: Prefix or serial number are of another size.
    """
    if len(prefix) != PREFIX_BYTES:
        raise ValueError("a maker's prefix has three bytes")
    if not 0 <= serial <= MAX_SERIAL:
        raise ValueError("a serial number is less than 2^40")
    octets = prefix + serial.to_bytes(5, "big")
    separator = "-" if profile.naming is Naming.EUI64 else ""
    return profile.naming.check(separator.join(f"{octet:02X}" for octet in octets))
