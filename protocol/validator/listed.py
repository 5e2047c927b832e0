"""Extensions and names of a certificate as they are judged: by what they are, not by how they were written.

An X.509 extension that has no C509 form of its own (because its DER is not the one form, or holds what C509
cannot say) arrives under its object identifier. To look it up by number alone would be to miss it: a
certificate with two basic constraints would have one, and one with an odd key usage none.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from protocol import c509
from protocol.c509 import ExtensionId, der
from protocol.c509.registry import ATTRIBUTES, EXTENSIONS

DECISIVE: Final = frozenset(
    {ExtensionId.KEY_USAGE, ExtensionId.BASIC_CONSTRAINTS, ExtensionId.EXTENDED_KEY_USAGE}
)
"""Extensions without which no verdict is possible: one that cannot be read refuses the certificate."""
UNDERSTOOD: Final = DECISIVE | {ExtensionId.CERTIFICATE_POLICIES}
"""Extensions that may be critical without a rule, because they are acted on here."""
UNENFORCED: Final = frozenset(
    {
        ExtensionId.NAME_CONSTRAINTS,
        ExtensionId.POLICY_MAPPINGS,
        ExtensionId.POLICY_CONSTRAINTS,
        ExtensionId.INHIBIT_ANY_POLICY,
    }
)
"""Constraints that a CA puts on all below it and that are not enforced here."""
_ENCODINGS: Final = {
    der.UTF8_STRING: "utf-8",
    der.PRINTABLE_STRING: "ascii",
    der.IA5_STRING: "ascii",
    0x14: "latin-1",  # TeletexString
    0x1E: "utf-16-be",  # BMPString
}


@dataclass(frozen=True, slots=True)
class Listed:
    """The extensions of one certificate."""

    found: dict[int | bytes, c509.Extension]
    """By number wherever one is registered."""
    repeated: tuple[int | bytes, ...]
    unreadable: tuple[int, ...]
    """Numbers of those that have no form of their own; their value is extnValue's octets."""

    def value(self, number: int) -> Any:  # noqa: ANN401 (typed by the number, see c509.Extension)
        """Return the value of a readable extension; None where there is none."""
        extension = self.found.get(number)
        return None if extension is None or number in self.unreadable else extension.value


def listed(certificate: c509.Certificate) -> Listed:
    """Return the extensions of `certificate`."""
    found: dict[int | bytes, c509.Extension] = {}
    repeated: list[int | bytes] = []
    unreadable: list[int] = []
    for extension in certificate.extensions:
        kind = extension.id
        if isinstance(kind, bytes):
            number = EXTENSIONS.numbers.get(kind)
            if number is not None:
                unreadable.append(number)
                kind = number
        if kind in found:
            repeated.append(kind)
        found[kind] = extension
    return Listed(found, tuple(repeated), tuple(unreadable))


def extension_name(kind: int | bytes) -> str:
    """Return the name of an extension, for people."""
    if isinstance(kind, bytes):
        return f"extension {der.oid_to_text(kind)}"
    return ExtensionId(kind).name.lower().replace("_", " ")


def policies_of(certificate: c509.Certificate) -> tuple[str, ...]:
    """Return the dotted identifiers of certificate policies; those with a number are none of ours."""
    policies: tuple[c509.PolicyInformation, ...] = (
        certificate.extension(ExtensionId.CERTIFICATE_POLICIES) or ()
    )
    return tuple(der.oid_to_text(found.policy) for found in policies if isinstance(found.policy, bytes))


def attributes(name: c509.Name) -> Iterator[tuple[int | bytes, str | None]]:
    """Yield type and text of each attribute, whatever string type it has; None: no text at all."""
    for kind, value in name.attributes:
        if isinstance(kind, int):
            yield abs(kind), value if isinstance(value, str) else None
        else:
            yield ATTRIBUTES.numbers.get(kind, kind), _text(value)


def _text(value: str | bytes) -> str | None:
    if isinstance(value, str):
        return value
    encoding = _ENCODINGS.get(value[0])
    if encoding is None:
        return None
    try:
        return der.whole(value, value[0]).decode(encoding)
    except ValueError:
        return None
