"""The values of registered extensions (draft-ietf-cose-cbor-encoded-cert §3.3): CBOR ⇄ Python ⇄ DER.

Python values are immutable and stay close to the wire; `Extension` lists them. `from_item` checks
everything that is needed for `to_der` to succeed. The DER readers may be lenient, because whoever uses
them writes the value again and compares.
"""

from typing import Any, Final

from protocol.c509 import der, ip_resources
from protocol.c509.checks import array, byte_string, malformed, registered, uint
from protocol.c509.codec import Codec, number_der, read, same, small_int
from protocol.c509.location_values import ACCESS_CODEC, POINTS_CODEC
from protocol.c509.name_values import ALT_NAME_CODEC, AUTHORITY_CODEC, DIRECTORY_CODEC, NAME_CONSTRAINTS_CODEC
from protocol.c509.policy_values import CONSTRAINTS_CODEC, MAPPINGS_CODEC, POLICIES_CODEC
from protocol.c509.registry import KEY_PURPOSES


def _plain_uint(item: Any, _native: bool) -> int:  # noqa: ANN401 (a codec's signature)
    return uint(item)


def _key_identifier(item: Any, _native: bool) -> bytes:  # noqa: ANN401
    return byte_string(item)


def _key_usage(item: Any, _native: bool) -> int:  # noqa: ANN401
    if uint(item) > 0x1FF:
        malformed("key usage has nine bits")
    return int(item)


def _basic_constraints(item: Any, _native: bool) -> int:  # noqa: ANN401
    if type(item) is not int or item < -2:
        malformed("basic constraints are -2, -1 or a path length")
    return item


def _basic_constraints_der(value: int) -> bytes:
    return der.sequence(b"" if value == -2 else der.TRUE, der.integer(value) if value >= 0 else b"")


def _basic_constraints_from_der(data: bytes) -> int:
    reader = read(data, der.SEQUENCE)
    if reader.peek() < 0:
        return -2
    reader.take(der.BOOLEAN)
    return small_int(reader.take(der.INTEGER)) if reader.more else -1


def _purposes(item: Any, native: bool) -> tuple[int | bytes, ...]:  # noqa: ANN401
    if type(item) is list:
        return tuple(registered(purpose, KEY_PURPOSES, native=native) for purpose in array(item, 2))
    return (registered(item, KEY_PURPOSES, native=native),)


def _purposes_from_der(data: bytes) -> tuple[int | bytes, ...]:
    reader = read(data, der.SEQUENCE)
    found: list[int | bytes] = []
    while reader.more:
        identifier = reader.take(der.OID)
        found.append(KEY_PURPOSES.numbers.get(identifier, identifier))
    return tuple(found)


def _null(item: Any, _native: bool) -> None:  # noqa: ANN401
    if item is not None:
        malformed("null expected")


def _null_from_der(data: bytes) -> None:
    der.whole(data, der.NULL)


def _features(item: Any, _native: bool) -> tuple[int, ...]:  # noqa: ANN401
    return tuple(map(uint, array(item)))


def _features_from_der(data: bytes) -> tuple[int, ...]:
    reader = read(data, der.SEQUENCE)
    found: list[int] = []
    while reader.more:
        found.append(small_int(reader.take(der.INTEGER)))
    return tuple(found)


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
        same,
        lambda value: der.tlv(der.OCTET_STRING, value),
        lambda data: der.whole(data, der.OCTET_STRING),
    ),
    2: Codec(
        _key_usage, same, der.named_bits, lambda data: der.read_named_bits(der.whole(data, der.BIT_STRING))
    ),
    3: ALT_NAME_CODEC,
    4: Codec(_basic_constraints, same, _basic_constraints_der, _basic_constraints_from_der),
    5: POINTS_CODEC,
    6: POLICIES_CODEC,
    7: AUTHORITY_CODEC,
    8: Codec(
        _purposes,
        lambda purposes: purposes[0] if len(purposes) == 1 else purposes,
        lambda purposes: der.sequence(*(number_der(purpose, KEY_PURPOSES) for purpose in purposes)),
        _purposes_from_der,
    ),
    9: ACCESS_CODEC,
    24: DIRECTORY_CODEC,
    25: ALT_NAME_CODEC,
    26: NAME_CONSTRAINTS_CODEC,
    27: MAPPINGS_CODEC,
    28: CONSTRAINTS_CODEC,
    29: POINTS_CODEC,
    30: Codec(_plain_uint, same, der.integer, lambda data: small_int(der.whole(data, der.INTEGER))),
    31: ACCESS_CODEC,
    32: _ADDRESSES,
    33: _AS_NUMBERS,
    34: _ADDRESSES,
    35: _AS_NUMBERS,
    36: Codec(_null, same, lambda _value: der.NULL_VALUE, _null_from_der),
    38: Codec(
        _features, same, lambda features: der.sequence(*map(der.integer, features)), _features_from_der
    ),
}
"""By extension number."""
