"""mosquitto with the configuration that the command line exports, and `serve` behind it."""

import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.integration.cli_world import as_json, done, refused, serving, until

pytestmark = [
    pytest.mark.outside,
    pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed"),
]


def free_ports(count: int) -> list[int]:
    """Return ports that are free just now: mosquitto cannot tell us which one it took."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_devices_live_on_an_exported_mosquitto_until_they_are_revoked(tmp_path: Path) -> None:
    directory, out = tmp_path / "authority", tmp_path / "mosquitto"
    done("init", directory, "--roots", tmp_path / "roots")
    (tmp_path / "roots").rename(tmp_path / "far-away")
    made = as_json("factory", directory, "--label", "meter-boot", "--count", 2, "--out", tmp_path / "meters")
    folders = [tmp_path / "meters" / name for name in made["devices"]]
    devices, services = free_ports(2)
    export = (
        "broker", "export", "mosquitto", directory, "--out", out, "--run-as", "root",
        "--devices", f"127.0.0.1:{devices}", "--services", f"127.0.0.1:{services}",
    )  # fmt: skip
    assert as_json(*export)["devices"] == 2
    with (tmp_path / "mosquitto.log").open("wb") as log:
        mosquitto = subprocess.Popen(["mosquitto", "-c", str(out / "mosquitto.conf")], stdout=log, stderr=log)
    try:
        until(lambda: listens(services) and listens(devices), seconds=10)
        via = f"mqtts://localhost:{devices}"
        with serving(
            directory, "--coap", "none", "--broker", f"mqtts://127.0.0.1:{services}", "--stats", 0.1
        ) as serve:
            assert serve.line.split() == ["ready", f"mqtts://127.0.0.1:{services}"]
            for command in ("enroll", "rekey"):
                done("device", command, "--identity", folders[0], "--via", via)
            done("device", "enroll", "--identity", folders[1], "--via", via)
            # Owned now, so a new export lets them send; and one of them is revoked.
            done("revoke", directory, folders[1].name, "--reason", "key-compromise")
            assert as_json(*export)["devices"] == 1
            mosquitto.send_signal(signal.SIGHUP)
            until(lambda: _is_refused(folders[1], via), seconds=10)
            done("device", "send", "--identity", folders[0], "--via", via)
            assert serve.process.stdout is not None
            for line in serve.process.stdout:
                if '"verified": 1' in line:
                    break
            assert serve.stop() == 0
    finally:
        mosquitto.terminate()
        mosquitto.wait(timeout=10)


def _is_refused(folder: Path, via: str) -> bool:
    # Its certificate is on the list that mosquitto has read again: not even TLS is left.
    said = refused("device", "rekey", "--identity", folder, "--via", via, "--timeout", 2)
    return "closed the connection" in said
