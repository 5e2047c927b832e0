"""An attacker on the embedded broker: claimed names, long topics, last wills, Response Topics, floods.

Complements `test_mqtt_embedded.py` and `test_mqtt_service.py`, which hold the rules themselves.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from broker import embedded
from broker.embedded import EmbeddedBroker
from broker.link import MAX_BACKLOG_BYTES
from tests.integration.mqtt_world import PUBLISH, RawClient, never_blocking, packet, raw_client, text, until

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
