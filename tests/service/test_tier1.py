"""A car gets another provisioning certificate, is sold, or changes its tenant: what of its contract?"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.authority import InventoryError, MakerIssuer, show_device, verify_audit
from agents.authority.audit import Event
from agents.authority.bundles import open_giver
from agents.authority.contracts import add_contract
from agents.authority.layout import Layout
from agents.authority.maker_paths import verified_makers
from agents.authority.ownership import Giver, Receiver, reset_devices, transfer_devices
from agents.authority.tier1 import Replaced, replace_certificate
from agents.devices.agent import Device
from agents.keys import SoftwareSigner, generate, load_private_key, save_private_key
from agents.keys.files import PrivateKey
from protocol.errors import OwnerChanged, ProblemKind, RequestRejected
from protocol.ev import Edition
from protocol.exchange.request import RevocationReason
from protocol.labels import Domain
from protocol.ports import SignedRefusal
from protocol.profiles import profile_of
from tests.contract_world import EMAID, NOW, PASSPHRASE, Port, Scene, opened, scene

TENANT = EMAID[:5]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as found:
        yield found
    verify_audit(tmp_path / "authority")


def certified(place: Scene, number: int, key: PrivateKey, *, maker: Domain = Domain.EV_MO) -> bytes:
    """Return a new provisioning certificate of a car, by the maker of a domain."""
    with MakerIssuer(place.folder / "authority", maker, PASSPHRASE, clock=place.clock) as issuer:
        public = SoftwareSigner(key, even_y=False).public_key
        return issuer.issue(profile_of("ev-oem"), place.identity(number).device, public).encoded


def replace_it(
    place: Scene, encoded: bytes, reason: RevocationReason = RevocationReason.SUPERSEDED, number: int = 0
) -> Replaced:
    settings, layout = place.agent.settings, Layout(place.folder / "authority")
    makers = verified_makers(place.store, layout, settings, Domain.EV_MO)
    return replace_certificate(
        place.store,
        place.identity(number).device,
        encoded,
        makers.values(),
        now=int(place.clock()),
        approved_by="workshop",
        reason=reason,
    )


def put_in(place: Scene, number: int, key: PrivateKey, encoded: bytes) -> None:
    """Do as the workshop does: the car has another identity."""
    folder = place.identity(number).folder
    save_private_key(folder / "bootstrap.key", key, None)
    (folder / "bootstrap.c509").write_bytes(encoded)


def states(place: Scene, label: str) -> list[str]:
    shown = show_device(place.store, place.identity().client_id).certificates
    return [one.state.value for one in shown if one.label == label]


def givers(place: Scene) -> dict[Domain, Giver]:
    return {Domain.EV_MO: open_giver(place.folder / "authority", Domain.EV_MO, PASSPHRASE)}


async def with_contract(place: Scene) -> Port:
    port = Port(place.agent)
    async with opened(place) as car:
        await car.obtain_contract(port)
    assert states(place, "ev-contract") == ["current"]
    return port


async def test_a_new_key_ends_what_was_wrapped_to_the_old_one_and_it_is_made_anew(place: Scene) -> None:
    place.grant(place.car())
    port = await with_contract(place)
    key = generate()
    encoded = certified(place, 0, key)
    done = replace_it(place, encoded)
    assert (done.is_change, done.is_new_key, done.ended) == (True, True, 1)
    assert states(place, "ev-contract") == ["revoked"]
    assert states(place, "ev-oem") == ["superseded", "current"]
    async with opened(place) as car:  # with the old key still
        with pytest.raises(RequestRejected) as caught:
            await car.obtain_contract(port, afresh=True)
        assert caught.value.reason is ProblemKind.SIGNER_SUPERSEDED
    put_in(place, 0, key, encoded)
    async with opened(place) as car:
        await car.obtain_contract(port, afresh=True)
    assert states(place, "ev-contract") == ["revoked", "current"], "it is granted still"
    (said,) = [entry.detail for entry in place.events() if entry.event is Event.NEW_KEY]
    assert said == "another key, approved by 'workshop'"


async def test_what_was_prepared_for_the_old_key_is_prepared_anew(place: Scene) -> None:
    place.grant(place.car())
    assert place.prepare() == 1
    before = place.rows("installations")["installations"]
    key = generate()
    encoded = certified(place, 0, key)
    replace_it(place, encoded)
    assert place.rows("installations")["installations"] == [], "nobody can open it any more"
    assert place.prepare() == 1
    after = place.rows("installations")["installations"]
    assert len(before) == len(after) == 1
    put_in(place, 0, key, encoded)
    async with opened(place) as car:
        certificate = await car.obtain_contract(Port(place.agent))
    assert certificate.encoded in after[0], "it was ready"


async def test_the_same_key_anew_keeps_the_contract(place: Scene) -> None:
    place.grant(place.car())
    port = await with_contract(place)
    key = load_private_key(place.identity().folder / "bootstrap.key", None)
    place.clock.now += 100
    encoded = certified(place, 0, key)
    done = replace_it(place, encoded)
    assert (done.is_change, done.is_new_key, done.ended) == (True, False, 0)
    assert replace_it(place, encoded).is_change is False
    assert states(place, "ev-contract") == ["current"]
    assert states(place, "ev-oem") == ["current"]
    put_in(place, 0, key, encoded)
    async with opened(place) as car:
        await car.obtain_contract(port)
        await car.rekey("ev-contract", port)
    assert states(place, "ev-contract")[-1] == "current"


async def test_a_stolen_key_takes_along_all_that_it_had_asked_for(place: Scene) -> None:
    place.grant(place.car())
    await with_contract(place)
    async with opened(place) as car:
        await car.rekey("ev-contract", Port(place.agent))
    done = replace_it(place, certified(place, 0, generate()), RevocationReason.KEY_COMPROMISE)
    assert done.ended == 2
    assert set(states(place, "ev-contract")) == {"revoked"}
    assert states(place, "ev-oem") == ["revoked", "current"]


@pytest.mark.parametrize("what", ["another car's", "a key of another car", "garbage", "forged"])
def test_another_certificate_than_the_cars_own_is_not_taken(place: Scene, what: str) -> None:
    own = load_private_key(place.identity(1).folder / "bootstrap.key", None)
    genuine = certified(place, 0, generate())
    wrong, why = {
        "another car's": (certified(place, 1, generate()), "the certificate is for TRL"),
        "a key of another car": (certified(place, 0, own), "was certified before"),
        "garbage": (b"\x80", "an array of 11"),
        "forged": (genuine[:-1] + bytes([genuine[-1] ^ 1]), "not signed by"),
    }[what]
    tables = ("devices", "keys", "certificates", "audit")
    before = place.rows(*tables)
    with pytest.raises(InventoryError, match=why):
        replace_it(place, wrong)
    assert place.rows(*tables) == before


async def test_a_name_of_two_identities_is_sold_as_a_whole(place: Scene) -> None:
    """A car for both parts of ISO 15118 has one PCID, and an identity of its own for each."""
    both = givers(place) | {
        Domain.EV20_MO: open_giver(place.folder / "authority", Domain.EV20_MO, PASSPHRASE)
    }
    name = place.identity().device
    done = reset_devices(place.store, [name], both, now=NOW, approved_by="seller")
    assert {one.domain for one in done} == {Domain.EV_MO, Domain.EV20_MO}
    assert {one.epoch for one in done} == {1}
    with pytest.raises(InventoryError, match="no authority for"):
        reset_devices(place.store, [name], givers(place), now=NOW, approved_by="seller")


async def test_a_car_that_is_sold_has_no_contract_until_it_is_granted_one(place: Scene) -> None:
    place.grant(place.car())
    port = await with_contract(place)
    name = place.identity().client_id
    reset_devices(place.store, [name], givers(place), now=NOW, approved_by="seller")
    assert (states(place, "ev-contract"), states(place, "ev-oem")) == (["revoked"], ["current"])
    assert [contract.state for contract in place.contracts()] == ["ended"]
    async with opened(place) as car:
        with pytest.raises(RequestRejected) as caught:
            await car.obtain_contract(port)
        assert caught.value.reason is ProblemKind.NOT_ENTITLED
        assert car.status().epoch == 1
        assert _refused(port)[0] is ProblemKind.OWNER_CHANGED
        assert "ev-contract" not in {one.label for one in car.status().labels if one.serial}
        place.grant(place.car(), "DE8XYUIEN83QGZ")
        await car.obtain_contract(port)
    assert states(place, "ev-contract") == ["revoked", "current"]


def _refused(port: Port) -> list[ProblemKind]:
    return [reply.problem.kind for reply in port.replies if isinstance(reply, SignedRefusal)]


async def test_a_car_of_part_20_believes_a_voucher_on_its_own_curve(tmp_path: Path) -> None:
    """P-521: the longest voucher there is, in a refusal of 1 KiB at most."""
    with scene(tmp_path, Edition.PART_20) as place:
        place.grant(place.car())
        port, client_id = Port(place.agent), place.identity().client_id
        async with opened(place) as car:
            await car.obtain_contract(port)
            signer = {Domain.EV20_MO: open_giver(tmp_path / "authority", Domain.EV20_MO, PASSPHRASE)}
            receiver = Receiver(TENANT, {}, "mqtts://" + "x" * 100)
            transfer_devices(place.store, [client_id], receiver, signer, now=NOW, approved_by="a" * 64)
            place.grant(place.car())
            with pytest.raises(OwnerChanged):
                await car.obtain_contract(port)
            assert (car.status().epoch, car.status().at) == (1, "mqtts://" + "x" * 100)
            await car.obtain_contract(port)
        assert states(place, "ev20-contract") == ["revoked", "current"]
        refused = [reply.body for reply in port.replies if isinstance(reply, SignedRefusal)]
        assert 450 < len(refused[0]) < 700


async def test_a_car_of_another_tenant_is_granted_nothing_by_the_one_before(place: Scene) -> None:
    place.grant(place.car())
    port = await with_contract(place)
    name = place.identity().client_id
    receiver = Receiver("DE8XY", {})
    transfer_devices(place.store, [name], receiver, givers(place), now=NOW, approved_by="alice")
    with pytest.raises(InventoryError, match="belongs to DE8XY"):
        add_contract(place.store, name, EMAID, NOW)
    add_contract(place.store, name, "DE8XYUIEN83QGZ", NOW)
    async with opened(place) as car:
        assert isinstance(car, Device)
        await car.obtain_contract(port)
        assert car.status().epoch == 1
    assert states(place, "ev-contract") == ["revoked", "current"]
