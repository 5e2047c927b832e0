"""Rules about extensions: which are there, how critical, and what they say."""

from collections.abc import Iterator, Mapping
from typing import Final

from protocol import c509
from protocol.c509 import ExtensionId, KeyUsage
from protocol.c509.der import oid_to_text
from protocol.c509.registry import KEY_PURPOSES, POLICIES
from protocol.lint.deviation import Deviation, Rule, Severity
from protocol.lint.shape import ALWAYS_CRITICAL, CA_WITHOUT_LIMIT, Shape
from protocol.lint.view import View
from protocol.validator.listed import extension_name

_RULES: Final[Mapping[int, Rule]] = {
    ExtensionId.KEY_USAGE: Rule.KEY_USAGE,
    ExtensionId.BASIC_CONSTRAINTS: Rule.BASIC_CONSTRAINTS,
    ExtensionId.EXTENDED_KEY_USAGE: Rule.EXTENDED_KEY_USAGE,
    ExtensionId.SUBJECT_KEY_IDENTIFIER: Rule.KEY_IDENTIFIERS,
    ExtensionId.AUTHORITY_KEY_IDENTIFIER: Rule.KEY_IDENTIFIERS,
    ExtensionId.AUTHORITY_INFO_ACCESS: Rule.REVOCATION_POINTERS,
    ExtensionId.CRL_DISTRIBUTION_POINTS: Rule.REVOCATION_POINTERS,
    ExtensionId.CERTIFICATE_POLICIES: Rule.POLICIES,
    ExtensionId.SUBJECT_ALT_NAME: Rule.SUBJECT,
}
"""Which rule is broken where an extension that is declared cannot be read."""
_JUDGED_BY_VALUE: Final = frozenset({ExtensionId.BASIC_CONSTRAINTS, ExtensionId.EXTENDED_KEY_USAGE})
"""Extensions whose mere presence another rule judges."""
_PURPOSE_NAMES: Final = {0: "any purpose", 1: "serverAuth", 2: "clientAuth"}


def extension_deviations(view: View, shape: Shape) -> Iterator[Deviation]:
    """Yield what is wrong with the extensions; what key identifiers and pointers say is judged elsewhere."""
    has = view.has
    for kind in dict.fromkeys(has.repeated):
        yield shape.deviation(
            Rule.EXTENSIONS,
            f"{extension_name(kind)} twice",
            "each extension once",
            requirement="RFC 5280 §4.2",
        )
    for number in dict.fromkeys(has.unreadable):
        rule = _RULES.get(number)
        if rule is not None and number in shape.declared | _JUDGED_BY_VALUE:
            found = f"a {extension_name(number)} that cannot be read"
            yield shape.deviation(rule, found, "its usual form, in DER")
    for kind, extension in has.found.items():
        yield from _presence(kind, extension, view, shape)
    yield from _key_usage(view, shape)
    yield from _purposes(view, shape)
    yield from _constraints(view, shape)
    yield from _policies(view, shape)


def _presence(kind: int | bytes, extension: c509.Extension, view: View, shape: Shape) -> Iterator[Deviation]:
    name = extension_name(kind)
    if kind in shape.declared or kind in shape.optional or kind in _JUDGED_BY_VALUE:
        wanted = kind in ALWAYS_CRITICAL or kind in shape.critical
        if kind == ExtensionId.SUBJECT_ALT_NAME and not shape.is_alternative:
            wanted = not view.names  # RFC 5280 §4.2.1.6: critical where it stands for the subject
        if extension.critical != wanted:
            yield shape.deviation(Rule.CRITICAL, f"{name} {_is_critical(not wanted)}", _is_critical(wanted))
    elif kind in shape.forbidden or shape.is_closed:
        yield shape.deviation(Rule.EXTENSIONS, name, "no such extension")
    elif extension.critical:
        yield shape.deviation(
            Rule.EXTENSIONS,
            f"{name}, critical",
            "no critical extension that relying parties do not know",
            requirement="RFC 5280 §4.2",
        )
    else:
        yield shape.deviation(
            Rule.EXTENSIONS, name, "the declared extensions alone: others cost bytes", Severity.WARNING
        )


def _is_critical(is_critical: bool) -> str:
    return "critical" if is_critical else "not critical"


def _key_usage(view: View, shape: Shape) -> Iterator[Deviation]:
    if ExtensionId.KEY_USAGE in view.has.unreadable:
        return
    usage: int | None = view.has.value(ExtensionId.KEY_USAGE)
    wanted = f"{usages(shape.key_usage)} alone"
    if usage is None:
        yield shape.deviation(Rule.KEY_USAGE, "no key usage", wanted)
    elif usage != shape.key_usage:
        # Authorities whose keys sign other things besides are in use, and their leaves are taken.
        is_more = shape.is_authority and usage & shape.key_usage == shape.key_usage
        yield shape.deviation(
            Rule.KEY_USAGE, usages(usage), wanted, Severity.WARNING if is_more else Severity.ERROR
        )


def usages(bits: int) -> str:
    """Return key usages as X.509 spells them."""
    words = [(usage.name or "").split("_") for usage in KeyUsage if bits & usage]
    named = [word[0].lower() + "".join(map(str.title, word[1:])) for word in words]
    return ", ".join(named).replace("crlSign", "cRLSign") or "no bit at all"


def _purposes(view: View, shape: Shape) -> Iterator[Deviation]:
    found = view.has.found.get(ExtensionId.EXTENDED_KEY_USAGE)
    if ExtensionId.EXTENDED_KEY_USAGE in view.has.unreadable:
        return
    said: tuple[int | bytes, ...] = view.has.value(ExtensionId.EXTENDED_KEY_USAGE) or ()
    wanted = purposes(sorted(shape.extended_key_usage)) if shape.extended_key_usage else "none"
    if found is None:
        if shape.extended_key_usage:
            yield shape.deviation(Rule.EXTENDED_KEY_USAGE, "no extended key usage", wanted)
    elif frozenset(said) != shape.extended_key_usage:
        is_refused = shape.extended_key_usage or shape.is_closed
        severity = Severity.ERROR if is_refused else None
        yield shape.deviation(Rule.EXTENDED_KEY_USAGE, purposes(said), wanted, severity)


def purposes(said: "tuple[int | bytes, ...] | list[int]") -> str:
    """Return extended key usages as X.509 spells them, object identifiers as they are."""
    return ", ".join(
        oid_to_text(one)
        if isinstance(one, bytes)
        else _PURPOSE_NAMES.get(one) or oid_to_text(KEY_PURPOSES.oids[one])
        for one in said
    )


def _constraints(view: View, shape: Shape) -> Iterator[Deviation]:
    if ExtensionId.BASIC_CONSTRAINTS in view.has.unreadable:
        return
    said: int | None = view.has.value(ExtensionId.BASIC_CONSTRAINTS)
    if shape.is_authority:
        if said is None or said < CA_WITHOUT_LIMIT:
            yield shape.deviation(Rule.BASIC_CONSTRAINTS, _constraint(said), "CA:TRUE")
        elif said not in shape.constraints:
            wanted = " or ".join(map(_constraint, sorted(shape.constraints)))
            yield shape.deviation(Rule.PATH_LENGTH, _constraint(said), wanted, None)
    elif said is not None and said >= CA_WITHOUT_LIMIT:
        wanted = " or ".join(map(_constraint, shape.constraints)) or "no basic constraints"
        yield shape.deviation(Rule.BASIC_CONSTRAINTS, _constraint(said), wanted)
    elif said is None and shape.constraints:
        yield shape.deviation(Rule.BASIC_CONSTRAINTS, _constraint(said), "CA:FALSE")
    elif said is not None and not shape.constraints:
        severity = Severity.ERROR if shape.is_closed else None
        yield shape.deviation(Rule.BASIC_CONSTRAINTS, _constraint(said), "no basic constraints", severity)


def _constraint(said: int | None) -> str:
    if said is None:
        return "no basic constraints"
    if said < CA_WITHOUT_LIMIT:
        return "CA:FALSE"
    return "CA:TRUE" + (" without path length" if said == CA_WITHOUT_LIMIT else f" with path length {said}")


def _policies(view: View, shape: Shape) -> Iterator[Deviation]:
    if not shape.policies or ExtensionId.CERTIFICATE_POLICIES in view.has.unreadable:
        return
    said: tuple[c509.PolicyInformation, ...] = view.has.value(ExtensionId.CERTIFICATE_POLICIES) or ()
    dotted = [
        oid_to_text(one.policy if isinstance(one.policy, bytes) else POLICIES.oids[one.policy])
        for one in said
    ]
    wanted = ", ".join(sorted(shape.policies))
    if not dotted:
        yield shape.deviation(Rule.POLICIES, "no certificate policies", wanted)
    elif len(dotted) > len(shape.policies) and ExtensionId.CERTIFICATE_POLICIES in shape.critical:
        found = f"{len(dotted)} policies"
        yield shape.deviation(Rule.POLICIES, found, f"{len(shape.policies)}, as it is critical")
    elif frozenset(dotted) != shape.policies:
        yield shape.deviation(
            Rule.POLICIES, ", ".join(dotted), f"{wanted}, or the scheme's own", Severity.WARNING
        )
