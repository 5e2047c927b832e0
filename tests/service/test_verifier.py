import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio
import pytest

from agents.keys import SoftwareSigner, generate
from agents.verifier import VerifiedMessage, Verifier, open_verifier
from agents.verifier.memory import MemorySigners
from agents.verifier.outlet import MAX_OUTGOING
from protocol import cbor
from protocol.cose import Algorithm, decode_sign1
from protocol.errors import ProblemKind, ServiceError
from protocol.exchange.facts import CertificateRef, CertificateState, SignerRecord
from protocol.labels import Domain
from protocol.message import sign_message
from protocol.ports import InboundMessage
from protocol.problem import Problem

NOW = 1_800_000_000
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass
class Device:
    """A meter with one key, and what the store knows of its certificate."""

    signer: SoftwareSigner
    thumbprint: bytes
    record: SignerRecord

    def message(
        self, counter: int, *, body: bytes = b"reading", stream: str = "readings", time: int | None = None
    ) -> bytes:
        return sign_message(self.signer, self.thumbprint, stream, body, counter=counter, time=time)

    def inbound(
        self,
        counter: int,
        *,
        data: bytes | None = None,
        source: str = "coap:192.0.2.1:5683",
        client_id: str | None = None,
        stream: str = "readings",
    ) -> InboundMessage:
        return InboundMessage(stream, data or self.message(counter, stream=stream), source, client_id)


class World(MemorySigners):
    """A store in memory, a broker that keeps what it is given, and faults on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[tuple[str, list[object]]] = []
        self.is_down = False
        self.is_broker_down = False
        self.activations: list[CertificateRef] = []
        self.can_activate = True
        self.gate = anyio.Event()
        self.gate.set()
        self.save_was_tried = anyio.Event()

    def device(self, number: int = 1, *, algorithm: Algorithm = Algorithm.ES256, **fields: object) -> Device:
        signer = SoftwareSigner(generate(algorithm))
        record = SignerRecord(
            ref=CertificateRef(bytes(32), number.to_bytes(8, "big")),
            device=f"{number:016X}",
            client_id=f"client-{number}",
            domain=Domain.METERING,
            label="meter-ds",
            state=CertificateState.CURRENT,
            not_before=NOW - 1000,
            not_after=NOW + 1000,
            algorithm=algorithm,
            public_key=signer.public_key,
            certificate=b"",
        )
        device = Device(signer, os.urandom(8), replace(record, **fields))  # type: ignore[arg-type]  # test's own names
        self.add(device.thumbprint, device.record)
        return device

    def _check(self) -> None:
        if self.is_down:
            raise ServiceError("the store is down")

    async def lookup(self, thumbprints: Sequence[bytes]) -> Mapping[bytes, SignerRecord | None]:
        self._check()
        return await super().lookup(thumbprints)

    async def revision(self) -> int:
        self._check()
        return await super().revision()

    async def activate(self, ref: CertificateRef) -> bool:
        self._check()
        self.activations.append(ref)
        return self.can_activate and await super().activate(ref)

    async def save_counters(self, counters: Mapping[CertificateRef, int]) -> None:
        self.save_was_tried.set()
        self._check()
        await super().save_counters(counters)

    async def publish(self, stream: str, payload: bytes) -> None:
        await self.gate.wait()
        if self.is_broker_down:
            raise ServiceError("the broker is down")
        self.published.append((stream, cbor.decode_array(payload, 4)))

    @asynccontextmanager
    async def open(self, *, now: float = NOW, max_queued: int = 4096) -> AsyncIterator[Verifier]:
        async with open_verifier(
            self, self.publish, clock=lambda: now, threads=2, max_queued=max_queued
        ) as verifier:
            yield verifier


@pytest.fixture
def world() -> World:
    return World()


def forged(data: bytes) -> bytes:
    """The same message with one bit of its signature flipped."""
    return data[:-1] + bytes([data[-1] ^ 1])


def kind_of(verdict: object) -> ProblemKind:
    assert isinstance(verdict, Problem), verdict
    return verdict.kind


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
        record.device, record.client_id, record.ref, "readings", 1, None, b"reading"
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
