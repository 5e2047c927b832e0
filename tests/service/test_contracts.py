"""A car asks for its contract: one nonce, one certificate, and everything that is refused."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from agents.authority import InventoryError, revoke
from agents.authority.contracts import end_contract
from agents.authority.provision import MAX_PACKAGES, RETRY_AFTER
from agents.keys import SoftwareSigner
from protocol import c509
from protocol.errors import ProblemKind, RequestRejected
from protocol.ev import CpsPackage, Edition, Emaid
from protocol.exchange.device_effects import Credential
from protocol.exchange.request import Revocation, RevocationReason
from protocol.labels import Operation
from protocol.ports import Content, Inbound, Media, Reply, SignedRefusal
from protocol.problem import Problem
from tests.contract_world import CPS, DAY, EMAID, NOW, Car, Port, Scene, opened, scene

A, B, C = (bytes([number]) * 16 for number in (1, 2, 3))
OTHER = "DE83DOTHER0000"


@pytest.fixture(params=list(Edition), ids=["part 2", "part 20"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("scene"), request.param) as found:
        yield found


@pytest.fixture
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("scene")) as found:
        yield found


def package(reply: Reply) -> CpsPackage:
    assert isinstance(reply, Content), reply
    assert reply.media is Media.CONTRACT_PACKAGE
    return CpsPackage.decode(reply.body)


def certificate(reply: Reply) -> bytes:
    return c509.from_der(package(reply).installation.contract_chain[0]).encoded


def kind(reply: Reply) -> ProblemKind:
    assert isinstance(reply, SignedRefusal), reply
    return reply.problem.kind


def contract(car: Car, reply: Reply) -> Car:
    """Return the car as it signs with the contract in `reply`."""
    installation = package(reply).installation
    key = installation.unwrap(car.signer.signer, pcid=car.identity.device)  # type: ignore[arg-type]
    held = Credential(SoftwareSigner(key), certificate(reply))
    return replace(car, signer=held, name=str(Emaid.parse(installation.emaid())))


def confirmed(car: Car, reply: Reply) -> Car:
    held = contract(car, reply)
    receipt = car.scene.ask(held.confirm(certificate(reply)))
    assert isinstance(receipt, Content), receipt
    return held


# --- one nonce, one certificate -------------------------------------------------------------------------


def test_the_same_request_gets_the_same_bytes(both: Scene) -> None:
    car = both.car()
    both.grant(car)
    request = car.request(A)
    first = both.ask(request)
    assert package(first).installation.emaid() == EMAID
    assert both.ask(request) == first
    assert both.ask(replace(request, source="coap:192.0.2.1:9")) == first
    assert car.states() == ["pending"]


def test_a_request_signed_again_gets_the_same_certificate_in_a_package_for_it(both: Scene) -> None:
    car = both.car()
    both.grant(car)
    first, again = car.request(A), car.request(A)
    assert first.body != again.body
    replies = [both.ask(first), both.ask(again)]
    installations = [package(reply).installation for reply in replies]
    assert installations[0] == installations[1]
    assert [package(reply).request for reply in replies] == [
        hashlib.sha256(one.body).digest() for one in (first, again)
    ]
    assert [both.ask(first), both.ask(again)] == replies
    assert car.states() == ["pending"]


def test_twins_that_arrive_together_share_one_certificate(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    same, resigned = car.request(A), car.request(A)
    replies = one.ask_together(same, replace(same, source="mqtt:x"), resigned)
    assert len({certificate(reply) for reply in replies}) == 1
    assert replies[0] == replies[1]
    assert car.states() == ["pending"]


def test_packages_of_one_certificate_are_bounded(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    for _ in range(MAX_PACKAGES + 3):
        one.clock.now += 1
        assert isinstance(one.ask(car.request(A)), Content)
    assert len(one.rows("packages")["packages"]) == MAX_PACKAGES


def test_another_nonce_is_another_certificate_and_voids_the_one_before(both: Scene) -> None:
    car = both.car()
    both.grant(car)
    first = both.ask(car.request(A))
    second = both.ask(car.request(B))
    assert certificate(first) != certificate(second)
    assert car.states() == ["void", "pending"]
    assert kind(both.ask(contract(car, first).confirm(certificate(first)))) in (
        ProblemKind.NO_SUCH_CERTIFICATE,
        ProblemKind.SIGNER_SUPERSEDED,
    )


def test_the_request_of_a_certificate_that_ended_is_refused(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    request = car.request(A)
    one.ask(request)
    one.ask(car.request(B))
    assert kind(one.ask(request)) is ProblemKind.KEY_USED


def test_one_nonce_of_two_cars_is_two_requests(one: Scene) -> None:
    cars = one.car(0), one.car(1)
    one.grant(cars[0])
    one.grant(cars[1], OTHER)
    replies = [one.ask(car.request(A)) for car in cars]
    assert [package(reply).installation.emaid() for reply in replies] == [EMAID, OTHER]


# --- two phases ----------------------------------------------------------------------------------------


def test_the_contracts_own_key_confirms_it_and_its_wrapping_is_forgotten(both: Scene) -> None:
    car = both.car()
    both.grant(car)
    request = car.request(A)
    reply = both.ask(request)
    held = confirmed(car, reply)
    assert car.states() == ["current"]
    assert both.ask(request) == reply  # nobody has tidied up yet
    both.prepare()
    assert both.rows("installations", "packages") == {"installations": [], "packages": []}
    assert kind(both.ask(request)) is ProblemKind.KEY_USED
    assert isinstance(both.ask(held.confirm(certificate(reply))), Content)


def test_the_provisioning_key_confirms_nothing(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    reply = one.ask(car.request(A))
    assert kind(one.ask(car.confirm(certificate(reply)))) is ProblemKind.WRONG_SIGNER


def test_a_renewal_is_signed_by_the_contract_wrapped_to_it_and_retires_it(both: Scene) -> None:
    car = both.car()
    both.grant(car)
    old = confirmed(car, both.ask(car.request(A)))
    reply = both.ask(old.request(B))
    assert car.states() == ["current", "pending"]
    new = confirmed(old, reply)
    assert car.states() == ["superseded", "current"]
    assert kind(both.ask(old.request(C))) is ProblemKind.SIGNER_SUPERSEDED
    assert isinstance(both.ask(new.request(C)), Content)


def test_recovery_by_the_provisioning_key_retires_what_was_there(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    lost = confirmed(car, one.ask(car.request(A)))
    confirmed(car, one.ask(car.request(B)))
    assert car.states() == ["superseded", "current"]
    assert kind(one.ask(lost.request(C))) is ProblemKind.SIGNER_SUPERSEDED


def test_a_car_that_cannot_use_its_contract_says_so(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    reply = one.ask(car.request(A))
    told = one.ask(contract(car, reply).confirm(certificate(reply), int(ProblemKind.WRONG_SIGNER)))
    assert isinstance(told, Content)
    assert car.states() == ["void"]


def test_a_contract_is_given_back_by_its_own_key(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    reply = one.ask(car.request(A))
    held = confirmed(car, reply)
    serial = c509.decode_certificate(certificate(reply)).serial
    payload = Revocation(car.authority, serial, RevocationReason.KEY_COMPROMISE).encode()
    assert isinstance(one.ask(held.signed(Operation.REV, payload)), Content)
    assert car.states() == ["revoked"]
    assert isinstance(one.ask(car.request(B)), Content)  # still granted: the car gets another


# --- who may not ----------------------------------------------------------------------------------------


def test_without_a_grant_there_is_a_signed_no(both: Scene) -> None:
    before = both.rows("keys", "certificates", "installations")
    assert kind(both.ask(both.car().request(A))) is ProblemKind.NOT_ENTITLED
    assert both.rows("keys", "certificates", "installations") == before


def test_a_grant_that_comes_later_is_found_by_the_next_request(one: Scene) -> None:
    car = one.car()
    assert kind(one.ask(car.request(A))) is ProblemKind.NOT_ENTITLED
    one.grant(car)
    assert isinstance(one.ask(car.request(B)), Content)


def test_a_grant_that_is_over_is_none(one: Scene) -> None:
    car = one.car()
    one.grant(car, until=NOW + DAY)
    one.clock.now += DAY + 1
    assert kind(one.ask(car.request(A))) is ProblemKind.NOT_ENTITLED


def test_a_certificate_ends_with_its_contract(one: Scene) -> None:
    car = one.car()
    one.grant(car, until=NOW + 3 * DAY)
    found = c509.decode_certificate(certificate(one.ask(car.request(A))))
    assert found.not_after == NOW + 3 * DAY


@pytest.mark.parametrize("name", ["TRL00000000000099X", EMAID])
def test_a_request_for_another_name_than_the_signer_proves_is_refused(one: Scene, name: str) -> None:
    car = one.car()
    one.grant(car)
    assert kind(one.ask(car.request(A, name=name))) is ProblemKind.WRONG_SUBJECT


def test_an_old_contract_opens_nothing_under_another_grant(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    reply = one.ask(car.request(A))
    old = confirmed(car, reply)
    with one.store.writing(NOW) as writing:  # as if the certificate had escaped its revocation
        writing.connection.exec_driver_sql("UPDATE grants SET ended_at = 1")
    one.grant(car, OTHER)
    assert kind(one.ask(old.request(B))) is ProblemKind.NOT_ENTITLED


def test_sen_and_sren_are_closed_for_generated_keys(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    for op in (Operation.SEN, Operation.SREN):
        reply = one.ask(replace(car.request(A), op=op))
        assert getattr(reply, "kind", None) is ProblemKind.NOT_FOUND


def test_a_request_for_another_door_is_not_authentic(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    assert getattr(one.ask(car.request(A, epoch=1)), "kind", None) is ProblemKind.BAD_SIGNATURE


@pytest.mark.parametrize("body", [b"", b"\x80", bytes(2000)])
def test_nonsense_gets_a_hint(one: Scene, body: bytes) -> None:
    reply = one.ask(Inbound(one.label, Operation.SKG, body, "test:1"))
    assert getattr(reply, "kind", None) in (ProblemKind.MALFORMED, ProblemKind.TOO_LARGE)


def test_a_revoked_car_gets_nothing(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    revoke(one.store, car.identity.client_id, RevocationReason.KEY_COMPROMISE, NOW)
    assert kind(one.ask(car.request(A))) is ProblemKind.SIGNER_REVOKED


def test_a_provisioning_certificate_by_value_opens_the_door_once(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    with one.store.writing(NOW) as writing:  # a car that was registered without its certificate
        for table in ("certificates", "keys"):
            writing.connection.exec_driver_sql(
                f"DELETE FROM {table} WHERE device_id = (SELECT id FROM devices WHERE client_id = ?)",
                (car.identity.client_id,),
            )
    assert getattr(one.ask(car.request(A)), "kind", None) is ProblemKind.UNKNOWN_SIGNER
    reply = one.ask(car.request(A, by_value=True))
    confirmed(car, reply)
    assert isinstance(one.ask(car.request(B)), Content)


# --- who signs packages ---------------------------------------------------------------------------------


def test_without_a_service_the_answer_is_later(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    service = one.services[CPS[one.edition]]
    one.services[CPS[one.edition]] = None
    request = car.request(A)
    reply = one.ask(request)
    assert kind(reply) is ProblemKind.UNAVAILABLE
    assert isinstance(reply, SignedRefusal)
    assert reply.problem.retry_after == RETRY_AFTER
    one.services[CPS[one.edition]] = service
    assert isinstance(one.ask(request), Content)


def test_a_service_that_was_revoked_here_signs_nothing_more(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    service = one.services[CPS[one.edition]]
    assert service is not None
    with one.store.writing(NOW) as writing:
        writing.connection.exec_driver_sql(
            "UPDATE certificates SET thumbprint = ?, state = 'revoked' WHERE label = 'ev-service'",
            (service.thumbprint,),
        )
    assert kind(one.ask(car.request(A))) is ProblemKind.UNAVAILABLE


def test_a_new_service_signs_repeats_that_are_not_remembered(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    first = one.ask(car.request(A))
    one.services[CPS[one.edition]] = one.vouching(CPS[one.edition], "cps-2")
    second = one.ask(car.request(A))
    assert package(first).installation == package(second).installation
    assert package(first).cps_chain[0] != package(second).cps_chain[0]


# --- the agent ------------------------------------------------------------------------------------------


async def test_a_car_gets_renews_and_recovers_its_contract(both: Scene) -> None:
    car = both.car()
    both.grant(car)
    async with opened(both) as device:
        port = Port(both.agent)
        first = await device.obtain_contract(port)
        assert first.subject.cn == EMAID
        second = await device.rekey(both.label, port)
        third = await device.enroll(both.label, port)
        assert len({one.serial for one in (first, second, third)}) == 3
        (held,) = device.status().labels
        assert held.serial == third.serial
    assert car.states() == ["superseded", "superseded", "current"]
    assert {one.op for one in port.asked} == {Operation.CRTS, Operation.SKG, Operation.CONF}


@pytest.mark.parametrize("lost", [Operation.SKG, Operation.CONF])
async def test_an_answer_that_is_lost_comes_again(both: Scene, lost: Operation) -> None:
    car = both.car()
    both.grant(car)
    async with opened(both) as device:
        port = Port(both.agent, instead={lost: [Problem(ProblemKind.OVERLOADED, "", 0.0)]})
        await device.obtain_contract(port)
    assert car.states() == ["current"]
    assert len({one.body for one in port.asked if one.op is lost}) == 1


async def test_a_car_without_a_contract_is_told_and_may_ask_again(one: Scene) -> None:
    car = one.car()
    async with opened(one) as device:
        port = Port(one.agent)
        with pytest.raises(RequestRejected, match="nothing is granted"):
            await device.obtain_contract(port)
        one.grant(car)
        assert (await device.obtain_contract(port)).subject.cn == EMAID


def test_ending_what_nobody_granted_is_said(one: Scene) -> None:
    with pytest.raises(InventoryError, match="no such contract"):
        end_contract(one.store, EMAID, NOW)
