"""The power of a car fails before each single instruction that reaches its disk: no contract is lost."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.devices.agent import Device
from protocol.exchange.device_effects import Done, Effects, Send
from protocol.labels import Operation
from protocol.ports import Outbound
from tests.contract_world import EMAID, Port, Scene, scene
from tests.service.test_device_powerloss import Disk, PowerLost

LABEL = "ev-contract"
STEPS = (Operation.SEN, Operation.SREN, Operation.SEN)
HOUR = 3600


class Life:
    """First contract, renewal and recovery; done again from wherever the power failed."""

    def __init__(self, found: Scene) -> None:
        self.scene = found
        self.folder = found.identity().folder
        self.port = Port(found.agent)
        self.steps = list(STEPS)

    def live(self) -> None:
        with Device.open(self.folder, wall=self.scene.clock) as device:
            pending = device._store.pending(LABEL)
            if pending is not None:
                self.drive(device, pending.op)
                self.steps.pop(0)
            while self.steps:
                self.drive(device, self.steps[0])
                self.steps.pop(0)

    def drive(self, device: Device, op: Operation) -> None:
        machine = device.prepare(LABEL, op)
        outgoing = self.do(device, machine.start(0.0))
        while outgoing is not None:
            reply = self.port._answer(outgoing)
            outgoing = self.do(device, machine.receive(reply, 0.0, 0.0))

    def do(self, device: Device, effects: Effects) -> Outbound | None:
        for effect in effects:
            match effect:
                case Send(request):
                    return request
                case Done():
                    return None
                case _:
                    device._store.apply(LABEL, effect)
        raise AssertionError(effects)


def restart(found: Scene) -> Life:
    """Return the same car as it came from the factory."""
    found.clock.now += 2 * HOUR
    shutil.rmtree(found.identity().folder / "state")
    return Life(found)


@pytest.fixture
def found(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as one:
        one.grant(one.car())
        yield one


def test_power_loss_at_any_instruction_loses_no_contract(found: Scene) -> None:
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, None)
        Life(found).live()
    assert disk.count > 20
    for stop_at in range(1, disk.count + 1):
        life = restart(found)
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, stop_at)
            with pytest.raises(PowerLost):
                life.live()
        disk.lose_what_was_not_flushed()
        life.live()
        with Device.open(life.folder, wall=found.clock) as device:
            assert device._store.pending(LABEL) is None
            held = device._bearer.certificate(LABEL)
            credential = device._bearer.credential(LABEL)
        assert held.subject.cn == EMAID
        assert credential.signer.sign(b"x")
        rows = found.rows("certificates")["certificates"]
        assert [row[12] for row in rows if row[6] == "current" and row[3] == LABEL] == [held.encoded]
