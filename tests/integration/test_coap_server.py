"""Both engines on a real socket: what a plain peer sees on the wire, and what aiocoap's own client does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiocoap
import anyio
import pytest

from constrained.server import Engine, Limits
from constrained.wire import Block, Code, Option, Type, encode
from protocol.errors import ProblemKind
from protocol.labels import Operation
from protocol.ports import Content, Inbound, InboundMessage, Media, Pending, SignedRefusal
from protocol.problem import Problem
from tests.integration.coap_world import ENGINES, PATIENCE, SEN, Authority, option, peer_of, until

pytestmark = pytest.mark.parametrize("engine", ENGINES)


async def test_a_server_is_up_when_it_is_entered_and_gone_when_it_is_left(engine: Engine) -> None:
    async with Authority().serve(engine) as server:
        ((host, port),) = server.addresses
        assert (host, port > 0) == ("127.0.0.1", True)
        assert server.uris == (f"coap://127.0.0.1:{port}",)
        async with peer_of(server) as peer:
            assert (await peer.request()).code == Code.CHANGED
    async with Authority().serve(engine) as server:
        with pytest.raises(OSError, match="in use"):
            async with Authority().serve(engine, bind=server.addresses[0]):
                pass


async def test_what_the_body_raises_comes_out_as_it_is(engine: Engine) -> None:
    with pytest.raises(KeyError):
        async with Authority().serve(engine):
            raise KeyError


async def test_an_answer_rides_on_the_acknowledgement(engine: Engine) -> None:
    authority = Authority()
    async with authority.serve(engine) as server, peer_of(server) as peer:
        answer = await peer.request(token=b"12345678")
        port = peer.socket.extra(anyio.abc.SocketAttribute.local_port)
    assert answer[:4] == (Type.ACK, Code.CHANGED, 1, b"12345678")
    assert (option(answer, Option.CONTENT_FORMAT), answer.payload) == (65000, b"request")
    assert authority.heard == [Inbound("meter-ds", Operation.SEN, b"request", f"coap:127.0.0.1:{port}")]


async def test_a_non_confirmable_request_gets_a_non_confirmable_answer(engine: Engine) -> None:
    async with Authority().serve(engine) as server, peer_of(server) as peer:
        answer = await peer.request(kind=Type.NON)
    assert (answer.type, answer.code, answer.payload) == (Type.NON, Code.CHANGED, b"request")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> float:
    """Let both engines repeat what is not acknowledged after a fifth of a second."""
    monkeypatch.setattr("constrained.lean_engine.ACK_TIMEOUT", 0.2)
    monkeypatch.setattr("aiocoap.numbers.constants.TransportTuning.ACK_TIMEOUT", 0.2)
    return 0.2


async def test_an_answer_that_takes_long_comes_by_itself_after_an_acknowledgement(
    engine: Engine, hasty: float
) -> None:
    authority = Authority(delay=0.25)
    async with authority.serve(engine) as server, peer_of(server) as peer:
        first = await peer.request(token=b"t")
        assert first[:4] == (Type.ACK, Code.EMPTY, 1, b"")
        answer = await peer.receive()
        assert (answer.type, answer.code) == (Type.CON, Code.CHANGED)
        assert (answer.token, answer.payload) == (b"t", b"request")
        await peer.send(encode(Type.ACK, Code.EMPTY, answer.mid, b""))
        # Acknowledged: not repeated.
        with anyio.move_on_after(4 * hasty):
            pytest.fail(f"{await peer.receive()} came again")
    assert len(authority.heard) == 1


async def test_a_separate_answer_is_repeated_ever_more_slowly(engine: Engine, hasty: float) -> None:
    async with Authority(delay=0.15).serve(engine) as server, peer_of(server) as peer:
        assert (await peer.request()).code == Code.EMPTY
        answers, times = [], []
        for _ in range(3):
            answers.append(await peer.receive())
            times.append(anyio.current_time())
        assert answers[0] == answers[1] == answers[2]
        assert answers[0].type == Type.CON
        assert times[2] - times[1] > 1.2 * hasty


async def test_a_repeat_gets_the_same_answer_and_the_handler_hears_nothing_of_it(engine: Engine) -> None:
    authority = Authority()
    request = encode(Type.CON, Code.POST, 9, b"t", [*_path(SEN), (Option.CONTENT_FORMAT, b"\x12")], b"x")
    async with authority.serve(engine) as server, peer_of(server) as peer:
        answers = []
        for _ in range(3):
            await peer.send(request)
            answers.append(await peer.receive())
    assert answers[0] == answers[1] == answers[2]
    assert len(authority.heard) == 1


async def test_a_repeat_of_a_request_in_work_is_acknowledged_again_and_not_worked_twice(
    engine: Engine,
) -> None:
    authority = Authority(gate=anyio.Event())
    request = encode(Type.CON, Code.POST, 9, b"t", [*_path(SEN), (Option.CONTENT_FORMAT, b"\x12")], b"x")
    async with authority.serve(engine) as server, peer_of(server) as peer:
        await peer.send(request)
        await peer.send(request)
        acknowledgement = await peer.receive()
        assert acknowledgement[:3] == (Type.ACK, Code.EMPTY, 9)
        await peer.send(request)
        assert await peer.receive() == acknowledgement
        assert authority.gate is not None
        authority.gate.set()
        assert (await peer.receive()).code == Code.CHANGED
    assert len(authority.heard) == 1


async def test_a_peer_that_counts_its_messages_anew_is_not_given_an_old_answer(engine: Engine) -> None:
    authority = Authority()
    async with authority.serve(engine) as server, peer_of(server) as peer:
        for token in (b"1", b"2"):
            options = [*_path(SEN), (Option.CONTENT_FORMAT, b"\x12")]
            await peer.send(encode(Type.CON, Code.POST, 1, token, options, b"body " + token))
            assert (await peer.receive()).payload == b"body " + token
    assert len(authority.heard) == 2


async def test_a_ping_is_answered(engine: Engine) -> None:
    async with Authority().serve(engine) as server, peer_of(server) as peer:
        await peer.send(encode(Type.CON, Code.EMPTY, 77, b""))
        assert (await peer.receive())[:3] == (Type.RST, Code.EMPTY, 77)


async def test_who_wants_no_response_gets_none(engine: Engine) -> None:
    authority = Authority()
    async with authority.serve(engine) as server, peer_of(server) as peer:
        no_success = (Option.NO_RESPONSE, b"\x02")
        stream = (b"m", b"readings")
        answer = await peer.request(stream, b"one", no_success)
        assert (answer.type, answer.code) == (Type.ACK, Code.EMPTY)
        options = [*_path(stream), (Option.CONTENT_FORMAT, b"\x12"), no_success]
        await peer.send(encode(Type.NON, Code.POST, 99, b"", options, b"two"))
        await until(lambda: len(authority.messages) == 2)
        authority.refusal = Problem(ProblemKind.OVERLOADED, "", 1.0)
        assert (await peer.request(stream, b"three", no_success)).code == Code.TOO_MANY_REQUESTS


async def test_a_message_goes_to_the_verifier(engine: Engine) -> None:
    authority = Authority()
    async with authority.serve(engine) as server, peer_of(server) as peer:
        answer = await peer.request((b"m", b"readings"), b"signed")
        port = peer.socket.extra(anyio.abc.SocketAttribute.local_port)
    assert (answer.code, answer.payload) == (Code.CHANGED, b"")
    assert authority.messages == [InboundMessage("readings", b"signed", f"coap:127.0.0.1:{port}")]


async def test_refusals_carry_their_bodies(engine: Engine) -> None:
    authority = Authority(Problem(ProblemKind.OVERLOADED, "later", 4.0))
    async with authority.serve(engine) as server, peer_of(server) as peer:
        answer = await peer.request()
        assert (answer.code, option(answer, Option.MAX_AGE)) == (Code.TOO_MANY_REQUESTS, 4)
        assert Problem.decode(answer.payload) == authority.reply
        authority.reply = Pending(7.0)
        answer = await peer.request()
        assert (answer.code, option(answer, Option.MAX_AGE), answer.payload) == (0xA3, 7, b"")
        authority.reply = SignedRefusal(b"sign1", Problem(ProblemKind.SIGNER_REVOKED))
        answer = await peer.request()
        assert (answer.code, option(answer, Option.CONTENT_FORMAT), answer.payload) == (0x83, 18, b"sign1")


async def test_when_all_hands_are_full_one_more_is_told_to_come_back(engine: Engine) -> None:
    authority = Authority(gate=anyio.Event())
    async with authority.serve(engine, limits=Limits(in_work=3)) as server, peer_of(server) as peer:
        for mid in range(100, 103):
            options = [*_path(SEN), (Option.CONTENT_FORMAT, b"\x12")]
            await peer.send(encode(Type.NON, Code.POST, mid, mid.to_bytes(2), options, b"x"))
        await until(lambda: len(authority.heard) == 3)
        answer = await peer.request()
        assert (answer.code, option(answer, Option.MAX_AGE)) == (Code.SERVICE_UNAVAILABLE, 5)
        # What needs no handler is answered all the same.
        if engine == "lean":
            assert (
                await peer.get(b".well-known", b"core", query=b"href=/e/meter-ds/sen")
            ).code == Code.CONTENT
        assert authority.gate is not None
        authority.gate.set()
        for _ in range(3):
            assert (await peer.receive()).code == Code.CHANGED
        assert (await peer.request()).code == Code.CHANGED


async def test_leaving_the_server_cancels_what_is_in_work_and_waits_for_it(engine: Engine) -> None:
    authority = Authority(gate=anyio.Event())
    async with authority.serve(engine) as server, peer_of(server) as peer:
        for mid in range(5):
            options = [*_path(SEN), (Option.CONTENT_FORMAT, b"\x12")]
            await peer.send(encode(Type.CON, Code.POST, mid, mid.to_bytes(2), options, b"x"))
        await until(lambda: len(authority.heard) == 5)
    assert authority.cancelled == 5


@asynccontextmanager
async def library_client() -> AsyncIterator[aiocoap.Context]:
    context = await aiocoap.Context.create_client_context(transports=["udp6"])
    try:
        yield context
    finally:
        await context.shutdown()


async def test_aiocoaps_client_finds_asks_and_enrolls_in_blocks(engine: Engine) -> None:
    authority = Authority()
    async with authority.serve(engine) as server, library_client() as client:
        (uri,) = server.uris
        with anyio.fail_after(PATIENCE):
            found = await client.request(
                aiocoap.Message(code=Code.GET, uri=f"{uri}/.well-known/core?rt=ace.est.sen")
            ).response
            assert b'</.well-known/est/meter-ds/sen>;rt="ace.est.sen"' in found.payload
            everything = await client.request(
                aiocoap.Message(code=Code.GET, uri=f"{uri}/.well-known/core")
            ).response
            # Letters are for meters, generated keys for contracts.
            assert everything.payload.count(b"ace.est") == 2 * (8 + 7)
            for length in (10, 1024, 1025, 4096):
                message = aiocoap.Message(
                    code=Code.POST, uri=f"{uri}/.well-known/est/meter-ds/sen", payload=bytes(length)
                )
                message.opt.content_format = 18
                answer = await client.request(message).response
                assert (int(answer.code), answer.payload) == (Code.CHANGED, bytes(length))
            message = aiocoap.Message(code=Code.POST, uri=f"{uri}/e/meter-ds/sen", payload=bytes(4097))
            message.opt.content_format = 18
            assert int((await client.request(message).response).code) == Code.REQUEST_ENTITY_TOO_LARGE
    assert [len(inbound.body) for inbound in authority.heard] == [10, 1024, 1025, 4096]


async def test_aiocoaps_client_keeps_what_is_still_valid(engine: Engine) -> None:
    authority = Authority(Content(bytes(3000), Media.COSE_C509, b"etag"))
    async with authority.serve(engine) as server, library_client() as client:
        (uri,) = server.uris
        with anyio.fail_after(PATIENCE):
            answer = await client.request(
                aiocoap.Message(code=Code.GET, uri=f"{uri}/e/meter-ds/crts")
            ).response
            assert (answer.payload, answer.opt.etag) == (bytes(3000), b"etag")
            again = aiocoap.Message(code=Code.GET, uri=f"{uri}/e/meter-ds/crts")
            again.opt.etags = [b"etag"]
            assert int((await client.request(again).response).code) == Code.VALID


async def test_a_large_answer_is_fetched_block_by_block_and_in_any_order(engine: Engine) -> None:
    body = bytes(range(256)) * 8
    async with Authority(Content(body, Media.COSE_C509)).serve(engine) as server, peer_of(server) as peer:
        blocks = {}
        for number in (3, 0, 1, 2):
            answer = await peer.request(
                (b"e", b"meter-ds", b"crts"),
                b"",
                (Option.BLOCK2, Block(number, False, 5).encode()),
                code=Code.GET,
            )
            blocks[number] = answer.payload
            assert Block.decode(dict(answer.options)[Option.BLOCK2]) == Block(number, number < 3, 5)
    assert b"".join(blocks[number] for number in range(4)) == body


def _path(path: tuple[bytes, ...]) -> list[tuple[int, bytes]]:
    return [(Option.URI_PATH, part) for part in path]
