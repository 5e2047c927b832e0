"""An attacker with write access to an authority's directory, and what an operator's slip may not do."""

import logging
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection

from agents.authority import AuditBroken, Layout, audit, initialise, verify_audit
from agents.authority.layout import read_settings, readable_roots
from tests.rig import NOW, PASSPHRASE, certificate_of, new_key, open_rig, rig_in
from tests.service.test_audit import rewrite

# --- the audit log --------------------------------------------------------------------------------------


def cut_off(connection: Connection) -> None:
    connection.execute(text("DELETE FROM audit WHERE sequence > 4"))


@pytest.mark.parametrize("tamper", [cut_off, rewrite])
@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_running_authority_does_not_sign_over_a_log_that_was_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, tamper: object, is_restarted: bool
) -> None:
    assert callable(tamper)
    async with open_rig(tmp_path) as rig:
        directory = rig.directory
        certificate_of(await rig.agent.handle(rig.device().enroll(new_key())))
        await rig.agent.publish()
        published = Layout(directory).audit_head.read_bytes()
        with rig.agent.store.writing(NOW) as writing:
            tamper(writing.connection)
        if not is_restarted:
            certificate_of(await rig.agent.handle(rig.device().enroll(new_key())))
            await rig.agent.publish()
            await rig.agent.publish()
    if is_restarted:
        async with open_rig(tmp_path, directory=directory) as rig:
            await rig.agent.publish()
    assert Layout(directory).audit_head.read_bytes() == published, "the evidence stays"
    with pytest.raises(AuditBroken):
        verify_audit(directory)
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 1 + is_restarted
    assert "no more heads are signed" in told[0].getMessage()


async def test_a_forged_head_is_told_and_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with open_rig(tmp_path) as rig:
        directory = rig.directory
    Layout(directory).audit_head.write_bytes(b"\x84nothing")
    async with open_rig(tmp_path, directory=directory):
        pass
    assert "not ours" in caplog.text
    verify_audit(directory)


def test_every_audit_record_is_durable_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that power loss took away, after its head was published, would look like a log that was cut off."""
    with rig_in(tmp_path) as rig:
        store, durable = rig.agent.store, list[bool]()
        append = audit.append

        def look_first(connection: Connection, entries: Sequence[audit.Entry], now: int) -> None:
            if entries:
                durable.append(store._is_durable)
            append(connection, entries, now)

        device = rig.device(has_certificate=False)
        monkeypatch.setattr(audit, "append", look_first)
        certificate_of(rig.ask(device.enroll(new_key(), by_value=True)))
        rig.enrolled(device=device)
        assert len(durable) == 4, "registered, issued; issued again, confirmed"
        assert all(durable)


# --- files ----------------------------------------------------------------------------------------------


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_secrets_are_for_their_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    directory, roots = tmp_path / "authority", tmp_path / "roots"
    roots.mkdir(mode=0o777)
    with umask(0):
        initialise(directory, passphrase=PASSPHRASE, now=NOW, roots=roots)
    assert stat.S_IMODE(roots.stat().st_mode) == 0o700
    secrets = [*directory.rglob("*.key"), *roots.rglob("*.key"), directory / "store.sqlite"]
    assert len(secrets) >= 10
    for path in secrets:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert path.suffix != ".key" or b"ENCRYPTED" in path.read_bytes()


def test_the_roots_folder_is_closed_before_a_key_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies get their permissions after their content."""
    modes: list[int] = []
    copy = shutil.copytree

    def look_first(source: Path, target: Path, *, dirs_exist_ok: bool) -> Path:
        modes.append(stat.S_IMODE(target.stat().st_mode))
        return copy(source, target, dirs_exist_ok=dirs_exist_ok)

    monkeypatch.setattr("agents.authority.hierarchy.shutil.copytree", look_first)
    roots = tmp_path / "roots"
    initialise(tmp_path / "authority", passphrase=PASSPHRASE, now=NOW, roots=roots)
    assert modes == [0o700]


def test_files_beside_the_store_are_for_their_owner_only(tmp_path: Path) -> None:
    with umask(0), rig_in(tmp_path) as rig:
        certificate_of(rig.ask(rig.device().enroll(new_key())))
        beside = list(rig.directory.glob("store.sqlite*"))
        assert len(beside) == 3, "the write-ahead log and its index"
        assert {stat.S_IMODE(path.stat().st_mode) for path in beside} == {0o600}
        assert stat.S_IMODE((rig.directory / "lock").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["root.key", "metering-root.key", "its-root.key", "renamed.key"])
def test_any_root_key_within_reach_is_noticed(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "authority"
    initialise(directory, passphrase=PASSPHRASE, now=NOW, roots=tmp_path / "far")
    for key in (tmp_path / "far").glob("*.key"):
        key.unlink()
    settings = read_settings(directory)
    assert readable_roots(directory, settings) is None
    (directory / "roots").mkdir()
    (directory / "roots" / name).write_bytes(b"key")
    assert readable_roots(directory, settings) == directory / "roots"


def test_a_root_key_in_a_folder_that_cannot_be_listed_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "authority"
    initialise(directory, passphrase=PASSPHRASE, now=NOW)
    settings = read_settings(directory)
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))  # as it is without the right to read a folder
    assert readable_roots(directory, settings) == directory / "roots"
