"""What a device does unasked: renews in time, says what it holds, and does not come back without a clock."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agents.devices.agent import Device, open_device
from agents.devices.fleet import FleetPlan, run_fleet
from agents.devices.holding import held_report, report_held
from agents.devices.identity import BOOTSTRAP, Identity
from agents.devices.meter import FULL_METER, METER
from agents.devices.upkeep import Upkeep
from protocol import c509
from protocol.errors import ExchangeTimeout, ProblemKind, Unreachable
from protocol.exchange.device_pace import Patience
from protocol.held import STREAM, HeldCertificate, HeldReport, HeldState, decode_held
from protocol.labels import Operation
from protocol.message import decode_message
from protocol.ports import DeviceTransport, Outbound, Reply, SignedRefusal
from protocol.problem import Problem
from protocol.profiles import profile_of
from protocol.renewal import renewal_time, renewal_window
from tests.world import NOW, YEAR, LocalTransport, World

QUICK = Patience(answer=0.05, longest_answer=0.05, pause=0.01, longest_pause=0.01, give_up=0.2)


class Listening(LocalTransport):
    """Keeps the reports that pass, and breaks where it is told to."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.reports: list[HeldReport] = []
        self.breaks_at: Callable[[Outbound], bool] = lambda _: False
        self.refuses = ""

    async def exchange(self, request: Outbound) -> Reply:
        if self.breaks_at(request):
            raise Unreachable("the cable is out")
        if request.label == self.refuses and request.op is Operation.SREN:
            problem = Problem(ProblemKind.NOT_ENTITLED)
            return SignedRefusal(self.world.verdict(request, problem), problem)
        return await super().exchange(request)

    async def send_message(self, stream: str, body: bytes) -> Problem | None:
        problem = await super().send_message(stream, body)
        if stream == STREAM and problem is None:
            self.reports.append(decode_held(decode_message(body).body))
        return problem


@asynccontextmanager
async def opened(folder: Path, wall: Callable[[], float] | None) -> AsyncIterator[Device]:
    async with open_device(folder, wall=wall, patience=QUICK) as device:
        yield device


def due(certificate: c509.Certificate, label: str, device: str) -> int:
    moment = renewal_time(profile_of(label), certificate.not_before, certificate.not_after, device)
    assert moment is not None
    return moment


async def test_a_key_is_replaced_from_the_moment_on_that_was_computed(tmp_path: Path) -> None:
    world = World()
    transport = Listening(world)
    async with opened(world.identity_folder(tmp_path / "m"), lambda: float(world.now)) as device:
        first = await device.enroll("meter-ds", transport)
        upkeep = Upkeep(device)
        world.now = due(first, "meter-ds", device.identity.device) - 1
        assert device.status().labels[0].is_rekey_due is False
        assert (await upkeep.round(transport)).renewed == ()
        world.now += 1
        assert device.status().labels[0].is_rekey_due is True
        assert (await upkeep.round(transport)).renewed == ("meter-ds",)
        assert device.status().labels[0].serial != first.serial
        assert device.status().labels[0].is_rekey_due is False


async def test_without_a_clock_nothing_is_due_until_something_verified_is_later(tmp_path: Path) -> None:
    world = World()
    folder = world.identity_folder(tmp_path / "m")
    async with opened(folder, None) as device:
        certificate = await device.enroll("meter-ds", Listening(world))
        assert device.status().labels[0].is_rekey_due is None
        assert (await Upkeep(device).round(Listening(world))).renewed == ()
        window = renewal_window(profile_of("meter-ds"), certificate.not_before, certificate.not_after)
        assert window is not None
        # It meets its authority again, and gets a certificate that is from after the window.
        world.now = window[1]
        await device.enroll("meter-tls", Listening(world))
        due = {held.label: held.is_rekey_due for held in device.status().labels}
        assert due == {"meter-ds": True, "meter-tls": None}


async def test_a_report_says_all_that_a_device_holds_and_believes(tmp_path: Path) -> None:
    world = World()
    transport = Listening(world)
    folder = world.identity_folder(tmp_path / "m")
    async with opened(folder, lambda: float(world.now)) as device:
        held = [
            HeldCertificate(
                "meter-boot", c509.thumbprint((folder / BOOTSTRAP).read_bytes()), HeldState.CURRENT
            )
        ]
        for label in FULL_METER.labels:
            certificate = await device.enroll(label, transport)
            held.append(HeldCertificate(label, c509.thumbprint(certificate.encoded), HeldState.CURRENT))
        said = await report_held(device, transport)
        assert transport.reports == [said]
        assert sorted(said.certificates, key=lambda one: one.label) == sorted(held, key=lambda one: one.label)
        assert (said.authority, said.epoch, said.crl_number) == (world.authority, 0, 0)
        assert said.anchors == (c509.thumbprint(device.identity.root().encoded),)
        expected = tuple(c509.thumbprint(one.encoded) for one in c509.decode_chain(world.chain))
        assert said.chain == expected


async def test_what_is_stored_and_not_confirmed_is_reported_as_pending(tmp_path: Path) -> None:
    world = World()
    transport = Listening(world)
    async with opened(world.identity_folder(tmp_path / "m"), lambda: float(world.now)) as device:
        first = await device.enroll("meter-ds", transport)
        transport.breaks_at = lambda request: request.op is Operation.CONF
        with pytest.raises(ExchangeTimeout):
            await device.rekey("meter-ds", transport)
        said = held_report(device.identity, device.status())
    states = {held.state: held.thumbprint for held in said.certificates if held.label == "meter-ds"}
    assert states[HeldState.CURRENT] == c509.thumbprint(first.encoded)
    assert world.accepts(first.encoded)
    assert states[HeldState.PENDING] in world.records


async def test_a_device_reports_at_its_start_after_an_install_and_once_a_day(tmp_path: Path) -> None:
    world = World()
    transport = Listening(world)
    async with opened(world.identity_folder(tmp_path / "m"), lambda: float(world.now)) as device:
        first = await device.enroll("meter-ds", transport)
        upkeep = Upkeep(device)
        assert (await upkeep.round(transport)).has_reported
        assert not (await upkeep.round(transport)).has_reported
        world.now = due(first, "meter-ds", device.identity.device)
        assert (await upkeep.round(transport)).has_reported
        assert not (await upkeep.round(transport)).has_reported
        assert (await Upkeep(device, report_every=0.0).round(transport)).has_reported
    assert len(transport.reports) == 3
    assert transport.reports[0].certificates != transport.reports[1].certificates


async def test_a_fleet_keeps_itself_up(tmp_path: Path) -> None:
    """Devices whose certificates are two years and ten months old have renewed them, each at its moment."""
    world = World(now=int(time.time()) - YEAR * 3 + 60 * 24 * 3600)
    folders = [world.identity_folder(tmp_path / f"{n}", f"54524C{n:010X}") for n in range(6)]

    @asynccontextmanager
    async def local(_: Identity) -> AsyncIterator[DeviceTransport]:
        yield LocalTransport(world)

    for folder in folders[:5]:
        async with open_device(folder, wall=lambda: float(world.now), patience=QUICK) as device:
            await METER.enroll(device, LocalTransport(world))
    world.now = int(time.time())
    plan = FleetPlan(rekeys=0, messages=1, upkeep=True, patience=QUICK)
    report = await run_fleet(folders, METER, local, plan)
    assert (report.failed, report.renewed, report.reports_sent, report.messages_sent) == (0, 5, 6, 6)


async def test_a_refused_renewal_is_told_and_stops_no_other(tmp_path: Path) -> None:
    world = World()
    transport = Listening(world)
    async with opened(world.identity_folder(tmp_path / "m"), lambda: float(world.now)) as device:
        for label in ("meter-ds", "meter-ka"):
            await device.enroll(label, transport)
        world.now = NOW + 3 * YEAR - 24 * 3600
        transport.refuses = "meter-ka"
        done = await Upkeep(device).round(transport)
    assert done.renewed == ("meter-ds",)
    assert [label for label, _ in done.refused] == ["meter-ka"]
    assert done.has_reported
