"""The authority as it serves: opening, admission, cancellation, the forms of its answers."""

import shutil
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from cryptography.hazmat.primitives.serialization import pkcs7

from agents.authority import BadDirectory, Limits, WrongStore, initialise, open_authority
from agents.authority.desk import Ticket
from protocol import c509
from protocol.errors import ProblemKind
from protocol.labels import Domain, Operation
from protocol.path import verify_authority, verify_leaf
from protocol.ports import Content, Inbound, Media, Reply
from protocol.problem import Problem
from protocol.profiles import over_the_air, profile_of
from protocol.validity import Clock as Judge
from tests.rig import NOW, PASSPHRASE, Rig, certificate_of, fresh_directory, new_key, open_rig


@pytest.mark.parametrize(("domain", "most"), [(Domain.METERING, 200), (Domain.ITS, 145)])
async def test_a_device_enrolls_and_confirms(tmp_path: Path, domain: Domain, most: int) -> None:
    async with open_rig(tmp_path) as rig:
        device, key = rig.device(domain), new_key()
        request = device.enroll(key)
        assert len(request.body) <= 210
        certificate = certificate_of(await rig.agent.handle(request))
        assert len(certificate) <= most
        confirmation = device.holding(device.label, key, certificate).confirm(certificate)
        assert isinstance(await rig.agent.handle(confirmation), Content)


@pytest.mark.parametrize("label", ["meter-ds", "meter-ka", "meter-tls", "its-enroll"])
async def test_what_is_issued_passes_a_devices_own_checks(tmp_path: Path, label: str) -> None:
    async with open_rig(tmp_path) as rig:
        device, key = rig.device(profile_of(label).domain), new_key()
        if label not in ("meter-ds", "its-enroll"):
            first = new_key()
            certificate = certificate_of(await rig.agent.handle(device.enroll(first)))
            device = device.holding("meter-ds", first, certificate)
        issued = c509.decode_certificate(
            certificate_of(await rig.agent.handle(device.enroll(key, label=label)))
        )
        reply = await rig.agent.handle(Inbound(label, Operation.CRTS, b"", "test:1"))
        assert isinstance(reply, Content)
        root = rig.agent.authorities[device.domain].root
        authority = verify_authority(
            c509.decode_chain(reply.body), root=root, authority=device.authority, clock=Judge(NOW)
        )
        assert authority.registration is not None
        assert verify_leaf(issued, authority, profile_of(label), Judge(NOW)) == device.name
        assert issued.public_key_bytes == key.public_key
        assert len(issued.serial) == 8


@pytest.mark.outside
async def test_openssl_accepts_the_der_chain(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    async with open_rig(tmp_path) as rig:
        device = rig.device()
        issued = c509.decode_certificate(certificate_of(await rig.agent.handle(device.enroll(new_key()))))
        leaf = tmp_path / "leaf.der"
        leaf.write_bytes(issued.to_der())
        folder = rig.directory / "certificates"
        for file in (leaf, folder / "metering-registration.pem"):
            command = ["openssl", "verify", "-attime", str(NOW), "-x509_strict"]
            command += ["-CAfile", str(folder / "root.pem"), "-untrusted", str(folder / "metering-root.pem")]
            command += ["-untrusted", str(folder / "metering-operator.pem"), str(file)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: ASYNC221
            assert done.returncode == 0, done.stdout + done.stderr


async def test_answers_come_as_der_where_asked_for(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        device = rig.device()
        request = device.enroll(new_key())
        native = certificate_of(await rig.agent.handle(request))

        async def ask(op: Operation, accept: Media, body: bytes = b"", label: str = "meter-ds") -> Reply:
            return await rig.agent.handle(Inbound(label, op, body, "test:1", accept))

        single = await ask(Operation.SEN, Media.PKIX_CERT, request.body)
        assert single == Content(c509.decode_certificate(native).to_der(), Media.PKIX_CERT)
        bundle = await ask(Operation.SEN, Media.PKCS7_CERTS_ONLY, request.body)
        assert isinstance(bundle, Content)
        assert len(pkcs7.load_der_pkcs7_certificates(bundle.body)) == 1
        chain = await ask(Operation.CRTS, Media.PKCS7_CERTS_ONLY)
        assert isinstance(chain, Content)
        assert len(pkcs7.load_der_pkcs7_certificates(chain.body)) == 3
        vehicle = rig.device(Domain.ITS).enroll(new_key())
        refused = await ask(Operation.SEN, Media.PKIX_CERT, vehicle.body, "its-enroll")
        assert isinstance(refused, Problem)
        assert refused.kind is ProblemKind.UNSUPPORTED_FORMAT


async def test_static_answers_have_an_entity_tag_and_stay_the_same(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        for op in (Operation.CRTS, Operation.ATT, Operation.CRL):
            inbound = Inbound("meter-ds", op, b"", "test:1")
            reply = await rig.agent.handle(inbound)
            assert isinstance(reply, Content)
            assert reply.etag is not None
            assert len(reply.etag) == 8
            assert await rig.agent.handle(inbound) == reply


async def test_the_template_asks_for_no_more_than_the_profile_takes(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        reply = await rig.agent.handle(Inbound("its-enroll", Operation.ATT, b"", "test:1"))
        assert isinstance(reply, Content)
        template = c509.decode_template(reply.body)
        assert template.request_types == (2,)
        assert template.public_key_algorithms == (1,)
        assert template.signature_algorithms == (0,)


# --- the door -------------------------------------------------------------------------------------------


class Gate:
    """Holds the desk's threads until it is opened."""

    def __init__(self, rig: Rig) -> None:
        self.opened = threading.Event()
        self.groups: list[int] = []
        self._process = rig.agent.desk.process
        rig.agent.door._process = self._held

    def _held(self, tickets: Sequence[Ticket]) -> None:
        self.groups.append(len(tickets))
        assert self.opened.wait(30)
        self._process(tickets)


async def test_too_much_at_once_is_refused_at_once_and_the_rest_is_served(tmp_path: Path) -> None:
    async with open_rig(tmp_path, limits=Limits(in_work=20, groups=1, group=8)) as rig:
        gate = Gate(rig)
        replies: list[Reply] = []
        requests = [rig.device().enroll(new_key()) for _ in range(25)]

        async def ask(inbound: Inbound) -> None:
            replies.append(await rig.agent.handle(inbound))

        async with anyio.create_task_group() as tasks:
            for request in requests:
                tasks.start_soon(ask, request)
            with anyio.fail_after(10):
                while len(replies) < 5:
                    await anyio.lowlevel.checkpoint()
            assert all(isinstance(r, Problem) and r.kind is ProblemKind.OVERLOADED for r in replies)
            assert all(isinstance(r, Problem) and r.retry_after == 1.0 for r in replies)
            assert rig.agent.door.in_work == 20
            gate.opened.set()
        assert sum(isinstance(reply, Content) for reply in replies) == 20
        assert rig.agent.door.overloaded == 5
        assert rig.agent.door.in_work == 0
        assert max(gate.groups) <= 8
        assert sum(gate.groups) == 20


async def test_twins_wait_for_one_result(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        gate = Gate(rig)
        request = rig.device().enroll(new_key())
        replies: list[Reply] = []

        async def ask() -> None:
            replies.append(await rig.agent.handle(request))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            gate.opened.set()
        assert gate.groups == [1]
        assert len(set(map(certificate_of, replies))) == 1
        assert len(replies) == 5


async def test_a_cancelled_caller_leaves_its_request_to_be_finished(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        gate = Gate(rig)
        device, key = rig.device(), new_key()
        request = device.enroll(key)
        with anyio.move_on_after(0.01):
            await rig.agent.handle(request)
        gate.opened.set()
        certificate_of(await rig.agent.handle(request))  # joins the one that nobody waits for
        assert rig.states(device) == ["pending"]
        assert gate.groups == [1]


async def test_closing_finishes_what_is_in_work(tmp_path: Path) -> None:
    replies: list[Reply] = []
    async with anyio.create_task_group() as tasks:
        async with open_rig(tmp_path) as rig:
            agent = rig.agent
            requests = [rig.device().enroll(new_key()) for _ in range(10)]

            async def ask(inbound: Inbound) -> None:
                replies.append(await agent.handle(inbound))

            for request in requests:
                tasks.start_soon(ask, request)
            with anyio.fail_after(10):
                while agent.door.in_work < 10:
                    await anyio.lowlevel.checkpoint()
        late = await agent.handle(requests[0])
        assert isinstance(late, Problem)
        assert late.kind is ProblemKind.UNAVAILABLE
    assert len(replies) == 10
    assert all(isinstance(reply, Content) for reply in replies)


async def test_a_bug_behind_the_door_leaves_nobody_waiting(tmp_path: Path) -> None:
    class OurBug(Exception):
        pass

    def fail(_: object) -> None:
        raise OurBug

    replies: list[Reply] = []

    async def serve() -> None:
        async with open_rig(tmp_path) as rig:
            rig.agent.door._process = fail
            request = rig.device().enroll(new_key())
            with anyio.CancelScope(shield=True):
                replies.append(await rig.agent.handle(request))
            await anyio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        await serve()
    assert caught.group_contains(OurBug)
    assert isinstance(replies[0], Problem)


# --- opening --------------------------------------------------------------------------------------------


async def test_it_does_not_serve_beside_readable_root_keys(tmp_path: Path) -> None:
    directory, roots = tmp_path / "authority", tmp_path / "elsewhere"
    initialise(directory, passphrase=PASSPHRASE, now=NOW)
    with pytest.raises(BadDirectory, match="move that folder"):
        async with open_authority(directory, PASSPHRASE, clock=lambda: NOW):
            pass
    shutil.move(directory / "roots", roots)
    async with open_authority(directory, PASSPHRASE, clock=lambda: NOW) as agent:
        assert set(agent.labels) == {*over_the_air(Domain.METERING), "its-enroll"}


async def test_root_keys_in_a_folder_of_their_own_are_noticed_too(tmp_path: Path) -> None:
    directory, roots = tmp_path / "authority", tmp_path / "stick"
    initialise(directory, passphrase=PASSPHRASE, now=NOW, roots=roots)
    assert not (directory / "roots").exists()
    with pytest.raises(BadDirectory, match="stick"):
        async with open_authority(directory, PASSPHRASE, clock=lambda: NOW):
            pass
    roots.rename(tmp_path / "pulled out")
    async with open_authority(directory, PASSPHRASE, clock=lambda: NOW):
        pass


async def test_one_authority_serves_from_a_directory(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        with pytest.raises(BadDirectory, match="another authority"):
            async with open_authority(rig.directory, PASSPHRASE, clock=rig.clock):
                pass
        directory, clock = rig.directory, rig.clock
    async with open_authority(directory, PASSPHRASE, clock=clock):
        pass


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda d: None, "passphrase"),
        (lambda d: (d / "trillium.toml").unlink(), "not an authority's directory"),
        (lambda d: (d / "trillium.toml").write_text("format = 99\n"), "not the settings"),
        (lambda d: (d / "trillium.toml").write_text("format = \n"), "trillium.toml"),
        (lambda d: (d / "certificates/its-operator.pem").write_bytes(b"nonsense"), "its authority"),
        (
            lambda d: shutil.copy(d / "operators/its/ca.key", d / "operators/metering/ca.key"),
            "do not match",
        ),
        (
            lambda d: shutil.copy(
                d / "certificates/its-registration.pem", d / "certificates/metering-registration.pem"
            ),
            "another authority's",
        ),
    ],
)
async def test_a_damaged_directory_is_not_served_from(
    tmp_path: Path, damage: Callable[[Path], object], says: str
) -> None:
    directory = fresh_directory(tmp_path / "authority")
    passphrase = b"wrong" if says == "passphrase" else PASSPHRASE
    damage(directory)
    with pytest.raises(BadDirectory, match=says):
        async with open_authority(directory, passphrase, clock=lambda: NOW):
            pass


async def test_a_store_of_another_version_is_not_opened(tmp_path: Path) -> None:
    directory = fresh_directory(tmp_path / "authority")
    (directory / "store.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(WrongStore):
        async with open_authority(directory, PASSPHRASE, clock=lambda: NOW):
            pass
    (directory / "store.sqlite").unlink()
    with pytest.raises(WrongStore, match="trillium init"):
        async with open_authority(directory, PASSPHRASE, clock=lambda: NOW):
            pass
