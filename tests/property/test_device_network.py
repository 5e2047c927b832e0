"""A device, an authority, and a network that loses, repeats, reorders, delays, corrupts, forges and replays.

Time is a number, chance comes from a seed that hypothesis chooses, the device's key store is a real one,
and the power fails now and then. Whatever happens: one certificate per key, the device always holds a
certificate that the authority accepts, and in the end the current one is. The authority is the small one
of `tests.world`, which says at every moment what it accepts, or the real agent with its store.
"""

import heapq
import os
import random
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import anyio
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from agents.authority import AuthorityAgent, MakerIssuer, initialise, open_authority, show_device
from agents.devices import keystore
from agents.devices.agent import Device
from agents.devices.identity import Identity
from agents.factory import make_batch
from protocol import c509
from protocol.errors import ProblemKind
from protocol.exchange.device import Enrollment, State
from protocol.exchange.device_effects import Done, Effects, Fail, Install, Promote, Send
from protocol.exchange.device_pace import Patience
from protocol.exchange.device_trust import public_key_of
from protocol.exchange.facts import CertificateState
from protocol.labels import Domain, Operation
from protocol.ports import Content, Inbound, Media, Outbound, Pending, Reply, SignedRefusal
from protocol.problem import Problem
from tests.world import GATEWAY, METER, NOW, World

PATIENCE = Patience(
    answer=8, longest_answer=60, pause=2, longest_pause=60, longest_retry_after=300, give_up=1e9
)


class PowerLost(Exception):
    """The device is off; what is on its disk is on its disk."""


@dataclass(frozen=True)
class Weather:
    """How bad the network is; each a probability."""

    lost: float = 0.0
    doubled: float = 0.0
    corrupted: float = 0.0
    forged: float = 0.0
    replayed: float = 0.0
    power_lost: float = 0.0
    longest_delay: float = 30.0


@dataclass(order=True)
class Event:
    at: float
    number: int
    what: Any = field(compare=False)


class Authority(Protocol):
    """What the sky needs of either authority."""

    now: int

    async def hear(self, request: Outbound, elapsed: float) -> Reply: ...
    def accepts(self, certificate: bytes) -> bool: ...
    def is_current(self, certificate: bytes) -> bool: ...
    def most_certificates_of_a_key(self) -> int: ...


class Small:
    """The world's authority."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now = world.now

    async def hear(self, request: Outbound, elapsed: float) -> Reply:
        self.world.now = self.now + int(elapsed)
        return self.world.answer(request)

    def accepts(self, certificate: bytes) -> bool:
        return self.world.accepts(certificate)

    def is_current(self, certificate: bytes) -> bool:
        return self.world.by_key_of(certificate).state == "current"

    def most_certificates_of_a_key(self) -> int:
        return max(self.world.issued.values(), default=1)


class Real:
    """The authority agent."""

    def __init__(self, agent: AuthorityAgent, client_id: str, clock: list[float]) -> None:
        self.agent = agent
        self.client_id = client_id
        self.clock = clock
        self.now = int(clock[0])

    async def hear(self, request: Outbound, elapsed: float) -> Reply:
        self.clock[0] = self.now + elapsed
        return await self.agent.handle(Inbound(request.label, request.op, request.body, "test:1"))

    def state_of(self, certificate: bytes) -> CertificateState:
        shown = show_device(self.agent.store, self.client_id).certificates
        (state,) = [one.state for one in shown if one.encoded == certificate]
        return state

    def accepts(self, certificate: bytes) -> bool:
        return self.state_of(certificate).is_alive

    def is_current(self, certificate: bytes) -> bool:
        return self.state_of(certificate) is CertificateState.CURRENT

    def most_certificates_of_a_key(self) -> int:
        shown = show_device(self.agent.store, self.client_id).certificates
        keys = Counter(public_key_of(c509.decode_certificate(one.encoded)) for one in shown)
        return max(keys.values())


class Sky:
    """One device and one authority under one weather."""

    def __init__(
        self, authority: Authority, folder: Path, weather: Weather, seed: int, *, is_checked: bool
    ) -> None:
        self.authority = authority
        self.is_checked = is_checked
        self.folder = folder
        self.weather = weather
        self.random = random.Random(seed)
        self.now = 0.0
        self.events: list[Event] = []
        self.number = 0
        self.replies: list[Reply] = []
        self.was_installed: set[str] = set()
        self.is_promoted = False
        self.opened = self._open()
        self.device = self.opened.__enter__()

    def _open(self) -> Any:
        return Device.open(self.folder, wall=lambda: self.authority.now + self.now, patience=PATIENCE)

    def close(self) -> None:
        self.opened.__exit__(None, None, None)

    async def obtain(self, label: str, op: Operation) -> None:
        """Run one exchange to its end, through any number of power losses."""
        self.is_promoted = False
        while not self.is_promoted:
            machine = self.device.prepare(label, op)
            try:
                await self.run(label, machine)
            except PowerLost:
                self.close()
                self.opened = self._open()
                self.device = self.opened.__enter__()

    async def run(self, label: str, machine: Enrollment) -> None:
        self.do(label, machine.start(self.now))
        for _ in range(20_000):
            if machine.state is State.DONE:
                return
            self.maybe_lose_power()
            if self.events and self.events[0].at <= machine.deadline:
                event = heapq.heappop(self.events)
                self.now = max(self.now, event.at)
                if isinstance(event.what, Outbound):
                    reply = await self.authority.hear(event.what, self.now)
                    self.replies.append(reply)
                    self.carry(reply)
                else:
                    self.do(label, machine.receive(event.what, self.now, self.random.random()))
            else:
                self.now = max(self.now, machine.deadline)
                self.do(label, machine.timeout(self.now, self.random.random()))
        pytest.fail("it never ends")

    def maybe_lose_power(self) -> None:
        if self.random.random() < self.weather.power_lost:
            raise PowerLost

    def do(self, label: str, effects: Effects) -> None:
        for effect in effects:
            match effect:
                case Send(request):
                    self.carry(request)
                case Fail(error):
                    pytest.fail(f"nothing that is not signed ends an exchange: {error}")
                case Done():
                    pass
                case _:
                    self.device._store.apply(label, effect)
                    if isinstance(effect, Install):
                        self.was_installed.add(label)
                    self.is_promoted |= isinstance(effect, Promote)
            self.check()
            self.maybe_lose_power()

    def carry(self, what: Outbound | Reply) -> None:
        """Let the network have it."""
        weather, chance = self.weather, self.random
        if isinstance(what, Outbound):
            if chance.random() < weather.forged:
                self.deliver(self.forgery())
            if self.replies and chance.random() < weather.replayed:
                self.deliver(chance.choice(self.replies))
        if chance.random() < weather.lost:
            return
        for _ in range(1 + (chance.random() < weather.doubled)):
            self.deliver(self.corrupt(what) if chance.random() < weather.corrupted else what)

    def deliver(self, what: Outbound | Reply) -> None:
        self.number += 1
        at = self.now + self.random.uniform(0.01, self.weather.longest_delay)
        heapq.heappush(self.events, Event(at, self.number, what))

    def corrupt(self, what: Any) -> Any:
        body = bytearray(getattr(what, "body", b""))
        if not body:
            return what
        for _ in range(self.random.randint(1, 3)):
            body[self.random.randrange(len(body))] ^= 1 << self.random.randrange(8)
        return replace(what, body=bytes(body))

    def forgery(self) -> Reply:
        chance = self.random
        problem = Problem(chance.choice(list(ProblemKind)), "forged", chance.choice([None, 0.0, 5.0, 1e6]))
        forgeries: list[Reply] = [
            problem,
            Pending(chance.choice([0.0, 5.0, 1e6])),
            SignedRefusal(chance.randbytes(90), problem),
            Content(chance.randbytes(90), chance.choice(list(Media))),
        ]
        return chance.choice(forgeries)

    def check(self) -> None:
        """The promises, at every moment (the real authority is asked now and then: it reads its disk)."""
        if not self.is_checked and self.random.random() < 0.95:
            return
        assert self.authority.most_certificates_of_a_key() == 1, "two certificates for one key"
        store = self.device._store
        for label in self.was_installed:
            pending = store.pending(label)
            held = [store.current_certificate(label), pending.certificate if pending else None]
            assert any(c is not None and self.authority.accepts(c) for c in held), f"nothing good: {label}"


WEATHERS = st.builds(
    Weather,
    lost=st.sampled_from([0.0, 0.3, 0.6]),
    doubled=st.sampled_from([0.0, 0.5]),
    corrupted=st.sampled_from([0.0, 0.2]),
    forged=st.sampled_from([0.0, 0.5]),
    replayed=st.sampled_from([0.0, 0.5]),
    power_lost=st.sampled_from([0.0, 0.01, 0.05]),
    longest_delay=st.sampled_from([1.0, 20.0, 200.0]),
)


@pytest.fixture(autouse=True)
def _no_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    # Power fails here between writes only; what happens inside of one is another test's matter.
    monkeypatch.setattr(keystore, "write_atomically", lambda path, data: path.write_bytes(data))
    monkeypatch.setattr(os, "sync", lambda: None)


async def live(sky: Sky, orders: list[tuple[str, Operation]]) -> None:
    try:
        for label, op in orders:
            await sky.obtain(label, op)
            current = sky.device._store.current_certificate(label)
            assert current is not None
            assert sky.authority.is_current(current)
        assert sky.authority.most_certificates_of_a_key() == 1
    finally:
        sky.close()


METER_LIFE = [
    ("meter-ds", Operation.SEN),
    ("meter-ds", Operation.SREN),
    ("meter-ka", Operation.SEN),
    ("meter-ka", Operation.SREN),
    ("meter-ds", Operation.SEN),
]
GATEWAY_LIFE = [("its-enroll", Operation.SEN), ("its-enroll", Operation.SREN)]


@given(weather=WEATHERS, seed=st.integers(0, 2**32), is_meter=st.booleans())
def test_a_device_gets_there_in_any_weather(weather: Weather, seed: int, is_meter: bool) -> None:
    async def run() -> None:
        world = World(Domain.METERING if is_meter else Domain.ITS)
        with tempfile.TemporaryDirectory() as folder:
            identity = world.identity_folder(Path(folder) / "device", METER if is_meter else GATEWAY)
            sky = Sky(Small(world), identity, weather, seed, is_checked=True)
            await live(sky, METER_LIFE if is_meter else GATEWAY_LIFE)
        current = [(r.label, r.state) for r in world.by_key.values() if r.state == "current"]
        assert len(current) == len(set(current)), "one current certificate per label"

    anyio.run(run)


# A life with a real store takes a second in the worst weather: few examples, and none made smaller.
@settings(max_examples=10, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(weather=WEATHERS, seed=st.integers(0, 2**32), is_meter=st.booleans())
def test_so_it_does_with_the_real_authority(weather: Weather, seed: int, is_meter: bool) -> None:
    async def run() -> None:
        domain = Domain.METERING if is_meter else Domain.ITS
        clock = [float(NOW)]
        with tempfile.TemporaryDirectory() as folder:
            directory, out = Path(folder) / "authority", Path(folder) / "batch"
            initialise(directory, passphrase=b"secret", now=NOW)
            shutil.rmtree(directory / "roots")
            with MakerIssuer(directory, domain, b"secret", clock=lambda: clock[0]) as maker:
                batch = make_batch(maker, "meter-boot" if is_meter else "its-boot", 1, out)
            identity = Identity.load(out / next(batch.names()))
            async with open_authority(directory, b"secret", clock=lambda: clock[0]) as agent:
                authority = Real(agent, identity.client_id, clock)
                sky = Sky(authority, identity.folder, weather, seed, is_checked=False)
                await live(sky, METER_LIFE if is_meter else GATEWAY_LIFE)

    anyio.run(run)
