"""A device's side, against our servers and against servers that lie."""

import gc
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from agents.proxy.faults import Faults
from agents.proxy.udp import serve_udp
from constrained.budget import measure
from constrained.client import Retransmission, connect
from constrained.server import Engine
from constrained.wire import Block, Code, Datagram, Option, Type, decode, encode
from protocol.errors import ProblemKind, Unreachable
from protocol.labels import Operation
from protocol.ports import (
    Content,
    DeviceTransport,
    InboundMessage,
    Media,
    Outbound,
    Pending,
    Reply,
    SignedRefusal,
)
from protocol.problem import MAX_RETRY_AFTER, Problem
from tests.integration.coap_world import ENGINES, PATIENCE, Authority, until

HASTY = Retransmission(ack_timeout=0.05, max_retransmit=2)
ENROLL = Outbound("meter-ds", Operation.SEN, b"request")


@asynccontextmanager
async def liar(answer: Callable[[Datagram], object]) -> AsyncIterator[str]:
    """A server that sends what `answer` makes of each datagram."""
    async with (
        await anyio.create_udp_socket(local_host="127.0.0.1") as server,
        anyio.create_task_group() as tasks,
    ):

        async def run() -> None:
            async for data, (host, port) in server:
                reply = answer(decode(data))
                if isinstance(reply, bytes):
                    await server.sendto(reply, host, port)

        tasks.start_soon(run)
        yield f"coap://127.0.0.1:{server.extra(anyio.abc.SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


async def exchange(device: DeviceTransport, request: Outbound = ENROLL) -> Reply:
    with anyio.fail_after(PATIENCE):
        return await device.exchange(request)


REPLIES: list[Reply] = [
    Content(b"certificate", Media.C509_CERTIFICATE),
    Content(bytes(4000), Media.C509_CERTIFICATE),
    Pending(9.0),
    Problem(ProblemKind.NOT_ENTITLED, "not in the inventory"),
    Problem(ProblemKind.OVERLOADED, "", 3.0),
    Problem(ProblemKind.UNAVAILABLE, "", 8.0),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("block_size", [1024, 64])
@pytest.mark.parametrize("reply", REPLIES, ids=repr)
async def test_what_the_authority_says_arrives(engine: Engine, block_size: int, reply: Reply) -> None:
    authority = Authority(reply)
    async with authority.serve(engine) as server, connect(server.uris[0], block_size=block_size) as device:
        assert await exchange(device) == reply
        assert await exchange(device, Outbound("its-enroll", Operation.SREN, bytes(range(256)) * 16)) == reply
    assert [(i.label, i.op, len(i.body)) for i in authority.heard] == [
        ("meter-ds", Operation.SEN, 7),
        ("its-enroll", Operation.SREN, 4096),
    ]
    assert authority.heard[1].body == bytes(range(256)) * 16


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("op", [Operation.CRTS, Operation.ATT, Operation.CRL])
async def test_what_has_no_body_is_fetched_whole(engine: Engine, op: Operation) -> None:
    media = {
        Operation.CRTS: Media.COSE_C509,
        Operation.ATT: Media.C509_TEMPLATE,
        Operation.CRL: Media.PKIX_CRL,
    }
    content = Content(bytes(20000), media[op], b"version1")
    async with Authority(content).serve(engine) as server, connect(server.uris[0]) as device:
        assert await exchange(device, Outbound("meter-ds", op)) == content


@pytest.mark.parametrize("engine", ENGINES)
async def test_of_a_signed_refusal_the_bytes_count(engine: Engine) -> None:
    refusal = SignedRefusal(b"s" * 1500, Problem(ProblemKind.KEY_USED, "told to nobody", 20.0))
    async with Authority(refusal).serve(engine) as server, connect(server.uris[0]) as device:
        assert await exchange(device) == SignedRefusal(b"s" * 1500, Problem(ProblemKind.KEY_USED, "", 20.0))


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_answer_may_take_long(engine: Engine) -> None:
    async with Authority(delay=0.3).serve(engine) as server, connect(server.uris[0]) as device:
        assert await exchange(device) == Content(b"request", Media.C509_CERTIFICATE)


@pytest.mark.parametrize("engine", ENGINES)
async def test_messages_are_taken_or_refused(engine: Engine) -> None:
    authority = Authority()
    async with authority.serve(engine) as server, connect(server.uris[0]) as device:
        with anyio.fail_after(PATIENCE):
            assert await device.send_message("readings", b"m" * 1500) is None
            authority.refusal = Problem(ProblemKind.OVERLOADED, "", 2.0)
            assert await device.send_message("readings", b"m") == authority.refusal
            assert await device.send_message("No Such Stream", b"m") == Problem(ProblemKind.NOT_FOUND)
    assert authority.messages[0] == InboundMessage("readings", b"m" * 1500, authority.messages[0].source)


@pytest.mark.parametrize("engine", ENGINES)
async def test_too_long_a_request_is_refused_by_the_authority(engine: Engine) -> None:
    async with Authority().serve(engine) as server, connect(server.uris[0]) as device:
        reply = await exchange(device, Outbound("meter-ds", Operation.SEN, bytes(4097)))
    assert isinstance(reply, Problem)
    assert reply.kind is ProblemKind.TOO_LARGE


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_network_that_loses_repeats_and_reorders_only_costs_time(engine: Engine) -> None:
    authority = Authority()
    patient = Retransmission(ack_timeout=0.05, max_retransmit=8)
    async with (
        authority.serve(engine) as server,
        serve_udp(("127.0.0.1", 0), server.addresses[0], Faults.of_loss(0.2), seed=5) as proxy,
        connect(f"coap://127.0.0.1:{proxy.address[1]}", retransmission=patient, block_size=256) as device,
    ):
        for length in (100, 1000):
            body = bytes([length & 255]) * length
            with anyio.fail_after(20):
                reply = await device.exchange(Outbound("meter-ds", Operation.SEN, body))
            assert reply == Content(body, Media.C509_CERTIFICATE)
        assert proxy.counts.dropped


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("request_bytes", "answer"), [(203, 145), (203, 40), (16, 145)])
@pytest.mark.parametrize("block_size", [1024, 64])
@pytest.mark.parametrize("op", [Operation.SEN, Operation.CRTS])
async def test_the_budget_is_what_the_wire_carries(
    engine: Engine, request_bytes: int, answer: int, block_size: int, op: Operation
) -> None:
    carried: list[bytes] = []
    authority = Authority(Content(bytes(answer), Media.C509_CERTIFICATE))
    async with (
        authority.serve(engine) as server,
        await anyio.create_udp_socket(local_host="127.0.0.1") as front,
        await anyio.create_connected_udp_socket(*server.addresses[0]) as back,
        anyio.create_task_group() as tasks,
    ):

        async def relay() -> None:
            async for data, source in front:
                await back.send(data)
                reply = await back.receive()
                carried.extend((data, reply))
                await front.sendto(reply, *source)

        tasks.start_soon(relay)
        port = front.extra(anyio.abc.SocketAttribute.local_port)
        async with connect(f"coap://127.0.0.1:{port}", block_size=block_size) as device:
            await exchange(device, Outbound("meter-ds", op, bytes(request_bytes)))
        tasks.cancel_scope.cancel()
    # Tokens are drawn at random; most have two bytes.
    slack = [2 - len(decode(data).token) for data in carried]
    budget = measure("meter-ds", op, request_bytes, answer, block_size=block_size)
    assert (len(carried), sum(map(len, carried)) + sum(slack)) == (budget.messages, budget.total)
    assert max(len(data) + more for data, more in zip(carried, slack, strict=True)) == budget.largest


async def test_nobody_there_is_unreachable_at_once() -> None:
    async with Authority().serve("lean") as server:
        uri = server.uris[0]
    async with connect(uri) as device:
        with anyio.fail_after(1.0), pytest.raises(Unreachable):
            await device.exchange(ENROLL)


async def test_silence_is_unreachable_after_the_last_repeat() -> None:
    heard: list[Datagram] = []
    async with (
        liar(heard.append) as uri,
        connect(uri, retransmission=HASTY) as device,
    ):
        with pytest.raises(Unreachable):
            await exchange(device)
    assert len(heard) == 1 + HASTY.max_retransmit
    assert len(set(heard)) == 1


async def test_an_acknowledgement_alone_is_not_waited_for_for_ever() -> None:
    def acknowledge(datagram: Datagram) -> bytes:
        return encode(Type.ACK, Code.EMPTY, datagram.mid, b"")

    async with liar(acknowledge) as uri, connect(uri, retransmission=HASTY) as device:
        with pytest.raises(Unreachable):
            await exchange(device)


def response(
    code: int, options: Sequence[tuple[int, bytes]], payload: bytes = b""
) -> Callable[[Datagram], bytes]:
    return lambda datagram: encode(Type.ACK, code, datagram.mid, datagram.token, options, payload)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (response(Code.CHANGED, [], b"what is it?"), "not understood"),
        (response(Code.CHANGED, [(Option.CONTENT_FORMAT, b"\x00")], b"text"), "not understood"),
        (response(Code.VALID, [(Option.ETAG, b"e")]), "not understood"),
        (response(Code.CONTINUE, []), "not understood"),
        (response(0xE1, []), "no answer in time"),
        (response(Code.CHANGED, [(Option.BLOCK2, Block(3, False, 2).encode())], b"end"), "middle"),
        (response(Code.CHANGED, [(Option.BLOCK2, Block(0, True, 2).encode())], b"short"), "changed"),
        (response(Code.CHANGED, [(Option.BLOCK2, Block(0, True, 2).encode())], bytes(64)), "changed"),
        (response(Code.CHANGED, [(Option.BLOCK2, b"\x0f")], bytes(1024)), "not understood"),
        (lambda datagram: encode(Type.RST, Code.EMPTY, datagram.mid, b""), "Network error"),
    ],
    ids=[
        "no format",
        "unknown format",
        "valid",
        "continue",
        "signal",
        "middle first",
        "short block",
        "same block again",
        "reserved size",
        "reset",
    ],
)
async def test_an_answer_that_makes_no_sense_is_no_answer(
    answer: Callable[[Datagram], bytes], why: str
) -> None:
    async with liar(answer) as uri, connect(uri, retransmission=HASTY) as device:
        with pytest.raises(Unreachable, match=why):
            await exchange(device)


async def test_an_answer_without_end_is_given_up_at_the_limit() -> None:
    asked: list[int] = []

    def endless(datagram: Datagram) -> bytes:
        number = Block.decode(dict(datagram.options).get(Option.BLOCK2, b"")).number
        asked.append(number)
        return response(Code.CHANGED, [(Option.BLOCK2, Block(number, True, 6).encode())], bytes(1024))(
            datagram
        )

    async with liar(endless) as uri, connect(uri, max_answer=8192) as device:
        with pytest.raises(Unreachable, match="8192"):
            await exchange(device)
    assert asked == list(range(8))


async def test_an_answer_that_changes_while_it_is_read_is_none() -> None:
    def changing(datagram: Datagram) -> bytes:
        number = Block.decode(dict(datagram.options).get(Option.BLOCK2, b"")).number
        options = [(Option.BLOCK2, Block(number, number < 2, 2).encode()), (Option.ETAG, b"%d" % number)]
        return response(Code.CONTENT, options, bytes(64))(datagram)

    async with liar(changing) as uri, connect(uri) as device:
        with pytest.raises(Unreachable, match="changed"):
            await exchange(device, Outbound("meter-ds", Operation.CRTS))


async def test_an_authority_may_ask_for_smaller_blocks() -> None:
    body = bytearray()

    def small(datagram: Datagram) -> bytes | None:
        block = Block.decode(dict(datagram.options)[Option.BLOCK1])
        assert (block.szx, block.start) == (2 if body else 6, len(body))
        body.extend(datagram.payload)
        if block.more:
            return response(Code.CONTINUE, [(Option.BLOCK1, Block(block.number, True, 2).encode())])(datagram)
        return response(Code.CHANGED, [(Option.CONTENT_FORMAT, b"\x12")], b"receipt")(datagram)

    sent = bytes(range(250)) * 10
    async with liar(small) as uri, connect(uri) as device:
        reply = await exchange(device, Outbound("meter-ds", Operation.CONF, sent))
    assert (reply, bytes(body)) == (Content(b"receipt", Media.SIGN1), sent)


async def test_an_upload_that_is_refused_half_way_is_refused() -> None:
    hint = Problem(ProblemKind.OVERLOADED, "", 5.0)
    refuse = response(Code.TOO_MANY_REQUESTS, [(Option.CONTENT_FORMAT, b"\x01\x01")], hint.encode())
    async with liar(refuse) as uri, connect(uri) as device:
        assert await exchange(device, Outbound("meter-ds", Operation.SEN, bytes(3000))) == hint


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (response(Code.SERVICE_UNAVAILABLE, []), Pending(60.0)),
        (response(Code.SERVICE_UNAVAILABLE, [(Option.MAX_AGE, b"")]), Pending(1.0)),
        (
            response(Code.SERVICE_UNAVAILABLE, [(Option.MAX_AGE, b"\xff\xff\xff\xff")]),
            Pending(MAX_RETRY_AFTER),
        ),
        (response(Code.FORBIDDEN, [], b"text for people"), Problem(ProblemKind.NOT_ENTITLED)),
        (response(0xA2, []), Problem(ProblemKind.UNAVAILABLE)),
        (
            response(Code.FORBIDDEN, [(Option.CONTENT_FORMAT, b"\x01\x01")], b"\xff"),
            Problem(ProblemKind.NOT_ENTITLED),
        ),
        (
            response(
                Code.FORBIDDEN, [(Option.CONTENT_FORMAT, b"\x01\x01"), (Option.MAX_AGE, b"\x05")], b"\xa0"
            ),
            Problem(ProblemKind.UNAVAILABLE, "", 5.0),
        ),
    ],
    ids=["no Max-Age", "zero", "for ever", "text", "unknown code", "broken map", "foreign map"],
)
async def test_refusals_of_others_are_understood_as_far_as_they_go(
    answer: Callable[[Datagram], bytes], reply: Reply
) -> None:
    async with liar(answer) as uri, connect(uri) as device:
        assert await exchange(device) == reply


async def test_cancelling_leaves_nothing_behind_and_the_next_request_works() -> None:
    silent = True
    heard: list[Datagram] = []

    def answer(datagram: Datagram) -> bytes | None:
        heard.append(datagram)
        if silent:
            return None
        return response(Code.CHANGED, [(Option.CONTENT_FORMAT, b"\x12")], b"receipt")(datagram)

    async with liar(answer) as uri, connect(uri, retransmission=HASTY) as device:
        for _ in range(3):
            with anyio.move_on_after(0.02) as scope:
                await device.exchange(ENROLL)
            assert scope.cancelled_caught
        with anyio.CancelScope() as scope:
            scope.cancel()
            await device.exchange(ENROLL)
        silent = False
        known = len(heard)
        assert await exchange(device) == Content(b"receipt", Media.SIGN1)
        # What was cancelled is not repeated.
        assert len({datagram.mid for datagram in heard[known:]}) == 1
    gc.collect()


async def test_leaving_while_a_request_is_under_way_cancels_it() -> None:
    heard: list[Datagram] = []
    async with (
        liar(heard.append) as uri,
        connect(uri, retransmission=HASTY) as device,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(device.exchange, ENROLL)
        await until(lambda: heard)
        tasks.cancel_scope.cancel()
    gc.collect()


async def test_requests_at_the_same_time_wait_for_each_other_but_not_for_one_that_was_given_up() -> None:
    """NSTART is 1 (RFC 7252 §4.7)."""
    authority = Authority(gate=anyio.Event())
    async with authority.serve("lean") as server, connect(server.uris[0]) as device:
        async with anyio.create_task_group() as given_up:
            for _ in range(3):
                given_up.start_soon(device.exchange, ENROLL)
            await until(lambda: authority.heard)
            given_up.cancel_scope.cancel()
        assert authority.gate is not None
        authority.gate.set()
        with anyio.fail_after(1.0):
            assert await device.exchange(ENROLL) == Content(b"request", Media.C509_CERTIFICATE)


async def test_a_hundred_devices_in_one_process_each_have_their_answer() -> None:
    authority = Authority()
    async with authority.serve("lean") as server, AsyncExitStack() as stack:
        devices = [await stack.enter_async_context(connect(server.uris[0])) for _ in range(100)]
        replies: dict[int, Reply] = {}

        async def enroll(number: int) -> None:
            replies[number] = await devices[number].exchange(
                Outbound("meter-ds", Operation.SEN, b"%d" % number)
            )

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                for number in range(100):
                    tasks.start_soon(enroll, number)
    assert replies == {number: Content(b"%d" % number, Media.C509_CERTIFICATE) for number in range(100)}
    assert len({inbound.source for inbound in authority.heard}) == 100


async def test_requests_to_a_device_are_not_answered() -> None:
    heard: list[Datagram] = []

    def ask_back(datagram: Datagram) -> bytes:
        heard.append(datagram)
        return encode(
            Type.CON, Code.GET, 1, b"", [(Option.URI_PATH, b".well-known"), (Option.URI_PATH, b"core")]
        )

    async with liar(ask_back) as uri, connect(uri, retransmission=HASTY) as device:
        with pytest.raises(Unreachable):
            await exchange(device)
    await until(lambda: heard)
    assert {datagram.code for datagram in heard} == {Code.POST}


@pytest.mark.parametrize(
    "uri",
    [
        "coaps://a",
        "http://a",
        "a",
        "coap://",
        "coap://a/path",
        "coap://a?query",
        "coap://u@a",
        "coap://a:port",
        "coap://a:99999",
    ],
)
async def test_what_is_no_address_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match=r"coap|[Pp]ort"):
        async with connect(uri):
            pass


async def test_a_name_that_nobody_knows_is_unreachable() -> None:
    with pytest.raises(Unreachable, match=r"a\.\.b"):
        async with connect("coap://a..b"):
            pass


def test_patience_is_the_rfcs_maximum_transmit_wait() -> None:
    assert Retransmission().patience == 93.0
