"""`trillium fleet`, which nobody types: the process in which the lab runs one kind of device.

Orders come as JSON lines on standard input, reports leave as JSON lines on standard output:

    {"run": FOLDER, "via": URI, "messages": N, "lossy": false}    progress …, then done
    {"send": DEVICE}                                              sent, with "refused": why or null

It ends when its input does.
"""

import json
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio

from agents.cli.failure import USAGE, Failure
from agents.cli.transports import connect
from agents.devices.actor import Actor
from agents.devices.agent import open_device
from agents.devices.fleet import FleetPlan, FleetReport, run_fleet
from agents.devices.gateway import GATEWAY
from agents.devices.identity import IDENTITY, Identity
from agents.devices.meter import METER
from protocol.errors import RequestRejected, ServiceError
from protocol.exchange.device_pace import Patience
from protocol.labels import Operation
from protocol.ports import Content, DeviceTransport, Outbound, Reply
from protocol.problem import Problem

ACTORS: Final = {actor.bootstrap: actor for actor in (METER, GATEWAY)}
REPORT_SECONDS: Final = 0.15
"""Between two lines of progress: often enough for an eye."""
_CALM: Final = Patience(answer=2.0, longest_answer=20.0, pause=1.0, longest_pause=10.0, give_up=120.0)
_LOSSY: Final = {
    # CoAP repeats within this by itself, after 0.5 to 0.75 s.
    "coap": Patience(answer=1.0, longest_answer=2.0, pause=0.2, longest_pause=0.5, give_up=300.0),
    # A broker acknowledges and loses; nothing but the device itself asks again.
    "mqtt": Patience(answer=0.4, longest_answer=0.8, pause=0.1, longest_pause=0.3, give_up=300.0),
}
"""For a loopback that loses a lot, by scheme."""


@dataclass(slots=True)
class _Progress:
    """What the devices of this process have done so far."""

    seen: Counter[Operation] = field(default_factory=Counter)
    """Confirmed enrollments and rekeys, as their transports see them: moves while a device works."""
    sent: int = 0
    report: FleetReport = field(default_factory=FleetReport)
    """What the devices themselves say, after each that is done."""

    def as_dict(self, per_device: int) -> dict[str, Any]:
        """Return it as the lab reads it; `per_device` certificates make a device enrolled."""
        report = self.report
        return {
            "finished": report.devices,
            "enrolled": max(report.enrolled, self.seen[Operation.SEN] // per_device),
            "rekeyed": max(report.rekeyed, self.seen[Operation.SREN] // per_device),
            "messages_sent": max(report.messages_sent, self.sent),
            **_verdict(report),
        }


def _verdict(report: FleetReport) -> dict[str, Any]:
    return {
        "failed": report.failed,
        "failures": report.failures,
        "request_bytes": sorted(report.request_bytes.items()),
        "answer_bytes": sorted(report.answer_bytes.items()),
    }


class _Watched:
    """A transport that tells how far its device is."""

    def __init__(self, inner: DeviceTransport, progress: _Progress) -> None:
        self._inner = inner
        self._progress = progress
        self._certifying = Operation.SEN

    async def exchange(self, request: Outbound) -> Reply:
        reply = await self._inner.exchange(request)
        if isinstance(reply, Content):
            if request.op is Operation.CONF:
                self._progress.seen[self._certifying] += 1
            elif request.op in (Operation.SEN, Operation.SREN):
                self._certifying = request.op
        return reply

    async def send_message(self, stream: str, body: bytes) -> Problem | None:
        problem = await self._inner.send_message(stream, body)
        self._progress.sent += problem is None
        return problem


def run(label: str) -> None:
    """Obey until standard input ends."""
    if label not in ACTORS:
        raise Failure(f"fleet {label}: one of {', '.join(ACTORS)}", USAGE)
    anyio.run(_obey, ACTORS[label])


async def _obey(actor: Actor) -> None:
    folder, via, patience = Path(), "", _CALM
    async for line in anyio.wrap_file(sys.stdin):
        order = json.loads(line)
        if "run" in order:
            folder, via = Path(order["run"]), order["via"]
            patience = _LOSSY[via.partition(":")[0]] if order["lossy"] else _CALM
            await _run(actor, folder, via, order, patience)
        elif "send" in order:
            refused = await _send(actor, folder / order["send"], via, patience)
            _tell("sent", device=order["send"], refused=refused)


def _tell(event: str, **report: Any) -> None:  # noqa: ANN401 (JSON)
    sys.stdout.write(json.dumps({"event": event, **report}) + "\n")
    sys.stdout.flush()


async def _run(actor: Actor, folder: Path, via: str, order: dict[str, Any], patience: Patience) -> None:
    progress = _Progress()
    folders = await anyio.to_thread.run_sync(_identities, folder)
    plan = FleetPlan(messages=order["messages"], patience=patience)

    @asynccontextmanager
    async def transport(identity: Identity) -> AsyncGenerator[DeviceTransport, None]:
        async with connect(via, identity, None, ack_timeout=0.5 if order["lossy"] else 2.0) as inner:
            yield _Watched(inner, progress)

    def on_progress(report: FleetReport) -> None:
        progress.report = report

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_report, progress, len(actor.labels))
        report = await run_fleet(folders, actor, transport, plan, progress=on_progress)
        tasks.cancel_scope.cancel()
    _tell(
        "done",
        finished=report.devices,
        enrolled=report.enrolled,
        rekeyed=report.rekeyed,
        messages_sent=report.messages_sent,
        **_verdict(report),
    )


def _identities(batch: Path) -> list[Path]:
    return sorted(path.parent for path in batch.glob(f"*/{IDENTITY}"))


async def _report(progress: _Progress, per_device: int) -> None:
    while True:
        await anyio.sleep(REPORT_SECONDS)
        _tell("progress", **progress.as_dict(per_device))


async def _send(actor: Actor, folder: Path, via: str, patience: Patience) -> str | None:
    """Send one more message; return why it was refused, if its sender was told."""
    try:
        async with (
            open_device(folder, patience=patience) as device,
            connect(via, device.identity, None) as transport,
        ):
            await actor.report(device, 0, transport)
    except RequestRejected as error:
        return error.reason.name.lower()
    except ServiceError:
        pass  # a bad network swallowed it, or the word of it; the lab tries again
    return None
