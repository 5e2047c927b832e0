"""Devices change hands among real authorities; the devices are real, too."""

from pathlib import Path

import pytest

from agents.authority import (
    BadDirectory,
    InventoryError,
    list_devices,
    revoke,
    show_device,
    verify_audit,
)
from agents.authority.audit import Event, read_record
from agents.authority.ownership import reset_devices
from agents.devices.meter import FULL_METER
from agents.devices.upkeep import Upkeep
from protocol.errors import (
    CertificateUnusable,
    ExchangeTimeout,
    OwnerChanged,
    ProblemKind,
    RequestRejected,
    Unreachable,
)
from protocol.exchange.device_effects import Send
from protocol.exchange.request import RevocationReason
from protocol.labels import Operation
from protocol.ports import SignedRefusal
from protocol.problem import Problem
from tests.owners_world import NOW, YEAR, House, Way, country, make_template, opened

SERVICES = FULL_METER.labels


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("country"))


def told(way: Way) -> list[ProblemKind]:
    """Return why requests were refused, signed."""
    return [reply.problem.kind for reply in way.replies if isinstance(reply, SignedRefusal)]


def audit_of(house: House, event: Event) -> list[str]:
    with house.agent.store.reading() as connection:
        rows = connection.exec_driver_sql("SELECT record FROM audit ORDER BY sequence")
        entries = [read_record(row[0]).entry for row in rows]
    return [entry.detail for entry in entries if entry.event is event]


@pytest.mark.parametrize("by_maker", [False, True], ids=["by the authority", "by the maker"])
async def test_a_meter_that_slept_through_it_goes_with_its_new_tenant_by_itself(
    template: Path, tmp_path: Path, by_maker: bool
) -> None:
    async with country(template, tmp_path, "north") as land, opened(land.meters[0]) as device:
        north, way = land["north"], Way(land["north"])
        await FULL_METER.enroll(device, way)
        (handed,) = north.transfer([device.identity.device], "Tenant", by_maker=by_maker)
        assert (handed.epoch, handed.is_new, handed.ended) == (1, True, 3)
        for label in SERVICES:
            assert north.states(device.identity.client_id, label) == ["revoked"]
        assert north.states(device.identity.client_id, "meter-boot") == ["current"]
        await device.rekey("meter-ds", way)
        assert told(way) == [ProblemKind.OWNER_CHANGED]
        assert device.status().epoch == 1
        for label in SERVICES:
            assert north.states(device.identity.client_id, label) == ["revoked", "current"], label
        (said,) = audit_of(north, Event.TRANSFER)
        assert "epoch 1: 'Tenant'" in said
        assert "approved by 'alice'" in said
        assert ("by the maker" in said) is by_maker


async def test_whoever_only_sends_messages_finds_out_too(template: Path, tmp_path: Path) -> None:
    """Nobody signs the answer to a message: the device asks, signed, whether the unsigned no is true."""
    async with country(template, tmp_path, "north") as land, opened(land.meters[0]) as device:
        north, way = land["north"], Way(land["north"])
        await device.enroll("meter-ds", way)
        way.refusal = Problem(ProblemKind.SIGNER_REVOKED, "somebody's lie")
        before = north.everything()
        with pytest.raises(RequestRejected) as caught:
            await device.send("readings", b"1", way)
        assert caught.value.reason is ProblemKind.SIGNER_REVOKED
        assert device.status().epoch == 0
        assert north.everything() == before, "asking changes nothing"
        north.transfer([device.identity.device], "Tenant")
        way.refusal = Problem(ProblemKind.SIGNER_REVOKED, "true this time")
        await device.send("readings", b"2", way)
        assert (device.status().epoch, len(way.messages)) == (1, 3)
        assert north.states(device.identity.client_id) == ["revoked", "current"]


@pytest.mark.parametrize("op", ["rekey", "enroll", "give back", "check in", "upkeep"])
async def test_whatever_it_does_when_it_comes_back(template: Path, tmp_path: Path, op: str) -> None:
    async with country(template, tmp_path, "north") as land, opened(land.meters[0]) as device:
        north, way = land["north"], Way(land["north"])
        await device.enroll("meter-ds", way)
        north.transfer([device.identity.device], "Tenant")
        match op:
            case "rekey":
                await device.rekey("meter-ds", way)
            case "enroll":
                await device.enroll("meter-ds", way)
            case "give back":
                await device.give_back("meter-ds", way)
            case "check in":
                assert await device.check_in(way)
            case "upkeep":
                await Upkeep(device).round(way)
        assert told(way) == [ProblemKind.OWNER_CHANGED]
        assert north.states(device.identity.client_id) == ["revoked", "current"], "no certificate too many"


@pytest.mark.parametrize("lost", [Operation.SEN, Operation.CONF])
@pytest.mark.parametrize("op", [Operation.SEN, Operation.SREN])
async def test_a_transfer_in_the_middle_of_an_exchange(
    template: Path, tmp_path: Path, lost: Operation, op: Operation
) -> None:
    """The certificate was given, or even confirmed, and the device has not heard of it."""
    async with country(template, tmp_path, "north") as land:
        north, way = land["north"], Way(land["north"])
        async with opened(land.meters[0]) as device:
            name, client_id = device.identity.device, device.identity.client_id
            if op is Operation.SREN:
                await device.enroll("meter-ds", way)
            way.deaf_to = [op if lost is Operation.SEN else Operation.CONF]
            impatient = device.prepare("meter-ds", op)
            effects = impatient.start(0.0)
            while effects:
                outgoing = None
                for effect in effects:
                    if isinstance(effect, Send):
                        outgoing = effect.request
                    else:
                        device._store.apply("meter-ds", effect)
                assert outgoing is not None
                try:
                    effects = impatient.receive(await way.exchange(outgoing), 0.0, 0.0)
                except Unreachable:
                    break
        north.transfer([name], "Tenant")
        async with opened(land.meters[0]) as device:
            await device.enroll("meter-ds", way)
            assert device.status().epoch == 1
            states = north.states(client_id)
            assert states[-1] == "current"
            assert "pending" not in states
            assert states.count("current") == 1


async def test_a_device_that_was_told_an_address_goes_on_there(template: Path, tmp_path: Path) -> None:
    async with country(template, tmp_path, "north", "south") as land, opened(land.meters[0]) as device:
        name, client_id = device.identity.device, device.identity.client_id
        there = "coap://192.0.2.7:5683"
        await FULL_METER.enroll(device, Way(land["north"]))
        land.give(name, "north", "south", at=there)
        with pytest.raises(OwnerChanged) as caught:
            await device.rekey("meter-ds", Way(land["north"]))
        assert (caught.value.at, device.status().at) == (there, there)
        assert device.status().authority == land["south"].key_id
        await device.rekey("meter-ds", Way(land["south"]))
        for label in SERVICES:
            assert land["south"].states(client_id, label) == ["current"]
            assert land["north"].states(client_id, label) == ["revoked"]
        assert {held.label for held in device.status().labels if held.serial} == set(SERVICES)
        (south,) = audit_of(land["south"], Event.TRANSFER)
        assert "approved there by 'alice', here by 'bob'" in south


async def test_a_device_that_is_quicker_than_the_paper_waits_for_it(template: Path, tmp_path: Path) -> None:
    async with country(template, tmp_path, "north", "south") as land, opened(land.meters[0]) as device:
        name = device.identity.device
        await FULL_METER.enroll(device, Way(land["north"]))
        land["north"].transfer([name], "south", at="coap://192.0.2.7:5683")
        with pytest.raises(OwnerChanged):
            await device.check_in(Way(land["north"]))
        with pytest.raises(ExchangeTimeout):
            await device.check_in(Way(land["south"]))
        land["south"].accept(land["north"].bundle(name))
        assert await device.check_in(Way(land["south"]))
        assert {held.label for held in device.status().labels if held.serial} == set(SERVICES)


async def test_a_device_follows_a_chain_of_owners(template: Path, tmp_path: Path) -> None:
    """Each owner names the next; none of them needs the maker."""
    async with (
        country(template, tmp_path, "north", "south", "east") as land,
        opened(land.meters[0]) as device,
    ):
        name = device.identity.device
        await device.enroll("meter-ds", Way(land["north"]))
        land.give(name, "north", "south", at="coap://192.0.2.7")
        land["south"].transfer([name], "Lodger")
        land["south"].transfer([name], "Tenant")
        land.give(name, "south", "east", at="coap://192.0.2.8")
        for house in ("north", "south"):
            with pytest.raises(OwnerChanged):
                await device.rekey("meter-ds", Way(land[house]))
        await device.rekey("meter-ds", Way(land["east"]))
        assert device.status().epoch == 4
        assert land["east"].states(device.identity.client_id) == ["current"]


@pytest.mark.parametrize("by_maker", [False, True])
async def test_a_device_that_slept_through_going_and_coming_back_needs_nobody_else(
    template: Path, tmp_path: Path, by_maker: bool
) -> None:
    async with country(template, tmp_path, "north", "south") as land, opened(land.meters[0]) as device:
        name, way = device.identity.device, Way(land["north"])
        await device.enroll("meter-ds", way)
        land.give(name, "north", "south", at="coap://192.0.2.7", by_maker=by_maker)
        land.give(name, "south", "north")
        await device.rekey("meter-ds", way)
        assert told(way) == [ProblemKind.OWNER_CHANGED]
        assert (device.status().epoch, device.status().authority) == (2, land["north"].key_id)
        assert land["north"].states(device.identity.client_id) == ["revoked", "current"]


async def test_a_device_that_followed_finds_its_way_back(template: Path, tmp_path: Path) -> None:
    async with country(template, tmp_path, "north", "south") as land, opened(land.meters[0]) as device:
        name = device.identity.device
        await device.enroll("meter-ds", Way(land["north"]))
        land.give(name, "north", "south", at="coap://192.0.2.7")
        with pytest.raises(OwnerChanged):
            await device.rekey("meter-ds", Way(land["north"]))
        await device.rekey("meter-ds", Way(land["south"]))
        land.give(name, "south", "north", at="coap://192.0.2.6")
        with pytest.raises(OwnerChanged):
            await device.rekey("meter-ds", Way(land["south"]))
        await device.rekey("meter-ds", Way(land["north"]))
        assert land["north"].states(device.identity.client_id) == ["revoked", "current"]
        assert land["south"].states(device.identity.client_id) == ["revoked"]


@pytest.mark.parametrize("wall", [NOW, None], ids=["with a clock", "without"])
@pytest.mark.parametrize("years", [-30, 9], ids=["behind", "ahead"])
async def test_clocks_that_are_years_wrong_break_no_transfer(
    template: Path, tmp_path: Path, years: int, wall: float | None
) -> None:
    """Of the old owner: its certificates may say so to a device, the new one's epoch decides."""
    async with country(template, tmp_path, "north", "south") as land, opened(land.meters[0], wall) as device:
        north, name = land["north"], device.identity.device
        if wall is None and years > 0:
            north.clock[0] += years * YEAR  # even what the device learned of the time is wrong
        await device.enroll("meter-ds", Way(north))
        north.clock[0] = NOW + years * YEAR
        land.give(name, "north", "south")
        land["south"].clock[0] = NOW
        way = Way(north)
        with pytest.raises(ExchangeTimeout):  # of north, which has nothing more to say
            await device.rekey("meter-ds", way)
        assert told(way) == [ProblemKind.OWNER_CHANGED]
        assert device.status().authority == land["south"].key_id
        await device.rekey("meter-ds", Way(land["south"]))
        assert land["south"].states(device.identity.client_id) == ["current"]


@pytest.mark.parametrize("years", [-9, 9], ids=["behind", "ahead"])
async def test_a_device_whose_clock_is_years_wrong_changes_hands_all_the_same(
    template: Path, tmp_path: Path, years: int
) -> None:
    async with country(template, tmp_path, "north") as land:
        name = land.meters[0].name
        async with opened(land.meters[0]) as device:
            await device.enroll("meter-ds", Way(land["north"]))
        land["north"].transfer([name], "Tenant")
        async with opened(land.meters[0], NOW + years * YEAR) as device:
            with pytest.raises((CertificateUnusable, ExchangeTimeout)):
                await device.rekey("meter-ds", Way(land["north"]))
            assert device.status().epoch == 1, "whose it is, no clock decides"
        async with opened(land.meters[0]) as device:
            assert await device.check_in(Way(land["north"]))
            assert land["north"].states(device.identity.client_id)[-1] == "current"


async def test_transfers_are_done_once_and_told_from_those_that_cannot_be(
    template: Path, tmp_path: Path
) -> None:
    async with country(template, tmp_path, "north", "south", "east") as land:
        north, names = land["north"], [folder.name for folder in land.meters]
        first = north.transfer(names[:1], "south")
        assert [one.is_new for one in north.transfer(names[:2], "south")] == [False, True]
        assert first[0].epoch == 1
        before = north.everything()
        assert not any(one.is_new for one in north.transfer(names[:2], "south"))
        for words, to, why in (
            (["54524C00000000FF", "nobody"], "south", r"'54524C00000000FF' \(nor 1 others\)"),
            ([names[2], names[0]], "east", "is not ours any more, but south's"),
            ([names[0]], "Tenant", "is not ours any more"),
        ):
            with pytest.raises(InventoryError, match=why):
                north.transfer(words, to)
        with pytest.raises(InventoryError, match="was given to no other authority"):
            north.bundle(names[2])
        with pytest.raises(BadDirectory, match="nobody knows the owner 'west'"):
            north.transfer(names, "west")
        assert north.everything() == before
        revoke(north.agent.store, names[2], RevocationReason.KEY_COMPROMISE, NOW)
        with pytest.raises(InventoryError, match="no tier 1 certificate here that is good"):
            north.transfer([names[2]], "south")
        listed = {device.name: device.owner for device in list_devices(north.agent.store)}
        assert listed == {names[0]: "south", names[1]: "south", names[2]: None}
    for house in ("north", "south"):
        verify_audit(tmp_path / house)


async def test_a_reset_device_has_nothing_but_its_tier_1_and_its_owner(
    template: Path, tmp_path: Path
) -> None:
    async with country(template, tmp_path, "north") as land, opened(land.meters[0]) as device:
        north, way = land["north"], Way(land["north"])
        name = device.identity.device
        north.transfer([name], "Tenant")
        await FULL_METER.enroll(device, way)
        for epoch in (2, 3):
            (done,) = reset_devices(north.agent.store, [name], north.givers(), now=NOW, approved_by="carol")
            assert (done.epoch, done.is_new) == (epoch, True)
        shown = show_device(north.agent.store, name)
        assert (shown.epoch, shown.owner) == (3, "Tenant")
        assert {one.label: one.state.value for one in shown.certificates} == dict.fromkeys(
            SERVICES, "revoked"
        ) | {"meter-boot": "current"}
        assert all(
            one.reason in {None, RevocationReason.CESSATION_OF_OPERATION} for one in shown.certificates
        )
        assert ["carol" in said for said in audit_of(north, Event.RESET)] == [True, True]
        await device.rekey("meter-ds", way)
        assert told(way)[-1] is ProblemKind.OWNER_CHANGED
        assert device.status().epoch == 3, "one word is enough for both"
