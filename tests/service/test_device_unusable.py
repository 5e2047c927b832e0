"""A certificate that its device cannot use: said once, audited, and asked for anew with another key."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from agents.authority import AuthorityAgent, MakerIssuer, open_authority, show_device
from agents.authority.audit import read_record
from agents.devices.agent import Device, open_device
from agents.devices.errands import MAX_UNUSABLE
from agents.factory import make_batch
from protocol.errors import CertificateUnusable, ProblemKind, Unreachable
from protocol.exchange.device import State
from protocol.exchange.device_pace import Patience
from protocol.exchange.request import Confirmation, decode_request
from protocol.labels import Domain, Operation
from protocol.ports import Inbound, Outbound, Reply
from protocol.problem import Problem
from tests.rig import NOW, PASSPHRASE, fresh_directory

LABEL = "meter-ds"
PAUSE = 0.1
PATIENCE = Patience(answer=2, pause=PAUSE, longest_pause=PAUSE, give_up=10)
AFTER_IT_ENDED = NOW + 4 * 365 * 86400
"""Where the device's clock is wrongly set to; to it, what the authority issues has expired."""


@dataclass
class Port:
    """A transport that ends at the authority's handler."""

    agent: AuthorityAgent
    deaf_to: list[Operation] = field(default_factory=list)
    """Operations whose next answer is lost."""
    asked: list[Outbound] = field(default_factory=list)

    async def exchange(self, request: Outbound) -> Reply:
        self.asked.append(request)
        reply = await self.agent.handle(Inbound(request.label, request.op, request.body, "test:1"))
        if request.op in self.deaf_to:
            self.deaf_to.remove(request.op)
            raise Unreachable("just now")
        return reply

    async def send_message(self, stream: str, body: bytes) -> Problem | None:
        return None

    def bodies(self, op: Operation) -> list[bytes]:
        return [request.body for request in self.asked if request.op is op]


@dataclass
class Scene:
    """One meter whose clock may be wrong, and its authority."""

    agent: AuthorityAgent
    device: Device
    port: Port
    clock: list[int]
    """The device's, POSIX seconds."""

    def states(self) -> list[str]:
        shown = show_device(self.agent.store, self.device.identity.client_id)
        return [one.state.value for one in shown.certificates if one.label == LABEL]

    def voided_because(self) -> list[str]:
        with self.agent.store.reading() as connection:
            rows = connection.exec_driver_sql("SELECT record FROM audit ORDER BY sequence")
            entries = [read_record(row[0]).entry for row in rows]
        return [entry.detail for entry in entries if entry.event == "void"]


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    directory = fresh_directory(folder / "authority")
    with MakerIssuer(directory, Domain.METERING, PASSPHRASE, clock=lambda: NOW) as maker:
        make_batch(maker, "meter-boot", 1, folder / "batch")
    (identity,) = (path.parent for path in (folder / "batch").glob("*/identity.json"))
    clock = [AFTER_IT_ENDED]
    async with (
        open_authority(directory, PASSPHRASE, clock=lambda: NOW) as agent,
        open_device(identity, wall=lambda: clock[0], patience=PATIENCE) as device,
    ):
        yield Scene(agent, device, Port(agent), clock)


BECAUSE = "its device could not install it: signer expired (7)"


async def test_it_asks_anew_a_few_times_after_a_pause_each_and_then_says_what_is_wrong(
    tmp_path: Path,
) -> None:
    told: list[State] = []
    async with scene(tmp_path) as s:
        start = anyio.current_time()
        with pytest.raises(CertificateUnusable, match="expired") as caught:
            await s.device.enroll(LABEL, s.port, progress=lambda _, state: told.append(state))
        assert anyio.current_time() - start >= PAUSE * (MAX_UNUSABLE - 1)
        assert caught.value.reason is ProblemKind.SIGNER_EXPIRED
        assert s.states() == ["void"] * MAX_UNUSABLE
        assert s.voided_because() == [BECAUSE] * MAX_UNUSABLE
        assert told == [State.ENROLLING, State.REPORTING, State.FAILED] * MAX_UNUSABLE
        # Each with a key of its own, each reported once.
        assert len(set(s.port.bodies(Operation.SEN))) == len(s.port.bodies(Operation.SEN)) == MAX_UNUSABLE
        reports = [decode_request(Operation.CONF, body).payload for body in s.port.bodies(Operation.CONF)]
        assert len(reports) == MAX_UNUSABLE
        for report in reports:
            assert isinstance(report, Confirmation)
            assert report.status == ProblemKind.SIGNER_EXPIRED
        s.clock[0] = NOW
        await s.device.enroll(LABEL, s.port)
        assert s.states() == ["void"] * MAX_UNUSABLE + ["current"]


async def test_what_is_mended_meanwhile_comes_out_well_by_itself(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:

        def mend(_: str, state: State) -> None:
            if state is State.FAILED:
                s.clock[0] = NOW

        await s.device.enroll(LABEL, s.port, progress=mend)
        assert s.states() == ["void", "current"]


async def test_a_rekey_that_fails_so_leaves_the_old_certificate_in_use(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        s.clock[0] = NOW
        before = await s.device.enroll(LABEL, s.port)
        s.clock[0] = AFTER_IT_ENDED
        with pytest.raises(CertificateUnusable):
            await s.device.rekey(LABEL, s.port)
        assert s.states() == ["current"] + ["void"] * MAX_UNUSABLE
        (held,) = s.device.status().labels
        assert (held.serial, held.pending) == (before.serial, None)


async def test_a_report_whose_receipt_is_lost_is_said_again_and_voids_once(tmp_path: Path) -> None:
    async with scene(tmp_path) as s:
        s.port.deaf_to = [Operation.CONF]
        with pytest.raises(CertificateUnusable):
            await s.device.enroll(LABEL, s.port)
        reports = s.port.bodies(Operation.CONF)
        assert reports[0] == reports[1]
        assert len(reports) == MAX_UNUSABLE + 1
        assert s.voided_because() == [BECAUSE] * MAX_UNUSABLE
