from dataclasses import replace
from typing import Any

import pytest

from protocol import c509
from protocol.c509 import ExtensionId
from protocol.errors import ProblemKind, RequestRejected
from protocol.path import CMC_RA, check_registration, is_issued_by, verify_authority
from protocol.validity import Clock
from tests.path_world import CLOCK, METER_DS, chain_of, forge, verify
from tests.world import METER, NOW, YEAR, Ca, World, ca, ca_extensions, certify, new_signer


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def refusal(*arguments: Any, **named: Any) -> ProblemKind:
    with pytest.raises(RequestRejected) as caught:
        verify(*arguments, **named)
    return caught.value.reason


# --- the authority -------------------------------------------------------------------------------------


def test_the_authority_that_was_named_is_trusted_for_what_the_path_permits(world: World) -> None:
    chain = chain_of(world.operator, world.domain_root, world.registration)
    found = verify(world, chain, world.authority)
    assert found.key_id == world.authority
    assert found.labels == set(world.operates)
    assert found.registration == world.registration.certificate
    assert found.latest_not_before == NOW - YEAR
    assert is_issued_by(world.operator.certificate, world.domain_root.certificate)


def test_a_chain_may_come_without_registration_certificate(world: World) -> None:
    assert verify(world, chain_of(world.operator, world.domain_root), world.authority).registration is None


def test_another_authority_under_the_same_root_is_not_mine(world: World) -> None:
    rogue = ca(world.domain_root, "TRL-M", world.operates)
    chain = chain_of(rogue, world.domain_root)
    assert refusal(world, chain, world.authority) is ProblemKind.WRONG_SIGNER
    assert verify(world, chain).labels == set(world.operates), "who names none takes any under the root"


def test_another_root_is_nobody(world: World) -> None:
    other = World()
    chain = chain_of(other.operator, other.domain_root)
    assert refusal(world, chain, other.authority) is ProblemKind.BAD_SIGNATURE
    assert refusal(world, chain, None) is ProblemKind.BAD_SIGNATURE


def test_a_ca_without_policy_may_issue_nothing(world: World) -> None:
    bare = ca(world.domain_root, "TRL-M")
    assert verify(world, chain_of(bare, world.domain_root), bare.key_id).labels == frozenset()


def test_subordinates_only_narrow(world: World) -> None:
    narrow = ca(world.root, "Narrow", ("meter-ds", "its-enroll"))
    greedy = ca(narrow, "Greedy", ("meter-ds", "meter-tls", "its-boot"))
    assert verify(world, chain_of(greedy, narrow)).labels == {"meter-ds"}
    foreign = ca(narrow, "Foreign", ("meter-tls",))
    assert verify(world, chain_of(foreign, narrow)).labels == frozenset()


@pytest.mark.parametrize("length", [0, 5, 6])
def test_a_path_has_one_to_four_cas(world: World, length: int) -> None:
    authorities = [world.domain_root]
    while len(authorities) < length:
        authorities.insert(0, ca(authorities[0], f"CA {len(authorities)}", world.operates))
    chain = chain_of(*authorities[:length])
    assert refusal(world, chain) is ProblemKind.WRONG_SIGNER
    if length:
        assert verify(world, chain[-4:]).labels == set(world.operates)


def limited(issuer: Ca | None, name: str, path_length: int) -> Ca:
    signer = new_signer()
    constraint = c509.Extension(4, critical=True, value=path_length)
    extensions = (constraint, *ca_extensions(("meter-ds",))[1:])
    return Ca(signer, certify(issuer, name, signer, extensions=extensions))


def test_a_path_is_no_longer_than_its_cas_permit(world: World) -> None:
    zero, one = limited(world.root, "Zero", 0), limited(world.root, "One", 1)
    assert verify(world, chain_of(zero)).labels == {"meter-ds"}
    assert verify(world, chain_of(limited(one, "Last", 0), one)).labels == {"meter-ds"}
    assert refusal(world, chain_of(limited(zero, "Last", 0), zero)) is ProblemKind.WRONG_SIGNER
    middle = limited(one, "Middle", -1)
    assert refusal(world, chain_of(limited(middle, "Last", 0), middle, one)) is ProblemKind.WRONG_SIGNER


def test_the_root_itself_may_limit_the_path() -> None:
    root = limited(None, "Root", 1)
    top = ca(root, "Top", ("meter-ds",))
    below = ca(top, "Below", ("meter-ds",))
    for chain, is_good in ((chain_of(top), True), (chain_of(below, top), False)):
        if is_good:
            verify_authority(chain, root=root.certificate, authority=None, clock=CLOCK)
            continue
        with pytest.raises(RequestRejected) as caught:
            verify_authority(chain, root=root.certificate, authority=None, clock=CLOCK)
        assert caught.value.reason is ProblemKind.WRONG_SIGNER


def test_a_device_is_no_ca(world: World) -> None:
    signer = new_signer()
    device = Ca(signer, world.leaf(METER_DS, METER, signer))
    victim = ca(device, "TRL-M", world.operates)
    chain = (victim.certificate, device.certificate, *chain_of(world.operator, world.domain_root))
    assert refusal(world, chain) is ProblemKind.WRONG_SIGNER


@pytest.mark.parametrize(
    "replaced",
    [
        {4: -2},
        {4: None},
        {2: 64},
        {2: 1},
        {2: None},
    ],
    ids=["not a CA", "no basic constraints", "signs only CRLs", "signs messages", "no key usage"],
)
def test_what_may_not_sign_certificates_is_no_ca(world: World, replaced: dict[int, int | None]) -> None:
    extensions = tuple(
        replace(extension, value=replaced.get(int(extension.id), extension.value))
        for extension in ca_extensions(world.operates)
        if replaced.get(int(extension.id), 0) is not None
    )
    signer = new_signer()
    bad = Ca(signer, certify(world.domain_root, "TRL-M", signer, extensions=extensions))
    assert refusal(world, chain_of(bad, world.domain_root)) is ProblemKind.WRONG_SIGNER
    below = ca(bad, "Below", world.operates)
    assert refusal(world, chain_of(below, bad, world.domain_root)) is ProblemKind.WRONG_SIGNER


def test_a_critical_extension_that_nobody_understands_ends_the_path(world: World) -> None:
    constraint = c509.Extension(
        ExtensionId.NAME_CONSTRAINTS,
        critical=True,
        value=c509.NameConstraints((c509.GeneralName(2, "example.com"),), ()),
    )
    for extension, is_good in ((constraint, False), (replace(constraint, critical=False), True)):
        signer = new_signer()
        extensions = (*ca_extensions(world.operates), extension)
        found = Ca(signer, certify(world.domain_root, "TRL-M", signer, extensions=extensions))
        if is_good:
            verify(world, chain_of(found, world.domain_root))
        else:
            assert refusal(world, chain_of(found, world.domain_root)) is ProblemKind.WRONG_SIGNER


@pytest.mark.parametrize("which", [0, 1])
def test_a_bad_signature_anywhere_ends_the_path(world: World, which: int) -> None:
    chain = list(chain_of(world.operator, world.domain_root))
    chain[which] = forge(chain[which])
    assert refusal(world, chain) is ProblemKind.BAD_SIGNATURE


def test_an_issuer_is_named_and_not_only_able(world: World) -> None:
    stranger = Ca(world.domain_root.signer, certify(world.root, "Other name", world.domain_root.signer))
    chain = (world.operator.certificate, stranger.certificate)
    assert refusal(world, chain) is ProblemKind.BAD_SIGNATURE


@pytest.mark.parametrize("order", [(1, 0), (0, 0), (1, 1)])
def test_a_path_in_another_order_is_none(world: World, order: tuple[int, int]) -> None:
    chain = chain_of(world.operator, world.domain_root)
    assert refusal(world, [chain[i] for i in order]) is ProblemKind.BAD_SIGNATURE


@pytest.mark.parametrize("which", ["operator", "domain root"])
def test_the_time_of_every_ca_counts(world: World, which: str) -> None:
    old = ca(world.root, "Old", world.operates)
    signer = new_signer()
    extensions = ca_extensions(world.operates)
    ended = Ca(signer, certify(world.root, "Ended", signer, extensions=extensions, not_after=NOW - 1))
    if which == "operator":
        below_signer = new_signer()
        below = Ca(
            below_signer, certify(old, "Ended too", below_signer, extensions=extensions, not_after=NOW - 1)
        )
        chain = chain_of(below, old)
    else:
        chain = chain_of(ca(ended, "Below", world.operates), ended)
    assert refusal(world, chain) is ProblemKind.SIGNER_EXPIRED
    assert refusal(world, chain, clock=Clock(None, floor=NOW)) is ProblemKind.SIGNER_EXPIRED
    assert verify(world, chain, clock=Clock(None)).labels, "a device without a clock cannot tell"
    assert refusal(world, chain, clock=Clock(NOW - 2 * YEAR)) is ProblemKind.SIGNER_NOT_YET_VALID


# --- the registration key ------------------------------------------------------------------------------


def registration_refusal(world: World, registration: c509.Certificate) -> ProblemKind:
    chain = (*chain_of(world.operator, world.domain_root), registration)
    return refusal(world, chain, world.authority)


def test_a_registration_key_of_another_authority_is_refused(world: World) -> None:
    other = ca(world.domain_root, "TRL-M", world.operates)
    registration = world.registrar(other).certificate
    assert registration_refusal(world, registration) is ProblemKind.BAD_SIGNATURE


@pytest.mark.parametrize("usages", [(1, 2), (3,)])
def test_a_registration_key_says_so_in_its_usages(world: World, usages: tuple[int, ...]) -> None:
    assert registration_refusal(world, world.registrar(world.operator, usages=usages).certificate) is (
        ProblemKind.WRONG_SIGNER
    )


def test_a_device_certificate_is_no_registration_key(world: World) -> None:
    leaf = world.leaf(METER_DS, METER, new_signer())
    assert registration_refusal(world, leaf) is ProblemKind.WRONG_SIGNER


@pytest.mark.parametrize("usage", [None, 16, 1 | 32])
def test_a_registration_key_signs_and_no_certificates(world: World, usage: int | None) -> None:
    extensions = (
        *(() if usage is None else (c509.Extension(2, critical=True, value=usage),)),
        c509.Extension(8, critical=False, value=(CMC_RA,)),
    )
    registration = certify(world.operator, "RA", new_signer(), extensions=extensions)
    assert registration_refusal(world, registration) is ProblemKind.WRONG_SIGNER


def test_a_registration_key_has_its_time(world: World) -> None:
    registration = world.registrar(world.operator, not_before=NOW + 1).certificate
    with pytest.raises(RequestRejected) as caught:
        check_registration(registration, world.operator.certificate, CLOCK)
    assert caught.value.reason is ProblemKind.SIGNER_NOT_YET_VALID
