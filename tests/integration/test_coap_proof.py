"""Asking a CoAP server itself for a proof: a nonce there, a signed object back."""

import pytest

from constrained.client import connect
from constrained.server import Engine
from constrained.wire import Code, Option
from protocol.challenge import Challenge
from protocol.errors import ProblemKind
from protocol.problem import Problem
from tests.integration.coap_world import ENGINES, Authority, peer_of

NONCE = bytes(range(16))
PATH = (b".well-known", b"est", b"ev-secc", b"proof")
OCTETS = (Option.CONTENT_FORMAT, b"\x2a")


async def long_proof(challenge: Challenge) -> bytes:
    return challenge.nonce + challenge.label.encode() + bytes(3000)


async def busy(_: Challenge) -> Problem:
    return Problem(ProblemKind.UNAVAILABLE, "later", 7.0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("root", ["e", ".well-known/est"])
async def test_a_proof_comes_back_in_blocks(engine: Engine, root: str) -> None:
    async with (
        Authority().serve(engine, proofs={"ev-secc": long_proof}) as server,
        connect(server.uris[0], root=root) as way,
    ):
        assert await way.challenge("ev-secc", NONCE) == NONCE + b"ev-secc" + bytes(3000)


@pytest.mark.parametrize("engine", ENGINES)
async def test_who_has_no_proof_says_when_to_come_again(engine: Engine) -> None:
    async with (
        Authority().serve(engine, proofs={"ev-secc": busy}) as server,
        connect(server.uris[0]) as way,
    ):
        assert await way.challenge("ev-secc", NONCE) == Problem(ProblemKind.UNAVAILABLE, "later", 7.0)


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_authority_is_no_station(engine: Engine) -> None:
    async with Authority().serve(engine) as server, connect(server.uris[0]) as way:
        answer = await way.challenge("ev-secc", NONCE)
        assert isinstance(answer, Problem)
        assert answer.kind is ProblemKind.NOT_FOUND


@pytest.mark.parametrize("engine", ENGINES)
async def test_only_a_nonce_is_answered(engine: Engine) -> None:
    async with (
        Authority().serve(engine, proofs={"ev-secc": long_proof}) as server,
        peer_of(server) as peer,
    ):
        for nonce in (b"", bytes(15), bytes(33)):
            assert (await peer.request(PATH, nonce, OCTETS)).code == Code.BAD_REQUEST
        assert (await peer.request(PATH, NONCE)).code == Code.BAD_REQUEST, "another Content-Format"
        block = (Option.BLOCK1, b"\x00")
        assert (await peer.request(PATH, NONCE, OCTETS, block)).code == Code.BAD_REQUEST
        assert (await peer.get(*PATH)).code == Code.METHOD_NOT_ALLOWED
        assert (await peer.request(PATH, NONCE, OCTETS)).code == Code.CHANGED
