"""Live TLS connections of a `serve` that really runs follow what another process writes in its store."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from anyio import to_thread

from agents.cli.transports import tls_context
from agents.devices.identity import Identity
from tests.integration.cli_world import Town, as_json, done, town
from tests.integration.mqtt_world import RawClient, raw_client

WITHIN = 1.0
"""Seconds in which a revocation has to count."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with town(tmp_path_factory.mktemp("town")) as made:
        yield made


@asynccontextmanager
async def connected(place: Town, folder: Path) -> AsyncIterator[RawClient]:
    """Connect over TLS, as the device whose identity is in `folder`."""
    context = tls_context(folder, None)
    context.check_hostname = False
    where = urlsplit(place.via("mqtts"))
    assert where.hostname is not None
    assert where.port is not None
    async with raw_client((where.hostname, where.port), context) as raw:
        assert await raw.connect(Identity.load(folder).client_id) == 0
        yield raw


async def test_a_revoked_device_is_disconnected_within_a_second_and_no_other(place: Town) -> None:
    folder, neighbour = place.meters[0], place.meters[1]
    async with connected(place, folder) as device, connected(place, neighbour) as other:
        # Other certificates of the device may end: this connection was opened by another one.
        await to_thread.run_sync(done, "device", "enroll", "--identity", folder, "--via", place.via("coap"))
        await to_thread.run_sync(done, "device", "rekey", "--identity", folder, "--via", place.via("coap"))
        assert await device.is_alive()
        told = await to_thread.run_sync(
            as_json, "revoke", place.directory, folder.name, "--reason", "key-compromise"
        )
        start = time.monotonic()
        assert {one["label"] for one in told["revoked"]} == {"meter-boot", "meter-ds"}
        assert await device.is_closed()
        assert time.monotonic() - start < WITHIN
        assert await other.is_alive()


async def test_a_newcomer_enrolls_and_sends_on_one_connection(place: Town) -> None:
    folder = place.meters[2]
    name = Identity.load(folder).client_id
    async with connected(place, folder) as device:
        assert await device.subscribe("pub/#") == 0x80
        await to_thread.run_sync(done, "device", "enroll", "--identity", folder, "--via", place.via("coap"))
        assert await device.subscribe("pub/#") == 1
        assert await device.subscribe(f"est/{name}/+/+/+") == 1
