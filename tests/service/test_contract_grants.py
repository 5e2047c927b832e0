"""Contracts as an operator sees them: granted to one car of one's own, ended, listed."""

from collections.abc import Iterator, Sequence

import pytest

from agents.authority import InventoryError
from agents.authority.audit import Event
from agents.authority.contracts import Contract, add_contract, end_contract
from agents.authority.grants import end_grants
from agents.authority.intents import Signed
from agents.authority.inventory import NewDevice, register_devices
from agents.authority.issuer import ToBeIssued
from agents.authority.maker import MakerIssuer
from agents.authority.provision import Promised
from protocol import c509
from protocol.end_entity import Pointers
from protocol.errors import ProblemKind, RequestRejected
from protocol.ev import CpsPackage, Edition
from protocol.exchange.authority_effects import Generate
from protocol.identity import client_id
from protocol.ports import Content, SignedRefusal
from protocol.profiles import profile_of, services_of
from tests.contract_world import DAY, EMAID, NOW, PASSPHRASE, Scene, scene

A, B = (bytes([number]) * 16 for number in (1, 2))
OTHER = "DE83D000000001"


@pytest.fixture
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("scene")) as found:
        yield found


def refused(found: Scene, word: str, emaid: str, **named: object) -> str:
    """Return why a contract cannot be granted; nothing was changed."""
    before = found.rows("grants", "audit")
    with pytest.raises(InventoryError) as caught:
        add_contract(found.store, word, emaid, NOW, **named)  # type: ignore[arg-type]
    assert found.rows("grants", "audit") == before
    return str(caught.value)


def test_a_contract_is_granted_in_the_spelling_that_people_use(one: Scene) -> None:
    car = one.car()
    granted = one.grant(car, "de-83d-uien83qgz-d", until=NOW + DAY)
    assert granted == Contract(
        EMAID, car.identity.device, car.identity.client_id, "ev-contract", "DE83D", NOW + DAY, NOW, None,
        "granted", None, None, is_ready=False, characters=None,
    )  # fmt: skip
    (event,) = [entry for entry in one.events() if entry.event is Event.GRANT]
    assert (event.device, event.detail) == (car.identity.device, f"{EMAID} of DE83D")


def test_the_same_contract_again_changes_nothing(one: Scene) -> None:
    first = one.grant(one.car())
    before = one.rows("grants", "audit")
    assert one.grant(one.car()) == first
    assert one.rows("grants", "audit") == before


@pytest.mark.parametrize(
    ("emaid", "why"),
    [
        ("DE83DUIEN83QGZE", "check character is wrong"),
        ("DE83D", "is no eMAID"),
        ("", "is no eMAID"),
    ],
)
def test_a_wrong_name_is_refused(one: Scene, emaid: str, why: str) -> None:
    assert why in refused(one, one.car().identity.client_id, emaid)


def test_an_unknown_car_is_refused(one: Scene) -> None:
    assert "no device" in refused(one, "TRL000000000009999", EMAID)


def test_what_is_no_car_can_have_no_contract(one: Scene) -> None:
    with one.store.reading() as connection:
        (service,) = connection.exec_driver_sql(
            "SELECT client_id FROM devices WHERE label = 'ev-service' LIMIT 1"
        ).one()
    assert "can have no contract" in refused(one, service, EMAID)


def test_a_car_of_both_parts_is_asked_which(one: Scene) -> None:
    pcid = one.car().identity.device
    assert "say which" in refused(one, pcid, EMAID)
    assert add_contract(one.store, pcid, EMAID, NOW, label="ev20-contract").label == "ev20-contract"
    assert add_contract(one.store, pcid, EMAID, NOW, label="ev-contract").label == "ev-contract"


def test_a_car_has_one_contract_at_a_time_and_a_contract_one_car(one: Scene) -> None:
    one.grant(one.car())
    assert f"has contract {EMAID} already" in refused(one, one.car().identity.client_id, OTHER)
    assert "is granted to" in refused(one, one.car(1).identity.client_id, EMAID)


def test_a_contract_that_is_over_before_it_begins_is_refused(one: Scene) -> None:
    assert "ends after" in refused(one, one.car().identity.client_id, EMAID, until=NOW)


def test_a_car_that_another_tenant_owns_is_refused(one: Scene) -> None:
    car = one.car()
    with one.store.writing(NOW) as writing:
        writing.connection.exec_driver_sql(
            "UPDATE devices SET owner = 'Other Co' WHERE client_id = ?", (car.identity.client_id,)
        )
    assert "belongs to Other Co" in refused(one, car.identity.client_id, EMAID)
    assert one.grant(car, tenant="Other Co").tenant == "Other Co"


def test_a_car_with_another_tenants_contract_is_refused_under_every_label(one: Scene) -> None:
    pcid = one.car().identity.device
    add_contract(one.store, pcid, EMAID, NOW, label="ev20-contract")
    why = refused(one, pcid, "FRXYZ000000001", label="ev-contract")
    assert "has a contract of DE83D" in why


def test_a_car_that_went_to_another_authority_is_refused(one: Scene) -> None:
    car = one.car()
    with one.store.writing(NOW) as writing:
        writing.connection.exec_driver_sql(
            "UPDATE devices SET entitled = '' WHERE client_id = ?", (car.identity.client_id,)
        )
    assert "is not ours any more" in refused(one, car.identity.client_id, EMAID)


def test_what_was_granted_ends_with_the_ownership(one: Scene) -> None:
    car = one.car()
    one.grant(car)
    one.prepare()
    with one.store.writing(NOW) as writing:
        (number,) = writing.connection.exec_driver_sql(
            "SELECT id FROM devices WHERE client_id = ?", (car.identity.client_id,)
        ).one()
        end_grants(writing, [number], "reset: cessation of operation")
    assert [contract.state for contract in one.contracts()] == ["ended"]
    assert one.rows("installations")["installations"] == []
    reply = one.ask(car.request(A))
    assert isinstance(reply, SignedRefusal)
    assert reply.problem.kind is ProblemKind.NOT_ENTITLED


def test_part_20_takes_cars_whose_name_a_key_can_be_bound_to(one: Scene) -> None:
    name = "TRL00000000000099"
    with MakerIssuer(
        one.folder / "authority", profile_of("ev20-oem").domain, PASSPHRASE, clock=lambda: NOW
    ) as maker:
        number = client_id(maker.key_id, name)
        short = NewDevice(name, "ev20-oem", maker.key_id, number, services_of("ev20-oem"), None)
        register_devices(one.store, [short], NOW, (maker.authority,))
    assert "18 characters" in refused(one, number, EMAID)


# --- ended ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edition", list(Edition))
def test_an_ended_contract_is_revoked_and_cannot_come_back_by_itself(
    tmp_path_factory: pytest.TempPathFactory, edition: Edition
) -> None:
    with scene(tmp_path_factory.mktemp("scene"), edition) as found:
        car = found.car()
        found.grant(car)
        request = car.request(A)
        assert isinstance(found.ask(request), Content)
        assert end_contract(found.store, EMAID, NOW) == 1
        assert car.states() == ["revoked"]
        for again in (request, car.request(A), car.request(B)):
            reply = found.ask(again)
            assert isinstance(reply, SignedRefusal)
            assert reply.problem.kind is ProblemKind.NOT_ENTITLED
        assert found.rows("installations", "packages") == {"installations": [], "packages": []}
        found.clock.now += 1
        found.grant(car)
        assert isinstance(found.ask(car.request(bytes(16))), Content)
        assert [one.state for one in found.contracts()] == ["ended", "given"]


def test_a_contract_that_ends_while_its_package_is_signed_is_not_given(
    one: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    car = one.car()
    one.grant(car)
    provision = one.agent.desk.provision
    pack = provision.pack

    def slow(wanted: Sequence[tuple[Generate, Promised]]) -> list[Signed]:
        if wanted:
            end_contract(one.store, EMAID, NOW)
        return pack(wanted)

    monkeypatch.setattr(provision, "pack", slow)
    reply = one.ask(car.request(A))
    assert isinstance(reply, SignedRefusal)
    assert reply.problem.kind is ProblemKind.NOT_ENTITLED
    assert car.states() == []


# --- sizes ----------------------------------------------------------------------------------------------


def test_an_issuer_makes_no_certificate_longer_than_relying_parties_read(one: Scene) -> None:
    profile = profile_of("ev-contract")
    issuer = one.agent.authorities[profile.domain].issuer
    issuer._pointers = Pointers("http://pki.example/" + "o" * 150, "http://pki.example/" + "c" * 150)  # type: ignore[misc]
    key = one.car(1).signer.signer.public_key
    order = ToBeIssued(profile, b"\x01" * 8, EMAID, NOW, NOW + DAY, profile.algorithms[0], key)
    with pytest.raises(RequestRejected, match="at most 800"):
        issuer.issue(order)
    car = one.car()
    one.grant(car)
    reply = one.ask(car.request(A))
    assert isinstance(reply, SignedRefusal)
    assert reply.problem.kind is ProblemKind.TOO_LARGE
    assert one.prepare() == 0


def test_the_last_certificate_of_a_contract_ends_with_it(one: Scene) -> None:
    car = one.car()
    one.grant(car, until=NOW + 10 * DAY)
    one.prepare()
    reply = one.ask(car.request(A))
    assert isinstance(reply, Content)
    leaf = c509.from_der(CpsPackage.decode(reply.body).installation.contract_chain[0])
    assert leaf.not_after == NOW + 10 * DAY
