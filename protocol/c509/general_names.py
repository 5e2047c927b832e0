"""General names (RFC 5280 §4.2.1.6) in C509 and in DER."""

from typing import Any, Final, NamedTuple

from protocol.c509 import der
from protocol.c509.checks import byte_string, ia5, malformed, members, oid, pairs
from protocol.c509.name import Name
from protocol.c509.registry import OTHER_NAMES

_IA5_KINDS: Final = frozenset({1, 2, 6})
_IP: Final = 7


class GeneralName(NamedTuple):
    """One general name.

    Attributes:
        type: A `GeneralNameType`.
        value: str for EMAIL, DNS, URI and SMTP_UTF8_MAILBOX; `Name` for DIRECTORY_NAME; bytes for
            IP_ADDRESS (4 or 16; in name constraints one more, the prefix length), MAC_ADDRESS (6 or 8)
            and REGISTERED_ID (the identifier's octets); (octets of an object identifier, bytes) for
            HARDWARE_MODULE_NAME (serial number) and OTHER_NAME (value as one DER element).
    """

    type: int
    value: "str | bytes | Name | tuple[bytes, bytes]"


def _address(item: Any, *, constraint: bool) -> bytes:  # noqa: ANN401 (checked here)
    address = byte_string(item)
    if len(address) - constraint not in (4, 16):
        malformed("IP address of the wrong length")
    if constraint and address[-1] > 8 * (len(address) - 1):
        malformed("IP prefix longer than its address")
    return address


def general_name(kind: Any, item: Any, *, native: bool, constraint: bool) -> GeneralName:  # noqa: ANN401
    """Return the general name of one (type, value) pair.

    Raises:
        MalformedMessage: Not a general name.
    """
    if type(kind) is not int:
        malformed("general name type is a number")
    if kind in _IA5_KINDS:
        return GeneralName(kind, ia5(item))
    if kind == _IP:
        return GeneralName(kind, _address(item, constraint=constraint))
    if kind == 4:
        return GeneralName(kind, Name.from_item(item, native=native))
    if kind == 8:
        return GeneralName(kind, oid(item))
    return GeneralName(kind, _other_name(kind, item, native=native))


def _other_name(kind: int, item: Any, *, native: bool) -> str | bytes | tuple[bytes, bytes]:  # noqa: ANN401
    if kind == -3:
        if len(byte_string(item)) not in (6, 8):
            malformed("MAC address of the wrong length")
        return byte_string(item)
    if kind == -2:
        if type(item) is not str:
            malformed("text expected")
        return item
    if kind not in (-1, 0):
        malformed(f"general name type {kind} is not registered")
    first, second = members(item, 2, "an other name")
    identifier, value = oid(first), byte_string(second)
    if kind == 0:
        if native and identifier in OTHER_NAMES.numbers:
            malformed("other name has a registered number")
        if not der.is_element(value):
            malformed("other name is not one DER element")
    return identifier, value


def general_names(item: Any, *, native: bool, constraint: bool = False) -> tuple[GeneralName, ...]:  # noqa: ANN401
    """Return the general names of a flat array of pairs, one at least.

    Raises:
        MalformedMessage: Not general names.
    """
    return tuple(general_name(*pair, native=native, constraint=constraint) for pair in pairs(item, 1))


def general_name_items(names: tuple[GeneralName, ...]) -> list[object]:
    """Return the flat array of pairs."""
    items: list[object] = []
    for kind, value in names:
        items += (kind, value.to_item() if isinstance(value, Name) else value)
    return items


def _mask(address: bytes) -> bytes:
    """Return address and mask for address and prefix length."""
    size, prefix = len(address) - 1, address[-1]
    ones = (1 << prefix) - 1 << 8 * size - prefix
    return address[:size] + ones.to_bytes(size, "big")


def _prefix(address: bytes) -> bytes:
    """Return address and prefix length for address and mask."""
    size = len(address) // 2
    prefixed = address[:size] + bytes((int.from_bytes(address[size:], "big").bit_count(),))
    if size not in (4, 16) or _mask(prefixed) != address:
        msg = "not an address and a contiguous mask"
        raise der.DerError(msg)
    return prefixed


def general_name_der(name: GeneralName, *, constraint: bool = False) -> bytes:
    """Return X.509's GeneralName."""
    kind: int = name.type
    value: Any = name.value
    if kind in _IA5_KINDS:
        return der.tlv(0x80 | kind, value.encode())
    if kind == _IP:
        return der.tlv(0x87, _mask(value) if constraint else value)
    if kind == 4:
        return der.tlv(0xA4, value.to_der())
    if kind == 8:
        return der.tlv(0x88, value)
    if kind == 0:
        identifier, element = value
    elif kind == -1:
        identifier = OTHER_NAMES.oids[kind]
        element = der.sequence(der.tlv(der.OID, value[0]), der.tlv(der.OCTET_STRING, value[1]))
    else:
        identifier = OTHER_NAMES.oids[kind]
        element = der.tlv(der.UTF8_STRING, value.encode()) if kind == -2 else der.tlv(der.OCTET_STRING, value)
    return der.tlv(0xA0, der.tlv(der.OID, identifier) + der.tlv(0xA0, element))


def general_names_der(names: tuple[GeneralName, ...]) -> bytes:
    """Return the content of X.509's GeneralNames."""
    return b"".join(map(general_name_der, names))


def _other_name_from_der(content: bytes) -> GeneralName:
    reader = der.Reader(content)
    identifier, element = reader.take(der.OID), reader.take(0xA0)
    reader.finish()
    kind = OTHER_NAMES.numbers.get(identifier, 0)
    if kind == -3:
        return GeneralName(kind, der.whole(element, der.OCTET_STRING))
    if kind == -2:
        return GeneralName(kind, der.whole(element, der.UTF8_STRING).decode())
    if kind == -1:
        module = der.Reader(der.whole(element, der.SEQUENCE))
        return GeneralName(kind, (module.take(der.OID), module.take(der.OCTET_STRING)))
    return GeneralName(kind, (identifier, element))


def general_name_from_der(reader: der.Reader, *, constraint: bool = False) -> GeneralName:
    """Return the next GeneralName.

    Raises:
        ValueError: Not one that C509 has (the caller compares what comes of it).
    """
    tag = reader.peek()
    if tag == 0xA0:
        return _other_name_from_der(reader.take(tag))
    if tag == 0xA4:
        return GeneralName(4, Name.from_der(reader.take(tag)))
    kind = tag & 0x1F
    content = reader.take(0x80 | kind)
    if kind in _IA5_KINDS:
        return GeneralName(kind, content.decode("ascii"))
    if kind == _IP:
        return GeneralName(kind, _prefix(content) if constraint else content)
    if kind == 8:
        return GeneralName(kind, content)
    msg = f"general name [{kind}] has no C509 form"
    raise der.DerError(msg)


def general_names_from_der(content: bytes) -> tuple[GeneralName, ...]:
    """Return the names in the content of X.509's GeneralNames.

    Raises:
        ValueError: As above.
    """
    reader = der.Reader(content)
    found: list[GeneralName] = []
    while reader.more:
        found.append(general_name_from_der(reader))
    return tuple(found)
