"""An authority that prepares and gives contracts, in a process of its own that somebody else will kill."""

from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import anyio
from anyio import to_thread

from agents.authority import open_authority
from agents.cli.vouching import open_services
from protocol import cbor
from protocol.labels import Operation
from protocol.ports import Content, Inbound, SignedRefusal
from protocol.problem import Problem
from tests.contract_world import NOW, PASSPHRASE

READY = b"ready"
MAX_FRAME = 32768


def run(directory: Path, service: Path, pipe: Connection) -> None:
    """Serve [number, label, op, body] requests until the pipe closes."""
    anyio.run(_serve, directory, service, pipe)


async def _serve(directory: Path, service: Path, pipe: Connection) -> None:
    services = open_services(service, None, b"")
    async with (
        open_authority(directory, PASSPHRASE, clock=lambda: NOW, services=services) as authority,
        anyio.create_task_group() as tasks,
    ):

        async def answer(frame: bytes) -> None:
            number, label, op, body = cbor.decode_array(frame, 4)
            match await authority.handle(Inbound(label, Operation(op), body, "pipe:1")):
                case Content(answered, media):
                    words = [number, media.name, answered]
                case SignedRefusal(_, problem):
                    words = [number, problem.kind.name, b""]
                case Problem() as problem:
                    words = [number, problem.kind.name, b""]
                case other:
                    words = [number, type(other).__name__, b""]
            pipe.send_bytes(cbor.encode(words))

        pipe.send_bytes(READY)
        while True:
            try:
                frame = await to_thread.run_sync(partial(pipe.recv_bytes, MAX_FRAME), abandon_on_cancel=True)
            except (EOFError, OSError):
                return
            tasks.start_soon(answer, frame)
