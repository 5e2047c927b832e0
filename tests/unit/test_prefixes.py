"""Makers' prefixes: in names, in words, as policies; and what a path of CAs leaves of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ProblemKind
from protocol.path import check_prefix, verify_leaf
from protocol.profiles import (
    POLICY_ARC,
    PROFILES,
    NameSpace,
    Naming,
    Prefix,
    labels_of_policies,
    name_space,
    narrowed,
    policy_oid,
    prefix_of_name,
    prefixes_of_policies,
    profile_of,
)
from tests.path_world import CLOCK, chain_of, leaf_refusal, verify
from tests.world import GATEWAY, METER, Ca, World, ca, new_signer

BOOT = profile_of("meter-boot")
TRL, ABC, XYZ = (Prefix.parse(NameSpace.FLAG, text) for text in ("TRL", "ABC", "XYZ"))
OUI = Prefix.parse(NameSpace.OUI, "02-54-52")
ABC_METER = "4142430000000001"


@pytest.fixture(scope="module")
def world() -> World:
    return World()


# --- arithmetic ----------------------------------------------------------------------------------------


def prefixes() -> st.SearchStrategy[Prefix]:
    free = st.builds(
        Prefix, st.sampled_from([NameSpace.FLAG, NameSpace.OUI]), st.binary(min_size=3, max_size=3)
    )
    codes = st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=3, max_size=3)
    return free | codes.map(lambda text: Prefix(NameSpace.WMI, text.encode()))


@given(st.sets(prefixes(), max_size=6))
def test_prefixes_are_policies_and_come_back(listed: set[Prefix]) -> None:
    found = prefixes_of_policies([*(prefix.policy_oid for prefix in listed), "1.2.3", policy_oid("meter-ds")])
    assert set().union(*found.values()) == listed
    assert all(prefix.space is space for space, some in found.items() for prefix in some)


def test_a_prefix_is_one_number_and_never_a_labels() -> None:
    assert TRL.policy_oid == f"{POLICY_ARC}.0.1.5526092"
    assert Prefix(NameSpace.OUI, bytes(3)).policy_oid == f"{POLICY_ARC}.0.2.0"
    assert len({Prefix(space, b"ABC").policy_oid for space in NameSpace}) == len(NameSpace)
    assert labels_of_policies([TRL.policy_oid, OUI.policy_oid]) == frozenset()
    assert prefixes_of_policies(map(policy_oid, PROFILES)) == {}


@pytest.mark.parametrize(
    "number", ["", "5526092.1", "05526092", "16777216", "99999999999", "-1", "x", "٣", "1.", "."]
)
def test_what_is_listed_in_no_way_that_is_known_restricts_all_the_same(number: str) -> None:
    assert prefixes_of_policies([f"{POLICY_ARC}.0.1.{number}"]) == {NameSpace.FLAG: frozenset()}
    assert prefixes_of_policies([f"{POLICY_ARC}.0.3.1"]) == {NameSpace.WMI: frozenset()}, "no WMI"
    assert prefixes_of_policies([f"{POLICY_ARC}.0.9.1", f"{POLICY_ARC}.0", f"{POLICY_ARC}.00.1.1"]) == {}


@pytest.mark.parametrize(
    ("naming", "name", "text"),
    [
        (Naming.SYSTEM_TITLE, METER, "TRL"),
        (Naming.SYSTEM_TITLE, "00FF4C0000000001", "00-FF-4C"),
        (Naming.EUI64, GATEWAY, "02-54-52"),
        (Naming.PCID, "1HGCM82633A004352", "1HG"),
    ],
)
def test_a_name_begins_with_its_makers_prefix(naming: Naming, name: str, text: str) -> None:
    prefix = prefix_of_name(naming, naming.check(name))
    assert prefix is not None
    assert prefix.space is name_space(naming)
    assert str(prefix) == text


@pytest.mark.parametrize(
    ("space", "good", "bad"),
    [
        (NameSpace.FLAG, "TRL", ("", "trl", "TR", "TRLX", "TR1", "54-52-4C", "ÄBC")),
        (NameSpace.OUI, "02-54-52", ("TRL", "025452", "02-54-5g", "02-5A-5a", "02-54-52-00", "02:54:52")),
        (NameSpace.WMI, "1HG", ("1hg", "1H", "1H-", "٣HG")),
    ],
)
def test_prefixes_are_written_in_one_way(space: NameSpace, good: str, bad: tuple[str, ...]) -> None:
    assert str(Prefix.parse(space, good)) == good
    for text in bad:
        with pytest.raises(ValueError, match=f"is no {space.title}"):
            Prefix.parse(space, text)


@pytest.mark.parametrize(
    ("space", "octets"), [(NameSpace.FLAG, b"AB"), (NameSpace.OUI, b"ABCD"), (NameSpace.WMI, b"ab\xff")]
)
def test_three_bytes_of_the_name_space_are_a_prefix(space: NameSpace, octets: bytes) -> None:
    with pytest.raises(ValueError, match="three"):
        Prefix(space, octets)


def test_makers_name_meters_and_gateways() -> None:
    assert name_space(profile_of("meter-boot").naming) is NameSpace.FLAG
    assert name_space(profile_of("its-boot").naming) is NameSpace.OUI


LISTED = st.dictionaries(
    st.just(NameSpace.FLAG) | st.just(NameSpace.OUI), st.frozensets(st.sampled_from([TRL, ABC, XYZ]))
)


@given(LISTED, LISTED)
def test_a_ca_below_never_permits_more(above: dict[NameSpace, frozenset[Prefix]], below: object) -> None:
    assert isinstance(below, dict)
    left = narrowed(above, below)
    assert left == narrowed(below, above)
    assert left.keys() == above.keys() | below.keys()
    for space, some in left.items():
        for listed in (above, below):
            assert space not in listed or some <= listed[space]
    assert narrowed(above, {}) == narrowed(above, above) == above


# --- paths ---------------------------------------------------------------------------------------------


def maker(world: World, *listed: Prefix, issuer: Ca | None = None) -> Ca:
    return ca(issuer or world.domain_root, "Maker", ("meter-boot",), prefixes=listed)


def test_a_maker_names_devices_by_its_own_prefix_only(world: World) -> None:
    two = maker(world, TRL, ABC)
    authority = verify(world, chain_of(two, world.domain_root))
    assert authority.prefixes == {NameSpace.FLAG: {TRL, ABC}}
    for name in (METER, ABC_METER):
        assert verify_leaf(world.leaf(BOOT, name, new_signer(), issuer=two), authority, BOOT, CLOCK) == name
    other = world.leaf(BOOT, "58595A0000000001", new_signer(), issuer=two)
    assert leaf_refusal(other, authority, BOOT) is ProblemKind.WRONG_SUBJECT


@pytest.mark.parametrize("listed", [(), (OUI,)], ids=["nothing", "another name space"])
def test_a_ca_that_lists_no_prefix_names_no_device(world: World, listed: tuple[Prefix, ...]) -> None:
    bare = maker(world, *listed)
    authority = verify(world, chain_of(bare, world.domain_root))
    leaf = world.leaf(BOOT, METER, new_signer(), issuer=bare)
    assert leaf_refusal(leaf, authority, BOOT) is ProblemKind.WRONG_SIGNER


def test_what_lies_above_does_not_stand_in_for_what_the_issuer_lists(world: World) -> None:
    above = maker(world, TRL)
    bare = maker(world, issuer=above)
    authority = verify(world, chain_of(bare, above, world.domain_root))
    leaf = world.leaf(BOOT, METER, new_signer(), issuer=bare)
    assert leaf_refusal(leaf, authority, BOOT) is ProblemKind.WRONG_SIGNER


def test_a_ca_in_between_narrows_and_never_widens(world: World) -> None:
    above = maker(world, TRL, ABC)
    below = maker(world, ABC, XYZ, issuer=above)
    authority = verify(world, chain_of(below, above, world.domain_root))
    assert authority.prefixes == {NameSpace.FLAG: {ABC}}
    check_prefix(ABC, authority, BOOT)
    for name in (METER, "58595A0000000001"):
        leaf = world.leaf(BOOT, name, new_signer(), issuer=below)
        assert leaf_refusal(leaf, authority, BOOT) is ProblemKind.WRONG_SUBJECT
    stranger = maker(world, XYZ, issuer=above)
    authority = verify(world, chain_of(stranger, above, world.domain_root))
    assert authority.prefixes == {NameSpace.FLAG: frozenset()}, "nothing is left, which is not no restriction"
    leaf = world.leaf(BOOT, "58595A0000000001", new_signer(), issuer=stranger)
    assert leaf_refusal(leaf, authority, BOOT) is ProblemKind.WRONG_SUBJECT


def test_an_operator_serves_every_maker_unless_its_path_says_otherwise(world: World) -> None:
    profile = profile_of("meter-ds")
    free = verify(world, chain_of(world.operator, world.domain_root))
    assert free.prefixes == {}
    for name in (METER, ABC_METER):
        assert verify_leaf(world.leaf(profile, name, new_signer()), free, profile, CLOCK) == name
    bound = ca(world.domain_root, "TRL-M", world.operates, prefixes=(ABC,))
    authority = verify(world, chain_of(bound, world.domain_root))
    ours, theirs = (world.leaf(profile, name, new_signer(), issuer=bound) for name in (METER, ABC_METER))
    assert verify_leaf(theirs, authority, profile, CLOCK) == ABC_METER
    assert leaf_refusal(ours, authority) is ProblemKind.WRONG_SUBJECT
