"""Whose certificate it is: the leaf's names, and the role that a subject's domain component names."""

from collections.abc import Iterator

from protocol import c509
from protocol.c509 import AttributeType, ExtensionId, der
from protocol.validator.listed import Listed, attributes
from protocol.validator.policy import Policy, Role, Subject
from protocol.validator.reasons import Reason
from protocol.validator.sentences import Complaint, printable

Attributes = list[tuple[int | bytes, str | None]]


def subject_complaints(certificate: c509.Certificate, has: Listed, policy: Policy) -> Iterator[Complaint]:
    """Yield what is wrong with the names of a leaf."""
    asked = policy.subject
    found = list(attributes(certificate.subject))
    if asked.empty and found:
        yield Reason.SUBJECT, "must have an empty subject"
    elif not found:
        if not asked.empty and (asked.common_name or asked.required):
            yield Reason.SUBJECT, "has an empty subject"
        alternative = has.found.get(ExtensionId.SUBJECT_ALT_NAME)
        if alternative is None or not alternative.critical:
            yield Reason.SUBJECT, "needs a critical subject alternative name in place of a subject"
    else:
        yield from _attribute_complaints(found, asked)
    wrong = None if asked.check is None else asked.check(certificate)
    if wrong:
        yield Reason.SUBJECT, printable(wrong)


def _attribute_complaints(found: Attributes, asked: Subject) -> Iterator[Complaint]:
    kinds = [kind for kind, _ in found]
    grammar = asked.common_name
    if grammar is not None:
        names = [text for kind, text in found if kind == AttributeType.COMMON_NAME]
        if len(names) != 1 or names[0] is None or not grammar.pattern.fullmatch(names[0]):
            yield Reason.SUBJECT, f"has no common name that is one {grammar.words}"
    for number in sorted(asked.required - set(kinds)):
        yield Reason.SUBJECT, f"lacks {_attribute_name(number)} in its subject"
    for kind in dict.fromkeys(kinds):
        is_listed = asked.permitted is not None or kind in asked.required
        if asked.permitted is not None and kind not in asked.permitted:
            yield Reason.SUBJECT, f"must not have {_attribute_name(kind)} in its subject"
        elif is_listed and kinds.count(kind) > 1:
            yield Reason.SUBJECT, f"has {_attribute_name(kind)} in its subject twice"


def _attribute_name(kind: int | bytes) -> str:
    if isinstance(kind, bytes):
        return f"attribute {der.oid_to_text(kind)}"
    return AttributeType(kind).name.lower().replace("_", " ")


def role_complaints(certificate: c509.Certificate, role: Role) -> Iterator[Complaint]:
    """Yield what is wrong with the role that a subject names."""
    named = [text for kind, text in attributes(certificate.subject) if kind == role.attribute]
    if not named and not role.required:
        return
    if len(named) != 1 or named[0] not in role.values:
        wanted = " or ".join(sorted(role.values))
        said = "none" if not named else printable(" and ".join(map(str, named)))
        yield Reason.ROLE, f"has role {said}, not {wanted}"
