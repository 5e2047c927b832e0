"""Lint of what others made (with `cryptography`): each fault that peers ship, under its rule and clause."""

from typing import Any

import pytest
from cryptography import x509

from protocol import c509
from protocol.c509 import ExtensionId
from protocol.cose import Algorithm
from protocol.lint import Deviation, Rule, Severity, lint
from protocol.profiles import profile_of
from tests.ev_world import NOW, PART_2, PART_20, EvWorld, Party
from tests.lint_samples import sample, signer

W2, W20 = EvWorld(PART_2), EvWorld(PART_20)
DAY = 24 * 3600
CPID = "DEICEP45B78C"
SECCID = "DEICES" + "0" * 33


def judged(party: Party, label: str) -> tuple[Deviation, ...]:
    return lint(party.certificate, party.der, profile_of(label))


def only(party: Party, label: str) -> Deviation:
    """The one deviation that there is, as (rule, requirement)."""
    (found,) = judged(party, label)
    return found


def secc(**named: Any) -> Party:
    return W2.secc(**{"cn": CPID, **named})


def secc20(**named: Any) -> Party:
    return W20.secc(**{"cn": SECCID, **named})


def contract(world: EvWorld = W2, **named: Any) -> Party:
    return world.contract(**{"not_after": NOW + 300 * DAY, **named})


def provisioning(world: EvWorld = W2, **named: Any) -> Party:
    return world.provisioning(**{"not_after": NOW + 3000 * DAY, **named})


def test_leaves_of_another_builder_conform() -> None:
    assert judged(secc(), "ev-secc") == ()
    assert judged(secc20(), "ev20-secc") == ()
    assert judged(contract(), "ev-contract") == ()
    assert judged(contract(W20), "ev20-contract") == ()
    assert judged(provisioning(), "ev-oem") == ()
    assert judged(provisioning(W20), "ev20-oem") == ()


def test_a_station_that_may_agree_on_keys() -> None:
    # iso15118's and RISE-V2G's scripts, EVerest's requests.
    found = only(secc(usages=("digital_signature", "key_agreement")), "ev-secc")
    assert found.rule is Rule.KEY_USAGE
    assert found.found == "digitalSignature, keyAgreement"
    assert found.expected == "digitalSignature alone"
    assert "[V2G2-822]" in found.requirement


def test_a_station_whose_key_usage_is_not_critical() -> None:
    assert only(secc(usage_critical=False), "ev-secc").rule is Rule.CRITICAL


def test_a_station_without_its_role() -> None:
    found = only(secc(role=None), "ev-secc")
    assert (found.rule, found.found) == (Rule.SUBJECT, "no domain component (DC)")
    assert "[V2G2-925]" in found.requirement


def test_a_station_of_part_2_shown_as_one_of_part_20() -> None:
    assert {one.rule for one in judged(secc(), "ev20-secc")} >= {Rule.ALGORITHM, Rule.CRITICAL, Rule.SUBJECT}
    found = only(secc20(role="CPO"), "ev20-secc")
    assert (found.rule, found.expected) == (Rule.SUBJECT, "DC=CSO, which tells the role")


def test_a_contract_with_dashes() -> None:
    found = only(contract(cn="DE-ABC-C01234567-0"), "ev-contract")
    assert found.rule is Rule.NAME
    assert "[V2G2-108]" in found.requirement


def test_a_contract_whose_check_character_nobody_computed_is_a_warning() -> None:
    found = only(contract(cn="DE83DUIEN83QGZX"), "ev-contract")
    assert (found.rule, found.severity) == (Rule.NAME, Severity.WARNING)
    assert judged(contract(cn="DE83DUIEN83QGZD"), "ev-contract") == ()


def test_a_contract_with_the_optional_role_of_part_2_is_a_warning_and_in_part_20_an_error() -> None:
    assert only(contract(role="MO"), "ev-contract").severity is Severity.WARNING
    found = only(contract(W20, role="MO"), "ev20-contract")
    assert (found.rule, found.severity) == (Rule.SUBJECT, Severity.ERROR)


def test_a_car_that_is_called_as_in_peers_scripts() -> None:
    assert only(provisioning(cn="OEMProvCert"), "ev-oem").rule is Rule.NAME


def test_a_contract_that_forbids_agreeing_on_keys() -> None:
    found = only(contract(usages=("digital_signature",)), "ev-contract")
    assert found.rule is Rule.KEY_USAGE


def test_identifiers_of_part_20_that_are_not_critical() -> None:
    found = judged(secc20(is_critical=False), "ev20-secc")
    assert {one.rule for one in found} == {Rule.CRITICAL}
    assert {one.found for one in found} == {
        "authority key identifier not critical",
        "subject key identifier not critical",
        "authority info access not critical",
        "crl distribution points not critical",
    }


def test_a_subject_key_identifier_of_twenty_bytes_breaks_the_wrapped_key_of_part_20() -> None:
    found = judged(contract(W20, identifier=bytes(20)), "ev20-contract")
    assert [(one.rule, one.requirement, one.severity) for one in found] == [
        (Rule.KEY_IDENTIFIERS, "[V2G20-2492]", Severity.ERROR)
    ]


def test_part_20_takes_no_extension_of_its_own_and_part_2_does() -> None:
    extra = ((x509.TLSFeature([x509.TLSFeatureType.status_request]), False),)
    assert only(secc(extra=extra), "ev-secc").severity is Severity.WARNING
    found = only(secc20(extra=extra), "ev20-secc")
    assert (found.rule, found.requirement, found.severity) == (
        Rule.EXTENSIONS,
        "[V2G20-2686]",
        Severity.ERROR,
    )


def test_part_20_takes_certificate_policies() -> None:
    policies = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)])
    assert judged(secc20(extra=((policies, False),)), "ev20-secc") == ()
    assert only(secc20(extra=((policies, True),)), "ev20-secc").rule is Rule.CRITICAL


def test_a_country_is_a_printable_string() -> None:
    # pkilint reads no other; OpenSSL and `cryptography` write one of themselves.
    made = sample("ev-secc").with_attribute(4, "DE").make()
    (found,) = lint(made, made.to_der(), profile_of("ev-secc"))
    assert (found.rule, found.found) == (Rule.SUBJECT, "a country that is a UTF8String")
    assert judged(secc(), "ev-secc") == ()


def test_a_certificate_that_the_schema_has_no_room_for() -> None:
    found = only(secc(pointer_path="o" * 300), "ev-secc")
    assert (found.rule, found.requirement) == (Rule.SIZE, "[V2G2-010]")
    assert found.expected == "at most 800"


def test_part_20_asks_for_one_of_the_two_places_of_revocation() -> None:
    both = frozenset({x509.AuthorityInformationAccess, x509.CRLDistributionPoints})
    (one_left,) = judged(secc20(without=both - {x509.CRLDistributionPoints}), "ev20-secc")
    assert one_left.severity is Severity.WARNING
    found = only(secc20(without=both), "ev20-secc")
    assert (found.requirement, found.severity) == ("[V2G20-2590]", Severity.ERROR)


# --- metering ------------------------------------------------------------------------------------------


def rules(wrong: c509.Certificate, label: str) -> dict[Rule, Deviation]:
    return {one.rule: one for one in lint(wrong, wrong.to_der(), profile_of(label))}


def test_a_system_title_in_lower_case() -> None:
    found = rules(sample("meter-ds").with_attribute(1, "54524c0000000001").make(), "meter-ds")
    assert set(found) == {Rule.NAME}
    assert found[Rule.NAME].requirement.startswith("Green Book 9.2.6.4")


@pytest.mark.parametrize(
    ("number", "value", "rule"),
    [
        (ExtensionId.BASIC_CONSTRAINTS, -2, Rule.BASIC_CONSTRAINTS),
        (ExtensionId.EXTENDED_KEY_USAGE, (1,), Rule.EXTENDED_KEY_USAGE),
        (ExtensionId.CRL_DISTRIBUTION_POINTS, (c509.DistributionPoint(("http://c/",)),), Rule.EXTENSIONS),
        (ExtensionId.ISSUER_ALT_NAME, (c509.GeneralName(2, "x"),), Rule.EXTENSIONS),
    ],
)
def test_what_the_green_book_rules_out_of_an_end_entity(number: int, value: object, rule: Rule) -> None:
    is_critical = number == ExtensionId.BASIC_CONSTRAINTS
    found = rules(sample("meter-ds").having(number, value, critical=is_critical).make(), "meter-ds")
    assert set(found) == {rule}
    assert found[rule].severity is Severity.ERROR
    assert found[rule].requirement.startswith("Green Book 9.2.6.4")


def module(octets: bytes) -> tuple[c509.GeneralName, ...]:
    value = (b"\x2a\x03\x04", octets)
    return (c509.GeneralName(c509.GeneralNameType.HARDWARE_MODULE_NAME, value),)


def test_a_meter_may_say_its_title_as_a_hardware_module_too() -> None:
    good = sample("meter-ds")
    title = bytes.fromhex("54524C0000000001")
    number = ExtensionId.SUBJECT_ALT_NAME
    assert rules(good.having(number, module(title)).make(), "meter-ds") == {}
    assert set(rules(good.having(number, module(bytes(8))).make(), "meter-ds")) == {Rule.NAME}
    assert set(rules(good.having(number, module(title), critical=True).make(), "meter-ds")) == {Rule.CRITICAL}
    other = (c509.GeneralName(2, "meter.example"),)
    assert set(rules(good.having(number, other).make(), "meter-ds")) == {Rule.SUBJECT}


def test_a_meter_that_is_a_hardware_module_alone_is_a_warning() -> None:
    empty = sample("meter-ds").with_attribute(1, None)
    found = rules(
        empty.having(ExtensionId.SUBJECT_ALT_NAME, module(bytes(8)), critical=True).make(), "meter-ds"
    )
    assert [(one.rule, one.severity) for one in found.values()] == [(Rule.SUBJECT, Severity.WARNING)]
    assert rules(empty.make(), "meter-ds")[Rule.SUBJECT].severity is Severity.ERROR


def test_a_p256_meter_below_a_p384_ca_is_a_warning_in_metering_and_an_error_elsewhere() -> None:
    larger = signer(Algorithm.ES384, "issuer")
    found = rules(sample("meter-ds").but(issuer=larger).make(), "meter-ds")
    assert [(one.rule, one.severity) for one in found.values()] == [
        (Rule.SIGNATURE_ALGORITHM, Severity.WARNING)
    ]
    found = rules(sample("smki-ds").but(issuer=larger).make(), "smki-ds")
    assert found[Rule.SIGNATURE_ALGORITHM].severity is Severity.ERROR


def test_a_larger_curve_shows_in_the_length_of_the_signature() -> None:
    larger = signer(Algorithm.ES384, "issuer")
    found = rules(sample("ev-secc").but(issuer=larger, signature_algorithm=0).make(), "ev-secc")
    assert set(found) == {Rule.SIGNATURE_ALGORITHM}
    assert "48 octets" in found[Rule.SIGNATURE_ALGORITHM].found


def test_either_method_of_key_identifiers_will_do_for_a_meter_but_not_for_smki() -> None:
    from protocol.end_entity import key_identifier
    from tests.lint_samples import uncompressed

    for label, length, severity in (
        ("meter-ds", 8, Severity.WARNING),
        ("smki-ds", 20, Severity.ERROR),
        ("ev20-secc", 20, Severity.ERROR),
    ):
        good = sample(label)
        other = key_identifier(uncompressed(good.key), length)
        found = rules(good.having(ExtensionId.SUBJECT_KEY_IDENTIFIER, other).make(), label)
        assert [(one.rule, one.severity) for one in found.values()] == [(Rule.KEY_IDENTIFIERS, severity)]


def test_an_smki_policy_that_is_not_critical() -> None:
    found = rules(sample("smki-ds").criticality(ExtensionId.CERTIFICATE_POLICIES).make(), "smki-ds")
    assert set(found) == {Rule.CRITICAL}
    assert found[Rule.CRITICAL].requirement.startswith("GBCS 12")


def test_an_smki_certificate_that_ends() -> None:
    found = rules(sample("smki-ds").but(not_after=NOW + DAY).make(), "smki-ds")
    assert found[Rule.VALIDITY].severity is Severity.ERROR
    assert found[Rule.VALIDITY].expected == "no expiry (99991231235959Z)"
