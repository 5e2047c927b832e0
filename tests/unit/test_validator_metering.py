"""DLMS/COSEM and GB SMKI: no basic constraints, curves by suite, no end, no subject."""

from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from protocol.c509.der import OID, oid_from_text, sequence, tlv
from protocol.validator import (
    P384_SHA384,
    Criticality,
    Extensions,
    LeafConstraints,
    Path,
    PathRejected,
    Reason,
    Rule,
    validate,
)
from protocol.validity import Clock, Verdict
from tests.ev_policies import CLOCK, METER_DS, SMKI_DS
from tests.ev_world import NOW, Party, Style, Wish, root

TITLE = "4B45500000000001"
SUITE_1 = Style(has_pointers=False)
SUITE_2 = Style(ec.SECP384R1, hashes.SHA384, has_pointers=False)
NO_END = 253402300799
"""99991231235959Z."""


@pytest.fixture(scope="module")
def suite_1() -> tuple[Party, Party]:
    top = root("Metering Root", SUITE_1)
    return top, top.ca("Metering Sub", 0)


@pytest.fixture(scope="module")
def suite_2() -> tuple[Party, Party]:
    top = root("Metering Root 2", SUITE_2)
    return top, top.ca("Metering Sub 2", 0)


def meter(ca: Party, **named: Any) -> Party:
    wish = Wish(cn=TITLE, organisation=None, constraints=None, not_after=NO_END)
    return ca.issue(replace(wish, **named))


def accept(cas: tuple[Party, Party], leaf: Party, policy: Any = METER_DS, clock: Clock = CLOCK) -> Path:
    top, sub = cas
    return validate(leaf.certificate, [sub.certificate], [top.certificate], policy=policy, clock=clock)


def reasons(*arguments: Any, **named: Any) -> frozenset[Reason]:
    with pytest.raises(PathRejected) as caught:
        accept(*arguments, **named)
    return caught.value.reasons


def test_a_meter_s_certificate_without_an_end_is_taken(suite_1: tuple[Party, Party]) -> None:
    path = accept(suite_1, meter(suite_1[1]))
    assert path.leaf.not_after is None
    assert path.verdict is Verdict.VALID


def test_both_methods_of_key_identifiers_are_taken_and_no_other(suite_1: tuple[Party, Party]) -> None:
    assert accept(suite_1, meter(suite_1[1], identifier=bytes(range(1, 9))))
    assert reasons(suite_1, meter(suite_1[1], identifier=bytes(range(1, 12)))) == {Reason.KEY_IDENTIFIER}


def test_a_p384_leaf_needs_a_p384_ca_and_a_p256_leaf_takes_either(
    suite_1: tuple[Party, Party], suite_2: tuple[Party, Party]
) -> None:
    p256, p384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
    assert accept(suite_2, meter(suite_2[1], key=p384))
    assert accept(suite_2, meter(suite_2[1], key=p256))
    assert accept(suite_1, meter(suite_1[1], key=p256))
    assert reasons(suite_1, meter(suite_1[1], key=p384)) == {Reason.CURVE}


def test_each_suite_alone_refuses_the_other_s_signatures(
    suite_1: tuple[Party, Party], suite_2: tuple[Party, Party]
) -> None:
    only_2 = replace(METER_DS, suites=frozenset({P384_SHA384}))
    assert reasons(suite_1, meter(suite_1[1]), only_2) == {Reason.ALGORITHM}
    assert accept(suite_2, meter(suite_2[1]), only_2)
    short = meter(suite_2[1], digest=hashes.SHA256)
    assert reasons(suite_2, short) == {Reason.ALGORITHM}


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"constraints": "CA:FALSE"}, Reason.BASIC_CONSTRAINTS),
        ({"usages": ("key_agreement",)}, Reason.KEY_USAGE),
        ({"usages": ("digital_signature", "key_agreement")}, Reason.KEY_USAGE),
        ({"usage_critical": False}, Reason.CRITICALITY),
        ({"is_critical": True}, Reason.CRITICALITY),
        ({"cn": "4b45500000000001"}, Reason.SUBJECT),
        ({"cn": TITLE[:8]}, Reason.SUBJECT),
        ({"organisation": "Utility"}, Reason.SUBJECT),
        ({"extra": ((x509.IssuerAlternativeName([x509.DNSName("a.test")]), False),)}, None),
        (
            {"extra": ((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),)},
            None,
        ),
    ],
)
def test_a_signature_certificate_has_the_form_of_its_table(
    suite_1: tuple[Party, Party], wish: dict[str, Any], reason: Reason | None
) -> None:
    found = reasons(suite_1, meter(suite_1[1], **wish))
    assert (reason or Reason.EXTENSION_FORBIDDEN) in found


def test_tls_purposes_are_those_of_the_policy_and_a_ca_may_narrow_them(suite_1: tuple[Party, Party]) -> None:
    tls = replace(
        METER_DS,
        name="meter-tls",
        key_usage=0x11,
        extended_key_usage=frozenset({1, 2}),
        extensions=Extensions({8: Rule(critical=Criticality.MUST_NOT)}),
    )
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
    usages = ("digital_signature", "key_agreement")
    assert accept(suite_1, meter(suite_1[1], usages=usages, extra=((both, False),)), tls)
    server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    leaf = meter(suite_1[1], usages=usages, extra=((server, False),))
    assert reasons(suite_1, leaf, tls) == {Reason.EXTENDED_KEY_USAGE}
    for purposes, is_taken in (
        (both, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), True),
        (server, False),
    ):
        sub = suite_1[0].ca("Narrow", 0, extra=((purposes, False),))
        leaf = meter(sub, usages=usages, extra=((both, False),))
        if is_taken:
            assert accept((suite_1[0], sub), leaf, tls)
        else:
            assert reasons((suite_1[0], sub), leaf, tls) == {Reason.EXTENDED_KEY_USAGE}


# --- GB SMKI -------------------------------------------------------------------------------------------


def smki(ca: Party, *, module: bytes | None = bytes(range(8)), critical: bool = True, **named: Any) -> Party:
    policy = x509.PolicyInformation(x509.ObjectIdentifier("1.2.826.0.1.8641679.1.2.1.2"), None)
    extra: list[tuple[x509.ExtensionType, bool]] = [(x509.CertificatePolicies([policy]), True)]
    if module is not None:
        kind = tlv(OID, oid_from_text("1.2.826.0.1.8641679.1.2"))
        name = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.4"), sequence(kind, tlv(4, module)))
        extra.append((x509.SubjectAlternativeName([name]), critical))
    wish = {"cn": None, "identifier": bytes(range(1, 9)), "extra": tuple(extra), **named}
    return meter(ca, **wish)


def test_a_device_without_a_subject_is_named_by_its_hardware_module(suite_1: tuple[Party, Party]) -> None:
    assert accept(suite_1, smki(suite_1[1]), SMKI_DS)


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"critical": False}, Reason.CRITICALITY),
        ({"module": None}, Reason.EXTENSION_MISSING),
        ({"module": bytes(7)}, Reason.SUBJECT),
        ({"cn": TITLE}, Reason.SUBJECT),
        ({"identifier": bytes(20)}, Reason.KEY_IDENTIFIER),
    ],
)
def test_a_device_s_certificate_has_the_form_of_smki(
    suite_1: tuple[Party, Party], wish: dict[str, Any], reason: Reason
) -> None:
    assert reason in reasons(suite_1, smki(suite_1[1], **wish), SMKI_DS)


def test_a_subject_that_is_empty_by_accident_is_refused(suite_1: tuple[Party, Party]) -> None:
    assert Reason.SUBJECT in reasons(suite_1, meter(suite_1[1], cn=None))
    aside = replace(SMKI_DS.extensions, rules={}, others=True)
    quiet = replace(SMKI_DS, extensions=aside, subject=replace(SMKI_DS.subject, empty=False))
    assert Reason.SUBJECT in reasons(suite_1, smki(suite_1[1], critical=False), quiet)
    lenient = replace(METER_DS, subject=replace(METER_DS.subject, common_name=None))
    assert reasons(suite_1, meter(suite_1[1], cn=None), lenient) == {Reason.SUBJECT}
    assert accept(suite_1, smki(suite_1[1]), replace(SMKI_DS, basic_constraints=LeafConstraints.EITHER))


def test_a_serial_number_of_more_than_twenty_octets_is_refused(suite_1: tuple[Party, Party]) -> None:
    made = meter(suite_1[1], serial=1 << 120)
    longer = replace(made.certificate, serial=b"\x01" + bytes(20))
    with pytest.raises(PathRejected) as caught:
        validate(
            longer, [suite_1[1].certificate], [suite_1[0].certificate], policy=METER_DS, clock=Clock(NOW)
        )
    assert caught.value.reasons == {Reason.SERIAL}
