"""Counters, revocation, activation and alarms."""

import anyio
import pytest

from agents.verifier import VerifiedMessage
from agents.verifier.outlet import MAX_OUTGOING
from protocol.cose import decode_sign1
from protocol.errors import ProblemKind
from protocol.exchange.facts import CertificateState
from protocol.problem import Problem
from tests.verifier_world import N, World, forged, kind_of


@pytest.fixture
def world() -> World:
    return World()


async def test_a_repeat_is_stale_and_published_once(world: World) -> None:
    device = world.device()
    async with world.open() as verifier:
        assert isinstance(await verifier.verify(device.inbound(5)), VerifiedMessage)
        assert kind_of(await verifier.handle(device.inbound(5))) is ProblemKind.STALE_MESSAGE
    assert len(world.published) == 1


async def test_twins_on_their_way_together_are_published_once(world: World) -> None:
    device = world.device()
    async with world.open() as verifier:
        for _ in range(100):
            assert await verifier.handle(device.inbound(5)) is None
    assert len(world.published) == 1
    assert verifier.stats.refused == {ProblemKind.STALE_MESSAGE: 99}


async def test_the_other_signature_of_the_same_message_is_a_repeat(world: World) -> None:
    # (r, n-s) verifies as well as (r, s); it must not make a second message.
    device = world.device()
    data = device.message(5)
    s = int.from_bytes(data[-32:], "big")
    flipped = data[:-32] + (N - s).to_bytes(32, "big")
    assert decode_sign1(flipped).payload == decode_sign1(data).payload
    async with world.open() as verifier:
        assert isinstance(await verifier.verify(device.inbound(5, data=data)), VerifiedMessage)
        verdict = await verifier.verify(device.inbound(5, data=flipped))
    assert kind_of(verdict) is ProblemKind.STALE_MESSAGE


async def test_messages_may_overtake_each_other(world: World) -> None:
    device = world.device()
    async with world.open() as verifier:
        for counter in (10, 8, 9, 200, 100):
            assert isinstance(await verifier.verify(device.inbound(counter)), VerifiedMessage)
        assert kind_of(await verifier.verify(device.inbound(11))) is ProblemKind.STALE_MESSAGE


async def test_a_forged_message_uses_no_counter_up(world: World) -> None:
    device = world.device()
    async with world.open() as verifier:
        await verifier.verify(device.inbound(2**62, data=forged(device.message(2**62))))
        assert isinstance(await verifier.verify(device.inbound(1)), VerifiedMessage)


async def test_counters_survive_a_restart(world: World) -> None:
    device = world.device()
    async with world.open() as verifier:
        for counter in (3, 9):
            await verifier.verify(device.inbound(counter))
    assert world.counters == {device.record.ref: 9}
    async with world.open() as verifier:
        for counter in (3, 8, 9):
            assert kind_of(await verifier.verify(device.inbound(counter))) is ProblemKind.STALE_MESSAGE
        assert isinstance(await verifier.verify(device.inbound(10)), VerifiedMessage)


async def test_counters_that_could_not_be_saved_are_saved_later(world: World) -> None:
    device = world.device()
    async with world.open() as verifier:
        await verifier.verify(device.inbound(4))
        world.is_down = True
        with anyio.fail_after(5):
            await world.save_was_tried.wait()
        world.is_down = False
    assert world.counters == {device.record.ref: 4}


async def test_a_revocation_counts_at_the_next_poll(world: World) -> None:
    device = world.device()
    async with world.open() as verifier:
        await verifier.verify(device.inbound(1))
        world.end(device.record.ref, CertificateState.REVOKED)
        with anyio.fail_after(1):
            counter = 2
            while not isinstance(verdict := await verifier.verify(device.inbound(counter)), Problem):
                counter += 1
                await anyio.sleep(0.02)
    assert verdict.kind is ProblemKind.SIGNER_REVOKED


async def test_a_revocation_counts_for_messages_already_taken(world: World) -> None:
    device = world.device()
    async with world.open() as verifier:
        await verifier.verify(device.inbound(1))
        world.gate = anyio.Event()
        for counter in range(2, 2002):
            await verifier.handle(device.inbound(counter))
        world.end(device.record.ref, CertificateState.REVOKED)
        await verifier.refresh()
        world.gate.set()
    # What was verified before the revocation may still go out; what waited for a thread may not.
    assert len(world.published) <= 1 + MAX_OUTGOING
    assert verifier.stats.refused[ProblemKind.SIGNER_REVOKED] >= 2000 - MAX_OUTGOING


async def test_signers_are_looked_up_once(world: World) -> None:
    devices = [world.device(number) for number in range(1, 20)]
    async with world.open() as verifier:
        async with anyio.create_task_group() as tasks:
            for device in devices:
                for counter in range(3):
                    tasks.start_soon(verifier.handle, device.inbound(counter))
        for device in devices:
            await verifier.handle(device.inbound(3))
    asked = [thumbprint for question in world.questions for thumbprint in question]
    assert len(asked) == len(devices)
    assert len(world.questions) <= 2, "who waits together asks together"
    assert verifier.stats.verified == 4 * len(devices)


async def test_the_first_good_message_makes_a_pending_certificate_current(world: World) -> None:
    device = world.device(state=CertificateState.PENDING)
    async with world.open() as verifier:
        await verifier.verify(device.inbound(1, data=forged(device.message(1))))
        assert world.activations == []
        for counter in range(2, 5):
            assert isinstance(await verifier.verify(device.inbound(counter)), VerifiedMessage)
    assert world.activations == [device.record.ref]
    assert world.state(device.record.ref) is CertificateState.CURRENT
    assert verifier.stats.activated == 1


async def test_a_pending_certificate_whose_parent_ended_stays_dead(world: World) -> None:
    device = world.device(state=CertificateState.PENDING)
    world.can_activate = False
    async with world.open() as verifier:
        assert kind_of(await verifier.verify(device.inbound(1))) is ProblemKind.SIGNER_SUPERSEDED
    assert world.published == []


async def test_a_retired_key_in_use_raises_one_alarm(world: World) -> None:
    device = world.device(state=CertificateState.SUPERSEDED)
    async with world.open() as verifier:
        for counter in range(3):
            assert kind_of(await verifier.handle(device.inbound(counter))) is ProblemKind.SIGNER_SUPERSEDED
    assert [ref for ref, _ in world.alarms] == [device.record.ref]
    assert world.published == []


async def test_who_only_names_a_retired_certificate_raises_no_alarm(world: World) -> None:
    device = world.device(state=CertificateState.SUPERSEDED)
    async with world.open() as verifier:
        await verifier.handle(device.inbound(1, data=forged(device.message(1))))
    assert world.alarms == []
