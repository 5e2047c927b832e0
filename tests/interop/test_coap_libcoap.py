"""libcoap's client against our server: another view of discovery, blocks and ETags."""

import shutil
import subprocess
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from constrained.server import CoapServer, Engine
from protocol.errors import ProblemKind
from protocol.ports import Content, Media
from protocol.problem import Problem
from tests.integration.coap_world import ENGINES, Authority

CLIENT = next(
    filter(
        None,
        map(shutil.which, ("coap-client", "coap-client-notls", "coap-client-openssl", "coap-client-gnutls")),
    ),
    None,
)

pytestmark = [
    pytest.mark.outside,
    pytest.mark.skipif(CLIENT is None, reason="libcoap's coap-client is not installed"),
    pytest.mark.parametrize("engine", ENGINES),
]


async def coap(server: CoapServer, path: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run the client; what comes back is on stdout, what it thinks of it on stderr."""
    assert CLIENT is not None
    with anyio.fail_after(20):
        return await anyio.run_process(
            [CLIENT, "-B", "10", *arguments, server.uris[0] + path], check=False, stdin=subprocess.DEVNULL
        )


@pytest.mark.parametrize("arguments", [(), ("-b", "64")], ids=["default", "64-byte blocks"])
async def test_it_discovers_what_is_served(engine: Engine, arguments: tuple[str, ...]) -> None:
    async with Authority().serve(engine) as server:
        found = await coap(server, "/.well-known/core?rt=ace.est.*", *arguments)
        crts = await coap(server, "/.well-known/core?rt=ace.est.crts", *arguments)
    assert found.stdout.count(b'rt="ace.est.') == 2 * (8 + 7)
    assert crts.stdout.decode().strip().split(",") == [
        f'<{root}/{label}/crts>;rt="ace.est.crts";ct="65001 281 287"'
        for root in ("/.well-known/est", "/e")
        for label in ("meter-ds", "its-enroll")
    ]


@pytest.mark.parametrize("length", [100, 1024, 5000])
@pytest.mark.parametrize("arguments", [(), ("-b", "64")], ids=["default", "64-byte blocks"])
async def test_it_gets_the_ca_certificates(
    engine: Engine, length: int, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    body = bytes(range(250)) * (length // 250 + 1)
    got = tmp_path / "got"
    async with Authority(Content(body[:length], Media.COSE_C509)).serve(engine) as server:
        await coap(server, "/.well-known/est/meter-ds/crts", "-o", str(got), *arguments)
    assert got.read_bytes() == body[:length]


@pytest.mark.parametrize("block", ["16", "64", "256", "1024"])
async def test_it_enrolls_block_by_block(engine: Engine, block: str, tmp_path: Path) -> None:
    request, got = tmp_path / "request", tmp_path / "got"
    request.write_bytes(bytes(range(1, 251)) * 6)
    authority = Authority()
    async with authority.serve(engine) as server:
        result = await coap(
            server,
            "/e/meter-ds/sen",
            "-m",
            "post",
            "-t",
            "18",
            "-b",
            block,
            "-f",
            str(request),
            "-o",
            str(got),
        )
    assert [inbound.body for inbound in authority.heard] == [request.read_bytes()], result.stderr
    assert got.read_bytes() == request.read_bytes()


async def test_it_waits_for_an_answer_that_takes_long(engine: Engine) -> None:
    async with Authority(delay=0.3).serve(engine) as server:
        result = await coap(server, "/e/meter-ds/sen", "-m", "post", "-t", "18", "-e", "request")
    assert result.stdout.strip() == b"request"


async def test_it_is_told_what_it_may_not_send_or_ask_for(engine: Engine) -> None:
    async with Authority(Problem(ProblemKind.NOT_ENTITLED, "unknown device")).serve(engine) as server:
        sen = "/e/meter-ds/sen"
        codes = {
            "pkcs10": await coap(server, sen, "-m", "post", "-t", "286", "-e", "x"),
            "c509 request": await coap(server, sen, "-m", "post", "-t", "65003", "-e", "x"),
            "accept": await coap(server, sen, "-m", "post", "-t", "18", "-A", "60", "-e", "x"),
            "method": await coap(server, sen, "-m", "put", "-t", "18", "-e", "x"),
            "path": await coap(server, "/e/meter-ds/nothing"),
            "refused": await coap(server, sen, "-m", "post", "-t", "18", "-e", "x"),
        }
    said = {name: result.stderr[:4].decode() for name, result in codes.items()}
    assert said == {
        "pkcs10": "4.15",
        "c509 request": "4.15",
        "accept": "4.06",
        "method": "4.05",
        "path": "4.04",
        "refused": "4.03",
    }


async def test_it_is_told_that_what_it_has_is_still_valid(engine: Engine) -> None:
    async with Authority(Content(b"certificates", Media.COSE_C509, b"version7")).serve(engine) as server:
        result = await coap(server, "/e/meter-ds/crts", "-v", "6", "-O", "4,version7")
        assert b"2.03" in result.stderr + result.stdout
        assert b"certificates" not in result.stdout


async def test_losses_on_its_side_cost_a_repeat(engine: Engine) -> None:
    authority = Authority()
    async with authority.serve(engine) as server:
        result = await coap(server, "/e/meter-ds/sen", "-m", "post", "-t", "18", "-l", "1", "-e", "request")
    assert result.stdout.strip() == b"request"
    assert len(authority.heard) == 1
