"""The lab's play: make an authority and its devices, let them live, revoke one, count.

init ─ factory (each kind) ─ serve ─ [proxy] ─ fleets: enroll, confirm, rekey, confirm, send
                                               └─ revoke one ─ its next message is refused ─ count
"""

import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import anyio

from agents.lab.children import Child, ChildFailed, Nursery
from agents.lab.failure import LabFailed, first_failure
from agents.lab.reports import Fleet, Kind, Server
from agents.lab.screen import Screen
from agents.lab.tally import FleetTally, Summary, median

READY_SECONDS: Final = 60.0
"""How long a program may take until it is ready; a slow machine takes five seconds."""
REVOKED_SECONDS: Final = 1.0
"""How long a running authority may take to notice a revocation."""
REFUSAL_SECONDS: Final = 5.0
"""How long a refused message may take to show in the counts, where nobody tells its sender (MQTT)."""
REFUSAL_TRIES: Final = 12
"""Messages that a revoked device sends over a bad network until one arrives."""
STATS_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Plan:
    """What is played."""

    meters: int
    gateways: int
    loss: float
    seed: int
    messages: int
    folder: Path
    """Where everything is made; exists."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Kinds of which there are any."""
        kinds = (
            Kind("meters", "meter-boot", "coap", self.meters),
            Kind("gateways", "its-boot", "mqtt", self.gateways),
        )
        return tuple(kind for kind in kinds if kind.count)


class Lab:
    """One play. `run` it once; `fleets` can be looked at afterwards, also when it failed."""

    def __init__(self, plan: Plan, screen: Screen) -> None:
        self._plan = plan
        self._screen = screen
        self._server = Server()
        self._fleets = [Fleet(kind, FleetTally(kind.count)) for kind in plan.kinds]
        self._authority = plan.folder / "authority"
        self.logs = plan.folder / "logs"
        """What the programs wrote to stderr, a file for each."""

    @property
    def fleets(self) -> dict[str, FleetTally]:
        """How far the fleets are, by kind."""
        return {fleet.kind.name: fleet.tally for fleet in self._fleets}

    async def run(self) -> Summary:
        """Play.

        Raises:
            ChildFailed: A program failed.
            LabFailed: Everything ran, and something went otherwise than it should.

        Cancellation: at any point; every program is ended first.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        # For this run's keys only; nobody has to remember it.
        environment = {"TRILLIUM_PASSPHRASE": secrets.token_urlsafe(24)}
        try:
            async with anyio.create_task_group() as tasks:
                async with AsyncExitStack() as stack:
                    summary = await self._play(Nursery(tasks, self.logs, environment), stack)
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise first_failure(group) from None
        return summary

    async def _play(self, nursery: Nursery, stack: AsyncExitStack) -> Summary:
        # Started early: they load while the authority and its devices are made.
        for fleet in self._fleets:
            fleet.child = await stack.enter_async_context(
                nursery.start(fleet.kind.name, ["fleet", fleet.kind.label], fleet.read)
            )
        await self._make(nursery)
        async with self._serving(nursery) as server:
            via = await self._network(nursery, stack)
            seconds = await self._live(via)
            await self._revoke_one(nursery)
            self._screen.step("counting")
        await server.ended.wait()
        return await self._count(nursery, seconds)

    async def _make(self, nursery: Nursery) -> None:
        self._screen.step("making an authority: root, makers, operators, an empty store")
        authority = str(self._authority)
        roots = anyio.Path(self._plan.folder / "roots")
        await nursery.run("init", "init", authority, "--roots", str(roots))
        # As an operator would carry them away: nobody serves while the root keys are where init put them.
        await roots.rename(self._plan.folder / "roots-put-away")
        counts = " and ".join(f"{kind.count} {kind.name}" for kind in self._plan.kinds)
        self._screen.step(f"making {counts} in the factory")
        async with anyio.create_task_group() as tasks:
            for kind in self._plan.kinds:
                out = str(self._plan.folder / kind.name)
                options = ("--label", kind.label, "--count", str(kind.count), "--out", out)
                tasks.start_soon(nursery.run, f"factory-{kind.name}", "factory", authority, *options)

    @asynccontextmanager
    async def _serving(self, nursery: Nursery) -> AsyncGenerator[Child, None]:
        self._screen.step("starting the authority, its broker and its CoAP endpoint")
        local = "127.0.0.1:0"
        arguments = ["serve", str(self._authority), "--coap", local, "--mqtt", local, "--until-eof"]
        arguments += ["--stats", str(STATS_SECONDS)]
        async with nursery.start("serve", arguments, self._server.read) as child:
            await _ready(child, self._server.ready)
            yield child

    async def _network(self, nursery: Nursery, stack: AsyncExitStack) -> dict[str, str]:
        """Return where devices connect to: the server, or proxies in front of it."""
        if not self._plan.loss:
            return self._server.addresses
        self._screen.step(f"putting a network in between that loses {self._plan.loss:.0%}")
        proxy = Server()
        arguments = ["proxy", "--loss", str(self._plan.loss), "--seed", str(self._plan.seed)]
        for scheme, uri in self._server.addresses.items():
            arguments += [f"--{scheme}", uri.partition("//")[2]]
        child = await stack.enter_async_context(nursery.start("proxy", arguments, proxy.read))
        await _ready(child, proxy.ready)
        return proxy.addresses

    async def _live(self, via: dict[str, str]) -> float:
        """Let the fleets do everything; return how many seconds that took."""
        self._screen.step("devices enroll, rekey and send signed messages")
        start = time.monotonic()
        for fleet in self._fleets:
            await fleet.tell(
                run=str(self._plan.folder / fleet.kind.name),
                via=via[fleet.kind.scheme],
                messages=self._plan.messages,
                lossy=self._plan.loss > 0,
            )
        for fleet in self._fleets:
            while not fleet.done.is_set():
                with anyio.move_on_after(0.1):
                    await fleet.done.wait()
                self._screen.show(self.fleets, self._server.verified)
        return time.monotonic() - start

    async def _revoke_one(self, nursery: Nursery) -> None:
        """Revoke a device and have it send once more; nobody may take that."""
        chosen = [fleet for fleet in self._fleets if not fleet.tally.failed][:1]
        if not chosen:
            return  # nobody is left to try it with, and the summary says so
        (fleet,) = chosen
        names = sorted(
            path.parent.name for path in (self._plan.folder / fleet.kind.name).glob("*/identity.json")
        )
        # Not for secrets: the seed makes the choice repeatable.
        device = Random(self._plan.seed).choice(names)  # noqa: S311
        self._screen.step(f"revoking {device}, which then tries to send")
        await nursery.run("revoke", "revoke", str(self._authority), device, "--reason", "key-compromise")
        await anyio.sleep(REVOKED_SECONDS)
        before = self._server.refused["signer_revoked"]
        for _ in range(REFUSAL_TRIES if self._plan.loss else 1):
            fleet.answered = anyio.Event()
            await fleet.tell(send=device)
            await fleet.answered.wait()
            if fleet.answer.get("refused") or await self._counted(before):
                return
        raise LabFailed(f"{device} was revoked, and nobody refused its next message")

    async def _counted(self, before: int) -> bool:
        """Return whether one more message of a revoked signer was refused, as the verifier counts."""
        with anyio.move_on_after(REFUSAL_SECONDS if not self._plan.loss else 1.0):
            while self._server.refused["signer_revoked"] <= before:
                await self._server.changed.wait()
            return True
        return False

    async def _count(self, nursery: Nursery, seconds: float) -> Summary:
        lines = await nursery.run("devices", "devices", str(self._authority), "--json")
        certificates = [
            (found["authority"], found["label"], found["key"])
            for device in json.loads("\n".join(lines))
            for found in device["certificates"]
        ]
        tallies = list(self.fleets.values())
        enrolled, rekeyed = sum(t.enrolled for t in tallies), sum(t.rekeyed for t in tallies)
        refused = self._server.refused
        return Summary(
            devices=sum(t.devices for t in tallies),
            enrolled=enrolled,
            rekeyed=rekeyed,
            messages_sent=sum(t.messages_sent for t in tallies),
            messages_verified=self._server.verified,
            # The network repeats: a copy of a good message is refused as stale, and the revoked device's
            # one message may have been refused several times.
            refused=refused.total() - refused["stale_message"] - max(0, refused["signer_revoked"] - 1),
            failed=sum(t.failed for t in tallies),
            duplicate_certificates=len(certificates) - len(set(certificates)),
            seconds=round(seconds, 3),
            enrollments_per_second=round((enrolled + rekeyed) / seconds, 2),
            request_bytes_median=median(_all(t.request_bytes for t in tallies)),
            answer_bytes_median=median(_all(t.answer_bytes for t in tallies)),
        )


def _all(counters: Any) -> Counter[int]:  # noqa: ANN401 (an iterable of counters)
    total: Counter[int] = Counter()
    for counter in counters:
        total.update(counter)
    return total


async def _ready(child: Child, event: anyio.Event) -> None:
    with anyio.move_on_after(READY_SECONDS):
        await event.wait()
        return
    raise ChildFailed(child.name, f"not ready after {READY_SECONDS:.0f} s", child.log)
