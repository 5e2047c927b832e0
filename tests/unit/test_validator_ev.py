"""ISO 15118-2: what stations, services and cars show, and every chain that a peer wrongly took."""

from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.x509.oid import ExtendedKeyUsageOID

from protocol.c509 import PublicKeyAlgorithm
from protocol.errors import ProblemKind
from protocol.validator import ED448, P521_SHA512, PathRejected, Policy, Reason, Suite
from protocol.validity import Verdict
from tests.ev_policies import CONTRACT_2, CPS_2, OEM_2, SECC_2, accept, reasons
from tests.ev_world import CA_TRUE, DAY, NOW, YEAR, EvWorld, Party, ca_wish, issue, root


@pytest.fixture(scope="module")
def world() -> EvWorld:
    return EvWorld()


def tampered(party: Party, der: bytes) -> Party:
    """The same party, showing other bytes."""
    return Party(party.key, x509.load_der_x509_certificate(der), party.identifier, party.style)


def forged(party: Party) -> Party:
    """The same certificate with one bit of its signature's last octet flipped."""
    return tampered(party, party.der[:-1] + bytes([party.der[-1] ^ 1]))


# --- what conforms -------------------------------------------------------------------------------------


def test_every_role_s_certificate_is_taken_where_it_is_due(world: EvWorld) -> None:
    for leaf, policy, root_name in (
        (world.secc(), SECC_2, "V2G Root"),
        (world.cps(), CPS_2, "V2G Root"),
        (world.contract(), CONTRACT_2, "MO Root"),
        (world.provisioning(), OEM_2, "OEM Root"),
    ):
        path = accept(world, leaf, policy)
        assert path.leaf == leaf.certificate
        assert path.root.subject.cn == root_name
        assert len(path.intermediates) == 2
        assert path.verdict is Verdict.VALID
        assert path.public_key == leaf.key.public_key()
        assert path.latest_not_before == leaf.certificate.not_before


def test_a_single_sub_ca_is_sub_ca_2_and_will_do(world: EvWorld) -> None:
    only = world.v2g.ca("CPO Sub2", 0, role="V2G")
    assert len(accept(world, world.secc(only), SECC_2, pool=[only.certificate]).certificates) == 3


def test_a_private_operator_root_issues_leaves_itself_where_the_policy_permits(world: EvWorld) -> None:
    private = root("Private Operator")
    policy = replace(SECC_2, min_intermediates=0, root_role=None)
    path = accept(world, world.secc(private), policy, pool=[], roots=[private.certificate])
    assert path.intermediates == ()


def test_ca_certificates_of_other_branches_do_no_harm(world: EvWorld) -> None:
    leaf = world.secc()
    pool = [leaf.certificate, *world.cas, *world.roots, *world.cas]
    assert len(accept(world, leaf, SECC_2, pool=pool).certificates) == 4


# --- what a peer took ----------------------------------------------------------------------------------


def test_without_a_root_nothing_is_trusted(world: EvWorld) -> None:
    assert reasons(world, world.secc(), SECC_2, roots=[]) == {Reason.NO_ISSUER}


def test_a_ca_is_no_leaf(world: EvWorld) -> None:
    leaf = world.secc(constraints=CA_TRUE)
    assert reasons(world, leaf, SECC_2) == {Reason.LEAF_IS_CA}
    assert Reason.LEAF_IS_CA in reasons(world, world.cpo2, SECC_2)


def test_a_leaf_for_key_encipherment_signs_nothing(world: EvWorld) -> None:
    assert reasons(world, world.secc(usages=("key_encipherment",)), SECC_2) == {Reason.KEY_USAGE}


def test_a_station_s_leaf_is_no_provisioning_service_s(world: EvWorld) -> None:
    with pytest.raises(PathRejected) as caught:
        accept(world, world.secc(), CPS_2)
    assert caught.value.reasons == {Reason.ROLE}
    assert caught.value.reason is ProblemKind.WRONG_SUBJECT
    assert "has role CPO, not CPS" in str(caught.value)


def test_a_station_operator_makes_no_provisioning_service(world: EvWorld) -> None:
    leaf = world.cps(world.cpo2)
    assert accept(world, leaf, CPS_2)  # nothing in the tables says whose sub-CA it is
    by_branch = replace(CPS_2, ca_role=CPS_2.role)
    assert reasons(world, leaf, by_branch) == {Reason.ROLE}
    assert accept(world, world.cps(), by_branch)


def test_the_issuer_s_name_is_compared_also_where_its_key_is_right(world: EvWorld) -> None:
    other = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CPO Sub9")])
    leaf = world.secc(issuer_name=other)
    assert reasons(world, leaf, SECC_2) == {Reason.ISSUER_NAME}
    without = frozenset({x509.AuthorityKeyIdentifier})
    assert reasons(world, world.secc(issuer_name=other, without=without), SECC_2) == {Reason.NO_ISSUER}


def test_an_expired_root_ends_no_path(world: EvWorld) -> None:
    old = root("Old Root", role="V2G", not_before=NOW - 40 * YEAR, not_after=NOW - DAY)
    sub = old.ca("Old Sub", 0)
    with pytest.raises(PathRejected) as caught:
        accept(world, world.secc(sub), SECC_2, pool=[sub.certificate], roots=[old.certificate])
    assert caught.value.reasons == {Reason.EXPIRED}
    assert "the root (CN=Old Root" in str(caught.value)


def ed448_branch(world: EvWorld) -> tuple[Party, Party]:
    """A sub-CA with an Ed448 key, and a station's leaf of it."""
    sub = world.v2g.ca("Ed448 Sub", 0, role="V2G", key=ed448.Ed448PrivateKey.generate())
    return sub, world.secc(sub)


def test_an_ed448_signature_is_refused_by_name_and_never_skipped(world: EvWorld) -> None:
    sub, leaf = ed448_branch(world)
    for shown in (leaf, forged(leaf)):
        with pytest.raises(PathRejected) as caught:
            accept(world, shown, SECC_2, pool=[sub.certificate])
        assert caught.value.reasons == {Reason.ALGORITHM}
        assert "ED448" in str(caught.value)


def test_where_a_policy_allows_ed448_a_forged_signature_is_still_forged(world: EvWorld) -> None:
    sub, leaf = ed448_branch(world)
    policy = replace(SECC_2, suites=SECC_2.suites | {ED448})
    assert accept(world, leaf, policy, pool=[sub.certificate])
    assert reasons(world, forged(leaf), policy, pool=[sub.certificate]) == {Reason.BAD_SIGNATURE}


def test_p521_with_sha256_is_refused_by_name_unless_a_policy_allows_it(world: EvWorld) -> None:
    p521 = ec.generate_private_key(ec.SECP521R1())
    sub = world.v2g.ca("P-521 Sub", 0, role="V2G", key=p521)
    leaf = world.secc(sub, digest=hashes.SHA256)
    policy = replace(SECC_2, suites=SECC_2.suites | {P521_SHA512})
    with pytest.raises(PathRejected) as caught:
        accept(world, leaf, policy, pool=[sub.certificate])
    assert caught.value.reasons == {Reason.ALGORITHM}
    assert "ECDSA-SHA256 of a P521 key" in str(caught.value)
    mixed = replace(policy, suites=policy.suites | {Suite(PublicKeyAlgorithm.P521, 0)})
    assert accept(world, leaf, mixed, pool=[sub.certificate])
    assert accept(world, world.secc(sub, digest=hashes.SHA512), policy, pool=[sub.certificate])


def test_a_forged_signature_anywhere_on_the_path_is_found(world: EvWorld) -> None:
    leaf = world.secc()
    assert reasons(world, forged(leaf), SECC_2) == {Reason.BAD_SIGNATURE}
    pool = [forged(world.cpo2).certificate, world.cpo1.certificate]
    assert reasons(world, leaf, SECC_2, pool=pool) == {Reason.BAD_SIGNATURE}


def test_a_leaf_under_a_root_of_the_same_name_and_another_key_is_refused(world: EvWorld) -> None:
    pirate = EvWorld()
    assert reasons(world, pirate.secc(), SECC_2, pool=pirate.cas) == {Reason.KEY_IDENTIFIER}
    bare: dict[str, Any] = {"without": frozenset({x509.AuthorityKeyIdentifier})}
    sub = issue(pirate.v2g, ca_wish("CPO Sub2", 0, role="V2G", **bare), pirate.style)
    assert reasons(world, pirate.secc(sub), SECC_2, pool=[sub.certificate]) == {Reason.BAD_SIGNATURE}


def test_expired_and_future_leaves_are_told_apart(world: EvWorld) -> None:
    assert reasons(world, world.secc(not_after=NOW - 1), SECC_2) == {Reason.EXPIRED}
    assert reasons(world, world.secc(not_before=NOW + 1), SECC_2) == {Reason.NOT_YET_VALID}


def test_a_leaf_that_sub_ca_1_signed_is_refused_for_its_place(world: EvWorld) -> None:
    leaf = world.secc(world.cpo1)
    assert reasons(world, leaf, SECC_2) == {Reason.PATH_LENGTH}
    assert accept(world, leaf, replace(SECC_2, exact_path_lengths=False))
    named_sub_2 = world.secc(world.cpo1, issuer_name=world.cpo2.x509.subject, authority=world.cpo2.identifier)
    assert reasons(world, named_sub_2, SECC_2) == {Reason.BAD_SIGNATURE}


# --- what the tables ask for ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"usages": ("digital_signature", "key_agreement")}, Reason.KEY_USAGE),
        ({"usage_critical": False}, Reason.CRITICALITY),
        ({"usages": None}, Reason.EXTENSION_MISSING),
        ({"constraints": None}, Reason.BASIC_CONSTRAINTS),
        ({"role": None}, Reason.ROLE),
        ({"role": "CSO"}, Reason.ROLE),
        ({"role": "cpo"}, Reason.ROLE),
        (
            {"more_names": (x509.NameAttribute(x509.NameOID.DOMAIN_COMPONENT, "CPS"),)},
            Reason.ROLE,
        ),
        ({"pointer_path": "x" * 250}, Reason.TOO_LARGE),
        ({"key": ec.generate_private_key(ec.SECP384R1())}, Reason.KEY_ALGORITHM),
        (
            {"extra": ((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.9"), b"\5\0"), True),)},
            Reason.UNHANDLED_CRITICAL,
        ),
        ({"is_critical": True}, Reason.UNHANDLED_CRITICAL),
    ],
)
def test_a_station_s_leaf_has_the_form_of_its_table(
    world: EvWorld, wish: dict[str, Any], reason: Reason
) -> None:
    assert reason in reasons(world, world.secc(**wish), SECC_2)


@pytest.mark.parametrize("cn", ["DE-ABC-C01234567-X", "DEABC", "DEABCC012345678901", "deabcc01234567", None])
def test_a_contract_is_named_by_its_emaid_without_dashes(world: EvWorld, cn: str | None) -> None:
    assert reasons(world, world.contract(cn=cn), CONTRACT_2) == {Reason.SUBJECT}


def test_a_contract_may_name_its_operator_s_role_but_no_other(world: EvWorld) -> None:
    assert accept(world, world.contract(role="MO"), CONTRACT_2)
    assert reasons(world, world.contract(role="CPS"), CONTRACT_2) == {Reason.ROLE}


def test_a_contract_under_the_v2g_root_is_taken_and_a_car_s_under_it_is_not(world: EvWorld) -> None:
    mo = world.v2g.ca("MO Sub2", 0)
    assert accept(world, world.contract(mo), CONTRACT_2, pool=[mo.certificate])
    with pytest.raises(PathRejected) as caught:
        accept(world, world.provisioning(mo), OEM_2, pool=[mo.certificate])
    assert caught.value.reasons == {Reason.ROLE}
    assert "the root (CN=V2G Root" in str(caught.value)


def test_the_v2g_root_itself_issues_no_leaf(world: EvWorld) -> None:
    with pytest.raises(PathRejected, match=r"\[V2G2-867\]") as caught:
        accept(world, world.secc(world.v2g), SECC_2)
    assert caught.value.reasons == {Reason.PATH_TOO_SHORT}


def test_one_sub_ca_too_many_is_refused(world: EvWorld) -> None:
    sub1 = world.v2g.ca("S1", 2)
    sub2 = sub1.ca("S2", 1)
    sub3 = sub2.ca("S3", 0)
    pool = [sub.certificate for sub in (sub3, sub1, sub2)]
    assert reasons(world, world.secc(sub3), SECC_2, pool=pool) == {Reason.PATH_TOO_LONG}
    assert accept(world, world.secc(sub3), replace(SECC_2, max_intermediates=3), pool=pool)


def policy_for_cas(**named: Any) -> Policy:
    return replace(SECC_2, exact_path_lengths=False, **named)


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"constraints": None}, Reason.NOT_A_CA),
        ({"constraints": "CA:FALSE", "path_length": None}, Reason.NOT_A_CA),
        ({"usages": ("crl_sign",)}, Reason.KEY_USAGE),
        ({"usages": ("key_cert_sign",)}, Reason.KEY_USAGE),
        ({"usages": None}, Reason.KEY_USAGE),
        ({"usage_critical": False}, Reason.CRITICALITY),
        ({"not_after": NOW - 1}, Reason.EXPIRED),
        ({"not_before": NOW + 1}, Reason.NOT_YET_VALID),
        ({"pointer_path": "x" * 300}, Reason.TOO_LARGE),
        (
            {"extra": ((x509.NameConstraints([x509.DNSName("a.test")], None), True),)},
            Reason.UNHANDLED_CONSTRAINT,
        ),
        (
            {"extra": ((x509.NameConstraints([x509.DNSName("a.test")], None), False),)},
            Reason.UNHANDLED_CONSTRAINT,
        ),
        (
            {"extra": ((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), True),)},
            Reason.EXTENDED_KEY_USAGE,
        ),
        ({"is_critical": True}, Reason.UNHANDLED_CRITICAL),
    ],
)
def test_a_sub_ca_has_the_form_of_its_table(world: EvWorld, wish: dict[str, Any], reason: Reason) -> None:
    sub = world.v2g.ca("Odd Sub", **{"path_length": 0 if "constraints" not in wish else None, **wish})
    assert reason in reasons(world, world.secc(sub), policy_for_cas(), pool=[sub.certificate])


def test_a_path_length_holds_for_every_ca_below(world: EvWorld) -> None:
    tight = root("Tight", role="V2G", path_length=0)
    sub1 = tight.ca("T1", 1)
    sub2 = sub1.ca("T2", 0)
    pool = [sub1.certificate, sub2.certificate]
    with pytest.raises(PathRejected) as caught:
        accept(world, world.secc(sub2), policy_for_cas(), pool=pool, roots=[tight.certificate])
    assert caught.value.reasons == {Reason.PATH_LENGTH}
    assert "the root" in str(caught.value)
    level = policy_for_cas(min_intermediates=0)
    assert accept(world, world.secc(tight), level, pool=pool, roots=[tight.certificate])


def test_a_sub_ca_is_no_root_even_where_it_is_given_as_one(world: EvWorld) -> None:
    policy = policy_for_cas(min_intermediates=0)
    found = reasons(world, world.secc(), policy, pool=[], roots=[world.cpo2.certificate])
    assert found == {Reason.NOT_A_ROOT}
