"""docs/profiles.md says of each label what its declaration says: whoever changes one changes the other."""

from pathlib import Path

import pytest

from protocol.c509 import ExtensionId
from protocol.lint import Rule, authority_names, shape_of
from protocol.lint.body import key_name
from protocol.lint.extensions import purposes, usages
from protocol.profiles import PROFILES, Form, Profile
from protocol.profiles.declaration import DAY

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "profiles.md").read_text()
_SHORT = {
    ExtensionId.SUBJECT_KEY_IDENTIFIER: "SKI",
    ExtensionId.AUTHORITY_KEY_IDENTIFIER: "AKI",
    ExtensionId.AUTHORITY_INFO_ACCESS: "AIA",
    ExtensionId.CRL_DISTRIBUTION_POINTS: "CRLDP",
    ExtensionId.CERTIFICATE_POLICIES: "policies",
    ExtensionId.SUBJECT_ALT_NAME: "SAN",
    ExtensionId.SUBJECT_INFO_ACCESS: "SIA",
    ExtensionId.ISSUER_ALT_NAME: "IAN",
}


def table(heading: str) -> dict[str, list[str]]:
    """The rows of the table below a heading, by their first cell."""
    lines = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0].splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("|")][2:]
    return {cells[0].strip().strip("`"): [cell.strip() for cell in cells[1:]] for cells in rows}


def life(profile: Profile) -> str:
    if profile.validity is None:
        return "no end"
    days = profile.validity // DAY
    return f"{days // 365} years" if days >= 730 else f"{days} days"


def subject(profile: Profile) -> str:
    form = profile.subject
    if form.is_alternative:
        return "empty; SAN"
    parts = [f"DC={form.component}"] if form.component else []
    parts += ["C"] if form.has_country else []
    return ", ".join([*parts, *(["O"] if form.has_organisation else []), "CN"])


def shape(label: str) -> list[str]:
    """Who it is for, and the key."""
    profile = PROFILES[label]
    extended = f"; {purposes(list(profile.extended_key_usage))}" if profile.extended_key_usage else ""
    return [
        str(profile.number),
        shape_of(label).title,
        "native" if profile.form is Form.NATIVE else "X.509",
        f"{subject(profile)} = {profile.naming.name}",
        " or ".join(key_name(number) for number in sorted(shape_of(label).key_algorithms)),
        usages(int(profile.key_usage)) + extended,
        life(profile),
    ]


def listed(numbers: frozenset[ExtensionId]) -> str:
    return ", ".join(_SHORT[number] for number in sorted(numbers)) or "-"


def extensions(label: str) -> list[str]:
    """What else it says."""
    profile = PROFILES[label]
    return [
        "CA:FALSE" if profile.has_basic_constraints else "none",
        str(profile.key_identifier_bytes or "-"),
        "yes" if profile.has_revocation_pointers else "-",
        str(len(profile.policies) or "-"),
        listed(profile.critical),
        listed(profile.optional),
        "all others" if profile.is_closed else listed(profile.forbidden),
        "-" if profile.max_der is None else str(profile.max_der),
    ]


@pytest.mark.parametrize("label", PROFILES)
def test_the_tables_say_what_is_declared(label: str) -> None:
    assert table("Names, keys and lives")[label] == shape(label)
    assert table("Extensions")[label] == extensions(label)


def test_no_table_has_a_label_that_is_none() -> None:
    assert list(table("Names, keys and lives")) == list(table("Extensions")) == list(PROFILES)


def test_the_page_names_every_rule() -> None:
    assert list(table("Rules")) == [rule.value for rule in Rule]


def test_the_page_names_every_ca() -> None:
    text = PAGE.split("## CAs\n")[1]
    named = {name for name in authority_names() if f"`{name}`" in text}
    assert named == set(authority_names())
