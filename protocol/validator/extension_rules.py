"""Which extensions are there, how critical they are, and if they can be read."""

from collections.abc import Iterator

from protocol import c509
from protocol.validator.listed import DECISIVE, UNDERSTOOD, Listed, extension_name
from protocol.validator.policy import Criticality, Extensions, Presence
from protocol.validator.reasons import Reason
from protocol.validator.sentences import Complaint


def extension_complaints(has: Listed, asked: Extensions) -> Iterator[Complaint]:
    """Yield what is wrong with presence, criticality and form of extensions."""
    for kind in has.repeated:
        yield Reason.EXTENSION_REPEATED, f"has its {extension_name(kind)} twice"
    for number in has.unreadable:
        if number in DECISIVE:
            yield Reason.EXTENSION_UNREADABLE, f"has a {extension_name(number)} that cannot be read"
    for kind, extension in has.found.items():
        complaint = _complaint_of(kind, extension, asked)
        if complaint is not None:
            yield complaint
    for kind, rule in asked.rules.items():
        if rule.presence is Presence.REQUIRED and kind not in has.found:
            yield Reason.EXTENSION_MISSING, f"lacks {extension_name(kind)}"
    for group in asked.one_of:
        if has.found.keys().isdisjoint(group):
            names = " or ".join(sorted(map(extension_name, group)))
            yield Reason.EXTENSION_MISSING, f"lacks {names}: one of them must be there"


def _complaint_of(kind: int | bytes, extension: c509.Extension, asked: Extensions) -> Complaint | None:
    rule = asked.rules.get(kind)
    if rule is None:
        if not asked.others:
            return Reason.EXTENSION_FORBIDDEN, f"must not have {extension_name(kind)}"
        if extension.critical and kind not in UNDERSTOOD:
            return Reason.UNHANDLED_CRITICAL, f"has a critical {extension_name(kind)}, not understood here"
    elif rule.presence is Presence.FORBIDDEN:
        return Reason.EXTENSION_FORBIDDEN, f"must not have {extension_name(kind)}"
    elif rule.critical is Criticality.MUST and not extension.critical:
        return Reason.CRITICALITY, f"has a {extension_name(kind)} that must be critical"
    elif rule.critical is Criticality.MUST_NOT and extension.critical:
        return Reason.CRITICALITY, f"has a {extension_name(kind)} that must not be critical"
    return None
