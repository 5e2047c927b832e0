"""Extensions of certificates and requests (draft-ietf-cose-cbor-encoded-cert §3.1.12, §3.3)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from protocol import cbor
from protocol.c509 import der
from protocol.c509.checks import byte_string, malformed, members, oid, pairs
from protocol.c509.extension_values import CODECS
from protocol.c509.registry import EXTENSIONS
from protocol.errors import MalformedMessage

__all__ = ["Extension", "extensions_from_der", "extensions_from_item", "extensions_item", "extensions_to_der"]

_KEY_USAGE = 2


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension.

    Attributes:
        id: An `ExtensionId`, or the octets of an object identifier.
        critical: Whether who does not know it must refuse the certificate.
        value: By `id`:
            SUBJECT_KEY_IDENTIFIER bytes;
            KEY_USAGE int, a sum of `KeyUsage` bits;
            SUBJECT_ALT_NAME, ISSUER_ALT_NAME tuple of `GeneralName`;
            BASIC_CONSTRAINTS int: -2 not a CA, -1 a CA, else a CA with this path length;
            CRL_DISTRIBUTION_POINTS, FRESHEST_CRL tuple of `DistributionPoint`;
            CERTIFICATE_POLICIES tuple of `PolicyInformation`;
            AUTHORITY_KEY_IDENTIFIER bytes, or `AuthorityKeyIdentifier` where the issuer is named too;
            EXTENDED_KEY_USAGE tuple of `KeyPurpose` numbers and octets of object identifiers;
            AUTHORITY_INFO_ACCESS, SUBJECT_INFO_ACCESS tuple of (method number or octets, URI);
            SUBJECT_DIRECTORY_ATTRIBUTES tuple of (type, values) as in `Name.attributes`;
            NAME_CONSTRAINTS `NameConstraints`;
            POLICY_MAPPINGS tuple of (issuer's policy, subject's policy);
            POLICY_CONSTRAINTS `PolicyConstraints`;
            INHIBIT_ANY_POLICY int;
            IP_ADDRESS_BLOCKS and _V2 tuple of `AddressFamily`;
            AS_IDENTIFIERS and _V2 tuple of AS numbers and (least, greatest), None to inherit;
            OCSP_NO_CHECK None;
            TLS_FEATURES tuple of int;
            an object identifier: the bytes of X.509's extnValue.
    """

    id: int | bytes
    critical: bool
    value: Any


def extensions_from_item(item: Any, *, native: bool) -> tuple[Extension, ...]:  # noqa: ANN401 (checked here)
    """Return the extensions that a CBOR item holds.

    Raises:
        MalformedMessage: Not extensions, one of them twice, or a form that another replaces.
    """
    if type(item) is int:
        if not -0x1FF <= item <= 0x1FF:
            malformed("key usage has nine bits")
        return (Extension(_KEY_USAGE, item < 0, abs(item)),)
    if type(item) is list and not item:
        return ()
    found = tuple(_extension(kind, value, native) for kind, value in pairs(item))
    if len(found) == 1 and found[0].id == _KEY_USAGE:
        malformed("a lone key usage is written as one number")
    if len({extension.id for extension in found}) != len(found):
        malformed("an extension occurs twice")
    return found


def _extension(kind: Any, item: Any, native: bool) -> Extension:  # noqa: ANN401
    if type(kind) is int:
        number = abs(kind)
        codec = CODECS.get(number)
        if codec is None:
            malformed(f"extension {number} is not registered")
        return Extension(number, kind < 0, codec.from_item(item, native))
    if native and oid(kind) in EXTENSIONS.numbers:
        malformed("extension has a registered number")
    critical = type(item) is list
    value = members(item, 1, "a critical value")[0] if critical else item
    return Extension(oid(kind), critical, byte_string(value))


def extensions_item(extensions: Iterable[Extension]) -> object:
    """Return the CBOR item for extensions."""
    items: list[object] = []
    for extension in extensions:
        items += extension_items(extension)
    if len(items) == 2 and items[0] in (_KEY_USAGE, -_KEY_USAGE):
        usage = items[1]
        assert isinstance(usage, int)
        return usage if items[0] == _KEY_USAGE else -usage
    return items


def extension_items(extension: Extension) -> tuple[object, object]:
    """Return the two CBOR items for one extension."""
    kind, value = extension.id, extension.value
    if isinstance(kind, bytes):
        return kind, [value] if extension.critical else value
    return -kind if extension.critical else int(kind), CODECS[kind].to_item(value)


def extension_to_der(extension: Extension) -> bytes:
    """Return X.509's Extension."""
    kind, value = extension.id, extension.value
    identifier = kind if isinstance(kind, bytes) else EXTENSIONS.oids[kind]
    octets = value if isinstance(kind, bytes) else CODECS[kind].to_der(value)
    return der.sequence(
        der.tlv(der.OID, identifier),
        der.TRUE if extension.critical else b"",
        der.tlv(der.OCTET_STRING, octets),
    )


def extensions_to_der(extensions: Iterable[Extension]) -> bytes:
    """Return X.509's Extensions."""
    return der.sequence(*map(extension_to_der, extensions))


def extensions_from_der(data: bytes) -> tuple[Extension, ...]:
    """Return the C509 form of X.509's Extensions, each specific where that gives its bytes back.

    Raises:
        DerError: Not Extensions.
    """
    reader = der.Reader(der.whole(data, der.SEQUENCE))
    found: list[Extension] = []
    while reader.more:
        member = reader.inner(der.SEQUENCE)
        identifier = member.take(der.OID)
        critical = member.peek() == der.BOOLEAN
        if critical:
            member.take(der.BOOLEAN)
        octets = member.take(der.OCTET_STRING)
        member.finish()
        found.append(_extension_from_der(identifier, critical, octets))
    if found == [Extension(_KEY_USAGE, critical=True, value=0)]:
        # Minus zero is zero: as one number it would lose its criticality.
        found = [Extension(EXTENSIONS.oids[_KEY_USAGE], critical=True, value=der.named_bits(0))]
    return tuple(found)


def _extension_from_der(identifier: bytes, critical: bool, octets: bytes) -> Extension:
    number = EXTENSIONS.numbers.get(identifier)
    if number is not None:
        codec = CODECS[number]
        try:
            item = cbor.encode(codec.to_item(codec.from_der(octets)))
            decoded = cbor.decode(item, max_bytes=len(item), tags=frozenset({48}))
            extension = Extension(number, critical, codec.from_item(decoded, False))
            if codec.to_der(extension.value) == octets:
                return extension
        except (ValueError, KeyError, TypeError, OverflowError, MalformedMessage):
            pass  # whatever it was, it has no specific form
    return Extension(identifier, critical, octets)
