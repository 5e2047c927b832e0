from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agents.keys import SoftwareSigner
from protocol import c509
from protocol.c509 import ExtensionId
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.labels import Domain
from protocol.path import (
    Authority,
    check_profile,
    is_issued_by,
    policies_of,
    verification_key,
    verify_leaf,
)
from protocol.profiles import Form, policy_oid, profile_of
from protocol.validity import Clock
from tests.path_world import CLOCK, METER_DS, chain_of, forge, leaf_refusal, verify
from tests.world import METER, NOW, Ca, World, ca, certify, leaf_extensions, new_signer


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def authority(world: World) -> Authority:
    return verify(world, chain_of(world.operator, world.domain_root), world.authority)


@pytest.mark.parametrize("label", ["meter-ds", "meter-ka", "meter-tls"])
def test_a_leaf_proves_its_name(world: World, authority: Authority, label: str) -> None:
    profile = profile_of(label)
    leaf = world.leaf(profile, METER, new_signer())
    assert verify_leaf(leaf, authority, profile, CLOCK) == METER


def test_a_native_leaf_proves_its_name() -> None:
    world = World(Domain.ITS)
    authority = verify(world, chain_of(world.operator, world.domain_root), world.authority)
    profile = profile_of("its-enroll")
    leaf = world.leaf(profile, "02-00-00-FF-FE-00-00-01", new_signer())
    assert leaf.type == c509.NATIVE
    assert verify_leaf(leaf, authority, profile, CLOCK) == "02-00-00-FF-FE-00-00-01"


def test_an_authority_issues_what_its_path_permits_only(world: World) -> None:
    narrow = ca(world.domain_root, "TRL-M", ("meter-tls",))
    authority = verify(world, chain_of(narrow, world.domain_root), narrow.key_id)
    leaf = world.leaf(METER_DS, METER, new_signer(), issuer=narrow)
    assert leaf_refusal(leaf, authority) is ProblemKind.WRONG_SIGNER


def test_a_leaf_of_another_authority_is_refused(world: World, authority: Authority) -> None:
    rogue = ca(world.domain_root, "TRL-M", world.operates)
    leaf = world.leaf(METER_DS, METER, new_signer(), issuer=rogue)
    assert leaf_refusal(leaf, authority) is ProblemKind.BAD_SIGNATURE
    good = world.leaf(METER_DS, METER, new_signer())
    assert leaf_refusal(forge(good), authority) is ProblemKind.BAD_SIGNATURE


def test_a_leaf_has_its_time(world: World, authority: Authority) -> None:
    leaf = world.leaf(METER_DS, METER, new_signer(), not_before=NOW, not_after=NOW + 10)
    assert leaf_refusal(leaf, authority, clock=Clock(NOW + 11)) is ProblemKind.SIGNER_EXPIRED
    assert leaf_refusal(leaf, authority, clock=Clock(NOW - 1)) is ProblemKind.SIGNER_NOT_YET_VALID
    assert verify_leaf(leaf, authority, METER_DS, Clock(None)) == METER


@pytest.mark.parametrize("asked", ["meter-ka", "meter-tls"])
def test_a_leaf_of_another_purpose_is_refused(world: World, authority: Authority, asked: str) -> None:
    leaf = world.leaf(METER_DS, METER, new_signer())
    assert leaf_refusal(leaf, authority, profile_of(asked)) is ProblemKind.WRONG_SIGNER


def test_a_leaf_in_another_form_is_refused(world: World, authority: Authority) -> None:
    leaf = world.leaf(METER_DS, METER, new_signer(), form=Form.NATIVE)
    assert leaf_refusal(leaf, authority) is ProblemKind.WRONG_SIGNER


@pytest.mark.parametrize(
    "extra",
    [
        c509.Extension(4, critical=True, value=-1),
        c509.Extension(4, critical=False, value=-2),
        c509.Extension(8, critical=False, value=(2,)),
        c509.Extension(ExtensionId.INHIBIT_ANY_POLICY, critical=True, value=0),
    ],
    ids=["a CA", "explicitly not a CA", "another usage", "a critical stranger"],
)
def test_a_leaf_with_more_than_its_profile_is_refused(
    world: World, authority: Authority, extra: c509.Extension
) -> None:
    signer = new_signer()
    extensions = (*leaf_extensions(METER_DS, signer, world.operator), extra)
    leaf = world.leaf(METER_DS, METER, signer, extensions=extensions)
    assert leaf_refusal(leaf, authority) is ProblemKind.WRONG_SIGNER


@pytest.mark.parametrize("name", ["", "someone", METER.lower(), METER + "0", "02-00-00-FF-FE-00-00-01"])
def test_a_leaf_is_named_as_its_profile_says(world: World, authority: Authority, name: str) -> None:
    leaf = world.leaf(METER_DS, name, new_signer())
    assert leaf_refusal(leaf, authority) is ProblemKind.WRONG_SUBJECT


@pytest.mark.parametrize(
    "subject",
    [
        c509.Name(()),
        c509.Name(((1, METER), (1, METER))),
        c509.Name(((8, "Trillium"), (1, METER))),
        c509.Name(((8, METER),)),
    ],
    ids=["nobody", "two", "with organisation", "organisation alone"],
)
def test_a_leaf_is_named_by_a_lone_common_name(world: World, subject: c509.Name) -> None:
    leaf = replace_subject(world.leaf(METER_DS, METER, new_signer()), subject)
    with pytest.raises(RequestRejected) as caught:
        check_profile(leaf, METER_DS)
    assert caught.value.reason is ProblemKind.WRONG_SUBJECT


def replace_subject(leaf: c509.Certificate, subject: c509.Name) -> c509.Certificate:
    tbs = c509.TbsCertificate(
        leaf.type,
        leaf.serial,
        leaf.signature_algorithm,
        leaf.issuer,
        leaf.not_before,
        leaf.not_after,
        subject,
        leaf.public_key_algorithm,
        leaf.public_key,
        leaf.extensions,
    )
    return tbs.with_signature(leaf.signature)


def test_a_key_of_another_curve_is_refused(world: World, authority: Authority) -> None:
    signer = SoftwareSigner(ec.generate_private_key(ec.SECP384R1()))
    point = signer.public_key
    tbs = c509.TbsCertificate(
        3,
        b"\x01" * 8,
        0,
        world.operator.certificate.subject,
        NOW,
        None,
        c509.Name.common_name(METER),
        2,
        bytes((0x100 - point[0],)) + point[1:],
        leaf_extensions(METER_DS, signer, world.operator),
    )
    leaf = tbs.with_signature(world.operator.signer.sign(tbs.to_be_signed()))
    assert leaf_refusal(leaf, authority) is ProblemKind.BAD_KEY


def test_a_point_off_the_curve_verifies_nothing(world: World) -> None:
    off_curve = certify(world.root, "Off", Fake(b"\x02" + b"\xff" * 32), extensions=(), form=2)
    with pytest.raises(MalformedMessage):
        verification_key(off_curve)
    with pytest.raises(MalformedMessage):
        is_issued_by(world.leaf(METER_DS, METER, new_signer(), issuer=Ca(new_signer(), off_curve)), off_curve)


class Fake:
    """A public key that nobody has the private key of."""

    algorithm: Any = None

    def __init__(self, public_key: bytes) -> None:
        self.public_key = public_key

    def sign(self, data: bytes) -> bytes:
        raise NotImplementedError


def test_policies_are_read_as_dotted_numbers(world: World) -> None:
    assert set(policies_of(world.operator.certificate)) == {policy_oid(label) for label in world.operates}
    assert policies_of(world.root.certificate) == ()
