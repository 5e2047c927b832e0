"""Devices change hands by what people type, while they are offline; serve goes on meanwhile."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agents.authority import Layout
from agents.keys import generate, save_private_key
from tests.integration.cli_world import FREE, Serving, as_json, done, refused, serving, typed, until


@dataclass(frozen=True)
class Land:
    """Two authorities under one root, each serving, and the meters of the first one."""

    north: Path
    south: Path
    meters: list[Path]
    serves: dict[Path, Serving]

    def via(self, house: Path, scheme: str) -> str:
        return self.serves[house].uri(scheme)


@pytest.fixture(scope="module")
def land(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Land]:
    folder = tmp_path_factory.mktemp("land")
    north, south, roots = folder / "north", folder / "south", folder / "roots"
    done("init", north, "--roots", roots, "--domain", "metering")
    done("init", south, "--under", roots, "--domain", "metering", "--organisation", "SOUTH")
    roots.rename(folder / "far-away")
    made = as_json("factory", north, "--label", "meter-boot", "--count", 7, "--out", folder / "meters")
    meters = [folder / "meters" / name for name in made["devices"]]
    with (
        serving(north, "--coap", FREE, "--mqtt", FREE) as first,
        serving(south, "--coap", FREE, "--mqtt", FREE) as second,
    ):
        place = Land(north, south, meters, {north: first, south: second})
        for here, there, name in ((north, south, "South"), (south, north, "North")):
            card = folder / f"{name}.owner"
            done("owner", "export", there, card, "--at", place.via(there, "coap"))
            told = as_json("owner", "add", here, name, card)
            assert told["at"] == place.via(there, "coap")
        done("owner", "add", north, "Tenant")
        yield place


def device(command: str, folder: Path, via: str, *more: object) -> dict[str, object]:
    told: dict[str, object] = as_json("device", command, "--identity", folder, "--via", via, *more)
    return told


def status(folder: Path) -> dict[str, object]:
    told: dict[str, object] = as_json("device", "status", "--identity", folder)
    return told


def states(directory: Path, folder: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in as_json("show", directory, folder.name)["certificates"]:
        found.setdefault(one["label"], []).append(one["state"])
    return found


@pytest.mark.parametrize(("number", "scheme"), [(0, "coap"), (1, "mqtt")])
def test_a_meter_that_was_away_during_a_change_of_tenant_enrolls_by_itself(
    land: Land, number: int, scheme: str
) -> None:
    folder, via = land.meters[number], land.via(land.north, scheme)
    for label in ("meter-ds", "meter-tls"):
        device("enroll", folder, via, "--label", label)
    told = as_json("transfer", land.north, folder.name, "--to", "Tenant", "--approved-by", "Alice")
    assert told["bundles"] == []
    assert told["devices"][0] | {"client_id": ""} == {
        "device": folder.name,
        "client_id": "",
        "domain": "metering",
        "epoch": 1,
        "changed": True,
        "revoked": 2,
    }
    # A process of its own, as a meter that is switched on again.
    ended = typed("device", "rekey", "--identity", folder, "--via", via, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert status(folder)["epoch"] == 1
    assert states(land.north, folder) == {
        "meter-boot": ["current"],
        "meter-ds": ["revoked", "current"],
        "meter-tls": ["revoked", "current"],
    }
    assert as_json("show", land.north, folder.name)["owner"] == "Tenant"
    assert "nothing changed" in done("transfer", land.north, folder.name, "--to", "Tenant")


@pytest.mark.parametrize("number", [2, 3], ids=["rekey", "send"])
def test_a_meter_goes_where_the_refusal_says(land: Land, number: int, tmp_path: Path) -> None:
    """Offline the whole time, it knows its old owner's address only, and asks there."""
    folder, old = land.meters[number], land.via(land.north, "coap" if number == 2 else "mqtt")
    device("enroll", folder, old)
    paper = tmp_path / "paper.transfer"
    told = as_json("transfer", land.north, folder.name, "--to", "South", "--out", paper)
    assert told["bundles"] == [str(paper)]
    taken = as_json("import-transfer", land.south, paper, "--approved-by", "Bob")
    assert taken["devices"][0]["changed"] is True
    if number == 2:
        ended = typed("device", "rekey", "--identity", folder, "--via", old, "--json")
    else:
        assert device("check-in", folder, old)["moved"] is True  # over MQTT no message is answered
        ended = typed("device", "send", "--identity", folder, "--via", old, "--json")
    assert ended.code == 0, ended.err
    assert "its owner's authority is at" in ended.err
    assert json.loads(ended.out)["device"] == folder.name
    told = status(folder)
    assert (told["epoch"], told["at"]) == (1, land.via(land.south, "coap"))
    assert states(land.south, folder) == {"meter-boot": ["current"], "meter-ds": ["current"]}
    assert states(land.north, folder) == {"meter-boot": ["current"], "meter-ds": ["revoked"]}
    # And the next time, too.
    device("rekey", folder, old)
    assert states(land.south, folder)["meter-ds"] == ["superseded", "current"]
    assert "took 0 devices over" in done("import-transfer", land.south, paper)


def test_a_message_of_a_device_that_went_is_refused_and_the_device_finds_out(
    land: Land, tmp_path: Path
) -> None:
    """Over CoAP a message is answered, by nobody who signs: the device asks again, signed."""
    folder, coap = land.meters[4], land.via(land.north, "coap")
    device("enroll", folder, coap)
    device("send", folder, coap)
    done("transfer", land.north, folder.name, "--to", "Tenant")
    # Within a second the verifier knows of it; what it took before is verified, and refused, without a word.
    until(lambda: device("send", folder, coap)["sent"] == 1 and status(folder)["epoch"] == 1, seconds=5.0)
    assert states(land.north, folder)["meter-ds"] == ["revoked", "current"]
    # By hand, for a meter without a way to its old owner.
    done("transfer", land.north, folder.name, "--to", "South")
    voucher = tmp_path / "voucher.cose"
    done("voucher", land.north, folder.name, "--out", voucher)
    assert as_json("inspect", voucher)[0]["kind"] == "voucher"
    assert "epoch 2" in done("device", "voucher", "--identity", folder, voucher)
    again = refused("device", "voucher", "--identity", folder, voucher)
    assert "a key that is not pinned" in again, "north has nothing more to say"
    paper = tmp_path / "again.transfer"
    done("voucher", land.north, folder.name, "--transfer", "--out", paper)
    (made,) = (land.north / "transfers").iterdir()
    assert len(made.read_bytes()) == len(paper.read_bytes())
    done("import-transfer", land.south, paper)
    device("enroll", folder, land.via(land.south, "mqtt"))
    assert states(land.south, folder)["meter-ds"] == ["current"]


def test_many_change_hands_at_once_and_come_back(land: Land, tmp_path: Path) -> None:
    names = [folder.name for folder in land.meters[5:]]
    for folder in land.meters[5:]:
        device("enroll", folder, land.via(land.north, "coap"))
    listed = tmp_path / "list.txt"
    listed.write_text(f"# sold\n{names[0]}\n\n{names[1]}  # this one, too\n")
    there, back = tmp_path / "there.transfer", tmp_path / "back.transfer"
    assert "2 of 2 devices" in done(
        "transfer", land.north, "--file", listed, "--to", land.south, "--by", "maker", "--out", there
    )
    key = land.north / "makers" / "metering" / "voucher-key.der"
    assert "signed by a key that is not pinned" in refused("import-transfer", land.south, there)
    assert "took 2 devices" in done("import-transfer", land.south, there, "--voucher-key", key)
    done("transfer", land.south, *names, "--to", "North", "--out", back)
    assert "took 2 devices" in done("import-transfer", land.north, back)
    assert "epoch 1, here it is in epoch 2" in refused(
        "import-transfer", land.south, there, "--voucher-key", key
    )
    for folder in land.meters[5:]:
        assert device("rekey", folder, land.via(land.north, "mqtt"))["label"] == "meter-ds"
        assert states(land.north, folder)["meter-ds"] == ["revoked", "current"]
        assert status(folder)["epoch"] == 2
    for directory in (land.north, land.south):
        assert as_json("audit", "verify", directory)["intact"] is True


def test_a_reset_and_another_key(land: Land, tmp_path: Path) -> None:
    made = as_json(
        "factory",
        land.north,
        "--label",
        "meter-boot",
        "--count",
        1,
        "--start",
        50,
        "--out",
        tmp_path / "more",
    )
    folder = tmp_path / "more" / made["devices"][0]
    coap = land.via(land.north, "coap")
    device("enroll", folder, coap)
    told = as_json("reset", land.north, folder.name, "--approved-by", "Carol")
    assert (told["devices"][0]["epoch"], told["devices"][0]["revoked"]) == (1, 1)
    device("enroll", folder, coap)
    assert states(land.north, folder)["meter-ds"] == ["revoked", "current"]
    # Another tier 1 certificate, as the maker makes it.
    key = generate()
    certificate = maker_certificate(land.north, folder.name, key)
    (tmp_path / "new.pem").write_bytes(certificate[0])
    replaced = as_json("replace-key", land.north, folder.name, tmp_path / "new.pem")
    assert (replaced["new_key"], replaced["changed"], replaced["revoked"]) == (True, True, 0)
    assert "nothing changed" in done("replace-key", land.north, folder.name, tmp_path / "new.pem")
    save_private_key(folder / "bootstrap.key", key, None)
    (folder / "bootstrap.c509").write_bytes(certificate[1])
    device("enroll", folder, coap)
    assert states(land.north, folder) == {
        "meter-boot": ["superseded", "current"],
        "meter-ds": ["revoked", "superseded", "current"],
    }


def maker_certificate(directory: Path, name: str, key: object) -> tuple[bytes, bytes]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from agents.authority import MakerIssuer
    from agents.keys import SoftwareSigner
    from protocol.labels import Domain
    from protocol.profiles import profile_of
    from tests.integration.cli_world import PASSPHRASE

    with MakerIssuer(directory, Domain.METERING, PASSPHRASE.encode()) as maker:
        signer = SoftwareSigner(key, even_y=False)  # type: ignore[arg-type]
        made = maker.issue(profile_of("meter-boot"), name, signer.public_key)
    pem = x509.load_der_x509_certificate(made.to_der()).public_bytes(Encoding.PEM)
    return pem, made.encoded


def test_what_cannot_work_is_said_in_one_line(land: Land, tmp_path: Path) -> None:
    name = land.meters[0].name
    for arguments, why, code in (
        (("transfer", land.north, "--to", "Tenant"), "which devices?", 2),
        (("transfer", land.north, name, "--to", "Nobody"), "known are: South, Tenant", 1),
        (("transfer", land.north, name, "--to", "Tenant", "--by", "me"), "authority or maker", 2),
        (("transfer", land.north, name, "--to", "South", "--at", "http://x"), "expected coap://", 2),
        (("transfer", land.north, name, "--to", land.north), "is this authority itself", 1),
        (("transfer", land.north, name, "--to", "Tenant", "--approved-by", ""), "1 to 64", 2),
        (("transfer", land.north, "nobody", "--to", "Tenant"), "no device is called 'nobody'", 1),
        (("reset", land.south, name), "no device is called", 1),
        (("voucher", land.north, name, land.meters[1].name, "--out", tmp_path / "v"), "one device", 2),
        (("voucher", land.north, name, "--transfer", "--out", tmp_path / "v"), "given to no other", 1),
        (("import-transfer", land.south, tmp_path / "none"), "No such file", 2),
        (("import-transfer", land.south, land.meters[0] / "voucher.cose"), "transfer bundle", 1),
        (("owner", "add", land.north, "a/b"), "letters, digits", 1),
        (("owner", "add", land.north, "Tenant", land.meters[0] / "voucher.cose"), "not an owner's card", 1),
        (("owner", "export", land.north, tmp_path / "card", "--at", "ftp://x"), "an address is", 1),
        (("replace-key", land.north, name, land.meters[0] / "identity.json"), "not a certificate", 2),
        (("device", "voucher", "--identity", land.meters[0], tmp_path / "none"), "No such file", 2),
    ):
        assert why in refused(*arguments, code=code), arguments
    wrong = refused("transfer", land.north, name, "--to", "South", env={"TRILLIUM_PASSPHRASE": "wrong"})
    assert "passphrase is wrong" in wrong
    owners = {one["owner"]: one["tenant"] for one in as_json("owner", "list", land.north)}
    assert owners == {"South": False, "Tenant": True}
    assert "tenant" in done("owner", "list", land.north)
    assert os.access(Layout(land.north).store, os.R_OK)
