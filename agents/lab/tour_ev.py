"""The tour of EV charging: every tier issued, rekeyed, transferred, revoked and refused."""

from contextlib import AsyncExitStack
from typing import Final

from agents.lab.stage import House, Identity, Stage

EDITIONS: Final = ("ev", "ev20")
"""Parts 2 and 20 of ISO 15118: the same certificates on other curves, under other roots."""
OPERATOR: Final = "DETRL"
"""Country and operator in the names of stations."""


async def play(stage: Stage, stack: AsyncExitStack) -> None:
    """Play the tour; what happens is in the stage's ledger."""
    stage.step("one house for a vehicle maker, a mobility operator, a charge point operator and provisioning")
    house = await stage.authority("EVPKI", "ev")
    await stage.put_roots_away(house)
    stage.step("the factories make stations and provisioning services")
    stations = [
        device
        for edition in EDITIONS
        for device in await stage.factory(house, f"{edition}-station", 2, "--operator", OPERATOR)
    ]
    services = [
        device for edition in EDITIONS for device in await stage.factory(house, f"{edition}-service", 1)
    ]
    stage.step("the house serves")
    await stage.serve(house, stack)
    await _operate(stage, house, stations, services)
    await _end(stage, house, stations[1::2])


async def _operate(stage: Stage, house: House, stations: list[Identity], services: list[Identity]) -> None:
    """Give stations and services what they show and sign with."""
    coap, mqtt = house.via("coap"), house.via("mqtt")
    for service in services:
        stage.step(f"{service.label}: {service.name} gets what it signs contract packages with")
        await stage.enroll(service, mqtt)
        await stage.rekey(service, mqtt)
    for number, station in enumerate(stations):
        via = mqtt if number % 2 else coap
        stage.step(f"{station.label}: {station.name} gets what it shows to cars, and replaces its key")
        await stage.enroll(station, via)
        await stage.rekey(station, via)
        await stage.do("send", station, via, stream="meter-values")


async def _end(stage: Stage, house: House, stations: list[Identity]) -> None:
    for station in stations:
        stage.step(f"{station.label}: {station.name} is stolen and revoked, and tries all the same")
        await stage.revoke(house, station, station.services)
        await stage.refused("rekey", station, house.via("coap"), station.services[0], "signer_revoked")
