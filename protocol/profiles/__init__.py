"""One declarative profile per label."""

from collections.abc import Iterable, Mapping
from typing import Final

from protocol.c509 import KeyUsage
from protocol.errors import ProblemKind, RequestRejected
from protocol.labels import Domain
from protocol.profiles import ev, its, metering, smki
from protocol.profiles.declaration import POLICY_ARC, Form, Profile
from protocol.profiles.naming import Naming, SubjectForm
from protocol.profiles.prefixes import (
    Listed,
    NameSpace,
    Prefix,
    name_space,
    narrowed,
    prefix_of_name,
    prefixes_of_policies,
)

__all__ = [
    "POLICY_ARC", "PROFILES", "Form", "KeyUsage", "Listed", "NameSpace", "Naming", "Prefix", "Profile",
    "SubjectForm", "labels_of_policies", "name_space", "narrowed", "over_the_air", "policy_oid",
    "prefix_of_name", "prefixes_of_policies", "profile_of", "services_of",
]  # fmt: skip


def _by_label(profiles: Iterable[Profile]) -> Mapping[str, Profile]:
    table: dict[str, Profile] = {}
    numbers: set[int] = set()
    for profile in profiles:
        if profile.label in table or profile.number in numbers:
            raise ValueError(f"{profile.label}: labels and numbers are never reused")
        if profile.number < 1:
            raise ValueError(f"{profile.label}: number 0 is the makers' prefixes")
        table[profile.label] = profile
        numbers.add(profile.number)
    for profile in table.values():
        for other in (*profile.opened_by, profile.rekeyed_by, profile.confirmed_by):
            if other is None:
                continue
            if table[other].domain is not profile.domain:
                raise ValueError(f"{profile.label}: domains never mix")
            if not table[other].signs:
                raise ValueError(f"{profile.label}: {other} cannot sign")
    return table


PROFILES: Final[Mapping[str, Profile]] = _by_label(
    (*metering.PROFILES, *smki.PROFILES, *ev.PROFILES, *its.PROFILES)
)
"""Every label."""


def profile_of(label: str) -> Profile:
    """Return the profile of `label`.

    Raises:
        RequestRejected: There is no such label; NOT_FOUND.
    """
    profile = PROFILES.get(label)
    if profile is None:
        raise RequestRejected(ProblemKind.NOT_FOUND, f"no label {label[:64]!r}")
    return profile


def over_the_air(domain: Domain | None = None) -> tuple[str, ...]:
    """Return the labels that can be asked for, of one domain or of all."""
    return tuple(p.label for p in PROFILES.values() if p.is_over_the_air and domain in (None, p.domain))


def services_of(bootstrap: str) -> tuple[str, ...]:
    """Return the labels that a tier 1 certificate opens, directly or by one that it opened."""
    found = [bootstrap]
    for label in found:
        found += [other for other, p in PROFILES.items() if label in p.opened_by and other not in found]
    return tuple(label for label in PROFILES if label in found[1:])


def policy_oid(label: str) -> str:
    """Return the dotted policy OID by which a CA certificate permits `label`."""
    return f"{POLICY_ARC}.{profile_of(label).number}"


def labels_of_policies(policies: Iterable[str]) -> frozenset[str]:
    """Return the labels that a list of dotted policy OIDs permits; foreign OIDs permit none."""
    listed = set(policies)
    return frozenset(label for label in PROFILES if policy_oid(label) in listed)
