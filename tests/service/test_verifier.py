import os
from dataclasses import replace
from typing import Any

import anyio
import pytest

from agents.verifier import VerifiedMessage, open_verifier
from protocol import cbor
from protocol.cose import Algorithm
from protocol.errors import ProblemKind
from protocol.exchange.facts import CertificateState
from protocol.ports import InboundMessage
from tests.verifier_world import NOW, World, forged, kind_of


@pytest.fixture
def world() -> World:
    return World()


async def test_a_good_message_is_republished_with_the_device_name(world: World) -> None:
    device = world.device()
    async with world.open() as verifier:
        message = device.message(7, body=b"42 kWh", time=NOW)
        assert await verifier.handle(device.inbound(7, data=message)) is None
    assert world.published == [("readings", [device.record.device, 7, NOW, b"42 kWh"])]
    assert verifier.stats.verified == verifier.stats.accepted == 1


async def test_a_caller_in_the_same_process_gets_the_verdict(world: World) -> None:
    device = world.device()
    async with world.open() as verifier:
        good = await verifier.verify(device.inbound(1))
        bad = await verifier.verify(device.inbound(2, data=forged(device.message(2))))
    record = device.record
    assert good == VerifiedMessage(
        record.device, record.client_id, record.ref, "readings", 1, None, b"reading", record.label
    )
    assert kind_of(bad) is ProblemKind.BAD_SIGNATURE


@pytest.mark.parametrize("algorithm", Algorithm)
async def test_every_algorithm_is_verified(world: World, algorithm: Algorithm) -> None:
    device = world.device(algorithm=algorithm)
    async with world.open() as verifier:
        assert isinstance(await verifier.verify(device.inbound(1)), VerifiedMessage)
        verdict = await verifier.verify(device.inbound(2, data=forged(device.message(2))))
        assert kind_of(verdict) is ProblemKind.BAD_SIGNATURE


async def test_messages_of_a_device_keep_their_order(world: World) -> None:
    devices = [world.device(number) for number in range(1, 4)]
    async with world.open() as verifier:
        for counter in range(150):
            for device in devices:
                assert await verifier.handle(device.inbound(counter)) is None
    for device in devices:
        mine = [item[1] for _, item in world.published if item[0] == device.record.device]
        assert mine == list(range(150))
    assert verifier.stats.batches < 450 / 8, "waiting messages share thread hops"


async def test_devices_do_not_wait_for_each_others_acknowledgements(world: World) -> None:
    devices = [world.device(number) for number in range(1, 40)]
    waiting: set[object] = set()
    is_enough = anyio.Event()

    async def publish(_stream: str, payload: bytes) -> None:
        device = cbor.decode_array(payload, 4)[0]
        assert device not in waiting, "one device's messages go out one after the other"
        waiting.add(device)
        if len(waiting) >= 8:
            is_enough.set()
        await is_enough.wait()
        await anyio.lowlevel.checkpoint()
        waiting.remove(device)

    async with open_verifier(world, publish, clock=lambda: NOW, threads=2) as verifier:
        # A first one each, so that the signers are known; then all at once.
        is_enough.set()
        for device in devices:
            await verifier.verify(device.inbound(0))
        is_enough = anyio.Event()
        for counter in range(1, 4):
            for device in devices:
                await verifier.handle(device.inbound(counter))
        with anyio.fail_after(5):
            await is_enough.wait()
    assert verifier.stats.verified == 4 * len(devices)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"state": CertificateState.REVOKED}, ProblemKind.SIGNER_REVOKED),
        ({"state": CertificateState.SUPERSEDED}, ProblemKind.SIGNER_SUPERSEDED),
        ({"state": CertificateState.VOID}, ProblemKind.SIGNER_SUPERSEDED),
        ({"not_before": NOW + 1}, ProblemKind.SIGNER_NOT_YET_VALID),
        ({"not_after": NOW - 1}, ProblemKind.SIGNER_EXPIRED),
        ({"label": "meter-ka"}, ProblemKind.WRONG_SIGNER),
        ({"label": "meter-boot"}, ProblemKind.WRONG_SIGNER),
        # Its key can sign, and is for TLS.
        ({"label": "meter-tls"}, ProblemKind.WRONG_SIGNER),
        ({"label": "no-such-label"}, ProblemKind.WRONG_SIGNER),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else value.name,
)
async def test_who_may_not_sign_is_told_at_once(
    world: World, fields: dict[str, Any], kind: ProblemKind
) -> None:
    device = world.device(**fields)
    async with world.open() as verifier:
        problem = await verifier.handle(device.inbound(1))
    assert kind_of(problem) is kind
    assert world.published == []
    assert verifier.stats.refused == {kind: 1}


async def test_a_key_signs_with_its_own_algorithm_only(world: World) -> None:
    device, other = world.device(1), world.device(2, algorithm=Algorithm.EDDSA)
    record = replace(device.record, algorithm=Algorithm.EDDSA, public_key=other.record.public_key)
    world.add(device.thumbprint, record)
    async with world.open() as verifier:
        assert kind_of(await verifier.handle(device.inbound(1))) is ProblemKind.BAD_SIGNATURE


async def test_a_record_with_a_key_that_is_none_harms_nobody_else(world: World) -> None:
    bad, good = world.device(1, public_key=b"\x02" + b"\xff" * 32), world.device(2)
    async with world.open() as verifier:
        assert kind_of(await verifier.handle(bad.inbound(1))) is ProblemKind.UNKNOWN_SIGNER
        assert isinstance(await verifier.verify(good.inbound(1)), VerifiedMessage)


async def test_a_certificate_without_end_is_good(world: World) -> None:
    device = world.device(not_after=None)
    async with world.open(now=NOW * 2) as verifier:
        assert isinstance(await verifier.verify(device.inbound(1)), VerifiedMessage)


async def test_an_unknown_signer_is_told_so(world: World) -> None:
    stranger = World().device()
    async with world.open() as verifier:
        assert kind_of(await verifier.handle(stranger.inbound(1))) is ProblemKind.UNKNOWN_SIGNER


async def test_a_signer_that_becomes_known_is_taken_at_once(world: World) -> None:
    elsewhere = World()
    device = elsewhere.device()
    async with world.open() as verifier:
        assert kind_of(await verifier.verify(device.inbound(1))) is ProblemKind.UNKNOWN_SIGNER
        world.add(device.thumbprint, device.record)
        assert isinstance(await verifier.verify(device.inbound(1)), VerifiedMessage)


async def test_the_topic_must_be_the_signers_own(world: World) -> None:
    device, other = world.device(1), world.device(2)
    async with world.open() as verifier:
        own = await verifier.verify(device.inbound(1, client_id=device.record.client_id))
        foreign = await verifier.verify(device.inbound(2, client_id=other.record.client_id))
    assert isinstance(own, VerifiedMessage)
    assert kind_of(foreign) is ProblemKind.WRONG_CLIENT


async def test_a_message_of_one_stream_is_none_of_another(world: World) -> None:
    device = world.device()
    async with world.open() as verifier:
        inbound = device.inbound(1, data=device.message(1, stream="alarms"), stream="readings")
        assert kind_of(await verifier.verify(inbound)) is ProblemKind.BAD_SIGNATURE


@pytest.mark.parametrize("data", [b"\x00", b"\x84", os.urandom(200), b"\x40" * 5000])
async def test_what_is_no_message_is_malformed(world: World, data: bytes) -> None:
    async with world.open() as verifier:
        inbound = InboundMessage("readings", data, "coap:192.0.2.1:1")
        assert kind_of(await verifier.handle(inbound)) is ProblemKind.MALFORMED


async def test_a_stream_that_is_none_is_malformed(world: World) -> None:
    device = world.device()
    async with world.open() as verifier:
        inbound = replace(device.inbound(1), stream="Not A Stream")
        assert kind_of(await verifier.handle(inbound)) is ProblemKind.MALFORMED
