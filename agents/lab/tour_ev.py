"""The tour of EV charging: every tier issued, rekeyed, transferred, revoked and refused."""

import json
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from agents.lab.failure import LabFailed
from agents.lab.stage import House, Identity, Stage

OPERATOR: Final = "DETRL"
"""Country and operator in the names of stations; country and provider in those of contracts."""


@dataclass(frozen=True, slots=True)
class Edition:
    """One part of ISO 15118: the same certificates on another curve, under other roots."""

    prefix: str
    """Of its labels."""
    option: str
    """By which `serve` is given its provisioning service."""
    series: str
    """A letter in its contracts' names."""


EDITIONS: Final = (Edition("ev", "--cps", "C"), Edition("ev20", "--cps20", "D"))


@dataclass(frozen=True, slots=True)
class Fleet:
    """The devices of one edition."""

    edition: Edition
    cars: list[Identity]
    stations: list[Identity]
    service: Identity

    @property
    def contract(self) -> str:
        """Label of its contracts."""
        return f"{self.edition.prefix}-contract"

    def emaid(self, number: int) -> str:
        """Return the name of a contract."""
        return f"{OPERATOR}{self.edition.series}{number:08}"


async def play(stage: Stage, stack: AsyncExitStack) -> None:
    """Play the tour; what happens is in the stage's ledger."""
    stage.step("one house for a vehicle maker, a mobility operator, a charge point operator and provisioning")
    house = await stage.authority("EVPKI", "ev")
    await stage.put_roots_away(house)
    stage.step("the factories make cars, stations and provisioning services")
    fleets = [await _make(stage, house, edition) for edition in EDITIONS]
    async with AsyncExitStack() as first:
        stage.step("the house serves, so that its provisioning services get what they sign with")
        await stage.serve(house, first)
        for fleet in fleets:
            await stage.enroll(fleet.service, house.via("mqtt"))
            await stage.rekey(fleet.service, house.via("mqtt"))
    for fleet in fleets:
        for number, car in enumerate(fleet.cars[:2], start=1):
            stage.step(f"{car.name} is granted contract {fleet.emaid(number)}")
            await stage.trillium("contract", "add", "--", house.directory, car.client_id, fleet.emaid(number))
    stage.step("the house serves again, and prepares the contracts' packages")
    house = House(house.name, house.directory)
    options = [word for fleet in fleets for word in (fleet.edition.option, fleet.service.folder)]
    await stage.serve(house, stack, *options)
    for fleet in fleets:
        await _operate(stage, house, fleet)
        await _charge(stage, house, fleet)
        await _end(stage, house, fleet)


async def _make(stage: Stage, house: House, edition: Edition) -> Fleet:
    cars = await stage.factory(house, f"{edition.prefix}-oem", 3)
    stations = await stage.factory(house, f"{edition.prefix}-station", 2, "--operator", OPERATOR)
    (service,) = await stage.factory(house, f"{edition.prefix}-service", 1)
    return Fleet(edition, cars, stations, service)


async def _operate(stage: Stage, house: House, fleet: Fleet) -> None:
    """Give stations what they show to cars."""
    for station, scheme in zip(fleet.stations, ("coap", "mqtt"), strict=True):
        stage.step(f"{station.label}: {station.name} gets what it shows to cars, and replaces its key")
        via = house.via(scheme)
        await stage.enroll(station, via)
        await stage.rekey(station, via)
        await stage.do("send", station, via, stream="meter-values")


async def _charge(stage: Stage, house: House, fleet: Fleet) -> None:
    """Install contracts: by way of a station, and directly; the second car is then sold."""
    plugged, sold, stranger = fleet.cars
    contract = fleet.contract
    async with AsyncExitStack() as stack:
        at = await stage.station(house, fleet.stations[0], stack)
        stage.step(f"{plugged.name} is plugged in at {fleet.stations[0].name}, and gets its contract")
        lines = await stage.trillium("car", "plug", "--identity", plugged.folder, "--at", at, "--json")
        if not any(one["new"] for one in json.loads("\n".join(lines))["contracts"]):
            raise LabFailed(f"{plugged.name} got no contract")
        stage.ledger.row(contract).issued += 1
    stage.step(f"{plugged.name} gets the next key of its contract, wrapped to the present one")
    await stage.rekey(plugged, house.via("coap"), contract)
    stage.step(f"{sold.name} gets its contract, and is then sold")
    await stage.enroll(sold, house.via("mqtt"), contract)
    await stage.trillium("reset", "--", house.directory, sold.client_id)
    stage.ledger.row(contract).transferred += 1
    await stage.refused("enroll", sold, house.via("mqtt"), contract, "not_entitled", "owner_changed")
    stage.step(f"{stranger.name} has no contract, and gets none")
    await stage.refused("enroll", stranger, house.via("coap"), contract, "not_entitled")


async def _end(stage: Stage, house: House, fleet: Fleet) -> None:
    """End a contract, and have a station stolen."""
    car, station = fleet.cars[0], fleet.stations[1]
    stage.step(f"the contract of {car.name} ends")
    await stage.trillium("contract", "end", house.directory, fleet.emaid(1))
    stage.ledger.row(fleet.contract).revoked += 1
    await stage.refused("rekey", car, house.via("coap"), fleet.contract, "signer_revoked", "not_entitled")
    stage.step(f"{station.name} is stolen and revoked, and tries all the same")
    await stage.revoke(house, station, station.services)
    await stage.refused("rekey", station, house.via("coap"), station.services[0], "signer_revoked")
