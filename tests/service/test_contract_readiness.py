"""Contracts that are made before anybody asks: ready, claimed once, and gone when they are no good."""

import logging
from collections.abc import Iterator

import pytest

from agents.authority import readiness, revoke
from agents.authority.audit import Event
from agents.authority.contracts import end_contract
from protocol import c509
from protocol.errors import ProblemKind
from protocol.ev import CpsPackage, Edition
from protocol.ev.exi_size import OCPP_2_0_1_REQUEST, OCPP_2_0_1_RESPONSE
from protocol.exchange.request import RevocationReason
from protocol.lint import lint_der
from protocol.ports import Content, Reply, SignedRefusal
from protocol.profiles import profile_of
from tests.contract_world import CPS, DAY, EMAID, NOW, Port, Scene, opened, scene

A, B = (bytes([number]) * 16 for number in (1, 2))
YEAR = 365 * DAY


@pytest.fixture(params=list(Edition), ids=["part 2", "part 20"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("scene"), request.param) as found:
        yield found


@pytest.fixture
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("scene")) as found:
        yield found


def serial(reply: Reply) -> bytes:
    assert isinstance(reply, Content), reply
    return c509.from_der(CpsPackage.decode(reply.body).installation.contract_chain[0]).serial


def stages(found: Scene) -> list[str]:
    return [str(row[3]) for row in found.rows("installations")["installations"]]


def prepared(found: Scene) -> bytes:
    (row,) = found.rows("installations")["installations"]
    certificate = row[5]
    assert isinstance(certificate, bytes)
    return c509.decode_certificate(certificate).serial


def test_a_grant_is_made_ready_and_claimed_by_the_first_request(both: Scene) -> None:
    car = both.car()
    assert both.grant(car).state == "granted"
    assert both.prepare() == 1
    assert [one.state for one in both.contracts()] == ["ready"]
    made = prepared(both)
    assert car.states() == []
    request = car.request(A)
    reply = both.ask(request)
    assert serial(reply) == made
    assert car.states() == ["pending"]
    assert stages(both) == ["claimed"]
    assert both.ask(request) == reply
    assert [one.state for one in both.contracts()] == ["given"]


def test_twins_claim_one_and_another_nonce_is_made_on_demand(both: Scene) -> None:
    car = both.car()
    both.grant(car)
    both.prepare()
    made = prepared(both)
    first, twin, other = both.ask_together(car.request(A), car.request(A), car.request(B))
    assert serial(first) == serial(twin) == made
    assert serial(other) != made
    assert car.states() == ["void", "pending"]


def test_nothing_is_made_twice_or_without_need(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    assert one.prepare() == 1
    one.clock.now += DAY
    assert one.prepare() == 0
    one.ask(car.request(A))
    one.clock.now += 2 * DAY
    assert one.prepare() == 0


def test_what_was_never_asked_for_is_on_no_list_and_in_no_inventory(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    one.prepare()
    made = prepared(one)
    end_contract(one.store, EMAID, NOW)
    assert one.rows("installations")["installations"] == []
    assert [entry.event for entry in one.events() if entry.serial == made] == [Event.PREPARE, Event.VOID]
    with one.store.reading() as connection:
        found = connection.exec_driver_sql("SELECT id FROM certificates WHERE serial = ?", (made,))
        assert found.first() is None
    reply = one.ask(car.request(A))
    assert isinstance(reply, SignedRefusal)
    assert reply.problem.kind is ProblemKind.NOT_ENTITLED


def test_a_new_provisioning_key_makes_it_void_and_another_is_made(one: Scene) -> None:
    """What was wrapped to the old key helps nobody."""
    car = one.car()
    one.grant(car)
    one.prepare()
    made = prepared(one)
    revoke(one.store, car.identity.client_id, RevocationReason.KEY_COMPROMISE, NOW)
    one.prepare()
    assert one.rows("installations")["installations"] == []
    assert Event.VOID in [entry.event for entry in one.events() if entry.serial == made]


def test_a_contract_that_grows_old_unasked_is_made_anew(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    one.prepare()
    first = prepared(one)
    one.clock.now += YEAR // 10 + 1
    one.services[CPS[one.edition]] = one.vouching(CPS[one.edition])
    assert one.prepare() == 1
    assert prepared(one) != first
    assert serial(one.ask(car.request(A))) == prepared(one)


def test_an_old_one_is_not_given_even_before_anybody_tidied_up(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    one.prepare()
    made = prepared(one)
    one.clock.now += YEAR // 10 + 1
    one.services[CPS[one.edition]] = one.vouching(CPS[one.edition])
    assert serial(one.ask(car.request(A))) != made


async def test_the_next_one_is_ready_when_a_car_may_want_to_renew(both: Scene) -> None:
    car = both.car()
    both.grant(car)
    async with opened(both) as device:
        port = Port(both.agent)
        await device.obtain_contract(port)
        assert both.prepare() == 0
        both.clock.now += int(0.86 * YEAR)
        both.services[CPS[both.edition]] = both.vouching(CPS[both.edition])
        assert both.prepare() == 1
        made = prepared(both)
        renewed = await device.rekey(both.label, port)
    assert renewed.serial == made
    assert car.states() == ["superseded", "current"]


async def test_what_is_ready_for_a_renewal_is_not_given_to_the_provisioning_key(one: Scene) -> None:
    """It could not open it."""
    car = one.car()
    one.grant(car)
    async with opened(one) as device:
        port = Port(one.agent)
        await device.obtain_contract(port)
        one.clock.now += int(0.86 * YEAR)
        one.services[CPS[one.edition]] = one.vouching(CPS[one.edition])
        assert one.prepare() == 1
        made = prepared(one)
        assert (await device.obtain_contract(port)).serial != made


async def test_after_a_revoked_contract_the_next_one_is_ready(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    async with opened(one) as device:
        port = Port(one.agent)
        first = await device.obtain_contract(port)
        revoke(one.store, first.serial.hex(), RevocationReason.KEY_COMPROMISE, NOW)
        assert one.prepare() == 1
        assert (await device.obtain_contract(port, afresh=True)).serial == prepared(one)


def test_nothing_follows_a_certificate_that_lasts_as_long_as_its_contract(one: Scene) -> None:
    car = one.car()
    one.grant(car, until=NOW + 30 * DAY)
    one.prepare()
    one.ask(car.request(A))
    with one.store.writing(NOW) as writing:
        writing.connection.exec_driver_sql(
            "UPDATE certificates SET state = 'current' WHERE state = 'pending'"
        )
        writing.connection.exec_driver_sql("UPDATE grants SET look_at = 0")
    one.clock.now += 29 * DAY
    assert one.prepare() == 0


def test_an_intent_that_a_crash_left_is_made_with_the_serial_it_had(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    made_ahead = one.agent.readiness
    with one.store.writing(NOW) as writing:
        _, (task,) = made_ahead._reserve(writing)
    assert stages(one) == ["reserved"]
    assert one.prepare() == 1
    assert prepared(one) == task.draft.serial
    assert len([entry for entry in one.events() if entry.event is Event.PREPARE]) == 1


def test_a_contract_that_ends_while_it_is_made_is_not_there_afterwards(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    made_ahead = one.agent.readiness
    with one.store.writing(NOW) as writing:
        _, (task,) = made_ahead._reserve(writing)
    made = made_ahead._make(task)
    end_contract(one.store, EMAID, NOW)
    with one.store.writing(NOW) as writing:
        made_ahead._record(writing, [(task, made)])
    assert one.rows("installations")["installations"] == []


def test_a_request_while_the_contract_is_being_made_gets_its_own(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    with one.store.writing(NOW) as writing:
        _, (task,) = one.agent.readiness._reserve(writing)
    assert serial(one.ask(car.request(A))) != task.draft.serial


def _die(_: object) -> None:
    raise OSError("died")


def test_a_claim_without_its_answer_is_found_again(one: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process died between the two transactions."""
    car = one.car()
    one.grant(car)
    one.prepare()
    made = prepared(one)
    request = car.request(A)
    with monkeypatch.context() as patch:
        patch.setattr(one.agent.desk.provision, "pack", _die)
        assert getattr(one.ask(request), "kind", None) is ProblemKind.UNAVAILABLE
    assert stages(one) == ["claimed"]
    assert car.states() == []
    assert serial(one.ask(request)) == made


def test_chunks_are_bounded_and_follow_each_other(one: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "CHUNK", 2)
    for number in range(3):
        one.grant(one.car(number), f"DE83D00000000{number}")
    assert one.agent.readiness.step()
    assert one.agent.readiness.made == 2
    assert one.agent.readiness.step()
    assert not one.agent.readiness.step()
    assert [contract.state for contract in one.contracts()] == ["ready"] * 3


def test_grants_where_nothing_is_to_be_made_hold_up_nobody(
    one: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "LOOKS", 1)
    for number in range(2):
        one.grant(one.car(number), f"DE83D00000000{number}")
        one.ask(one.car(number).request(A))  # has its contract, and nothing more is to be made
    one.grant(one.car(2))
    assert one.prepare() == 1


def test_without_a_service_contracts_are_prepared_all_the_same(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    service = one.services[CPS[one.edition]]
    one.services[CPS[one.edition]] = None
    assert one.prepare() == 1
    one.services[CPS[one.edition]] = service
    assert serial(one.ask(car.request(A))) == prepared(one)


# --- sizes and forms ------------------------------------------------------------------------------------


def test_a_prepared_package_fits_the_field_of_ocpp(one: Scene) -> None:
    one.grant(one.car())
    one.prepare()
    (contract,) = one.contracts()
    assert contract.characters is not None
    assert contract.characters <= OCPP_2_0_1_RESPONSE
    # The car's own request: its provisioning certificate and up to twenty roots' names and serial numbers.
    request = len(one.car().signer.certificate) + 800 + 20 * 70
    assert request * 4 / 3 <= OCPP_2_0_1_REQUEST


def test_a_package_that_does_not_fit_is_told_of_once(
    tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "trillium.authority")
    with scene(tmp_path_factory.mktemp("deep"), sub_cas=3) as deep:
        for number in range(2):
            deep.grant(deep.car(number), f"DE83D00000000{number}")
        assert deep.prepare() == 2
        told = [record for record in caplog.records if "OCPP" in record.message]
        longest = max(contract.characters or 0 for contract in deep.contracts())
    assert len(told) == (longest > OCPP_2_0_1_RESPONSE)


@pytest.mark.parametrize("sub_cas", [0, 1, 3])
async def test_any_number_of_sub_cas_will_do(tmp_path_factory: pytest.TempPathFactory, sub_cas: int) -> None:
    for edition in Edition:
        with scene(tmp_path_factory.mktemp("line"), edition, sub_cas=sub_cas) as found:
            found.grant(found.car())
            found.prepare()
            async with opened(found) as device:
                assert (await device.obtain_contract(Port(found.agent))).subject.cn == EMAID


def test_contracts_conform_to_their_profile(both: Scene) -> None:
    both.grant(both.car())
    reply = both.ask(both.car().request(A))
    assert isinstance(reply, Content)
    leaf, issuer, *_ = map(c509.from_der, CpsPackage.decode(reply.body).installation.contract_chain)
    assert lint_der(leaf.to_der(), both.label, issuer=issuer) == ()
    assert leaf.not_after == NOW + YEAR
    assert len(leaf.to_der()) <= (profile_of(both.label).max_der or 0)
