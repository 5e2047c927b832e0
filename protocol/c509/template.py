"""Certification request templates (draft-ietf-cose-cbor-encoded-cert §4.4): what an authority expects."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from protocol import cbor
from protocol.c509.algorithms import (
    PUBLIC_KEY_DER,
    SIGNATURE_DER,
    Algorithm,
    algorithm_from_item,
    algorithm_item,
)
from protocol.c509.checks import array, byte_string, malformed, members, oid, uint
from protocol.c509.extension_values import CODECS
from protocol.c509.name import text_from_item, text_item
from protocol.c509.registry import ATTRIBUTES
from protocol.cbor import undefined
from protocol.errors import MalformedMessage

_TAGS: Final = frozenset({48})
_TEMPLATE_TYPE: Final = 0
MAX_TEMPLATE_BYTES: Final = 4096


class NameAttributeTemplate(NamedTuple):
    """What is expected of one attribute of the subject; a `value` of None is the requester's to give."""

    type: int | bytes
    min_occurs: int = 1
    max_occurs: int = 1
    value: str | bytes | None = None


class ExtensionTemplate(NamedTuple):
    """What is expected of one extension.

    Attributes:
        id: As in `Extension`.
        optional: Whether a request may leave it out.
        value: `ANY` where it is the requester's to give; else as in `Extension`, or the CBOR item itself
            where that is a partly filled value of no extension's shape (`UnfinishedValue`).
    """

    id: int | bytes
    optional: bool
    value: Any


class UnfinishedValue(NamedTuple):
    """A value that the requester has to finish, as the CBOR item it is."""

    item: Any


ANY: Final = undefined
"""An extension's value that is the requester's to give."""


@dataclass(frozen=True, slots=True)
class RequestTemplate:
    """What to put in a request; None wherever it is the requester's choice.

    Attributes:
        request_types: Types of request to choose from.
        signature_algorithms: Algorithms to choose from.
        subject: The name's attributes.
        public_key_algorithms: Algorithms to choose from.
        extensions: Extensions to ask for.
    """

    request_types: tuple[int, ...] | None = None
    signature_algorithms: tuple[int | Algorithm, ...] | None = None
    subject: tuple[NameAttributeTemplate, ...] | None = None
    public_key_algorithms: tuple[int | Algorithm, ...] | None = None
    extensions: tuple[ExtensionTemplate, ...] | None = None

    def encode(self) -> bytes:
        """Return the deterministic encoding, `87…`."""
        return cbor.encode(
            [
                _TEMPLATE_TYPE,
                _or_undefined(self.request_types),
                _algorithms(self.signature_algorithms),
                undefined if self.subject is None else _subject_items(self.subject),
                _algorithms(self.public_key_algorithms),
                undefined,
                undefined if self.extensions is None else _extension_items(self.extensions),
            ]
        )


def _or_undefined(value: object) -> object:
    return undefined if value is None else value


def _algorithms(algorithms: tuple[int | Algorithm, ...] | None) -> object:
    return undefined if algorithms is None else [algorithm_item(algorithm) for algorithm in algorithms]


def _subject_items(attributes: tuple[NameAttributeTemplate, ...]) -> list[object]:
    items: list[object] = []
    for kind, least, most, value in attributes:
        wire = value if value is None or isinstance(kind, bytes) else text_item(value)
        items += (kind, least, most, _or_undefined(wire))
    return items


def _extension_items(extensions: tuple[ExtensionTemplate, ...]) -> list[object]:
    items: list[object] = []
    for kind, optional, value in extensions:
        if isinstance(value, UnfinishedValue):
            item = value.item
        elif value is ANY or isinstance(kind, bytes):
            item = value
        else:
            item = CODECS[kind].to_item(value)
        items += (kind, optional, item)
    return items


def decode_template(data: bytes, *, max_bytes: int = MAX_TEMPLATE_BYTES) -> RequestTemplate:
    """Return the request template that `data` encodes.

    Raises:
        MalformedMessage: Not a template in deterministic encoding; no other exception.
    """
    item = cbor.decode(data, max_bytes=max_bytes, tags=_TAGS)
    kind, types, signatures, subject, key_algorithms, key, listed = members(item, 7, "a request template")
    if type(kind) is not int or kind != _TEMPLATE_TYPE:
        malformed("template type is 0")
    if key is not undefined:
        malformed("a template's public key is undefined")
    return RequestTemplate(
        None if types is undefined else tuple(map(_request_type, array(types, 1))),
        None if signatures is undefined else _checked_algorithms(signatures, SIGNATURE_DER),
        None if subject is undefined else _subject(subject),
        None if key_algorithms is undefined else _checked_algorithms(key_algorithms, PUBLIC_KEY_DER),
        None if listed is undefined else _extensions(listed),
    )


def _request_type(item: Any) -> int:  # noqa: ANN401 (checked here)
    if type(item) is not int:
        malformed("request type is a number")
    return item


def _checked_algorithms(item: Any, table: dict[int, bytes]) -> tuple[int | Algorithm, ...]:  # noqa: ANN401
    return tuple(algorithm_from_item(member, table, native=True) for member in array(item, 1))


def _groups(item: Any, size: int) -> list[list[Any]]:  # noqa: ANN401
    flat = array(item)
    if len(flat) % size:
        malformed(f"a flat array of groups of {size} expected")
    return [flat[at : at + size] for at in range(0, len(flat), size)]


def _subject(item: Any) -> tuple[NameAttributeTemplate, ...]:  # noqa: ANN401
    return tuple(_name_attribute(*group) for group in _groups(item, 4))


def _name_attribute(kind: Any, least: Any, most: Any, value: Any) -> NameAttributeTemplate:  # noqa: ANN401
    if uint(most) < max(uint(least), 1):
        malformed("an attribute occurs at most zero times, or less than at least")
    text: str | bytes | None = None
    if type(kind) is int:
        if kind not in ATTRIBUTES.oids:
            malformed(f"attribute type {kind} is not registered")
        if value is not undefined:
            text = text_from_item(value)
    elif value is not undefined:
        text = byte_string(value)
    return NameAttributeTemplate(kind if type(kind) is int else oid(kind), least, most, text)


def _extensions(item: Any) -> tuple[ExtensionTemplate, ...]:  # noqa: ANN401
    return tuple(_extension(*group) for group in _groups(item, 3))


def _extension(kind: Any, optional: Any, value: Any) -> ExtensionTemplate:  # noqa: ANN401
    if type(optional) is not bool:
        malformed("whether an extension is optional is true or false")
    if type(kind) is not int:
        return ExtensionTemplate(oid(kind), optional, value if value is ANY else byte_string(value))
    codec = CODECS.get(kind)
    if codec is None:
        malformed(f"extension {kind} is not registered")
    if value is ANY:
        return ExtensionTemplate(kind, optional, value)
    try:
        return ExtensionTemplate(kind, optional, codec.from_item(value, True))
    except MalformedMessage:
        # The draft lets a value be partly filled, for example an IP address that is an empty byte string.
        return ExtensionTemplate(kind, optional, UnfinishedValue(value))
