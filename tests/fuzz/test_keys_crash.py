"""Meters and their head-end are killed at random moments of one rollover after the other, and never part.

TRILLIUM_CRASHES sets how often (a tenth of it, 5 at least, as each takes 2.5 s); TRILLIUM_SEED repeats a run.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from anyio.abc import SocketAttribute, SocketStream

from agents.devices.agent import open_device
from agents.metering.meter import MeterKeys
from agents.metering.rollover import HeadEndKeys, Order
from protocol.labels import Operation
from protocol.metering.title import SystemTitle
from protocol.ports import Content, Outbound
from protocol.problem import Problem
from tests.fuzz.device_child import MEDIA, read_frame, write_frame
from tests.mail_world import (
    DEVICE_PASSPHRASE,
    Estate,
    make_estate,
    open_estate,
    roll_while_polling,
    understand_each_other,
)

CRASHES = max(5, int(os.environ.get("TRILLIUM_CRASHES", "0")) // 10)
SEED = int(os.environ.get("TRILLIUM_SEED", str(random.SystemRandom().randrange(2**32))))
METERS = 3
ROOT = Path(__file__).resolve().parents[2]
ROLES = ("meters", "head-end")


class Server:
    """The authority and its mailbox behind a socket."""

    def __init__(self, estate: Estate) -> None:
        self.estate = estate
        self.refusals: list[Problem] = []

    async def serve(self, stream: SocketStream) -> None:
        async with stream:
            try:
                await write_frame(stream, await self.answer(await read_frame(stream)))
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return  # that side was killed

    async def answer(self, frame: list[object]) -> list[object]:
        match frame:
            case ["exchange", str(label), str(op), bytes(body)]:
                match await self.estate.port().exchange(Outbound(label, Operation(op), body)):
                    case Content(content, media):
                        return ["content", MEDIA.index(media), content]
                    case Problem() as problem:
                        self.refusals.append(problem)
                        return ["problem", problem.encode()]
        return ["what?"]


class Family:
    """The folders of a head-end and its meters, and the processes that live in them."""

    def __init__(self, estate: Estate) -> None:
        (self.head_end,) = estate.folders("client-boot")
        self.meters = estate.folders("meter-boot")
        self.title = estate.title(self.head_end)

    def start(self, port: int, role: str) -> subprocess.Popen[str]:
        folders, title = (self.meters, self.title.name) if role == "meters" else ([self.head_end], "-")
        command = [sys.executable, "-m", "tests.fuzz.keys_child", str(port), role, title, *map(str, folders)]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def run_and_kill(self, port: int, chance: random.Random) -> None:
        """Let both live; kill one at a random moment, the other at a later one."""
        children = {role: self.start(port, role) for role in ROLES}
        for child in children.values():
            assert child.stdout is not None
            assert child.stdout.readline() == "open\n"
        for role in chance.sample(ROLES, 2):
            time.sleep(0.4 * chance.random())  # the moment is the random input here, not a wait for something
            children[role].send_signal(signal.SIGKILL)
            children[role].wait()
        for child in children.values():
            assert child.stdout is not None
            child.stdout.close()


async def check(estate: Estate, family: Family) -> None:
    """What is on disk after a crash: the head-end has the very keys that each meter uses."""
    async with open_device(family.head_end, DEVICE_PASSPHRASE, wall=estate.clock) as device:
        head_end = await HeadEndKeys.open(device)
        for folder in family.meters:
            async with open_device(folder, DEVICE_PASSPHRASE, wall=estate.clock) as one:
                meter = await MeterKeys.open(one)
            title = SystemTitle.of_name(one.identity.device)
            if meter.keys.generation:
                assert meter.keys in head_end.keys(title)


@pytest.mark.timeout(60 + 8 * CRASHES)
@pytest.mark.parametrize("seed", [SEED])
async def test_whoever_is_killed_whenever_both_sides_have_keys_in_common(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    template = make_estate(tmp_path / "template", meters=METERS, head_ends=1)
    async with open_estate(template, tmp_path / "estate") as estate:
        family, server = Family(estate), Server(estate)
        await estate.enroll([family.head_end, *family.meters])
        async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener:
            port = listener.extra(SocketAttribute.local_port)
            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, server.serve)
                for _ in range(CRASHES):
                    await to_thread.run_sync(family.run_and_kill, port, chance)
                    await check(estate, family)
                    if chance.random() < 0.3:
                        estate.lose_all_letters()
                group.cancel_scope.cancel()
        meters, head_end = [await estate.meter(number) for number in range(METERS)], await estate.head_end()
        for meter in meters:
            await meter.poll(estate.port())
        await roll_while_polling(head_end, meters, Order(give_up=20), estate.port())
        outcome = await roll_while_polling(head_end, meters, Order(give_up=20), estate.port())
        assert len(outcome.done) == METERS
        for meter, folder in zip(meters, family.meters, strict=True):
            assert head_end.keys(estate.title(folder)) == (meter.keys,)
            assert understand_each_other(meter, estate.title(folder), meter.keys)
            assert meter.keys.generation > 2, "nothing happened between the crashes"
    assert not server.refusals, "a message counter was used twice"
