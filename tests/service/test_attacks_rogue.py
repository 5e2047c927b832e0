"""A rogue operator under the same scheme root: a CA of the same domain, with the same labels, and not mine.

Real authorities on both sides. The rogue has everything that we have, but for our keys and a voucher.
"""

import hashlib
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from agents.authority import (
    AuthorityAgent,
    Layout,
    MakerIssuer,
    NewDevice,
    initialise,
    open_authority,
    read_settings,
    register_devices,
)
from agents.authority.domain import read_certificate
from agents.authority.hierarchy import Labels, install_operator, publish
from agents.authority.issuer import Issuer, ToBeIssued
from agents.authority.pki import Ca, Owner, make_ca
from agents.devices.agent import Device, open_device
from agents.factory import make_batch
from agents.keys import SoftwareSigner, load_private_key
from protocol import c509
from protocol.cose import Algorithm
from protocol.errors import ExchangeTimeout, ProblemKind
from protocol.exchange.device_pace import Patience
from protocol.exchange.request import Confirmation, Door, certification_request, sign_request
from protocol.identity import client_id
from protocol.labels import Domain, Operation
from protocol.path import verification_key
from protocol.ports import Content, Inbound, Outbound, Reply, SignedRefusal
from protocol.problem import Problem
from protocol.profiles import profile_of
from protocol.voucher import key_identifier
from tests.rig import certificate_of, new_key
from tests.world import NOW

PASSPHRASE = b"secret"
QUICK = Patience(answer=2, pause=0.005, longest_pause=0.01, give_up=0.3)
METER_DS = "meter-ds"


@dataclass
class Scheme:
    """Two authorities under one scheme root, and the folder of one identity that belongs to ours."""

    ours: AuthorityAgent
    rogue: AuthorityAgent
    directory: Path
    identity: Path
    rogue_key: ec.EllipticCurvePrivateKey
    rogue_certificate: c509.Certificate

    def id_of(self, agent: AuthorityAgent) -> bytes:
        return agent.authorities[Domain.METERING].key_id

    @property
    def bootstrap(self) -> tuple[SoftwareSigner, bytes]:
        """The device's own tier 1 credential: a curious owner reads it from the flash."""
        key = load_private_key(self.identity / "bootstrap.key", None)
        return SoftwareSigner(key, even_y=False), (self.identity / "bootstrap.c509").read_bytes()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make both directories; the rogue's differs in its metering operator only."""
    folder = tmp_path_factory.mktemp("scheme")
    initialise(folder / "ours", passphrase=PASSPHRASE, now=NOW, roots=folder / "roots")
    with MakerIssuer(folder / "ours", Domain.METERING, PASSPHRASE, clock=lambda: NOW) as maker:
        make_batch(maker, "meter-boot", 1, folder / "batch")
    shutil.copytree(folder / "ours", folder / "rogue")  # its inventory knows the device, too
    layout = Layout(folder / "rogue")
    key = load_private_key(folder / "roots" / "metering-root.key", PASSPHRASE)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    pem = (layout.certificates / "metering-root.pem").read_bytes()
    settings = read_settings(folder / "rogue")
    line = settings.lines(Domain.METERING).operator
    owner = Owner(settings.organisation, settings.country)
    domain_root = Ca(line[1], key, x509.load_pem_x509_certificate(pem))
    shutil.rmtree(layout.operator(Domain.METERING))
    layout.audit_head.unlink(missing_ok=True)
    labels = Labels.of(Domain.METERING).operator
    operator = make_ca(line[2], owner, domain_root, labels=labels, path_length=0, now=NOW)
    publish(layout, "metering-operator", operator.certificate)
    install_operator(layout, settings, Domain.METERING, operator, passphrase=PASSPHRASE, now=NOW)
    # A second maker that calls itself as ours does, and whose file comes first.
    made = settings.lines(Domain.METERING).maker[-1]
    namesake = make_ca(made, owner, domain_root, labels=("meter-boot",), path_length=0, now=NOW)
    name = read_certificate(layout.certificates / "metering-maker.pem").subject
    assert c509.from_der(namesake.certificate.public_bytes(Encoding.DER)).subject == name
    pem = namesake.certificate.public_bytes(Encoding.PEM)
    (folder / "ours" / "certificates" / "metering-maker-a.pem").write_bytes(pem)
    shutil.rmtree(folder / "roots")
    return folder


@asynccontextmanager
async def opened(template: Path, folder: Path) -> AsyncIterator[Scheme]:
    shutil.copytree(template, folder)
    (identity,) = (path.parent for path in (folder / "batch").glob("*/identity.json"))
    async with AsyncExitStack() as stack:
        ours, rogue = [
            await stack.enter_async_context(open_authority(folder / name, PASSPHRASE, clock=lambda: NOW))
            for name in ("ours", "rogue")
        ]
        operator = Layout(folder / "rogue").operator(Domain.METERING)
        key = load_private_key(operator / "ca.key", PASSPHRASE)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        certificate = read_certificate(Layout(folder / "rogue").certificate("metering-operator"))
        assert certificate.subject == ours.authorities[Domain.METERING].issuer.certificate.subject
        yield Scheme(ours, rogue, folder / "ours", identity, key, certificate)


@dataclass
class Port:
    """A device's way, which a rogue may have bent: operations in `stolen` end at the rogue."""

    scheme: Scheme
    stolen: frozenset[Operation]

    async def exchange(self, request: Outbound) -> Reply:
        agent = self.scheme.rogue if request.op in self.stolen else self.scheme.ours
        return await agent.handle(Inbound(request.label, request.op, request.body, "test:1"))

    async def send_message(self, stream: str, body: bytes) -> Problem | None:
        return None


def hint(reply: Reply) -> ProblemKind:
    assert isinstance(reply, Problem), reply
    return reply.kind


def rows(agent: AuthorityAgent, table: str) -> list[tuple[object, ...]]:
    with agent.store.reading() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}")]


def everything(agent: AuthorityAgent) -> dict[str, list[tuple[object, ...]]]:
    return {name: rows(agent, name) for name in ("devices", "keys", "certificates", "answers", "audit")}


def enrollment(scheme: Scheme, authority: bytes, key: SoftwareSigner) -> Inbound:
    """Return the device's `sen`, signed for `authority`."""
    signer, certificate = scheme.bootstrap
    name = c509.decode_certificate(certificate).subject.cn
    assert name is not None
    payload = certification_request(c509.Name.common_name(name), key)
    body = sign_request(signer, certificate, Door(authority, METER_DS, Operation.SEN, 0), payload)
    return Inbound(METER_DS, Operation.SEN, body, "test:1")


@pytest.mark.parametrize("stolen", [frozenset(Operation), frozenset({Operation.CRTS}), {Operation.SEN}])
async def test_a_device_takes_nothing_from_an_authority_that_its_voucher_does_not_name(
    template: Path, tmp_path: Path, stolen: frozenset[Operation]
) -> None:
    async with opened(template, tmp_path / "copy") as scheme:
        async with open_device(scheme.identity, wall=lambda: NOW, patience=QUICK) as device:
            with pytest.raises(ExchangeTimeout):
                await device.enroll(METER_DS, Port(scheme, frozenset(stolen)))
            assert _current(device) is None
        async with open_device(scheme.identity, wall=lambda: NOW, patience=QUICK) as device:
            await device.enroll(METER_DS, Port(scheme, frozenset()))
            assert _current(device) is not None, "what a rogue said has left nothing behind"


async def test_a_rogues_receipt_ends_no_confirmation(template: Path, tmp_path: Path) -> None:
    async with (
        opened(template, tmp_path / "copy") as scheme,
        open_device(scheme.identity, wall=lambda: NOW, patience=QUICK) as device,
    ):
        with pytest.raises(ExchangeTimeout):
            await device.enroll(METER_DS, Port(scheme, frozenset({Operation.CONF})))
        assert _current(device) is None
        await device.enroll(METER_DS, Port(scheme, frozenset()))
        assert _current(device) is not None


def _current(device: Device) -> object:
    return next((one.serial for one in device.status().labels if one.label == METER_DS), None)


async def test_a_request_recorded_at_another_authority_is_refused(template: Path, tmp_path: Path) -> None:
    async with opened(template, tmp_path / "copy") as scheme:
        recorded = enrollment(scheme, scheme.id_of(scheme.rogue), new_key())
        before = everything(scheme.ours)
        assert hint(await scheme.ours.handle(recorded)) is ProblemKind.BAD_SIGNATURE
        assert everything(scheme.ours) == before
        certificate_of(await scheme.rogue.handle(recorded))


async def test_a_certificate_of_the_rogue_opens_no_door_of_ours(template: Path, tmp_path: Path) -> None:
    """It is of the right label, for the right device, under the right root."""
    async with opened(template, tmp_path / "copy") as scheme:
        key = new_key()
        foreign = certificate_of(
            await scheme.rogue.handle(enrollment(scheme, scheme.id_of(scheme.rogue), key))
        )
        name = c509.decode_certificate(foreign).subject
        before = everything(scheme.ours)
        attacks = {
            Operation.SREN: (METER_DS, certification_request(name, new_key())),
            Operation.SEN: ("meter-ka", certification_request(name, new_key())),
            Operation.CONF: (METER_DS, Confirmation(hashlib.sha256(foreign).digest(), 0).encode()),
        }
        for op, (label, payload) in attacks.items():
            door = Door(scheme.id_of(scheme.ours), label, op, 0)
            for by_value, expected in ((False, ProblemKind.UNKNOWN_SIGNER), (True, ProblemKind.WRONG_SIGNER)):
                body = sign_request(key, foreign, door, payload, by_value=by_value)
                assert hint(await scheme.ours.handle(Inbound(label, op, body, "test:1"))) is expected
        assert everything(scheme.ours) == before


@pytest.mark.parametrize("is_named_like_the_maker", [False, True])
async def test_the_rogue_makes_no_devices(
    template: Path, tmp_path: Path, is_named_like_the_maker: bool
) -> None:
    """A bootstrap certificate by an operator's CA, or by one that calls itself as our maker does."""
    async with opened(template, tmp_path / "copy") as scheme:
        key, certificate = new_key(), scheme.rogue_certificate
        name = c509.decode_certificate(scheme.bootstrap[1]).subject.cn
        assert name is not None
        if is_named_like_the_maker:
            # Its name and its key identifier, which anybody can write down.
            certificate = read_certificate(scheme.directory / "certificates" / "metering-maker.pem")
        order = ToBeIssued(
            profile_of("meter-boot"), b"\x05" * 8, name, NOW, None, Algorithm.ES256, key.public_key
        )
        forged = Issuer(scheme.rogue_key, certificate).issue(order)
        payload = certification_request(c509.Name.common_name(name), new_key())
        door = Door(scheme.id_of(scheme.ours), METER_DS, Operation.SEN, 0)
        body = sign_request(key, forged, door, payload, by_value=True)
        before = everything(scheme.ours)
        expected = ProblemKind.BAD_SIGNATURE if is_named_like_the_maker else ProblemKind.WRONG_SIGNER
        assert hint(await scheme.ours.handle(Inbound(METER_DS, Operation.SEN, body, "test:1"))) is expected
        assert everything(scheme.ours) == before


async def test_a_maker_of_the_same_name_keeps_no_device_of_the_other_out(
    template: Path, tmp_path: Path
) -> None:
    async with opened(template, tmp_path / "copy") as scheme:
        names = [maker.certificate.subject for maker in scheme.ours.authorities[Domain.METERING].makers]
        assert names[0] == names[1]
        key, name = new_key(), "54524C00000000FF"
        with MakerIssuer(scheme.directory, Domain.METERING, PASSPHRASE, clock=lambda: NOW) as maker:
            certificate = maker.issue(profile_of("meter-boot"), name, key.public_key).encoded
            identifier = client_id(maker.key_id, name)
            new = NewDevice(name, "meter-boot", maker.key_id, identifier, (METER_DS,), None)
            register_devices(scheme.ours.store, [new], NOW, (maker.authority,))
        payload = certification_request(c509.Name.common_name(name), new_key())
        door = Door(scheme.id_of(scheme.ours), METER_DS, Operation.SEN, 0)
        body = sign_request(key, certificate, door, payload, by_value=True)
        certificate_of(await scheme.ours.handle(Inbound(METER_DS, Operation.SEN, body, "test:1")))


async def test_both_know_themselves_apart(template: Path, tmp_path: Path) -> None:
    """The same names all the way down; what tells authorities apart is their keys."""
    async with opened(template, tmp_path / "copy") as scheme:
        ours, rogue = (agent.authorities[Domain.METERING] for agent in (scheme.ours, scheme.rogue))
        assert [one.subject for one in ours.chain] == [one.subject for one in rogue.chain]
        assert key_identifier(verification_key(ours.chain[0])) == ours.key_id != rogue.key_id
        content = await scheme.rogue.handle(Inbound(METER_DS, Operation.CRTS, b"", "test:1"))
        assert isinstance(content, Content)
        refused = await scheme.rogue.handle(enrollment(scheme, ours.key_id, new_key()))
        assert not isinstance(refused, SignedRefusal), "nor does it sign anything about our requests"
