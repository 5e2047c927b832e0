from dataclasses import dataclass
from typing import Any

import pytest

from protocol import profiles
from protocol.cose import Algorithm
from protocol.errors import ProblemKind, RequestRejected
from protocol.labels import Domain, Operation, Tier
from protocol.profiles import PROFILES, Form, KeyUsage, Naming, Profile, profile_of

SIGNS = KeyUsage.DIGITAL_SIGNATURE
AGREES = KeyUsage.KEY_AGREEMENT
BOTH = SIGNS | AGREES


@dataclass(frozen=True)
class Row:
    """One line of the table of labels: who opens what, and nothing else does."""

    domain: Domain
    tier: int
    form: Form
    sen: tuple[str, ...]
    sren: tuple[str, ...]
    conf: tuple[str, ...]
    usage: int = SIGNS


TABLE = {
    "meter-boot": Row(Domain.METERING, 1, Form.X509, (), (), ()),
    "meter-ds": Row(Domain.METERING, 2, Form.X509, ("meter-boot",), ("meter-ds",), ("meter-ds",)),
    "meter-ka": Row(Domain.METERING, 2, Form.X509, ("meter-ds",), ("meter-ds",), ("meter-ds",), AGREES),
    "meter-tls": Row(Domain.METERING, 2, Form.X509, ("meter-ds",), ("meter-ds",), ("meter-ds",), BOTH),
    "its-boot": Row(Domain.ITS, 1, Form.X509, (), (), ()),
    "its-enroll": Row(Domain.ITS, 2, Form.NATIVE, ("its-boot",), ("its-enroll",), ("its-enroll",)),
}  # fmt: skip


def test_the_table_has_every_label() -> None:
    assert set(TABLE) == set(PROFILES)


@pytest.mark.parametrize("label", TABLE)
def test_a_label_is_opened_by_whom_the_table_says_and_nobody_else(label: str) -> None:
    row, profile = TABLE[label], profile_of(label)
    assert (profile.domain, profile.tier, profile.form) == (row.domain, row.tier, row.form)
    assert profile.key_usage == row.usage
    for op in Operation:
        expected = {
            Operation.SEN: row.sen,
            Operation.SREN: row.sren,
            Operation.REV: row.sren,
            Operation.CONF: row.conf,
        }.get(op, ())
        assert profile.signers_of(op) == expected


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_tiers_domains_and_keys_hold_together(profile: Profile) -> None:
    assert profile_of(profile.label) is profile
    assert profile.is_over_the_air == (profile.tier is not Tier.BOOTSTRAPPING)
    openers = {label for op in Operation for label in profile.signers_of(op)}
    for opener in map(profile_of, openers):
        assert opener.domain is profile.domain
        assert opener.signs
        assert opener.tier <= profile.tier
    assert set(profile.algorithms) <= set(Algorithm)
    assert profile.signs or profile.key_usage & AGREES
    assert not profile.key_usage & (KeyUsage.KEY_CERT_SIGN | KeyUsage.CRL_SIGN), "no device is a CA"


def test_a_key_that_only_agrees_confirms_nothing_itself() -> None:
    assert not profile_of("meter-ka").signs
    assert all("meter-ka" not in p.signers_of(op) for p in PROFILES.values() for op in Operation)


def test_policies_are_numbers_under_our_arc_and_come_back_as_labels() -> None:
    oids = [profiles.policy_oid(label) for label in PROFILES]
    assert len(set(oids)) == len(oids)
    assert all(oid.startswith(profiles.POLICY_ARC + ".") for oid in oids)
    assert profiles.labels_of_policies(oids) == set(PROFILES)
    assert profiles.labels_of_policies([profiles.policy_oid("meter-ds"), "1.2.3"]) == {"meter-ds"}
    assert profiles.labels_of_policies(["2.5.29.32.0"]) == frozenset(), "anyPolicy permits nothing here"
    assert {label: profile_of(label).number for label in TABLE} == {
        "meter-boot": 1,
        "meter-ds": 2,
        "meter-ka": 3,
        "meter-tls": 4,
        "its-boot": 20,
        "its-enroll": 21,
    }


def test_over_the_air_labels_are_those_that_can_be_asked_for() -> None:
    assert set(profiles.over_the_air()) == {"meter-ds", "meter-ka", "meter-tls", "its-enroll"}
    assert profiles.over_the_air(Domain.ITS) == ("its-enroll",)
    assert profiles.over_the_air(Domain.EV) == ()


def test_an_unknown_label_is_not_found() -> None:
    with pytest.raises(RequestRejected) as caught:
        profile_of("x" * 10_000)
    assert caught.value.reason is ProblemKind.NOT_FOUND
    assert len(caught.value.detail) < 100


def declare(label: str = "new", **fields: Any) -> Profile:
    base: dict[str, Any] = {
        "number": 900,
        "domain": Domain.METERING,
        "tier": Tier.PARTICIPATION,
        "form": Form.X509,
        "naming": Naming.SYSTEM_TITLE,
        "opened_by": ("meter-ds",),
        "rekeyed_by": "meter-ds",
        "confirmed_by": "meter-ds",
    }
    return Profile(label=label, **(base | fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"tier": Tier.BOOTSTRAPPING},
        {"rekeyed_by": None},
        {"confirmed_by": None},
        {"opened_by": ()},
        {"opened_by": (), "rekeyed_by": None},
    ],
    ids=str,
)
def test_a_declaration_that_is_half_open_is_an_error(fields: dict[str, Any]) -> None:
    declare()
    with pytest.raises(ValueError, match="new: "):
        declare(**fields)


@pytest.mark.parametrize(
    ("profile", "why"),
    [
        (declare("meter-ds"), "never reused"),
        (declare(number=2), "never reused"),
        (declare(domain=Domain.ITS), "domains never mix"),
        (declare(opened_by=("meter-ka",)), "cannot sign"),
        (declare(confirmed_by="meter-ka"), "cannot sign"),
    ],
    ids=["label", "number", "domain", "opener", "confirmer"],
)
def test_a_declaration_that_does_not_fit_the_others_is_an_error(profile: Profile, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        profiles._by_label((*PROFILES.values(), profile))


@pytest.mark.parametrize(
    ("naming", "name", "is_good"),
    [
        (Naming.SYSTEM_TITLE, "54524C0000000001", True),
        (Naming.SYSTEM_TITLE, "54524c0000000001", False),
        (Naming.SYSTEM_TITLE, "54524C000000001", False),
        (Naming.SYSTEM_TITLE, "54524C00000000011", False),
        (Naming.SYSTEM_TITLE, "54524C0000000001\n", False),
        (Naming.SYSTEM_TITLE, "", False),
        (Naming.SYSTEM_TITLE, "٥٤٥٢٤٣٠٠٠٠٠٠٠٠٠١", False),
        (Naming.EUI64, "02-00-00-FF-FE-00-00-01", True),
        (Naming.EUI64, "02-00-00-FF-FE-00-00", False),
        (Naming.EUI64, "02-00-00-ff-fe-00-00-01", False),
        (Naming.EUI64, "02:00:00:FF:FE:00:00:01", False),
        (Naming.EUI64, "020000FFFE000001", False),
    ],
)
def test_names_have_a_grammar(naming: Naming, name: str, is_good: bool) -> None:
    if is_good:
        assert naming.check(name) == name
        return
    with pytest.raises(RequestRejected) as caught:
        naming.check(name)
    assert caught.value.reason is ProblemKind.WRONG_SUBJECT
