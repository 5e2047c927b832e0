"""An authority in a process of its own, fed through a pipe, that somebody else will kill."""

from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import anyio
from anyio import to_thread

from agents.authority import open_authority
from protocol import cbor
from protocol.labels import Operation
from protocol.ports import Content, Inbound, SignedRefusal
from tests.rig import NOW, PASSPHRASE

READY = b"ready"


def run(directory: Path, pipe: Connection) -> None:
    """Serve [number, label, op, body] requests until the pipe closes."""
    anyio.run(_serve, directory, pipe)


async def _serve(directory: Path, pipe: Connection) -> None:
    async with (
        open_authority(directory, PASSPHRASE, clock=lambda: NOW) as authority,
        anyio.create_task_group() as tasks,
    ):

        async def answer(frame: bytes) -> None:
            number, label, op, body = cbor.decode_array(frame, 4)
            reply = await authority.handle(Inbound(label, Operation(op), body, "pipe:1"))
            match reply:
                case Content(body, media):
                    words = [number, media.name, body]
                case SignedRefusal(_, problem) | problem:
                    words = [number, problem.kind.name, b""]  # type: ignore[union-attr]
            pipe.send_bytes(cbor.encode(words))

        pipe.send_bytes(READY)
        while True:
            try:
                frame = await to_thread.run_sync(partial(pipe.recv_bytes, 65536), abandon_on_cancel=True)
            except (EOFError, OSError):
                return
            tasks.start_soon(answer, frame)
