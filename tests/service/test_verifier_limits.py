"""Full queues, bad sources, outages, the end."""

import logging
import os
from dataclasses import replace

import anyio
import pytest

from agents.verifier import VerifiedMessage
from protocol.errors import ProblemKind
from protocol.ports import InboundMessage
from protocol.problem import Problem
from tests.verifier_world import World, forged, kind_of


@pytest.fixture
def world() -> World:
    return World()


async def test_a_full_queue_refuses_with_a_time_to_come_back(world: World) -> None:
    device = world.device()
    world.gate = anyio.Event()
    async with world.open(max_queued=10) as verifier:
        problems = [await verifier.handle(device.inbound(counter)) for counter in range(300)]
        refused = [problem for problem in problems if problem is not None]
        world.gate.set()
    assert refused
    assert {problem.kind for problem in refused} == {ProblemKind.OVERLOADED}
    assert all(problem.retry_after for problem in refused)
    assert len(world.published) == 300 - len(refused), "what was taken is published"


async def test_a_source_of_bad_signatures_is_shut_out_and_its_victim_is_not(world: World) -> None:
    victim = world.device()
    async with world.open() as verifier:
        for counter in range(400):
            data = forged(victim.message(counter))
            await verifier.handle(victim.inbound(counter, data=data, source="coap:203.0.113.9:1"))
            await anyio.lowlevel.checkpoint()
        problem = await verifier.verify(victim.inbound(1, source="coap:203.0.113.9:1"))
        assert kind_of(problem) is ProblemKind.OVERLOADED
        assert isinstance(problem, Problem)
        assert problem.retry_after is not None
        assert 0 < problem.retry_after <= 10
        assert isinstance(await verifier.verify(victim.inbound(1)), VerifiedMessage)
    assert verifier.stats.shut_out == 1


async def test_unknown_names_are_charged_too(world: World) -> None:
    device = world.device()
    async with world.open() as verifier:
        for _ in range(150):
            stranger = replace(device, thumbprint=os.urandom(8))
            await verifier.handle(stranger.inbound(1))
        assert kind_of(await verifier.handle(device.inbound(1))) is ProblemKind.OVERLOADED
    assert len(world.questions) < 110


async def test_an_outage_of_the_store_is_temporary(world: World) -> None:
    device = world.device()
    async with world.open() as verifier:
        await verifier.verify(device.inbound(1))
        world.is_down = True
        await verifier.refresh()  # nobody can tell what was revoked, so nothing is trusted any more
        problem = await verifier.verify(device.inbound(2))
        assert kind_of(problem) is ProblemKind.UNAVAILABLE
        world.is_down = False
        assert isinstance(await verifier.verify(device.inbound(2)), VerifiedMessage)


async def test_an_outage_of_the_broker_loses_a_message_and_counts_it(world: World) -> None:
    device = world.device()
    world.is_broker_down = True
    async with world.open() as verifier:
        await verifier.verify(device.inbound(1))
        world.is_broker_down = False
        await verifier.verify(device.inbound(2))
    assert verifier.stats.unpublished == 1
    assert [item[1] for _, item in world.published] == [2]


async def test_what_was_taken_is_settled_before_the_end(world: World) -> None:
    device = world.device()
    async with world.open() as verifier:
        for counter in range(300):
            await verifier.handle(device.inbound(counter))
    assert len(world.published) == 300
    assert kind_of(await verifier.handle(device.inbound(301))) is ProblemKind.UNAVAILABLE


async def test_a_cancelled_body_still_saves_counters_and_publishes(world: World) -> None:
    device = world.device()
    with anyio.CancelScope() as scope:
        async with world.open() as verifier:
            for counter in range(100):
                await verifier.handle(device.inbound(counter))
            scope.cancel()
            await anyio.sleep_forever()
    assert len(world.published) == 100
    assert world.counters == {device.record.ref: 99}


async def test_a_cancelled_caller_leaves_its_batch_alone(world: World) -> None:
    device = world.device()
    async with world.open() as verifier:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await verifier.verify(device.inbound(1))
        assert isinstance(await verifier.verify(device.inbound(2)), VerifiedMessage)


async def test_an_error_of_the_body_is_not_in_a_group(world: World) -> None:
    with pytest.raises(KeyError):
        async with world.open():
            raise KeyError


async def test_a_refusal_is_one_log_line_and_a_flood_is_not_written_down(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stranger = World().device()
    async with world.open() as verifier:
        await verifier.handle(stranger.inbound(1))
        lines = [record for record in caplog.records if record.message == "message refused"]
        assert len(lines) == 1
        assert vars(lines[0])["why"] == "unknown_signer"
        assert vars(lines[0])["source"] == "coap:192.0.2.1:5683"
        for _ in range(1000):
            await verifier.handle(InboundMessage("readings", b"noise", "coap:192.0.2.1:1"))
    assert len(caplog.records) < 100
    assert verifier.stats.refused[ProblemKind.MALFORMED] == 1000


async def test_counts_can_be_written_as_json(world: World) -> None:
    device = world.device()
    async with world.open() as verifier:
        await verifier.verify(device.inbound(1))
        await verifier.verify(device.inbound(1))
    counts = verifier.stats.as_dict()
    assert counts["verified"] == 1
    assert counts["refused"] == {"stale_message": 1}
