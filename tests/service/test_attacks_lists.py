"""Revocation lists after a store came back from a backup, and of peers who ask for every delta there is."""

import shutil
from pathlib import Path

import pytest

from agents.authority import Layout, revocation, revoke
from protocol.exchange.request import RevocationReason
from protocol.labels import Domain
from protocol.ports import Media
from tests.rig import NOW, rig_in
from tests.service.test_authority_lists import end_one, lists, serials


@pytest.mark.parametrize("is_changed", [False, True])
def test_after_a_backup_numbers_go_on_where_the_published_list_was(tmp_path: Path, is_changed: bool) -> None:
    """Else no device took a list until the numbers had caught up, whatever was revoked meanwhile."""
    with rig_in(tmp_path) as rig:
        directory = rig.directory
        kept = end_one(rig)
        lists(rig).current(NOW)
    shutil.copy(directory / "store.sqlite", tmp_path / "backup")
    with rig_in(tmp_path, directory=directory) as rig:
        rig._numbers = 10  # other devices
        for _ in range(2):
            end_one(rig)
            lists(rig).current(NOW)
        end_one(rig)
        published = lists(rig).current(NOW)
    shutil.copy(tmp_path / "backup", directory / "store.sqlite")
    with rig_in(tmp_path, directory=directory) as rig:
        rig._numbers = 20
        new = {end_one(rig)} if is_changed else set()
        made = lists(rig).current(NOW)
        assert made.number > published.number
        assert serials(made) == {kept} | new
        for base in range(1, published.number + 1):
            delta = lists(rig).get(NOW, Media.C509_CRL, base)
            assert serials(delta) >= new, "a delta to a list of before the backup says no less"
    with rig_in(tmp_path, directory=directory) as rig:
        assert lists(rig).current(NOW) == made, "and at the next start nothing is made again"


@pytest.mark.parametrize("what", [b"", b"0\x00", b"junk"])
def test_a_published_list_that_is_none_of_ours_has_no_number(tmp_path: Path, what: bytes) -> None:
    with rig_in(tmp_path) as rig:
        number = lists(rig).current(NOW).number
        layout = Layout(rig.directory)
        other = rig.agent._revocations[Domain.ITS]
        for _ in range(5):
            device = rig.enrolled(Domain.ITS)
            revoke(rig.agent.store, device.name, RevocationReason.UNSPECIFIED, NOW)
            other._not_again_before = 0.0
            other.current(NOW)
        directory = rig.directory
    foreign = layout.crl(Domain.ITS).read_bytes()
    layout.crl(Domain.METERING).write_bytes(what or foreign)
    with rig_in(tmp_path, directory=directory) as rig:
        end_one(rig)
        assert lists(rig).current(NOW).number == number + 1


@pytest.mark.parametrize("media", [Media.PKIX_CRL, Media.C509_CRL])
def test_long_deltas_are_not_made_one_for_each_number_that_somebody_thinks_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, media: Media
) -> None:
    """With a hundred thousand on the list, each cost 0.1 s and four megabytes, and anybody may ask."""
    monkeypatch.setattr(revocation, "MAX_DELTA", 2)
    with rig_in(tmp_path) as rig:
        for _ in range(5):
            end_one(rig)
            lists(rig).current(NOW)
        last = lists(rig).current(NOW)
        made = [lists(rig).get(NOW, media, base) for base in range(1, last.number + 1)]
        assert [one.base for one in made] == [None] * (last.number - 3) + [
            last.number - 2,
            last.number - 1,
            last.number,
        ]
        assert len({id(one) for one in made if one.base is None}) == 1, "the full list, made once"
