"""Shapes of CA certificates, by the names that `protocol.profiles.authorities` gives them.

A name stands for a CA wherever lines of any length have it: `ev-mo-operator` is the last sub-CA of one to
three, and the root itself where there is none.
"""

from collections.abc import Mapping
from functools import cache
from typing import Final

from protocol.c509 import ExtensionId
from protocol.errors import ProblemKind, RequestRejected
from protocol.exchange.request import KEY_ALGORITHMS, SIGNATURE_ALGORITHMS
from protocol.labels import Domain
from protocol.lint.deviation import Rule
from protocol.lint.shape import CA_USAGE, CA_WITHOUT_LIMIT, Shape, standard_of
from protocol.profiles import PROFILES, Profile, profile_of
from protocol.profiles.authorities import MAX_SUB_CAS, SCHEME_ROOT, CaProfile, lines_of

_METERING: Final[Mapping[str, str]] = {
    Rule.ALGORITHM: "Green Book 9.2.6.4, security suite",
    Rule.KEY_USAGE: "Green Book 9.2.6.4, keyCertSign and cRLSign",
    Rule.BASIC_CONSTRAINTS: "Green Book 9.2.6.4, basic constraints in a CA",
    Rule.CRITICAL: "Green Book 9.2.6.4, criticality",
}
_CLAUSES: Final[Mapping[Domain, Mapping[str, str]]] = {
    Domain.METERING: _METERING,
    Domain.METERING2: _METERING,
    Domain.SMKI: {
        Rule.ALGORITHM: "GBCS 12: P-256 with SHA-256 only",
        Rule.KEY_IDENTIFIERS: "GBCS 12: method 2",
    },
}
"""What standards ask of CAs, where it is not what they ask of end entities."""
_V2G_ROOT: Final = "[V2G2-011]"
_LEAP_DAYS: Final = 11 * 24 * 3600
"""Forty years of a calendar are longer than forty times 365 days by this much, at most."""
_BACKDATE: Final = 24 * 3600


def authority_names() -> tuple[str, ...]:
    """Return the name of every CA that can be judged."""
    return tuple(dict.fromkeys(name for name, _ in _shapes()))


def label_names() -> tuple[str, ...]:
    """Return everything that a certificate can be judged against: labels, then CAs."""
    return (*PROFILES, *authority_names())


def shape_of(label: str, *, is_root: bool = False) -> Shape:
    """Return the shape of certificates under a label, or of a CA by its name.

    Args:
        label: Of a profile, or a CA's name.
        is_root: Whether the certificate in question names itself as its issuer: where a line has no
            sub-CAs, its issuing CA is a root.

    Raises:
        RequestRejected: Neither; NOT_FOUND.
    """
    if label in PROFILES:
        return _profile_shape(label)
    shapes = _shapes()
    found = shapes.get((label, is_root)) or shapes.get((label, not is_root))
    if found is None:
        raise RequestRejected(ProblemKind.NOT_FOUND, f"neither a label nor a CA is called {label[:64]!r}")
    return found


@cache
def _profile_shape(label: str) -> Shape:
    return Shape.of(profile_of(label))


@cache
def _shapes() -> Mapping[tuple[str, bool], Shape]:
    """Return all shapes, by name and whether it is a root."""
    found: dict[tuple[str, bool], Shape] = {}
    for domain in Domain:
        for sub_cas in range(MAX_SUB_CAS, -1, -1):
            lines = lines_of(domain, sub_cas)
            for line in (lines.operator, lines.maker):
                for index, authority in enumerate(line):
                    key = (authority.name, index == 0)
                    below = len(line) - 1 - index
                    known = found.get(key)
                    issuer = None if index == 0 else line[index - 1]
                    found[key] = _shape(domain, authority, issuer, below, known)
    return found


def _shape(
    domain: Domain, authority: CaProfile, issuer: CaProfile | None, below: int, known: Shape | None
) -> Shape:
    is_v2g_root = issuer is None and authority.component == "V2G"
    leaf = _leaf_of(domain) if authority.component is not None else None
    clauses: dict[str, str] = dict(_CLAUSES.get(domain, {}) if authority.name != SCHEME_ROOT else {})
    if leaf is not None:
        # The tables of ISO 15118 are of one kind for CAs and end entities.
        clauses = {rule: text for rule, text in leaf.requirements.items() if rule != Rule.NAME}
        if is_v2g_root and domain in (Domain.EV_CPO, Domain.EV_CPS):
            clauses[Rule.VALIDITY] = _V2G_ROOT
    limit = below if authority.has_path_length else CA_WITHOUT_LIMIT
    return Shape(
        label=authority.name,
        title=_title(domain, authority, is_root=issuer is None),
        requirements=clauses,
        is_authority=True,
        is_root=issuer is None,
        key_algorithms=frozenset({KEY_ALGORITHMS[authority.algorithm]}),
        signature_algorithms=frozenset({SIGNATURE_ALGORITHMS[(issuer or authority).algorithm]}),
        component=authority.component,
        has_organisation=authority.has_organisation,
        has_country=authority.has_organisation,
        key_usage=CA_USAGE,
        constraints=frozenset({limit} if known is None else {limit, *known.constraints}),
        key_identifier_bytes=authority.key_identifier_bytes,
        has_revocation_pointers=authority.has_revocation_pointers,
        critical=authority.critical,
        optional=_POLICIES_AND_POINTERS if issuer is None else _POLICIES,
        is_closed=leaf is not None and leaf.is_closed,
        max_der=None if leaf is None else leaf.max_der,
        validity=authority.validity + _BACKDATE + (_LEAP_DAYS if is_v2g_root else 0),
        least_validity=authority.validity if clauses.get(Rule.VALIDITY) == _V2G_ROOT else 0,
    )


_POLICIES: Final = frozenset({ExtensionId.CERTIFICATE_POLICIES})
_POLICIES_AND_POINTERS: Final = _POLICIES | {
    ExtensionId.AUTHORITY_INFO_ACCESS,
    ExtensionId.CRL_DISTRIBUTION_POINTS,
}
"""A root may say where its revocations are, and nobody asks a root for them."""


def _leaf_of(domain: Domain) -> Profile:
    """Return an end entity's profile that the domain's standard describes."""
    return next(p for p in PROFILES.values() if p.domain is domain and p.requirements)


def _title(domain: Domain, authority: CaProfile, *, is_root: bool) -> str:
    if authority.name == SCHEME_ROOT:
        return "scheme root"
    kind = "root" if is_root else "CA"
    if authority.component is None:
        return f"{standard_of(domain)} {kind}"
    return f"{standard_of(domain)} {authority.component} {'root' if is_root else 'sub-CA'}"
