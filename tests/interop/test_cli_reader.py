"""Somebody else's back end reads what was verified, with a client that is not ours."""

import shutil
import subprocess
from pathlib import Path
from unittest.mock import patch

import pytest

from protocol import cbor
from tests.integration import cli_world
from tests.integration.cli_world import FREE, as_json, done, serving, until

pytestmark = [
    pytest.mark.outside,
    pytest.mark.skipif(shutil.which("mosquitto_sub") is None, reason="mosquitto_sub is not installed"),
]


def test_a_reader_reads_verified_messages_from_the_embedded_broker(tmp_path: Path) -> None:
    directory = tmp_path / "authority"
    done("init", directory, "--roots", tmp_path / "roots")
    (tmp_path / "roots").rename(tmp_path / "far-away")
    made = as_json("factory", directory, "--label", "meter-boot", "--count", 1, "--out", tmp_path / "meters")
    folder = tmp_path / "meters" / made["devices"][0]
    with (
        patch.dict(cli_world.ENVIRONMENT, {"TRILLIUM_READER_PASSWORD": "for reading"}),
        serving(directory, "--coap", FREE, "--mqtt", FREE) as serve,
    ):
        done("device", "enroll", "--identity", folder, "--via", serve.uri("coap"))
        port = serve.uri("mqtt").rpartition(":")[2]
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", port, "-i", "back-end", "-u", "reader"]
        command += ["-P", "for reading", "-t", "verified/#", "-F", "%t %x", "-C", "1", "-W", "30"]
        reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

        def sent_and_read() -> bool:
            # It does not tell when it has subscribed, so it is told again and again.
            done("device", "send", "--identity", folder, "--via", serve.uri("coap"), "--message", "42 kWh")
            return reader.poll() is not None

        until(sent_and_read, seconds=30)
        topic, payload = reader.communicate(timeout=10)[0].split()
    assert topic == "verified/readings"
    device, _, _, body = cbor.decode_array(bytes.fromhex(payload), 4)
    assert (device, body) == (folder.name, b"42 kWh")
