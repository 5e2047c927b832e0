"""The policy of a label: what its profile declares, asked of a certificate and of the CAs above it."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from protocol import c509
from protocol.c509 import ExtensionId, KeyUsage, PublicKeyAlgorithm
from protocol.cose import Algorithm
from protocol.end_entity import holder_of
from protocol.errors import RequestRejected
from protocol.exchange.request import KEY_ALGORITHMS, SIGNATURE_ALGORITHMS
from protocol.labels import Domain, Tier
from protocol.profiles import Listed, Profile, narrowed, prefix_of_name, prefixes_of_policies
from protocol.profiles.authorities import MAX_SUB_CAS, CaProfile, lines_of
from protocol.validator.listed import policies_of
from protocol.validator.policy import (
    Criticality,
    Extensions,
    LeafConstraints,
    Policy,
    Presence,
    Role,
    Rule,
    Subject,
)
from protocol.validator.reasons import Reason
from protocol.validator.signatures import Suite

_POINTERS: Final[frozenset[int | bytes]] = frozenset(
    {ExtensionId.AUTHORITY_INFO_ACCESS, ExtensionId.CRL_DISTRIBUTION_POINTS}
)
_IDENTIFIERS: Final = (ExtensionId.SUBJECT_KEY_IDENTIFIER, ExtensionId.AUTHORITY_KEY_IDENTIFIER)
_ALWAYS_CRITICAL: Final = Rule(Presence.REQUIRED, Criticality.MUST)
_REASONS: Final[dict[str, tuple[Reason, ...]]] = {
    "algorithm": (Reason.KEY_ALGORITHM, Reason.ALGORITHM, Reason.CURVE),
    "size": (Reason.TOO_LARGE,),
    "key-usage": (Reason.KEY_USAGE,),
    "extended-key-usage": (Reason.EXTENDED_KEY_USAGE,),
    "basic-constraints": (Reason.BASIC_CONSTRAINTS, Reason.LEAF_IS_CA, Reason.NOT_A_CA, Reason.PATH_LENGTH),
    "subject": (Reason.SUBJECT, Reason.ROLE),
    "policies": (Reason.POLICIES,),
    "critical": (Reason.CRITICALITY,),
    "extensions": (Reason.EXTENSION_FORBIDDEN,),
    "revocation-pointers": (Reason.EXTENSION_MISSING,),
    "key-identifiers": (Reason.KEY_IDENTIFIER,),
    "path": (Reason.PATH_TOO_LONG,),
}
"""Whose sentences end with a profile's requirement."""


# Two for each label that is used.
@lru_cache(maxsize=128)
def policy_of(profile: Profile, *, is_ours: bool = True) -> Policy:
    """Return what a relying party asks of certificates under `profile`.

    Where a caller knows more (how many sub-CAs a scheme has, that it needs the time), it asks
    `dataclasses.replace` for it.

    Args:
        profile: Of the label.
        is_ours: Whether the CAs are Trillium's: they list the labels that they may issue and the
            prefixes of the names that they give, and both are asked for. CAs of other schemes list
            neither; what they may issue is then a matter of the roots that are given.
    """
    lines = lines_of(profile.domain)
    line = lines.maker if profile.tier is Tier.BOOTSTRAPPING else lines.operator
    root, issuing = line[0], line[-1]
    form = profile.subject
    return Policy(
        name=profile.label,
        form=int(profile.form),
        leaf_keys=frozenset(KEY_ALGORITHMS[algorithm] for algorithm in profile.algorithms),
        key_usage=int(profile.key_usage),
        extended_key_usage=frozenset(profile.extended_key_usage),
        basic_constraints=LeafConstraints.CA_FALSE
        if profile.has_basic_constraints
        else LeafConstraints.ABSENT,
        subject=Subject(empty=form.is_alternative, check=_names_of(profile)),
        role=None if form.component is None else Role.of(form.component),
        extensions=_leaf_extensions(profile),
        policies=frozenset(profile.policies if is_ours else ()),
        key_identifier_bytes=_identifier_lengths(profile.key_identifier_bytes),
        suites=_suites(profile, line),
        # Green Book 9.2.6.4: a P-384 key is certified with no less.
        signers={PublicKeyAlgorithm.P384: frozenset({PublicKeyAlgorithm.P384})},
        ca_key_usage=int(KeyUsage.KEY_CERT_SIGN | KeyUsage.CRL_SIGN),
        ca_extensions=_ca_extensions(issuing, is_closed=profile.is_closed),
        exact_path_lengths=issuing.component is not None,
        root_role=None if root.component is None else Role.of(root.component),
        root_extensions=_root_extensions(),
        label=profile.label if is_ours else None,
        max_der=profile.max_der,
        max_intermediates=MAX_SUB_CAS,
        check=_prefixes_of(profile) if is_ours else None,
        sources={
            reason: requirement
            for rule, requirement in profile.requirements.items()
            for reason in _REASONS.get(rule, ())
        },
    )


def _suites(profile: Profile, line: tuple[CaProfile, ...]) -> frozenset[Suite]:
    algorithms = {ca.algorithm for ca in line}
    if profile.domain is Domain.METERING:
        # Green Book 9.2.6.4: a CA on either curve may certify a P-256 key.
        algorithms.add(Algorithm.ES384)
    return frozenset(Suite(KEY_ALGORITHMS[one], SIGNATURE_ALGORITHMS[one]) for one in algorithms)


def _identifier_lengths(length: int) -> frozenset[int] | None:
    """Return the lengths that will do: where a profile has the long one, the short one is as good."""
    return {0: None, 8: frozenset({8}), 20: frozenset({8, 20})}[length]


def _rule(profile: Profile | CaProfile, number: ExtensionId, presence: Presence) -> Rule:
    critical = Criticality.MUST if number in profile.critical else Criticality.MUST_NOT
    return Rule(presence, critical)


def _leaf_extensions(profile: Profile) -> Extensions:
    required = {
        ExtensionId.SUBJECT_ALT_NAME: profile.subject.is_alternative,
        ExtensionId.EXTENDED_KEY_USAGE: bool(profile.extended_key_usage),
        ExtensionId.CERTIFICATE_POLICIES: bool(profile.policies),
        **dict.fromkeys(_IDENTIFIERS, bool(profile.key_identifier_bytes)),
    }
    rules: dict[int | bytes, Rule] = {ExtensionId.KEY_USAGE: _ALWAYS_CRITICAL}
    for number in profile.optional:
        rules[number] = _rule(profile, number, Presence.OPTIONAL)
    if profile.has_basic_constraints:
        rules[ExtensionId.BASIC_CONSTRAINTS] = _ALWAYS_CRITICAL
    if profile.has_revocation_pointers:
        for number in (ExtensionId.AUTHORITY_INFO_ACCESS, ExtensionId.CRL_DISTRIBUTION_POINTS):
            rules[number] = _rule(profile, number, Presence.OPTIONAL)
    for number, is_required in required.items():
        if is_required:
            rules[number] = _rule(profile, number, Presence.REQUIRED)
    for number in profile.forbidden:
        rules[number] = Rule(Presence.FORBIDDEN)
    one_of = (_POINTERS,) if profile.has_revocation_pointers else ()
    return Extensions(rules, others=not profile.is_closed, one_of=one_of)


def _ca_extensions(issuing: CaProfile, *, is_closed: bool) -> Extensions:
    rules: dict[int | bytes, Rule] = {
        ExtensionId.KEY_USAGE: _ALWAYS_CRITICAL,
        ExtensionId.BASIC_CONSTRAINTS: _ALWAYS_CRITICAL,
        ExtensionId.CERTIFICATE_POLICIES: Rule(),
    }
    for number in _IDENTIFIERS:
        rules[number] = _rule(issuing, number, Presence.REQUIRED)
    for number in (ExtensionId.AUTHORITY_INFO_ACCESS, ExtensionId.CRL_DISTRIBUTION_POINTS):
        rules[number] = _rule(issuing, number, Presence.OPTIONAL)
    return Extensions(rules, others=not is_closed)


def _root_extensions() -> Extensions:
    """Return the rules of roots: whoever gave one as a root has looked at it, so they are few."""
    may = Rule(Presence.OPTIONAL, Criticality.MAY)
    return Extensions(
        {
            ExtensionId.KEY_USAGE: _ALWAYS_CRITICAL,
            ExtensionId.BASIC_CONSTRAINTS: _ALWAYS_CRITICAL,
            **dict.fromkeys(_IDENTIFIERS, may),
            **dict.fromkeys(_POINTERS, may),
        }
    )


def _names_of(profile: Profile) -> Callable[[c509.Certificate], str | None]:
    def check(certificate: c509.Certificate) -> str | None:
        try:
            holder_of(certificate, profile)
        except RequestRejected as error:
            return f"is named wrongly: {error}"
        return None

    return check


def _prefixes_of(profile: Profile) -> Callable[[tuple[c509.Certificate, ...]], str | None]:
    """Return the check that the CAs of a path may give its leaf's name (`protocol.profiles.prefixes`)."""

    def check(path: tuple[c509.Certificate, ...]) -> str | None:
        prefix = prefix_of_name(profile.naming, holder_of(path[0], profile))
        if prefix is None:
            return None
        own = prefixes_of_policies(policies_of(path[1])).get(prefix.space)
        if profile.tier is Tier.BOOTSTRAPPING and not own:
            return f"has a name, and its issuer lists no {prefix.space.title}"
        permitted: Listed = {}
        for ca in path[1:-1]:
            permitted = narrowed(permitted, prefixes_of_policies(policies_of(ca)))
        if prefix in permitted.get(prefix.space, (prefix,)):
            return None
        return f"has a name that begins with {prefix.space.title} {prefix}, which is not its issuers' to give"

    return check
