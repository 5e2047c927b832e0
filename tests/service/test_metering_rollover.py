"""A head-end and its meters agree on keys through a real authority, over a network that loses messages."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag

from agents.authority import revoke
from agents.devices.agent import DeviceError
from agents.devices.cabinet import CabinetError
from agents.devices.fleet import FleetPlan, run_fleet
from agents.devices.identity import Identity
from agents.devices.meter import FULL_METER
from agents.metering.meter import MeterKeys, errand
from agents.metering.rollover import HeadEndKeys, Order, Outcome
from protocol.errors import ProblemKind, RequestRejected
from protocol.exchange.request import RevocationReason
from protocol.labels import Domain
from protocol.metering.agreement import Scheme
from protocol.metering.keys import KeyKind, KeySet
from protocol.metering.rollover import Offered, Settled, Switching
from tests.mail_world import (
    DEVICE_PASSPHRASE,
    QUICK,
    Estate,
    Port,
    make_estate,
    open_estate,
    roll_while_polling,
    seal,
    understand_each_other,
    unseal,
)

MONTH = 30 * 24 * 3600.0


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_estate(tmp_path_factory.mktemp("estate"))


async def roll(
    estate: Estate, head_end: HeadEndKeys, meters: list[MeterKeys], order: Order | None = None
) -> Outcome:
    """Introduce the meters, then roll over while they poll."""
    for meter in meters:
        await meter.poll(estate.port())
    return await roll_while_polling(head_end, meters, order or Order(give_up=20), estate.port())


@pytest.mark.parametrize("scheme", [Scheme.EPHEMERAL, Scheme.ONE_PASS])
async def test_both_sides_come_to_the_same_keys_and_understand_each_other(
    template: Path, tmp_path: Path, scheme: Scheme
) -> None:
    async with open_estate(template, tmp_path / "estate") as estate:
        head_end, meters = await estate.head_end(), [await estate.meter(number) for number in range(3)]
        for generation in (1, 2):
            outcome = await roll(estate, head_end, meters, Order(scheme=scheme, give_up=20))
            titles = [estate.title(folder) for folder in estate.folders("meter-boot")]
            assert outcome.done == set(titles)
            assert not outcome.failed
            for meter, title in zip(meters, titles, strict=True):
                (keys,) = head_end.keys(title)
                assert keys == meter.keys
                assert keys.generation == generation
                assert set(keys.keys) == {KeyKind.UNICAST, KeyKind.AUTHENTICATION, KeyKind.MASTER}
                assert understand_each_other(meter, title, keys)
            one, other = meters[:2]
            with pytest.raises(InvalidTag):
                unseal(other.keys, titles[0], 1, seal(one.keys, titles[0], 1, b"not for the neighbours"))
        assert len(estate.office.mailbox) == 0


async def test_suite_2_goes_the_same_way(tmp_path: Path) -> None:
    template = make_estate(tmp_path / "template", Domain.METERING2, meters=1, head_ends=1)
    async with open_estate(template, tmp_path / "estate") as estate:
        meter, head_end = await estate.meter(label="meter2-boot"), await estate.head_end(label="client2-boot")
        outcome = await roll(estate, head_end, [meter])
        (title,) = outcome.done
        assert head_end.keys(title) == (meter.keys,)
        assert {len(key) for key in meter.keys.keys.values()} == {32}


async def test_neither_side_waits_for_the_other_to_be_online(template: Path, tmp_path: Path) -> None:
    async with open_estate(template, tmp_path / "estate") as estate:
        meter, head_end, port = await estate.meter(), await estate.head_end(), estate.port()
        title = estate.title(estate.folders("meter-boot")[0])
        stages: list[type] = []
        outcome = Outcome()
        for _ in range(3):
            await meter.poll(port)
            outcome = await head_end.rollover(Order(give_up=0), port)
            stages.append(type(head_end.register[title].state))
        assert stages == [Offered, Switching, Settled]
        assert outcome.done == {title}
        assert head_end.keys(title) == (meter.keys,)


@pytest.mark.parametrize("seed", range(3))
async def test_a_network_that_loses_a_third_of_everything_delays_and_splits_nothing(
    template: Path, tmp_path: Path, seed: int
) -> None:
    async with open_estate(template, tmp_path / "estate") as estate:
        meter, head_end = await estate.meter(), await estate.head_end()
        title = estate.title(estate.folders("meter-boot")[0])
        await meter.poll(estate.port(0.33, seed))
        outcome = await roll_while_polling(
            head_end, [meter], Order(give_up=20), estate.port(0.33, seed + 100)
        )
        assert outcome.done == {title}
        assert head_end.keys(title) == (meter.keys,)


async def test_a_mailbox_that_lost_everything_makes_both_sides_say_it_again(
    template: Path, tmp_path: Path
) -> None:
    async with open_estate(template, tmp_path / "estate") as estate:
        meter, head_end = await estate.meter(), await estate.head_end()
        title = estate.title(estate.folders("meter-boot")[0])
        for _ in range(4):
            await meter.poll(estate.port())
            estate.lose_all_letters()  # what the meter just said
            await meter.poll(estate.port())
            outcome = await head_end.rollover(Order(give_up=0), estate.port())
            if outcome.done:
                break
            estate.lose_all_letters()  # what the head-end just said
            await head_end.rollover(Order(give_up=0), estate.port())
        assert head_end.keys(title) == (meter.keys,)
        assert meter.keys.generation == 1


async def test_a_head_end_that_starts_anew_catches_up_with_its_meters(template: Path, tmp_path: Path) -> None:
    async with open_estate(template, tmp_path / "estate") as estate:
        meter, head_end = await estate.meter(), await estate.head_end()
        (title,) = (await roll(estate, head_end, [meter])).done
        await roll(estate, head_end, [meter])
        known = head_end.register[title]
        head_end.register._write(title, replace(known, state=Settled(KeySet(0, {}))))
        outcome = await roll(estate, head_end, [meter])
        assert outcome.done == {title}
        assert head_end.keys(title) == (meter.keys,)
        assert meter.keys.generation == 3


async def test_a_new_head_end_takes_over_where_the_meter_is_told_so(template: Path, tmp_path: Path) -> None:
    async with open_estate(template, tmp_path / "estate") as estate:
        meter, head_end, other = await estate.meter(), await estate.head_end(), await estate.head_end(1)
        (title,) = (await roll(estate, head_end, [meter])).done
        taken_over = await MeterKeys.open(meter._device, estate.title(estate.folders("client-boot")[1]))
        outcome = await roll(estate, other, [taken_over])
        assert outcome.done == {title}
        assert other.keys(title) == (taken_over.keys,)
        assert taken_over.keys.generation == 2
        late = await head_end.rollover(Order(give_up=0), estate.port())
        assert late.waiting == {title}
        await taken_over.poll(estate.port())
        assert taken_over.keys == other.keys(title)[0]


async def test_a_head_end_that_the_meter_was_not_told_of_gets_no_answer(
    template: Path, tmp_path: Path
) -> None:
    async with open_estate(template, tmp_path / "estate") as estate:
        meter, stranger = await estate.meter(), await estate.head_end(1)
        head_end = await estate.head_end()
        (title,) = (await roll(estate, head_end, [meter])).done
        # It knows the meter's certificates, which are no secret, and writes to it uninvited.
        stranger.register._write(title, replace(head_end.register[title], state=Settled(KeySet(0, {}))))
        before = meter.keys
        await stranger.rollover(Order(give_up=0), estate.port())
        poll = await meter.poll(estate.port())
        assert not poll.has_new_keys
        assert meter.keys == before
        assert isinstance(stranger.register[title].state, Offered)


async def test_a_revoked_head_end_is_refused_by_the_mailbox_and_by_the_meter(
    template: Path, tmp_path: Path
) -> None:
    async with open_estate(template, tmp_path / "estate") as estate:
        meter, head_end, port = await estate.meter(), await estate.head_end(), estate.port()
        await meter.poll(port)
        await head_end.rollover(Order(give_up=0), port)  # its offer waits
        name = head_end._device.identity.device
        revoke(estate.agent.store, name, RevocationReason.KEY_COMPROMISE, int(estate.clock()))
        estate.clock.now += 7200
        await estate.verifier.refresh()
        poll = await meter.poll(port)
        assert (poll.generation, poll.refused) == (0, ())
        with pytest.raises(RequestRejected) as caught:
            await head_end.rollover(Order(give_up=0), port)
        assert caught.value.reason is ProblemKind.SIGNER_REVOKED


async def test_a_scheduled_run_renews_what_is_old_and_leaves_the_rest(template: Path, tmp_path: Path) -> None:
    async with open_estate(template, tmp_path / "estate") as estate:
        head_end, meters = await estate.head_end(), [await estate.meter(number) for number in range(2)]
        head_end.register.wall = estate.clock  # type: ignore[misc]  # what a test's time is
        order = Order(every=MONTH, give_up=20)
        assert len((await roll(estate, head_end, meters, order)).done) == 2
        estate.clock.now += int(MONTH / 2)
        again = await roll(estate, head_end, meters, order)
        assert not again.wanted
        estate.clock.now += int(MONTH)
        assert len((await roll(estate, head_end, meters, order)).done) == 2
        assert {meter.keys.generation for meter in meters} == {2}


async def test_no_more_are_under_way_than_was_asked_for(template: Path, tmp_path: Path) -> None:
    async with open_estate(template, tmp_path / "estate") as estate:
        head_end, meters = await estate.head_end(), [await estate.meter(number) for number in range(3)]
        most = 0

        def look(_: Outcome) -> None:
            nonlocal most
            register = head_end.register
            most = max(most, sum(register[title].is_under_way for title in register.titles()))

        for meter in meters:
            await meter.poll(estate.port())
        order = Order(give_up=20, parallel=1)
        outcome = await roll_while_polling(head_end, meters, order, estate.port(), look)
        assert len(outcome.done) == 3
        assert most <= 1


async def test_a_meter_that_never_wrote_cannot_be_rolled_over(template: Path, tmp_path: Path) -> None:
    async with open_estate(template, tmp_path / "estate") as estate:
        head_end = await estate.head_end()
        title = estate.title(estate.folders("meter-boot")[0])
        with pytest.raises(DeviceError, match=f"no letter has come from {title}"):
            await head_end.rollover(Order(meters=frozenset({title})), estate.port())
        assert not (await head_end.rollover(Order(), estate.port())).wanted


async def test_whose_identity_it_is_decides_which_side_it_takes(template: Path, tmp_path: Path) -> None:
    async with open_estate(template, tmp_path / "estate") as estate:
        meter = await estate.device(estate.folders("meter-boot")[0])
        head_end = await estate.device(estate.folders("client-boot")[0])
        with pytest.raises(DeviceError, match="is no head-end"):
            await HeadEndKeys.open(meter)
        with pytest.raises(DeviceError, match="is no meter"):
            await MeterKeys.open(head_end)
        with pytest.raises(DeviceError, match="no head-end yet"):
            await MeterKeys.open(meter)


async def test_keys_are_encrypted_on_disk_and_a_damaged_file_is_named(template: Path, tmp_path: Path) -> None:
    async with open_estate(template, tmp_path / "estate") as estate:
        meter, head_end = await estate.meter(), await estate.head_end()
        await roll(estate, head_end, [meter])
        for keys, folder in ((meter, "meter-boot"), (head_end, "client-boot")):
            state = estate.folders(folder)[0] / "state" / "metering"
            (file,) = state.iterdir()
            for key in meter.keys.keys.values():
                assert key not in file.read_bytes()
            file.write_bytes(file.read_bytes()[:-1] + b"\0")
            with pytest.raises(CabinetError, match=file.name):
                await type(keys).open(keys._device)


async def test_a_fleet_of_meters_asks_for_its_letters_on_the_way(tmp_path: Path) -> None:
    now = int(time.time())  # a fleet goes by the real time
    template = make_estate(tmp_path / "template", meters=2, head_ends=1, now=now)
    async with open_estate(template, tmp_path / "estate", now) as estate:
        head_end, port = await estate.head_end(), estate.port()
        folders = estate.folders("meter-boot")
        plan = FleetPlan(
            rekeys=0,
            messages=0,
            errand=errand(estate.title(estate.folders("client-boot")[0])),
            patience=QUICK,
        )

        @asynccontextmanager
        async def connect(_: Identity) -> AsyncIterator[Port]:
            yield port

        for generation in (0, 0, 1):
            report = await run_fleet(folders, FULL_METER, connect, plan, passphrase=DEVICE_PASSPHRASE)
            assert (report.failed, report.errands) == (0, len(folders))
            outcome = await head_end.rollover(Order(give_up=0), port)
            assert len(outcome.done) == generation * len(folders)
