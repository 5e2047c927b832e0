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


def three(domain: Domain, holder: str) -> dict[str, Row]:
    """One holder's certificates of DLMS/COSEM: a key-agreement key speaks for nobody."""
    ds = (f"{holder}-ds",)
    return {
        f"{holder}-boot": Row(domain, 1, Form.X509, (), (), ()),
        f"{holder}-ds": Row(domain, 2, Form.X509, (f"{holder}-boot",), ds, ds),
        f"{holder}-ka": Row(domain, 2, Form.X509, ds, ds, ds, AGREES),
        f"{holder}-tls": Row(domain, 2, Form.X509, ds, ds, ds, BOTH),
    }


def itself(domain: Domain, tier: int, form: Form, label: str, opener: str, usage: int = SIGNS) -> Row:
    return Row(domain, tier, form, (opener,), (label,), (label,), usage)


MO, CPO, CPS = Domain.EV_MO, Domain.EV_CPO, Domain.EV_CPS
MO20, CPO20, CPS20 = Domain.EV20_MO, Domain.EV20_CPO, Domain.EV20_CPS
TABLE = {
    **three(Domain.METERING, "meter"),
    "meter-session": itself(Domain.METERING, 3, Form.NATIVE, "meter-session", "meter-ds"),
    **three(Domain.METERING, "client"),
    **three(Domain.METERING2, "meter2"),
    "meter2-session": itself(Domain.METERING2, 3, Form.NATIVE, "meter2-session", "meter2-ds"),
    **three(Domain.METERING2, "client2"),
    "smki-boot": Row(Domain.SMKI, 1, Form.X509, (), (), ()),
    "smki-ds": itself(Domain.SMKI, 2, Form.X509, "smki-ds", "smki-boot"),
    "smki-ka": Row(Domain.SMKI, 2, Form.X509, ("smki-ds",), ("smki-ds",), ("smki-ds",), AGREES),
    "ev-oem": Row(MO, 1, Form.X509, (), (), (), BOTH),
    "ev-contract": itself(MO, 2, Form.X509, "ev-contract", "ev-oem", BOTH | 2 | 4),
    "ev-station": Row(CPO, 1, Form.X509, (), (), ()),
    "ev-secc": itself(CPO, 3, Form.X509, "ev-secc", "ev-station"),
    "ev-service": Row(CPS, 1, Form.X509, (), (), ()),
    "ev-cps": itself(CPS, 3, Form.X509, "ev-cps", "ev-service"),
    "ev20-oem": Row(MO20, 1, Form.X509, (), (), (), BOTH),
    "ev20-contract": itself(MO20, 2, Form.X509, "ev20-contract", "ev20-oem", BOTH),
    "ev20-station": Row(CPO20, 1, Form.X509, (), (), ()),
    "ev20-secc": itself(CPO20, 3, Form.X509, "ev20-secc", "ev20-station"),
    "ev20-service": Row(CPS20, 1, Form.X509, (), (), ()),
    "ev20-cps": itself(CPS20, 3, Form.X509, "ev20-cps", "ev20-service"),
    "its-boot": Row(Domain.ITS, 1, Form.X509, (), (), ()),
    "its-enroll": itself(Domain.ITS, 2, Form.NATIVE, "its-enroll", "its-boot"),
}
GENERATED = {"ev-contract", "ev20-contract"}
"""The authority makes their keys: one door, for the first and for every next."""
NUMBERS = {
    "meter-boot": 1, "meter-ds": 2, "meter-ka": 3, "meter-tls": 4, "meter-session": 5,
    "client-boot": 6, "client-ds": 7, "client-ka": 8, "client-tls": 9,
    "meter2-boot": 11, "meter2-ds": 12, "meter2-ka": 13, "meter2-tls": 14, "meter2-session": 15,
    "client2-boot": 16, "client2-ds": 17, "client2-ka": 18, "client2-tls": 19,
    "its-boot": 20, "its-enroll": 21, "smki-boot": 22, "smki-ds": 23, "smki-ka": 24,
    "ev-oem": 30, "ev-contract": 31, "ev-station": 32, "ev-secc": 33, "ev-service": 34, "ev-cps": 35,
    "ev20-oem": 36, "ev20-contract": 37, "ev20-station": 38, "ev20-secc": 39, "ev20-service": 40,
    "ev20-cps": 41,
}  # fmt: skip
"""For good: a CA certificate in the field says which labels it may issue by these."""


def test_the_table_has_every_label() -> None:
    assert set(TABLE) == set(PROFILES)


@pytest.mark.parametrize("label", TABLE)
def test_a_label_is_opened_by_whom_the_table_says_and_nobody_else(label: str) -> None:
    row, profile = TABLE[label], profile_of(label)
    assert (profile.domain, profile.tier, profile.form) == (row.domain, row.tier, row.form)
    assert profile.key_usage == row.usage
    for op in Operation:
        is_generated = label in GENERATED
        expected = {
            Operation.SEN: () if is_generated else row.sen,
            Operation.SREN: () if is_generated else row.sren,
            Operation.SKG: row.sen + row.sren if is_generated else (),
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
    assert {label: profile_of(label).number for label in TABLE} == NUMBERS


def test_over_the_air_labels_are_those_that_can_be_asked_for() -> None:
    assert set(profiles.over_the_air()) == {label for label, row in TABLE.items() if row.tier > 1}
    assert profiles.over_the_air(Domain.ITS) == ("its-enroll",)
    assert profiles.over_the_air(Domain.EV_MO) == ("ev-contract",)


def test_the_services_of_a_device_are_what_its_first_certificate_opens_directly_or_not() -> None:
    assert profiles.services_of("meter-boot") == ("meter-ds", "meter-ka", "meter-tls", "meter-session")
    assert profiles.services_of("client-boot") == ("client-ds", "client-ka", "client-tls")
    assert profiles.services_of("ev-oem") == ("ev-contract",)
    assert profiles.services_of("its-boot") == ("its-enroll",)


def test_only_keys_that_sign_are_declared_to_sign_messages() -> None:
    assert {label for label, profile in PROFILES.items() if profile.signs_messages} == {
        "meter-ds", "meter-session", "client-ds", "meter2-ds", "meter2-session", "client2-ds", "smki-ds",
        "ev-secc", "ev20-secc", "its-enroll",
    }  # fmt: skip
    assert all(profile.signs for profile in PROFILES.values() if profile.signs_messages)


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
        {"key_identifier_bytes": 7},
        {"form": Form.NATIVE, "validity": None},
        {"renew_after": 0.95, "renew_spread": 0.1},
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
        (Naming.PCID, "TRL00000000000001", True),
        (Naming.PCID, "TRL000000000000017", True),
        (Naming.PCID, "TRL0000000000001", False),
        (Naming.PCID, "trl00000000000001", False),
        (Naming.EMAID, "DETRLC00000001", True),
        (Naming.EMAID, "DETRLC000000019", True),
        (Naming.EMAID, "DE-TRL-C00000001-9", False),
        (Naming.EMAID, "DETRLC0000001", False),
        (Naming.SECCID, "DETRLE0001", True),
        (Naming.SECCID, "DETRLS" + "0" * 58, True),
        (Naming.SECCID, "DETRLS" + "0" * 59, False),
        (Naming.SECCID, "DE*TRL*E0001", False),
        (Naming.SERVICE, "cps-1", True),
        (Naming.SERVICE, "-", False),
    ],
)
def test_names_have_a_grammar(naming: Naming, name: str, is_good: bool) -> None:
    if is_good:
        assert naming.check(name) == name
        return
    with pytest.raises(RequestRejected) as caught:
        naming.check(name)
    assert caught.value.reason is ProblemKind.WRONG_SUBJECT
