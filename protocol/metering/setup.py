"""Requests to the security setup object (class 64, version 1), and its answers: what Trillium needs of them.

    C3 01 invoke-id  00 40  00 00 2B 00 xx FF  method  01 data       ACTION-request-normal
    C7 01 invoke-id  result  00 | 01 00 data                         ACTION-response-normal

| method | name                         | data of the request               | data of the answer         |
|--------|------------------------------|-----------------------------------|----------------------------|
| 2      | key_transfer                 | array of {key_id, wrapped key}    | none                       |
| 3      | key_agreement                | array of {key_id, key_data}       | array of {key_id, key_data}|
| 4      | generate_key_pair            | enum: which                       | none                       |
| 5      | generate_certificate_request | enum: which                       | octet-string: PKCS#10, DER |
| 6      | import_certificate           | octet-string: X.509, DER          | none                       |
| 7, 8   | export_, remove_certificate  | {how, identification}             | 7: octet-string: X.509, DER|

key_data is x ‖ y of an ephemeral key and its signature (`protocol.metering.agreement`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, TypeVar

from protocol.errors import MalformedMessage
from protocol.metering import axdr
from protocol.metering.keys import KeyKind
from protocol.metering.title import TITLE_BYTES, SystemTitle

CLASS_ID: Final = 64
INVOKE_ID: Final = 0xC1
"""Invocation 1, confirmed, high priority: what the request bytes that we know of have."""
MAX_KEY_DATA_BYTES: Final = 192
"""A key and a signature of suite 2."""
MAX_OBJECT_BYTES: Final = 2048
"""Longest certificate or request taken; a meter's has 400 to 600 octets."""
MAX_NAME_BYTES: Final = 256
"""Longest issuer or serial number of an identification."""
_MAX_APDU_BYTES: Final = 4096
_REQUEST: Final = b"\xc3\x01"
_RESPONSE: Final = b"\xc7\x01"
_OBIS: Final = b"\x00\x00\x2b\x00"
_BY_ENTITY: Final = 0
_BY_SERIAL: Final = 1
_Kind = TypeVar("_Kind", bound=IntEnum)


class KeyPair(IntEnum):
    """Which of a meter's asymmetric key pairs."""

    DIGITAL_SIGNATURE = 0
    KEY_AGREEMENT = 1
    TLS = 2


class Entity(IntEnum):
    """Whose certificate."""

    SERVER = 0
    """The meter's own."""
    CLIENT = 1
    CERTIFICATION_AUTHORITY = 2
    OTHER = 3


class CertificateType(IntEnum):
    """What a certificate is for."""

    DIGITAL_SIGNATURE = 0
    KEY_AGREEMENT = 1
    TLS = 2
    OTHER = 3


@dataclass(frozen=True, slots=True)
class ByEntity:
    """A certificate named by whose it is and what for."""

    entity: Entity
    type: CertificateType
    title: SystemTitle


@dataclass(frozen=True, slots=True)
class BySerial:
    """A certificate named by its number.

    How the two are written inside their octet-strings is not certain (peers differ: contents of the INTEGER,
    its whole DER, or text), so they go as they are given.
    """

    serial: bytes
    issuer: bytes


@dataclass(frozen=True, slots=True)
class KeyTransfer:
    """Method 2: take these keys, each wrapped with the master key."""

    wrapped: Mapping[KeyKind, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyAgreement:
    """Method 3: agree on these keys by C(2e, 0s)."""

    key_data: Mapping[KeyKind, bytes]


@dataclass(frozen=True, slots=True)
class GenerateKeyPair:
    """Method 4."""

    pair: KeyPair


@dataclass(frozen=True, slots=True)
class GenerateCertificateRequest:
    """Method 5."""

    pair: KeyPair


@dataclass(frozen=True, slots=True)
class ImportCertificate:
    """Method 6. The meter finds out by itself whose it is; an older one of the same purpose is gone then."""

    certificate: bytes
    """X.509, DER."""


@dataclass(frozen=True, slots=True)
class ExportCertificate:
    """Method 7."""

    identification: ByEntity | BySerial


@dataclass(frozen=True, slots=True)
class RemoveCertificate:
    """Method 8. With a certificate of the meter's own goes its private key."""

    identification: ByEntity | BySerial


Action = (
    KeyTransfer
    | KeyAgreement
    | GenerateKeyPair
    | GenerateCertificateRequest
    | ImportCertificate
    | ExportCertificate
    | RemoveCertificate
)


@dataclass(frozen=True, slots=True)
class Response:
    """What the object answers."""

    result: int
    """Action-result: 0 is success."""
    data: bytes | None = None
    """COSEM data as it came, for `read_object` and `read_entries`; None where there is none."""
    invoke_id: int = INVOKE_ID


def entries(items: Mapping[KeyKind, bytes]) -> bytes:
    """Return COSEM data: an array of {key_id, octet-string}, by key_id."""
    return axdr.array(
        axdr.structure(axdr.enum(kind), axdr.octet_string(value)) for kind, value in sorted(items.items())
    )


def read_entries(reader: axdr.Reader) -> dict[KeyKind, bytes]:
    """Read such an array; each kind is in it once at most.

    Raises:
        MalformedMessage: It is something else.
    """
    found: dict[KeyKind, bytes] = {}
    for _ in range(reader.array(len(KeyKind))):
        reader.structure(2)
        kind = _member(KeyKind, reader.enum())
        if kind in found:
            raise MalformedMessage("a key of one kind twice")
        found[kind] = reader.octet_string(MAX_KEY_DATA_BYTES)
    return found


def encode_request(action: Action, *, instance: int = 0, invoke_id: int = INVOKE_ID) -> bytes:
    """Return the APDU that asks for `action`.

    Args:
        action: What the object is to do.
        instance: Which security setup object: x of 0.0.43.0.x.255.
        invoke_id: Invoke-id-and-priority.
    """
    method, data = _parameters(action)
    head = _REQUEST + bytes((invoke_id,)) + CLASS_ID.to_bytes(2, "big")
    return head + _OBIS + bytes((instance, 0xFF, method, 1)) + data


def decode_request(data: bytes) -> tuple[Action, int]:
    """Return the action that `data` asks for, and its invoke-id-and-priority.

    Raises:
        MalformedMessage: Not such a request: another class, object or method, or data of another shape.
    """
    if len(data) > _MAX_APDU_BYTES:
        raise MalformedMessage("too long")
    reader = axdr.Reader(data)
    reader.expect(_REQUEST, "an ACTION-request-normal")
    invoke_id = reader.byte()
    reader.expect(CLASS_ID.to_bytes(2, "big") + _OBIS, "for a security setup object")
    reader.byte()  # any instance
    reader.expect(b"\xff", "for a security setup object")
    method = reader.byte()
    reader.expect(b"\x01", "with data")
    action = _action(method, reader)
    reader.end()
    return action, invoke_id


def encode_response(response: Response) -> bytes:
    """Return the APDU of an answer."""
    head = _RESPONSE + bytes((response.invoke_id, response.result))
    return head + (b"\x00" if response.data is None else b"\x01\x00" + response.data)


def decode_response(data: bytes) -> Response:
    """Return the answer that `data` is; its data is cut out, not looked at.

    Raises:
        MalformedMessage: Not an ACTION-response-normal, or with a data-access-result for data.
    """
    if len(data) > _MAX_APDU_BYTES:
        raise MalformedMessage("too long")
    reader = axdr.Reader(data)
    reader.expect(_RESPONSE, "an ACTION-response-normal")
    invoke_id, result = reader.byte(), reader.byte()
    if reader.byte() == 0:
        reader.end()
        return Response(result, None, invoke_id)
    if not data.startswith(b"\x01\x00", 4) or len(data) == 6:
        raise MalformedMessage("data, or none, is expected")
    return Response(result, data[6:], invoke_id)


def read_object(data: bytes) -> bytes:
    """Return the octets of a lone octet-string: a PKCS#10 request (method 5) or a certificate (method 7).

    Raises:
        MalformedMessage: It is something else.
    """
    reader = axdr.Reader(data)
    value = reader.octet_string(MAX_OBJECT_BYTES)
    reader.end()
    return value


def _parameters(action: Action) -> tuple[int, bytes]:
    match action:
        case KeyTransfer(items):
            return 2, entries(items)
        case KeyAgreement(items):
            return 3, entries(items)
        case GenerateKeyPair(pair):
            return 4, axdr.enum(pair)
        case GenerateCertificateRequest(pair):
            return 5, axdr.enum(pair)
        case ImportCertificate(certificate):
            return 6, axdr.octet_string(certificate)
        case ExportCertificate(identification):
            return 7, _identify(identification)
        case RemoveCertificate(identification):
            return 8, _identify(identification)


def _identify(identification: ByEntity | BySerial) -> bytes:
    match identification:
        case ByEntity(entity, kind, title):
            named = axdr.structure(axdr.enum(entity), axdr.enum(kind), axdr.octet_string(title.octets))
            return axdr.structure(axdr.enum(_BY_ENTITY), named)
        case BySerial(serial, issuer):
            named = axdr.structure(axdr.octet_string(serial), axdr.octet_string(issuer))
            return axdr.structure(axdr.enum(_BY_SERIAL), named)


def _action(method: int, reader: axdr.Reader) -> Action:
    match method:
        case 2:
            return KeyTransfer(read_entries(reader))
        case 3:
            return KeyAgreement(read_entries(reader))
        case 4:
            return GenerateKeyPair(_member(KeyPair, reader.enum()))
        case 5:
            return GenerateCertificateRequest(_member(KeyPair, reader.enum()))
        case 6:
            return ImportCertificate(reader.octet_string(MAX_OBJECT_BYTES))
        case 7:
            return ExportCertificate(_read_identification(reader))
        case 8:
            return RemoveCertificate(_read_identification(reader))
        case _:
            raise MalformedMessage("no method that is known here")


def _read_identification(reader: axdr.Reader) -> ByEntity | BySerial:
    reader.structure(2)
    how = reader.enum()
    if how == _BY_ENTITY:
        reader.structure(3)
        entity, kind = _member(Entity, reader.enum()), _member(CertificateType, reader.enum())
        return ByEntity(entity, kind, SystemTitle(reader.octet_string(TITLE_BYTES)))
    if how == _BY_SERIAL:
        reader.structure(2)
        return BySerial(reader.octet_string(MAX_NAME_BYTES), reader.octet_string(MAX_NAME_BYTES))
    raise MalformedMessage("a certificate is identified by entity or by serial number")


def _member(kinds: type[_Kind], value: int) -> _Kind:
    try:
        return kinds(value)
    except ValueError:
        raise MalformedMessage(f"{value} is no {kinds.__name__}") from None
