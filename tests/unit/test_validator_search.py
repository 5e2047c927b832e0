"""Building paths: many roots of one name, cross-certificates, loops, and pools that want to burn our time."""

from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from protocol import c509
from protocol.c509 import ExtensionId, KeyUsage
from protocol.errors import ProblemKind
from protocol.validator import (
    ED25519,
    MAX_CANDIDATES,
    MAX_FINDINGS,
    PathRejected,
    Policy,
    Reason,
    Suite,
    validate,
)
from protocol.validator import signatures as validator_signatures
from protocol.voucher import key_identifier
from tests.ev_policies import CLOCK, SECC_2, accept, reasons
from tests.ev_world import NOW, PART_2, EvWorld, Party, Wish, ca_wish, issue, root
from tests.world import World, ca, certify, new_signer

PLAIN = Policy(name="plain", max_intermediates=4)
BARE = frozenset({x509.AuthorityKeyIdentifier, x509.SubjectKeyIdentifier})


@pytest.fixture(scope="module")
def world() -> EvWorld:
    return EvWorld()


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whose signatures were checked."""
    done: list[str] = []
    real = validator_signatures.is_signed_with

    def counted(certificate: c509.Certificate, key: object) -> bool:
        done.append(certificate.subject.cn or "")
        return real(certificate, key)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr("protocol.validator.search.is_signed_with", counted)
    return done


# --- several roots of one name -------------------------------------------------------------------------


def same_named_roots(count: int, **named: Any) -> list[Party]:
    return [root("V2G Root", role="V2G", **named) for _ in range(count)]


def test_of_ten_roots_of_one_name_the_key_identifier_finds_the_right_one(
    world: EvWorld, checks: list[str]
) -> None:
    roots = same_named_roots(10)
    for used in (roots[0], roots[9]):
        sub = used.ca("Sub", 0)
        checks.clear()
        path = accept(
            world,
            world.secc(sub),
            SECC_2,
            pool=[sub.certificate],
            roots=[one.certificate for one in roots],
        )
        assert path.root == used.certificate
        assert len(checks) == 2


def test_of_ten_roots_without_key_identifiers_the_signature_finds_the_right_one(
    world: EvWorld, checks: list[str]
) -> None:
    roots = same_named_roots(10, without=BARE)
    sub = roots[9].ca("Sub", 0, without=BARE)
    path = accept(
        world, world.secc(sub), SECC_2, pool=[sub.certificate], roots=[one.certificate for one in roots]
    )
    assert path.root == roots[9].certificate
    assert len(checks) == 11


def test_a_root_among_the_candidates_is_tried_once(world: EvWorld, checks: list[str]) -> None:
    liar = root("V2G Root", role="V2G", identifier=world.v2g.identifier)
    leaf, roots = world.secc(world.v2g), [liar.certificate]
    policy = replace(SECC_2, min_intermediates=0, exact_path_lengths=False)
    assert reasons(world, leaf, policy, pool=roots * 3, roots=roots) == {Reason.BAD_SIGNATURE}
    assert len(checks) == 1


def test_the_attempt_that_came_furthest_tells(world: EvWorld) -> None:
    """Whatever comes after it."""
    stranger = root("Nobody's").ca("CPO Sub2", 0, role="V2G", country="DE", without=BARE)
    late = root("V2G Root", role="V2G", key=world.v2g.key, not_after=NOW - 1)
    pool = [*world.cas, stranger.certificate]
    assert reasons(world, world.secc(), SECC_2, pool=pool, roots=[late.certificate]) == {Reason.EXPIRED}


def test_a_root_that_only_claims_the_key_identifier_is_passed_over(world: EvWorld) -> None:
    liar = root("V2G Root", role="V2G", identifier=world.v2g.identifier)
    roots = [liar.certificate, world.v2g.certificate]
    assert accept(world, world.secc(), SECC_2, roots=roots).root == world.v2g.certificate
    assert reasons(world, world.secc(), SECC_2, roots=roots[:1]) == {Reason.BAD_SIGNATURE}


def test_a_renewed_root_with_the_old_key_serves_where_the_old_one_has_expired(world: EvWorld) -> None:
    old = root("V2G Root", role="V2G", not_after=NOW - 1)
    renewed = root("V2G Root", role="V2G", key=old.key)
    sub = old.ca("Sub", 0)
    roots = [old.certificate, renewed.certificate]
    path = accept(world, world.secc(sub), SECC_2, pool=[sub.certificate], roots=roots)
    assert path.root == renewed.certificate


# --- cross-certificates and loops ----------------------------------------------------------------------


def test_a_cross_certificate_leads_to_the_other_scheme_s_root(world: EvWorld) -> None:
    foreign = root("Other V2G", role="V2G")
    cross = foreign.ca("CPO Sub2", 0, role="V2G", country="DE", key=world.cpo2.key)
    leaf = world.secc()
    pool = [world.cpo1.certificate, world.cpo2.certificate, cross.certificate]
    path = accept(world, leaf, SECC_2, pool=pool, roots=[foreign.certificate])
    assert path.certificates == (leaf.certificate, cross.certificate, foreign.certificate)
    assert len(accept(world, leaf, SECC_2, pool=pool).certificates) == 4


def test_a_new_root_that_the_old_one_signed_serves_devices_that_know_only_the_old(world: EvWorld) -> None:
    new = root("V2G Root", role="V2G")
    bridge = world.v2g.ca("V2G Root", None, role="V2G", key=new.key)  # self-issued: new with old
    sub = new.ca("Sub", 0)
    pool = [sub.certificate, bridge.certificate]
    path = accept(world, world.secc(sub), replace(SECC_2, exact_path_lengths=False), pool=pool)
    assert path.certificates[2:] == (bridge.certificate, world.v2g.certificate)
    tight = root("V2G Root", role="V2G", path_length=1)  # a self-issued certificate is no step down
    bridge = tight.ca("V2G Root", 1, role="V2G", key=new.key)
    pool = [sub.certificate, bridge.certificate]
    assert accept(world, world.secc(sub), SECC_2, pool=pool, roots=[tight.certificate])


def test_cas_that_certify_each_other_lead_nowhere_and_end(world: EvWorld) -> None:
    one, two = root("One"), root("Two")
    one_by_two = two.ca("One", None, key=one.key)
    two_by_one = one.ca("Two", None, key=two.key)
    pool = [one_by_two.certificate, two_by_one.certificate, one.certificate, two.certificate]
    policy = replace(PLAIN, max_intermediates=10)
    leaf = world.secc(one)
    assert Reason.LOOP in reasons(world, leaf, policy, pool=pool)
    roots = [two.certificate]
    path = accept(world, leaf, policy, pool=pool, roots=roots)
    assert [one.subject.cn for one in path.certificates[1:]] == ["One", "Two"]


def test_a_certificate_that_signed_itself_is_no_path(world: EvWorld) -> None:
    leaf = root("Lonely", usages=("digital_signature",), constraints="CA:FALSE")
    pool = [leaf.certificate]
    assert reasons(world, leaf, PLAIN, pool=pool) == {Reason.NOT_A_CA, Reason.KEY_USAGE}


# --- hostile pools -------------------------------------------------------------------------------------


def test_a_pool_over_the_limit_is_refused_before_any_work(world: EvWorld, checks: list[str]) -> None:
    pool = [world.cpo1.certificate] * (MAX_CANDIDATES + 1)
    with pytest.raises(PathRejected) as caught:
        accept(world, world.secc(), SECC_2, pool=pool)
    assert caught.value.reasons == {Reason.TOO_MANY_CANDIDATES}
    assert caught.value.reason is ProblemKind.TOO_LARGE
    assert not checks


def test_impostors_cost_no_more_signature_checks_than_the_policy_allows(
    world: EvWorld, checks: list[str]
) -> None:
    impostor = issue(None, ca_wish("CPO Sub2", 0, role="V2G", country="DE", without=BARE), PART_2)
    pool = [
        replace(impostor.certificate, serial=bytes([1, number]), encoded=bytes([number]))
        for number in range(MAX_CANDIDATES)
    ]
    with pytest.raises(PathRejected) as caught:
        accept(world, world.secc(), SECC_2, pool=pool)
    assert Reason.TOO_MANY_CHECKS in caught.value.reasons
    assert len(checks) == SECC_2.max_checks
    assert len(caught.value.findings) <= MAX_FINDINGS


def test_a_dense_web_of_good_signatures_ends_soon(world: EvWorld, checks: list[str]) -> None:
    """Whoever holds a few CA keys can sign any number of ways through them."""
    levels = [issue(None, ca_wish(f"Web {level}"), PART_2) for level in range(4)]
    pool = [
        upper.ca(lower.certificate.subject.cn or "", key=lower.key, identifier=lower.identifier).certificate
        for lower, upper in pairwise(levels)
        for _ in range(12)
    ]
    with pytest.raises(PathRejected) as caught:
        accept(world, world.secc(levels[0]), PLAIN, pool=pool)
    assert Reason.TOO_MANY_CHECKS in caught.value.reasons
    assert len(checks) == PLAIN.max_checks


def test_issuers_that_fail_before_their_signature_are_counted_too(world: EvWorld, checks: list[str]) -> None:
    bare = issue(None, ca_wish("CPO Sub2", 0, role="V2G", country="DE", without=BARE), PART_2)
    late = replace(bare.certificate, not_after=NOW - 1)
    pool = [replace(late, encoded=bytes([number])) for number in range(MAX_CANDIDATES)]
    policy = replace(SECC_2, max_checks=8)
    with pytest.raises(PathRejected) as caught:
        accept(world, world.secc(), policy, pool=pool)
    assert Reason.TOO_MANY_CHECKS in caught.value.reasons
    assert not checks


def test_the_likely_issuer_is_tried_before_strangers_of_its_name(world: EvWorld, checks: list[str]) -> None:
    impostor = issue(None, ca_wish("CPO Sub2", 0, role="V2G", country="DE", without=BARE), PART_2)
    pool = [
        *(
            replace(impostor.certificate, serial=bytes([1, number]), encoded=bytes([number]))
            for number in range(200)
        ),
        *world.cas,
    ]
    assert accept(world, world.secc(), SECC_2, pool=pool)
    assert len(checks) == 3


def test_the_cheap_questions_come_before_any_signature(world: EvWorld, checks: list[str]) -> None:
    assert reasons(world, world.secc(role="CPS"), SECC_2)
    old = root("Old Root", role="V2G", not_after=NOW - 1)
    assert reasons(world, world.secc(old), replace(SECC_2, min_intermediates=0), roots=[old.certificate])
    assert not checks


def test_sentences_are_printable_whatever_a_certificate_holds(world: EvWorld) -> None:
    names = (x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "a\nERROR forged\x1b[31m"),)
    with pytest.raises(PathRejected) as caught:
        accept(world, world.secc(more_names=names, role="CPS"), SECC_2)
    assert str(caught.value).isprintable()


# --- revocation ----------------------------------------------------------------------------------------


def test_each_certificate_below_the_root_is_asked_for_by_issuer_and_serial(world: EvWorld) -> None:
    leaf = world.secc()
    asked: list[tuple[bytes, bytes]] = []

    def nothing_known(issuer: bytes, serial: bytes) -> None:
        asked.append((issuer, serial))

    path = accept(world, leaf, SECC_2, is_revoked=nothing_known)
    assert asked == [
        (key_identifier(upper.key.public_key()), lower.certificate.serial)
        for lower, upper in ((leaf, world.cpo2), (world.cpo2, world.cpo1), (world.cpo1, world.v2g))
    ]
    assert path.unknown_status == path.certificates[:3]
    assert accept(world, leaf, SECC_2).unknown_status == path.certificates[:3]
    assert accept(world, leaf, SECC_2, is_revoked=lambda *_: False).unknown_status == ()


def test_a_revoked_ca_ends_the_path_and_another_certificate_of_it_may_go_on(world: EvWorld) -> None:
    revoked = world.cpo2.certificate.serial

    def is_revoked(_: bytes, serial: bytes) -> bool:
        return serial == revoked

    with pytest.raises(PathRejected) as caught:
        accept(world, world.secc(), SECC_2, is_revoked=is_revoked)
    assert caught.value.reasons == {Reason.REVOKED}
    assert caught.value.reason is ProblemKind.SIGNER_REVOKED
    again = world.cpo1.ca("CPO Sub2", 0, role="V2G", country="DE", key=world.cpo2.key)
    pool = [*world.cas, again.certificate]
    assert (
        again.certificate
        in accept(world, world.secc(), SECC_2, pool=pool, is_revoked=is_revoked).certificates
    )


def test_a_policy_may_insist_on_knowing(world: EvWorld) -> None:
    strict = replace(SECC_2, needs_status=True)
    assert reasons(world, world.secc(), strict) == {Reason.STATUS_UNKNOWN}
    assert accept(world, world.secc(), strict, is_revoked=lambda *_: False)


# --- Trillium's own ------------------------------------------------------------------------------------


def test_every_ca_below_the_root_must_be_permitted_the_label() -> None:
    scheme = World()
    signer = new_signer()
    usage = (c509.Extension(ExtensionId.KEY_USAGE, critical=True, value=int(KeyUsage.DIGITAL_SIGNATURE)),)
    leaf = certify(scheme.operator, "54524C0000000001", signer, extensions=usage)
    pool = [scheme.domain_root.certificate, scheme.operator.certificate]
    policy = Policy(name="meter-ds", label="meter-ds")
    found = validate(leaf, pool, [scheme.root.certificate], policy=policy, clock=CLOCK)
    assert len(found.certificates) == 4
    with pytest.raises(PathRejected) as caught:
        validate(
            leaf, pool, [scheme.root.certificate], policy=replace(policy, label="meter-boot"), clock=CLOCK
        )
    assert caught.value.reasons == {Reason.LABEL}
    rogue = ca(scheme.domain_root, "Rogue", ("meter-ka",))
    leaf = certify(rogue, "54524C0000000001", signer, extensions=usage)
    with pytest.raises(PathRejected) as caught:
        validate(leaf, [rogue.certificate, *pool], [scheme.root.certificate], policy=policy, clock=CLOCK)
    assert caught.value.reasons == {Reason.LABEL}


def test_native_certificates_are_validated_like_others() -> None:
    top = ca(None, "Top")
    signer = new_signer()
    usage = (c509.Extension(ExtensionId.KEY_USAGE, critical=True, value=int(KeyUsage.DIGITAL_SIGNATURE)),)
    leaf = certify(top, "02-00-00-FF-FE-00-00-01", signer, form=2, extensions=usage)
    policy = Policy(name="its-enroll", form=2)
    assert validate(leaf, [], [top.certificate], policy=policy, clock=CLOCK).leaf == leaf
    with pytest.raises(PathRejected) as caught:
        validate(leaf, [], [top.certificate], policy=replace(policy, form=3), clock=CLOCK)
    assert caught.value.reasons == {Reason.FORM}
    unsigned = c509.TbsCertificate(*(getattr(leaf, field.name) for field in fields(c509.TbsCertificate)))
    assert unsigned.with_signature(leaf.signature) == leaf
    padded = unsigned.with_signature(b"\0" + leaf.signature[:32] + b"\0" + leaf.signature[32:])
    with pytest.raises(PathRejected) as caught:
        validate(padded, [], [top.certificate], policy=policy, clock=CLOCK)
    assert caught.value.reasons == {Reason.BAD_SIGNATURE}


@pytest.mark.parametrize(("bits", "reason"), [(1024, Reason.BAD_KEY), (2048, None)])
def test_rsa_is_for_policies_that_allow_it_and_never_short(
    world: EvWorld, bits: int, reason: Reason | None
) -> None:
    key = rsa.generate_private_key(65537, bits)  # a weak one, too: it is refused
    top = root("RSA", key=key)
    leaf = top.issue(Wish())
    trust: dict[str, Any] = {"pool": [], "roots": [top.certificate]}
    with pytest.raises(PathRejected, match="RSA-PKCS1-SHA256 of a RSA key") as caught:
        accept(world, leaf, PLAIN, **dict(trust))
    assert caught.value.reasons == {Reason.ALGORITHM}
    policy = replace(PLAIN, suites=frozenset({Suite(0, 23)}))
    if reason is None:
        assert accept(world, leaf, policy, **dict(trust))
        forged = replace(leaf.certificate, signature=bytes(len(leaf.certificate.signature)))
        with pytest.raises(PathRejected) as caught:
            validate(forged, [], [top.certificate], policy=policy, clock=CLOCK)
        assert caught.value.reasons == {Reason.BAD_SIGNATURE}
    else:
        assert reasons(world, leaf, policy, **dict(trust)) == {reason}


def test_ed25519_is_a_suite_like_others(world: EvWorld) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    top = root("Edwards", key=key)
    leaf = top.issue(Wish())
    policy = replace(PLAIN, suites=frozenset({ED25519}))
    assert accept(world, leaf, policy, pool=[], roots=[top.certificate])
