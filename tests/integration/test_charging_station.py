"""A car at a charging station: who is it, and is its way to the authority an honest one?"""

import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import pytest

from agents.authority import revoke
from agents.charging.encounter import meet
from agents.charging.errands import Bounds
from agents.charging.station import Station
from agents.devices.agent import Device
from agents.devices.bearer import Bearer
from constrained.client import CoapDevice
from protocol import c509
from protocol.challenge import Challenge
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.ev.station_proof import StationProof, prove
from protocol.exchange.device_effects import Credential
from protocol.exchange.request import RevocationReason
from protocol.labels import Operation
from protocol.ports import Content, DeviceTransport, Inbound, Media, Outbound, Pending, Reply
from protocol.problem import Problem
from protocol.validator import PathRejected, Reason
from protocol.validity import Verdict
from tests.charging_world import EVSE, Street, asks, body_of, make_template, open_street
from tests.integration.coap_world import until

DAY = 24 * 3600


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("charging"))


async def nothing(_: Inbound) -> Reply:
    return Problem(ProblemKind.NOT_FOUND)


async def credential(
    street: Street, label: str, service: str
) -> tuple[Credential, tuple[c509.Certificate, ...]]:
    """Enroll a device of tier 1 label `label`; return what it has under `service`, and the CAs above."""
    device = await street.device(label)
    await device.enroll(service, await street.way(street.uri))

    def take(bearer: Bearer) -> tuple[Credential, tuple[c509.Certificate, ...]]:
        return bearer.credential(service), bearer.chain()

    return await device.lend(take)


# --- who is it -----------------------------------------------------------------------------------------


async def test_a_station_gets_its_certificate_and_shows_it_to_a_car(template: Path, tmp_path: Path) -> None:
    async with open_street(template, tmp_path) as street:
        standing = await street.station()
        seen = await meet(await street.car(), await street.way(standing.uri), address=standing.uri)
        assert seen.certificate == standing.station.certificates["ev-secc"]
        assert (seen.evse, seen.verdict, seen.is_status_known) == (EVSE, Verdict.VALID, True)
        assert (
            seen.seccid == json.loads((street.identity("ev-station") / "identity.json").read_text())["device"]
        )


async def test_a_station_of_both_parts_shows_each_car_its_own_certificate(
    template: Path, tmp_path: Path
) -> None:
    async with open_street(template, tmp_path) as street:
        standing = await street.station("ev-station", "ev20-station")
        for label in ("ev-oem", "ev20-oem"):
            car, way = await street.car(label=label), await street.way(standing.uri)
            seen = await meet(car, way, address=standing.uri, needs_status=True)
            assert seen.certificate == standing.station.certificates[label.replace("oem", "secc")]


async def test_a_car_of_the_other_part_is_told_that_there_is_nothing_for_it(
    template: Path, tmp_path: Path
) -> None:
    async with open_street(template, tmp_path) as street:
        standing = await street.station("ev-station")
        car, way = await street.car(label="ev20-oem"), await street.way(standing.uri)
        with pytest.raises(RequestRejected, match="ev20-secc"):
            await meet(car, way, address=standing.uri)


async def test_a_revoked_station_is_refused(template: Path, tmp_path: Path) -> None:
    async with open_street(template, tmp_path) as street:
        standing = await street.station()
        serial = standing.station.certificates["ev-secc"].serial.hex()
        await anyio.to_thread.run_sync(
            revoke, street.agent.store, serial, RevocationReason.KEY_COMPROMISE, int(street.time())
        )
        with pytest.raises(RequestRejected, match="revoked") as refusal:
            await meet(await street.car(), await street.way(standing.uri), address=standing.uri)
        assert refusal.value.reason is ProblemKind.SIGNER_REVOKED


async def test_an_expired_station_is_refused(template: Path, tmp_path: Path) -> None:
    async with open_street(template, tmp_path) as street:
        standing = await street.station()
        street.time.now += 100 * DAY
        with pytest.raises(PathRejected) as refusal:
            await meet(await street.car(), await street.way(standing.uri), address=standing.uri)
        assert Reason.EXPIRED in {one.reason for one in refusal.value.findings}


async def test_a_provisioning_service_s_certificate_makes_no_station(template: Path, tmp_path: Path) -> None:
    async with open_street(template, tmp_path) as street:
        held, above = await credential(street, "ev-service", "ev-cps")
        chain = (c509.decode_certificate(held.certificate), *above)
        where: list[str] = []

        async def show(challenge: Challenge) -> bytes:
            return prove(
                held.signer, chain, label=challenge.label, nonce=challenge.nonce, address=where[0], evse=EVSE
            )

        where.append(await street.rogue(nothing, ["ev-contract"], show))
        with pytest.raises(PathRejected) as refusal:
            await meet(await street.car(), await street.way(where[0]), address=where[0])
        assert Reason.ROLE in {one.reason for one in refusal.value.findings}


async def test_somebody_else_s_certificate_is_worth_nothing_without_its_key(
    template: Path, tmp_path: Path
) -> None:
    async with open_street(template, tmp_path) as street:
        honest = await street.station()
        held, _ = await credential(street, "ev-service", "ev-cps")
        shown = await own_proof(honest.station)
        where: list[str] = []

        async def show(challenge: Challenge) -> bytes:
            return prove(
                held.signer,
                shown,
                label=challenge.label,
                nonce=challenge.nonce,
                address=where[0],
                evse=EVSE,
            )

        where.append(await street.rogue(nothing, ["ev-contract"], show))
        with pytest.raises(RequestRejected, match="does not hold the key"):
            await meet(await street.car(), await street.way(where[0]), address=where[0])


async def own_proof(station: Station) -> tuple[c509.Certificate, ...]:
    """Return what a station shows to anybody."""
    answer = await station.prove(Challenge("ev-secc", bytes(32), "test"))
    assert isinstance(answer, bytes)
    return StationProof.decode(answer).chain


async def test_whoever_passes_the_question_on_to_an_honest_station_is_noticed(
    template: Path, tmp_path: Path
) -> None:
    async with open_street(template, tmp_path) as street:
        honest = await street.station()
        rogue = await street.rogue(honest.station.handle, ["ev-contract"], honest.station.prove)
        with pytest.raises(RequestRejected, match=honest.uri) as refusal:
            await meet(await street.car(), await street.way(rogue), address=rogue)
        assert refusal.value.reason is ProblemKind.WRONG_CLIENT


async def test_a_recorded_proof_is_noticed(template: Path, tmp_path: Path) -> None:
    async with open_street(template, tmp_path) as street:
        honest = await street.station()
        recorded = await honest.station.prove(Challenge("ev-secc", bytes(32), "test"))

        async def replay(_: Challenge) -> bytes | Problem:
            return recorded

        rogue = await street.rogue(nothing, ["ev-contract"], replay)
        with pytest.raises(RequestRejected, match="does not hold the key"):
            await meet(await street.car(), await street.way(rogue), address=honest.uri)


async def test_nonsense_instead_of_a_proof_is_no_station(template: Path, tmp_path: Path) -> None:
    async with open_street(template, tmp_path) as street:

        async def babble(_: Challenge) -> bytes:
            return b"\x84nonsense"

        rogue = await street.rogue(nothing, ["ev-contract"], babble)
        with pytest.raises(MalformedMessage):
            await meet(await street.car(), await street.way(rogue), address=rogue)


async def test_a_station_that_keeps_the_list_back_is_refused_by_the_strict(
    template: Path, tmp_path: Path
) -> None:
    async with open_street(template, tmp_path) as street:
        honest = await street.station()
        silent = await street.rogue(nothing, ["ev-secc"], honest.station.prove)
        car, way = await street.car(), await street.way(silent)
        seen = await meet(car, way, address=honest.uri)
        assert not seen.is_status_known
        with pytest.raises(RequestRejected, match="nobody says"):
            await meet(car, way, address=honest.uri, needs_status=True)


async def is_taken(car: Device, way: CoapDevice, address: str) -> bool:
    try:
        await meet(car, way, address=address)
    except RequestRejected:
        return False
    return True


async def test_a_list_older_than_one_seen_before_counts_for_nothing(template: Path, tmp_path: Path) -> None:
    async with open_street(template, tmp_path) as street:
        honest = await street.station(bounds=Bounds(fresh=0.1))
        way = await street.way(honest.uri)
        old = await way.exchange(Outbound("ev-secc", Operation.CRL, accept=Media.C509_CRL))

        async def old_list(inbound: Inbound) -> Reply:
            return old

        rogue = await street.rogue(old_list, ["ev-secc"], honest.station.prove)
        car = await street.car()
        assert (await meet(car, await street.way(rogue), address=honest.uri)).is_status_known
        serial = honest.station.certificates["ev-secc"].serial.hex()
        await anyio.to_thread.run_sync(
            revoke, street.agent.store, serial, RevocationReason.KEY_COMPROMISE, int(street.time())
        )
        with anyio.fail_after(5):
            while await is_taken(car, way, honest.uri):  # noqa: ASYNC110 (lists are at most a second old)
                await anyio.sleep(0.1)
        # Without the memory, the list of before would hide it again.
        assert not (await meet(car, await street.way(rogue), address=honest.uri)).is_status_known


# --- what it carries -----------------------------------------------------------------------------------


async def test_what_everybody_may_know_comes_through_unchanged(template: Path, tmp_path: Path) -> None:
    async with open_street(template, tmp_path) as street:
        standing = await street.station("ev-station", "ev20-station")
        direct, way = await street.way(street.uri), await street.way(standing.uri)
        for label in ("ev-contract", "ev20-contract"):
            for op in (Operation.CRTS, Operation.ATT, Operation.CRL):
                question = Outbound(label, op)
                assert body_of(await way.exchange(question)) == body_of(await direct.exchange(question))


@pytest.mark.parametrize(
    ("label", "op"),
    [
        ("ev-contract", Operation.SREN),
        ("ev-contract", Operation.REV),
        ("ev-secc", Operation.SEN),
        ("ev-secc", Operation.CRTS),
        ("ev20-contract", Operation.CRTS),
        ("ev-cps", Operation.CRTS),
    ],
)
async def test_what_is_no_car_s_business_is_not_carried(
    template: Path, tmp_path: Path, label: str, op: Operation
) -> None:
    async with open_street(template, tmp_path) as street:
        standing = await street.station()
        way = await street.way(standing.uri)
        before = len(street.wire.heard)
        reply = await way.exchange(Outbound(label, op, b"request" if op.has_body else b""))
        # The station's own errands go on meanwhile, and are none of these.
        carried = [one for one in street.wire.heard[before:] if (one.label, one.op) == (label, op)]
        assert isinstance(reply, Problem)
        assert reply.kind is ProblemKind.NOT_FOUND
        assert carried == []


async def test_a_slow_back_end_is_asked_once_and_the_car_finds_the_answer_when_it_comes_again(
    template: Path, tmp_path: Path
) -> None:
    async with open_street(template, tmp_path) as street:
        bounds = Bounds(answer_within=0.2, come_back=1.0)
        standing = await street.station("ev20-station", bounds=bounds)
        way = await street.way(standing.uri)
        street.wire.delay = 0.8
        question = Outbound("ev20-contract", Operation.CRTS)
        started = anyio.current_time()
        assert await way.exchange(question) == Pending(1.0)
        assert anyio.current_time() - started < 0.7
        await until(lambda: standing.station.kept)
        reply = await way.exchange(question)
        assert isinstance(reply, Content)
        assert len(reply.body) > 1024, "two blocks, which are two questions"
        assert len(asks(street.wire, "ev20-contract")) == 2, "the station, for its own two blocks"
        counts = standing.station.counts
        assert (counts.pending, counts.answered) == (1, 2)


async def test_a_car_that_finds_no_room_is_told_at_once(template: Path, tmp_path: Path) -> None:
    async with open_street(template, tmp_path) as street:
        standing = await street.station(bounds=Bounds(cars=1, answer_within=1.0))
        street.wire.delay = 0.5
        first, second = await street.way(standing.uri), await street.way(standing.uri)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.exchange, Outbound("ev-contract", Operation.CRTS))
            await until(lambda: standing.station.counts.asked)
            reply = await second.exchange(Outbound("ev-contract", Operation.ATT))
            assert isinstance(reply, Problem)
            assert (reply.kind, reply.retry_after) == (ProblemKind.OVERLOADED, 2.0)


async def test_a_station_without_a_back_end_says_pending_and_carries_on_when_it_is_there(
    template: Path, tmp_path: Path
) -> None:
    async with open_street(template, tmp_path) as street:
        at = [street.uri]

        def back() -> AbstractAsyncContextManager[DeviceTransport]:
            return street.back(at[0])()

        standing = await street.station(back=back, bounds=Bounds(answer_within=0.3, come_back=1.0))
        way = await street.way(standing.uri)
        at[0] = "coap://127.0.0.1:9"
        assert isinstance(await way.exchange(Outbound("ev-contract", Operation.CRTS)), Pending)
        at[0] = street.uri
        await until(lambda: standing.station.kept)
        assert isinstance(await way.exchange(Outbound("ev-contract", Operation.CRTS)), Content)


async def test_a_bad_line_on_both_legs_costs_repeats_and_nothing_else(template: Path, tmp_path: Path) -> None:
    async with open_street(template, tmp_path) as street:
        behind, lost_behind = await street.bad_line(street.uri, 0.15, seed=1)
        standing = await street.station(back=street.back(behind))
        before, lost_before = await street.bad_line(standing.uri, 0.15, seed=2)
        seen = await meet(await street.car(), await street.way(before), address=standing.uri)
        assert seen.certificate == standing.station.certificates["ev-secc"]
        assert lost_before.dropped + lost_behind.dropped


async def test_the_journal_says_which_car_was_shown_which_certificate_where(
    template: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.jsonl"
    async with open_street(template, tmp_path) as street:
        standing = await street.station(journal=journal)
        way = await street.way(standing.uri)
        await meet(await street.car(), way, address=standing.uri)
        shown = c509.thumbprint(standing.station.certificates["ev-secc"].encoded).hex()
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["proof", "crl"]
    assert {line["station"] for line in lines} == {shown}
    assert {line["evse"] for line in lines} == {EVSE}
    assert len({line["session"] for line in lines}) == 1
