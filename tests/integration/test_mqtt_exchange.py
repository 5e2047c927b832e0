"""One scenario over every broker and every way into it: requests, replies, messages, and their limits."""

import signal
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from cryptography import x509
from cryptography.x509.oid import NameOID

from broker.access import Identity
from broker.address import BrokerAddress, Version
from broker.client import MqttDevice, connect
from broker.embedded import TlsListener, serve
from broker.mosquitto import ExportDevice, ExportListener, ExportServer, export, write_crl
from broker.service import Service, serve_authority
from protocol import cbor
from protocol.errors import ProblemKind, Unreachable
from protocol.labels import Operation, Tier
from protocol.ports import Content, Handler, Inbound, InboundMessage, Outbound, Pending, Reply, SignedRefusal
from protocol.problem import Problem
from tests.integration.mqtt_world import (
    SILENCE,
    Certificates,
    RawClient,
    certificates,
    echo,
    free_port,
    mosquitto,
    needs_mosquitto,
    never_blocking,
    raw_client,
    until,
)

__all__ = ["certificates", "never_blocking"]

NAMES = {"54524C0000000001": "alice", "54524C0000000002": "bob", "newcomer": "carol"}
"""Certificate name to client-id."""
TIERS = {"newcomer": Tier.BOOTSTRAPPING}


@dataclass
class World:
    """A running broker and how to come in."""

    service: BrokerAddress
    uri: str
    address: tuple[str, int]
    context: Callable[[str], ssl.SSLContext | None]
    """TLS side of the device with a certificate name."""

    def device(self, name: str) -> AbstractAsyncContextManager[MqttDevice]:
        return connect(self.uri, NAMES[name], ssl_context=self.context(name))

    @asynccontextmanager
    async def raw(self, name: str) -> AsyncIterator[RawClient]:
        async with raw_client(self.address, self.context(name)) as raw:
            assert await raw.connect(NAMES[name]) == 0
            yield raw


async def identify(certificates: Sequence[bytes]) -> list[Identity | None]:
    return [identity_of(certificate) for certificate in certificates]


def identity_of(certificate: bytes) -> Identity | None:
    parsed = x509.load_der_x509_certificate(certificate)
    name = str(parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    if name not in NAMES:
        return None
    return Identity(NAMES[name], TIERS.get(name, Tier.PARTICIPATION))


@asynccontextmanager
async def embedded_plain(_certificates: Certificates) -> AsyncIterator[World]:
    async with serve(plain=("127.0.0.1", 0), service_password="secret") as broker:
        assert broker.plain_address is not None
        uri = f"mqtt://127.0.0.1:{broker.plain_address[1]}"
        yield World(broker.service_address(), uri, broker.plain_address, lambda _name: None)


@asynccontextmanager
async def embedded_tls(certificates: Certificates) -> AsyncIterator[World]:
    listener = TlsListener(
        "127.0.0.1",
        0,
        certificates.server_chain,
        certificates.server_key,
        certificates.devices.pem.decode(),
    )
    async with serve(tls=listener, identify=identify, service_password="secret") as broker:
        assert broker.tls_address is not None
        yield World(
            broker.service_address(certificates.devices.client_context(None)),
            f"mqtts://127.0.0.1:{broker.tls_address[1]}",
            broker.tls_address,
            certificates.devices.client_context,
        )


def exported(certificates: Certificates, device_port: int, service_port: int) -> Path:
    return export(
        certificates.folder / "mosquitto",
        devices=[
            ExportDevice(name, client_id, TIERS.get(name, Tier.PARTICIPATION))
            for name, client_id in NAMES.items()
        ],
        device_listener=ExportListener("127.0.0.1", device_port, certificates.devices.pem),
        service_listener=ExportListener("127.0.0.1", service_port, certificates.services.pem),
        services=["authority"],
        server=ExportServer(certificates.server_chain.read_bytes(), certificates.server_key),
        device_crl=certificates.devices.crl(),
        run_as="root",
    )


@asynccontextmanager
async def outside(certificates: Certificates) -> AsyncIterator[World]:
    ports = free_port(), free_port()
    async with mosquitto(await to_thread.run_sync(exported, certificates, *ports), ports[1]):
        yield World(
            BrokerAddress(
                f"mqtts://127.0.0.1:{ports[1]}", Version.V5, certificates.services.client_context("authority")
            ),
            f"mqtts://127.0.0.1:{ports[0]}",
            ("127.0.0.1", ports[0]),
            certificates.devices.client_context,
        )


OpenWorld = Callable[[Certificates], AbstractAsyncContextManager[World]]

SECURE = [
    pytest.param(embedded_tls, id="embedded-tls"),
    pytest.param(outside, id="mosquitto", marks=[pytest.mark.outside, needs_mosquitto]),
]
every_broker = pytest.mark.parametrize("open_world", [pytest.param(embedded_plain, id="embedded"), *SECURE])
every_tls_broker = pytest.mark.parametrize("open_world", SECURE)
REQUEST = Outbound("meter-ds", Operation.SEN, b"\x84please")


@asynccontextmanager
async def scene(
    open_world: OpenWorld, certificates: Certificates, handler: Handler = echo
) -> AsyncIterator[tuple[World, Service, list[InboundMessage]]]:
    heard: list[InboundMessage] = []

    async def hear(message: InboundMessage) -> None:
        heard.append(message)

    async with (
        open_world(certificates) as world,
        serve_authority(handler, broker=world.service, messages=hear) as service,
    ):
        yield world, service, heard


@every_broker
async def test_a_request_is_answered_and_a_message_is_heard(
    open_world: OpenWorld, certificates: Certificates
) -> None:
    asked: list[Inbound] = []

    async def handler(request: Inbound) -> Reply:
        asked.append(request)
        return await echo(request)

    async with (
        scene(open_world, certificates, handler) as (world, service, heard),
        world.device("54524C0000000001") as device,
    ):
        reply = await device.exchange(REQUEST)
        assert isinstance(reply, Content)
        assert reply.body == b"answer to \x84please"
        assert asked == [Inbound("meter-ds", Operation.SEN, b"\x84please", "mqtt:alice")]
        assert isinstance(await device.exchange(Outbound("meter-ds", Operation.CRTS)), Content)
        assert await device.send_message("readings", b"reading") is None
        await until(lambda: heard)
        assert heard == [InboundMessage("readings", b"reading", "mqtt:alice", "alice")]
        assert service.counters.requests == 2


@every_broker
async def test_every_kind_of_reply_arrives(open_world: OpenWorld, certificates: Certificates) -> None:
    signed = bytes.fromhex("8440a04040")
    replies: dict[str, Reply] = {
        "later": Pending(7),
        "never": SignedRefusal(signed, Problem(ProblemKind.KEY_USED)),
        "hint": Problem(ProblemKind.OVERLOADED, retry_after=3),
    }

    async def handler(request: Inbound) -> Reply:
        return replies[request.label]

    async with (
        scene(open_world, certificates, handler) as (world, _, _),
        world.device("54524C0000000001") as device,
    ):
        heard = {label: await device.exchange(Outbound(label, Operation.SEN, b"\x84")) for label in replies}
    assert heard["later"] == Pending(7)
    assert heard["hint"] == Problem(ProblemKind.OVERLOADED, retry_after=3)
    assert isinstance(heard["never"], SignedRefusal)
    assert heard["never"].body == signed


@every_broker
async def test_many_devices_and_requests_at_once_each_get_their_own_answer(
    open_world: OpenWorld, certificates: Certificates
) -> None:
    async def ask(device: MqttDevice, body: bytes) -> None:
        reply = await device.exchange(Outbound("meter-ds", Operation.SEN, body))
        assert isinstance(reply, Content)
        assert reply.body == b"answer to " + body

    async with (
        scene(open_world, certificates) as (world, _, _),
        world.device("54524C0000000001") as alice,
        world.device("54524C0000000002") as bob,
        anyio.create_task_group() as tasks,
    ):
        for number in range(100):
            tasks.start_soon(ask, alice, b"alice %d" % number)
            tasks.start_soon(ask, bob, b"bob %d" % number)
            tasks.start_soon(ask, bob, b"the same")


@every_broker
async def test_a_device_is_not_heard_outside_its_topics(
    open_world: OpenWorld, certificates: Certificates
) -> None:
    async with (
        scene(open_world, certificates) as (world, service, heard),
        world.raw("54524C0000000001") as alice,
        world.raw("54524C0000000002") as bob,
    ):
        await bob.subscribe("est/bob/#")
        for topic in (
            "est/bob/meter-ds/sen",
            "est/bob/meter-ds/sen/accepted",
            "m/bob/readings",
            "verified/readings",
            "pub/news",
        ):
            await alice.publish(topic, b"forged")
        assert await bob.hears_nothing()
        assert (service.counters.requests, heard) == (0, [])
        # And the same connection is still good for what is its own.
        await alice.publish("m/alice/readings", b"honest")
        await until(lambda: heard)


@every_broker
async def test_a_device_hears_nothing_outside_its_topics(
    open_world: OpenWorld, certificates: Certificates
) -> None:
    async with (
        scene(open_world, certificates) as (world, service, _),
        world.raw("54524C0000000001") as alice,
        world.device("54524C0000000002") as bob,
    ):
        for topic_filter in ("#", "est/#", "est/bob/#", "est/+/+/+/accepted", "m/#", "verified/#", "+/bob/#"):
            await alice.subscribe(topic_filter)
        await bob.exchange(REQUEST)
        await bob.send_message("readings", b"reading")
        await service.publish("verified/readings", b"reading")
        assert await alice.hears_nothing()
        await alice.subscribe("pub/#")
        await service.publish("pub/news", b"for all")
        assert (await alice.message())[:2] == ("pub/news", b"for all")


@every_tls_broker
async def test_a_newcomer_has_est_alone(open_world: OpenWorld, certificates: Certificates) -> None:
    async with (
        scene(open_world, certificates) as (world, service, heard),
        world.device("newcomer") as device,
    ):
        assert isinstance(await device.exchange(REQUEST), Content)
        await device.send_message("readings", b"reading")
        await anyio.sleep(SILENCE)
        assert heard == []
        assert service.counters.messages == 0


@pytest.mark.parametrize("name", ["54524C0000000001", "a stranger", None])
async def test_over_tls_the_client_id_is_the_certificates(
    certificates: Certificates, name: str | None
) -> None:
    async with (
        embedded_tls(certificates) as world,
        raw_client(world.address, certificates.devices.client_context(name)) as raw,
    ):
        assert await raw.connect("bob") == 5


@every_tls_broker
async def test_a_certificate_of_another_ca_opens_nothing(
    open_world: OpenWorld, certificates: Certificates
) -> None:
    async with open_world(certificates) as world:
        context = certificates.services.client_context("54524C0000000001")
        with pytest.raises(Unreachable):
            async with connect(world.uri, "alice", ssl_context=context):
                pass


@pytest.mark.outside
@needs_mosquitto
async def test_on_mosquitto_a_stranger_with_a_good_certificate_can_do_nothing(
    certificates: Certificates,
) -> None:
    async with (
        scene(outside, certificates) as (world, service, _),
        raw_client(world.address, certificates.devices.client_context("a stranger")) as stranger,
    ):
        assert await stranger.connect("alice") == 0
        await stranger.subscribe("#")
        await stranger.publish("est/alice/meter-ds/sen", b"forged")
        assert await stranger.hears_nothing()
        assert service.counters.requests == 0


@pytest.mark.outside
@needs_mosquitto
async def test_on_mosquitto_a_device_cannot_end_anothers_connection(certificates: Certificates) -> None:
    async with (
        scene(outside, certificates) as (world, _, _),
        world.device("54524C0000000002") as bob,
        raw_client(world.address, world.context("54524C0000000001")) as alice,
    ):
        assert await alice.connect("54524C0000000002") == 0
        assert await alice.is_alive()
        assert isinstance(await bob.exchange(REQUEST), Content)


@pytest.mark.outside
@needs_mosquitto
async def test_mosquitto_refuses_a_certificate_on_the_crl_after_sighup(certificates: Certificates) -> None:
    ports = free_port(), free_port()
    configuration = await to_thread.run_sync(exported, certificates, *ports)
    async with mosquitto(configuration, ports[1]) as process:
        revoked, chain, key = certificates.devices.issue("54524C0000000001")
        context = certificates.devices.client_context(None)
        context.load_cert_chain(chain, key)
        address = ("127.0.0.1", ports[0])
        async with raw_client(address, context) as alice:
            assert await alice.connect("alice") == 0
        crl = certificates.devices.crl(revoked)
        await to_thread.run_sync(write_crl, certificates.folder / "mosquitto", crl)
        process.send_signal(signal.SIGHUP)

        async def is_refused() -> bool:
            try:
                async with raw_client(address, context) as again:
                    await again.connect("alice")
            except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
                return True
            return False

        with anyio.fail_after(5):
            while not await is_refused():  # noqa: ASYNC110 (mosquitto tells nobody when it has read it)
                await anyio.sleep(0.05)
        async with raw_client(address, certificates.devices.client_context("54524C0000000002")) as bob:
            assert await bob.connect("bob") == 0


@every_broker
async def test_a_reply_for_another_request_or_client_is_not_taken(
    open_world: OpenWorld, certificates: Certificates
) -> None:
    async def silent(_request: Inbound) -> Reply:
        await anyio.sleep_forever()
        raise AssertionError

    async with (
        scene(open_world, certificates, silent) as (world, service, _),
        world.device("54524C0000000001") as device,
        anyio.create_task_group() as tasks,
    ):
        answered = anyio.Event()

        async def ask() -> None:
            await device.exchange(REQUEST)
            answered.set()

        tasks.start_soon(ask)
        await until(lambda: service.counters.requests)
        good = cbor.encode([b"12345678", b"body"])
        assert service._connection is not None
        for topic, payload in (
            ("est/alice/meter-ds/sen/accepted", good),
            ("est/alice/meter-ds/sen/accepted", b"\xff"),
            ("est/alice/meter-ds/sen/else", good),
            ("est/alice/meter-ds/dance/accepted", good),
            ("est/bob/meter-ds/sen/accepted", good),
        ):
            await service._connection.publish(topic, payload)
        await until(lambda: device.ignored == 4)
        assert not answered.is_set()
        tasks.cancel_scope.cancel()


@every_broker
async def test_a_broken_off_exchange_leaves_nothing_behind(
    open_world: OpenWorld, certificates: Certificates
) -> None:
    gate = anyio.Event()

    async def slow(request: Inbound) -> Reply:
        await gate.wait()
        return await echo(request)

    async with (
        scene(open_world, certificates, slow) as (world, service, _),
        world.device("54524C0000000001") as device,
    ):
        with anyio.move_on_after(SILENCE) as scope:
            await device.exchange(REQUEST)
        assert scope.cancelled_caught
        assert device._waiters == {}
        gate.set()
        await until(lambda: device.ignored == 1)
        assert isinstance(await device.exchange(REQUEST), Content)
        assert service.counters.requests == 2
