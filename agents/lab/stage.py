"""What the lab's tour is played on: authorities, their servers, and hands that work single devices.

Everything that an operator does is a `trillium` command in a process of its own; every authority that
serves is one more, and all devices of the tour are worked by one process, `trillium hands`.
"""

import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio

from agents.lab.children import Child, ChildFailed, Nursery
from agents.lab.failure import LabFailed
from agents.lab.ledger import Ledger
from agents.lab.reports import Server
from agents.lab.screen import Screen
from protocol.profiles import services_of

READY_SECONDS: Final = 60.0
ANSWER_SECONDS: Final = 60.0
"""How long one thing that a device does may take; it gives up by itself before."""


@dataclass(slots=True)
class House:
    """One authority of the tour."""

    name: str
    directory: Path
    server: Server = field(default_factory=Server)

    def via(self, scheme: str) -> str:
        """Return where its devices connect to."""
        return self.server.addresses[scheme]


@dataclass(frozen=True, slots=True)
class Identity:
    """One device of the tour."""

    folder: Path
    label: str
    """Of its tier 1 certificate."""
    client_id: str
    """The one name that no two makers give."""

    @property
    def name(self) -> str:
        """What it is called."""
        return self.folder.name

    @property
    def services(self) -> tuple[str, ...]:
        """Labels that it may have."""
        return services_of(self.label)


class Stage:
    """Where a tour is played.

    Args:
        nursery: Starts programs.
        folder: Everything is made there.
        screen: Told each step.
        ledger: Written as things happen.
    """

    def __init__(self, nursery: Nursery, folder: Path, screen: Screen, ledger: Ledger) -> None:
        self._nursery = nursery
        self.folder: Final = folder
        self._screen = screen
        self.ledger: Final = ledger
        self._hands: Child | None = None
        self._answers, self._answered = anyio.create_memory_object_stream[dict[str, Any]](1)
        self._commands = 0

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None, None]:
        """Have hands while the context is open."""
        with self._answers, self._answered:
            async with self._nursery.start("hands", ["hands"], self._hear) as child:
                self._hands = child
                yield

    def _hear(self, line: str) -> None:
        self._answers.send_nowait(json.loads(line))

    def step(self, what: str) -> None:
        """Say what is being done now."""
        self._screen.step(what)

    async def trillium(self, *arguments: object) -> list[str]:
        """Run one command; return the lines that it printed.

        Raises:
            ChildFailed: Its exit code is not 0.
        """
        self._commands += 1
        return await self._nursery.run(f"{self._commands:02}-{arguments[0]}", *map(str, arguments))

    async def authority(self, name: str, *domains: str, under: House | None = None) -> House:
        """Make an authority, under roots of its own or under those of another."""
        house = House(name, self.folder / name)
        options: list[object] = ["--organisation", name]
        options += ["--roots", self._roots(house)] if under is None else ["--under", self._roots(under)]
        for domain in domains:
            options += ["--domain", domain]
        await self.trillium("init", house.directory, *options)
        return house

    async def put_roots_away(self, house: House) -> None:
        """Carry an authority's root keys away: nobody serves while they are where init put them."""
        await anyio.Path(self._roots(house)).rename(self.folder / f"{house.name}-roots-put-away")

    def _roots(self, house: House) -> Path:
        return self.folder / f"{house.name}-roots"

    async def serve(self, house: House, stack: AsyncExitStack, *options: object) -> None:
        """Start an authority, until the stack is closed."""
        local = "127.0.0.1:0"
        arguments = ["serve", str(house.directory), "--coap", local, "--mqtt", local, "--until-eof"]
        child = await stack.enter_async_context(
            self._nursery.start(f"serve-{house.name}", [*arguments, *map(str, options)], house.server.read)
        )
        with anyio.move_on_after(READY_SECONDS):
            await house.server.ready.wait()
            return
        raise ChildFailed(child.name, f"not ready after {READY_SECONDS:.0f} s", child.log)

    async def station(self, house: House, station: Identity, stack: AsyncExitStack) -> str:
        """Start a charging station, until the stack is closed; return where cars find it."""
        server = Server()
        arguments = ["station", "serve", "--identity", str(station.folder), "--coap", "127.0.0.1:0"]
        child = await stack.enter_async_context(
            self._nursery.start(
                f"station-{station.name}", [*arguments, "--via", house.via("mqtt")], server.read
            )
        )
        with anyio.move_on_after(READY_SECONDS):
            await server.ready.wait()
            return server.addresses["coap"]
        raise ChildFailed(child.name, f"not ready after {READY_SECONDS:.0f} s", child.log)

    async def factory(self, house: House, label: str, count: int, *options: object) -> list[Identity]:
        """Make devices; enters their first certificates in the ledger."""
        out = self.folder / f"{house.name}-{label}"
        await self.trillium(
            "factory", house.directory, "--label", label, "--count", count, "--out", out, *options
        )
        folders = await anyio.to_thread.run_sync(
            lambda: sorted(one.parent for one in out.glob("*/identity.json"))
        )
        for folder in folders:
            self.ledger.issued(label, await anyio.Path(folder / "bootstrap.c509").read_bytes())
        ids = [
            json.loads(await anyio.Path(one / "identity.json").read_text())["client_id"] for one in folders
        ]
        return [Identity(folder, label, known) for folder, known in zip(folders, ids, strict=True)]

    async def ask(self, do: str, device: Identity, via: str, **more: str) -> dict[str, Any]:
        """Have a device do something; return what the hands say.

        Raises:
            LabFailed: They say nothing.
        """
        assert self._hands is not None
        order = {"do": do, "identity": str(device.folder), "via": via, **more}
        await self._hands.write(json.dumps(order))
        with anyio.move_on_after(ANSWER_SECONDS):
            return await self._answered.receive()
        raise LabFailed(f"{device.name}: {do} takes longer than {ANSWER_SECONDS:.0f} s")

    async def do(self, do: str, device: Identity, via: str, **more: str) -> dict[str, Any]:
        """As `ask`, where nothing but success will do.

        Raises:
            LabFailed: It was refused.
        """
        answer = await self.ask(do, device, via, **more)
        if "ok" not in answer:
            raise LabFailed(f"{device.name}: {do} {more.get('label', '')}: {answer}")
        return dict(answer["ok"])

    async def enroll(self, device: Identity, via: str, *labels: str) -> None:
        """Enroll under these labels, or all that the device may have."""
        for label in labels or device.services:
            told = await self.do("enroll", device, via, label=label)
            self.ledger.issued(label, bytes.fromhex(told["certificate"]))

    async def rekey(self, device: Identity, via: str, *labels: str) -> None:
        """Replace the keys of these labels, or of all that the device has."""
        for label in labels or device.services:
            told = await self.do("rekey", device, via, label=label)
            self.ledger.issued(label, bytes.fromhex(told["certificate"]), is_rekey=True)

    async def refused(self, do: str, device: Identity, via: str, label: str, *kinds: str, **more: str) -> str:
        """Have a device try what it may not; return why not.

        Raises:
            LabFailed: It may, or the reason is another.
        """
        answer = await self.ask(do, device, via, label=label, **more)
        kind = str(answer.get("refused", ""))
        if kind not in kinds:
            raise LabFailed(
                f"{device.name}: {do} {label} was to be refused for {' or '.join(kinds)}: {answer}"
            )
        self.ledger.row(label).refused += 1
        return kind

    async def revoke(self, house: House, device: Identity, labels: tuple[str, ...]) -> None:
        """Revoke everything a device has."""
        # A client-id may begin with a hyphen.
        await self.trillium("revoke", "--reason", "key-compromise", "--", house.directory, device.client_id)
        for label in (device.label, *labels):
            self.ledger.row(label).revoked += 1

    async def know_each_other(self, first: House, second: House) -> None:
        """Have two authorities take each other's cards."""
        for one, other in ((first, second), (second, first)):
            card = self.folder / f"{one.name}.card"
            await self.trillium("owner", "export", one.directory, card, "--at", one.via("coap"))
            await self.trillium("owner", "add", other.directory, one.name, card)

    async def transfer(self, old: House, new: House, device: Identity) -> None:
        """Give a device to another authority; it hears nothing of it yet."""
        bundle = self.folder / f"{device.client_id}.transfer"
        await self.trillium(
            "transfer", "--to", new.name, "--out", bundle, "--", old.directory, device.client_id
        )
        await self.trillium("import-transfer", new.directory, bundle)

    async def come_back(self, device: Identity, old: House) -> None:
        """Have a device that was given away ask its old owner for a new key, and end up with the new one.

        Raises:
            LabFailed: It did not hear of the new owner.
        """
        first, *others = device.services
        answer = await self.ask("rekey", device, old.via("coap"), label=first)
        if not answer.get("moved"):
            raise LabFailed(f"{device.name}: was given away, and did not hear of it: {answer}")
        self.ledger.row(first).refused += 1
        for label in (first, *others):
            told = await self.do("enroll", device, old.via("coap"), label=label)
            self.ledger.issued(label, bytes.fromhex(told["certificate"]))
