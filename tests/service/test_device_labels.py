"""Which label a device enrolls first, and which signs its messages: the profiles say so, and nothing else."""

import json
from pathlib import Path

import pytest

from agents.devices.agent import DeviceError, open_device
from tests.world import LocalTransport, World


@pytest.mark.parametrize(
    ("bootstrap", "first", "signs_messages"),
    [
        ("meter-boot", "meter-ds", "meter-ds"),
        ("client-boot", "client-ds", "client-ds"),
        ("ev-oem", "ev-contract", None),
        ("ev-station", "ev-secc", "ev-secc"),
    ],
)
async def test_messages_are_signed_under_the_label_whose_profile_says_so(
    tmp_path: Path, bootstrap: str, first: str, signs_messages: str | None
) -> None:
    world = World()
    folder = world.identity_folder(tmp_path / "device")
    identity = json.loads((folder / "identity.json").read_text())
    (folder / "identity.json").write_text(json.dumps(identity | {"label": bootstrap}))
    async with open_device(folder) as device:
        assert device.first_label == first
        if signs_messages is not None:
            assert device.message_label == signs_messages
            return
        with pytest.raises(DeviceError, match="signs messages"):
            await device.send("readings", b"x", LocalTransport(world))
