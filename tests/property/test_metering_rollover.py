"""New keys on a network that loses, repeats, reorders, corrupts and replays, with power failures all round.

Time is a number, chance comes from a seed that hypothesis chooses, and each side lives from what is on its
disk: bytes, as a driver would store them. Whatever happens: at every moment the head-end has the set that the
meter uses, in the end both use the same one and nothing else, and no key serves two generations.
"""

import heapq
import random
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from agents.keys import SoftwareSigner
from protocol.exchange.device_pace import Patience
from protocol.metering import rollover
from protocol.metering.agreement import Scheme
from protocol.metering.keys import KeyKind, KeySet
from protocol.metering.rollover import (
    Done,
    Effects,
    HeadEnd,
    Meter,
    MeterState,
    Offered,
    Pairing,
    Plan,
    Refused,
    Send,
    Settled,
    Store,
    Switching,
)
from protocol.metering.suite import SUITE_1, SUITE_2, Suite
from protocol.metering.title import SystemTitle

HEAD_END = SystemTitle.of_maker("TRL", 1)
METER = SystemTitle.of_maker("TRL", 2)
PATIENCE = Patience(answer=8, longest_answer=60, pause=2, longest_pause=60)
AGREED = (KeyKind.UNICAST, KeyKind.AUTHENTICATION, KeyKind.MASTER)


class PowerLost(Exception):
    """A side is off; what is on its disk is on its disk."""


@dataclass(frozen=True)
class Weather:
    """How bad it is; each a probability."""

    lost: float
    doubled: float
    corrupted: float
    replayed: float
    power_lost: float
    abandoned: float
    unwilling: float
    """How often the meter, for one message, cannot do C(1e, 1s)."""
    outdated: float
    """How often the head-end begins with a key-agreement key that the meter has replaced."""
    longest_delay: float


WEATHERS = st.builds(
    Weather,
    lost=st.sampled_from([0.0, 0.3, 0.5]),
    doubled=st.sampled_from([0.0, 0.5]),
    corrupted=st.sampled_from([0.0, 0.2]),
    replayed=st.sampled_from([0.0, 0.5]),
    power_lost=st.sampled_from([0.0, 0.02, 0.1]),
    abandoned=st.sampled_from([0.0, 0.05]),
    unwilling=st.sampled_from([0.0, 0.2]),
    outdated=st.sampled_from([0.0, 0.3]),
    longest_delay=st.sampled_from([1.0, 20.0, 200.0]),
)


@dataclass(order=True)
class Event:
    at: float
    number: int
    is_for_meter: bool = field(compare=False)
    data: bytes = field(compare=False)


@cache
def private_key(suite: Suite, name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(suite.curve)


class Sky:
    """One head-end and one meter under one weather."""

    def __init__(self, suite: Suite, weather: Weather, seed: int) -> None:
        self.suite, self.weather, self.random = suite, weather, random.Random(seed)
        self.now = 0.0
        self.events: list[Event] = []
        self.number = 0
        self.sent: list[tuple[bool, bytes]] = []
        self.uses: dict[bytes, tuple[int, KeyKind]] = {}
        self.refused = 0
        first = KeySet(0, {kind: self.random.randbytes(suite.key_bytes) for kind in KeyKind})
        self.head_end_disk = rollover.encode_head_end(Settled(first))
        self.meter_disk = rollover.encode_meter(MeterState(first))
        self.start_head_end()
        self.start_meter()
        self.check()

    def pairing(self, own: str, own_title: SystemTitle, peer: str, peer_title: SystemTitle) -> Pairing:
        signer = SoftwareSigner(private_key(self.suite, own), even_y=False)
        return Pairing(self.suite, own_title, signer, peer_title, private_key(self.suite, peer).public_key())

    def start_head_end(self) -> None:
        state = rollover.decode_head_end(self.head_end_disk)
        pairing = self.pairing("head-end ds", HEAD_END, "meter ds", METER)
        is_outdated = self.random.random() < self.weather.outdated
        meter_key = private_key(self.suite, "old meter ka" if is_outdated else "meter ka").public_key()
        self.head_end = HeadEnd(pairing, state, meter_key, PATIENCE)

    def start_meter(self) -> None:
        state = rollover.decode_meter(self.meter_disk)
        pairing = self.pairing("meter ds", METER, "head-end ds", HEAD_END)
        is_unwilling = self.random.random() < self.weather.unwilling
        static = None if is_unwilling else private_key(self.suite, "meter ka")
        self.meter = Meter(pairing, state, lambda: ec.generate_private_key(self.suite.curve), static)

    def roll_over(self, scheme: Scheme) -> None:
        """Take the fleet's decision, and follow it until both sides are through."""
        goal = self.head_end.keys[0].generation
        for _ in range(20_000):
            state = self.head_end.state
            if isinstance(state, Settled):
                if state.keys.generation > goal:
                    return
                self.start_head_end()
                self.as_head_end(lambda: self.head_end.begin(self.plan(scheme), self.now))
            elif isinstance(state, Offered) and self.random.random() < self.weather.abandoned:
                self.as_head_end(self.head_end.abandon)
            elif self.events and self.events[0].at <= self.head_end.deadline:
                event = heapq.heappop(self.events)
                self.now = max(self.now, event.at)
                if event.is_for_meter:
                    self.start_meter()
                    self.as_meter(lambda data=event.data: self.meter.receive(data))
                else:
                    self.as_head_end(lambda data=event.data: self.head_end.receive(data, self.now))
            else:
                self.now = max(self.now, self.head_end.deadline)
                self.as_head_end(lambda: self.head_end.timeout(self.now, self.random.random()))
        pytest.fail("it never ends")

    def plan(self, scheme: Scheme) -> Plan:
        return Plan(
            scheme,
            self.random.randbytes(8),
            {kind: ec.generate_private_key(self.suite.curve) for kind in AGREED},
            {KeyKind.BROADCAST: self.random.randbytes(self.suite.key_bytes)},
        )

    def as_head_end(self, step: Any) -> None:
        try:
            self.maybe_lose_power()
            self.do(step(), is_meter=False)
        except PowerLost:
            self.start_head_end()
            # The power may fail again as soon as it is back.
            self.as_head_end(lambda: self.head_end.resume(self.now))

    def as_meter(self, step: Any) -> None:
        try:
            self.maybe_lose_power()
            self.do(step(), is_meter=True)
        except PowerLost:
            self.start_meter()

    def maybe_lose_power(self) -> None:
        if self.random.random() < self.weather.power_lost:
            raise PowerLost

    def do(self, effects: Effects, *, is_meter: bool) -> None:
        for effect in effects:
            match effect:
                case Store(MeterState() as state):
                    assert is_meter
                    self.meter_disk = rollover.encode_meter(state)
                case Store((Settled() | Offered() | Switching()) as state):
                    assert not is_meter
                    self.head_end_disk = rollover.encode_head_end(state)
                case Send(message):
                    self.carry(message, is_for_meter=not is_meter)
                case Done(keys):
                    assert keys.keys.keys() == set(KeyKind)
                case Refused():
                    self.refused += 1
                case _:
                    pass
            if isinstance(effect, Store):
                self.check()
            self.maybe_lose_power()

    def carry(self, data: bytes, *, is_for_meter: bool) -> None:
        """Let the network have it."""
        weather, chance = self.weather, self.random
        self.sent.append((is_for_meter, data))
        if chance.random() < weather.replayed:
            self.deliver(*chance.choice(self.sent))
        if chance.random() < weather.lost:
            return
        for _ in range(1 + (chance.random() < weather.doubled)):
            is_bad = chance.random() < weather.corrupted
            self.deliver(is_for_meter, self.corrupt(data) if is_bad else data)

    def deliver(self, is_for_meter: bool, data: bytes) -> None:
        self.number += 1
        at = self.now + self.random.uniform(0.01, self.weather.longest_delay)
        heapq.heappush(self.events, Event(at, self.number, is_for_meter, data))

    def corrupt(self, data: bytes) -> bytes:
        body = bytearray(data)
        body[self.random.randrange(len(body))] ^= 1 << self.random.randrange(8)
        return bytes(body)

    def check(self) -> None:
        """The promises, at every moment, of what is on the disks."""
        head_end = rollover.decode_head_end(self.head_end_disk)
        meter = rollover.decode_meter(self.meter_disk)
        held = [head_end.keys, *([head_end.next] if isinstance(head_end, Switching) else [])]
        assert meter.keys in held, "no common key"
        for keys in (*held, meter.keys):
            for kind, key in keys.keys.items():
                assert self.uses.setdefault(key, (keys.generation, kind)) == (keys.generation, kind)


@given(
    weather=WEATHERS,
    seed=st.integers(0, 2**32),
    schemes=st.lists(st.sampled_from([Scheme.EPHEMERAL, Scheme.ONE_PASS]), min_size=1, max_size=3),
    suite=st.sampled_from([SUITE_1] * 5 + [SUITE_2]),
)
def test_both_sides_end_with_the_same_keys_in_any_weather(
    weather: Weather, seed: int, schemes: list[Scheme], suite: Suite
) -> None:
    sky = Sky(suite, weather, seed)
    for scheme in schemes:
        sky.roll_over(scheme)
        head_end, meter = rollover.decode_head_end(sky.head_end_disk), rollover.decode_meter(sky.meter_disk)
        assert isinstance(head_end, Settled)
        assert head_end.keys == meter.keys
        assert meter.pending is None
        assert head_end.keys.generation == meter.floor == head_end.counter
    if not weather.unwilling and not weather.outdated:
        assert sky.refused == 0, "two sides that agree on everything never refuse"
