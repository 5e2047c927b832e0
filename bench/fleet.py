"""A small world for benchmarks: an authority, a factory batch, a running `trillium serve`, mosquitto."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agents.keys import SoftwareSigner, generate, load_private_key
from protocol import c509, cbor
from protocol.exchange.request import Door, certification_request, sign_request
from protocol.labels import Operation

PASSPHRASE = "benchmark"  # noqa: S105 (of keys that live as long as the run)
TRILLIUM = [sys.executable, "-m", "agents"]


def trillium(*arguments: str) -> str:
    """Run one command to its end and return what it printed."""
    environment = {**os.environ, "TRILLIUM_PASSPHRASE": PASSPHRASE}
    done = subprocess.run(
        [*TRILLIUM, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    if done.returncode:
        raise SystemExit(f"trillium {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def make_world(folder: Path, *, label: str, count: int) -> tuple[Path, Path]:
    """Return (authority directory, folder of identities), both new below `folder`."""
    directory, batch = folder / "authority", folder / "batch"
    trillium("init", str(directory), "--roots", str(folder / "roots"))
    shutil.rmtree(folder / "roots")  # `serve` refuses to run beside root keys; nothing here needs them again
    trillium("factory", str(directory), "--label", label, "--count", str(count), "--out", str(batch))
    return directory, batch


def write_requests(batch: Path, target: Path, *, boot: str, label: str) -> int:
    """Write one signed `sen` request per identity for `bench.load`; return how many."""
    lines = []
    for identity in sorted(path.parent for path in batch.glob("**/identity.json")):
        about = json.loads((identity / "identity.json").read_text())
        if about["label"] != boot:
            continue
        key = load_private_key(identity / "bootstrap.key", None)
        certificate = (identity / "bootstrap.c509").read_bytes()
        voucher = cbor.decode((identity / "voucher.cose").read_bytes())
        _, authority, epoch = cbor.decode(voucher[2])
        door = Door(authority, label, Operation.SEN, epoch)
        inner = certification_request(
            c509.Name.common_name(about["device"]), SoftwareSigner(generate(), even_y=False)
        )
        body = sign_request(SoftwareSigner(key, even_y=False), certificate, door, inner)
        lines.append(
            json.dumps({"client_id": about["client_id"], "label": label, "op": "sen", "body": body.hex()})
        )
    target.write_text("\n".join(lines) + "\n")
    return len(lines)


@contextmanager
def serving(directory: Path, *options: str) -> Iterator[tuple[int, str]]:
    """Run `trillium serve` and give (its pid, its `ready` line); ends it cleanly."""
    environment = {**os.environ, "TRILLIUM_PASSPHRASE": PASSPHRASE}
    log = directory.parent / "serve.log"
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [*TRILLIUM, "serve", str(directory), *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("ready"):
                break
        else:
            raise SystemExit(f"serve did not become ready: {log.read_text()[-2000:]}")
        yield process.pid, line
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def address_in(ready: str, scheme: str) -> tuple[str, int]:
    """Return the host and port of the first `scheme://host:port` in a ready line."""
    found = re.search(rf"{scheme}://([0-9.]+):(\d+)", ready)
    if not found:
        raise SystemExit(f"no {scheme}:// in {ready!r}")
    return found.group(1), int(found.group(2))


@contextmanager
def mosquitto(folder: Path) -> Iterator[tuple[str, int]]:
    """Run a mosquitto on a loopback port without access rules; what is measured is messages, not rules."""
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise SystemExit("mosquitto is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configuration = folder / "mosquitto.conf"
    configuration.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nmax_queued_messages 10000\n"
    )
    process = subprocess.Popen(
        [program, "-c", str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield "127.0.0.1", port
    finally:
        process.terminate()
        process.wait(10)
