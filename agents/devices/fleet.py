"""Runs many devices in one process, so many at a time.

A device costs memory only while it works: folders are opened one after the other by a fixed number of
workers, and results are counters. What a device could not finish in one session (its transport broke, or
nobody answered) goes on in the next; its key store knows where it was.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import anyio

from agents.devices.actor import Actor
from agents.devices.agent import Device, DeviceError, open_device
from agents.devices.identity import Identity, IdentityError
from agents.devices.keystore import StoreError
from agents.devices.upkeep import Upkeep
from protocol.errors import EnrollmentError, RequestRejected, ServiceError
from protocol.exchange.device_pace import Pace, Patience
from protocol.labels import Operation
from protocol.ports import Content, DeviceTransport, Media, Outbound, Reply
from protocol.problem import Problem

TransportFactory = Callable[[Identity], AbstractAsyncContextManager[DeviceTransport]]
"""Opens a transport for one device; raises Unreachable where that fails."""
MAX_FAILURES_TOLD: Final = 100
"""Failures are counted all, and told up to this many: a fleet that fails does so for one reason."""
Errand = Callable[[Device, DeviceTransport], Awaitable[object]]
"""What devices have to do besides, as `agents.metering.meter.errand`; done again if it was cut short."""
_CERTIFYING: Final = frozenset({Operation.SEN, Operation.SREN})

_PATIENCE: Final = Patience(answer=4.0, pause=1.0, longest_pause=20.0, give_up=120.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """What each device does."""

    enroll: bool = True
    """Get every certificate of its kind that it does not have."""
    rekeys: int = 1
    """How often it then replaces every key."""
    upkeep: bool = False
    """Then renew what is due by its own calendar, and report what is held."""
    errand: Errand | None = None
    """Then do this."""
    messages: int = 3
    """How many readings it then sends."""
    at_once: int = 32
    """Devices that work at the same time; each has a few open files and sockets."""
    sessions: int = 6
    """How often a device opens a transport anew before it counts as failed."""
    patience: Patience = _PATIENCE
    """Limits of one exchange, and of the pauses between sessions."""


@dataclass(slots=True)
class FleetReport:
    """What came of it, so far."""

    devices: int = 0
    """Devices that were tried to the end."""
    enrolled: int = 0
    """Devices that hold every certificate of their kind."""
    rekeyed: int = 0
    """Devices that replaced every key as often as planned."""
    renewed: int = 0
    """Certificates whose moment had come."""
    reports_sent: int = 0
    """Reports of what a device holds that the other side took."""
    errands: int = 0
    """Devices that did what they had to do besides."""
    messages_sent: int = 0
    """Messages that the other side took."""
    refused: int = 0
    """Devices that were told no."""
    failed: int = 0
    """Devices that ended without having done everything, refused or not."""
    request_bytes: Counter[int] = field(default_factory=Counter)
    """How many `sen` and `sren` requests of which length were sent, repeats too."""
    answer_bytes: Counter[int] = field(default_factory=Counter)
    """How many certificates of which length came back, repeats too."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """(folder, why) of the first failures."""


def median(sizes: Counter[int]) -> int:
    """Return the (lower) median of counted lengths; 0 if there are none."""
    left = (sizes.total() + 1) // 2
    for size in sorted(sizes):
        left -= sizes[size]
        if left <= 0:
            return size
    return 0


async def run_fleet(
    folders: Iterable[Path],
    actor: Actor,
    open_transport: TransportFactory,
    plan: FleetPlan | None = None,
    *,
    passphrase: bytes | None = None,
    progress: Callable[[FleetReport], None] | None = None,
) -> FleetReport:
    """Run every device of a fleet through the plan.

    Args:
        folders: Identity folders.
        actor: What kind of device they are.
        open_transport: Connects one device.
        plan: What each does.
        passphrase: Of their private keys, if those are encrypted.
        progress: Told the report, which goes on changing, after each device.

    Returns:
        The counts. A device that fails is counted and told, and stops no other.

    Cancellation: anywhere; every key store is left consistent.
    """
    plan = plan or FleetPlan()
    report = FleetReport()
    queue = iter(folders)
    async with anyio.create_task_group() as group:
        for _ in range(plan.at_once):
            group.start_soon(_work, queue, _Visit(actor, open_transport, plan, passphrase, report), progress)
    return report


@dataclass(frozen=True, slots=True)
class _Visit:
    actor: Actor
    open_transport: TransportFactory
    plan: FleetPlan
    passphrase: bytes | None
    report: FleetReport


async def _work(queue: Iterator[Path], visit: _Visit, progress: Callable[[FleetReport], None] | None) -> None:
    report = visit.report
    for folder in queue:
        try:
            async with open_device(folder, visit.passphrase, patience=visit.plan.patience) as device:
                await _live(device, visit)
        except (EnrollmentError, DeviceError, IdentityError, StoreError, OSError) as error:
            report.failed += 1
            report.refused += isinstance(error, RequestRejected)
            if len(report.failures) < MAX_FAILURES_TOLD:
                report.failures.append((folder.name, str(error)))
        report.devices += 1
        if progress is not None:
            progress(report)


async def _live(device: Device, visit: _Visit) -> None:
    """Bring one device through the plan, in as many sessions as it takes."""
    script = _script(device, visit)
    step = next(script, None)
    pace = Pace(visit.plan.patience, anyio.current_time())
    for session in range(visit.plan.sessions):
        try:
            async with visit.open_transport(device.identity) as transport:
                counted = _Counted(transport, visit.report)
                while step is not None:
                    await step(counted)
                    step = next(script, None)
        except ServiceError:
            if session == visit.plan.sessions - 1:
                raise
        else:
            return
        pace.sent(anyio.current_time())
        pace.pause(anyio.current_time(), (session + 1) / visit.plan.sessions)
        await anyio.sleep_until(pace.deadline)


_Step = Callable[[DeviceTransport], Awaitable[object]]


def _script(device: Device, visit: _Visit) -> Iterator[_Step]:
    """Yield what is to be done; asking for the next step says that this one is done.

    A step that fails is done again in the next session, the ones before it are not.
    """
    plan, actor, report = visit.plan, visit.actor, visit.report
    if plan.enroll:
        yield partial(actor.enroll, device)
        report.enrolled += 1
    for label in actor.labels * plan.rekeys:
        yield partial(device.rekey, label)
    report.rekeyed += bool(plan.rekeys)
    if plan.upkeep:
        yield partial(_keep_up, Upkeep(device), report)
    if plan.errand is not None:
        yield partial(plan.errand, device)
        report.errands += 1
    for index in range(plan.messages):
        yield partial(actor.report, device, index)
        report.messages_sent += 1


async def _keep_up(upkeep: Upkeep, report: FleetReport, transport: DeviceTransport) -> None:
    done = await upkeep.round(transport)
    report.renewed += len(done.renewed)
    report.reports_sent += done.has_reported
    if done.refused:
        label, why = done.refused[0]
        raise DeviceError(f"{label} was not renewed: {why}")


class _Counted:
    """A transport that counts bytes on its way."""

    def __init__(self, inner: DeviceTransport, report: FleetReport) -> None:
        self._inner = inner
        self._report = report

    async def exchange(self, request: Outbound) -> Reply:
        if request.op in _CERTIFYING:
            self._report.request_bytes[len(request.body)] += 1
        reply = await self._inner.exchange(request)
        match reply:
            case Content(body, Media.C509_CERTIFICATE):
                self._report.answer_bytes[len(body)] += 1
        return reply

    async def send_message(self, stream: str, body: bytes) -> Problem | None:
        return await self._inner.send_message(stream, body)
