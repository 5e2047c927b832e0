"""Owners that an authority knows: cards, and whom they are believed to be."""

from dataclasses import replace
from pathlib import Path

import pytest

from agents.authority import BadDirectory, initialise
from agents.authority.owners import Card, add_owner, find_owner, known_owners, own_card
from protocol.errors import MalformedMessage
from protocol.labels import Domain
from tests.owners_world import NOW, PASSPHRASE, make_template


@pytest.fixture(scope="module")
def land(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_template(tmp_path_factory.mktemp("country"))
    initialise(folder / "abroad", passphrase=PASSPHRASE, now=NOW, domains=(Domain.METERING,))
    initialise(folder / "other", passphrase=PASSPHRASE, now=NOW, domains=(Domain.ITS,))
    return folder


def test_a_card_comes_back_as_it_was(land: Path) -> None:
    card = own_card(land / "south", "coap://192.0.2.7:5683")
    assert Card.decode(card.encode()) == card
    for data in (b"", b"\x80", card.encode()[:-1], replace(card, at="http://x").encode()):
        with pytest.raises(MalformedMessage):
            Card.decode(data)


def test_who_is_known_is_found_by_name_by_card_and_by_directory(land: Path, tmp_path: Path) -> None:
    north = land / "north"
    names = {owner.name: owner.is_tenant for owner in known_owners(north)}
    assert names == {"south": False, "east": False, "Tenant": True, "Lodger": True}
    file = tmp_path / "south.owner"
    file.write_bytes(own_card(land / "south", "coap://192.0.2.7").encode())
    found = [find_owner(north, word) for word in ("south", str(land / "south"), str(file))]
    assert len({one.authorities[Domain.METERING].key_id for one in found}) == 1
    assert [one.receiver().at for one in found] == [None, None, "coap://192.0.2.7"]
    assert found[2].receiver("mqtt://192.0.2.8").at == "mqtt://192.0.2.8"
    assert found[1].name == "SOUTH"
    tenant = find_owner(north, "Tenant").receiver()
    assert (tenant.name, tenant.authorities) == ("Tenant", {})


@pytest.mark.parametrize(
    ("name", "whose", "why"),
    [
        ("Abroad", "abroad", "not signed by"),
        ("Other", "other", "no authority of a domain that is ours"),
        ("Ourselves", "north", "is this authority itself"),
        ("south", "east", "somebody else is called that"),
        ("Tenant", "south", "somebody else is called that"),
        ("../south", "south", "letters, digits"),
        (".south", "south", "letters, digits"),
        ("x" * 65, "south", "letters, digits"),
    ],
)
def test_strangers_and_namesakes_are_not_added(land: Path, name: str, whose: str, why: str) -> None:
    north = land / "north"
    before = sorted((north / "owners").iterdir())
    with pytest.raises(BadDirectory, match=why):
        add_owner(north, name, own_card(land / whose))
    assert sorted((north / "owners").iterdir()) == before


def test_a_known_owner_may_move(land: Path) -> None:
    north = land / "north"
    add_owner(north, "south", own_card(land / "south", "coap://192.0.2.9"))
    assert find_owner(north, "south").at == "coap://192.0.2.9"
    add_owner(north, "south", own_card(land / "south"))
    assert find_owner(north, "south").at is None


def test_a_damaged_card_is_told_by_name(land: Path) -> None:
    path = land / "east" / "owners" / "north.owner"
    path.write_bytes(b"\x00" + path.read_bytes())
    with pytest.raises(BadDirectory, match=r"north\.owner"):
        known_owners(land / "east")
    with pytest.raises(BadDirectory, match=r"north\.owner"):
        find_owner(land / "east", "north")
    with pytest.raises(BadDirectory):
        own_card(land / "nowhere")
