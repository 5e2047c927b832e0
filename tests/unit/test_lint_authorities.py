"""Lint over every CA that authorities here have, and over what makes them."""

from pathlib import Path

import pytest

from agents.authority.hierarchy import initialise
from protocol import c509
from protocol.c509 import ExtensionId, KeyUsage
from protocol.cose import Algorithm
from protocol.errors import ProblemKind, RequestRejected
from protocol.labels import Domain
from protocol.lint import Deviation, Rule, Severity, authority_names, label_names, lint, recognise, shape_of
from protocol.profiles import PROFILES
from tests.lint_samples import COMPONENT, COUNTRY, ORGANISATION, Sample, authorities, authority_sample, signer

CAS = tuple(authorities())
KU, BC = ExtensionId.KEY_USAGE, ExtensionId.BASIC_CONSTRAINTS
SKI, AKI = ExtensionId.SUBJECT_KEY_IDENTIFIER, ExtensionId.AUTHORITY_KEY_IDENTIFIER
YEAR = 365 * 24 * 3600


def judged(wrong: Sample, name: str, *, is_root: bool) -> tuple[Deviation, ...]:
    made = wrong.make()
    return lint(made, made.to_der(), shape_of(name, is_root=is_root))


def rules(wrong: Sample, name: str, *, is_root: bool) -> set[Rule]:
    return {found.rule for found in judged(wrong, name, is_root=is_root)}


@pytest.mark.parametrize(("name", "is_root"), CAS)
def test_a_ca_as_it_is_declared_has_no_deviation_and_is_recognised(name: str, is_root: bool) -> None:
    good = authority_sample(name, is_root=is_root)
    assert judged(good, name, is_root=is_root) == ()
    assert (name, 0) in recognise(good.make())


@pytest.mark.parametrize(("name", "is_root"), CAS)
def test_each_single_fault_of_a_ca_is_its_own_rule(name: str, is_root: bool) -> None:
    good = authority_sample(name, is_root=is_root)
    assert good.not_after is not None
    other = Algorithm.ES384 if good.key.algorithm is not Algorithm.ES384 else Algorithm.ES256
    limit = good.find(BC)
    assert limit is not None
    wrongs = {
        Rule.KEY_USAGE: good.usage(KeyUsage.KEY_CERT_SIGN),
        Rule.CRITICAL: good.criticality(BC),
        Rule.BASIC_CONSTRAINTS: good.having(BC, -2),
        Rule.PATH_LENGTH: good.having(BC, limit.value + 5),
        Rule.VALIDITY: good.but(not_after=good.not_after + YEAR),
        Rule.KEY_IDENTIFIERS: good.without(SKI),
        Rule.SERIAL: good.but(serial=1 << 160),
        Rule.SUBJECT: good.with_attribute(1, None),
        Rule.EXTENSIONS: good.having(b"\x2a\x03\x04", b"\5\0"),
    }
    if not is_root:
        wrongs[Rule.SIGNATURE_ALGORITHM] = good.but(issuer=signer(other, "issuer"))
        wrongs[Rule.ISSUER] = good.but(issuer_name=good.subject)
    else:
        wrongs[Rule.SIGNATURE] = good.but(issuer=signer(good.key.algorithm, "stranger"))
    for rule, wrong in wrongs.items():
        assert rules(wrong, name, is_root=is_root) == {rule}


def test_a_root_that_another_signed_is_no_root() -> None:
    wrong = authority_sample("v2g-root", is_root=True).but(issuer_name=c509.Name.common_name("another"))
    assert Rule.ISSUER in rules(wrong, "v2g-root", is_root=True)


@pytest.mark.parametrize("role", [None, "CPO"])
def test_a_v2g_root_says_that_it_is_one(role: str | None) -> None:
    good = authority_sample("v2g-root", is_root=True)
    for wrong in (good.with_attribute(COMPONENT, role), good.with_attribute(ORGANISATION, None)):
        (found,) = judged(wrong, "v2g-root", is_root=True)
        assert (found.rule, found.severity) == (Rule.SUBJECT, Severity.ERROR)


def test_what_the_tables_do_not_fix_of_sub_cas_is_a_warning() -> None:
    good = authority_sample("ev-cps-operator", is_root=False)
    for wrong in (
        good.with_attribute(COMPONENT, "V2G"),
        good.with_attribute(COUNTRY, None),
        good.usage(KeyUsage.KEY_CERT_SIGN, KeyUsage.CRL_SIGN, KeyUsage.DIGITAL_SIGNATURE),
        good.without(ExtensionId.AUTHORITY_INFO_ACCESS, ExtensionId.CRL_DISTRIBUTION_POINTS),
    ):
        (found,) = judged(wrong, "ev-cps-operator", is_root=False)
        assert found.severity is Severity.WARNING


def test_a_v2g_root_lives_forty_years_no_more_and_no_less() -> None:
    good = authority_sample("v2g-root", is_root=True)
    for years in (10, 42):
        (found,) = judged(good.but(not_after=good.not_before + years * YEAR), "v2g-root", is_root=True)
        assert (found.rule, found.requirement) == (Rule.VALIDITY, "[V2G2-011]")
    calendar = good.but(not_after=good.not_before + 40 * YEAR + 10 * 24 * 3600)
    assert judged(calendar, "v2g-root", is_root=True) == ()


def test_a_sub_cas_place_asks_for_its_path_length() -> None:
    good = authority_sample("ev-mo-operator", is_root=False)
    (found,) = judged(good.having(BC, -1), "ev-mo-operator", is_root=False)
    assert (found.rule, found.severity) == (Rule.PATH_LENGTH, Severity.ERROR)
    assert found.expected == "CA:TRUE with path length 0"


def test_a_line_without_sub_cas_ends_at_its_root() -> None:
    assert shape_of("ev-cpo-operator", is_root=True).is_root
    assert not shape_of("ev-cpo-operator").is_root


def test_an_end_entity_is_no_ca_and_a_ca_no_end_entity() -> None:
    ca = authority_sample("ev-mo-operator", is_root=False).make()
    assert Rule.BASIC_CONSTRAINTS in {one.rule for one in lint(ca, None, PROFILES["ev-contract"])}
    assert {label for label, _ in recognise(ca)} == set(authority_names())


def test_names_of_cas_and_labels_do_not_meet() -> None:
    assert not set(authority_names()) & set(PROFILES)
    assert len(set(label_names())) == len(label_names()) == len(PROFILES) + len(authority_names())


def test_what_is_neither_label_nor_ca_is_refused() -> None:
    with pytest.raises(RequestRejected) as refusal:
        shape_of("nobody")
    assert refusal.value.reason is ProblemKind.NOT_FOUND


@pytest.mark.parametrize("sub_cas", [0, 1, 3])
def test_what_init_makes_fits_its_declaration(tmp_path: Path, sub_cas: int) -> None:
    domains = tuple(Domain) if sub_cas else (Domain.EV_MO, Domain.EV_CPO, Domain.EV20_CPS)
    initialise(tmp_path / "authority", passphrase=b"x", now=1_800_000_000, domains=domains, sub_cas=sub_cas)
    judged_names = []
    for file in sorted((tmp_path / "authority" / "certificates").glob("*.c509")):
        certificate = c509.decode_certificate(file.read_bytes())
        if not certificate.is_ca:
            continue
        shape = shape_of(file.stem, is_root=certificate.issuer is None)
        assert lint(certificate, certificate.to_der(), shape) == (), file.name
        judged_names.append(file.stem)
    assert set(judged_names) >= {f"{domain.value}-operator" for domain in domains}
