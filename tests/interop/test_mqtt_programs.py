"""mosquitto's own programs as devices and readers of the embedded broker, and of one another."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from broker.access import Identity
from broker.address import BrokerAddress, Version
from broker.embedded import TlsListener, serve
from broker.replies import request_id
from broker.service import serve_authority
from protocol import cbor
from protocol.labels import Tier
from protocol.ports import InboundMessage
from tests.integration.mqtt_world import (
    PATIENCE,
    Certificates,
    certificates,
    echo,
    free_port,
    mosquitto,
    needs_mosquitto,
    until,
)

__all__ = ["certificates"]

pytestmark = [
    pytest.mark.outside,
    pytest.mark.skipif(
        shutil.which("mosquitto_rr") is None, reason="mosquitto_pub, _sub and _rr are not installed"
    ),
]

ANSWER = cbor.encode([request_id(b"please"), b"answer to please"])


async def run(program: str, *arguments: str) -> str:
    """Run one of mosquitto's clients to its end and return what it printed."""
    with anyio.fail_after(PATIENCE):
        finished = await anyio.run_process([program, *arguments], check=False)
    assert finished.returncode == 0, finished.stderr.decode()
    return finished.stdout.decode().strip()


def where(port: int, client_id: str, version: str = "311") -> list[str]:
    return ["-h", "127.0.0.1", "-p", str(port), "-V", version, "-i", client_id, "-q", "1"]


def secured(certificates: Certificates, name: str) -> list[str]:
    _, chain, key = certificates.devices.issue(name)
    ca = certificates.folder / "server-ca.pem"
    return ["--cafile", str(ca), "--cert", str(chain), "--key", str(key)]


async def test_a_foreign_client_asks_and_is_answered() -> None:
    async with (
        serve(plain=("127.0.0.1", 0), service_password="secret") as broker,
        serve_authority(echo, broker=broker.service_address()),
    ):
        assert broker.plain_address is not None
        topic = "est/device/meter-ds/sen"
        heard = await run(
            "mosquitto_rr",
            *where(broker.plain_address[1], "device"),
            *("-t", topic, "-e", f"{topic}/accepted", "-m", "please", "-F", "%t %x"),
        )
        assert heard == f"{topic}/accepted {ANSWER.hex()}"


async def test_a_foreign_client_asks_over_tls_with_its_certificate(certificates: Certificates) -> None:
    listener = TlsListener(
        "127.0.0.1", 0, certificates.server_chain, certificates.server_key, certificates.devices.pem.decode()
    )

    async def identify(_certificates: Sequence[bytes]) -> list[Identity]:
        return [Identity("device", Tier.PARTICIPATION)]

    async with (
        serve(
            tls=listener,
            identify=identify,
            service_password="secret",
        ) as broker,
        serve_authority(
            echo, broker=broker.service_address(certificates.devices.client_context(None))
        ) as service,
    ):
        assert broker.tls_address is not None
        port = broker.tls_address[1]
        topic = "est/device/meter-ds/sen"
        heard = await run(
            "mosquitto_rr",
            *where(port, "device"),
            *secured(certificates, "54524C0000000001"),
            *("-t", topic, "-e", f"{topic}/accepted", "-m", "please", "-F", "%x"),
        )
        assert heard == ANSWER.hex()
        # Somebody else's name is refused at the door.
        with pytest.raises(AssertionError, match=r"(?i)not authori[sz]ed"):
            await run(
                "mosquitto_pub",
                *where(port, "other"),
                *secured(certificates, "54524C0000000001"),
                *("-t", "est/other/meter-ds/sen", "-m", "please"),
            )
        assert service.counters.requests == 1


async def test_foreign_clients_send_and_read_messages() -> None:
    heard: list[InboundMessage] = []

    async def hear(message: InboundMessage) -> None:
        heard.append(message)

    async with (
        serve(plain=("127.0.0.1", 0), service_password="secret", reader_password="read") as broker,
        serve_authority(None, broker=broker.service_address(), messages=hear) as service,
        anyio.create_task_group() as tasks,
    ):
        assert broker.plain_address is not None
        port = broker.plain_address[1]
        read: list[str] = []

        async def reader() -> None:
            read.append(
                await run(
                    "mosquitto_sub",
                    *where(port, "head-end"),
                    *("-u", "reader", "-P", "read", "-t", "verified/#", "-C", "1", "-F", "%t %p"),
                )
            )

        tasks.start_soon(reader)
        await until(lambda: "!reader/head-end" in broker._door.clients)
        await until(lambda: broker._door.clients["!reader/head-end"].filters)
        await run("mosquitto_pub", *where(port, "device"), "-t", "m/device/readings", "-m", "42 kWh")
        await until(lambda: heard)
        assert heard == [InboundMessage("readings", b"42 kWh", "mqtt:device", "device")]
        await service.publish("verified/readings", b"42 kWh, says device")
        await until(lambda: read)
        assert read == ["verified/readings 42 kWh, says device"]


@needs_mosquitto
async def test_mosquittos_request_and_response_program_is_answered_on_its_own_topic(tmp_path: Path) -> None:
    port = free_port()
    configuration = tmp_path / "mosquitto.conf"
    configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nlog_type error\n")
    async with (
        mosquitto(configuration, port),
        serve_authority(echo, broker=BrokerAddress(f"mqtt://127.0.0.1:{port}", Version.V5)),
    ):
        heard = await run(
            "mosquitto_rr",
            *where(port, "device", "5"),
            *("-t", "est/device/meter-ds/sen", "-e", "est/device/answers", "-m", "please", "-F", "%t %x"),
        )
        assert heard == f"est/device/answers {ANSWER.hex()}"
