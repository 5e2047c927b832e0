"""A metering authority with its mailbox, head-ends and meters, all real; a network that can be bad."""

import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import anyio
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agents.authority import AuthorityAgent, MakerIssuer, initialise, open_authority
from agents.devices.agent import Device, open_device
from agents.devices.identity import Identity
from agents.factory import make_batch
from agents.metering.mailbox import Mailbox, PostOffice
from agents.metering.meter import MeterKeys
from agents.metering.rollover import HeadEndKeys, Order, Outcome, Progress
from agents.verifier import Verifier, open_verifier
from protocol.errors import Unreachable
from protocol.exchange.device_pace import Patience
from protocol.labels import Domain, Operation
from protocol.metering.keys import KeyKind, KeySet
from protocol.metering.title import SystemTitle
from protocol.ports import DeviceTransport, Inbound, Outbound, Reply
from protocol.problem import Problem
from protocol.profiles import profile_of
from tests.rig import NOW, PASSPHRASE, Clock

QUICK: Final = Patience(answer=1, pause=0.01, longest_pause=0.05, give_up=20)
CLIENTS_START: Final = 1_000_001
"""Serial number of the first head-end: names of meters and clients of one maker differ."""


@dataclass
class Port:
    """A transport that ends at the authority and its mailbox."""

    agent: AuthorityAgent
    office: PostOffice
    loss: float = 0.0
    """Share of requests, and of answers, that are lost."""
    random: Random = field(default_factory=lambda: Random(1))
    asked: list[Outbound] = field(default_factory=list)
    spoil: Callable[[Outbound, Reply], Reply] | None = None
    """What somebody in the middle makes of an answer."""

    async def exchange(self, request: Outbound) -> Reply:
        self.asked.append(request)
        if self.random.random() < self.loss:
            raise Unreachable("lost on the way there")
        inbound = Inbound(request.label, request.op, request.body, "test:1", request.accept, request.base)
        handle = self.office.handle if request.op is Operation.MAIL else self.agent.handle
        reply = await handle(inbound)
        if self.random.random() < self.loss:
            raise Unreachable("lost on the way back")
        return reply if self.spoil is None else self.spoil(request, reply)

    async def send_message(self, stream: str, body: bytes) -> Problem | None:
        return None


@dataclass
class Estate:
    """An authority in this process, and the folders of its devices."""

    folder: Path
    agent: AuthorityAgent
    verifier: Verifier
    office: PostOffice
    clock: Clock
    stack: AsyncExitStack

    def port(self, loss: float = 0.0, seed: int = 1) -> Port:
        return Port(self.agent, self.office, loss, Random(seed))

    def folders(self, label: str) -> list[Path]:
        return sorted(path.parent for path in (self.folder / label).glob("*/identity.json"))

    def title(self, folder: Path) -> SystemTitle:
        return SystemTitle.of_name(Identity.load(folder).device)

    def lose_all_letters(self) -> None:
        self.office = PostOffice(self.verifier.verify, Mailbox())

    async def enroll(self, folders: Sequence[Path]) -> None:
        """Get devices their certificates, and close them again."""
        for folder in folders:
            async with open_device(folder, DEVICE_PASSPHRASE, wall=self.clock, patience=QUICK) as device:
                await enroll(device, self.port())

    async def device(self, folder: Path) -> Device:
        """Open a device for as long as the estate is open, and enroll what it needs."""
        device = await self.stack.enter_async_context(
            open_device(folder, DEVICE_PASSPHRASE, wall=self.clock, patience=QUICK)
        )
        await enroll(device, self.port())
        return device

    async def meter(self, number: int = 0, label: str = "meter-boot") -> MeterKeys:
        head_end = self.title(self.folders(label.replace("meter", "client"))[0])
        return await MeterKeys.open(await self.device(self.folders(label)[number]), head_end)

    async def head_end(self, number: int = 0, label: str = "client-boot") -> HeadEndKeys:
        return await HeadEndKeys.open(await self.device(self.folders(label)[number]))


DEVICE_PASSPHRASE: Final = b"of a device"


async def enroll(device: Device, port: Port) -> None:
    """Get the two certificates that a rollover needs, if they are not there."""
    holder = device.identity.label.removesuffix("-boot")
    held = {one.label for one in device.status().labels if one.serial is not None}
    for label in (f"{holder}-ds", f"{holder}-ka"):
        if label not in held:
            await device.enroll(label, port)


def make_estate(
    folder: Path, domain: Domain = Domain.METERING, meters: int = 3, head_ends: int = 2, now: int = NOW
) -> Path:
    """Make an authority and its devices in `folder`."""
    directory = folder / "authority"
    initialise(directory, passphrase=PASSPHRASE, now=now, roots=folder / "roots", domains=(domain,))
    shutil.rmtree(folder / "roots")
    mark = "2" if domain is Domain.METERING2 else ""
    with MakerIssuer(directory, domain, PASSPHRASE, clock=lambda: now) as maker:
        for label, count, start in (
            (f"meter{mark}-boot", meters, 1),
            (f"client{mark}-boot", head_ends, CLIENTS_START),
        ):
            assert profile_of(label).domain is domain
            make_batch(maker, label, count, folder / label, device_passphrase=DEVICE_PASSPHRASE, start=start)
    return folder


@asynccontextmanager
async def open_estate(template: Path, folder: Path, now: int = NOW) -> AsyncIterator[Estate]:
    """Open a copy of an estate."""
    shutil.copytree(template, folder, dirs_exist_ok=True)
    clock = Clock(now)
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(open_authority(folder / "authority", PASSPHRASE, clock=clock))
        verifier = await stack.enter_async_context(open_verifier(agent.signers, clock=clock))
        office = PostOffice(verifier.verify)
        yield Estate(folder, agent, verifier, office, clock, stack)


async def roll_while_polling(
    head_end: HeadEndKeys,
    meters: Sequence[MeterKeys],
    order: Order,
    transport: DeviceTransport,
    progress: Progress | None = None,
) -> Outcome:
    """Roll over while the meters poll all the time."""
    outcomes: list[Outcome] = []

    async def live(meter: MeterKeys) -> None:
        while True:
            await meter.poll(transport)
            await anyio.sleep(0.02)

    async with anyio.create_task_group() as tasks:
        for meter in meters:
            tasks.start_soon(live, meter)
        outcomes.append(await head_end.rollover(order, transport, progress=progress))
        tasks.cancel_scope.cancel()
    return outcomes[0]


def seal(keys: KeySet, sender: SystemTitle, number: int, text: bytes) -> bytes:
    """Protect application data as DLMS does: AES-GCM under the unicast and the authentication key."""
    nonce = sender.octets + number.to_bytes(4, "big")
    return AESGCM(keys.keys[KeyKind.UNICAST]).encrypt(
        nonce, text, b"\x31" + keys.keys[KeyKind.AUTHENTICATION]
    )


def unseal(keys: KeySet, sender: SystemTitle, number: int, sealed: bytes) -> bytes:
    """Return what `seal` was given; InvalidTag if the keys are others."""
    nonce = sender.octets + number.to_bytes(4, "big")
    return AESGCM(keys.keys[KeyKind.UNICAST]).decrypt(
        nonce, sealed, b"\x31" + keys.keys[KeyKind.AUTHENTICATION]
    )


def understand_each_other(meter: MeterKeys, meter_title: SystemTitle, keys: KeySet) -> bool:
    """Return whether what one side protects is opened by the other, both ways."""
    text = b"1-0:1.8.0 = 12345 Wh"
    up = unseal(keys, meter_title, 1, seal(meter.keys, meter_title, 1, text))
    down = unseal(meter.keys, meter.head_end, 1, seal(keys, meter.head_end, 1, text))
    return up == down == text
