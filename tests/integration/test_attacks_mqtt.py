"""An attacker on the embedded broker: claimed names, long topics, last wills, Response Topics, floods.

Complements `test_mqtt_embedded.py` and `test_mqtt_service.py`, which hold the rules themselves.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from broker import embedded
from broker.address import BrokerAddress, Version
from broker.client import connect
from broker.connection import open_connection
from broker.embedded import EmbeddedBroker
from broker.link import MAX_BACKLOG_BYTES
from broker.quiet import LINES_PER_SECOND, QuietLog
from broker.service import MAX_IN_WORK_PER_CLIENT, serve_authority
from protocol.errors import ProblemKind, ServiceError
from protocol.labels import Operation
from protocol.ports import Content, Inbound, Media, Outbound, Reply
from protocol.problem import Problem
from tests.integration.mqtt_world import (
    PUBLISH,
    RawClient,
    free_port,
    mosquitto,
    needs_mosquitto,
    never_blocking,
    packet,
    raw_client,
    text,
    until,
)
from tests.integration.test_mqtt_service import plain_configuration

__all__ = ["never_blocking"]

SERVICE = ("service", "a password of the service")


@asynccontextmanager
async def broker_of_our_own() -> AsyncIterator[EmbeddedBroker]:
    async with embedded.serve(plain=("127.0.0.1", 0), service_password=SERVICE[1]) as broker:
        yield broker


@asynccontextmanager
async def client(
    broker: EmbeddedBroker, client_id: str, login: tuple[str, str] | None = None
) -> AsyncIterator[RawClient]:
    async with raw_client(broker.plain_address) as raw:
        assert await raw.connect(client_id, login=login) == 0
        yield raw


async def test_topics_as_long_as_a_packet_do_not_make_a_service_deaf() -> None:
    """Each message that overran its buffer left a packet id behind; a thousand, and it heard no more."""
    async with broker_of_our_own() as broker, client(broker, "authority", SERVICE) as service:
        await service.subscribe("est/+/+/+")
        served = broker._door.clients["!service/authority"]
        async with client(broker, "attacker") as attacker:
            # Short ones first, up to just below the limit of what may wait for the service.
            filling = packet(PUBLISH | 2, text("est/attacker/meter-ds/sen") + b"\x00\x01" + bytes(10_000))
            while served.link.backlog < MAX_BACKLOG_BYTES - 20_000:
                await attacker.send(filling)
                await attacker.expect(0x40)
            long = text("est/attacker/meter-ds/" + "x" * 60_000) + b"\x00\x02"
            for _ in range(5):
                await attacker.send(packet(PUBLISH | 2, long))
                await attacker.expect(0x40)
            assert await attacker.is_alive(), "a peer that does not read delays nobody"
        assert broker.counters.dropped >= 5
        waiting = len(served.unacknowledged)

        async def read_and_acknowledge() -> None:
            while True:
                first, body = await service.receive()
                if first == PUBLISH:
                    size = int.from_bytes(body[:2])
                    await service.send(packet(0x40, body[2 + size : 4 + size]))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_and_acknowledge)
            await until(lambda: len(served.unacknowledged) < waiting)
            await until(lambda: not served.unacknowledged)
            tasks.cancel_scope.cancel()


async def test_a_flood_of_forbidden_topics_writes_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with broker_of_our_own() as broker, client(broker, "attacker") as attacker:
        for number in range(200):
            await attacker.publish(f"m/victim/{number}", b"reading")
        await attacker.subscribe("est/victim/#")
        assert broker.counters.forbidden == 201
    lines = [record for record in caplog.records if record.name == "broker.router" or "front" in record.name]
    assert 1 <= len(lines) <= 2 * LINES_PER_SECOND
    assert "attacker may not publish on m/victim/0" in lines[0].getMessage()


def test_what_was_left_out_is_told_with_the_next_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = 0.0
    log = QuietLog(logging.getLogger("peers"), lambda: now)
    for number in range(LINES_PER_SECOND + 7):
        log.info("line %d", number)
    now = 1.5
    log.info("line %s", "last")
    log.info("line %s", "after")
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == LINES_PER_SECOND + 2
    assert told[-2:] == ["line last (and 7 more lines before)", "line after"]


def test_a_fault_comes_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    log = QuietLog(logging.getLogger("peers"))
    try:
        int("a fault")
    except ValueError:
        log.fault("a fault")
    assert caplog.records[0].exc_info is not None


# --- replies that are too long --------------------------------------------------------------------------


async def long_list(request: Inbound) -> Reply:
    """Answer as an authority does after a few thousand rekeys."""
    if request.op is Operation.CRL:
        return Content(bytes(100_000), Media.PKIX_CRL)
    return Content(b"answer to " + request.body, Media.C509_CERTIFICATE)


async def test_a_revocation_list_longer_than_a_packet_does_not_cost_the_service_its_connection() -> None:
    """One device that asked for it, or the list's own announcement, cut everybody off."""
    async with (
        broker_of_our_own() as broker,
        serve_authority(long_list, broker=broker.service_address()) as service,
    ):
        assert broker.plain_address is not None
        async with connect(f"mqtt://127.0.0.1:{broker.plain_address[1]}", "device") as device:
            whole = await device._exchange(Outbound("meter-ds", Operation.CRL))
            assert isinstance(whole, Problem)
            assert whole.kind is ProblemKind.TOO_LARGE
            in_parts = await device.exchange(Outbound("meter-ds", Operation.CRL))
            assert isinstance(in_parts, Content)
            assert in_parts.body == bytes(100_000)
            with pytest.raises(ServiceError, match="more than a broker takes"):
                await service.publish("pub/crl/metering", bytes(100_000))
            await service.publish("pub/crl/metering", bytes(60_000))
            assert isinstance(await device.exchange(Outbound("meter-ds", Operation.SEN, b"x")), Content)
        assert service.counters.connections == 1
        assert broker.counters.violations == 0


@pytest.mark.outside
@needs_mosquitto
async def test_correlation_data_as_long_as_a_packet_does_not_either(tmp_path: Path) -> None:
    port = free_port()
    address = BrokerAddress(f"mqtt://127.0.0.1:{port}", Version.V5)
    configuration = plain_configuration(tmp_path, port)
    with configuration.open("a") as file:
        file.write("max_packet_size 65792\n")  # as `broker.mosquitto` writes it
    heard: list[tuple[str, dict[str, Any]]] = []

    def listen(topic: str, _payload: bytes, properties: dict[str, Any]) -> None:
        heard.append((topic, properties))

    async with (
        mosquitto(configuration, port),
        serve_authority(long_list, broker=address) as service,
        open_connection(address, "device", listen) as device,
    ):
        await device.subscribe("est/+/+/+/+")
        await device.send("est/device/meter-ds/sen", bytes(700), correlation_data=bytes(64_800))
        await until(lambda: heard)
        topic, properties = heard[0]
        assert topic.endswith("/accepted")
        assert "correlation_data" not in properties
        assert service.counters.connections == 1


# --- one client's flood ---------------------------------------------------------------------------------


async def test_one_clients_requests_leave_room_for_others() -> None:
    gate = anyio.Event()

    async def slow(request: Inbound) -> Reply:
        await gate.wait()
        return Content(request.body, Media.C509_CERTIFICATE)

    async with (
        broker_of_our_own() as broker,
        serve_authority(
            slow, broker=broker.service_address(), max_in_work=MAX_IN_WORK_PER_CLIENT + 1
        ) as service,
        client(broker, "attacker") as attacker,
        client(broker, "honest") as honest,
    ):
        await attacker.subscribe("est/attacker/#")
        await honest.subscribe("est/honest/#")
        for number in range(100):
            await attacker.publish("est/attacker/meter-ds/sen", b"%d" % number)
        await until(lambda: service.counters.overloaded == 100 - MAX_IN_WORK_PER_CLIENT)
        await honest.publish("est/honest/meter-ds/sen", b"please")
        await until(lambda: service.counters.requests == 101)
        gate.set()
        while (topic := (await honest.message())[0]) == "est/honest/meter-ds/sen":
            pass
        assert topic.endswith("/accepted")
        await until(lambda: not service._in_work)
