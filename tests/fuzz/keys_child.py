"""A victim of the crash test: meters that ask for letters, or their head-end that renews keys, without end.

Started as `python keys_child.py PORT meters HEAD-END-TITLE FOLDER…` or `… PORT head-end - FOLDER`.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import anyio

from agents.devices.agent import open_device
from agents.metering.meter import MeterKeys
from agents.metering.rollover import HeadEndKeys, Order
from protocol.exchange.device_pace import Patience
from protocol.metering.agreement import Scheme
from protocol.metering.title import SystemTitle
from tests.fuzz.device_child import SocketTransport, say
from tests.mail_world import DEVICE_PASSPHRASE
from tests.rig import NOW

PATIENCE = Patience(answer=5.0, pause=0.02, longest_pause=0.1, give_up=30.0)


def wall() -> float:
    return NOW


async def live_as_meter(folder: Path, port: int, head_end: SystemTitle, opened: Callable[[], None]) -> None:
    async with open_device(folder, DEVICE_PASSPHRASE, wall=wall, patience=PATIENCE) as device:
        meter = await MeterKeys.open(device, head_end)
        opened()
        while True:
            await meter.poll(SocketTransport(port))
            await anyio.sleep(0.005)


async def live_as_head_end(folder: Path, port: int, opened: Callable[[], None]) -> None:
    async with open_device(folder, DEVICE_PASSPHRASE, wall=wall, patience=PATIENCE) as device:
        head_end = await HeadEndKeys.open(device)
        opened()
        while True:
            for scheme in (Scheme.EPHEMERAL, Scheme.ONE_PASS):
                order = Order(scheme=scheme, give_up=0.2)
                await head_end.rollover(order, SocketTransport(port))


async def main(port: int, role: str, title: str, folders: list[Path]) -> None:
    opened = 0

    def count() -> None:
        nonlocal opened
        opened += 1
        if opened == len(folders):
            say("open")

    async with anyio.create_task_group() as group:
        for folder in folders:
            if role == "meters":
                group.start_soon(live_as_meter, folder, port, SystemTitle.of_name(title), count)
            else:
                group.start_soon(live_as_head_end, folder, port, count)


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), sys.argv[2], sys.argv[3], [Path(name) for name in sys.argv[4:]])
