"""Values of the extensions that hold names (RFC 5280 §4.2.1.1, .6, .8, .10)."""

from typing import Any, Final, NamedTuple

from protocol.c509 import der
from protocol.c509.checks import array, byte_string, ia5, malformed, members, pairs, positive_magnitude
from protocol.c509.codec import Codec, read
from protocol.c509.general_names import (
    GeneralName,
    general_name_der,
    general_name_from_der,
    general_name_items,
    general_names,
    general_names_der,
    general_names_from_der,
)
from protocol.c509.name import attribute_from_der, attribute_from_item, oid_der, text_item, value_der


class AuthorityKeyIdentifier(NamedTuple):
    """The authority key identifier where it holds more than the key identifier."""

    key_identifier: bytes
    issuer: tuple[GeneralName, ...]
    serial: bytes


class NameConstraints(NamedTuple):
    """Permitted and excluded subtrees; IP addresses end with one octet of prefix length."""

    permitted: tuple[GeneralName, ...] | None
    excluded: tuple[GeneralName, ...] | None


def _alt_name(item: Any, native: bool) -> tuple[GeneralName, ...]:  # noqa: ANN401
    if type(item) is str:
        return (GeneralName(2, ia5(item)),)
    names = general_names(item, native=native)
    if len(names) == 1 and names[0].type == 2:
        malformed("a lone DNS name is written without its array")
    return names


def _alt_name_item(names: tuple[GeneralName, ...]) -> object:
    return names[0].value if len(names) == 1 and names[0].type == 2 else general_name_items(names)


def _authority(item: Any, native: bool) -> bytes | AuthorityKeyIdentifier:  # noqa: ANN401
    if type(item) is bytes:
        return item
    identifier, issuer, serial = members(item, 3, "an authority key identifier with its issuer")
    names = general_names(issuer, native=native)
    return AuthorityKeyIdentifier(byte_string(identifier), names, positive_magnitude(serial))


def _authority_item(value: bytes | AuthorityKeyIdentifier) -> object:
    if isinstance(value, bytes):
        return value
    return (value.key_identifier, general_name_items(value.issuer), value.serial)


def _authority_der(value: bytes | AuthorityKeyIdentifier) -> bytes:
    if isinstance(value, bytes):
        return der.sequence(der.tlv(0x80, value))
    issuer = der.tlv(0xA1, general_names_der(value.issuer))
    return der.sequence(der.tlv(0x80, value.key_identifier), issuer, der.unsigned(value.serial, 0x82))


def _authority_from_der(data: bytes) -> bytes | AuthorityKeyIdentifier:
    reader = read(data, der.SEQUENCE)
    identifier = reader.take(0x80)
    if not reader.more:
        return identifier
    issuer = general_names_from_der(reader.take(0xA1))
    return AuthorityKeyIdentifier(identifier, issuer, der.read_unsigned(reader.take(0x82)))


DirectoryAttribute = tuple[int | bytes, tuple[str | bytes, ...]]
"""Attribute type and values, as in `Name.attributes` but with several values."""


def _directory(item: Any, native: bool) -> tuple[DirectoryAttribute, ...]:  # noqa: ANN401
    found: list[DirectoryAttribute] = []
    for kind, values in pairs(item, 1):
        checked = [attribute_from_item(kind, value, native=native)[1] for value in array(values, 1)]
        found.append((kind, tuple(checked)))
    return tuple(found)


def _directory_item(attributes: tuple[DirectoryAttribute, ...]) -> object:
    return [
        part
        for kind, values in attributes
        for part in (kind, [text_item(value) if isinstance(kind, int) else value for value in values])
    ]


def _directory_der(attributes: tuple[DirectoryAttribute, ...]) -> bytes:
    return der.sequence(
        *(
            der.sequence(
                oid_der(kind), der.tlv(der.SET, b"".join(value_der(kind, value) for value in values))
            )
            for kind, values in attributes
        )
    )


def _directory_from_der(data: bytes) -> tuple[DirectoryAttribute, ...]:
    reader = read(data, der.SEQUENCE)
    found: list[DirectoryAttribute] = []
    while reader.more:
        attribute = reader.inner(der.SEQUENCE)
        identifier = attribute.take(der.OID)
        listed = attribute.inner(der.SET)
        values: list[tuple[int | bytes, str | bytes]] = []
        raw: list[bytes] = []
        while listed.more:
            raw.append(listed.raw())
            values.append(attribute_from_der(identifier, raw[-1]))
        kinds = {kind for kind, _ in values}
        if len(kinds) == 1:
            found.append((values[0][0], tuple(value for _, value in values)))
        else:
            found.append((identifier, tuple(raw)))
    return tuple(found)


def _subtrees(item: Any, native: bool) -> tuple[GeneralName, ...] | None:  # noqa: ANN401
    return None if item is None else general_names(item, native=native, constraint=True)


def _name_constraints(item: Any, native: bool) -> NameConstraints:  # noqa: ANN401
    permitted, excluded = members(item, 2, "name constraints")
    return NameConstraints(_subtrees(permitted, native), _subtrees(excluded, native))


def _name_constraints_der(value: NameConstraints) -> bytes:
    parts = b""
    for tag, names in zip((0xA0, 0xA1), value, strict=True):
        if names is not None:
            parts += der.tlv(tag, b"".join(der.sequence(general_name_der(n, constraint=True)) for n in names))
    return der.sequence(parts)


def _name_constraints_from_der(data: bytes) -> NameConstraints:
    reader = read(data, der.SEQUENCE)
    found: list[tuple[GeneralName, ...] | None] = []
    for tag in (0xA0, 0xA1):
        names: list[GeneralName] | None = None
        if reader.peek() == tag:
            subtrees = reader.inner(tag)
            names = []
            while subtrees.more:
                names.append(general_name_from_der(subtrees.inner(der.SEQUENCE), constraint=True))
        found.append(None if names is None else tuple(names))
    return NameConstraints(found[0], found[1])


ALT_NAME_CODEC: Final = Codec(
    _alt_name,
    _alt_name_item,
    lambda names: der.tlv(der.SEQUENCE, general_names_der(names)),
    lambda data: general_names_from_der(der.whole(data, der.SEQUENCE)),
)
AUTHORITY_CODEC: Final = Codec(_authority, _authority_item, _authority_der, _authority_from_der)
DIRECTORY_CODEC: Final = Codec(_directory, _directory_item, _directory_der, _directory_from_der)
NAME_CONSTRAINTS_CODEC: Final = Codec(
    _name_constraints,
    lambda value: [None if names is None else general_name_items(names) for names in value],
    _name_constraints_der,
    _name_constraints_from_der,
)
