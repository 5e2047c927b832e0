"""How long a car waits for its contract: from the ready store, and made on demand.

Behind the authority's port, without a transport: one request at a time, and many at once, each by a car of
its own. A station gives the authority 4.5 seconds (ISO 15118-2). Nothing is prepared in the background here:
what is to be ready is made ready before the clock starts.

    python -m bench.contract [--rounds 5] [--cars 20] [--at-once 64] [--json FILE]
"""

import argparse
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import anyio

from agents.authority import (
    AuthorityAgent,
    Layout,
    Limits,
    MakerIssuer,
    NewDevice,
    initialise,
    register_devices,
)
from agents.authority.agent import _open
from agents.authority.contracts import add_contract
from agents.authority.intents import new_serial
from agents.authority.issuer import ToBeIssued
from agents.authority.packing import Services, Vouching, chain_of
from agents.keys import SoftwareSigner, generate
from bench.measure import Spread, report
from protocol import c509
from protocol.exchange.request import Door, KeyRequest, sign_request
from protocol.identity import client_id
from protocol.labels import Domain, Operation
from protocol.ports import Content, Inbound
from protocol.profiles import profile_of, services_of

PASSPHRASE = b"bench"
DEADLINE = 4.5
DAY = 24 * 3600
PARTS = {"part 2": "ev", "part 20": "ev20"}
DOMAINS = (Domain.EV_MO, Domain.EV_CPS, Domain.EV20_MO, Domain.EV20_CPS)


class Cars:
    """New cars of one part, each granted a contract and with a request at hand."""

    def __init__(self, agent: AuthorityAgent, directory: Path, part: str) -> None:
        self.agent = agent
        self.part = part
        self.maker = MakerIssuer(directory, profile_of(f"{part}-oem").domain, PASSPHRASE)
        self.number = 0 if part == "ev" else 500_000

    def make(self, count: int, *, is_ready: bool) -> list[Inbound]:
        """Return one request of each of `count` cars; the authority has prepared what is to be ready."""
        requests = [self._car() for _ in range(count)]
        if is_ready:
            while self.agent.readiness.step():
                pass
        return requests

    def _car(self) -> Inbound:
        boot, label = f"{self.part}-oem", f"{self.part}-contract"
        self.number += 1
        name = f"TRL{self.number:015d}"
        profile = profile_of(boot)
        key = SoftwareSigner(generate(profile.algorithms[0]), even_y=False)
        certificate = self.maker.issue(profile, name, key.public_key).encoded
        number = client_id(self.maker.key_id, name)
        new = NewDevice(name, boot, self.maker.key_id, number, services_of(boot), certificate)
        now = int(time.time())
        register_devices(self.agent.store, [new], now, (self.maker.authority,))
        add_contract(self.agent.store, number, f"DEBEN{self.number:09d}", now)
        door = Door(self.maker.owner, label, Operation.SKG, 0)
        payload = KeyRequest(secrets.token_bytes(16), name).encode()
        body = sign_request(key, certificate, door, payload)
        return Inbound(label, Operation.SKG, body, f"coap:192.0.2.1:{self.number}")


async def one_by_one(agent: AuthorityAgent, requests: Sequence[Inbound]) -> list[float]:
    """Return the seconds that each answer took."""
    return [await asked(agent, request) for request in requests]


async def together(agent: AuthorityAgent, requests: Sequence[Inbound]) -> list[float]:
    """Return the seconds that each answer took where all are asked at once."""
    taken: list[float] = []

    async def ask(request: Inbound) -> None:
        taken.append(await asked(agent, request))

    async with anyio.create_task_group() as tasks:
        for request in requests:
            tasks.start_soon(ask, request)
    return taken


async def asked(agent: AuthorityAgent, request: Inbound) -> float:
    started = time.perf_counter()
    reply = await agent.handle(request)
    if not isinstance(reply, Content):
        raise SystemExit(f"refused: {reply}")
    return time.perf_counter() - started


def p99(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def vouching(agent: AuthorityAgent, label: str) -> Vouching:
    profile = profile_of(label)
    authority = agent.authorities[profile.domain]
    key = SoftwareSigner(generate(profile.algorithms[0]), even_y=False)
    now = int(time.time())
    order = ToBeIssued(
        profile, new_serial(), "cps-1", now - 60, now + DAY, profile.algorithms[0], key.public_key
    )
    encoded = authority.issuer.issue(order)
    leaf = c509.decode_certificate(encoded).to_der()
    return Vouching(key, (leaf, *chain_of(authority)), c509.thumbprint(encoded))


async def measure(
    directory: Path, rounds: int, cars: int, at_once: int
) -> dict[str, Spread | float | int | str]:
    found: dict[str, Vouching] = {}
    services: Services = {
        "ev-cps": lambda _: found.get("ev-cps"),
        "ev20-cps": lambda _: found.get("ev20-cps"),
    }
    figures: dict[str, Spread | float | int | str] = {}
    settings, authorities, store, lock = _open(directory, PASSPHRASE, int(time.time()))
    agent = AuthorityAgent(settings, authorities, store, Layout(directory), Limits(), time.time, services)
    async with agent.door.open():
        found |= {label: vouching(agent, label) for label in services}
        for name, part in PARTS.items():
            street = Cars(agent, directory, part)
            medians: dict[bool, list[float]] = {True: [], False: []}
            alone: dict[bool, list[float]] = {True: [], False: []}
            crowded: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(rounds):
                for is_ready in (True, False):  # they take turns, so a drifting machine hits both alike
                    taken = await one_by_one(agent, street.make(cars, is_ready=is_ready))
                    alone[is_ready] += taken
                    medians[is_ready].append(sorted(taken)[len(taken) // 2])
                    crowded[is_ready] += await together(agent, street.make(at_once, is_ready=is_ready))
            street.maker.close()
            for is_ready, words in ((True, "ready"), (False, "on demand")):
                milliseconds = [1000 * value for value in medians[is_ready]]
                figures[f"{name}, {words}: ms, median"] = Spread.of(milliseconds)
                figures[f"{name}, {words}: ms, p99 alone"] = 1000 * p99(alone[is_ready])
                figures[f"{name}, {words}: ms, p99 of {at_once} at once"] = 1000 * p99(crowded[is_ready])
            figures[f"{name}: on demand / ready"] = Spread.of(
                [slow / quick for quick, slow in zip(medians[True], medians[False], strict=True)]
            )
            figures[f"{name}: p99 of the deadline, {at_once} at once"] = p99(crowded[True]) / DEADLINE
    agent.close()
    os.close(lock)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cars", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=64)
    options, _ = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        directory = Path(folder) / "authority"
        initialise(directory, passphrase=PASSPHRASE, now=int(time.time()), domains=DOMAINS)
        shutil.rmtree(directory / "roots")
        figures = anyio.run(measure, directory, options.rounds, options.cars, options.at_once)
    report("contract", figures, targets={f"{name}: p99 of the deadline, 64 at once": "< 1" for name in PARTS})


if __name__ == "__main__":
    main()
