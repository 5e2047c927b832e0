"""Attributes of certification requests (draft-ietf-cose-cbor-encoded-cert §4.3)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from protocol.c509 import der
from protocol.c509.certificate import REENCODED, Certificate, decode_certificate
from protocol.c509.checks import (
    NotConvertible,
    byte_string,
    is_printable,
    malformed,
    members,
    oid,
    pairs,
    positive_magnitude,
)
from protocol.c509.extensions import (
    extensions_from_der,
    extensions_from_item,
    extensions_item,
    extensions_to_der,
)
from protocol.c509.name import Name
from protocol.c509.registry import REQUEST_ATTRIBUTES
from protocol.c509.x509 import from_der
from protocol.cbor import CBORTag
from protocol.errors import MalformedMessage

_PRINTABLE_TAG = 121
"""CBOR tag "alternative 0": here a PrintableString."""


class ChallengePassword(NamedTuple):
    """A challenge password (RFC 2985 §5.4.1); `printable` where X.509's type is PrintableString."""

    text: str
    printable: bool = False


class PossessionStatement(NamedTuple):
    """Names the certificate whose key signed a request for a key that cannot sign (RFC 9883)."""

    issuer: Name
    serial: bytes
    certificate: Certificate | None = None


@dataclass(frozen=True, slots=True)
class RequestAttribute:
    """One attribute.

    Attributes:
        id: A `RequestAttributeType`, or the octets of an object identifier.
        value: By `id`: EXTENSION_REQUEST tuple of `Extension`; CHALLENGE_PASSWORD `ChallengePassword`;
            PRIVATE_KEY_POSSESSION_STATEMENT `PossessionStatement`; an object identifier: the one value
            as a DER element.
    """

    id: int | bytes
    value: Any


def attributes_from_item(item: Any, *, native: bool) -> tuple[RequestAttribute, ...]:  # noqa: ANN401 (checked here)
    """Return the attributes of a flat array of pairs.

    Raises:
        MalformedMessage: Not attributes, or one of them twice.
    """
    found = tuple(_attribute(kind, value, native=native) for kind, value in pairs(item))
    if len({attribute.id for attribute in found}) != len(found):
        malformed("an attribute occurs twice")
    return found


def _attribute(kind: Any, item: Any, *, native: bool) -> RequestAttribute:  # noqa: ANN401
    if type(kind) is not int:
        if oid(kind) in REQUEST_ATTRIBUTES.numbers and native:
            malformed("attribute type has a registered number")
        if not der.is_element(byte_string(item)):
            malformed("attribute value is not one DER element")
        return RequestAttribute(kind, item)
    if kind == 0:
        return RequestAttribute(kind, extensions_from_item(item, native=native))
    if kind == 1:
        return RequestAttribute(kind, _password(item, native=native))
    if kind == 2:
        return RequestAttribute(kind, _statement(item, native=native))
    raise MalformedMessage(f"attribute type {kind} is not registered")


def _password(item: Any, *, native: bool) -> ChallengePassword:  # noqa: ANN401
    if type(item) is str:
        return ChallengePassword(item)
    if type(item) is CBORTag and item.tag == _PRINTABLE_TAG and not native:
        text = item.value
        if type(text) is str and is_printable(text):
            return ChallengePassword(text, printable=True)
    raise MalformedMessage("not a challenge password")


def _statement(item: Any, *, native: bool) -> PossessionStatement:  # noqa: ANN401
    issuer, serial, wrapped = members(item, 3, "a possession statement")
    certificate = None if wrapped is None else decode_certificate(byte_string(wrapped))
    if certificate is not None and not native and certificate.type != REENCODED:
        malformed("a native certificate in a re-encoded request")
    return PossessionStatement(Name.from_item(issuer, native=native), positive_magnitude(serial), certificate)


def attributes_item(attributes: Iterable[RequestAttribute]) -> object:
    """Return the CBOR item for attributes."""
    items: list[object] = []
    for attribute in attributes:
        items += (attribute.id, _value_item(attribute.value))
    return items


def _value_item(value: Any) -> object:  # noqa: ANN401
    if isinstance(value, ChallengePassword):
        return CBORTag(_PRINTABLE_TAG, value.text) if value.printable else value.text
    if isinstance(value, PossessionStatement):
        certificate = None if value.certificate is None else value.certificate.encoded
        return [value.issuer.to_item(), value.serial, certificate]
    return value if isinstance(value, bytes) else extensions_item(value)


def attributes_to_der(attributes: Iterable[RequestAttribute]) -> bytes:
    """Return the content of PKCS#10's [0] attributes.

    Raises:
        MalformedMessage: The key of a certificate among them is not on its curve.
    """
    return b"".join(
        der.sequence(
            der.tlv(
                der.OID,
                REQUEST_ATTRIBUTES.oids[attribute.id] if isinstance(attribute.id, int) else attribute.id,
            ),
            der.tlv(der.SET, _value_der(attribute.value)),
        )
        for attribute in attributes
    )


def _value_der(value: Any) -> bytes:  # noqa: ANN401
    if isinstance(value, ChallengePassword):
        return der.tlv(der.PRINTABLE_STRING if value.printable else der.UTF8_STRING, value.text.encode())
    if isinstance(value, PossessionStatement):
        signer = der.sequence(value.issuer.to_der(), der.unsigned(value.serial))
        return der.sequence(signer, b"" if value.certificate is None else value.certificate.to_der())
    return value if isinstance(value, bytes) else extensions_to_der(value)


def attributes_from_der(content: bytes) -> tuple[RequestAttribute, ...]:
    """Return the C509 form of the content of PKCS#10's [0] attributes.

    Raises:
        DerError: Not attributes of one value each.
    """
    reader = der.Reader(content)
    found: list[RequestAttribute] = []
    while reader.more:
        attribute = reader.inner(der.SEQUENCE)
        identifier = attribute.take(der.OID)
        values = attribute.inner(der.SET)
        attribute.finish()
        value = values.raw()
        values.finish()
        found.append(_from_der(identifier, value))
    return tuple(found)


def _from_der(identifier: bytes, value: bytes) -> RequestAttribute:
    number = REQUEST_ATTRIBUTES.numbers.get(identifier)
    if number == 0:
        return RequestAttribute(0, extensions_from_der(value))
    if number == 1 and value[0] in (der.UTF8_STRING, der.PRINTABLE_STRING):
        text = der.whole(value, value[0]).decode()
        return RequestAttribute(1, ChallengePassword(text, printable=value[0] == der.PRINTABLE_STRING))
    if number == 2:
        try:
            return RequestAttribute(2, _statement_from_der(value))
        except (der.DerError, NotConvertible):
            pass  # a name or certificate without a C509 form leaves the generic one
    return RequestAttribute(identifier, value)


def _statement_from_der(value: bytes) -> PossessionStatement:
    reader = der.Reader(der.whole(value, der.SEQUENCE))
    signer = reader.inner(der.SEQUENCE)
    issuer, serial = Name.from_der(signer.raw()), der.read_unsigned(signer.take(der.INTEGER))
    signer.finish()
    certificate = from_der(reader.raw()) if reader.more else None
    reader.finish()
    return PossessionStatement(issuer, serial, certificate)
