"""A real authority directory with devices, and the requests that they make: nothing in it is a mock."""

import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from agents.authority import (
    AuthorityAgent,
    Layout,
    Limits,
    MakerIssuer,
    NewDevice,
    initialise,
    open_authority,
    read_settings,
    register_devices,
    show_device,
)
from agents.authority.agent import _open
from agents.authority.audit import Entry, read_record
from agents.authority.desk import Ticket
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
from protocol.path import verification_key
from protocol.ports import Content, Inbound, Media, Reply, SignedRefusal
from protocol.problem import Problem
from protocol.profiles import profile_of, services_of
from protocol.receipt import Receipt, read_verdict

NOW: Final = 1_800_000_000
PASSPHRASE: Final = b"correct horse"
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


TABLES: Final = ("devices", "keys", "certificates", "message_counters", "counters")
"""What no refusal changes."""


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
            else "02-54-52-FF-FE-" + "-".join(f"{b:02X}" for b in self._numbers.to_bytes(3, "big"))
        )
        maker = self.makers[domain]
        key = new_key()
        boot = "meter-boot" if domain is Domain.METERING else "its-boot"
        certificate = maker.issue(profile_of(boot), name, key.public_key)
        identifier = client_id(maker.key_id, name)
        if is_registered:
            new = NewDevice(
                name,
                boot,
                maker.key_id,
                identifier,
                services_of(boot),
                certificate.encoded if has_certificate else None,
            )
            register_devices(self.agent.store, [new], int(self.clock()), (maker.authority,))
        return Device(name, domain, maker.owner, identifier, {boot: (key, certificate.encoded)})

    def snapshot(self, *more: str) -> dict[str, list[tuple[object, ...]]]:
        """Return the rows of the tables that no refusal changes, and of `more`."""
        with self.agent.store.reading() as connection:
            return {
                table: [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1")]
                for table in TABLES + more
            }

    def events(self) -> list[Entry]:
        """Return the audit log."""
        with self.agent.store.reading() as connection:
            rows = connection.exec_driver_sql("SELECT record FROM audit ORDER BY sequence")
            return [read_record(row[0]).entry for row in rows]

    def states(self, device: Device, label: str | None = None) -> list[str]:
        """Return the states of a device's certificates, oldest first, bootstrap left out."""
        found = show_device(self.agent.store, device.client_id).certificates
        return [one.state.value for one in found if one.label == (label or device.label)]

    def verdict(self, inbound: Inbound, reply: Reply) -> Receipt | Problem:
        """Return what a signed receipt or refusal says, verified as a device would."""
        assert isinstance(reply, (Content, SignedRefusal)), reply
        authority = next(a for a in self.agent.authorities.values() if inbound.label in a.places)
        return read_verdict(
            reply.body,
            verification_key(authority.registrar.certificate),
            request=inbound.body,
            authority=authority.key_id,
            label=inbound.label,
            op=inbound.op,
        )

    def ask(self, inbound: Inbound) -> Reply:
        """Return the reply to one request, without the door in front."""
        return self.ask_together(inbound)[0]

    def ask_together(self, *inbound: Inbound) -> list[Reply]:
        """Return the replies to requests that arrive together, as one group."""
        tickets = [Ticket(one) for one in inbound]
        self.agent.desk.process(tickets)
        replies = [ticket.reply for ticket in tickets]
        assert None not in replies
        return [reply for reply in replies if reply is not None]

    def enrolled(self, domain: Domain = Domain.METERING, device: Device | None = None) -> Device:
        """Return a device with a current first certificate."""
        device = device or self.device(domain)
        key = new_key()
        certificate = certificate_of(self.ask(device.enroll(key)))
        device = device.holding(device.label, key, certificate)
        receipt = self.ask(device.confirm(certificate))
        assert isinstance(receipt, Content), receipt
        assert receipt.media is Media.SIGN1
        return device


def certificate_of(reply: Reply) -> bytes:
    assert isinstance(reply, Content), reply
    assert reply.media is Media.C509_CERTIFICATE
    return reply.body


@contextmanager
def rig_in(
    folder: Path,
    *,
    limits: Limits | None = None,
    clock: Clock | None = None,
    directory: Path | None = None,
    is_beside: bool = False,
) -> Iterator[Rig]:
    """Open a new authority in `folder`, or the one in `directory`, without a door and an event loop.

    With `is_beside`, another process may serve from the directory.
    """
    directory = directory or fresh_directory(folder / "authority")
    clock = clock or Clock()
    settings, authorities, store, lock = _open(directory, PASSPHRASE, int(clock()))
    if is_beside:
        os.close(lock)
    agent = AuthorityAgent(settings, authorities, store, Layout(directory), limits or Limits(), clock)
    try:
        with _makers(directory, clock) as makers:
            yield Rig(agent, directory, clock, makers)
    finally:
        agent.close()
        if not is_beside:
            os.close(lock)


@asynccontextmanager
async def open_rig(
    folder: Path, *, limits: Limits | None = None, clock: Clock | None = None, directory: Path | None = None
) -> AsyncIterator[Rig]:
    """Open a new authority in `folder`, or the one in `directory`, as it serves."""
    directory = directory or fresh_directory(folder / "authority")
    clock = clock or Clock()
    async with open_authority(directory, PASSPHRASE, limits=limits, clock=clock) as agent:
        with _makers(directory, clock) as makers:
            yield Rig(agent, directory, clock, makers)


@contextmanager
def _makers(directory: Path, clock: Clock) -> Iterator[dict[Domain, MakerIssuer]]:
    with ExitStack() as stack:
        yield {
            domain: stack.enter_context(MakerIssuer(directory, domain, PASSPHRASE, clock=clock))
            for domain in read_settings(directory).domains
        }
