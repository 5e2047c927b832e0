"""A station and a car as programs, typed."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli_world import ENVIRONMENT, FREE, Serving, as_json, done, refused, serving

EMAID = "DETRLC00000001"


@contextmanager
def standing(folder: Path, identity: Path, via: str, *options: object) -> Iterator[Serving]:
    """Run `station serve` on a free port while the context is open."""
    command = ["station", "serve", "--identity", identity, "--via", via, "--coap", FREE, *options]
    with (folder / "station.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "agents", *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=log,
            stdin=subprocess.DEVNULL,
            text=True,
            env=ENVIRONMENT,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("ready coap://"), (folder / "station.log").read_text()
        yield Serving(process, line)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=20)
        process.stdout.close()


def made(directory: Path, label: str, out: Path, *options: object) -> Path:
    """Make one device; return its folder."""
    batch: Any = as_json("factory", directory, "--label", label, "--count", 1, "--out", out, *options)
    return out / str(batch["devices"][0])


@pytest.mark.parametrize("scheme", ["coap", "mqtt"])
def test_a_typed_car_gets_its_contract_at_a_typed_station(tmp_path: Path, scheme: str) -> None:
    directory = tmp_path / "authority"
    done("init", directory, "--roots", tmp_path / "roots", "--domain", "ev")
    (tmp_path / "roots").rename(tmp_path / "far-away")
    car = made(directory, "ev-oem", tmp_path / "cars")
    station = made(directory, "ev-station", tmp_path / "stations", "--operator", "DETRL")
    service = made(directory, "ev-service", tmp_path / "services")
    with serving(directory, "--coap", FREE, "--mqtt", FREE, "--cps", service) as serve:
        done("device", "enroll", "--identity", service, "--via", serve.uri("coap"), "--label", "ev-cps")
        pcid = json.loads((car / "identity.json").read_text())["device"]
        done("contract", "add", directory, pcid, EMAID, "--label", "ev-contract")
        journal = tmp_path / "journal.jsonl"
        via = serve.uri(scheme)
        evse = ("--evse", "DE*TRL*E1", "--journal", journal)
        with standing(tmp_path, station, via, *evse) as running:
            at = running.uri("coap")
            plug = ("car", "plug", "--identity", car, "--at", at)
            visit = as_json(*plug, "--strict")
            assert visit["station"]["evse"] == "DE*TRL*E1"
            assert visit["station"]["status_known"]
            (contract,) = visit["contracts"]
            assert (contract["emaid"], contract["new"], contract["validity"]) == (EMAID, True, "valid")
            words = done(*plug)
            assert EMAID in words
            assert "held" in words
            assert visit["station"]["serial"] in words
            (renewed,) = as_json(*plug, "--renew")["contracts"]
            assert renewed["serial"] != contract["serial"]
            assert "the proof is of a station at" in refused(*plug, "--known-as", "coap://127.0.0.1:9")
            assert running.stop(signal.SIGTERM) == 0
        events = [json.loads(line)["event"] for line in journal.read_text().splitlines()]
        assert {"proof", "crl", "skg", "conf"} <= set(events)
        at = serve.uri("coap")
        assert "nobody there has a certificate" in refused("car", "plug", "--identity", car, "--at", at)
        wrong = ("station", "serve", "--identity", car, "--via", via, "--coap", FREE)
        assert "is no station's identity" in refused(*wrong, code=2)


def test_what_cannot_work_is_said_before_anything_is_opened(tmp_path: Path) -> None:
    serve = ("station", "serve", "--identity", tmp_path, "--via", "coap://127.0.0.1:1")
    assert "--known-as" in refused(*serve, "--coap", "0.0.0.0:0", code=2)
    assert "--via" in refused(*serve[:-1], "http://127.0.0.1:1", code=2)
    assert "--evse" in refused(*serve, "--evse", "x" * 65, code=2)
    assert "no identity folder" in refused(*serve, "--coap", FREE)
    assert "--at" in refused("car", "plug", "--identity", tmp_path, "--at", "mqtt://127.0.0.1:1", code=2)
