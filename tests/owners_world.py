"""Authorities under the same roots, among which devices change hands; nothing in it is a mock."""

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agents.authority import AuthorityAgent, MakerIssuer, initialise, open_authority, show_device
from agents.authority.acceptance import accept_bundle
from agents.authority.bundles import make_bundles, open_giver
from agents.authority.owners import add_owner, find_owner, own_card
from agents.authority.ownership import Giver, Handed, Receiver, transfer_devices
from agents.devices.agent import Device, open_device
from agents.factory import make_batch
from protocol.errors import Unreachable
from protocol.exchange.device_pace import Patience
from protocol.labels import Domain, Operation
from protocol.ports import Inbound, InboundMessage, Outbound, Reply
from protocol.problem import Problem

NOW: Final = 1_800_000_000
PASSPHRASE: Final = b"secret"
HOUSES: Final = ("north", "south", "east")
QUICK: Final = Patience(answer=2, pause=0.005, longest_pause=0.02, give_up=0.5)
YEAR: Final = 365 * 24 * 3600
MAX_METERS: Final = 3


def make_template(folder: Path) -> Path:
    """Make three authorities that know each other under one root, and meters of the first one's maker."""
    only = (Domain.METERING,)
    initialise(folder / "north", passphrase=PASSPHRASE, now=NOW, roots=folder / "roots", domains=only)
    for name in HOUSES[1:]:
        initialise(
            folder / name,
            passphrase=PASSPHRASE,
            now=NOW,
            under=folder / "roots",
            organisation=name.upper(),
            domains=only,
        )
    for name in HOUSES:
        for other in HOUSES:
            if other != name:
                add_owner(folder / name, other, own_card(folder / other))
        add_owner(folder / name, "Tenant", None)
        add_owner(folder / name, "Lodger", None)
    shutil.rmtree(folder / "roots")
    with MakerIssuer(folder / "north", Domain.METERING, PASSPHRASE, clock=lambda: NOW) as maker:
        make_batch(maker, "meter-boot", MAX_METERS, folder / "meters")
    return folder


@dataclass
class House:
    """One authority, serving."""

    name: str
    directory: Path
    agent: AuthorityAgent
    clock: list[float]

    @property
    def key_id(self) -> bytes:
        return self.agent.authorities[Domain.METERING].key_id

    def givers(self, *, by_maker: bool = False) -> dict[Domain, Giver]:
        return {Domain.METERING: open_giver(self.directory, Domain.METERING, PASSPHRASE, by_maker=by_maker)}

    def receiver(self, to: str, at: str | None = None) -> Receiver:
        return find_owner(self.directory, to).receiver(at)

    def transfer(
        self, words: Sequence[str], to: str, *, by_maker: bool = False, at: str | None = None
    ) -> list[Handed]:
        return transfer_devices(
            self.agent.store,
            words,
            self.receiver(to, at),
            self.givers(by_maker=by_maker),
            now=int(self.clock[0]),
            approved_by="alice",
        )

    def bundle(self, *words: str) -> bytes:
        (bundle,) = make_bundles(self.directory, self.agent.store, words, PASSPHRASE)
        return bundle

    def accept(self, bundle: bytes, **more: object) -> list[Handed]:
        return accept_bundle(
            self.agent.store,
            self.directory,
            bundle,
            now=int(self.clock[0]),
            approved_by="bob",
            giver=lambda domain: open_giver(self.directory, domain, PASSPHRASE),
            **more,  # type: ignore[arg-type]
        )

    def states(self, word: str, label: str = "meter-ds") -> list[str]:
        shown = show_device(self.agent.store, word).certificates
        return [one.state.value for one in shown if one.label == label]

    def everything(self) -> dict[str, list[tuple[object, ...]]]:
        tables = ("devices", "owners", "keys", "certificates", "answers", "audit")
        with self.agent.store.reading() as connection:
            return {
                name: [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {name}")]
                for name in tables
            }


@dataclass
class Country:
    """Several houses, and the meters' identity folders."""

    houses: dict[str, House]
    meters: list[Path]

    def __getitem__(self, name: str) -> House:
        return self.houses[name]

    def give(self, word: str, frm: str, to: str, *, by_maker: bool = False, at: str | None = None) -> None:
        """Transfer a device, and have the other house accept it."""
        self[frm].transfer([word], to, by_maker=by_maker, at=at)
        more = {"voucher_keys": [self.maker_key()]} if by_maker else {}
        self[to].accept(self[frm].bundle(word), **more)

    def maker_key(self) -> object:
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        return load_der_public_key((self.meters[0] / "voucher-key.der").read_bytes())


@asynccontextmanager
async def country(template: Path, folder: Path, *names: str) -> AsyncIterator[Country]:
    """Open these houses of a copy of the template; all of them if none is named."""
    shutil.copytree(template, folder, dirs_exist_ok=True)
    async with AsyncExitStack() as stack:
        houses: dict[str, House] = {}
        for name in names or HOUSES:
            clock = [float(NOW)]
            agent = await stack.enter_async_context(
                open_authority(folder / name, PASSPHRASE, clock=lambda clock=clock: clock[0])  # type: ignore[misc]
            )
            houses[name] = House(name, folder / name, agent, clock)
        meters = sorted(path.parent for path in (folder / "meters").glob("*/identity.json"))
        yield Country(houses, meters)


@dataclass
class Way:
    """A device's transport to one house."""

    house: House
    asked: list[Outbound] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    deaf_to: list[Operation] = field(default_factory=list)
    """Operations whose next answer is lost."""
    refusal: Problem | None = None
    """What messages are answered with."""
    messages: list[InboundMessage] = field(default_factory=list)

    async def exchange(self, request: Outbound) -> Reply:
        self.asked.append(request)
        reply = await self.house.agent.handle(Inbound(request.label, request.op, request.body, "test:1"))
        self.replies.append(reply)
        if request.op in self.deaf_to:
            self.deaf_to.remove(request.op)
            raise Unreachable("just now")
        return reply

    async def send_message(self, stream: str, body: bytes) -> Problem | None:
        self.messages.append(InboundMessage(stream, body, "test:1"))
        problem, self.refusal = self.refusal, None
        return problem


@asynccontextmanager
async def opened(folder: Path, wall: float | None = NOW, patience: Patience = QUICK) -> AsyncIterator[Device]:
    """Open a meter whose clock stands still."""
    async with open_device(folder, wall=None if wall is None else lambda: wall, patience=patience) as device:
        yield device
