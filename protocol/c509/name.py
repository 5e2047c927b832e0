"""Names (draft-ietf-cose-cbor-encoded-cert §3.1.4).

Attribute values are text, as X.509 has them; on the wire text of lowercase hexadecimal pairs is a byte
string, an EUI-64 is a tag 48, and a name that is one UTF-8 common name is just that value. Each text
has one form only, and a decoder refuses the others.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

from protocol import cbor
from protocol.c509 import der
from protocol.c509.checks import byte_string, is_printable, malformed, oid, pairs
from protocol.c509.registry import ATTRIBUTE_LABELS, ATTRIBUTES, IA5_ATTRIBUTES
from protocol.cbor import CBORTag
from protocol.errors import MalformedMessage

_MAC_TAG: Final = 48
"""CBOR tag of a MAC address (RFC 9542 §2.4)."""
_COMPACT: Final = re.compile(r"(?:[0-9a-f]{2})+|[0-9A-F]{2}(?:-[0-9A-F]{2}){7}")
"""Texts that have a shorter form."""
_ESCAPED: Final = re.compile(r'([,+"\\<>;=])')


class _Kept:
    """Room for what is worked out once; nobody pays for it before."""

    __slots__ = ("_der", "_encoded")

    _der: bytes
    _encoded: bytes


@dataclass(frozen=True, slots=True)
class Name(_Kept):
    """A distinguished name whose RDNs hold one attribute each.

    Attributes:
        attributes: In order, the outermost first. Either (number, text), the number negative where
            X.509's type is PrintableString, or (object identifier's octets, DER value).
    """

    attributes: tuple[tuple[int | bytes, str | bytes], ...] = ()

    @classmethod
    def common_name(cls, text: str) -> "Name":
        """Return the name that is one UTF-8 common name."""
        return cls(((1, text),))

    @property
    def cn(self) -> str | None:
        """The first common name, as X.509 would have it; None where there is none."""
        for kind, value in self.attributes:
            if kind in (1, -1) and isinstance(value, str):
                return value
        return None

    @property
    def text(self) -> str:
        """The name for people, innermost attribute first, after RFC 4514."""
        return ",".join(_attribute_text(*attribute) for attribute in reversed(self.attributes))

    def __str__(self) -> str:
        return self.text

    @property
    def encoded(self) -> bytes:
        """The deterministic CBOR encoding."""
        if not hasattr(self, "_encoded"):
            object.__setattr__(self, "_encoded", cbor.encode(self.to_item()))
        return self._encoded

    def to_item(self) -> object:
        """Return the CBOR item."""
        attributes = self.attributes
        if len(attributes) == 1 and attributes[0][0] == 1:
            return text_item(attributes[0][1])
        items: list[object] = []
        for kind, value in attributes:
            items += (kind, text_item(value) if isinstance(kind, int) else value)
        return items

    @classmethod
    def from_item(cls, item: Any, *, native: bool) -> "Name":  # noqa: ANN401 (checked here)
        """Return the name that a CBOR item holds.

        Raises:
            MalformedMessage: Not a name, or not in its one form.
        """
        if type(item) is not list:
            return cls(((1, text_from_item(item)),))
        listed = pairs(item)
        if len(listed) == 1 and listed[0][0] == 1:
            malformed("a lone common name is written without its array")
        return cls(tuple(attribute_from_item(kind, value, native=native) for kind, value in listed))

    @classmethod
    def decode(cls, data: bytes, *, native: bool = True) -> "Name":
        """Return the name that `data` encodes.

        Raises:
            MalformedMessage: Not a name.
        """
        return cls.from_item(cbor.decode(data, tags=frozenset({_MAC_TAG})), native=native)

    def to_der(self) -> bytes:
        """Return the X.509 Name."""
        if not hasattr(self, "_der"):
            encoded = der.sequence(*(_attribute_der(*attribute) for attribute in self.attributes))
            object.__setattr__(self, "_der", encoded)
        return self._der

    @classmethod
    def from_der(cls, data: bytes) -> "Name":
        """Return the C509 form of an X.509 Name.

        Raises:
            DerError: Not a Name, or an RDN with more than one attribute.
        """
        reader = der.Reader(der.whole(data, der.SEQUENCE))
        attributes: list[tuple[int | bytes, str | bytes]] = []
        while reader.more:
            rdn = reader.inner(der.SET)
            attribute = rdn.inner(der.SEQUENCE)
            if rdn.more:
                msg = "an RDN with several attributes"
                raise der.DerError(msg)
            kind, value = attribute.take(der.OID), attribute.raw()
            attribute.finish()
            attributes.append(attribute_from_der(kind, value))
        return cls(tuple(attributes))


def eui64_text(eui: bytes) -> str:
    """Return an EUI-64 (8 bytes), or the EUI-64 of an EUI-48 (6 bytes), as `HH-HH-HH-HH-HH-HH-HH-HH`."""
    if len(eui) == 6:
        eui = eui[:3] + b"\xff\xfe" + eui[3:]
    return eui.hex("-").upper()


def text_item(text: str | bytes) -> object:
    """Return the one CBOR item for an attribute's text."""
    if not isinstance(text, str) or not _COMPACT.fullmatch(text):
        return text
    if "-" not in text:
        return bytes.fromhex(text)
    eui = bytes.fromhex(text.replace("-", ""))
    return CBORTag(_MAC_TAG, eui[:3] + eui[5:] if eui[3:5] == b"\xff\xfe" else eui)


def text_from_item(item: Any) -> str:  # noqa: ANN401 (checked here)
    """Return the text that a CBOR item stands for.

    Raises:
        MalformedMessage: Not text, bytes or tag 48, or not the one form of its text.
    """
    if isinstance(item, str):
        if _COMPACT.fullmatch(item):
            malformed("text that has a shorter form")
        return item
    if isinstance(item, bytes) and item:
        return item.hex()
    if type(item) is CBORTag and item.tag == _MAC_TAG:
        eui = byte_string(item.value)
        if len(eui) == 6 or (len(eui) == 8 and eui[3:5] != b"\xff\xfe"):
            return eui64_text(eui)
    raise MalformedMessage("text expected")


def attribute_from_item(kind: Any, value: Any, *, native: bool) -> tuple[int | bytes, str | bytes]:  # noqa: ANN401
    """Return the attribute of one (type, value) pair.

    Raises:
        MalformedMessage: Not an attribute, or not in its one form.
    """
    if type(kind) is not int:
        if oid(kind) in ATTRIBUTES.numbers and native:
            malformed("attribute type has a registered number")
        if type(value) is not bytes or not der.is_element(value):
            malformed("attribute value is not one DER element")
        return kind, value
    if abs(kind) not in ATTRIBUTES.oids:
        malformed(f"attribute type {kind} is not registered")
    text = text_from_item(value)
    if kind < 0:
        if native or -kind in IA5_ATTRIBUTES or not is_printable(text):
            malformed("not a printable string")
    elif kind in IA5_ATTRIBUTES and not text.isascii():
        malformed("ASCII text expected")
    return kind, text


def _string_tag(kind: int) -> int:
    if kind < 0:
        return der.PRINTABLE_STRING
    return der.IA5_STRING if kind in IA5_ATTRIBUTES else der.UTF8_STRING


def value_der(kind: int | bytes, value: str | bytes) -> bytes:
    """Return an attribute's value as X.509 has it."""
    if isinstance(kind, int) and isinstance(value, str):
        return der.tlv(_string_tag(kind), value.encode())
    return value if isinstance(value, bytes) else value.encode()


def oid_der(kind: int | bytes) -> bytes:
    """Return an attribute's type as X.509 has it."""
    return der.tlv(der.OID, kind if isinstance(kind, bytes) else ATTRIBUTES.oids[abs(kind)])


def _attribute_der(kind: int | bytes, value: str | bytes) -> bytes:
    return der.tlv(der.SET, der.sequence(oid_der(kind), value_der(kind, value)))


def attribute_from_der(kind: bytes, value: bytes) -> tuple[int | bytes, str | bytes]:
    """Return the C509 form of an attribute, generic where it has no specific one.

    Args:
        kind: The object identifier's octets.
        value: One DER element.
    """
    number = ATTRIBUTES.numbers.get(kind)
    if number is None:
        if not der.is_oid(kind):
            msg = "bad object identifier"
            raise der.DerError(msg)
        return kind, value
    for candidate in (number,) if number in IA5_ATTRIBUTES else (number, -number):
        if value[0] == _string_tag(candidate):
            try:
                text = der.whole(value, value[0]).decode()
            except UnicodeDecodeError:
                break
            fits = candidate >= 0 or is_printable(text)
            if fits and (candidate not in IA5_ATTRIBUTES or text.isascii()):
                return candidate, text
    return kind, value


def _attribute_text(kind: int | bytes, value: str | bytes) -> str:
    label = der.oid_to_text(kind) if isinstance(kind, bytes) else ATTRIBUTE_LABELS[abs(kind)]
    if isinstance(value, bytes):
        return f"{label}=#{value.hex()}"
    text = _ESCAPED.sub(r"\\\1", value)
    if text[:1] in ("#", " "):
        text = "\\" + text
    if text.endswith(" ") and len(value) > 1:
        text = text[:-1] + "\\ "
    return f"{label}={text}"
