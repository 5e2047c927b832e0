"""A real authority with cars, a provisioning service, and contracts: nothing in it is a mock."""

import atexit
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from agents.authority import AuthorityAgent, Layout, Limits, MakerIssuer, Store, initialise
from agents.authority.agent import _open
from agents.authority.audit import Entry, read_record
from agents.authority.contracts import Contract, add_contract, list_contracts
from agents.authority.desk import Ticket
from agents.authority.intents import new_serial
from agents.authority.issuer import ToBeIssued
from agents.authority.packing import Vouching, chain_of
from agents.devices.agent import Device, open_device
from agents.devices.identity import Identity
from agents.factory import make_batch
from agents.keys import SoftwareSigner, generate
from protocol import c509
from protocol.ev import Edition
from protocol.exchange.device_effects import Credential
from protocol.exchange.device_pace import Patience
from protocol.exchange.request import Confirmation, Door, KeyRequest, sign_request
from protocol.labels import Domain, Operation
from protocol.ports import Content, Inbound, Outbound, Reply
from protocol.problem import Problem
from protocol.profiles import profile_of
from tests.rig import Clock

NOW: Final = 1_800_000_000
DAY: Final = 24 * 3600
PASSPHRASE: Final = b"secret"
EMAID: Final = "DE83DUIEN83QGZD"
QUICK: Final = Patience(answer=2, pause=0.01, longest_pause=0.05, give_up=3)
OEM: Final = {Edition.PART_2: "ev-oem", Edition.PART_20: "ev20-oem"}
CONTRACT: Final = {Edition.PART_2: "ev-contract", Edition.PART_20: "ev20-contract"}
CPS: Final = {Edition.PART_2: "ev-cps", Edition.PART_20: "ev20-cps"}
SECC: Final = {Edition.PART_2: "ev-secc", Edition.PART_20: "ev20-secc"}
DOMAINS: Final = (
    Domain.EV_MO,
    Domain.EV_CPS,
    Domain.EV_CPO,
    Domain.EV20_MO,
    Domain.EV20_CPS,
    Domain.EV20_CPO,
)
CARS: Final = 3


def _remove(folder: Path, owner: int) -> None:
    """Remove what was made once, unless this is a child of whoever made it."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def template(sub_cas: int = 2) -> Path:
    """Return a folder with an authority and a few cars of each edition, made once."""
    folder = Path(mkdtemp(prefix="contracts-"))
    atexit.register(_remove, folder, os.getpid())
    directory = folder / "authority"
    initialise(
        directory,
        passphrase=PASSPHRASE,
        now=NOW,
        roots=folder / "roots",
        domains=DOMAINS,
        sub_cas=sub_cas,
        url="http://pki.example",
    )
    shutil.rmtree(folder / "roots")
    for label in (*OEM.values(), "ev-service"):
        with MakerIssuer(directory, profile_of(label).domain, PASSPHRASE, clock=lambda: NOW) as maker:
            make_batch(maker, label, CARS, folder / label)
    return folder


@dataclass
class Scene:
    """An authority without a door, and identity folders."""

    folder: Path
    agent: AuthorityAgent
    clock: Clock
    services: dict[str, Vouching | None]
    edition: Edition = Edition.PART_2

    @property
    def store(self) -> Store:
        return self.agent.store

    @property
    def label(self) -> str:
        return CONTRACT[self.edition]

    def identity(self, number: int = 0) -> Identity:
        folders = sorted(path.parent for path in (self.folder / OEM[self.edition]).glob("*/identity.json"))
        return Identity.load(folders[number])

    def car(self, number: int = 0) -> "Car":
        identity = self.identity(number)
        return Car(self, identity, identity.bootstrap(None))

    def grant(self, car: "Car", emaid: str = EMAID, **named: object) -> Contract:
        return add_contract(self.store, car.identity.client_id, emaid, int(self.clock()), **named)  # type: ignore[arg-type]

    def contracts(self) -> list[Contract]:
        return list_contracts(self.store)

    def ask(self, inbound: Inbound) -> Reply:
        return self.ask_together(inbound)[0]

    def ask_together(self, *inbound: Inbound) -> list[Reply]:
        tickets = [Ticket(one) for one in inbound]
        self.agent.desk.process(tickets)
        assert all(ticket.reply is not None for ticket in tickets)
        return [ticket.reply for ticket in tickets if ticket.reply is not None]

    def prepare(self) -> int:
        """Make what can be made ahead; return how many."""
        before = self.agent.readiness.made
        while self.agent.readiness.step():
            pass
        return self.agent.readiness.made - before

    def vouching(self, label: str, name: str = "cps-1") -> Vouching:
        """Return a key with a new certificate of this label, whatever may sign with it."""
        profile = profile_of(label)
        authority = self.agent.authorities[profile.domain]
        key = SoftwareSigner(generate(profile.algorithms[0]), even_y=False)
        now = int(self.clock())
        order = ToBeIssued(
            profile, new_serial(), name, now - 300, now + 80 * DAY, profile.algorithms[0], key.public_key
        )
        encoded = authority.issuer.issue(order)
        leaf = c509.decode_certificate(encoded)
        return Vouching(key, (leaf.to_der(), *chain_of(authority)), c509.thumbprint(encoded))

    def rows(self, *tables: str) -> dict[str, list[tuple[object, ...]]]:
        with self.store.reading() as connection:
            return {
                table: [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}")]
                for table in tables
            }

    def events(self) -> list[Entry]:
        with self.store.reading() as connection:
            rows = connection.exec_driver_sql("SELECT record FROM audit ORDER BY sequence")
            return [read_record(row[0]).entry for row in rows]


@dataclass
class Car:
    """A car that signs what it is told to."""

    scene: Scene
    identity: Identity
    signer: Credential
    name: str = ""
    """What it says that its certificate proves; its PCID unless told otherwise."""

    def request(
        self, nonce: bytes, *, name: str | None = None, epoch: int = 0, by_value: bool = False
    ) -> Inbound:
        payload = KeyRequest(nonce, name or self.name or self.identity.device).encode()
        return self.signed(Operation.SKG, payload, epoch=epoch, by_value=by_value)

    def signed(self, op: Operation, payload: bytes, *, epoch: int = 0, by_value: bool = False) -> Inbound:
        door = Door(self.authority, self.scene.label, op, epoch)
        body = sign_request(self.signer.signer, self.signer.certificate, door, payload, by_value=by_value)
        return Inbound(self.scene.label, op, body, "test:1")

    def confirm(self, certificate: bytes, status: int = 0) -> Inbound:
        return self.signed(
            Operation.CONF, Confirmation(hashlib.sha256(certificate).digest(), status).encode()
        )

    @property
    def authority(self) -> bytes:
        return self.scene.agent.authorities[profile_of(self.scene.label).domain].key_id

    def states(self) -> list[str]:
        rows = self.scene.rows("certificates")["certificates"]
        with self.scene.store.reading() as connection:
            found = connection.exec_driver_sql(
                "SELECT c.state FROM certificates c JOIN devices d ON d.id = c.device_id"
                " WHERE d.client_id = ? AND c.label = ? ORDER BY c.id",
                (self.identity.client_id, self.scene.label),
            )
            assert rows
            return [row[0] for row in found]


@contextmanager
def scene(
    folder: Path,
    edition: Edition = Edition.PART_2,
    *,
    clock: Clock | None = None,
    sub_cas: int = 2,
    services: Mapping[str, Vouching | None] | None = None,
) -> Iterator[Scene]:
    """Open a copy of the authority in `folder`, with a provisioning service for each edition."""
    directory = folder / "authority"
    if not directory.exists():
        shutil.copytree(template(sub_cas), folder, dirs_exist_ok=True)
    clock = clock or Clock(NOW)
    settings, authorities, store, lock = _open(directory, PASSPHRASE, int(clock()))
    signing: dict[str, Vouching | None] = {}
    agent = AuthorityAgent(
        settings,
        authorities,
        store,
        Layout(directory),
        Limits(),
        clock,
        {label: lambda _, label=label: signing[label] for label in CPS.values()},  # type: ignore[misc]
    )
    try:
        found = Scene(folder, agent, clock, signing, edition)
        signing.update(services or {label: found.vouching(label) for label in CPS.values()})
        yield found
    finally:
        agent.close()
        os.close(lock)


@dataclass
class Port:
    """A device's transport that ends at the authority's handler, and can be made to lie."""

    agent: AuthorityAgent
    asked: list[Outbound] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    instead: dict[Operation, list[Reply]] = field(default_factory=dict)
    """What is answered in place of the truth, once each."""

    async def exchange(self, request: Outbound) -> Reply:
        self.asked.append(request)
        reply = self._answer(request)
        self.replies.append(reply)
        return reply

    def _answer(self, request: Outbound) -> Reply:
        lies = self.instead.get(request.op)
        if lies:
            return lies.pop(0)
        if request.op is Operation.CRTS:
            domain = profile_of(request.label).domain
            return self.agent._certificates[domain, False]
        ticket = Ticket(Inbound(request.label, request.op, request.body, "test:1"))
        self.agent.desk.process([ticket])
        assert ticket.reply is not None
        return ticket.reply

    async def send_message(self, stream: str, body: bytes) -> Problem | None:
        return None


def opened(
    scene_: Scene, number: int = 0, *, patience: Patience = QUICK
) -> AbstractAsyncContextManager[Device]:
    """Open a car as an agent."""
    return open_device(scene_.identity(number).folder, wall=scene_.clock, patience=patience)


def package_of(reply: Reply) -> bytes:
    assert isinstance(reply, Content), reply
    return reply.body


async def enrolled_service(scene_: Scene) -> Path:
    """Return the identity folder of a provisioning service that has its certificate (part 2)."""
    (folder, *_) = sorted(path.parent for path in (scene_.folder / "ev-service").glob("*/identity.json"))
    async with open_device(folder, wall=scene_.clock, patience=QUICK) as device:
        await device.enroll("ev-cps", Port(scene_.agent))
    return folder
