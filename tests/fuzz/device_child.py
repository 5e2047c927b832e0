"""The victim of the crash test: a few devices that enroll, rekey and send without end, in one process.

Started as `python device_child.py PORT ROUNDS FOLDER…`; ROUNDS 0 is for ever.
"""

import sys
from pathlib import Path

import anyio
from anyio.abc import SocketStream

from agents.devices.agent import open_device
from agents.devices.meter import METER
from protocol import cbor
from protocol.errors import Unreachable
from protocol.exchange.device_pace import Patience
from protocol.ports import Content, Media, Outbound, Pending, Reply
from protocol.problem import Problem

MEDIA = list(Media)
PATIENCE = Patience(answer=5.0, pause=0.02, longest_pause=0.1, give_up=30.0)


async def read_frame(stream: SocketStream) -> list[object]:
    """Return the next frame: four bytes of length, then a CBOR array."""
    data = b""
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        data += await stream.receive(65536)
    found = cbor.decode(data[4:], max_bytes=1 << 20)
    assert isinstance(found, list)
    return found


async def write_frame(stream: SocketStream, item: list[object]) -> None:
    data = cbor.encode(item)
    await stream.send(len(data).to_bytes(4, "big") + data)


class SocketTransport:
    """A device's transport to the test's authority: one connection per request."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def ask(self, item: list[object]) -> list[object]:
        try:
            async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
                await write_frame(stream, item)
                return await read_frame(stream)
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
            raise Unreachable(str(error)) from error

    async def exchange(self, request: Outbound) -> Reply:
        match await self.ask(["exchange", request.label, request.op.value, request.body]):
            case ["content", int(media), bytes(body)]:
                return Content(body, MEDIA[media])
            case ["problem", bytes(body)]:
                return Problem.decode(body)
            case _:
                return Pending(0.1)

    async def send_message(self, stream: str, body: bytes) -> Problem | None:
        match await self.ask(["message", stream, body]):
            case ["problem", bytes(problem)]:
                return Problem.decode(problem)
            case _:
                return None


async def live(folder: Path, port: int, rounds: int) -> None:
    transport = SocketTransport(port)
    async with open_device(folder, patience=PATIENCE) as device:
        await METER.enroll(device, transport)
        number = 0
        while rounds == 0 or number < rounds:
            number += 1
            for index in range(2):
                await METER.report(device, index, transport)
            await device.rekey(METER.labels[0], transport)


def say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


async def main(port: int, rounds: int, folders: list[Path]) -> None:
    say("open")
    async with anyio.create_task_group() as group:
        for folder in folders:
            group.start_soon(live, folder, port, rounds)
    say("done")


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), int(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
