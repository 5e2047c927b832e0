"""Cars, stations and their authority on real sockets: nothing in it is a mock."""

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio

from agents.authority import AuthorityAgent, MakerIssuer, initialise, open_authority
from agents.authority.contracts import add_contract
from agents.authority.packing import Vouching
from agents.charging.errands import Bounds
from agents.charging.journal import open_journal
from agents.charging.relay import Back
from agents.charging.station import Post, Station, open_station
from agents.devices.agent import Device, open_device
from agents.devices.bearer import Bearer
from agents.devices.identity import Identity
from agents.factory import make_batch
from agents.proxy import Counts, Faults, serve_mqtt, serve_udp
from broker import client as mqtt
from broker import embedded
from broker.service import serve_authority
from constrained.client import CoapDevice, Retransmission, connect
from constrained.server import CoapServer, serve
from protocol import c509
from protocol.challenge import ProofHandler
from protocol.exchange.device_pace import Patience
from protocol.labels import Domain, Industry
from protocol.ports import Content, Handler, Inbound, InboundMessage, Outbound, Reply, SignedRefusal
from protocol.problem import Problem
from protocol.profiles import profile_of
from tests.world import NOW

PASSPHRASE: Final = b"secret"
EVSE: Final = "DE*TRL*E1"
FREE: Final = ("127.0.0.1", 0)
QUICK: Final = Patience(answer=2, pause=0.05, longest_pause=0.2, give_up=20)
DOMAINS: Final = tuple(domain for domain in Domain if domain.industry is Industry.EV)
BATCHES: Final = {
    "ev-oem": 3,
    "ev20-oem": 1,
    "ev-station": 2,
    "ev20-station": 1,
    "ev-service": 1,
    "ev20-service": 1,
}
EMAID: Final = "DETRLC00000001"
IMPATIENT: Final = Retransmission(ack_timeout=0.3, random_factor=1.0, max_retransmit=6)
"""For a bad line on one machine."""


class Time:
    """Fake time, POSIX seconds, for everybody."""

    def __init__(self) -> None:
        self.now: float = NOW

    def __call__(self) -> float:
        return self.now


def make_template(folder: Path) -> Path:
    """Make an authority for all of EV charging, with devices; to be copied for each test."""
    directory = folder / "authority"
    initialise(directory, passphrase=PASSPHRASE, now=NOW, roots=folder / "roots", domains=DOMAINS)
    shutil.rmtree(folder / "roots")
    for label, count in BATCHES.items():
        with MakerIssuer(directory, profile_of(label).domain, PASSPHRASE, clock=lambda: NOW) as maker:
            operator = "DETRL" if label.endswith("station") else None
            make_batch(maker, label, count, folder / label, operator=operator)
    return folder


@dataclass
class Wire:
    """The authority's handler, as an eavesdropper and a slow line see it."""

    agent: AuthorityAgent
    delay: float = 0.0
    """Seconds that every answer takes."""
    heard: list[Inbound] = field(default_factory=list)
    said: list[Reply] = field(default_factory=list)

    async def handle(self, inbound: Inbound) -> Reply:
        self.heard.append(inbound)
        await anyio.sleep(self.delay)
        reply = await self.agent.handle(inbound)
        self.said.append(reply)
        return reply

    async def message(self, _: InboundMessage) -> Problem | None:
        return None


@dataclass
class Standing:
    """A station that is up."""

    station: Station
    server: CoapServer

    @property
    def uri(self) -> str:
        return self.server.uris[0]


@dataclass
class Street:
    """An authority that is up, and identity folders of everybody else."""

    folder: Path
    agent: AuthorityAgent
    wire: Wire
    uri: str
    time: Time
    stack: AsyncExitStack
    vouching: dict[str, Vouching]
    """Who signs packages, by label; nobody before `contract`."""

    def identity(self, label: str, number: int = 0) -> Path:
        return sorted(path.parent for path in (self.folder / label).glob("*/identity.json"))[number]

    async def device(self, label: str, number: int = 0, *, give_up: float = QUICK.give_up) -> Device:
        """Open a device; it stays open as long as the street does."""
        patience = replace(QUICK, give_up=give_up)
        opening = open_device(self.identity(label, number), wall=self.time, patience=patience)
        return await self.stack.enter_async_context(opening)

    async def car(self, number: int = 0, label: str = "ev-oem", *, give_up: float = QUICK.give_up) -> Device:
        return await self.device(label, number, give_up=give_up)

    async def contract(self, car: Device, emaid: str = EMAID) -> str:
        """Grant a car a contract, and see that somebody signs its package; return its name."""
        prefix = car.identity.label.removesuffix("-oem")
        label = f"{prefix}-cps"
        if label not in self.vouching:
            service = await self.device(f"{prefix}-service")
            await service.enroll(label, await self.way(self.uri))
            self.vouching[label] = await service.lend(partial(_vouching, label=label))
        grant = partial(
            add_contract,
            self.agent.store,
            car.identity.client_id,
            emaid,
            int(self.time()),
            label=f"{prefix}-contract",
        )
        return (await anyio.to_thread.run_sync(grant)).name

    async def way(self, uri: str) -> CoapDevice:
        """Connect to anybody; it stays so as long as the street is there."""
        return await self.stack.enter_async_context(connect(uri, retransmission=IMPATIENT))

    def back(self, uri: str | None = None) -> Back:
        return partial(connect, uri or self.uri, retransmission=IMPATIENT)

    async def station(
        self,
        *labels: str,
        back: Back | None = None,
        bounds: Bounds | None = None,
        journal: Path | None = None,
        number: int = 0,
    ) -> Standing:
        """Run a station; when this returns, it has its certificates."""
        posts = [
            Post(await self.device(label, number), back or self.back()) for label in labels or ("ev-station",)
        ]
        writing = await self.stack.enter_async_context(open_journal(journal, evse=EVSE))
        station = await self.stack.enter_async_context(
            open_station(posts, evse=EVSE, bounds=bounds, journal=writing)
        )
        server = await self.stack.enter_async_context(
            serve(station.handle, station.labels, bind=FREE, proofs=station.proofs)
        )
        station.address = server.uris[0]
        with anyio.fail_after(20):
            await station.until_shown()
        return Standing(station, server)

    async def broker(self, loss: float = 0.0) -> str:
        """Run a broker in front of the authority, with a bad line before it if there is `loss`."""
        running = embedded.serve(service_password="a secret", plain=FREE)
        broker = await self.stack.enter_async_context(running)
        await self.stack.enter_async_context(
            serve_authority(
                self.wire.handle,
                broker=broker.service_address(),
                labels=self.agent.labels,
                messages=self.wire.message,
            )
        )
        address = broker.plain_address
        assert address is not None
        if loss:
            line = serve_mqtt(FREE, address, Faults.of_loss(loss), seed=5)
            address = (await self.stack.enter_async_context(line)).address
        return f"mqtt://{address[0]}:{address[1]}"

    async def back_over_mqtt(self, uri: str, label: str = "ev-station", number: int = 0) -> Back:
        """Return a station's way to the broker at `uri`: one connection for all."""
        client_id = Identity.load(self.identity(label, number)).client_id
        transport = await self.stack.enter_async_context(mqtt.connect(uri, client_id, at_once=False))
        return lambda: nullcontext(transport)

    async def bad_line(self, uri: str, loss: float, *, seed: int) -> tuple[str, Counts]:
        """Put a bad network in front of `uri`; return where it begins, and what it does."""
        at = urlsplit(uri)
        assert at.hostname is not None
        assert at.port is not None
        line = serve_udp(FREE, (at.hostname, at.port), Faults.of_loss(loss), seed=seed)
        proxy = await self.stack.enter_async_context(line)
        host, port = proxy.address
        return f"coap://{host}:{port}", proxy.counts

    async def rogue(self, handler: Handler, labels: Sequence[str], proof: ProofHandler) -> str:
        """Run somebody who passes himself off as a station; return where."""
        proofs = dict.fromkeys(("ev-secc", "ev20-secc"), proof)
        server = await self.stack.enter_async_context(serve(handler, labels, bind=FREE, proofs=proofs))
        return server.uris[0]


@asynccontextmanager
async def open_street(template: Path, folder: Path) -> AsyncIterator[Street]:
    """Open a copy of `template`, its authority listening on CoAP."""
    await anyio.to_thread.run_sync(partial(shutil.copytree, template, folder, dirs_exist_ok=True))
    time = Time()
    vouching: dict[str, Vouching] = {}
    services = {
        "ev-cps": lambda _: vouching.get("ev-cps"),
        "ev20-cps": lambda _: vouching.get("ev20-cps"),
    }
    async with AsyncExitStack() as stack:
        opening: AbstractAsyncContextManager[AuthorityAgent] = open_authority(
            folder / "authority", PASSPHRASE, clock=time, services=services
        )
        agent = await stack.enter_async_context(opening)
        wire = Wire(agent)
        server = await stack.enter_async_context(
            serve(wire.handle, agent.labels, bind=FREE, messages=wire.message)
        )
        yield Street(folder, agent, wire, server.uris[0], time, stack, vouching)


def _vouching(bearer: Bearer, *, label: str) -> Vouching:
    held = bearer.credential(label)
    leaf = c509.decode_certificate(held.certificate)
    chain = tuple(one.to_der() for one in (leaf, *bearer.chain()))
    return Vouching(held.signer, chain, c509.thumbprint(held.certificate))


def body_of(reply: Reply) -> bytes:
    assert isinstance(reply, (Content, SignedRefusal)), reply
    return reply.body


def asks(wire: Wire, label: str) -> list[Outbound]:
    """Return what the authority was asked of a label."""
    return [Outbound(one.label, one.op, one.body) for one in wire.heard if one.label == label]
