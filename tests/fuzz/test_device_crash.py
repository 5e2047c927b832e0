"""A process full of devices is killed at random moments, again and again, and nothing is lost.

TRILLIUM_CRASHES sets how often (default 15); TRILLIUM_SEED repeats a run's moments.
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
from anyio.abc import SocketStream

from agents.devices.agent import Device
from protocol.labels import Operation
from protocol.ports import Content, Outbound, SignedRefusal
from protocol.problem import Problem
from tests.fuzz.device_child import MEDIA, read_frame, write_frame
from tests.world import World

CRASHES = int(os.environ.get("TRILLIUM_CRASHES", "15"))
SEED = int(os.environ.get("TRILLIUM_SEED", str(random.SystemRandom().randrange(2**32))))
DEVICES = 4
ROOT = Path(__file__).resolve().parents[2]


class Server:
    """The world's authority behind a socket."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.refusals: list[Problem] = []

    async def serve(self, stream: SocketStream) -> None:
        async with stream:
            try:
                await write_frame(stream, self.answer(await read_frame(stream)))
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return  # that device was killed

    def answer(self, frame: list[object]) -> list[object]:
        match frame:
            case ["exchange", str(label), str(op), bytes(body)]:
                match self.world.answer(Outbound(label, Operation(op), body)):
                    case Content(body, media):
                        return ["content", MEDIA.index(media), body]
                    case SignedRefusal(body, problem):
                        self.refusals.append(problem)
                        return ["content", 0, body]
                    case Problem() as problem:
                        self.refusals.append(problem)
                        return ["problem", problem.encode()]
            case ["message", str(name), bytes(body)]:
                refusal = self.world.take_message(name, body)
                if refusal is None:
                    return ["taken"]
                self.refusals.append(refusal)
                return ["problem", refusal.encode()]
        return ["what?"]


def start(port: int, rounds: int, folders: list[Path]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.fuzz.device_child", str(port), str(rounds), *map(str, folders)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def kill_after(child: subprocess.Popen[str], seconds: float) -> None:
    """Kill the child so long after it began to open its devices."""
    assert child.stdout is not None
    assert child.stdout.readline() == "open\n"
    time.sleep(seconds)  # the moment is the random input here, not a wait for something
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()


def finish(child: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = child.communicate(timeout=60)
    return child.returncode, output


def check(world: World, folder: Path) -> None:
    """What is on disk after a crash: openable, and good for something."""
    with Device.open(folder) as device:
        store = device._store
        pending = store.pending("meter-ds")
        held = [store.current_certificate("meter-ds"), pending.certificate if pending else None]
        there = [certificate for certificate in held if certificate is not None]
        assert not there or any(world.accepts(certificate) for certificate in there)
        if world.issued.total() > DEVICES * 3:
            assert there, "long enrolled, and nothing left"


@pytest.mark.timeout(60 + 5 * CRASHES)
@pytest.mark.parametrize("seed", [SEED])
async def test_devices_killed_at_random_moments_lose_nothing_and_repeat_nothing(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    world = World(now=int(time.time()))
    server = Server(world)
    folders = [
        world.identity_folder(tmp_path / f"{number}", f"54524C{number:010X}") for number in range(DEVICES)
    ]
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, server.serve)
            for _ in range(CRASHES):
                child = await to_thread.run_sync(start, port, 0, folders)
                await to_thread.run_sync(kill_after, child, chance.choice([0.03, 0.3]) * chance.random())
                for folder in folders:
                    check(world, folder)
            child = await to_thread.run_sync(start, port, 1, folders)
            status, output = await to_thread.run_sync(finish, child)
            group.cancel_scope.cancel()
    assert (status, output) == (0, "open\ndone\n")
    assert max(world.issued.values()) == 1, "two certificates for one key"
    assert max(world.messages.values()) == 1, "a message counter was used twice"
    assert not server.refusals, "a device used something that it should have known to be over"
    for folder in folders:
        with Device.open(folder) as device:
            assert device._store.pending("meter-ds") is None
            current = device._store.current_certificate("meter-ds")
            assert current is not None
            assert world.by_key_of(current).state == "current"
