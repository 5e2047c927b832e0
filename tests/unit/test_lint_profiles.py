"""Lint over every label: what conforms has no deviation, and each thing that is wrong is its own rule."""

from collections.abc import Callable

import pytest

from protocol import c509
from protocol.c509 import Extension, ExtensionId, KeyUsage
from protocol.c509.der import oid_from_text
from protocol.cose import Algorithm
from protocol.lint import Deviation, Rule, lint, notes, recognise, shape_of
from protocol.profiles import PROFILES, Naming, profile_of
from tests.lint_samples import (
    COMPONENT,
    COUNTRY,
    NAMES,
    NOW,
    ORGANISATION,
    UNIT,
    Sample,
    issuing,
    sample,
    signer,
)

LABELS = tuple(PROFILES)
DAY = 24 * 3600
PRIVATE = oid_from_text("1.3.6.1.4.1.99999.1")
KU, BC, EKU = ExtensionId.KEY_USAGE, ExtensionId.BASIC_CONSTRAINTS, ExtensionId.EXTENDED_KEY_USAGE
SKI, AKI = ExtensionId.SUBJECT_KEY_IDENTIFIER, ExtensionId.AUTHORITY_KEY_IDENTIFIER
AIA, CRL = ExtensionId.AUTHORITY_INFO_ACCESS, ExtensionId.CRL_DISTRIBUTION_POINTS
CP, SAN, IAN = ExtensionId.CERTIFICATE_POLICIES, ExtensionId.SUBJECT_ALT_NAME, ExtensionId.ISSUER_ALT_NAME


def judged(made: c509.Certificate, label: str, issuer: c509.Certificate | None = None) -> list[Deviation]:
    der = None if made.type == c509.NATIVE else made.to_der()
    return list(lint(made, der, profile_of(label), issuer=issuer))


def rules(wrong: Sample, label: str) -> set[Rule]:
    return {deviation.rule for deviation in judged(wrong.make(), label)}


@pytest.mark.parametrize("label", LABELS)
def test_what_issuers_here_make_has_no_deviation(label: str) -> None:
    made = sample(label).make()
    assert judged(made, label) == []
    assert notes(made) == ()


@pytest.mark.parametrize("label", LABELS)
def test_it_is_recognised(label: str) -> None:
    assert (label, 0) in recognise(sample(label).make())


def other_curve(label: str) -> Algorithm:
    return Algorithm.ES256 if profile_of(label).algorithms != (Algorithm.ES256,) else Algorithm.ES384


def foreign_curve(label: str) -> Algorithm:
    """A curve that no issuer of this label may have."""
    used = issuing(profile_of(label)).algorithm
    return Algorithm.ES512 if used is not Algorithm.ES512 else Algorithm.ES384


def misnamed(label: str) -> Sample:
    """A name that is not of the grammar, in the place where this label has it."""
    good, profile = sample(label), profile_of(label)
    if profile.subject.is_alternative:
        (module,) = good.find(SAN).value  # type: ignore[union-attr]  # it is there
        short = c509.GeneralName(module.type, (module.value[0], b"\1\2\3"))
        return good.having(SAN, (short,))
    spoiled = "two words" if profile.naming is Naming.SERVICE else NAMES[profile.naming].lower()
    return good.with_attribute(1, spoiled)


ALWAYS: dict[str, tuple[Rule, Callable[[str], Sample]]] = {
    "another key usage": (Rule.KEY_USAGE, lambda label: sample(label).usage(KeyUsage.DATA_ENCIPHERMENT)),
    "one key usage more": (
        Rule.KEY_USAGE,
        lambda label: sample(label).usage(int(profile_of(label).key_usage), KeyUsage.DECIPHER_ONLY),
    ),
    "no key usage": (Rule.KEY_USAGE, lambda label: sample(label).without(KU)),
    "key usage not critical": (Rule.CRITICAL, lambda label: sample(label).criticality(KU)),
    "a CA": (Rule.BASIC_CONSTRAINTS, lambda label: sample(label).having(BC, -1, critical=True)),
    "a purpose too many": (Rule.EXTENDED_KEY_USAGE, lambda label: sample(label).having(EKU, (1, 2, 3))),
    "extension of nobody": (Rule.EXTENSIONS, lambda label: sample(label).having(PRIVATE, b"\5\0")),
    "critical one of nobody": (
        Rule.EXTENSIONS,
        lambda label: sample(label).having(PRIVATE, b"\5\0", critical=True),
    ),
    "alternative name of the issuer": (
        Rule.EXTENSIONS,
        lambda label: sample(label).having(IAN, (c509.GeneralName(2, "x.example"),)),
    ),
    "wrong name": (Rule.NAME, misnamed),
    "serial number of 21 octets": (Rule.SERIAL, lambda label: sample(label).but(serial=1 << 160)),
    "ends before it begins": (
        Rule.VALIDITY,
        lambda label: sample(label).but(not_before=NOW, not_after=NOW - 1),
    ),
    "key on another curve": (Rule.ALGORITHM, lambda label: sample(label, algorithm=other_curve(label))),
    "issuer on another curve": (
        Rule.SIGNATURE_ALGORITHM,
        lambda label: sample(label).but(issuer=signer(foreign_curve(label), "issuer")),
    ),
    "its own issuer": (
        Rule.ISSUER,
        lambda label: sample(label).but(issuer_name=sample(label).subject),
    ),
}


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("wrong", ALWAYS)
def test_each_single_fault_is_its_own_rule(label: str, wrong: str) -> None:
    rule, spoil = ALWAYS[wrong]
    assert rules(spoil(label), label) == {rule}


@pytest.mark.parametrize("label", LABELS)
def test_a_longer_life_than_declared_is_a_deviation(label: str) -> None:
    profile, good = profile_of(label), sample(label)
    if profile.validity is None:
        wrong = good.but(not_after=NOW + 365 * DAY)
    else:
        assert good.not_after is not None
        assert rules(good.but(not_after=None), label) == {Rule.VALIDITY}
        wrong = good.but(not_after=good.not_after + 1)
    assert rules(wrong, label) == {Rule.VALIDITY}


@pytest.mark.parametrize("label", LABELS)
def test_the_other_form_is_a_deviation(label: str) -> None:
    good = sample(label)
    assert rules(good.but(form=5 - good.form), label) == {Rule.FORM}


@pytest.mark.parametrize("label", LABELS)
def test_the_criticality_of_every_extension_is_judged_both_ways(label: str) -> None:
    good = sample(label)
    for found in good.extensions:
        assert rules(good.criticality(int(found.id)), label) == {Rule.CRITICAL}, found


@pytest.mark.parametrize("label", LABELS)
def test_a_point_that_is_not_on_the_curve_is_a_deviation(label: str) -> None:
    made = sample(label).make()
    point = made.public_key[1:]
    for last in range(256):
        spoiled = made.encoded.replace(point, point[:-1] + bytes((last,)))
        try:
            found = judged_c509(spoiled, label)
        except AssertionError:
            continue
        assert found == {Rule.PUBLIC_KEY}
        return
    pytest.fail("every x is on the curve")


def judged_c509(encoded: bytes, label: str) -> set[Rule]:
    """Judge C509 whose point may be on no curve; AssertionError where it is on one."""
    deviations = lint(c509.decode_certificate(encoded), None, profile_of(label))
    found = {deviation.rule for deviation in deviations}
    assert Rule.PUBLIC_KEY in found
    return found


@pytest.mark.parametrize("label", [label for label in LABELS if PROFILES[label].has_basic_constraints])
def test_missing_basic_constraints_are_a_deviation(label: str) -> None:
    assert rules(sample(label).without(BC), label) == {Rule.BASIC_CONSTRAINTS}


@pytest.mark.parametrize("label", [label for label in LABELS if not PROFILES[label].has_basic_constraints])
def test_basic_constraints_of_an_end_entity_are_a_deviation_where_there_are_none(label: str) -> None:
    assert rules(sample(label).having(BC, -2, critical=True), label) == {Rule.BASIC_CONSTRAINTS}


@pytest.mark.parametrize("label", [label for label in LABELS if PROFILES[label].extended_key_usage])
def test_missing_extended_key_usage_is_a_deviation(label: str) -> None:
    assert rules(sample(label).without(EKU), label) == {Rule.EXTENDED_KEY_USAGE}


IDENTIFIED = [label for label in LABELS if PROFILES[label].key_identifier_bytes]


@pytest.mark.parametrize("label", IDENTIFIED)
@pytest.mark.parametrize("length", [0, 4, 8, 20, 32])
def test_key_identifiers_have_their_length_and_are_computed_as_they_should(label: str, length: int) -> None:
    good = sample(label)
    wrong = [good.having(SKI, bytes(length))]
    if length != profile_of(label).key_identifier_bytes:
        wrong.append(good.having(AKI, bytes(length)))
    for one in wrong:
        assert rules(one, label) == {Rule.KEY_IDENTIFIERS}


@pytest.mark.parametrize("label", IDENTIFIED)
def test_missing_key_identifiers_are_a_deviation(label: str) -> None:
    assert rules(sample(label).without(SKI), label) == {Rule.KEY_IDENTIFIERS}
    assert rules(sample(label).without(AKI), label) == {Rule.KEY_IDENTIFIERS}


@pytest.mark.parametrize("label", [label for label in LABELS if PROFILES[label].policies])
def test_policies_that_are_declared_are_there_and_are_ours(label: str) -> None:
    good = sample(label)
    foreign = c509.PolicyInformation(oid_from_text("1.2.3.4"))
    ours = good.find(CP)
    assert ours is not None
    assert rules(good.without(CP), label) == {Rule.POLICIES}
    assert rules(good.having(CP, (*ours.value, foreign)), label) == {Rule.POLICIES}
    (warning,) = judged(good.having(CP, (foreign,)).make(), label)
    assert (warning.rule, warning.is_error) == (Rule.POLICIES, False)


POINTED = [label for label in LABELS if PROFILES[label].has_revocation_pointers]


@pytest.mark.parametrize("label", POINTED)
@pytest.mark.parametrize("missing", [(AIA,), (CRL,), (AIA, CRL)])
def test_revocation_pointers_that_are_declared_are_there(label: str, missing: tuple[int, ...]) -> None:
    assert rules(sample(label).without(*missing), label) == {Rule.REVOCATION_POINTERS}


@pytest.mark.parametrize("label", POINTED)
@pytest.mark.parametrize(
    ("number", "value"),
    [
        (AIA, ((1, "https://o.example/"),)),
        (AIA, ((2, "http://issuers.example/"),)),
        (CRL, (c509.DistributionPoint(("ldap://c.example/",)),)),
    ],
)
def test_revocation_pointers_lead_over_http(label: str, number: int, value: object) -> None:
    assert rules(sample(label).having(number, value), label) == {Rule.REVOCATION_POINTERS}


@pytest.mark.parametrize("label", [label for label in LABELS if PROFILES[label].max_der])
def test_a_certificate_over_its_most_bytes_is_a_deviation(label: str) -> None:
    limit = profile_of(label).max_der or 0
    good = sample(label)
    room = limit - len(good.make().to_der())
    # Lengths of signatures vary by a few bytes.
    fits, too_long = ("http://c.example/" + "l" * (room + more) for more in (-30, 10))
    assert rules(good.having(CRL, (c509.DistributionPoint((fits,)),)), label) == set()
    assert rules(good.having(CRL, (c509.DistributionPoint((too_long,)),)), label) == {Rule.SIZE}


WITH_ROLE = [label for label in LABELS if PROFILES[label].subject.component]


@pytest.mark.parametrize("label", WITH_ROLE)
@pytest.mark.parametrize("role", [None, "V2G", "cps"])
def test_the_domain_component_tells_the_role(label: str, role: str | None) -> None:
    assert rules(sample(label).with_attribute(COMPONENT, role), label) == {Rule.SUBJECT}


@pytest.mark.parametrize("label", [one for one in LABELS if not PROFILES[one].subject.is_alternative])
def test_a_subject_has_its_attributes_and_no_others(label: str) -> None:
    good, form = sample(label), profile_of(label).subject
    assert rules(good.with_attribute(UNIT, "a unit"), label) == {Rule.SUBJECT}
    assert Rule.SUBJECT in rules(good.with_attribute(1, None), label)
    assert rules(good.with_attribute(1, "another", more=True), label) == {Rule.SUBJECT}
    for kind, is_wanted in ((ORGANISATION, form.has_organisation), (COUNTRY, form.has_country)):
        text = None if is_wanted else "DE"
        assert rules(good.with_attribute(kind, text), label) == {Rule.SUBJECT}


@pytest.mark.parametrize("label", [one for one in LABELS if PROFILES[one].subject.is_alternative])
def test_where_the_subject_is_empty_the_alternative_name_stands_for_it(label: str) -> None:
    good = sample(label)
    other = (c509.GeneralName(2, "meter.example"),)
    assert rules(good.with_attribute(1, "54524C0000000001"), label) == {Rule.SUBJECT}
    assert rules(good.without(SAN), label) == {Rule.SUBJECT}
    assert rules(good.having(SAN, other), label) == {Rule.SUBJECT}


@pytest.mark.parametrize("label", LABELS)
def test_an_extension_twice_is_a_deviation(label: str) -> None:
    good = sample(label)
    twice = good.but(extensions=(*good.extensions, Extension(PRIVATE, False, b"\5\0")) * 2)
    with_issuer = c509.TbsCertificate(
        good.form, b"\1", 0, good.issuer_name, NOW, None, good.subject, 1, b"\2" * 33, twice.extensions
    )
    found = lint(with_issuer.with_signature(bytes(64)), None, profile_of(label))
    assert any(one.rule is Rule.EXTENSIONS and "twice" in one.found for one in found)


@pytest.mark.parametrize("label", LABELS)
def test_a_known_issuer_is_compared_with(label: str) -> None:
    profile = profile_of(label)
    good = sample(label)
    authority = shape_of(issuing(profile).name)
    ca = sample(label).but(
        subject=good.issuer_name,
        key=good.issuer,
        form=3,
        extensions=(Extension(SKI, False, _identifier_of(good)),) if profile.key_identifier_bytes else (),
    )
    assert judged(good.make(), label, ca.make()) == []
    assert authority.is_authority
    stranger = ca.but(key=signer(good.issuer.algorithm, "stranger")).make()
    assert {one.rule for one in judged(good.make(), label, stranger)} == {Rule.SIGNATURE}
    other_name = ca.but(subject=c509.Name.common_name("another"), key=signer(good.issuer.algorithm)).make()
    assert judged(good.make(), label, other_name) == []
    larger = ca.but(key=signer(foreign_curve(label))).make()
    assert {one.rule for one in judged(good.make(), label, larger)} == {Rule.SIGNATURE_ALGORITHM}
    if profile.key_identifier_bytes:
        misnamed_key = ca.having(SKI, bytes(profile.key_identifier_bytes)).make()
        assert {one.rule for one in judged(good.make(), label, misnamed_key)} == {Rule.KEY_IDENTIFIERS}


def _identifier_of(good: Sample) -> bytes:
    found = good.find(AKI)
    return b"" if found is None else bytes(found.value)


@pytest.mark.parametrize("label", LABELS)
def test_every_deviation_names_a_requirement_or_the_profile_and_its_version(label: str) -> None:
    profile = profile_of(label)
    found = judged(sample(label).usage(KeyUsage.DATA_ENCIPHERMENT).make(), label)
    wanted = profile.requirements.get("key-usage", f"profile {label} version {profile.version}")
    assert [one.requirement for one in found] == [wanted]
    assert str(found[0]) == f"key-usage: {found[0].found}; expected {found[0].expected} [{wanted}]"


def test_every_requirement_of_a_profile_belongs_to_a_rule() -> None:
    known = {rule.value for rule in Rule} | {"path"}  # the path's rules are the validator's
    for label, profile in PROFILES.items():
        assert set(profile.requirements) <= known, label


def test_the_larger_s_is_a_note_and_no_deviation() -> None:
    made = sample("meter-ds").make()
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    s = order - int.from_bytes(made.signature[32:], "big")
    twin = made.with_signature(made.signature[:32] + s.to_bytes(32, "big"))
    assert judged(twin, "meter-ds") == []
    assert len(notes(twin)) == 1
