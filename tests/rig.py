"""A real authority directory with devices, and the requests that they make: nothing in it is a mock."""

import hashlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from agents.authority import AuthorityAgent, Limits, NewDevice, initialise, open_authority, register_devices
from agents.authority.maker import MakerIssuer
from agents.keys import SoftwareSigner, generate
from protocol import c509
from protocol.exchange.request import (
    Confirmation,
    Door,
    Revocation,
    RevocationReason,
    certification_request,
    sign_request,
)
from protocol.identity import client_id
from protocol.labels import Domain, Operation
from protocol.ports import Content, Inbound, Media, Reply
from protocol.profiles import over_the_air, profile_of

NOW: Final = 1_800_000_000
PASSPHRASE: Final = b"correct horse"
GENEROUS: Final = Limits()
_TEMPLATE: dict[str, Path] = {}


def new_key() -> SoftwareSigner:
    """Return a new P-256 key; nobody batches these signatures."""
    return SoftwareSigner(generate(), even_y=False)


class Clock:
    """Fake time, POSIX seconds."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def fresh_directory(folder: Path) -> Path:
    """Return a new authority's directory whose roots are out of reach, copied from one made once."""
    template = _TEMPLATE.get("")
    if template is None or not template.is_dir():
        template = folder.parent / f"{folder.name}-template"
        initialise(template, passphrase=PASSPHRASE, now=NOW)
        shutil.move(template / "roots", folder.parent / f"{folder.name}-roots")
        _TEMPLATE[""] = template
    shutil.copytree(template, folder)
    return folder


@dataclass
class Device:
    """A device and what it holds: (key, certificate) by label."""

    name: str
    domain: Domain
    authority: bytes
    client_id: str
    credentials: dict[str, tuple[SoftwareSigner, bytes]] = field(default_factory=dict)
    epoch: int = 0

    @property
    def boot(self) -> str:
        return "meter-boot" if self.domain is Domain.METERING else "its-boot"

    @property
    def label(self) -> str:
        """The label that it starts with."""
        return "meter-ds" if self.domain is Domain.METERING else "its-enroll"

    def door(self, op: Operation, label: str | None = None) -> Door:
        return Door(self.authority, label or self.label, op, self.epoch)

    def signed(
        self,
        op: Operation,
        payload: bytes,
        *,
        label: str | None = None,
        by: str | None = None,
        by_value: bool = False,
        door: Door | None = None,
        source: str = "test:1",
    ) -> Inbound:
        """Return a request whose payload the credential of label `by` signs."""
        label = label or self.label
        signer, certificate = self.credentials[by or (profile_of(label).signers_of(op))[0]]
        body = sign_request(signer, certificate, door or self.door(op, label), payload, by_value=by_value)
        return Inbound(label, op, body, source)

    def enroll(
        self,
        key: SoftwareSigner,
        *,
        label: str | None = None,
        op: Operation = Operation.SEN,
        by: str | None = None,
        by_value: bool = False,
        name: str | None = None,
        source: str = "test:1",
    ) -> Inbound:
        payload = certification_request(c509.Name.common_name(name or self.name), key)
        return self.signed(op, payload, label=label, by=by, by_value=by_value, source=source)

    def confirm(self, certificate: bytes, *, label: str | None = None, status: int = 0) -> Inbound:
        payload = Confirmation(hashlib.sha256(certificate).digest(), status).encode()
        return self.signed(Operation.CONF, payload, label=label)

    def give_back(
        self,
        certificate: bytes,
        *,
        label: str | None = None,
        reason: RevocationReason = RevocationReason.CESSATION_OF_OPERATION,
    ) -> Inbound:
        serial = c509.decode_certificate(certificate).serial
        payload = Revocation(self.authority, serial, reason).encode()
        return self.signed(Operation.REV, payload, label=label)

    def holding(self, label: str, key: SoftwareSigner, certificate: bytes) -> "Device":
        """Return the device as it is with this credential."""
        return replace(self, credentials=self.credentials | {label: (key, certificate)})


@dataclass
class Rig:
    """An open authority with a maker at hand."""

    agent: AuthorityAgent
    directory: Path
    clock: Clock
    makers: dict[Domain, MakerIssuer]
    _numbers: int = 0

    def device(
        self, domain: Domain = Domain.METERING, *, is_registered: bool = True, has_certificate: bool = True
    ) -> Device:
        """Make a device; by default it is in the inventory with its bootstrap certificate."""
        self._numbers += 1
        name = (
            f"54524C{self._numbers:010X}"
            if domain is Domain.METERING
            else "02-00-00-FF-FE-" + "-".join(f"{b:02X}" for b in self._numbers.to_bytes(3, "big"))
        )
        maker = self.makers[domain]
        key = new_key()
        boot = "meter-boot" if domain is Domain.METERING else "its-boot"
        certificate = maker.issue(profile_of(boot), name, key.public_key)
        identifier = client_id(maker.key_id, name)
        if is_registered:
            new = NewDevice(
                name,
                domain,
                maker.key_id,
                identifier,
                over_the_air(domain),
                certificate.encoded if has_certificate else None,
            )
            register_devices(self.agent.store, [new], int(self.clock()))
        return Device(name, domain, maker.owner, identifier, {boot: (key, certificate.encoded)})

    async def ask(self, inbound: Inbound) -> Reply:
        return await self.agent.handle(inbound)

    async def enrolled(self, domain: Domain = Domain.METERING, device: Device | None = None) -> Device:
        """Return a device with a current first certificate."""
        device = device or self.device(domain)
        key = new_key()
        certificate = certificate_of(await self.ask(device.enroll(key)))
        device = device.holding(device.label, key, certificate)
        receipt = await self.ask(device.confirm(certificate))
        assert isinstance(receipt, Content), receipt
        assert receipt.media is Media.SIGN1
        return device


def certificate_of(reply: Reply) -> bytes:
    assert isinstance(reply, Content), reply
    assert reply.media is Media.C509_CERTIFICATE
    return reply.body


@asynccontextmanager
async def open_rig(
    folder: Path, *, limits: Limits = GENEROUS, clock: Clock | None = None, directory: Path | None = None
) -> AsyncIterator[Rig]:
    """Open a new authority in `folder`, or the one in `directory`."""
    directory = directory or fresh_directory(folder / "authority")
    clock = clock or Clock()
    async with open_authority(directory, PASSPHRASE, limits=limits, clock=clock) as agent:
        makers = {
            domain: MakerIssuer(directory, domain, PASSPHRASE, clock=clock)
            for domain in agent.settings.domains
        }
        try:
            yield Rig(agent, directory, clock, makers)
        finally:
            for maker in makers.values():
                maker.close()
