"""Devices live their lives by what people type, in separate processes, on real sockets."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any

import pytest

from tests.integration.cli_world import (
    FREE,
    Town,
    as_json,
    done,
    refused,
    serving,
    town,
    trillium,
    typed,
    until,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with town(tmp_path_factory.mktemp("town")) as made:
        yield made


def test_a_meter_enrolls_over_coap_rekeys_over_mqtt_and_sends_over_tls(place: Town) -> None:
    folder, name = place.meters[0], place.meters[0].name
    serials: list[str] = []
    told: dict[str, Any] = {}
    for command, scheme in (("enroll", "coap"), ("rekey", "mqtt"), ("send", "mqtts"), ("status", "coap")):
        ended = typed("device", command, "--identity", folder, "--via", place.via(scheme), "--json")
        assert (ended.code, ended.err) == (0, "")
        told = json.loads(ended.out)
        assert told["device"] == name
        serials += [told["serial"]] if "serial" in told else []
    first, second = serials
    assert told["answers"] is True
    (label,) = told["labels"]
    assert (label["serial"], label["validity"], label["pending"]) == (second, "valid", None)
    shown = as_json("show", place.directory, name)
    states = {one["serial"]: one["state"] for one in shown["certificates"]}
    assert (states[first], states[second]) == ("superseded", "current")


def test_a_gateway_lives_on_mqtt_and_any_other_transport(place: Town) -> None:
    folder = place.gateways[0]
    for command, scheme in (("enroll", "mqtt"), ("rekey", "coap"), ("rekey", "mqtts")):
        told = as_json("device", command, "--identity", folder, "--via", place.via(scheme))
        assert told["label"] == "its-enroll"
    assert "1 to telemetry" in done("device", "send", "--identity", folder, "--via", place.via("coap"))


def test_further_labels_need_the_one_that_opens_them(place: Town) -> None:
    folder, coap = place.meters[1], place.via("coap")
    early = refused("device", "enroll", "--identity", folder, "--via", coap, "--label", "meter-tls")
    assert "meter-tls needs a certificate under meter-ds: enroll that first" in early
    done("device", "enroll", "--identity", folder, "--via", coap)
    for label in ("meter-ka", "meter-tls"):
        assert (
            as_json("device", "enroll", "--identity", folder, "--via", coap, "--label", label)["label"]
            == label
        )


def test_a_revoked_device_is_refused_within_a_second_beside_a_running_serve(place: Town) -> None:
    folder, name, coap = place.meters[2], place.meters[2].name, place.via("coap")
    done("device", "enroll", "--identity", folder, "--via", coap)
    done("device", "send", "--identity", folder, "--via", coap)
    told = as_json("revoke", place.directory, name, "--reason", "key-compromise")
    sending = ("device", "send", "--identity", folder, "--via", coap)
    took = until(lambda: trillium(*sending).code == 1, seconds=5.0)
    assert took < 1.5, "a second, and one command's own time"
    assert {one["label"] for one in told["revoked"]} == {"meter-boot", "meter-ds"}
    assert "signer revoked" in refused(*sending)
    assert "signer revoked" in refused("device", "rekey", "--identity", folder, "--via", coap)
    assert "nothing changed" in done("revoke", place.directory, name, "--reason", "key-compromise")
    assert "revoked (key compromise)" in done("show", place.directory, name)


def test_one_certificate_is_revoked_by_its_serial_number(place: Town) -> None:
    folder, coap = place.meters[3], place.via("coap")
    enrolled = as_json("device", "enroll", "--identity", folder, "--via", coap)
    told = as_json("revoke", place.directory, enrolled["serial"], "--reason", "superseded")
    assert [one["serial"] for one in told["revoked"]] == [enrolled["serial"]]
    # Its tier 1 certificate is untouched: recovery works.
    again = as_json("device", "enroll", "--identity", folder, "--via", coap)
    assert again["serial"] != enrolled["serial"]


def test_the_inventory_is_listed_for_people_and_for_scripts(place: Town) -> None:
    listed = as_json("devices", place.directory)
    names = {device["device"] for device in listed}
    assert names == {folder.name for folder in (*place.meters, *place.gateways)}
    for device in listed:
        for held in device["certificates"]:
            assert {"label", "state", "serial", "authority", "key", "not_after"} <= held.keys()
    lines = done("devices", place.directory).splitlines()
    assert lines[0].split() == ["device", "domain", "client-id", "current", "pending", "revoked"]
    assert len(lines) == len(listed) + 1
    assert not any("\x1b" in line or line != line.rstrip() for line in lines)


def test_the_audit_log_is_intact_until_it_is_changed_or_cut_off(place: Town, tmp_path: Path) -> None:
    told = as_json("audit", "verify", place.directory)
    assert told["intact"] is True
    assert told["records"] > 10
    kept = tmp_path / "kept.cose"
    shutil.copyfile(place.directory / "audit-head.cose", kept)
    # A copy of the directory, as somebody with its disk has it.
    forged = tmp_path / "forged"
    shutil.copytree(place.directory, forged)
    with sqlite3.connect(forged / "store.sqlite") as database:
        database.execute("DELETE FROM audit WHERE sequence > 5")
    database.close()
    assert "NOT intact" in refused("audit", "verify", forged)
    assert "cut off" in refused("audit", "verify", forged, "--head", kept)
    with sqlite3.connect(forged / "store.sqlite") as database:
        database.execute("UPDATE audit SET record = zeroblob(10) WHERE sequence = 3")
    database.close()
    assert "audit record 3" in refused("audit", "verify", forged, "--head", kept)
    assert "audit head" in refused(
        "audit", "verify", place.directory, "--head", place.meters[0] / "voucher.cose"
    )


def test_inspect_explains_what_the_commands_made(place: Town) -> None:
    expected = {
        place.meters[0] / "bootstrap.c509": "c509-certificate",
        place.meters[0] / "root.pem": "x509-certificate",
        place.meters[0] / "voucher.cose": "voucher",
        place.meters[0] / "voucher-key.der": "public-key",
        place.meters[0] / "bootstrap.key": "private-key",
        place.meters[0].parent / "manifest.cose": "manifest",
        place.directory / "audit-head.cose": "audit-head",
        place.directory / "crl" / "its.crl": "crl",
    }
    for path, kind in expected.items():
        assert as_json("inspect", path)[0]["kind"] == kind
    assert "the identity of device" in refused("inspect", place.meters[0] / "identity.json")


def test_nobody_else_serves_from_the_same_directory(place: Town) -> None:
    assert "another authority serves" in refused(
        "serve", place.directory, "--coap", "127.0.0.1:0", "--mqtt", "none"
    )


def test_a_label_that_is_not_for_this_device_is_a_usage_error(place: Town) -> None:
    arguments = ("device", "enroll", "--identity", place.meters[4], "--via", place.via("coap"), "--label")
    assert "this device of metering: it can have meter-ds" in refused(*arguments, "its-enroll", code=2)
    assert "no such label" in refused(*arguments, "x", code=2)


def test_serve_refuses_the_root_keys_and_a_wrong_passphrase_and_ends_cleanly(tmp_path: Path) -> None:
    directory = tmp_path / "other"
    done("init", directory)
    beside = typed("serve", directory)
    assert beside.code == 1
    assert "root keys" in beside.err
    shutil.move(directory / "roots", tmp_path / "far-away")
    (tmp_path / "wrong").write_text("wrong\n")
    (tmp_path / "wrong").chmod(0o600)
    wrong = typed("serve", directory, "--passphrase-file", tmp_path / "wrong")
    assert wrong.code == 1
    assert "passphrase is wrong" in wrong.err
    for options, how in ((("--mqtt", "none", "--coap-engine", "lean"), SIGTERM), (("--mqtt", FREE), SIGINT)):
        with serving(directory, "--coap", FREE, *options) as other:
            assert other.line.startswith("ready coap://127.0.0.1:")
            assert other.stop(how) == 0


def test_an_authority_that_is_down_is_one_clear_line(place: Town) -> None:
    folder = place.gateways[1]
    silent = refused("device", "enroll", "--identity", folder, "--via", "coap://127.0.0.1:9", "--timeout", 1)
    assert "no usable answer from coap://127.0.0.1:9 in 1 s" in silent
    down = refused("device", "enroll", "--identity", folder, "--via", "mqtt://127.0.0.1:9")
    assert "mqtt://127.0.0.1:9: Connection refused" in down


def test_init_never_touches_what_is_there(place: Town, tmp_path: Path) -> None:
    before = sorted(path.name for path in place.directory.iterdir())
    assert "nothing was changed" in refused("init", place.directory)
    assert sorted(path.name for path in place.directory.iterdir()) == before
    (tmp_path / "file").write_text("x")
    assert "nothing was changed" in refused("init", tmp_path / "file")


def test_devices_whose_keys_are_encrypted_want_their_passphrase(place: Town, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("device secret\n")
    secret.chmod(0o600)
    made = as_json(
        "factory", place.directory, "--label", "meter-boot", "--count", 1, "--start", 900, "--out",
        tmp_path / "batch", "--device-passphrase-file", secret,
    )  # fmt: skip
    folder = tmp_path / "batch" / made["devices"][0]
    arguments = ("device", "enroll", "--identity", folder, "--via", place.via("coap"))
    assert "passphrase is wrong" in refused(*arguments)
    assert as_json(*arguments, "--passphrase-file", secret)["device"] == folder.name
