"""The power fails before each single instruction that reaches the disk, and the device goes on after it."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.devices.agent import Device
from protocol import c509
from protocol.exchange.device import Enrollment, State
from protocol.exchange.device_effects import Done, Effects, Send
from protocol.labels import Operation
from protocol.message import sign_message
from protocol.ports import Outbound
from tests.world import World


class PowerLost(BaseException):
    """Nothing runs after this, so nothing may catch it."""


class Disk:
    """Stands in front of the operating system, counts what changes the disk, and stops at one of them.

    What was not flushed when the power went is either all there or all lost: data that was written is
    cut in half, and names go back to what they were.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_at: int | None) -> None:
        self.count = 0
        self.stop_at = stop_at
        self.is_dead = False
        self.paths: dict[int, str] = {}
        self.unflushed: set[str] = set()
        self.renames: list[tuple[str, str, bytes | None]] = []
        self.real = {name: getattr(os, name) for name in ("open", "fsync", "replace", "unlink", "close")}
        for name in ("open", "fsync", "replace", "unlink"):
            monkeypatch.setattr(os, name, getattr(self, name))

    def instruction(self) -> None:
        self.count += 1
        if self.is_dead or self.count == self.stop_at:
            self.is_dead = True
            raise PowerLost

    def open(self, path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & os.O_TRUNC:
            self.instruction()
            self.unflushed.add(os.fspath(path))
        descriptor: int = self.real["open"](path, flags, *args, **options)
        self.paths[descriptor] = os.fspath(path)
        return descriptor

    def fsync(self, descriptor: int) -> None:
        self.instruction()
        path = self.paths[descriptor]
        self.unflushed.discard(path)
        self.renames = [rename for rename in self.renames if os.path.dirname(rename[1]) != path]  # noqa: PTH120

    def replace(self, source: Any, target: Any) -> None:
        self.instruction()
        old = Path(target).read_bytes() if Path(target).exists() else None
        self.renames.append((os.fspath(source), os.fspath(target), old))
        self.real["replace"](source, target)

    def unlink(self, path: Any, **options: Any) -> None:
        self.instruction()
        self.real["unlink"](path, **options)

    def lose_what_was_not_flushed(self) -> None:
        for source, target, old in reversed(self.renames):
            self.real["replace"](target, source)
            if old is not None:
                Path(target).write_bytes(old)
        for name in self.unflushed:
            path = Path(name)
            if path.exists():
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


class Life:
    """A meter's life, done step by step, and done again from wherever the power failed."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.used: Counter[tuple[bytes, int]] = Counter()
        self.steps: list[Callable[[Device], None]] = [
            lambda device: self.obtain(device, Operation.SEN),
            self.send,
            self.send,
            lambda device: self.obtain(device, Operation.SREN),
            self.send,
            lambda device: self.obtain(device, Operation.SEN),
            self.send,
        ]

    def live(self) -> None:
        """Do what is left of it, in one go without power loss, or up to the power loss."""
        with Device.open(self.folder, wall=lambda: self.world.now) as device:
            pending = device._store.pending("meter-ds")
            if pending is not None:
                self.drive(device, device.prepare("meter-ds", pending.op))
                self.steps.pop(0)
            while self.steps:
                self.steps[0](device)
                self.steps.pop(0)

    def obtain(self, device: Device, op: Operation) -> None:
        self.drive(device, device.prepare("meter-ds", op))

    def drive(self, device: Device, machine: Enrollment) -> None:
        outgoing = self.do(device, machine.start(0.0))
        while outgoing is not None:
            reply = self.world.answer(outgoing)
            self.check(device)
            outgoing = self.do(device, machine.receive(reply, 0.0, 0.0))
        assert machine.state is State.DONE

    def do(self, device: Device, effects: Effects) -> Outbound | None:
        outgoing = None
        for effect in effects:
            match effect:
                case Send(request):
                    outgoing = request
                case Done():
                    pass
                case _:
                    device._store.apply("meter-ds", effect)
            self.check(device)
        return outgoing

    def send(self, device: Device) -> None:
        credential = device._store.current("meter-ds")
        assert credential is not None
        counter = device._store.next_counter("meter-ds")
        thumbprint = c509.thumbprint(credential.certificate)
        self.used[thumbprint, counter] += 1
        message = sign_message(credential.signer, thumbprint, "r", b"x", counter=counter, time=None)
        assert self.world.take_message("r", message) is None

    def check(self, device: Device) -> None:
        store = device._store
        pending = store.pending("meter-ds")
        held = [store.current_certificate("meter-ds"), pending.certificate if pending else None]
        there = [certificate for certificate in held if certificate is not None]
        assert not there or any(self.world.accepts(certificate) for certificate in there)


def instructions_of_a_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    world = World()
    life = Life(world, world.identity_folder(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        disk = Disk(patch, None)
        life.live()
    return disk.count


@pytest.mark.parametrize("is_flushed_only", [False, True], ids=["all survives", "only flushed survives"])
def test_power_loss_before_any_write_rename_or_flush_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_flushed_only: bool
) -> None:
    total = instructions_of_a_life(tmp_path, monkeypatch)
    assert total > 50
    world = World()
    for stop_at in range(1, total + 1):
        name = f"54524C{stop_at:010X}"
        life = Life(world, world.identity_folder(tmp_path / name, name))
        with monkeypatch.context() as patch:
            disk = Disk(patch, stop_at)
            with pytest.raises(PowerLost):
                life.live()
        if is_flushed_only:
            disk.lose_what_was_not_flushed()
        left = len(life.steps)
        life.live()
        assert not life.steps, f"stopped at {stop_at} with {left} steps left"
        assert max(life.used.values()) == 1, "a counter was used twice"
        assert not list((life.folder / "state").glob(".*")), "an unfinished file was left, perhaps with a key"
    assert max(world.issued.values()) == 1, "two certificates for one key"
    assert not world.refused
