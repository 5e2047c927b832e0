"""Attacks on changes of owner: stockpiled requests, rogue operators, forged and replayed papers, races.

Real authorities and a real device; the attacker has everything but the keys of others. See
`tests/service/test_attacks.py` for the table of all attacks.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from agents.authority import show_device
from agents.authority.desk import Desk, Ticket
from agents.authority.layout import Layout
from agents.keys import SoftwareSigner, load_private_key
from protocol import c509
from protocol.errors import ExchangeTimeout, OwnerChanged, ProblemKind, RequestRejected
from protocol.exchange.request import (
    Confirmation,
    Door,
    Revocation,
    RevocationReason,
    certification_request,
    sign_request,
)
from protocol.labels import Domain, Operation
from protocol.ports import Content, Inbound, Outbound, Reply, SignedRefusal
from protocol.problem import Problem, Successor
from protocol.receipt import sign_verdict
from protocol.voucher import Voucher
from tests.owners_world import PASSPHRASE, Country, House, Way, country, make_template, opened
from tests.rig import new_key

METER_DS = "meter-ds"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("country"))


async def ask(house: House, request: Inbound | Outbound) -> Reply:
    return await house.agent.handle(Inbound(request.label, request.op, request.body, "test:1"))


def ca_key(house: House) -> SoftwareSigner:
    key = load_private_key(Layout(house.directory).operator(Domain.METERING) / "ca.key", PASSPHRASE)
    return SoftwareSigner(key, even_y=False)


def issued(house: House, client_id: str) -> int:
    return len(show_device(house.agent.store, client_id).certificates)


class Owner:
    """A curious owner: has the device's keys of now, and signs what it likes ahead."""

    def __init__(self, land: Country, device: object) -> None:
        folder = land.meters[0]
        self.name = folder.name
        self.boot = SoftwareSigner(load_private_key(folder / "bootstrap.key", None))
        self.boot_certificate = (folder / "bootstrap.c509").read_bytes()
        current = device._store.current(METER_DS)  # type: ignore[attr-defined]
        self.key, self.certificate = current.signer, current.certificate

    def stockpile(self, authority: bytes, epoch: int) -> dict[str, Inbound]:
        """Return one request of each kind, good at one authority in one epoch."""
        wanted = certification_request(c509.Name.common_name(self.name), new_key())
        confirmed = Confirmation(hashlib.sha256(self.certificate).digest(), 0).encode()
        serial = c509.decode_certificate(self.certificate).serial
        returned = Revocation(authority, serial, RevocationReason.UNSPECIFIED).encode()
        boot, own = (self.boot, self.boot_certificate), (self.key, self.certificate)
        made: dict[str, Inbound] = {}
        for what, op, (key, certificate), payload in (
            ("recovery", Operation.SEN, boot, wanted),
            ("recovery by value", Operation.SEN, boot, wanted),
            ("rekey", Operation.SREN, own, wanted),
            ("confirmation", Operation.CONF, own, confirmed),
            ("return", Operation.REV, own, returned),
        ):
            door = Door(authority, METER_DS, op, epoch)
            by_value = what.endswith("by value")
            body = sign_request(key, certificate, door, payload, by_value=by_value)
            made[what] = Inbound(METER_DS, op, body, "test:1")
        return made


# --- stockpiled requests ----------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["Tenant", "south"])
async def test_a_stockpiled_request_of_the_old_epoch_opens_nothing(
    template: Path, tmp_path: Path, to: str
) -> None:
    """It is answered, signed, with the voucher, and with nothing else; the new owner does not know it."""
    async with country(template, tmp_path) as land, opened(land.meters[0]) as device:
        north, client_id = land["north"], device.identity.client_id
        await device.enroll(METER_DS, Way(north))
        owner = Owner(land, device)
        stock = owner.stockpile(north.key_id, 0)
        if to == "Tenant":
            north.transfer([owner.name], to)
        else:
            land.give(owner.name, "north", "south")
        before = issued(north, client_id)
        for what, request in stock.items():
            for _ in range(2):
                reply = await ask(north, request)
                assert isinstance(reply, SignedRefusal), (what, reply)
                assert reply.problem.kind is ProblemKind.OWNER_CHANGED, what
            for other in ("south", "east"):
                assert isinstance(await ask(land[other], request), Problem), (what, "elsewhere it is noise")
        assert issued(north, client_id) == before
        assert north.states(client_id) == ["revoked"]


@pytest.mark.parametrize("place", ["north", "south"])
async def test_requests_signed_ahead_for_the_next_epoch_of_the_old_owner_open_nothing(
    template: Path, tmp_path: Path, place: str
) -> None:
    """Whoever knows that a transfer comes may guess the epoch; what it cannot guess is in nobody's hand."""
    async with country(template, tmp_path) as land, opened(land.meters[0]) as device:
        north, south, client_id = land["north"], land["south"], device.identity.client_id
        await device.enroll(METER_DS, Way(north))
        owner = Owner(land, device)
        stocks = [owner.stockpile(land[place].key_id, epoch) for epoch in (1, 2, 7)]
        land.give(owner.name, "north", "south")
        before = {house.name: issued(house, client_id) for house in (north, south)}
        if place == "north":
            for stock in stocks:
                for what, request in stock.items():
                    reply = await ask(north, request)
                    assert isinstance(reply, Problem), (what, "it is not ours in any of these epochs")
                    assert reply.kind is ProblemKind.BAD_SIGNATURE
        else:
            for stock in stocks[1:]:
                for request in stock.values():
                    assert isinstance(await ask(south, request), Problem)
            # Whoever held the tier 1 key can sign one request of an epoch that it guesses; said in the docs.
            assert isinstance(await ask(south, stocks[0]["recovery"]), Content)
            before["south"] += 1
        assert before == {house.name: issued(house, client_id) for house in (north, south)}


async def test_answers_that_were_given_before_are_not_given_again(template: Path, tmp_path: Path) -> None:
    async with country(template, tmp_path, "north") as land, opened(land.meters[0]) as device:
        north, way = land["north"], Way(land["north"])
        await device.enroll(METER_DS, way)
        await device.rekey(METER_DS, way)
        asked = [one for one in way.asked if one.op in (Operation.SEN, Operation.SREN, Operation.CONF)]
        north.transfer([device.identity.device], "Tenant")
        for request in asked:
            reply = await ask(north, request)
            assert isinstance(reply, SignedRefusal)
            assert reply.problem.kind is ProblemKind.OWNER_CHANGED


async def test_a_transfer_between_the_look_and_the_answer(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was decided for the old owner, and is signed already, is not released any more."""
    async with country(template, tmp_path, "north") as land, opened(land.meters[0]) as device:
        north, client_id = land["north"], device.identity.client_id
        await device.enroll(METER_DS, Way(north))
        stock: dict[str, Inbound] = {}
        for what, method, to in (
            ("recovery", "_issue", "Lodger"),
            ("confirmation", "_sign_receipt", "Tenant"),
        ):
            epoch = show_device(north.agent.store, client_id).epoch
            stock = Owner(land, device).stockpile(north.key_id, epoch)
            ticket = Ticket(stock[what])
            with monkeypatch.context() as patch:
                patch.setattr(Desk, method, transferring(north, client_id, to, getattr(Desk, method)))
                north.agent.desk.process([ticket])
            assert show_device(north.agent.store, client_id).epoch == epoch + 1
            assert not isinstance(ticket.reply, Content), (what, ticket.reply)
            if what == "recovery":
                assert north.states(client_id) == ["revoked"]
                await device.check_in(Way(north))
        reply = await ask(north, stock["recovery"])
        assert isinstance(reply, SignedRefusal)
        assert reply.problem.kind is ProblemKind.OWNER_CHANGED


def transferring(
    house: House, client_id: str, to: str, plain: Callable[..., object]
) -> Callable[..., object]:
    """Return `plain` with a transfer right before it."""

    def late(*args: object) -> object:
        house.transfer([client_id], to)
        return plain(*args)

    return late


# --- rogue operators --------------------------------------------------------------------------------------


async def test_only_whom_the_device_knows_names_its_next_owner(template: Path, tmp_path: Path) -> None:
    """A rogue has a CA under the same root, an inventory, and everything that was ever sent."""
    async with country(template, tmp_path) as land, opened(land.meters[0]) as device:
        north, rogue, name = land["north"], land["east"], land.meters[0].name
        await device.enroll(METER_DS, Way(north))
        north.transfer([name], "Tenant")
        await device.check_in(Way(north))
        assert device.status().epoch == 1
        own, rogues = ca_key(north), ca_key(rogue)
        bad = {
            "by the rogue itself": Voucher.issue(rogues, rogue.key_id, name, rogue.key_id, 2),
            "by the rogue in our name": Voucher.issue(rogues, north.key_id, name, rogue.key_id, 2),
            "for another device": Voucher.issue(own, north.key_id, land.meters[1].name, rogue.key_id, 2),
            "of this epoch": Voucher.issue(own, north.key_id, name, rogue.key_id, 1),
            "of an epoch before": Voucher.issue(own, north.key_id, name, rogue.key_id, 0),
        }
        held = device.status()
        for what, voucher in bad.items():
            with pytest.raises(RequestRejected):
                device.take_voucher(voucher.encoded)
            # Even if our own registration key said so: nobody knows who would be behind that.
            way = Lying(north, north, Successor(voucher.encoded, "coap://192.0.2.66"))
            with pytest.raises(RequestRejected) as caught:
                await device.rekey(METER_DS, way)
            assert not isinstance(caught.value, OwnerChanged), what
            assert caught.value.reason is ProblemKind.OWNER_CHANGED
            assert device.status() == held, what
        # And a good voucher in a refusal that somebody else signed is noise.
        good = Voucher.issue(own, north.key_id, name, rogue.key_id, 2)
        with pytest.raises(ExchangeTimeout):
            await device.rekey(METER_DS, Lying(north, rogue, Successor(good.encoded)))
        assert device.status().epoch == 1
        device.take_voucher(good.encoded)


class Lying(Way):
    """A way on which every request is refused, signed by somebody's registration key."""

    def __init__(self, house: House, by: House, successor: Successor) -> None:
        super().__init__(house)
        self.by = by
        self.successor = successor

    async def exchange(self, request: Outbound) -> Reply:
        if request.op is Operation.CRTS:
            return await super().exchange(request)
        registrar = self.by.agent.authorities[Domain.METERING].registrar
        problem = Problem(ProblemKind.OWNER_CHANGED, "trust me", None, self.successor)
        body = sign_verdict(
            problem,
            registrar.signer,
            thumbprint=c509.thumbprint(
                self.house.agent.authorities[Domain.METERING].registrar.certificate.encoded
            ),
            request_digest=hashlib.sha256(request.body).digest(),
            authority=self.house.key_id,
            label=request.label,
            op=request.op,
        )
        return SignedRefusal(body, problem)


async def test_an_unsigned_word_that_the_owner_changed_changes_nothing(
    template: Path, tmp_path: Path
) -> None:
    async with country(template, tmp_path, "north") as land, opened(land.meters[0]) as device:
        north = land["north"]
        await device.enroll(METER_DS, Way(north))

        class Hinting(Way):
            async def exchange(self, request: Outbound) -> Reply:
                await super().exchange(request)
                return Problem(ProblemKind.OWNER_CHANGED, "trust me")

        with pytest.raises(ExchangeTimeout):
            await device.rekey(METER_DS, Hinting(north))
        assert device.status().epoch == 0


async def test_a_refusal_of_one_request_is_none_of_another(template: Path, tmp_path: Path) -> None:
    """An old refusal, with a voucher that was good: the device has gone on since."""
    async with country(template, tmp_path, "north") as land, opened(land.meters[0]) as device:
        north, way = land["north"], Way(land["north"])
        await device.enroll(METER_DS, way)
        north.transfer([device.identity.device], "Tenant")
        await device.rekey(METER_DS, way)
        (kept,) = [reply for reply in way.replies if isinstance(reply, SignedRefusal)]

        class Replaying(Way):
            async def exchange(self, request: Outbound) -> Reply:
                return kept

        with pytest.raises(ExchangeTimeout):
            await device.rekey(METER_DS, Replaying(north))
        assert device.status().epoch == 1


# --- without end ------------------------------------------------------------------------------------------


async def test_asking_all_day_in_an_old_epoch_costs_nobody_but_whoever_asks(
    template: Path, tmp_path: Path
) -> None:
    async with country(template, tmp_path, "north") as land, opened(land.meters[0]) as device:
        north = land["north"]
        await device.enroll(METER_DS, Way(north))
        owner = Owner(land, device)
        north.transfer([owner.name], "Tenant")
        signed = 0
        for number in range(200):
            request = owner.stockpile(north.key_id, 0)["recovery"]
            north.clock[0] += 1
            reply = await north.agent.handle(
                Inbound(request.label, request.op, request.body, f"coap:192.0.2.{number % 250}:1")
            )
            signed += isinstance(reply, SignedRefusal)
        assert signed <= 10 + 200 / 60 + 1
        assert len(north.everything()["answers"]) <= 40
        way = Way(north)
        north.clock[0] += 60
        await device.rekey(METER_DS, way)
        assert device.status().epoch == 1, "whoever repeats its request gets its answer"
