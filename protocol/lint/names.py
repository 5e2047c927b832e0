"""Rules about whose certificate it is: the subject, or what stands for it."""

from collections.abc import Iterator

from protocol import c509
from protocol.c509 import AttributeType, ExtensionId
from protocol.c509.der import oid_to_text
from protocol.c509.registry import ATTRIBUTE_LABELS
from protocol.errors import RequestRejected
from protocol.ev.names import Emaid
from protocol.lint.deviation import Deviation, Rule, Severity
from protocol.lint.shape import Shape
from protocol.lint.view import View
from protocol.profiles import Naming

_CN, _C = AttributeType.COMMON_NAME, AttributeType.COUNTRY
_O, _DC = AttributeType.ORGANIZATION, AttributeType.DOMAIN_COMPONENT
_NAME_OCTETS = 8
"""Of a system title, an EUI-64."""


def name_deviations(view: View, shape: Shape) -> Iterator[Deviation]:
    """Yield what is wrong with the subject, with what stands for it, and with the name itself."""
    if shape.is_alternative:
        yield from _alternative(view, shape)
    elif not view.names and _may_stand_for_subject(shape) and view.alternative_names:
        yield shape.deviation(
            Rule.SUBJECT,
            "an empty subject, a HardwareModuleName in its place",
            "the name as common name: the standard permits both, this profile has one",
            Severity.WARNING,
        )
        yield from _module(view, shape)
    else:
        yield from _subject(view, shape)
        if _may_stand_for_subject(shape) and ExtensionId.SUBJECT_ALT_NAME in view.has.found:
            yield from _module(view, shape)


def _may_stand_for_subject(shape: Shape) -> bool:
    return ExtensionId.SUBJECT_ALT_NAME in shape.optional


def _alternative(view: View, shape: Shape) -> Iterator[Deviation]:
    if view.names:
        yield shape.deviation(Rule.SUBJECT, f"subject {view.certificate.subject}", "an empty subject")
    yield from _module(view, shape)


def _module(view: View, shape: Shape) -> Iterator[Deviation]:
    """Yield what is wrong with a subject alternative name that is to be one HardwareModuleName."""
    expected = "a subject alternative name with one HardwareModuleName (RFC 4108)"
    names = view.alternative_names
    if ExtensionId.SUBJECT_ALT_NAME not in view.has.found:
        yield shape.deviation(Rule.SUBJECT, "no subject alternative name", expected)
    elif len(names) != 1 or names[0].type != c509.GeneralNameType.HARDWARE_MODULE_NAME:
        yield shape.deviation(Rule.SUBJECT, "a subject alternative name of another kind", expected)
    else:
        value = names[0].value
        assert isinstance(value, tuple)
        serial = value[1]
        own = [text for kind, text in view.names if kind == _CN]
        if len(serial) != _NAME_OCTETS:
            found = f"hardware serial number {serial[:32].hex()} of {len(serial)} octets"
            yield shape.deviation(Rule.NAME, found, f"the {_NAME_OCTETS} octets of the name")
        elif own and not shape.is_alternative and own != [serial.hex().upper()]:
            found = f"hardware serial number {serial.hex().upper()}"
            yield shape.deviation(Rule.NAME, found, f"{own[0]}, as the common name says")


def _subject(view: View, shape: Shape) -> Iterator[Deviation]:
    kinds = [kind for kind, _ in view.names]
    yield from _role(view, shape)
    for kind, is_wanted in ((_O, shape.has_organisation), (_C, shape.has_country)):
        if is_wanted and kind not in kinds:
            # The tables list the country, and nobody is known to look for it.
            severity = Severity.WARNING if kind == _C else Severity.ERROR
            yield shape.deviation(
                Rule.SUBJECT, f"no {_label(kind)} in the subject", f"{_label(kind)} of the issuer", severity
            )
    declared = {_CN, *([_O] if shape.has_organisation else []), *([_C] if shape.has_country else [])}
    if shape.component is not None:
        declared.add(_DC)
    extra = [kind for kind in dict.fromkeys(kinds) if kind not in declared]
    twice = [kind for kind in dict.fromkeys(kinds) if kind in declared - {_CN} and kinds.count(kind) > 1]
    wanted = ", ".join(_label(kind) for kind in sorted(declared)) + " alone"
    if extra:
        found = f"also {', '.join(map(_label, extra))} in the subject"
        yield shape.deviation(
            Rule.SUBJECT, found, wanted, Severity.ERROR if shape.is_closed else Severity.WARNING
        )
    if twice and _DC not in twice:
        yield shape.deviation(Rule.SUBJECT, f"{', '.join(map(_label, twice))} twice", wanted)
    if any(kind == _C for kind, _ in view.certificate.subject.attributes) and view.point is not None:
        # In X.509 the number of a PrintableString is negative.
        yield shape.deviation(
            Rule.SUBJECT,
            "a country that is a UTF8String",
            "a PrintableString",
            Severity.WARNING,
            requirement="RFC 5280 appendix A.1",
        )
    yield from _common_name(view, shape)


def _role(view: View, shape: Shape) -> Iterator[Deviation]:
    if shape.component is None:
        return
    named = [text for kind, text in view.names if kind == _DC]
    if named != [shape.component]:
        found = " and ".join(f"DC={text}" for text in named) or "no domain component (DC)"
        # Of CAs between root and end entity the tables fix nothing, and scripts of peers differ.
        severity = Severity.WARNING if shape.is_authority and not shape.is_root else Severity.ERROR
        yield shape.deviation(Rule.SUBJECT, found, f"DC={shape.component}, which tells the role", severity)


def _common_name(view: View, shape: Shape) -> Iterator[Deviation]:
    names = [text for kind, text in view.names if kind == _CN]
    if len(names) != 1 or names[0] is None:
        found = f"{len(names) or 'no'} common name{'' if len(names) == 1 else 's'}"
        yield shape.deviation(Rule.SUBJECT, found, "one common name, as text")
        return
    if shape.naming is None:
        return
    try:
        shape.naming.check(names[0])
    except RequestRejected:
        # What services are called is our own rule, whatever else the profile follows.
        is_ours = shape.naming is Naming.SERVICE
        yield shape.deviation(
            Rule.NAME,
            repr(names[0][:80]),
            shape.naming.value,
            Severity.WARNING if is_ours else Severity.ERROR,
            requirement=shape.source if is_ours else None,
        )
        return
    if shape.naming is Naming.EMAID:
        try:
            Emaid.parse(names[0])
        except RequestRejected:
            # Peers' contracts have check characters that nobody computed; stations do not look.
            check = Emaid.parse(names[0], verify=False).computed_check
            yield shape.deviation(
                Rule.NAME, f"{names[0]}, whose check character is wrong", f"…{check}", Severity.WARNING
            )


def _label(kind: int | bytes) -> str:
    return oid_to_text(kind) if isinstance(kind, bytes) else ATTRIBUTE_LABELS[kind]
