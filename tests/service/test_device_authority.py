"""A device from the real factory with the real authority behind the port: everything but the network."""

import hashlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from cryptography import x509

from agents.authority import (
    AuthorityAgent,
    MakerIssuer,
    initialise,
    open_authority,
    revoke,
    show_device,
)
from agents.devices.agent import Device, open_device
from agents.factory import make_batch
from protocol.errors import ProblemKind, RequestRejected, Unreachable
from protocol.exchange.device_effects import Promote, Send
from protocol.exchange.device_pace import Patience
from protocol.exchange.facts import CertificateState
from protocol.exchange.request import RevocationReason
from protocol.labels import Domain, Operation
from protocol.ports import Inbound, Media, Outbound, Reply
from protocol.problem import Problem
from protocol.profiles import over_the_air, profile_of, services_of
from tests.world import NOW

QUICK = Patience(answer=2, pause=0.01, longest_pause=0.05, give_up=3)
PASSPHRASE = b"secret"


@dataclass
class Port:
    """A transport that ends at the authority's handler."""

    agent: AuthorityAgent
    deaf_to: list[Operation] = field(default_factory=list)
    """Operations whose next answer is lost."""
    asked: list[Outbound] = field(default_factory=list)

    async def exchange(self, request: Outbound) -> Reply:
        self.asked.append(request)
        reply = await self.agent.handle(
            Inbound(request.label, request.op, request.body, "test:1", request.accept, request.base)
        )
        if request.op in self.deaf_to:
            self.deaf_to.remove(request.op)
            raise Unreachable("just now")
        return reply

    async def send_message(self, stream: str, body: bytes) -> Problem | None:
        return None


@dataclass
class Scene:
    """One device and its authority."""

    agent: AuthorityAgent
    device: Device
    port: Port

    def states(self, label: str) -> list[CertificateState]:
        shown = show_device(self.agent.store, self.device.identity.client_id)
        return [one.state for one in shown.certificates if one.label == label]


BOOTSTRAPS = ("meter-boot", "meter2-boot", "smki-boot", "its-boot")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scheme")
    directory = folder / "authority"
    initialise(directory, passphrase=PASSPHRASE, now=NOW, roots=folder / "roots", domains=tuple(Domain))
    shutil.rmtree(folder / "roots")
    for label in BOOTSTRAPS:
        with MakerIssuer(directory, profile_of(label).domain, PASSPHRASE, clock=lambda: NOW) as maker:
            make_batch(maker, label, 1, folder / label)
    return folder


@asynccontextmanager
async def scene(template: Path, folder: Path, label: str = "meter-boot") -> AsyncIterator[Scene]:
    shutil.copytree(template, folder, dirs_exist_ok=True)
    (identity,) = (path.parent for path in (folder / label).glob("*/identity.json"))
    async with (
        open_authority(folder / "authority", PASSPHRASE, clock=lambda: NOW) as agent,
        open_device(identity, wall=lambda: NOW, patience=QUICK) as device,
    ):
        yield Scene(agent, device, Port(agent))


@pytest.mark.parametrize("bootstrap", BOOTSTRAPS)
async def test_every_label_is_enrolled_and_rekeyed(template: Path, tmp_path: Path, bootstrap: str) -> None:
    async with scene(template, tmp_path, bootstrap) as s:
        for label in services_of(s.device.identity.label):
            await s.device.enroll(label, s.port)
        for label in services_of(s.device.identity.label):
            await s.device.rekey(label, s.port)
            assert s.states(label) == [CertificateState.SUPERSEDED, CertificateState.CURRENT]


@pytest.mark.parametrize("lost", [Operation.SEN, Operation.CONF])
async def test_a_lost_answer_costs_a_repeat_and_no_certificate(
    template: Path, tmp_path: Path, lost: Operation
) -> None:
    async with scene(template, tmp_path) as s:
        s.port.deaf_to = [lost]
        await s.device.enroll("meter-ds", s.port)
        assert s.states("meter-ds") == [CertificateState.CURRENT]


async def test_a_confirmation_that_is_signed_anew_after_power_loss_is_receipted(
    template: Path, tmp_path: Path
) -> None:
    async with scene(template, tmp_path) as s:
        await s.device.enroll("meter-ds", s.port)
        machine = s.device.prepare("meter-ds", Operation.SREN)
        effects = machine.start(0.0)
        for _ in range(2):
            keep, send = effects
            assert isinstance(send, Send)
            s.device._store.apply("meter-ds", keep)
            effects = machine.receive(await s.port.exchange(send.request), 0.0, 0.0)
        assert effects[0] == Promote()
        # Power loss here: the receipt is lost, and with it the bytes of the confirmation.
        await s.device.rekey("meter-ds", s.port)
        confirmations = {r.body for r in s.port.asked if r.op is Operation.CONF}
        assert len(confirmations) == 3
        assert s.states("meter-ds") == [CertificateState.SUPERSEDED, CertificateState.CURRENT]


async def test_recovery_with_the_bootstrap_key_retires_what_was_there(template: Path, tmp_path: Path) -> None:
    async with scene(template, tmp_path) as s:
        await s.device.enroll("meter-ds", s.port)
        await s.device.enroll("meter-ds", s.port)
        assert s.states("meter-ds") == [CertificateState.SUPERSEDED, CertificateState.CURRENT]


async def test_a_revoked_certificate_cannot_be_rekeyed_and_the_bootstrap_key_recovers(
    template: Path, tmp_path: Path
) -> None:
    async with scene(template, tmp_path) as s:
        certificate = await s.device.enroll("meter-ds", s.port)
        revoke(s.agent.store, certificate.serial.hex(), RevocationReason.SUPERSEDED, NOW)
        with pytest.raises(RequestRejected) as raised:
            await s.device.rekey("meter-ds", s.port)
        assert raised.value.reason is ProblemKind.SIGNER_REVOKED
        await s.device.enroll("meter-ds", s.port)
        assert s.states("meter-ds")[-1] is CertificateState.CURRENT


async def test_what_is_given_back_is_on_the_revocation_list(template: Path, tmp_path: Path) -> None:
    async with scene(template, tmp_path) as s:
        await s.device.enroll("meter-ds", s.port)
        certificate = await s.device.enroll("meter-ka", s.port)
        before = await s.device.fetch_revocations(s.port)
        await s.device.give_back("meter-ka", s.port)
        assert s.states("meter-ka") == [CertificateState.REVOKED]
        after = before
        with anyio.fail_after(5):
            while after.number == before.number:  # the authority gives a list out for half a second
                await anyio.sleep(0.05)
                after = await s.device.fetch_revocations(s.port)
        assert certificate.serial not in before.serials
        assert certificate.serial in after.serials
        assert after.number > before.number
        assert s.device._store.trust.crl_number == after.number


async def test_a_meter_follows_the_list_in_c509_form_by_what_is_new(template: Path, tmp_path: Path) -> None:
    async with scene(template, tmp_path) as s:
        await s.device.enroll("meter-ds", s.port)
        certificate = await s.device.enroll("meter-ka", s.port)
        known = await s.device.fetch_revocations(s.port, media=Media.C509_CRL)
        await s.device.give_back("meter-ka", s.port)
        after = known
        with anyio.fail_after(5):
            while after.number == known.number:  # the authority gives a list out for half a second
                await anyio.sleep(0.05)
                after = await s.device.fetch_revocations(s.port, media=Media.C509_CRL, known=known)
        assert s.port.asked[-1].base == known.number
        assert after.serials == known.serials | {certificate.serial}
        assert after == await s.device.fetch_revocations(s.port), "the same as DER"


async def test_giving_back_the_signing_certificate_survives_a_lost_receipt(
    template: Path, tmp_path: Path
) -> None:
    async with scene(template, tmp_path) as s:
        await s.device.enroll("meter-ds", s.port)
        s.port.deaf_to = [Operation.REV]
        await s.device.give_back("meter-ds", s.port)
        assert s.states("meter-ds") == [CertificateState.REVOKED]


async def test_the_authoritys_template_leaves_what_the_profile_has(template: Path, tmp_path: Path) -> None:
    async with scene(template, tmp_path) as s:
        for label in over_the_air(Domain.METERING):
            assert len(await s.device.fetch_algorithms(label, s.port)) == 1


async def test_the_certificate_is_one_that_other_software_reads(template: Path, tmp_path: Path) -> None:
    async with scene(template, tmp_path) as s:
        certificate = await s.device.enroll("meter-ds", s.port)
        read = x509.load_der_x509_certificate(certificate.to_der())
        assert read.serial_number == int.from_bytes(certificate.serial, "big")
        assert hashlib.sha256(certificate.encoded).digest()[:8] == s.device.status().labels[0].thumbprint
        assert len(certificate.encoded) <= 200
