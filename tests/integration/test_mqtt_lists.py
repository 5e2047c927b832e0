"""Revocation lists over every broker: as long as they like, in the form that is asked for, or what is new."""

from dataclasses import dataclass, field

import anyio
import pytest

from broker.parts import MAX_PART, Ask, collect
from protocol import cbor
from protocol.errors import MalformedMessage, ProblemKind, Unreachable
from protocol.labels import Operation
from protocol.ports import Content, Inbound, Media, Outbound, Reply
from protocol.problem import Problem
from tests.integration.mqtt_world import Certificates, certificates, never_blocking
from tests.integration.test_mqtt_exchange import OpenWorld, every_broker, scene

__all__ = ["certificates", "never_blocking"]

CRL = Outbound("meter-ds", Operation.CRL)
LONG = bytes(range(256)) * 4000
"""A megabyte."""


@dataclass
class Lists:
    """An authority that gives out `bodies` in turn."""

    bodies: list[bytes]
    asked: list[Inbound] = field(default_factory=list)

    async def handle(self, inbound: Inbound) -> Reply:
        self.asked.append(inbound)
        body = self.bodies[min(len(self.asked), len(self.bodies)) - 1]
        return Content(body, inbound.accept or Media.PKIX_CRL, body[:8])


@every_broker
async def test_a_list_of_a_megabyte_arrives_in_parts(
    open_world: OpenWorld, certificates: Certificates
) -> None:
    lists = Lists([LONG])
    async with (
        scene(open_world, certificates, lists.handle) as (world, service, _),
        world.device("54524C0000000001") as device,
    ):
        with anyio.fail_after(30):
            reply = await device.exchange(CRL)
        assert service.counters.connections == 1
    assert reply == Content(LONG, Media.PKIX_CRL, LONG[:8])
    assert len(lists.asked) == -(-len(LONG) // MAX_PART)
    assert set(map(repr, lists.asked)) == {
        repr(Inbound("meter-ds", Operation.CRL, b"", "mqtt:alice", Media.PKIX_CRL))
    }


@every_broker
async def test_form_and_base_reach_the_authority(open_world: OpenWorld, certificates: Certificates) -> None:
    lists = Lists([b"a delta of few bytes"])
    async with (
        scene(open_world, certificates, lists.handle) as (world, _, _),
        world.device("54524C0000000001") as device,
    ):
        reply = await device.exchange(
            Outbound("meter-ds", Operation.CRL, accept=Media.C509_CRL, base=2**63 - 1)
        )
    assert reply == Content(b"a delta of few bytes", Media.C509_CRL, b"a delta ")
    (asked,) = lists.asked
    assert (asked.accept, asked.base) == (Media.C509_CRL, 2**63 - 1)


def asker(lists: Lists) -> object:
    """Return the service's side without a broker."""

    async def ask_once(request: Outbound) -> Reply:
        ask = Ask.decode(request.body)
        whole = await lists.handle(Inbound("meter-ds", Operation.CRL, b"", "mqtt:x", ask.media, ask.base))
        assert isinstance(whole, Content)
        return ask.cut(whole)

    return ask_once


async def test_a_list_that_changes_while_it_is_read_is_begun_anew() -> None:
    lists = Lists([b"older...12345", b"newer...67890"])
    reply = await collect(CRL, asker(lists), length=5)  # type: ignore[arg-type]
    assert reply == Content(b"newer...67890", Media.PKIX_CRL, b"newer...")


async def test_a_list_that_never_stays_the_same_is_given_up() -> None:
    lists = Lists([b"%08d and more" % number for number in range(20)])
    with pytest.raises(Unreachable, match="changed"):
        await collect(CRL, asker(lists), length=10)  # type: ignore[arg-type]
    assert len(lists.asked) == 6


async def test_a_refusal_ends_the_collection() -> None:
    async def refuse(_: Outbound) -> Reply:
        return Problem(ProblemKind.NOT_FOUND)

    assert await collect(CRL, refuse) == Problem(ProblemKind.NOT_FOUND)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"list",
        cbor.encode([b"etag", 5, b"abcd"]),
        cbor.encode([b"etag", 2, b"abcd"]),
        cbor.encode([b"etag", 2**40, b"abcd"]),
        cbor.encode([b"etag", 0, b""]),
        cbor.encode(["etag", 4, b"abcd"]),
        cbor.encode([b"etag", 4, "abcd"]),
    ],
)
async def test_a_part_that_cannot_be_one_ends_it_too(body: bytes) -> None:
    async def answer(_: Outbound) -> Reply:
        return Content(body, Media.PKIX_CRL)

    with pytest.raises(Unreachable):
        await collect(CRL, answer)


@pytest.mark.parametrize(
    "items",
    [
        [],
        [0, None, 0],
        [2, None, 0, 1],
        [-1, None, 0, 1],
        [True, None, 0, 1],
        [0, 0, 0, 1],
        [0, -1, 0, 1],
        [0, 2**63, 0, 1],
        [0, None, -1, 1],
        [0, None, 2**40, 1],
        [0, None, 0, 0],
        [0, None, b"", 1],
        [0, None, 0, 1, 0],
    ],
)
def test_what_is_no_ask_is_malformed(items: list[object]) -> None:
    with pytest.raises(MalformedMessage):
        Ask.decode(cbor.encode(items))


def test_nobody_gets_more_in_a_part_than_a_broker_takes() -> None:
    ask = Ask.decode(cbor.encode([0, None, 0, 2**40]))
    assert ask.length == MAX_PART
    assert len(ask.cut(Content(LONG, Media.PKIX_CRL)).body) < 64 * 1024
