"""A car gets its contract through a station: both legs, bad lines, slow authorities and rogues."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from agents.authority import show_device
from agents.charging.car import Visit, plug_in
from agents.charging.errands import Bounds
from agents.devices.agent import Device
from protocol.challenge import Challenge
from protocol.errors import EnrollmentError, RequestRejected
from protocol.labels import Operation
from protocol.ports import Content, DeviceTransport, Inbound, Reply
from protocol.problem import Problem
from protocol.validity import Verdict
from tests.charging_world import Standing, Street, make_template, open_street

LABELS = ("ev", "ev20")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("charging"))


async def plugged(
    street: Street, car: Device, standing: Standing, at: str | None = None, *, renews: bool = False
) -> Visit:
    way = await street.way(at or standing.uri)
    return await plug_in(car, way, address=standing.uri, needs_status=True, renews=renews)


@pytest.mark.parametrize("part", LABELS)
@pytest.mark.parametrize("back_end", ["coap", "mqtt"])
async def test_a_car_gets_its_contract_keeps_it_and_renews_it(
    template: Path, tmp_path: Path, part: str, back_end: str
) -> None:
    async with open_street(template, tmp_path) as street:
        station = f"{part}-station"
        back = street.back()
        if back_end == "mqtt":
            back = await street.back_over_mqtt(await street.broker(), station)
        standing = await street.station(station, back=back)
        car = await street.car(label=f"{part}-oem")
        emaid = await street.contract(car)
        (first,) = (await plugged(street, car, standing)).contracts
        assert (first.label, first.emaid) == (f"{part}-contract", emaid)
        assert (first.verdict, first.is_new) == (Verdict.VALID, True)
        asked = len(street.wire.heard)
        (held,) = (await plugged(street, car, standing)).contracts
        assert (held.certificate, held.is_new) == (first.certificate, False)
        assert all(one.op is Operation.CRL for one in street.wire.heard[asked:])
        (second,) = (await plugged(street, car, standing, renews=True)).contracts
        assert second.certificate.public_key_bytes != first.certificate.public_key_bytes
        assert (second.emaid, second.is_new) == (emaid, True)


async def test_a_car_without_a_contract_is_told_so_by_the_authority(template: Path, tmp_path: Path) -> None:
    async with open_street(template, tmp_path) as street:
        standing = await street.station()
        await street.contract(await street.car(1))
        with pytest.raises(RequestRejected):
            await plugged(street, await street.car(0), standing)


async def test_a_refused_station_is_asked_for_nothing(template: Path, tmp_path: Path) -> None:
    async with open_street(template, tmp_path) as street:
        standing = await street.station()
        car = await street.car()
        await street.contract(car)
        asked: list[Inbound] = []

        async def listen(inbound: Inbound) -> Reply:
            asked.append(inbound)
            return await standing.station.handle(inbound)

        rogue = await street.rogue(listen, standing.station.labels, standing.station.prove)
        with pytest.raises(RequestRejected):
            await plug_in(car, await street.way(rogue), address=rogue)
        assert asked == []


async def test_bad_lines_on_both_legs_cost_repeats_and_no_second_certificate(
    template: Path, tmp_path: Path
) -> None:
    async with open_street(template, tmp_path) as street:
        car = await street.car()
        await street.contract(car)
        behind, lost_behind = await street.bad_line(street.uri, 0.15, seed=3)
        standing = await street.station(back=street.back(behind))
        before, lost_before = await street.bad_line(standing.uri, 0.15, seed=4)
        (contract,) = (await plugged(street, car, standing, before)).contracts
        assert lost_behind.dropped
        assert lost_before.dropped
        assert contract.is_new
        assert certificates(street, car, "ev-contract") == 1


def certificates(street: Street, car: Device, label: str) -> int:
    shown = show_device(street.agent.store, car.identity.client_id)
    return sum(one.label == label for one in shown.certificates)


async def test_messages_lost_at_the_broker_cost_repeats_and_no_second_certificate(
    template: Path, tmp_path: Path
) -> None:
    async with open_street(template, tmp_path) as street:
        car = await street.car()
        await street.contract(car)
        ways = [street.back()]

        def back() -> AbstractAsyncContextManager[DeviceTransport]:
            return ways[-1]()

        standing = await street.station(back=back, bounds=Bounds(ask_again=0.3))
        ways.append(await street.back_over_mqtt(await street.broker(loss=0.2)))
        (contract,) = (await plugged(street, car, standing)).contracts
        assert contract.is_new
        assert certificates(street, car, "ev-contract") == 1


async def test_an_authority_slower_than_a_car_waits_gives_one_certificate_all_the_same(
    template: Path, tmp_path: Path
) -> None:
    async with open_street(template, tmp_path) as street:
        car = await street.car()
        await street.contract(car)
        standing = await street.station(bounds=Bounds(answer_within=0.2, come_back=1.0))
        street.wire.delay = 0.5
        (contract,) = (await plugged(street, car, standing)).contracts
        assert contract.is_new
        assert standing.station.counts.pending >= 2
        assert certificates(street, car, "ev-contract") == 1
        keys = [one for one in street.wire.heard if one.op is Operation.SKG]
        assert len({one.body for one in keys}) == 1


async def test_a_rogue_that_swaps_two_cars_answers_gains_nothing(template: Path, tmp_path: Path) -> None:
    async with open_street(template, tmp_path) as street:
        honest = await street.station()
        cars = [await street.car(0), await street.car(1, give_up=1.0)]
        for number, car in enumerate(cars):
            await street.contract(car, f"DETRLC0000000{number + 1}")
        packages: list[Reply] = []

        async def swap(inbound: Inbound) -> Reply:
            reply = await honest.station.handle(inbound)
            if inbound.op is Operation.SKG and isinstance(reply, Content):
                packages.append(reply)
                return packages[0]
            return reply

        async def prove(challenge: Challenge) -> bytes | Problem:
            return await honest.station.prove(challenge)

        rogue = await street.rogue(swap, honest.station.labels, prove)
        (mine,) = (await plug_in(cars[0], await street.way(rogue), address=honest.uri)).contracts
        assert mine.is_new
        with pytest.raises(EnrollmentError):
            await plug_in(cars[1], await street.way(rogue), address=honest.uri)
        held = [one for one in cars[1].status().labels if one.serial is not None]
        assert held == []
        # At an honest station it gets its own.
        (own,) = (await plugged(street, cars[1], honest)).contracts
        assert own.certificate != mine.certificate


async def test_one_flipped_bit_in_a_package_is_noticed(template: Path, tmp_path: Path) -> None:
    async with open_street(template, tmp_path) as street:
        honest = await street.station()
        car = await street.car(give_up=1.0)
        await street.contract(car)

        async def flip(inbound: Inbound) -> Reply:
            reply = await honest.station.handle(inbound)
            if inbound.op is Operation.SKG and isinstance(reply, Content):
                middle = len(reply.body) // 2
                body = reply.body[:middle] + bytes([reply.body[middle] ^ 1]) + reply.body[middle + 1 :]
                return Content(body, reply.media)
            return reply

        rogue = await street.rogue(flip, honest.station.labels, honest.station.prove)
        with pytest.raises(EnrollmentError):
            await plug_in(car, await street.way(rogue), address=honest.uri)
        (contract,) = (await plugged(street, car, honest)).contracts
        assert contract.is_new


async def test_private_keys_do_not_pass_through_a_station_in_clear(template: Path, tmp_path: Path) -> None:
    async with open_street(template, tmp_path) as street:
        standing = await street.station()
        car = await street.car()
        await street.contract(car)
        await plugged(street, car, standing)
        key = await car.lend(lambda bearer: bearer.agreement_key("ev-contract"))
        scalar = key.private_numbers().private_value.to_bytes(32)
        carried = b"".join(reply.body for reply in street.wire.said if isinstance(reply, Content))
        assert scalar not in carried
