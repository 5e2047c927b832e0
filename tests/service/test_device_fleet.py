"""Many devices in one process: bounded, counted, and none stops another."""

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from agents.devices.agent import open_device
from agents.devices.fleet import FleetPlan, FleetReport, TransportFactory, median, run_fleet
from agents.devices.gateway import GATEWAY
from agents.devices.identity import Identity
from agents.devices.meter import FULL_METER, METER
from protocol.errors import Unreachable
from protocol.exchange.device_pace import Patience
from protocol.labels import Domain
from protocol.ports import DeviceTransport, Outbound, Reply
from tests.world import LocalTransport, World

QUICK = Patience(answer=0.2, pause=0.01, longest_pause=0.05, give_up=0.5)


def plan(**changes: object) -> FleetPlan:
    return FleetPlan(patience=QUICK, **changes)  # type: ignore[arg-type]


def meters(world: World, folder: Path, count: int) -> list[Path]:
    return [world.identity_folder(folder / f"{n}", f"54524C{n:010X}") for n in range(count)]


def local(world: World) -> TransportFactory:
    @asynccontextmanager
    async def open_transport(identity: Identity) -> AsyncIterator[DeviceTransport]:
        yield LocalTransport(world)

    return open_transport


@pytest.fixture
def world() -> World:
    return World(now=int(time.time()))


async def test_every_device_enrolls_rekeys_and_reports(world: World, tmp_path: Path) -> None:
    told: list[int] = []
    report = await run_fleet(
        meters(world, tmp_path, 12),
        METER,
        local(world),
        plan(messages=2, at_once=4),
        progress=lambda report: told.append(report.devices),
    )
    assert (report.devices, report.enrolled, report.rekeyed, report.messages_sent) == (12, 12, 12, 24)
    assert (report.refused, report.failed, report.failures) == (0, 0, [])
    assert report.request_bytes.total() == report.answer_bytes.total() == 24
    assert median(report.request_bytes) <= 210
    assert median(report.answer_bytes) <= 200
    assert told == list(range(1, 13))
    assert len(world.messages) == 24
    assert set(world.issued.values()) == {1}


async def test_a_meter_with_every_key_counts_once(world: World, tmp_path: Path) -> None:
    report = await run_fleet(meters(world, tmp_path, 2), FULL_METER, local(world), plan())
    assert (report.enrolled, report.rekeyed, report.failed) == (2, 2, 0)
    assert world.issued.total() == 12


async def test_gateways_are_a_fleet_too(tmp_path: Path) -> None:
    world = World(Domain.ITS, now=int(time.time()))
    folders = [world.identity_folder(tmp_path / f"{n}", f"02-54-52-00-00-00-00-0{n}") for n in range(3)]
    report = await run_fleet(folders, GATEWAY, local(world), plan())
    assert (report.enrolled, report.rekeyed, report.messages_sent, report.failed) == (3, 3, 9, 0)


async def test_a_second_run_goes_on_where_the_first_stopped(world: World, tmp_path: Path) -> None:
    folders = meters(world, tmp_path, 3)
    await run_fleet(folders, METER, local(world), plan(rekeys=0, messages=1))
    issued = world.issued.total()
    report = await run_fleet(folders, METER, local(world), plan(rekeys=0, messages=1))
    assert world.issued.total() == issued
    assert report.messages_sent == 3


async def test_no_more_work_at_once_than_the_plan_says(world: World, tmp_path: Path) -> None:
    working = most = 0

    @asynccontextmanager
    async def open_transport(identity: Identity) -> AsyncIterator[DeviceTransport]:
        nonlocal working, most
        working += 1
        most = max(most, working)
        await anyio.lowlevel.checkpoint()
        yield LocalTransport(world)
        working -= 1

    await run_fleet(meters(world, tmp_path, 9), METER, open_transport, plan(at_once=3))
    assert most == 3


async def test_a_refused_device_is_counted_and_told_and_stops_no_other(world: World, tmp_path: Path) -> None:
    folders = meters(world, tmp_path, 4)
    for record in world.by_key.values():
        if record.device.endswith("2"):
            record.state = "revoked"
    (tmp_path / "3" / "identity.json").write_text("{}")
    report = await run_fleet(folders, METER, local(world), plan())
    assert (report.devices, report.enrolled, report.refused, report.failed) == (4, 2, 1, 2)
    assert {name for name, _ in report.failures} == {"2", "3"}


async def test_a_transport_that_breaks_is_opened_anew_and_nothing_is_done_twice(
    world: World, tmp_path: Path
) -> None:
    class Breaking(LocalTransport):
        left = 3

        async def exchange(self, request: Outbound) -> Reply:
            self.left -= 1
            if self.left < 0:
                raise Unreachable("broken")
            return await super().exchange(request)

    opened: Counter[str] = Counter()

    @asynccontextmanager
    async def open_transport(identity: Identity) -> AsyncIterator[DeviceTransport]:
        opened[identity.device] += 1
        if opened[identity.device] == 2:
            raise Unreachable("nobody there")
        yield Breaking(world)

    folders = meters(world, tmp_path, 2)
    report = await run_fleet(folders, METER, open_transport, plan(messages=1))
    assert (report.enrolled, report.rekeyed, report.messages_sent, report.failed) == (2, 2, 2, 0)
    assert set(opened.values()) == {3}
    assert set(world.issued.values()) == {1}


async def test_a_device_that_never_gets_through_fails_in_the_end(world: World, tmp_path: Path) -> None:
    def open_transport(identity: Identity) -> AbstractAsyncContextManager[DeviceTransport]:
        raise Unreachable("nobody there")

    report = await run_fleet(meters(world, tmp_path, 2), METER, open_transport, plan(sessions=2))
    assert (report.devices, report.failed, report.enrolled) == (2, 2, 0)
    assert report.failures[0][1] == "nobody there"


async def test_a_cancelled_fleet_leaves_its_devices_free(world: World, tmp_path: Path) -> None:
    folders = meters(world, tmp_path, 4)
    seen = anyio.Event()

    @asynccontextmanager
    async def open_transport(identity: Identity) -> AsyncIterator[DeviceTransport]:
        seen.set()
        await anyio.sleep_forever()
        yield LocalTransport(world)

    async with anyio.create_task_group() as group:
        group.start_soon(run_fleet, folders, METER, open_transport, plan())
        await seen.wait()
        group.cancel_scope.cancel()
    for folder in folders:
        async with open_device(folder):
            pass


def test_the_median_of_counted_lengths() -> None:
    assert median(Counter()) == 0
    assert median(Counter({5: 1})) == 5
    assert median(Counter({1: 2, 9: 1})) == 1
    assert median(Counter({1: 1, 2: 1, 9: 2})) == 2
    assert median(FleetReport(request_bytes=Counter({200: 3, 300: 9})).request_bytes) == 300
