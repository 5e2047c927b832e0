"""A device agent with a real key store and a real small authority; no network, and no sleeps to speak of."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from agents.devices.agent import Device, DeviceError, open_device
from agents.devices.identity import IdentityError
from agents.devices.keystore import StoreError
from agents.devices.status import Phase
from protocol import cbor
from protocol.errors import ExchangeTimeout, MalformedMessage, ProblemKind, RequestRejected, Unreachable
from protocol.exchange.device import State
from protocol.exchange.device_pace import Patience
from protocol.exchange.request import RevocationReason
from protocol.labels import Domain, Operation
from protocol.message import decode_message
from protocol.ports import Outbound, Pending, Reply
from protocol.problem import Problem
from protocol.validity import Verdict
from protocol.voucher import Voucher
from tests.world import GATEWAY, METER, NOW, YEAR, LocalTransport, World

QUICK = Patience(answer=0.05, longest_answer=0.05, pause=0.01, longest_pause=0.01, give_up=0.2)


class Moody(LocalTransport):
    """A transport that does what the test says before it does what it should."""

    def __init__(self, world: World, *moods: Callable[[], Reply] | None) -> None:
        super().__init__(world)
        self.moods = list(moods)
        self.sent: list[Outbound] = []
        self.messages: list[bytes] = []

    async def exchange(self, request: Outbound) -> Reply:
        self.sent.append(request)
        mood = self.moods.pop(0) if self.moods else None
        return self.world.answer(request) if mood is None else mood()

    async def send_message(self, stream: str, body: bytes) -> Problem | None:
        self.messages.append(body)
        mood = self.moods.pop(0) if self.moods else None
        if mood is not None:
            reply = mood()
            assert isinstance(reply, Problem)
            return reply
        return self.world.take_message(stream, body)


def unreachable() -> Reply:
    raise Unreachable("the cable is out")


class Silent(LocalTransport):
    """A transport on which nothing ever comes."""

    async def exchange(self, request: Outbound) -> Reply:
        await anyio.sleep_forever()
        raise AssertionError

    async def send_message(self, stream: str, body: bytes) -> Problem | None:
        await anyio.sleep_forever()
        return None


@asynccontextmanager
async def opened(
    folder: Path, world: World, *, patience: Patience = QUICK, passphrase: bytes | None = None
) -> AsyncIterator[Device]:
    async with open_device(folder, passphrase, wall=lambda: float(world.now), patience=patience) as device:
        yield device


async def test_a_meter_gets_all_its_certificates_and_replaces_them(tmp_path: Path) -> None:
    world = World()
    transport = LocalTransport(world)
    async with opened(world.identity_folder(tmp_path / "m"), world) as device:
        for label in ("meter-ds", "meter-ka", "meter-tls"):
            certificate = await device.enroll(label, transport)
            assert certificate.subject.cn == METER
        for label in ("meter-ds", "meter-ka", "meter-tls"):
            before = world.by_key_of(device._store.current_certificate(label) or b"")
            await device.rekey(label, transport)
            assert before.state == "superseded"
            current = device._store.current_certificate(label)
            assert current is not None
            assert world.by_key_of(current).state == "current"
    assert set(world.issued.values()) == {1}


async def test_a_gateway_gets_its_native_certificate(tmp_path: Path) -> None:
    world = World(Domain.ITS)
    async with opened(world.identity_folder(tmp_path / "g", GATEWAY), world) as device:
        certificate = await device.enroll("its-enroll", LocalTransport(world))
        assert certificate.type == 2
        assert len(certificate.encoded) <= 145
        assert await device.send("telemetry", b"x", LocalTransport(world)) < 120


async def test_everything_works_with_encrypted_keys_after_opening_again(tmp_path: Path) -> None:
    world = World()
    transport = LocalTransport(world)
    folder = world.identity_folder(tmp_path / "m", passphrase=b"secret")
    async with opened(folder, world, passphrase=b"secret") as device:
        await device.enroll("meter-ds", transport)
    async with opened(folder, world, passphrase=b"secret") as device:
        await device.rekey("meter-ds", transport)
        await device.send("readings", b"x", transport)
    with pytest.raises(IdentityError, match="passphrase"):
        async with opened(folder, world, passphrase=b"wrong"):
            pass


async def test_progress_is_told_once_per_state(tmp_path: Path) -> None:
    world = World()
    told: list[tuple[str, State]] = []
    async with opened(world.identity_folder(tmp_path / "m"), world) as device:
        await device.enroll(
            "meter-ds", LocalTransport(world), progress=lambda label, state: told.append((label, state))
        )
    assert told == [("meter-ds", s) for s in (State.ENROLLING, State.CONFIRMING, State.DONE)]


async def test_an_unreachable_authority_is_tried_again_with_the_same_bytes(tmp_path: Path) -> None:
    world = World()
    transport = Moody(world, unreachable, None, unreachable, unreachable, None, unreachable)
    async with opened(world.identity_folder(tmp_path / "m"), world) as device:
        await device.enroll("meter-ds", transport)
    requests = {r.body for r in transport.sent if r.op is Operation.SEN}
    confirmations = {r.body for r in transport.sent if r.op is Operation.CONF}
    assert (len(requests), len(confirmations)) == (1, 1)
    assert len(transport.sent) == 7


async def test_hints_and_pending_put_it_off_and_no_more(tmp_path: Path) -> None:
    world = World()
    problem = Problem(ProblemKind.NOT_ENTITLED)
    transport = Moody(world, lambda: problem, None, lambda: Pending(0.01), lambda: problem)
    async with opened(world.identity_folder(tmp_path / "m"), world) as device:
        await device.enroll("meter-ds", transport)


async def test_silence_ends_in_time_and_the_next_call_goes_on(tmp_path: Path) -> None:
    world = World()
    folder = world.identity_folder(tmp_path / "m")
    async with opened(folder, world) as device:
        with pytest.raises(ExchangeTimeout):
            await device.enroll("meter-ds", Silent(world))
        await device.enroll("meter-ds", LocalTransport(world))


async def test_what_was_begun_is_ended_by_the_next_call(tmp_path: Path) -> None:
    world = World()
    folder = world.identity_folder(tmp_path / "m")
    async with opened(folder, world) as device:
        await device.enroll("meter-ds", LocalTransport(world))
        lost_receipt = Moody(world, None, unreachable, *[unreachable] * 1000)
        with pytest.raises(ExchangeTimeout):
            await device.rekey("meter-ds", lost_receipt)
        (label,) = device.status().labels
        assert label.pending is not None
        assert (label.pending.op, label.pending.phase) == (Operation.SREN, Phase.INSTALLED)
    async with opened(folder, world) as device:
        issued = world.issued.total()
        await device.rekey("meter-ds", LocalTransport(world))
        assert world.issued.total() == issued, "the pending one was confirmed, no other was asked for"
        assert device.status().labels[0].pending is None


async def test_a_rekey_after_an_unfinished_enrollment_ends_that_and_then_rekeys(tmp_path: Path) -> None:
    world = World()
    async with opened(world.identity_folder(tmp_path / "m"), world) as device:
        with pytest.raises(ExchangeTimeout):
            await device.enroll("meter-ds", Moody(world, None, *[unreachable] * 1000))
        await device.rekey("meter-ds", LocalTransport(world))
    assert world.issued.total() == 2


async def test_a_pending_request_that_is_refused_makes_way_for_a_new_one(tmp_path: Path) -> None:
    world = World()
    async with opened(world.identity_folder(tmp_path / "m"), world) as device:
        with pytest.raises(ExchangeTimeout):
            await device.enroll("meter-ds", Moody(world, None, None, *[unreachable] * 1000))
        pending = device._store.pending("meter-ds")
        assert pending is not None
        assert pending.certificate is not None
        world.by_key_of(pending.certificate).state = "void"
        await device.enroll("meter-ds", LocalTransport(world))
    assert world.issued.total() == 2


async def test_a_message_is_never_signed_by_a_key_that_may_be_retired(tmp_path: Path) -> None:
    world = World()
    transport = LocalTransport(world)
    async with opened(world.identity_folder(tmp_path / "m"), world) as device:
        await device.enroll("meter-ds", transport)
        # The authority confirms, and the device never hears of it.
        with pytest.raises(ExchangeTimeout):
            await device.rekey("meter-ds", DeafAfterConfirm(world))
        await device.send("readings", b"x", transport)
    assert not world.refused


@pytest.mark.parametrize("what", ["enroll", "rekey", "give back"])
async def test_no_other_label_is_signed_for_by_a_key_that_may_be_retired(tmp_path: Path, what: str) -> None:
    world = World()
    transport = LocalTransport(world)
    async with opened(world.identity_folder(tmp_path / "m"), world) as device:
        await device.enroll("meter-ds", transport)
        if what != "enroll":
            await device.enroll("meter-ka", transport)
        with pytest.raises(ExchangeTimeout):
            await device.rekey("meter-ds", DeafAfterConfirm(world))
        match what:
            case "enroll":
                await device.enroll("meter-ka", transport)
            case "rekey":
                await device.rekey("meter-ka", transport)
            case _:
                await device.give_back("meter-ka", transport)
    assert not world.refused


class DeafAfterConfirm(LocalTransport):
    """Delivers everything, and loses every receipt."""

    async def exchange(self, request: Outbound) -> Reply:
        reply = await super().exchange(request)
        if request.op is Operation.CONF:
            raise Unreachable("just now")
        return reply


async def test_a_fresh_start_forgets_what_was_begun(tmp_path: Path) -> None:
    world = World()
    async with opened(world.identity_folder(tmp_path / "m"), world) as device:
        with pytest.raises(ExchangeTimeout):
            await device.enroll("meter-ds", Silent(world))
        with pytest.raises(ExchangeTimeout):
            await device.enroll("meter-ds", Moody(world, None, None, *[unreachable] * 1000))
        stuck = device._store.pending("meter-ds")
        assert stuck is not None
        certificate = await device.enroll("meter-ds", LocalTransport(world), afresh=True)
        assert certificate.encoded != stuck.certificate


async def test_a_signed_refusal_is_raised(tmp_path: Path) -> None:
    world = World()
    folder = world.identity_folder(tmp_path / "m")
    for record in world.by_key.values():
        record.state = "revoked"
    async with opened(folder, world) as device:
        with pytest.raises(RequestRejected) as raised:
            await device.enroll("meter-ds", LocalTransport(world))
        assert raised.value.reason is ProblemKind.SIGNER_REVOKED
        assert device._store.pending("meter-ds") is None


async def test_labels_are_asked_for_in_order(tmp_path: Path) -> None:
    world = World()
    transport = LocalTransport(world)
    async with opened(world.identity_folder(tmp_path / "m"), world) as device:
        with pytest.raises(DeviceError, match="enroll that first"):
            await device.enroll("meter-ka", transport)
        with pytest.raises(DeviceError, match="enroll first"):
            await device.rekey("meter-ds", transport)
        with pytest.raises(DeviceError, match="enroll first"):
            await device.send("readings", b"x", transport)
        with pytest.raises(DeviceError, match="factory only"):
            await device.enroll("meter-boot", transport)
        with pytest.raises(DeviceError, match="to give back"):
            await device.give_back("meter-ds", transport)
        with pytest.raises(DeviceError):
            await device.enroll("its-enroll", transport)


async def test_messages_count_up_and_say_the_time(tmp_path: Path) -> None:
    world = World()
    transport = Moody(world)
    async with opened(world.identity_folder(tmp_path / "m"), world) as device:
        await device.enroll("meter-ds", transport)
        for _ in range(3):
            await device.send("readings", b"x", transport)
    read = [decode_message(message) for message in transport.messages]
    assert [(m.counter, m.time, m.body) for m in read] == [(n, NOW, b"x") for n in range(3)]
    assert set(world.messages.values()) == {1}


async def test_a_device_without_a_clock_enrolls_and_sends(tmp_path: Path) -> None:
    world = World()
    transport = Moody(world)
    folder = world.identity_folder(tmp_path / "m")
    async with open_device(folder, wall=None, patience=QUICK) as device:
        await device.enroll("meter-ds", transport)
        await device.send("readings", b"x", transport)
        assert device.status().labels[0].validity is Verdict.TIME_UNKNOWN
    assert decode_message(transport.messages[0]).time is None


async def test_a_message_is_repeated_until_it_is_taken(tmp_path: Path) -> None:
    world = World()
    transport = Moody(world)
    async with opened(world.identity_folder(tmp_path / "m"), world) as device:
        await device.enroll("meter-ds", transport)
        transport.moods = [unreachable, lambda: Problem(ProblemKind.OVERLOADED, retry_after=0.01), None]
        await device.send("readings", b"x", transport)
        assert len(transport.messages) == 3
        assert len(set(transport.messages)) == 1
        transport.moods = [unreachable, lambda: Problem(ProblemKind.STALE_MESSAGE)]
        await device.send("readings", b"x", transport)


async def test_a_message_that_is_not_wanted_is_told(tmp_path: Path) -> None:
    world = World()
    transport = Moody(world)
    async with opened(world.identity_folder(tmp_path / "m"), world) as device:
        await device.enroll("meter-ds", transport)
        for kind in (ProblemKind.STALE_MESSAGE, ProblemKind.TOO_LARGE):
            transport.moods = [lambda kind=kind: Problem(kind)]  # type: ignore[misc]
            with pytest.raises(RequestRejected) as raised:
                await device.send("readings", b"x", transport)
            assert raised.value.reason is kind
        with pytest.raises(ExchangeTimeout):
            await device.send("readings", b"x", Silent(world))
        with pytest.raises(MalformedMessage):
            await device.send("no such stream!", b"x", transport)


async def test_what_is_given_back_is_revoked_and_gone(tmp_path: Path) -> None:
    world = World()
    transport = LocalTransport(world)
    async with opened(world.identity_folder(tmp_path / "m"), world) as device:
        await device.enroll("meter-ds", transport)
        certificate = await device.enroll("meter-ka", transport)
        await device.give_back("meter-ka", transport, RevocationReason.SUPERSEDED)
        assert world.by_key_of(certificate.encoded).state == "revoked"
        certificate = await device.enroll("meter-ds", transport)
        await device.give_back("meter-ds", DeafOnce(world))
        assert world.by_key_of(certificate.encoded).state == "revoked"
        assert all(label.serial is None for label in device.status().labels)


class DeafOnce(LocalTransport):
    """Loses the first answer, and the authority's memory of it."""

    is_deaf = True

    async def exchange(self, request: Outbound) -> Reply:
        reply = await super().exchange(request)
        if self.is_deaf:
            self.is_deaf = False
            self.world.answers.clear()
            raise Unreachable("just now")
        return reply


async def test_status_tells_what_is_due(tmp_path: Path) -> None:
    world = World()
    async with opened(world.identity_folder(tmp_path / "m"), world) as device:
        before = device.status()
        assert (before.device, before.epoch, before.knows_chain, before.labels) == (METER, 0, False, ())
        certificate = await device.enroll("meter-ds", LocalTransport(world))
        (label,) = device.status().labels
        assert (label.label, label.serial) == ("meter-ds", certificate.serial)
        assert (label.validity, label.is_rekey_due) == (Verdict.VALID, False)
        world.now = NOW + int(2.5 * YEAR)
        (label,) = device.status().labels
        assert (label.validity, label.is_rekey_due) == (Verdict.VALID, True)
        world.now = NOW + 4 * YEAR
        assert device.status().labels[0].validity is Verdict.EXPIRED


async def test_a_new_owner_is_taken_from_the_maker_or_from_the_owner_before(tmp_path: Path) -> None:
    world = World()
    transport = LocalTransport(world)
    async with opened(world.identity_folder(tmp_path / "m"), world) as device:
        await device.enroll("meter-ds", transport)
        with pytest.raises(RequestRejected):
            device.take_voucher(world.voucher(epoch=0))
        with pytest.raises(RequestRejected):
            device.take_voucher(world.voucher(device="54524C0000000099", epoch=1))
        device.take_voucher(world.voucher(epoch=1))
        assert device._store.current("meter-ds") is None
        assert device.status().epoch == 1
        with pytest.raises(RequestRejected):
            device.take_voucher(world.voucher(epoch=1))


async def test_the_present_owner_may_name_the_next_one(tmp_path: Path) -> None:
    world = World()
    async with opened(world.identity_folder(tmp_path / "m"), world) as device:
        following = Voucher.issue(world.operator.signer, world.authority, METER, b"\x07" * 32, 1).encoded
        with pytest.raises(RequestRejected):
            device.take_voucher(following)  # whose it is now, is not verified yet
        await device.enroll("meter-ds", LocalTransport(world))
        device.take_voucher(following)
        assert device.status().authority == b"\x07" * 32


async def test_a_cancelled_exchange_goes_on_later(tmp_path: Path) -> None:
    world = World()
    async with opened(world.identity_folder(tmp_path / "m"), world) as device:
        with anyio.move_on_after(0.01):
            await device.enroll("meter-ds", Silent(world))
        await device.enroll("meter-ds", LocalTransport(world))


def test_an_identity_is_open_once(tmp_path: Path) -> None:
    world = World()
    folder = world.identity_folder(tmp_path / "m")
    with Device.open(folder), pytest.raises(StoreError, match="in use"), Device.open(folder):
        pass
    with Device.open(folder):
        pass


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("identity.json", b"{}"),
        ("identity.json", b"[]"),
        ("identity.json", b"\xff"),
        ("root.c509", b""),
        ("bootstrap.c509", b"\x80"),
        ("bootstrap.key", b"-----BEGIN"),
        ("voucher-key.der", b"\x30\x00"),
    ],
)
def test_a_damaged_identity_is_told_by_name(tmp_path: Path, file: str, content: bytes) -> None:
    folder = World().identity_folder(tmp_path / "m")
    (folder / file).write_bytes(content)
    with pytest.raises(IdentityError, match=file), Device.open(folder):
        pass
    (folder / file).unlink()
    with pytest.raises(IdentityError), Device.open(folder):
        pass


def test_a_voucher_of_another_maker_opens_nothing(tmp_path: Path) -> None:
    folder = World().identity_folder(tmp_path / "m")
    for voucher in (World().voucher(), cbor.encode([])):
        (folder / "voucher.cose").write_bytes(voucher)
        with pytest.raises(IdentityError, match=r"voucher\.cose"), Device.open(folder):
            pass
