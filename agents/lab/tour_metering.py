"""The tour of smart metering: every tier issued, rekeyed, transferred, revoked and refused."""

from contextlib import AsyncExitStack
from typing import Final

import anyio

from agents.lab.stage import House, Identity, Stage

METERS: Final = ("meter-boot", "meter2-boot", "smki-boot")
"""One meter at least of each kind: security suite 1, suite 2, Great Britain's."""
CLIENTS_START: Final = 1_000_000
"""Serial number of the first client: system titles of one maker are one space."""


async def play(stage: Stage, stack: AsyncExitStack) -> None:
    """Play the tour; what happens is in the stage's ledger."""
    domains = ("metering", "metering2", "smki")
    stage.step("two utilities under one root: NORTH and SOUTH")
    north = await stage.authority("NORTH", *domains)
    south = await stage.authority("SOUTH", *domains, under=north)
    await stage.put_roots_away(north)
    stage.step("the factory makes meters and a head-end")
    meters = {label: await stage.factory(north, label, 3) for label in METERS}
    (head_end,) = await stage.factory(north, "client-boot", 1, "--start", CLIENTS_START)
    stage.step("both utilities serve")
    await stage.serve(north, stack)
    await stage.serve(south, stack)
    await _participate(stage, north, meters, head_end)
    await _agree(stage, north, head_end, meters["meter-boot"][0])
    await _move(stage, north, south, meters)
    await _end(stage, north, meters)


async def _participate(
    stage: Stage, north: House, meters: dict[str, list[Identity]], head_end: Identity
) -> None:
    coap, mqtt = north.via("coap"), north.via("mqtt")
    stage.step(f"head-end {head_end.name} gets its certificates over MQTT")
    await stage.enroll(head_end, mqtt)
    for label, devices in meters.items():
        for number, meter in enumerate(devices):
            via = mqtt if number % 2 else coap
            stage.step(f"{label}: {meter.name} enrolls {', '.join(meter.services)}")
            await stage.enroll(meter, via)
        stage.step(f"{label}: {devices[0].name} replaces every key, then sends a reading")
        await stage.rekey(devices[0], coap)
        await stage.do("send", devices[0], coap, stream="readings")


async def _agree(stage: Stage, north: House, head_end: Identity, meter: Identity) -> None:
    """Have a meter and its head-end replace the keys that they use every day; neither is online for long."""
    stage.step(
        f"head-end {head_end.name} and meter {meter.name} agree on new metering keys, letter by letter"
    )
    mqtt, coap = north.via("mqtt"), north.via("coap")
    asking = ("device", "keys", "--identity", meter.folder, "--via", coap, "--head-end", head_end.name)
    await stage.trillium(*asking)
    async with anyio.create_task_group() as tasks:

        async def ask() -> None:
            while True:
                await stage.trillium(*asking)

        tasks.start_soon(ask)
        await stage.trillium(
            "headend", "rollover", "--identity", head_end.folder, "--via", mqtt, "--meter", meter.name
        )
        tasks.cancel_scope.cancel()


async def _move(stage: Stage, north: House, south: House, meters: dict[str, list[Identity]]) -> None:
    """Give the second meter of each kind to the other utility while it is offline."""
    await stage.know_each_other(north, south)
    for label, (_, meter, _) in meters.items():
        stage.step(f"{label}: {meter.name} goes from NORTH to SOUTH while it is offline")
        await stage.transfer(north, south, meter)
        for service in meter.services:
            stage.ledger.row(service).transferred += 1
        stage.step(f"{label}: {meter.name} comes back, hears of it, and enrolls with SOUTH by itself")
        await stage.come_back(meter, north)


async def _end(stage: Stage, north: House, meters: dict[str, list[Identity]]) -> None:
    """Revoke the last meter of each kind."""
    coap = north.via("coap")
    for label, (_, _, meter) in meters.items():
        stage.step(f"{label}: {meter.name} is revoked, and tries all the same")
        await stage.revoke(north, meter, meter.services)
        service = meter.services[0]
        await stage.refused("rekey", meter, coap, service, "signer_revoked")
        await stage.refused("enroll", meter, coap, service, "signer_revoked")
