"""init --under: roots that do not fit what is to stand under them, and disks that fill half way."""

import shutil
from pathlib import Path

import pytest

from agents.authority import BadDirectory, hierarchy, initialise
from protocol.labels import Domain
from tests.rig import NOW, PASSPHRASE

YEAR = 365 * 24 * 3600


def first(folder: Path, *domains: Domain, sub_cas: int = 2, name: str = "first") -> Path:
    """Make an authority; return its roots."""
    roots = folder / f"{name}-roots"
    initialise(folder / name, passphrase=PASSPHRASE, now=NOW, roots=roots, domains=domains, sub_cas=sub_cas)
    return roots


def refused(folder: Path, roots: Path, *domains: Domain, says: str, sub_cas: int = 2, now: int = NOW) -> None:
    before = {path.relative_to(folder) for path in folder.rglob("*")}
    with pytest.raises(BadDirectory, match=says):
        initialise(
            folder / "second", passphrase=PASSPHRASE, now=now, under=roots, domains=domains, sub_cas=sub_cas
        )
    assert {path.relative_to(folder) for path in folder.rglob("*")} == before, "nothing is left behind"


def test_roots_that_may_not_issue_the_labels_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made the roots knew fewer labels."""
    with monkeypatch.context() as before:
        before.setattr(hierarchy, "over_the_air", lambda _: ("meter-ds",))
        roots = first(tmp_path, Domain.METERING)
    refused(tmp_path, roots, Domain.METERING, says="metering-operator: may not issue .*meter-ka")


@pytest.mark.parametrize("domain", [Domain.EV_MO, Domain.EV_CPO, Domain.EV20_CPS])
def test_without_sub_cas_nothing_stands_under_another_root(tmp_path: Path, domain: Domain) -> None:
    """It would get a root of its own, and say that it stands under the other."""
    roots = first(tmp_path, domain, sub_cas=0)
    refused(tmp_path, roots, domain, sub_cas=0, says="without sub-CAs")


@pytest.mark.parametrize(("theirs", "ours"), [(1, 2), (2, 3), (0, 2)])
def test_more_sub_cas_than_there_are_roots_for_are_refused(tmp_path: Path, theirs: int, ours: int) -> None:
    roots = first(tmp_path, Domain.EV_MO, sub_cas=theirs)
    refused(tmp_path, roots, Domain.EV_MO, sub_cas=ours, says="no CA called")


def test_roots_of_two_families_are_refused(tmp_path: Path) -> None:
    ours, theirs = (first(tmp_path, Domain.METERING, name=name) for name in ("a", "b"))
    for kind in ("key", "pem"):
        shutil.copy(theirs / f"root.{kind}", ours / f"root.{kind}")
    refused(tmp_path, ours, Domain.METERING, says="metering-maker: the CAs above do not vouch")


def test_roots_that_are_over_are_refused(tmp_path: Path) -> None:
    roots = first(tmp_path, Domain.METERING)
    refused(tmp_path, roots, Domain.METERING, says="expired", now=NOW + 50 * YEAR)


def test_the_wrong_passphrase_of_the_roots_is_said(tmp_path: Path) -> None:
    roots = first(tmp_path, Domain.METERING)
    with pytest.raises(BadDirectory, match="passphrase"):
        initialise(
            tmp_path / "second",
            passphrase=PASSPHRASE,
            now=NOW,
            under=roots,
            under_passphrase=b"other",
            domains=[Domain.METERING],
        )
    assert not (tmp_path / "second").exists()


def test_roots_that_were_copied_by_half_do_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = shutil.copytree

    def fail_later(source: Path, target: Path, *, dirs_exist_ok: bool) -> None:
        copy(source, target, dirs_exist_ok=dirs_exist_ok)
        raise OSError("no space left on device")

    monkeypatch.setattr("agents.authority.hierarchy.shutil.copytree", fail_later)
    with pytest.raises(OSError, match="no space"):
        initialise(tmp_path / "authority", passphrase=PASSPHRASE, now=NOW, roots=tmp_path / "roots")
    assert list(tmp_path.iterdir()) == []
