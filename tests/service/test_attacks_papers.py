"""Attacks on the papers of a transfer: bundles that are replayed, changed, forged, or say what is not so.

Real authorities under one root. See `tests/service/test_attacks.py` for the table of all attacks.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from agents.authority import InventoryError
from agents.authority.layout import Layout
from agents.keys import SoftwareSigner, load_private_key
from protocol import c509
from protocol.labels import Domain
from protocol.transfer import decode_bundle
from protocol.voucher import Voucher
from tests.owners_world import PASSPHRASE, House, country, make_template
from tests.rig import new_key


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("country"))


def ca_key(house: House) -> SoftwareSigner:
    key = load_private_key(Layout(house.directory).operator(Domain.METERING) / "ca.key", PASSPHRASE)
    return SoftwareSigner(key, even_y=False)


async def test_a_bundle_is_taken_once_and_never_after_a_later_one(template: Path, tmp_path: Path) -> None:
    async with country(template, tmp_path) as land:
        north, south, name = land["north"], land["south"], land.meters[0].name
        north.transfer([name], "south")
        first = north.bundle(name)
        assert [one.is_new for one in south.accept(first)] == [True]
        before = south.everything()
        assert [one.is_new for one in south.accept(first)] == [False]
        assert south.everything() == before
        land.give(name, "south", "north")
        after = {house.name: house.everything() for house in (north, south)}
        with pytest.raises(InventoryError, match="epoch 1, here it is in epoch 2"):
            south.accept(first)
        land.give(name, "north", "south")
        with pytest.raises(InventoryError, match="epoch 1, here it is in epoch 3"):
            south.accept(first)
        assert after["north"] != north.everything()


async def test_a_bundle_with_one_wrong_bit_is_no_bundle(template: Path, tmp_path: Path) -> None:
    async with country(template, tmp_path, "north", "south") as land:
        north, south, name = land["north"], land["south"], land.meters[0].name
        north.transfer([name], "south")
        bundle = north.bundle(name)
        before = south.everything()
        for position in range(0, len(bundle), 13):
            wrong = bytearray(bundle)
            wrong[position] ^= 1 << position % 8
            with pytest.raises(InventoryError):
                south.accept(bytes(wrong))
        for wrong_end in (b"", bundle[:-1], bundle + b"\x00"):
            with pytest.raises(InventoryError):
                south.accept(wrong_end)
        assert south.everything() == before
        assert south.accept(bundle)[0].is_new


async def test_papers_of_others_are_not_taken(template: Path, tmp_path: Path) -> None:
    async with country(template, tmp_path) as land:
        north, south, east = land["north"], land["south"], land["east"]
        name = land.meters[0].name
        north.transfer([name], "south")
        bundle = north.bundle(name)
        before = {house.name: house.everything() for house in (south, east)}
        with pytest.raises(InventoryError, match="is for authority"):
            east.accept(bundle)
        # The rogue signs the same with its own key, for a device that never was its own.
        _, said = decode_bundle(bundle)
        registrar = east.agent.authorities[Domain.METERING].registrar
        for giver, chain in ((north.key_id, said.chain), (east.key_id, chain_of(east))):
            forged = replace(said, giver=giver, chain=chain, approved_by="mallory")
            with pytest.raises(InventoryError):
                south.accept(forged.sign(registrar.signer, registrar.key_id))
        for owner in (tmp_path / "south" / "owners").glob("north*"):
            owner.unlink()
        with pytest.raises(InventoryError, match="none that `trillium owner add` added"):
            south.accept(bundle)
        assert before == {house.name: house.everything() for house in (south, east)}


def chain_of(house: House) -> bytes:
    return c509.encode_chain(house.agent.authorities[Domain.METERING].chain)


async def test_what_a_known_owner_says_of_devices_has_to_hold(template: Path, tmp_path: Path) -> None:
    """The giver is genuine, and wrong or careless: nothing of its bundle is taken then."""
    async with country(template, tmp_path) as land:
        north, south = land["north"], land["south"]
        names = [folder.name for folder in land.meters]
        north.transfer(names[:2], "south")
        _, said = decode_bundle(north.bundle(*names[:2]))
        one, two = said.devices
        registrar = north.agent.authorities[Domain.METERING].registrar
        stranger = Voucher.issue(new_key(), north.key_id, two.name, south.key_id, 1).encoded
        elsewhere = Voucher.issue(ca_key(north), north.key_id, two.name, land["east"].key_id, 1).encoded
        wrong = {
            "another's certificate": replace(two, certificate=one.certificate),
            "another's voucher": replace(two, voucher=one.voucher),
            "a stranger's voucher": replace(two, voucher=stranger),
            "a voucher for another authority": replace(two, voucher=elsewhere),
            "another epoch": replace(two, epoch=2),
            "another client-id": replace(two, client_id=one.client_id),
            "another label": replace(two, label="its-boot"),
            "no certificate": replace(two, certificate=b"\x80"),
            "the same twice": one,
        }
        before = south.everything()
        for what, device in wrong.items():
            bundle = replace(said, devices=(one, device))
            forged = bundle.sign(registrar.signer, registrar.key_id)
            with pytest.raises(InventoryError, match=r"54524C|twice"):
                south.accept(forged)
            assert south.everything() == before, what
        assert all(done.is_new for done in south.accept(north.bundle(*names[:2])))
        later = Voucher.issue(ca_key(north), north.key_id, two.name, south.key_id, 9).encoded
        bundle = replace(said, devices=(replace(two, epoch=9, voucher=later),))
        with pytest.raises(InventoryError, match="nobody else can give it"):
            south.accept(bundle.sign(registrar.signer, registrar.key_id))
