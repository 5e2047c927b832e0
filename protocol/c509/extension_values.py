"""The values of registered extensions (draft-ietf-cose-cbor-encoded-cert §3.3): CBOR ⇄ Python ⇄ DER.

Python values are immutable and stay close to the wire; `Extension` lists them. `from_item` checks
everything that is needed for `to_der` to succeed. The DER readers may be lenient, because whoever uses
them writes the value again and compares.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from protocol.c509 import der, ip_resources
from protocol.c509.checks import (
    array,
    byte_string,
    ia5,
    malformed,
    members,
    pairs,
    positive_magnitude,
    registered,
    uint,
)
from protocol.c509.general_names import (
    GeneralName,
    general_name_der,
    general_name_from_der,
    general_name_items,
    general_names,
    general_names_der,
    general_names_from_der,
)
from protocol.c509.name import Name, attribute_from_der, oid_der, text_item, value_der
from protocol.c509.registry import ACCESS_METHODS, KEY_PURPOSES, POLICIES, POLICY_QUALIFIERS, Table


class AuthorityKeyIdentifier(NamedTuple):
    """The authority key identifier where it holds more than the key identifier."""

    key_identifier: bytes
    issuer: tuple[GeneralName, ...]
    serial: bytes


class DistributionPoint(NamedTuple):
    """One CRL distribution point; `reasons` is a sum of 2^i over the bits of RFC 5280's ReasonFlags."""

    uris: tuple[str, ...]
    reasons: int | None = None
    crl_issuer: Name | None = None


class PolicyInformation(NamedTuple):
    """One certificate policy; qualifiers are (1, CPS URI) and (2, user notice's explicit text)."""

    policy: int | bytes
    qualifiers: tuple[tuple[int | bytes, str], ...] = ()


class NameConstraints(NamedTuple):
    """Permitted and excluded subtrees; IP addresses end with one octet of prefix length."""

    permitted: tuple[GeneralName, ...] | None
    excluded: tuple[GeneralName, ...] | None


class PolicyConstraints(NamedTuple):
    """Numbers of certificates after which a constraint holds."""

    require_explicit_policy: int | None
    inhibit_policy_mapping: int | None


@dataclass(frozen=True, slots=True)
class Codec:
    """How one kind of extension value is read and written."""

    from_item: Callable[[Any, bool], Any]
    """(CBOR item, native) to value; raises `MalformedMessage`."""
    to_item: Callable[[Any], object]
    to_der: Callable[[Any], bytes]
    from_der: Callable[[bytes], Any]
    """DER extnValue to value; raises ValueError where C509 has no specific form."""


def _read(data: bytes, tag: int) -> der.Reader:
    return der.Reader(der.whole(data, tag))


def _same(value: Any) -> object:  # noqa: ANN401
    return value


def _plain_uint(item: Any, _native: bool) -> int:  # noqa: ANN401 (a codec's signature)
    return uint(item)


def _small_int(content: bytes) -> int:
    value = int.from_bytes(der.read_unsigned(content), "big")
    if value >= 1 << 64:
        msg = "number over 64 bits"
        raise der.DerError(msg)
    return value


def _key_identifier(item: Any, _native: bool) -> bytes:  # noqa: ANN401
    return byte_string(item)


def _key_usage(item: Any, _native: bool) -> int:  # noqa: ANN401
    if uint(item) > 0x1FF:
        malformed("key usage has nine bits")
    return int(item)


def _alt_name(item: Any, native: bool) -> tuple[GeneralName, ...]:  # noqa: ANN401
    if type(item) is str:
        return (GeneralName(2, ia5(item)),)
    names = general_names(item, native=native)
    if len(names) == 1 and names[0].type == 2:
        malformed("a lone DNS name is written without its array")
    return names


def _alt_name_item(names: tuple[GeneralName, ...]) -> object:
    return names[0].value if len(names) == 1 and names[0].type == 2 else general_name_items(names)


def _basic_constraints(item: Any, _native: bool) -> int:  # noqa: ANN401
    if type(item) is not int or item < -2:
        malformed("basic constraints are -2, -1 or a path length")
    return item


def _basic_constraints_der(value: int) -> bytes:
    return der.sequence(b"" if value == -2 else der.TRUE, der.integer(value) if value >= 0 else b"")


def _basic_constraints_from_der(data: bytes) -> int:
    reader = _read(data, der.SEQUENCE)
    if reader.peek() < 0:
        return -2
    reader.take(der.BOOLEAN)
    return _small_int(reader.take(der.INTEGER)) if reader.more else -1


def _distribution_point(item: Any, native: bool) -> DistributionPoint:  # noqa: ANN401
    full, reasons, issuer = members(item, 3, "a distribution point")
    uris = (ia5(full),) if type(full) is not list else tuple(map(ia5, array(full, 2)))
    if reasons is not None and uint(reasons) > 0x1FF:
        malformed("reasons have nine bits")
    return DistributionPoint(uris, reasons, None if issuer is None else Name.from_item(issuer, native=native))


def _distribution_points(item: Any, native: bool) -> tuple[DistributionPoint, ...]:  # noqa: ANN401
    if type(item) is str:
        return (DistributionPoint((ia5(item),)),)
    points = tuple(_distribution_point(point, native) for point in array(item, 1))
    if len(points) == 1 and len(points[0].uris) == 1 and points[0][1:] == (None, None):
        malformed("a lone URI is written without its arrays")
    return points


def _distribution_points_item(points: tuple[DistributionPoint, ...]) -> object:
    items: list[object] = [
        (uris[0] if len(uris) == 1 else uris, reasons, None if issuer is None else issuer.to_item())
        for uris, reasons, issuer in points
    ]
    lone = len(points) == 1 and len(points[0].uris) == 1 and points[0][1:] == (None, None)
    return points[0].uris[0] if lone else items


def _distribution_points_der(points: tuple[DistributionPoint, ...]) -> bytes:
    found: list[bytes] = []
    for uris, reasons, issuer in points:
        names = b"".join(der.tlv(0x86, uri.encode()) for uri in uris)
        found.append(
            der.sequence(
                der.tlv(0xA0, der.tlv(0xA0, names)),
                b"" if reasons is None else der.named_bits(reasons, 0x81),
                b"" if issuer is None else der.tlv(0xA2, der.tlv(0xA4, issuer.to_der())),
            )
        )
    return der.sequence(*found)


def _distribution_points_from_der(data: bytes) -> tuple[DistributionPoint, ...]:
    reader = _read(data, der.SEQUENCE)
    points: list[DistributionPoint] = []
    while reader.more:
        point = reader.inner(der.SEQUENCE)
        names = point.inner(0xA0).inner(0xA0)
        uris: list[str] = []
        while names.more:
            uris.append(names.take(0x86).decode("ascii"))
        reasons = der.read_named_bits(point.take(0x81)) if point.peek() == 0x81 else None
        issuer = Name.from_der(point.inner(0xA2).take(0xA4)) if point.peek() == 0xA2 else None
        points.append(DistributionPoint(tuple(uris), reasons, issuer))
    return tuple(points)


def _policies(item: Any, native: bool) -> tuple[PolicyInformation, ...]:  # noqa: ANN401
    found: list[PolicyInformation] = []
    for policy, qualifiers in pairs(item, 1):
        found.append(
            PolicyInformation(
                registered(policy, POLICIES, native=native),
                tuple(_qualifier(*qualifier, native=native) for qualifier in pairs(qualifiers)),
            )
        )
    return tuple(found)


def _qualifier(kind: Any, text: Any, *, native: bool) -> tuple[int | bytes, str]:  # noqa: ANN401
    kind = registered(kind, POLICY_QUALIFIERS, native=native)
    if kind == 1:
        return kind, ia5(text)
    # X.509's type of another qualifier's text is not known here, so there is no way back to DER.
    if type(text) is not str or (type(kind) is bytes and not native):
        malformed("policy qualifier without an X.509 form")
    return kind, text


def _policies_item(policies: tuple[PolicyInformation, ...]) -> object:
    return [
        part
        for policy, qualifiers in policies
        for part in (policy, [member for qualifier in qualifiers for member in qualifier])
    ]


def _number_der(number: int | bytes, table: Table) -> bytes:
    return der.tlv(der.OID, number if isinstance(number, bytes) else table.oids[number])


def _policies_der(policies: tuple[PolicyInformation, ...]) -> bytes:
    found: list[bytes] = []
    for policy, qualifiers in policies:
        parts = [
            der.sequence(
                _number_der(kind, POLICY_QUALIFIERS),
                der.tlv(der.IA5_STRING, text.encode())
                if kind == 1
                else der.sequence(der.tlv(der.UTF8_STRING, text.encode())),
            )
            for kind, text in qualifiers
        ]
        found.append(der.sequence(_number_der(policy, POLICIES), der.sequence(*parts) if parts else b""))
    return der.sequence(*found)


def _policies_from_der(data: bytes) -> tuple[PolicyInformation, ...]:
    reader = _read(data, der.SEQUENCE)
    found: list[PolicyInformation] = []
    while reader.more:
        policy = reader.inner(der.SEQUENCE)
        identifier = policy.take(der.OID)
        qualifiers: list[tuple[int | bytes, str]] = []
        listed = policy.inner(der.SEQUENCE) if policy.more else der.Reader(b"")
        while listed.more:
            qualifier = listed.inner(der.SEQUENCE)
            kind = POLICY_QUALIFIERS.numbers[qualifier.take(der.OID)]
            notice = qualifier.take(der.IA5_STRING) if kind == 1 else None
            if notice is None:
                notice = qualifier.inner(der.SEQUENCE).take(der.UTF8_STRING)
            qualifiers.append((kind, notice.decode()))
        found.append(PolicyInformation(POLICIES.numbers.get(identifier, identifier), tuple(qualifiers)))
    return tuple(found)


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
    reader = _read(data, der.SEQUENCE)
    identifier = reader.take(0x80)
    if not reader.more:
        return identifier
    issuer = general_names_from_der(reader.take(0xA1))
    return AuthorityKeyIdentifier(identifier, issuer, der.read_unsigned(reader.take(0x82)))


def _purposes(item: Any, native: bool) -> tuple[int | bytes, ...]:  # noqa: ANN401
    if type(item) is list:
        return tuple(registered(purpose, KEY_PURPOSES, native=native) for purpose in array(item, 2))
    return (registered(item, KEY_PURPOSES, native=native),)


def _purposes_from_der(data: bytes) -> tuple[int | bytes, ...]:
    reader = _read(data, der.SEQUENCE)
    found: list[int | bytes] = []
    while reader.more:
        identifier = reader.take(der.OID)
        found.append(KEY_PURPOSES.numbers.get(identifier, identifier))
    return tuple(found)


def _access(item: Any, native: bool) -> tuple[tuple[int | bytes, str], ...]:  # noqa: ANN401
    return tuple(
        (registered(method, ACCESS_METHODS, native=native), ia5(uri)) for method, uri in pairs(item, 1)
    )


def _flat(found: tuple[tuple[object, object], ...]) -> object:
    return [member for pair in found for member in pair]


def _access_der(descriptions: tuple[tuple[int | bytes, str], ...]) -> bytes:
    return der.sequence(
        *(
            der.sequence(_number_der(method, ACCESS_METHODS), der.tlv(0x86, uri.encode()))
            for method, uri in descriptions
        )
    )


def _access_from_der(data: bytes) -> tuple[tuple[int | bytes, str], ...]:
    reader = _read(data, der.SEQUENCE)
    found: list[tuple[int | bytes, str]] = []
    while reader.more:
        description = reader.inner(der.SEQUENCE)
        method = description.take(der.OID)
        uri = description.take(0x86).decode("ascii")
        found.append((ACCESS_METHODS.numbers.get(method, method), uri))
    return tuple(found)


DirectoryAttribute = tuple[int | bytes, tuple[str | bytes, ...]]
"""Attribute type and values, as in `Name.attributes` but with several values."""


def _directory(item: Any, native: bool) -> tuple[DirectoryAttribute, ...]:  # noqa: ANN401
    found: list[DirectoryAttribute] = []
    for kind, values in pairs(item, 1):
        # A name of one attribute has the same checks; a common name stands alone without its array.
        checked = [
            Name.from_item([kind, value] if kind != 1 else value, native=native).attributes[0][1]
            for value in array(values, 1)
        ]
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
    reader = _read(data, der.SEQUENCE)
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
    reader = _read(data, der.SEQUENCE)
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


def _mappings(item: Any, native: bool) -> tuple[tuple[int | bytes, int | bytes], ...]:  # noqa: ANN401
    return tuple(
        (registered(issuer, POLICIES, native=native), registered(subject, POLICIES, native=native))
        for issuer, subject in pairs(item, 1)
    )


def _mappings_der(mappings: tuple[tuple[int | bytes, int | bytes], ...]) -> bytes:
    return der.sequence(
        *(der.sequence(*(_number_der(policy, POLICIES) for policy in mapping)) for mapping in mappings)
    )


def _mappings_from_der(data: bytes) -> tuple[tuple[int | bytes, int | bytes], ...]:
    reader = _read(data, der.SEQUENCE)
    found: list[tuple[int | bytes, int | bytes]] = []
    while reader.more:
        mapping = reader.inner(der.SEQUENCE)
        issuer, subject = mapping.take(der.OID), mapping.take(der.OID)
        found.append((POLICIES.numbers.get(issuer, issuer), POLICIES.numbers.get(subject, subject)))
    return tuple(found)


def _policy_constraints(item: Any, _native: bool) -> PolicyConstraints:  # noqa: ANN401
    skips = members(item, 2, "policy constraints")
    return PolicyConstraints(*(None if skip is None else uint(skip) for skip in skips))


def _policy_constraints_der(value: PolicyConstraints) -> bytes:
    return der.sequence(
        *(der.integer(skip, 0x80 | at) for at, skip in enumerate(value) if skip is not None),
    )


def _policy_constraints_from_der(data: bytes) -> PolicyConstraints:
    reader = _read(data, der.SEQUENCE)
    return PolicyConstraints(
        *(_small_int(reader.take(tag)) if reader.peek() == tag else None for tag in (0x80, 0x81))
    )


def _null(item: Any, _native: bool) -> None:  # noqa: ANN401
    if item is not None:
        malformed("null expected")


def _null_from_der(data: bytes) -> None:
    der.whole(data, der.NULL)


def _features(item: Any, _native: bool) -> tuple[int, ...]:  # noqa: ANN401
    return tuple(map(uint, array(item)))


def _features_from_der(data: bytes) -> tuple[int, ...]:
    reader = _read(data, der.SEQUENCE)
    found: list[int] = []
    while reader.more:
        found.append(_small_int(reader.take(der.INTEGER)))
    return tuple(found)


_ALT_NAME: Final = Codec(
    _alt_name,
    _alt_name_item,
    lambda names: der.tlv(der.SEQUENCE, general_names_der(names)),
    lambda data: general_names_from_der(der.whole(data, der.SEQUENCE)),
)
_POINTS: Final = Codec(
    _distribution_points, _distribution_points_item, _distribution_points_der, _distribution_points_from_der
)
_ACCESS: Final = Codec(_access, _flat, _access_der, _access_from_der)
_ADDRESSES: Final = Codec(
    lambda item, _native: ip_resources.address_families(item),
    ip_resources.address_family_items,
    ip_resources.address_families_der,
    ip_resources.address_families_from_der,
)
_AS_NUMBERS: Final = Codec(
    lambda item, _native: ip_resources.as_numbers(item),
    ip_resources.as_number_items,
    ip_resources.as_numbers_der,
    ip_resources.as_numbers_from_der,
)

CODECS: Final[dict[int, Codec]] = {
    1: Codec(
        _key_identifier,
        _same,
        lambda value: der.tlv(der.OCTET_STRING, value),
        lambda data: der.whole(data, der.OCTET_STRING),
    ),
    2: Codec(
        _key_usage, _same, der.named_bits, lambda data: der.read_named_bits(der.whole(data, der.BIT_STRING))
    ),
    3: _ALT_NAME,
    4: Codec(_basic_constraints, _same, _basic_constraints_der, _basic_constraints_from_der),
    5: _POINTS,
    6: Codec(_policies, _policies_item, _policies_der, _policies_from_der),
    7: Codec(_authority, _authority_item, _authority_der, _authority_from_der),
    8: Codec(
        _purposes,
        lambda purposes: purposes[0] if len(purposes) == 1 else purposes,
        lambda purposes: der.sequence(*(_number_der(purpose, KEY_PURPOSES) for purpose in purposes)),
        _purposes_from_der,
    ),
    9: _ACCESS,
    24: Codec(_directory, _directory_item, _directory_der, _directory_from_der),
    25: _ALT_NAME,
    26: Codec(
        _name_constraints,
        lambda value: [None if names is None else general_name_items(names) for names in value],
        _name_constraints_der,
        _name_constraints_from_der,
    ),
    27: Codec(_mappings, _flat, _mappings_der, _mappings_from_der),
    28: Codec(_policy_constraints, _same, _policy_constraints_der, _policy_constraints_from_der),
    29: _POINTS,
    30: Codec(_plain_uint, _same, der.integer, lambda data: _small_int(der.whole(data, der.INTEGER))),
    31: _ACCESS,
    32: _ADDRESSES,
    33: _AS_NUMBERS,
    34: _ADDRESSES,
    35: _AS_NUMBERS,
    36: Codec(_null, _same, lambda _value: der.NULL_VALUE, _null_from_der),
    38: Codec(
        _features, _same, lambda features: der.sequence(*map(der.integer, features)), _features_from_der
    ),
}
"""By extension number."""
