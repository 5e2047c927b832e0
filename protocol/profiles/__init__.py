"""One declarative profile per label."""

from collections.abc import Iterable, Mapping
from typing import Final

from protocol.errors import ProblemKind, RequestRejected
from protocol.labels import Domain
from protocol.profiles import its, metering
from protocol.profiles.declaration import Form, KeyUsage, Naming, Profile

__all__ = [
    "POLICY_ARC", "PROFILES", "Form", "KeyUsage", "Naming", "Profile",
    "labels_of_policies", "over_the_air", "policy_oid", "profile_of",
]  # fmt: skip

POLICY_ARC: Final = "2.25.161999519730467352631162911968179934231"
"""Our arc of policy OIDs (ITU-T X.667: a UUID needs no registration): a CA certificate that lists
`POLICY_ARC.n` may issue certificates of the label whose number is n."""


def _by_label(profiles: Iterable[Profile]) -> Mapping[str, Profile]:
    table: dict[str, Profile] = {}
    numbers: set[int] = set()
    for profile in profiles:
        if profile.label in table or profile.number in numbers:
            raise ValueError(f"{profile.label}: labels and numbers are never reused")
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


PROFILES: Final[Mapping[str, Profile]] = _by_label((*metering.PROFILES, *its.PROFILES))
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


def policy_oid(label: str) -> str:
    """Return the dotted policy OID by which a CA certificate permits `label`."""
    return f"{POLICY_ARC}.{profile_of(label).number}"


def labels_of_policies(policies: Iterable[str]) -> frozenset[str]:
    """Return the labels that a list of dotted policy OIDs permits; foreign OIDs permit none."""
    listed = set(policies)
    return frozenset(label for label in PROFILES if policy_oid(label) in listed)
