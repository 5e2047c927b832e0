"""Batches of identities: made, interrupted and gone on with, registered, refused; with the real maker."""

import hashlib
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agents.authority import MakerIssuer, initialise, list_devices, open_store
from agents.cli import app
from agents.cli.failure import REFUSED
from agents.devices.agent import Device
from agents.devices.identity import Identity
from agents.factory import FactoryError, MadeDevice, batch, ledger, make_batch, read_manifest
from agents.keys import write_atomically
from protocol import c509
from protocol.errors import RequestRejected
from protocol.labels import Domain
from protocol.path import verify_authority, verify_leaf
from protocol.profiles import NameSpace, Prefix, profile_of
from protocol.validity import Clock
from tests.rig import new_key

NOW = 1_800_000_000
PASSPHRASE = b"maker's secret"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("authority") / "dir"
    initialise(directory, passphrase=PASSPHRASE, now=NOW)
    return directory


@pytest.fixture
def directory(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "authority"))


@pytest.fixture
def maker(directory: Path) -> Iterator[MakerIssuer]:
    with MakerIssuer(directory, Domain.METERING, PASSPHRASE, clock=lambda: NOW) as maker:
        yield maker


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "CHUNK", 3)


def registered(directory: Path) -> list[str]:
    with open_store(directory) as store:
        return sorted(device.name for device in list_devices(store))


def test_a_batch_is_a_folder_per_device_and_the_inventory_knows_them(
    maker: MakerIssuer, directory: Path, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    made = make_batch(maker, "meter-boot", 7, tmp_path / "batch", progress=lambda *at: told.append(at))
    names = [f"54524C{n:010X}" for n in range(1, 8)]
    assert list(made.names()) == names
    assert sorted(p.name for p in (tmp_path / "batch").iterdir() if p.is_dir()) == names
    assert registered(directory) == names
    assert told == [(0, 7), (3, 7), (6, 7), (7, 7)]


def test_an_identity_opens_as_a_device_and_chains_to_its_root(maker: MakerIssuer, tmp_path: Path) -> None:
    make_batch(maker, "meter-boot", 1, tmp_path / "batch")
    folder = tmp_path / "batch" / "54524C0000000001"
    with Device.open(folder, wall=lambda: NOW) as device:
        status = device.status()
        assert (status.device, status.authority, status.epoch) == (folder.name, maker.owner, 0)
        clock = Clock(NOW)
        root = device.identity.root()
        issuer = verify_authority(maker.path, root=root, authority=None, clock=clock)
        certificate = c509.decode_certificate((folder / "bootstrap.c509").read_bytes())
        assert verify_leaf(certificate, issuer, profile_of("meter-boot"), clock) == folder.name
        assert device.identity.maker == issuer.key_id
    assert stat.S_IMODE((folder / "bootstrap.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "state").stat().st_mode) == 0o700


@pytest.mark.outside
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_verifies_a_bootstrap_certificate_and_reads_its_key(
    maker: MakerIssuer, tmp_path: Path
) -> None:
    make_batch(maker, "meter-boot", 1, tmp_path / "batch", device_passphrase=b"on board")
    folder = tmp_path / "batch" / "54524C0000000001"
    pem = str(folder / "bootstrap.pem")
    chain = ["-attime", str(NOW), "-CAfile", str(folder / "root.pem"), "-untrusted", pem, pem]
    done = subprocess.run(["openssl", "verify", *chain], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("bootstrap.pem: OK\n"), done.stderr
    key = ["openssl", "pkey", "-in", str(folder / "bootstrap.key"), "-noout", "-passin", "pass:on board"]
    assert subprocess.run(key, check=False).returncode == 0


def test_a_devices_keys_are_encrypted_if_asked_for(maker: MakerIssuer, tmp_path: Path) -> None:
    make_batch(maker, "meter-boot", 1, tmp_path / "batch", device_passphrase=b"on board")
    folder = tmp_path / "batch" / "54524C0000000001"
    assert b"ENCRYPTED" in (folder / "bootstrap.key").read_bytes()
    with Device.open(folder, b"on board", wall=lambda: NOW):
        pass


def test_the_manifest_lists_every_certificate_and_is_signed(maker: MakerIssuer, tmp_path: Path) -> None:
    out = tmp_path / "batch"
    make_batch(maker, "meter-boot", 5, out)
    manifest = read_manifest((out / "manifest.cose").read_bytes(), maker.voucher_key)
    entries = manifest.entries
    assert (manifest.label, manifest.maker, manifest.owner) == ("meter-boot", maker.key_id, maker.owner)
    assert len(entries) == 5
    for entry in entries:
        identity = Identity.load(out / entry.device)
        digest = hashlib.sha256((out / entry.device / "bootstrap.c509").read_bytes()).digest()
        assert (identity.client_id, digest) == (entry.client_id, entry.digest)
    people = json.loads((out / "manifest.json").read_text())
    assert [d["certificate_sha256"] for d in people["devices"]] == [e.digest.hex() for e in entries]


def test_gateways_have_eui_64_names(directory: Path, tmp_path: Path) -> None:
    with MakerIssuer(directory, Domain.ITS, PASSPHRASE, clock=lambda: NOW) as maker:
        made = make_batch(maker, "its-boot", 2, tmp_path / "batch", start=255)
    assert list(made.names()) == ["02-54-52-00-00-00-00-FF", "02-54-52-00-00-00-01-00"]


def test_a_finished_batch_made_again_changes_nothing(maker: MakerIssuer, tmp_path: Path) -> None:
    out = tmp_path / "batch"
    make_batch(maker, "meter-boot", 4, out)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    make_batch(maker, "meter-boot", 4, out)
    assert before == {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}


class Interrupted(BaseException):
    """The power is gone."""


@pytest.mark.parametrize("stop_at", range(1, 26))
def test_an_interrupted_batch_goes_on_and_no_device_is_made_twice(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    out = tmp_path / "batch"
    calls = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == stop_at:
                raise Interrupted
            return real(*args, **options)

        return call

    with (
        MakerIssuer(directory, Domain.METERING, PASSPHRASE, clock=lambda: NOW) as maker,
        monkeypatch.context() as patch,
    ):
        patch.setattr(maker, "issue", counted(maker.issue))
        patch.setattr(maker, "register", counted(maker.register))
        patch.setattr(batch, "write_atomically", counted(write_atomically))
        patch.setattr(ledger, "append", counted(ledger.append))
        patch.setattr(os, "sync", counted(os.sync))
        try:
            make_batch(maker, "meter-boot", 7, out)
        except Interrupted:
            pass
        else:
            pytest.fail("the whole batch takes fewer steps than this")
    with MakerIssuer(directory, Domain.METERING, PASSPHRASE, clock=lambda: NOW) as maker:
        make_batch(maker, "meter-boot", 7, out)
        entries = read_manifest((out / "manifest.cose").read_bytes(), maker.voucher_key).entries
    assert registered(directory) == sorted(entry.device for entry in entries)
    assert len(entries) == 7


def test_what_power_loss_left_of_a_device_that_is_not_counted_is_made_anew(
    maker: MakerIssuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "batch"

    def fails() -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(os, "sync", fails)
        with pytest.raises(Interrupted):
            make_batch(maker, "meter-boot", 2, out)
    (out / "54524C0000000001" / "bootstrap.key").write_bytes(b"")
    make_batch(maker, "meter-boot", 2, out)
    with Device.open(out / "54524C0000000001", wall=lambda: NOW):
        pass


@pytest.mark.parametrize("other", ["a file", "a folder", "a damaged batch"])
def test_a_folder_with_other_content_is_refused(maker: MakerIssuer, tmp_path: Path, other: str) -> None:
    out = tmp_path / "batch"
    out.mkdir()
    match other:
        case "a file":
            (out / "thesis.txt").write_text("x")
        case "a folder":
            (out / "photos").mkdir()
        case _:
            (out / "batch.json").write_text("[]")
    with pytest.raises(FactoryError, match="other content"):
        make_batch(maker, "meter-boot", 1, out)
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(FactoryError, match="other content"):
        make_batch(maker, "meter-boot", 1, file)


def test_another_order_for_the_same_folder_is_refused(maker: MakerIssuer, tmp_path: Path) -> None:
    make_batch(maker, "meter-boot", 2, tmp_path / "batch")
    for changes in ({"count": 3}, {"start": 9}):
        order: dict[str, Any] = {"count": 2} | changes
        with pytest.raises(FactoryError, match="another batch"):
            make_batch(maker, "meter-boot", order.pop("count"), tmp_path / "batch", **order)


def test_a_prefix_that_is_not_the_makers_is_refused_before_anything_is_made(
    maker: MakerIssuer, tmp_path: Path
) -> None:
    with pytest.raises(FactoryError, match=r"^FLAG id ABC is not the CA's, whose are: TRL$"):
        make_batch(maker, "meter-boot", 1, tmp_path / "batch", prefix=b"ABC")
    assert not (tmp_path / "batch").exists()
    with pytest.raises(RequestRejected, match="ABC is not the CA's"):
        maker.issue(profile_of("meter-boot"), "4142430000000001", new_key().public_key)


def test_the_command_says_so_in_one_line(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRILLIUM_PASSPHRASE", PASSPHRASE.decode())
    batch = ["--label", "meter-boot", "--count", "1", "--out", str(tmp_path / "batch")]
    assert app.run(["factory", str(directory), *batch, "--prefix", "ABC"]) == REFUSED
    assert capsys.readouterr().err == "trillium: FLAG id ABC is not the CA's, whose are: TRL\n"
    assert not (tmp_path / "batch").exists()


def test_a_maker_with_several_prefixes_is_told_which(tmp_path: Path) -> None:
    flags = [Prefix.parse(NameSpace.FLAG, text) for text in ("XYZ", "ABC")]
    initialise(tmp_path / "authority", passphrase=PASSPHRASE, now=NOW, prefixes=flags)
    with MakerIssuer(tmp_path / "authority", Domain.METERING, PASSPHRASE, clock=lambda: NOW) as maker:
        with pytest.raises(FactoryError, match="say which FLAG id the names begin with: ABC, XYZ"):
            make_batch(maker, "meter-boot", 1, tmp_path / "batch")
        made = make_batch(maker, "meter-boot", 1, tmp_path / "batch", prefix=b"ABC")
        assert list(made.names()) == ["4142430000000001"]
        with pytest.raises(FactoryError, match="another batch"):
            make_batch(maker, "meter-boot", 1, tmp_path / "batch", prefix=b"XYZ")
        with pytest.raises(FactoryError, match="TRL is not"):
            make_batch(maker, "meter-boot", 1, tmp_path / "other", prefix=b"TRL")
    with MakerIssuer(tmp_path / "authority", Domain.ITS, PASSPHRASE, clock=lambda: NOW) as gateways:
        assert list(map(str, gateways.authority.prefixes[NameSpace.OUI])) == ["02-54-52"], "the default"


def test_a_name_that_another_device_has_is_told(maker: MakerIssuer, tmp_path: Path) -> None:
    make_batch(maker, "meter-boot", 3, tmp_path / "first")
    with pytest.raises(FactoryError, match="54524C0000000003"):
        make_batch(maker, "meter-boot", 3, tmp_path / "second", start=3)


@pytest.mark.parametrize(
    ("label", "count", "options"),
    [
        ("meter-ds", 1, {}),
        ("no-such", 1, {}),
        ("meter-boot", 0, {}),
        ("meter-boot", 2, {"start": 2**40 - 1}),
        ("meter-boot", 1, {"start": -1}),
        ("meter-boot", 1, {"prefix": b"AB"}),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_and_leaves_nothing(
    maker: MakerIssuer, tmp_path: Path, label: str, count: int, options: dict[str, Any]
) -> None:
    with pytest.raises(FactoryError):
        make_batch(maker, label, count, tmp_path / "batch", **options)
    assert not (tmp_path / "batch").exists()


def test_a_counted_device_that_was_damaged_since_is_told(maker: MakerIssuer, tmp_path: Path) -> None:
    out = tmp_path / "batch"

    def refuses(devices: Sequence[MadeDevice]) -> None:
        raise ValueError("the inventory is closed")

    maker_register, maker.register = maker.register, refuses  # type: ignore[method-assign]
    with pytest.raises(FactoryError, match="closed"):
        make_batch(maker, "meter-boot", 1, out)
    maker.register = maker_register  # type: ignore[method-assign]
    (out / "certificates.cbor").write_bytes(b"{}")
    with pytest.raises(FactoryError, match="damaged"):
        make_batch(maker, "meter-boot", 1, out)
