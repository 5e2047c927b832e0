"""The health check: an endpoint answers a ping, an empty port does not."""

import socket
import sys

import anyio
import pytest

from constrained.ping import ping
from constrained.server import Engine, serve
from protocol.errors import ProblemKind
from protocol.ports import Inbound, Reply
from protocol.problem import Problem
from tests.integration.coap_world import ENGINES


async def _nobody(_: Inbound) -> Reply:
    return Problem(ProblemKind.NOT_FOUND)


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_endpoint_answers_a_ping(engine: Engine) -> None:
    async with serve(_nobody, ["meter-ds"], bind=("127.0.0.1", 0), engine=engine) as server:
        host, port = server.addresses[0][:2]
        assert await anyio.to_thread.run_sync(ping, host, port) is not None
        done = await anyio.run_process([sys.executable, "-m", "constrained.ping", f"coap://{host}:{port}"])
        assert done.returncode == 0


def test_an_empty_port_does_not_answer() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    assert ping("127.0.0.1", port, seconds=0.3) is None
