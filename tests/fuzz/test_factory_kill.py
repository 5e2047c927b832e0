"""The factory is killed at random moments, again and again, and in the end every device was made once."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agents.authority import Layout, MakerIssuer, initialise, list_devices, open_store, verify_audit
from agents.devices.agent import Device
from agents.factory import read_manifest
from protocol.labels import Domain

SEED = int(os.environ.get("TRILLIUM_SEED", str(random.SystemRandom().randrange(2**32))))
COUNT = 200
KILLS = 6
PASSPHRASE = b"maker's secret"
NOW = int(time.time())
_CHILD = """
import sys
from pathlib import Path
from agents.authority import MakerIssuer
from agents.factory import batch, from_sheet, make_order
from protocol.labels import Domain
batch.CHUNK = 4
with MakerIssuer(Path(sys.argv[1]), Domain.METERING, b"maker's secret") as maker:
    print("ready", flush=True)
    order = from_sheet(maker, "meter-boot", Path(sys.argv[2]).read_bytes(), None)
    make_order(maker, order, Path(sys.argv[3]))
"""


@pytest.mark.slow
def test_a_factory_that_is_killed_goes_on_and_makes_every_device_once(tmp_path: Path) -> None:
    moments = random.Random(SEED)
    directory, out, sheet = tmp_path / "authority", tmp_path / "batch", tmp_path / "meters.csv"
    initialise(directory, passphrase=PASSPHRASE, now=NOW)
    names = [f"54524C00000000{number:02X}" for number in range(COUNT)]
    sheet.write_text("device\n" + "\n".join(names) + "\n")
    kills = 0
    while True:
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(directory), str(sheet), str(out)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        with child.stdout:
            assert child.stdout.readline() == b"ready\n"
            try:
                code = child.wait(moments.uniform(0.0, 0.12) if kills < KILLS else 40)
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
                child.wait()
                kills += 1
                continue
        assert code == 0, f"TRILLIUM_SEED={SEED}"
        break
    with MakerIssuer(directory, Domain.METERING, PASSPHRASE) as maker:
        manifest = read_manifest((out / "manifest.cose").read_bytes(), maker.voucher_key)
    assert [entry.device for entry in manifest.entries] == names
    with open_store(directory) as store:
        assert [device.name for device in list_devices(store)] == names
    for entry in manifest.entries:
        digest = hashlib.sha256((out / entry.device / "bootstrap.c509").read_bytes()).digest()
        assert digest == entry.digest, f"TRILLIUM_SEED={SEED}"
    with Device.open(out / names[0]):
        pass
    assert verify_audit(directory).sequence > COUNT
    assert Layout(directory).store.exists()
