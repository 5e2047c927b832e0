"""Certificates that no builder makes: what is written oddly is judged by what it is, or refused."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from protocol import c509
from protocol.c509 import ExtensionId, der
from protocol.c509.registry import EXTENSIONS
from protocol.errors import ProblemKind, RequestRejected
from protocol.validator import (
    PROBLEMS,
    Extensions,
    PathRejected,
    Policy,
    Reason,
    Role,
    Rule,
    Subject,
    Suite,
    leaf_findings,
    validate,
)
from protocol.validity import Clock
from tests.world import NOW, YEAR, Ca, ca, new_signer

CLOCK = Clock(NOW)
POLICY = Policy(name="odd", max_intermediates=1)
LEAF = c509.Name.common_name("leaf")
USAGE = c509.Extension(ExtensionId.KEY_USAGE, critical=True, value=1)


@pytest.fixture(scope="module")
def top() -> Ca:
    return ca(None, "Top")


def made(
    top: Ca,
    extensions: tuple[c509.Extension, ...] = (USAGE,),
    subject: c509.Name = LEAF,
    change: Callable[[c509.TbsCertificate], c509.TbsCertificate] = lambda tbs: tbs,
) -> c509.Certificate:
    """A leaf signed by `top`, read back from its DER."""
    point = new_signer().public_key
    unsigned = change(
        c509.TbsCertificate(
            3,
            b"\x07",
            0,
            top.certificate.subject,
            NOW - YEAR,
            NOW + YEAR,
            subject,
            1,
            bytes([0x100 - point[0]]) + point[1:],
            extensions,
        )
    )
    return c509.from_der(unsigned.with_signature(top.signer.sign(unsigned.to_be_signed())).to_der())


def refusal(
    top: Ca, leaf: c509.Certificate, policy: Policy = POLICY, *pool: c509.Certificate
) -> PathRejected:
    with pytest.raises(PathRejected) as caught:
        validate(leaf, pool, [top.certificate], policy=policy, clock=CLOCK)
    return caught.value


def odd(number: ExtensionId, octets: bytes, *, critical: bool = True) -> c509.Extension:
    """An extension that C509 keeps under its object identifier, because its value is not in its one form."""
    return c509.Extension(EXTENSIONS.oids[number], critical, octets)


EXPLICIT_FALSE = bytes.fromhex("3003010100")
CA_AND_MORE = bytes.fromhex("30060101ff020101") + b"\0"
TRAILING_USAGE = bytes.fromhex("03020080")  # digitalSignature with the wrong count of unused bits


def test_the_leaf_of_these_tests_is_good(top: Ca) -> None:
    assert validate(made(top), [], [top.certificate], policy=POLICY, clock=CLOCK)


@pytest.mark.parametrize(
    "extension",
    [
        odd(ExtensionId.BASIC_CONSTRAINTS, EXPLICIT_FALSE),
        odd(ExtensionId.BASIC_CONSTRAINTS, CA_AND_MORE, critical=False),
        odd(ExtensionId.EXTENDED_KEY_USAGE, b"\x30\x80", critical=False),
    ],
)
def test_an_extension_that_decides_and_cannot_be_read_refuses(top: Ca, extension: c509.Extension) -> None:
    assert Reason.EXTENSION_UNREADABLE in refusal(top, made(top, (USAGE, extension))).reasons


def test_an_unreadable_key_usage_is_no_key_usage(top: Ca) -> None:
    leaf = made(top, (odd(ExtensionId.KEY_USAGE, TRAILING_USAGE),))
    assert refusal(top, leaf).reasons == {Reason.EXTENSION_UNREADABLE, Reason.KEY_USAGE}


def test_a_second_extension_in_another_spelling_is_found(top: Ca) -> None:
    second = odd(ExtensionId.KEY_USAGE, TRAILING_USAGE)
    for extensions in ((USAGE, second), (second, USAGE)):
        leaf = made(top, extensions)
        assert len(leaf.extensions) == 2
        assert Reason.EXTENSION_REPEATED in refusal(top, leaf).reasons


def test_what_a_rule_names_may_be_unreadable_if_it_decides_nothing(top: Ca) -> None:
    point = odd(ExtensionId.CRL_DISTRIBUTION_POINTS, bytes.fromhex("3000"))
    policy = replace(POLICY, extensions=Extensions({ExtensionId.CRL_DISTRIBUTION_POINTS: Rule()}))
    assert refusal(top, made(top, (USAGE, point)), policy).reasons == {Reason.CRITICALITY}
    assert refusal(top, made(top, (USAGE, point))).reasons == {Reason.UNHANDLED_CRITICAL}
    harmless = replace(point, critical=False)
    assert validate(made(top, (USAGE, harmless)), [], [top.certificate], policy=policy, clock=CLOCK)


def test_a_rule_may_name_an_extension_by_its_object_identifier(top: Ca) -> None:
    own = der.oid_from_text("1.3.6.1.4.1.32473.1")
    leaf = made(top, (USAGE, c509.Extension(own, critical=False, value=b"\x05\x00")))
    closed = replace(POLICY, extensions=Extensions({ExtensionId.KEY_USAGE: Rule()}, others=False))
    assert "extension 1.3.6.1.4.1.32473.1" in str(refusal(top, leaf, closed))


def name(*attributes: tuple[int | bytes, str | bytes]) -> c509.Name:
    return c509.Name((*attributes, (1, "leaf")))


DC_OID = der.oid_from_text("0.9.2342.19200300.100.1.25")


def test_a_role_in_another_string_type_is_a_role(top: Ca) -> None:
    """A second domain component in UTF-8 must not hide behind the first one in ASCII."""
    policy = replace(POLICY, role=Role.of("CPS"))
    utf8 = (DC_OID, der.tlv(der.UTF8_STRING, b"CPO"))
    assert validate(made(top, subject=name((22, "CPS"))), [], [top.certificate], policy=policy, clock=CLOCK)
    assert refusal(top, made(top, subject=name((22, "CPS"), utf8)), policy).reasons == {Reason.ROLE}
    number = (DC_OID, der.tlv(der.INTEGER, b"\x01"))
    assert refusal(top, made(top, subject=name(number)), policy).reasons == {Reason.ROLE}
    broken = (DC_OID, der.tlv(der.UTF8_STRING, b"\xff"))
    assert refusal(top, made(top, subject=name(broken)), policy).reasons == {Reason.ROLE}


def test_attributes_without_a_number_are_attributes(top: Ca) -> None:
    own = (der.oid_from_text("1.3.6.1.4.1.32473.2"), der.tlv(der.UTF8_STRING, b"x"))
    policy = replace(POLICY, subject=Subject(permitted=frozenset({1})))
    assert "attribute 1.3.6.1.4.1.32473.2" in str(refusal(top, made(top, subject=name(own)), policy))


def test_a_name_in_another_string_type_is_another_name(top: Ca) -> None:
    """Issuers copy their subject as it is encoded (RFC 5280 §4.1.2.6); so it is compared."""
    printable = c509.Name(((-1, "Top"),))
    leaf = made(top, change=lambda tbs: replace(tbs, issuer=printable))
    assert refusal(top, leaf).reasons == {Reason.NO_ISSUER}


def test_a_key_off_its_curve_is_refused_wherever_it_is(top: Ca) -> None:
    point = b"\x04" + bytes(63) + b"\x01"
    leaf = made(top, change=lambda tbs: replace(tbs, public_key=point))
    assert refusal(top, leaf).reasons == {Reason.BAD_KEY}
    compressed = replace(made(top), public_key=b"\xfe" + b"\xff" * 32)
    for policy in (POLICY, replace(POLICY, max_der=800)):
        assert refusal(top, compressed, policy).reasons == {Reason.BAD_KEY}
    broken = replace(top.certificate, public_key=point, encoded=b"")
    with pytest.raises(PathRejected) as caught:
        validate(made(top), [], [broken], policy=POLICY, clock=CLOCK)
    assert caught.value.reasons == {Reason.BAD_KEY}


def test_an_algorithm_without_a_number_is_named_by_its_identifier(top: Ca) -> None:
    unknown = c509.Algorithm(der.oid_from_text("1.3.6.1.4.1.32473.3"))
    leaf = made(top, change=lambda tbs: replace(tbs, signature_algorithm=unknown))
    assert "1.3.6.1.4.1.32473.3" in str(refusal(top, leaf))
    leaf = made(top, change=lambda tbs: replace(tbs, public_key_algorithm=unknown, public_key=b"\x00" * 32))
    assert refusal(top, leaf).reasons == {Reason.KEY_ALGORITHM}


def named_by(issuer: Ca, serial: bytes, directory: c509.Name) -> c509.Extension:
    value = c509.AuthorityKeyIdentifier(b"id", (c509.GeneralName(4, directory),), serial)
    return c509.Extension(ExtensionId.AUTHORITY_KEY_IDENTIFIER, critical=False, value=value)


def test_an_issuer_named_by_serial_number_is_that_one(top: Ca) -> None:
    subject, serial = top.certificate.subject, top.certificate.serial
    good = made(top, (USAGE, named_by(top, serial, subject)))
    assert validate(good, [], [top.certificate], policy=POLICY, clock=CLOCK)
    for wrong in (named_by(top, b"\x09", subject), named_by(top, serial, c509.Name.common_name("Else"))):
        assert refusal(top, made(top, (USAGE, wrong))).reasons == {Reason.KEY_IDENTIFIER}


# --- the policy and its words --------------------------------------------------------------------------


def test_every_reason_has_a_problem_kind_for_the_wire() -> None:
    assert set(PROBLEMS) == set(Reason)
    assert all(isinstance(kind, ProblemKind) for kind in PROBLEMS.values())


def test_a_refusal_is_a_rejected_request_with_its_reasons(top: Ca) -> None:
    error = refusal(top, made(top, ()))
    assert isinstance(error, RequestRejected)
    assert error.reason is PROBLEMS[error.findings[0].reason]
    assert [str(finding) for finding in error.findings] == [
        "odd: the leaf (CN=leaf) does not say what its key is used for"
    ]


def test_a_lone_leaf_can_be_judged_without_a_path(top: Ca) -> None:
    assert leaf_findings(made(top), POLICY, CLOCK) == []
    assert [found.reason for found in leaf_findings(made(top, ()), POLICY, CLOCK)] == [Reason.KEY_USAGE]


@pytest.mark.parametrize(
    "wrong",
    [
        {"suites": frozenset({Suite(1, -255)})},
        {"suites": frozenset({Suite(12, 0)})},
        {"min_intermediates": 2, "max_intermediates": 1},
        {"min_intermediates": -1},
        {"max_checks": 0},
    ],
)
def test_a_policy_that_cannot_be_kept_is_not_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="odd"):
        replace(POLICY, **wrong)
