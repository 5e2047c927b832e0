"""A rogue maker: certified by our domain root, for the same label, and with a prefix of its own.

It signs what it likes, and it has a folder in which it could register what it likes. What it cannot do is
name a device as another maker does.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from agents.authority import InventoryError, NewDevice, initialise, read_settings, register_devices
from agents.authority.domain import read_certificate
from agents.authority.issuer import Issuer, ToBeIssued
from agents.authority.pki import Ca, Owner, make_ca
from agents.cli.doorkeeper import Doorkeeper
from agents.keys import SoftwareSigner, load_private_key
from protocol import c509
from protocol.cose import Algorithm
from protocol.errors import ProblemKind
from protocol.exchange.request import Door, certification_request, sign_request
from protocol.identity import client_id
from protocol.labels import Domain, Operation
from protocol.path import Authority, verify_authority
from protocol.ports import Inbound, Reply
from protocol.problem import Problem
from protocol.profiles import NameSpace, Prefix, profile_of, services_of
from protocol.validity import Clock
from tests.rig import PASSPHRASE, Rig, certificate_of, new_key, rig_in
from tests.world import NOW

BOOT, DS = "meter-boot", "meter-ds"
OUR_NAME, ITS_NAME = "54524C00000000AA", "4142430000000001"


@dataclass
class Rogue:
    """An authority of ours, and a second maker under its domain root."""

    rig: Rig
    issuer: Issuer
    authority: Authority

    def leaf(self, name: str) -> tuple[SoftwareSigner, bytes]:
        """Return a device's key, and the certificate that the rogue signs for it."""
        key = new_key()
        order = ToBeIssued(
            profile_of(BOOT), b"\x05" * 8, name, NOW - 300, None, Algorithm.ES256, key.public_key
        )
        return key, self.issuer.issue(order)

    def ask(self, name: str) -> Reply:
        """Return the answer to a first request whose signer, named so by the rogue, comes by value."""
        key, certificate = self.leaf(name)
        door = Door(self.rig.makers[Domain.METERING].owner, DS, Operation.SEN, 0)
        payload = certification_request(c509.Name.common_name(name), new_key())
        return self.rig.ask(
            Inbound(DS, Operation.SEN, sign_request(key, certificate, door, payload, by_value=True), "test:1")
        )

    def announced(self, name: str, certificate: bytes | None = None) -> NewDevice:
        """Return a device as the rogue announces it."""
        key_id = self.authority.key_id
        entitled = services_of(BOOT)
        return NewDevice(name, "meter-boot", key_id, client_id(key_id, name), entitled, certificate)

    def register(self, *devices: NewDevice) -> int:
        makers = (self.rig.makers[Domain.METERING].authority, self.authority)
        return register_devices(self.rig.agent.store, devices, NOW, makers)


@pytest.fixture(scope="module", params=[b"ABC", None], ids=["of its own prefix", "of none"])
def rogue(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rogue]:
    folder = tmp_path_factory.mktemp("rogue")
    directory, roots = folder / "authority", folder / "roots"
    initialise(directory, passphrase=PASSPHRASE, now=NOW, roots=roots)
    key = load_private_key(roots / "metering-root.key", PASSPHRASE)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    certificates = directory / "certificates"
    line = read_settings(directory).lines(Domain.METERING).maker
    pem = (certificates / "metering-root.pem").read_bytes()
    above = Ca(line[1], key, x509.load_pem_x509_certificate(pem))
    prefixes = [] if request.param is None else [Prefix(NameSpace.FLAG, request.param)]
    profile = replace(line[2], common_name="Rogue")
    made = make_ca(
        profile, Owner("ROGUE", "ZZ"), above, labels=(BOOT,), prefixes=prefixes, path_length=0, now=NOW
    )
    # It is known here as any maker is.
    (certificates / "metering-maker-rogue.pem").write_bytes(made.certificate.public_bytes(Encoding.PEM))
    path = [read_certificate(certificates / f"metering-{name}.pem") for name in ("maker-rogue", "root")]
    shutil.rmtree(roots)
    root = read_certificate(certificates / "root.pem")
    authority = verify_authority(path, root=root, authority=None, clock=Clock(NOW))
    with rig_in(folder, directory=directory) as rig:
        yield Rogue(rig, Issuer(made.key, path[0]), authority)


def has_a_prefix(rogue: Rogue) -> bool:
    return bool(rogue.authority.gives)


def test_by_value_it_brings_no_device_of_ours_to_the_door(rogue: Rogue) -> None:
    expected = ProblemKind.WRONG_SUBJECT if has_a_prefix(rogue) else ProblemKind.WRONG_SIGNER
    for name in (OUR_NAME, rogue.rig.device().name):
        before = rogue.rig.snapshot("audit", "answers")
        reply = rogue.ask(name)
        assert isinstance(reply, Problem), "unsigned: its signer proves nothing"
        assert reply.kind is expected
        assert rogue.rig.snapshot("audit", "answers") == before


def test_it_registers_no_device_of_ours(rogue: Rogue) -> None:
    _, certificate = rogue.leaf(OUR_NAME)
    before = rogue.rig.snapshot("audit")
    says = "FLAG id TRL is not the CA's" if has_a_prefix(rogue) else "lists no FLAG id"
    for device in (rogue.announced(OUR_NAME, certificate), rogue.announced(OUR_NAME)):
        with pytest.raises(InventoryError, match=says):
            rogue.register(device)
    ours = rogue.rig.makers[Domain.METERING].key_id
    as_ours = replace(rogue.announced(OUR_NAME, certificate), maker=ours, client_id=client_id(ours, OUR_NAME))
    with pytest.raises(InventoryError, match="not signed by its authority"):
        rogue.register(as_ours)
    with pytest.raises(InventoryError, match="nobody knows its maker"):
        rogue.register(replace(as_ours, maker=bytes(32)))
    assert rogue.rig.snapshot("audit") == before


async def test_the_brokers_door_knows_no_device_of_its_making(rogue: Rogue) -> None:
    """Under the domain root, so that TLS lets it in; and with a name of ours."""
    device = rogue.rig.enrolled()
    with Doorkeeper(rogue.rig.directory) as door:
        for name in (OUR_NAME, device.name):
            _, certificate = rogue.leaf(name)
            assert await door.identify([c509.decode_certificate(certificate).to_der()]) == [None]
        own = c509.decode_certificate(device.credentials[BOOT][1]).to_der()
        (identity,) = await door.identify([own])
        assert identity is not None
        assert identity.client_id == device.client_id


def test_its_own_devices_are_as_welcome_as_ours(rogue: Rogue) -> None:
    if not has_a_prefix(rogue):
        with pytest.raises(InventoryError, match="lists no FLAG id"):
            rogue.register(rogue.announced(ITS_NAME))
        return
    assert rogue.register(rogue.announced(ITS_NAME)) == 1
    certificate_of(rogue.ask(ITS_NAME))
