"""A meter changes hands, again and again, in the middle of whatever it does, in any weather.

The network loses, repeats, reorders, delays, corrupts, forges and replays, and the power fails. Owners are
real authorities under one root; transfers happen between two messages, and the papers reach the next owner
late. In the end the meter is its last owner's, by itself: enrolled there and nowhere else. And whatever it
ever sent opens nothing afterwards.
"""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from agents.authority import show_device
from protocol.errors import OwnerChanged
from protocol.exchange.device_effects import Done, Effects, Fail, Install, Promote, Send
from protocol.exchange.facts import CertificateState
from protocol.labels import Operation
from protocol.ports import Content, Inbound, Media, Outbound, Reply
from tests.owners_world import NOW, Country, House, country, make_template
from tests.property.test_device_network import WEATHERS, PowerLost, Sky, Weather, _no_flushing

__all__ = ["_no_flushing"]  # a fixture that counts here, too

LABEL = "meter-ds"
PLANS = st.lists(
    st.tuples(st.sampled_from(["Tenant", "Lodger", "south", "north", "east"]), st.booleans()),
    min_size=1,
    max_size=4,
)
"""To whom, one after the other, and whether the maker signs the voucher."""


class Moved(Exception):
    """The device has another owner."""


class Registry:
    """Whose the meter is, and where; as an authority to the sky."""

    def __init__(self, land: Country, name: str, plan: list[tuple[str, bool]], chance: random.Random) -> None:
        self.land = land
        self.name = name
        self.plan = plan
        self.chance = chance
        self.now = NOW
        self.house = land["north"]
        self.at = "north"
        """Where the device's requests end."""
        self.papers: list[tuple[House, bytes, bool]] = []
        self.heard: list[Outbound] = []

    async def hear(self, request: Outbound, elapsed: float) -> Reply:
        for house in self.land.houses.values():
            house.clock[0] = self.now + elapsed
        self.heard.append(request)
        if self.plan and self.chance.random() < 0.2:
            self.move()
        if self.papers and self.chance.random() < 0.4:
            self.deliver()
        house = self.land[self.at]
        return await house.agent.handle(Inbound(request.label, request.op, request.body, "test:1"))

    def move(self) -> None:
        to, by_maker = self.plan.pop(0)
        while self.papers:  # nobody gives away what has not come yet
            self.deliver()
        if to not in self.land.houses:
            self.house.transfer([self.name], to)
        elif to != self.house.name:
            # Of its own maker's devices only the first house has the voucher key.
            is_by_maker = by_maker and self.house.name == "north"
            self.house.transfer([self.name], to, by_maker=is_by_maker, at=f"coap://{to}")
            self.papers.append((self.land[to], self.house.bundle(self.name), is_by_maker))
            self.house = self.land[to]

    def deliver(self) -> None:
        house, bundle, is_by_maker = self.papers.pop(0)
        house.accept(bundle, voucher_keys=[self.land.maker_key()] if is_by_maker else [])

    def found(self, certificate: bytes) -> list[CertificateState]:
        return [
            one.state
            for house in self.land.houses.values()
            for one in self.certificates(house)
            if one.encoded == certificate
        ]

    def certificates(self, house: House) -> tuple[Any, ...]:
        with house.agent.store.reading() as connection:
            sql = "SELECT client_id FROM devices WHERE name = ?"
            ids = [row[0] for row in connection.exec_driver_sql(sql, (self.name,))]
        return tuple(
            one for client_id in ids for one in show_device(house.agent.store, client_id).certificates
        )

    def accepts(self, certificate: bytes) -> bool:
        return any(state.is_alive for state in self.found(certificate))

    def is_current(self, certificate: bytes) -> bool:
        return CertificateState.CURRENT in self.found(certificate)

    def most_certificates_of_a_key(self) -> int:
        return 1  # a key of the store's own, `keys.key_hash`, sees to it


class Journey(Sky):
    """One device under a sky, whose owners change."""

    authority: Registry

    def check(self) -> None:
        """A transfer leaves a device with nothing for a while; what counts is the end."""

    def do(self, label: str, effects: Effects) -> None:
        for effect in effects:
            match effect:
                case Send(request):
                    self.carry(request)
                case Fail(OwnerChanged()):
                    raise Moved
                case Fail(error):
                    pytest.fail(f"nothing that is not signed ends an exchange: {error}")
                case Done():
                    pass
                case _:
                    self.device._store.apply(label, effect)
                    if isinstance(effect, Install):
                        self.was_installed.add(label)
                    self.is_promoted |= isinstance(effect, Promote)
            self.maybe_lose_power()

    async def travel(self, ops: Iterator[Operation]) -> None:
        """Do what comes until nothing is left to happen, then once more."""
        rest = 2
        while rest:
            is_over = not self.authority.plan and not self.authority.papers
            self.is_promoted = False
            op = next(ops)
            while not self.is_promoted:
                if self.device._store.current(LABEL) is None:
                    op = Operation.SEN
                try:
                    await self.run(LABEL, self.device.prepare(LABEL, op))
                except (PowerLost, Moved):
                    self.close()
                    self.opened = self._open()
                    self.device = self.opened.__enter__()
                    # Where it goes is on its disk, too.
                    at = self.device.status().at
                    self.authority.at = "north" if at is None else at.removeprefix("coap://")
            rest -= is_over


@settings(max_examples=12, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(weather=WEATHERS, seed=st.integers(0, 2**32), plan=PLANS)
def test_a_device_always_ends_with_its_last_owner(
    template: Path, weather: Weather, seed: int, plan: list[tuple[str, bool]]
) -> None:
    async def run() -> None:
        chance = random.Random(seed)
        with tempfile.TemporaryDirectory() as folder:
            async with country(template, Path(folder)) as land:
                registry = Registry(land, land.meters[0].name, list(plan), chance)
                sky = Journey(registry, land.meters[0], weather, seed, is_checked=False)
                ops = iter(lambda: chance.choice([Operation.SEN, Operation.SREN]), None)
                try:
                    await sky.travel(ops)
                    status = sky.device.status()
                    held = sky.device._store.current_certificate(LABEL)
                finally:
                    sky.close()
                await check(registry, held, (status.authority, status.epoch))

    anyio.run(run)


async def check(registry: Registry, held: bytes | None, belief: tuple[bytes, int]) -> None:
    owner = registry.house
    (device,) = [one for one in owner.everything()["devices"] if registry.name in one]
    epoch = show_device(owner.agent.store, str(device[5])).epoch
    assert belief == (owner.key_id, epoch)
    for house in registry.land.houses.values():
        alive = [
            one.encoded for one in registry.certificates(house) if one.label == LABEL and one.state.is_alive
        ]
        assert alive == ([held] if house is owner else []), house.name
    # Everything that it ever sent, everywhere once more.
    before = {name: len(registry.certificates(house)) for name, house in registry.land.houses.items()}
    for request in {one.body: one for one in registry.heard if one.body}.values():
        for house in registry.land.houses.values():
            house.clock[0] += 3600
            reply = await house.agent.handle(Inbound(request.label, request.op, request.body, "test:2"))
            if isinstance(reply, Content) and reply.media is Media.C509_CERTIFICATE:
                assert reply.body == held, "an old request opened something"
    assert before == {name: len(registry.certificates(house)) for name, house in registry.land.houses.items()}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("country"))
