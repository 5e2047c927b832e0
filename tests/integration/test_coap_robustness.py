"""What strangers may do to a server, and what it still does afterwards."""

import logging
import random
import socket

import anyio
import pytest
from aiocoap.numbers.contentformat import ContentFormat
from aiocoap.numbers.optionnumbers import OptionNumber

from constrained.server import Engine, Limits
from constrained.wire import Block, Code, Option, Type, encode
from tests.integration.coap_world import ENGINES, SEN, Authority, Peer, option, peer_of, seen, until

pytestmark = pytest.mark.parametrize("engine", ENGINES)

GOOD = encode(
    Type.CON,
    Code.POST,
    500,
    b"good",
    [*((Option.URI_PATH, part) for part in SEN), (Option.CONTENT_FORMAT, b"\x12"), (Option.BLOCK1, b"\x0e")],
    bytes(1024),
)


def mutant(chance: random.Random) -> bytes:
    """Return the good datagram, cut somewhere and with some bytes changed."""
    datagram = bytearray(GOOD[: chance.randrange(1, len(GOOD))])
    for _ in range(chance.randrange(6)):
        datagram[chance.randrange(len(datagram))] = chance.randrange(256)
    return bytes(datagram)


async def test_two_thousand_datagrams_of_any_kind_change_nothing(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(20)
    async with Authority().serve(engine) as server, peer_of(server) as honest:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.connect(server.addresses[0])
            stranger.setblocking(False)
            for number in range(2000):
                stranger.send(chance.randbytes(chance.randrange(64)) if number % 2 else mutant(chance))
                if number % 50 == 0:
                    assert (await honest.request(payload=b"%d" % number)).payload == b"%d" % number
        assert (await honest.request()).code == Code.CHANGED
    assert len(seen(caplog.records)) <= 3
    assert not any(record.exc_info for record in caplog.records)


async def test_a_datagram_longer_than_any_is_refused_and_not_taken_for_its_beginning(engine: Engine) -> None:
    authority = Authority()
    async with authority.serve(engine) as server, peer_of(server) as peer:
        answer = await peer.request(payload=bytes(20000))
        assert (answer.code, option(answer, Option.SIZE1)) == (Code.REQUEST_ENTITY_TOO_LARGE, 4096)
        # Neither where so much of it is options that what is left would pass for a body.
        answer = await peer.request(SEN, bytes(20000), *[(Option.URI_QUERY, bytes(250))] * 8)
        assert answer.code == Code.REQUEST_ENTITY_TOO_LARGE
        # The longest body there may be still passes in one datagram.
        assert (await peer.request(payload=bytes(4096))).code == Code.CHANGED
    assert [len(inbound.body) for inbound in authority.heard] == [4096]


async def test_an_upload_without_end_is_refused_at_the_limit(engine: Engine) -> None:
    authority = Authority()
    async with authority.serve(engine) as server, peer_of(server) as peer:
        for number in range(64):
            answer = await peer.request(SEN, bytes(64), (Option.BLOCK1, Block(number, True, 2).encode()))
            assert answer.code == Code.CONTINUE
        answer = await peer.request(SEN, bytes(64), (Option.BLOCK1, Block(64, True, 2).encode()))
        assert answer.code == Code.REQUEST_ENTITY_TOO_LARGE
        # Nothing is left of it.
        answer = await peer.request(SEN, bytes(64), (Option.BLOCK1, Block(65, False, 2).encode()))
        assert answer.code == Code.REQUEST_ENTITY_INCOMPLETE
    assert not authority.heard


async def test_a_gap_between_blocks_is_incomplete(engine: Engine) -> None:
    async with Authority().serve(engine) as server, peer_of(server) as peer:
        await peer.request(SEN, bytes(64), (Option.BLOCK1, Block(0, True, 2).encode()))
        answer = await peer.request(SEN, bytes(64), (Option.BLOCK1, Block(2, False, 2).encode()))
    assert answer.code == Code.REQUEST_ENTITY_INCOMPLETE


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([(1, b"etag")], Code.BAD_OPTION),
        ([(5, b"")], Code.BAD_OPTION),
        ([(9, b"\x09\x00")], Code.BAD_OPTION),
        ([(65001, b"?")], Code.BAD_OPTION),
        ([(Option.ACCEPT, b"12345678")], Code.BAD_OPTION),
        ([(Option.BLOCK1, b"\x08"), (Option.BLOCK1, b"\x18")], Code.BAD_OPTION),
        ([(Option.BLOCK1, b"\x07")], Code.BAD_REQUEST),
        ([(Option.BLOCK2, b"\x07")], Code.BAD_REQUEST),
        ([(Option.PROXY_URI, b"coap://elsewhere/")], Code.PROXYING_NOT_SUPPORTED),
        ([(Option.URI_PATH, b"\xff\xfe")], Code.NOT_FOUND),
        ([(Option.ACCEPT, b"\xff\xff")], Code.NOT_ACCEPTABLE),
        ([(Option.CONTENT_FORMAT, b"\x01\x1e")], Code.UNSUPPORTED_CONTENT_FORMAT),
        ([(65000, b"elective")], Code.CHANGED),
        ([(6, b"")], Code.CHANGED),
    ],
    ids=[
        "If-Match",
        "If-None-Match",
        "OSCORE",
        "unknown critical",
        "Accept too long",
        "two blocks",
        "reserved Block1",
        "reserved Block2",
        "Proxy-Uri",
        "path not UTF-8",
        "unknown Accept",
        "PKCS#10",
        "unknown elective",
        "Observe",
    ],
)
async def test_wrong_options_get_the_code_they_ask_for(
    engine: Engine, options: list[tuple[int, bytes]], code: Code
) -> None:
    async with Authority().serve(engine) as server, peer_of(server) as peer:
        answer = await peer.request(SEN, b"request", *options)
    assert answer.code == code


@pytest.mark.parametrize("code", [4, 9, 31])
async def test_methods_that_do_not_exist_are_not_allowed(engine: Engine, code: int) -> None:
    async with Authority().serve(engine) as server, peer_of(server) as peer:
        assert (await peer.request(SEN, b"", code=code)).code == Code.METHOD_NOT_ALLOWED


async def test_answers_that_nobody_asked_for_are_reset_or_passed_over(engine: Engine) -> None:
    async with Authority().serve(engine) as server, peer_of(server) as peer:
        await peer.send(encode(Type.CON, Code.CONTENT, 1, b"t", (), b"forged"))
        assert (await peer.receive())[:3] == (Type.RST, Code.EMPTY, 1)
        for kind in (Type.NON, Type.ACK, Type.RST):
            await peer.send(encode(kind, Code.CONTENT, 2, b"t", (), b"forged"))
            await peer.send(encode(kind, Code.EMPTY, 3, b""))
        assert (await peer.request()).code == Code.CHANGED


async def test_numbers_that_strangers_make_up_are_not_remembered(engine: Engine) -> None:
    """aiocoap 0.4.17 keeps every option and format number that it decodes."""
    async with Authority().serve(engine) as server, peer_of(server) as peer:
        await peer.request()
        before = len(ContentFormat._value2member_map_), len(OptionNumber._value2member_map_)
        for number in range(200):
            await peer.request(SEN, b"", (Option.ACCEPT, (30000 + number).to_bytes(2)))
            await peer.request(SEN, b"", (20000 + number, b"?"))
        after = len(ContentFormat._value2member_map_), len(OptionNumber._value2member_map_)
    assert after == before


async def test_memory_of_exchanges_has_an_end(engine: Engine) -> None:
    authority = Authority()
    async with authority.serve(engine, limits=Limits(exchanges=4)) as server, peer_of(server) as peer:
        first = encode(
            Type.CON,
            Code.POST,
            0x7000,
            b"first",
            [*((Option.URI_PATH, part) for part in SEN), (Option.CONTENT_FORMAT, b"\x12")],
            b"first",
        )
        await peer.send(first)
        await peer.receive()
        for _ in range(4):
            await peer.request()
        await peer.send(first)
        assert (await peer.receive()).payload == b"first"
    # It was forgotten, and so asked again.
    assert [inbound.body for inbound in authority.heard].count(b"first") == 2


async def test_one_peers_closed_port_costs_another_no_answer(engine: Engine) -> None:
    """With IPV6_RECVERR, Linux reports the first one's ICMP error instead of sending to the second."""
    async with Authority(delay=0.002).serve(engine) as server, peer_of(server) as honest:
        for mid in range(20):
            options = [*((Option.URI_PATH, part) for part in SEN), (Option.CONTENT_FORMAT, b"\x12")]
            await honest.send(encode(Type.CON, Code.POST, mid, b"t", options))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
                gone.connect(server.addresses[0])
                for ping in range(100):
                    gone.send(encode(Type.CON, Code.EMPTY, ping, b""))
            assert (await honest.receive()).code == Code.CHANGED


async def test_a_separate_answer_does_not_wait_for_the_acknowledgement_of_another(engine: Engine) -> None:
    authority = Authority(gate=anyio.Event())
    async with authority.serve(engine) as server, peer_of(server) as peer:
        for body in (b"one", b"two", b"three"):
            assert (await peer.request(payload=body)).code == Code.EMPTY
        assert authority.gate is not None
        authority.gate.set()
        with anyio.fail_after(1.0):
            assert {(await peer.receive()).payload for _ in range(3)} == {b"one", b"two", b"three"}


async def test_separate_answers_that_nobody_acknowledges_do_not_pile_up(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    authority = Authority(gate=anyio.Event())
    limits = Limits(unacknowledged=1)
    async with (
        authority.serve(engine, limits=limits) as server,
        peer_of(server) as one,
        peer_of(server) as two,
    ):
        for peer in (one, two):
            assert (await peer.request()).code == Code.EMPTY
        assert authority.gate is not None
        authority.gate.set()
        kinds = [(await peer.receive()).type for peer in (one, two)]
        assert sorted(kinds) == [Type.CON, Type.NON]
        # The one that did not acknowledge is served as if nothing were.
        assert (await one.request()).code == Code.CHANGED


async def test_a_used_token_gives_the_earlier_request_up_or_answers_both(engine: Engine) -> None:
    authority = Authority(gate=anyio.Event())
    async with authority.serve(engine) as server, peer_of(server) as peer:
        assert (await peer.request(payload=b"one", token=b"same")).code == Code.EMPTY
        assert (await peer.request(payload=b"two", token=b"same")).code == Code.EMPTY
        assert authority.gate is not None
        authority.gate.set()
        answers = {(await peer.receive()).payload}
        if engine == "lean":
            answers.add((await peer.receive()).payload)
    assert b"two" in answers


async def test_a_flood_from_one_peer_leaves_another_served(engine: Engine) -> None:
    async with Authority().serve(engine) as server, peer_of(server) as honest, peer_of(server) as flooder:
        await flood(flooder)
        assert (await honest.request()).code == Code.CHANGED


async def test_one_source_takes_its_share_of_the_work_and_no_more(engine: Engine) -> None:
    authority = Authority(gate=anyio.Event())
    limits = Limits(in_work=20, in_work_of_source=10)
    async with (
        authority.serve(engine, limits=limits) as server,
        peer_of(server, "127.0.0.2") as greedy,
        peer_of(server, "127.0.0.2") as neighbour,
        peer_of(server, "127.0.0.3") as other,
    ):
        await flood(greedy, 100)
        await until(lambda: len(authority.heard) == 10)
        # Ports cost nothing: another one of the same host has no share of its own.
        assert (await neighbour.request()).code == Code.SERVICE_UNAVAILABLE
        await flood(other, 5)
        await until(lambda: len(authority.heard) == 15)
        assert authority.gate is not None
        authority.gate.set()
        for _ in range(5):
            assert (await other.receive()).code == Code.CHANGED
        # What is done takes no share any more.
        assert (await neighbour.request()).code == Code.CHANGED


async def flood(peer: Peer, size: int = 300) -> None:
    for mid in range(size):
        options = [*((Option.URI_PATH, part) for part in SEN), (Option.CONTENT_FORMAT, b"\x12")]
        await peer.send(encode(Type.NON, Code.POST, mid, mid.to_bytes(2), options, bytes(100)))
