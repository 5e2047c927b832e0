"""IP address and AS number delegations (RFC 3779, RFC 8360)."""

from typing import Any, Final, NamedTuple

from protocol.c509 import der
from protocol.c509.checks import array, byte_string, malformed, members, uint

_INT_OCTETS: Final = 8
"""Longest unusedBits‖value that is written as a number."""

Bits = bytes
"""A BIT STRING as DER has it: the number of unused bits in one octet, then the bits."""


class AddressFamily(NamedTuple):
    """The addresses of one family.

    Attributes:
        afi: Address family (1 IPv4, 2 IPv6).
        safi: Subsequent address family, or None.
        addresses: None to inherit from the issuer; else prefixes, and (least, greatest) for ranges.
    """

    afi: int
    safi: int | None
    addresses: tuple[Bits | tuple[Bits, Bits], ...] | None


def _number(bits: Bits) -> int:
    return int.from_bytes(bytes((bits[0] + 1,)) + bits[1:], "big")


def _bits(number: int) -> Bits:
    if not 0 < number < 1 << 8 * _INT_OCTETS:
        malformed("no address is encoded by this number")
    octets = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return _checked(bytes((octets[0] - 1,)) + octets[1:])


def _checked(item: Any) -> Bits:  # noqa: ANN401 (checked here)
    bits = byte_string(item)
    if not 1 <= len(bits) <= 17 or bits[0] > 7:
        malformed("not an address prefix")
    if bits[0] and (len(bits) == 1 or bits[-1] & (1 << bits[0]) - 1):
        malformed("unused bits of an address are zero")
    return bits


def _numbered(items: list[Any]) -> tuple[Bits | tuple[Bits, Bits], ...]:
    """Undo the differences: each number after the first is relative to the one before it."""
    found: list[Bits | tuple[Bits, Bits]] = []
    last = 0
    for item in items:
        ends: list[Bits] = []
        for step in [item] if type(item) is int else members(item, 2, "a range"):
            if type(step) is not int:
                malformed("difference of addresses expected")
            last += step
            ends.append(_bits(last))
        found.append(ends[0] if len(ends) == 1 else (ends[0], ends[1]))
    return tuple(found)


def _spelled_out(items: list[Any]) -> tuple[Bits | tuple[Bits, Bits], ...]:
    found: list[Bits | tuple[Bits, Bits]] = []
    for item in items:
        if type(item) is list:
            least, greatest = members(item, 2, "a range")
            found.append((_checked(least), _checked(greatest)))
        else:
            found.append(_checked(item))
    if not _is_long(tuple(found)):
        malformed("short addresses are written as numbers")
    return tuple(found)


def _is_long(addresses: tuple[Bits | tuple[Bits, Bits], ...]) -> bool:
    return any(
        len(end) > _INT_OCTETS
        for entry in addresses
        for end in (entry if isinstance(entry, tuple) else (entry,))
    )


def address_families(item: Any) -> tuple[AddressFamily, ...]:  # noqa: ANN401 (checked here)
    """Return the families of a flat array of (AFI, SAFI or null, addresses or null).

    Raises:
        MalformedMessage: Not that.
    """
    flat = array(item, 3)
    if len(flat) % 3:
        malformed("triples expected")
    return tuple(_family(*flat[at : at + 3]) for at in range(0, len(flat), 3))


def _family(afi: Any, safi: Any, item: Any) -> AddressFamily:  # noqa: ANN401 (checked here)
    if uint(afi) > 0xFFFF or (safi is not None and uint(safi) > 0xFF):
        malformed("address family out of range")
    if item is None:
        return AddressFamily(afi, safi, None)
    entries = array(item, 1)
    first = members(entries[0], 2, "a range")[0] if type(entries[0]) is list else entries[0]
    return AddressFamily(afi, safi, _numbered(entries) if type(first) is int else _spelled_out(entries))


def address_family_items(families: tuple[AddressFamily, ...]) -> list[object]:
    """Return the flat array of triples."""
    items: list[object] = []
    for afi, safi, addresses in families:
        items += (afi, safi, None if addresses is None else _address_items(addresses))
    return items


def _address_items(addresses: tuple[Bits | tuple[Bits, Bits], ...]) -> list[object]:
    if _is_long(addresses):
        return list(addresses)
    items: list[object] = []
    last = 0
    for entry in addresses:
        steps: list[int] = []
        for end in entry if isinstance(entry, tuple) else (entry,):
            number = _number(end)
            steps.append(number - last)
            last = number
        items.append(steps if isinstance(entry, tuple) else steps[0])
    return items


def address_families_der(families: tuple[AddressFamily, ...]) -> bytes:
    """Return X.509's IPAddrBlocks."""
    found: list[bytes] = []
    for afi, safi, addresses in families:
        octets = afi.to_bytes(2, "big") + (b"" if safi is None else bytes((safi,)))
        choice = der.NULL_VALUE if addresses is None else der.sequence(*map(_entry_der, addresses))
        found.append(der.sequence(der.tlv(der.OCTET_STRING, octets), choice))
    return der.sequence(*found)


def _entry_der(entry: Bits | tuple[Bits, Bits]) -> bytes:
    if isinstance(entry, tuple):
        return der.sequence(*(der.tlv(der.BIT_STRING, end) for end in entry))
    return der.tlv(der.BIT_STRING, entry)


def address_families_from_der(data: bytes) -> tuple[AddressFamily, ...]:
    """Return the families of X.509's IPAddrBlocks.

    Raises:
        ValueError: Not that (the caller compares what comes of it).
    """
    reader = der.Reader(der.whole(data, der.SEQUENCE))
    families: list[AddressFamily] = []
    while reader.more:
        family = reader.inner(der.SEQUENCE)
        octets = family.take(der.OCTET_STRING)
        if not 2 <= len(octets) <= 3:
            msg = "address family is two or three octets"
            raise der.DerError(msg)
        addresses: tuple[Bits | tuple[Bits, Bits], ...] | None = None
        if family.peek() != der.NULL:
            addresses = tuple(_entries(family.inner(der.SEQUENCE)))
        safi = octets[2] if len(octets) == 3 else None
        families.append(AddressFamily(int.from_bytes(octets[:2], "big"), safi, addresses))
    return tuple(families)


def _entries(reader: der.Reader) -> list[Bits | tuple[Bits, Bits]]:
    entries: list[Bits | tuple[Bits, Bits]] = []
    while reader.more:
        if reader.peek() == der.SEQUENCE:
            ends = reader.inner(der.SEQUENCE)
            entries.append((ends.take(der.BIT_STRING), ends.take(der.BIT_STRING)))
        else:
            entries.append(reader.take(der.BIT_STRING))
    return entries


AsNumbers = tuple[int | tuple[int, int], ...] | None
"""AS numbers and (least, greatest) for ranges; None to inherit from the issuer."""


def as_numbers(item: Any) -> AsNumbers:  # noqa: ANN401 (checked here)
    """Return the AS numbers of an array of differences, or null.

    Raises:
        MalformedMessage: Not that.
    """
    if item is None:
        return None
    found: list[int | tuple[int, int]] = []
    last = 0
    for entry in array(item, 1):
        if type(entry) is list:
            start, size = members(entry, 2, "a range")
            least = last + uint(start)
            last = least + uint(size)
            found.append((least, last))
        else:
            last += uint(entry)
            found.append(last)
    if last > 0xFFFFFFFF:
        malformed("AS number out of range")
    return tuple(found)


def as_number_items(numbers: AsNumbers) -> list[object] | None:
    """Return the array of differences, or null."""
    if numbers is None:
        return None
    items: list[object] = []
    last = 0
    for entry in numbers:
        if isinstance(entry, tuple):
            items.append((entry[0] - last, entry[1] - entry[0]))
            last = entry[1]
        else:
            items.append(entry - last)
            last = entry
    return items


def as_numbers_der(numbers: AsNumbers) -> bytes:
    """Return X.509's ASIdentifiers."""
    if numbers is None:
        choice = der.NULL_VALUE
    else:
        choice = der.sequence(
            *(
                der.sequence(*map(der.integer, entry)) if isinstance(entry, tuple) else der.integer(entry)
                for entry in numbers
            )
        )
    return der.sequence(der.tlv(0xA0, choice))


def as_numbers_from_der(data: bytes) -> AsNumbers:
    """Return the AS numbers of X.509's ASIdentifiers.

    Raises:
        ValueError: Not that, or with routing domain identifiers (the caller compares what comes of it).
    """
    reader = der.Reader(der.whole(data, der.SEQUENCE))
    choice = reader.inner(0xA0)
    reader.finish()
    if choice.peek() == der.NULL:
        return None
    entries = choice.inner(der.SEQUENCE)
    found: list[int | tuple[int, int]] = []
    while entries.more:
        if entries.peek() == der.SEQUENCE:
            ends = entries.inner(der.SEQUENCE)
            found.append((_integer(ends), _integer(ends)))
        else:
            found.append(_integer(entries))
    return tuple(found)


def _integer(reader: der.Reader) -> int:
    return int.from_bytes(der.read_unsigned(reader.take(der.INTEGER)), "big")
