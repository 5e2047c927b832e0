"""A service on a broker: admission, lost connections, MQTT 5, and what it does with nonsense."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import gmqtt
import pytest
from anyio.abc import SocketAttribute, SocketStream

from broker.address import BrokerAddress, Version
from broker.client import MqttDevice, connect
from broker.connection import open_connection
from broker.embedded import EmbeddedBroker, serve
from broker.replies import decode_reply, request_id
from broker.service import Service, serve_authority
from broker.topics import Outcome
from protocol import cbor
from protocol.errors import MalformedMessage, ProblemKind, Unreachable
from protocol.labels import Operation
from protocol.ports import Content, DeviceTransport, Inbound, InboundMessage, Outbound, Reply
from protocol.problem import Problem
from tests.integration.mqtt_world import (
    PATIENCE,
    RawClient,
    echo,
    free_port,
    mosquitto,
    needs_mosquitto,
    never_blocking,
    raw_client,
    until,
)

__all__ = ["never_blocking"]

REQUEST = Outbound("meter-ds", Operation.SEN, b"\x84please")


@asynccontextmanager
async def served(handler: Any = echo, **options: Any) -> AsyncIterator[tuple[EmbeddedBroker, Service, str]]:
    async with serve(plain=("127.0.0.1", 0), service_password="secret") as broker:
        assert broker.plain_address is not None
        uri = f"mqtt://127.0.0.1:{broker.plain_address[1]}"
        async with serve_authority(handler, broker=broker.service_address(), **options) as service:
            yield broker, service, uri


@asynccontextmanager
async def raw_device(broker: EmbeddedBroker) -> AsyncIterator[RawClient]:
    async with raw_client(broker.plain_address) as raw:
        assert await raw.connect("device") == 0
        await raw.subscribe("est/device/#")
        yield raw


async def refusal(raw: RawClient, request: bytes) -> Problem:
    """Return the unsigned refusal of `request`."""
    while True:
        topic, payload, _ = await raw.message()
        if topic.endswith("/rejected"):
            ident, reply = decode_reply(Outcome.REJECTED, payload, Operation.SEN)
            assert ident == request_id(request)
            assert isinstance(reply, Problem)
            return reply


async def test_requests_beyond_the_limit_are_refused_at_once_and_later_ones_served() -> None:
    gate = anyio.Event()
    working = 0

    async def slow(request: Inbound) -> Reply:
        nonlocal working
        working += 1
        await gate.wait()
        return await echo(request)

    async def ask(device: Any, number: int, replies: list[Reply]) -> None:
        replies.append(await device.exchange(Outbound("meter-ds", Operation.SEN, b"%d" % number)))

    replies: list[Reply] = []
    async with (
        served(slow, max_in_work=3) as (_, service, uri),
        connect(uri, "device") as device,
        anyio.create_task_group() as tasks,
    ):
        for number in range(5):
            tasks.start_soon(ask, device, number, replies)
        await until(lambda: len(replies) == 2)
        assert working == 3
        for reply in replies:
            assert isinstance(reply, Problem)
            assert reply.kind is ProblemKind.OVERLOADED
            assert reply.retry_after
        assert service.counters.overloaded == 2
        gate.set()
        await until(lambda: len(replies) == 5)
        assert isinstance(await device.exchange(REQUEST), Content)


async def test_a_handler_that_fails_costs_its_own_request_only(caplog: pytest.LogCaptureFixture) -> None:
    async def clumsy(request: Inbound) -> Reply:
        if request.body == b"trip":
            raise KeyError(request.body)
        return await echo(request)

    async with served(clumsy) as (_, service, uri), connect(uri, "device") as device:
        reply = await device.exchange(Outbound("meter-ds", Operation.SEN, b"trip"))
        assert isinstance(reply, Problem)
        assert reply.kind is ProblemKind.UNAVAILABLE
        assert isinstance(await device.exchange(REQUEST), Content)
        assert service.counters.faults == 1
    assert "handler failed" in caplog.text


@pytest.mark.parametrize(
    ("topic", "request_body", "kind"),
    [
        ("est/device/meter-ds/dance", b"", ProblemKind.NOT_FOUND),
        ("est/device/meter-ds/sen", bytes(cbor.MAX_MESSAGE_BYTES + 1), ProblemKind.TOO_LARGE),
        ("est/device/meter-ds/crts", b"a body", ProblemKind.MALFORMED),
    ],
)
async def test_what_needs_no_authority_is_refused_without_it(
    topic: str, request_body: bytes, kind: ProblemKind
) -> None:
    async with served() as (broker, _, _), raw_device(broker) as raw:
        await raw.send(b"")
        await raw.publish(topic, request_body, 0)
        assert (await refusal(raw, request_body)).kind is kind


async def test_a_topic_that_nobody_can_be_answered_on_is_counted_and_left() -> None:
    async with served() as (broker, service, _), raw_device(broker) as raw:
        await raw.publish("est/device/METER/sen", b"x")
        await raw.publish("est/device/meter-ds/SEN", b"x")
        await until(lambda: service.counters.ignored == 2)


async def test_an_authority_answers_its_own_labels_only() -> None:
    async with (
        served(labels=["meter-ds", "meter-ka"]) as (_, service, uri),
        connect(uri, "device") as device,
    ):
        assert isinstance(await device.exchange(REQUEST), Content)
        with anyio.move_on_after(0.3) as scope:
            await device.exchange(Outbound("its-enroll", Operation.SEN, b"x"))
        assert scope.cancelled_caught
        assert service.counters.requests == 1


async def test_a_label_that_is_a_wildcard_is_refused() -> None:
    with pytest.raises(MalformedMessage):
        async with served(labels=["#"]):
            pass


async def test_messages_reach_the_verifier_in_order_and_the_surplus_is_dropped() -> None:
    gate = anyio.Event()
    heard: list[bytes] = []

    async def hear(message: InboundMessage) -> None:
        await gate.wait()
        heard.append(message.body)

    options = {"messages": hear, "max_waiting_messages": 5}
    async with served(None, **options) as (broker, service, uri), connect(uri, "device") as device:
        for number in range(10):
            await device.send_message("readings", b"%d" % number)
        await until(lambda: service.counters.messages == 10)
        gate.set()
        await until(lambda: len(heard) == 6)
        # One in the verifier's hands and five waiting; the broker had acknowledged the others too.
        assert heard == [b"%d" % number for number in range(6)]
        assert service.counters.dropped == 4
        assert broker.counters.dropped == 0


async def test_a_verifier_that_fails_goes_on_with_the_next_message(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[bytes] = []

    async def clumsy(message: InboundMessage) -> None:
        if message.body == b"trip":
            raise KeyError(message.body)
        heard.append(message.body)

    async with served(None, messages=clumsy) as (_, service, uri), connect(uri, "device") as device:
        await device.send_message("readings", b"trip")
        await device.send_message("readings", b"go on")
        await until(lambda: heard == [b"go on"])
        assert service.counters.faults == 1
    assert "message handler failed" in caplog.text


@pytest.mark.parametrize("topic", ["m/device/readings", "verified/+", "verified/a/b", "#", "$SYS/x"])
async def test_a_service_publishes_on_its_own_topics_only(topic: str) -> None:
    async with served() as (_, service, _):
        with pytest.raises(ValueError, match="not ours"):
            await service.publish(topic, b"x")


async def test_a_service_with_a_wrong_password_is_told_at_once() -> None:
    async with serve(plain=("127.0.0.1", 0), service_password="secret") as broker:
        assert broker.plain_address is not None
        wrong = BrokerAddress(
            f"mqtt://127.0.0.1:{broker.plain_address[1]}", username="service", password="wrong"
        )
        with pytest.raises(Unreachable):
            async with serve_authority(echo, broker=wrong):
                pass


async def test_a_service_that_is_not_let_subscribe_is_told_at_once() -> None:
    async with serve(plain=("127.0.0.1", 0), service_password="secret") as broker:
        assert broker.plain_address is not None
        nobody = BrokerAddress(f"mqtt://127.0.0.1:{broker.plain_address[1]}")
        with pytest.raises(Unreachable, match="refuses the subscription"):
            async with serve_authority(echo, broker=nobody, client_id="device"):
                pass


async def test_no_broker_at_all_is_unreachable_for_both_sides() -> None:
    uri = f"mqtt://127.0.0.1:{free_port()}"
    with pytest.raises(Unreachable):
        async with serve_authority(echo, broker=BrokerAddress(uri)):
            pass
    with pytest.raises(Unreachable):
        async with connect(uri, "device"):
            pass


async def test_a_device_is_a_device_transport() -> None:
    async with served() as (_, _, uri), connect(uri, "device") as device:
        transport: DeviceTransport = device
        assert isinstance(await transport.exchange(REQUEST), Content)


@asynccontextmanager
async def listening(answer: Callable[[SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    """Run a server that is no broker."""
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, answer)
        yield f"mqtt://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


async def test_connecting_can_be_cancelled_and_closes_its_socket() -> None:
    ended = anyio.Event()

    async def silent(stream: SocketStream) -> None:
        async with stream:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                while True:
                    await stream.receive()
        ended.set()

    async with listening(silent) as uri:
        with anyio.move_on_after(0.2) as scope:
            async with connect(uri, "device"):
                pass
        assert scope.cancelled_caught
        with anyio.fail_after(PATIENCE):
            await ended.wait()


@pytest.mark.parametrize("answer", [b"", b"\x20\x02\x00\x05", b"\x20\x02\x00\x03", b"HTTP/1.1 400\r\n\r\n"])
async def test_a_server_that_does_not_let_a_device_in_is_unreachable_at_once(answer: bytes) -> None:
    async def curt(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            if answer:
                await stream.send(answer)

    async with listening(curt) as uri:
        with anyio.fail_after(PATIENCE), pytest.raises(Unreachable):
            async with connect(uri, "device"):
                pass


async def test_a_message_that_is_not_acknowledged_before_the_connection_ends_is_unreachable() -> None:
    async def forgetful(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"\x20\x02\x00\x00")
            subscribe = await stream.receive()
            await stream.send(b"\x90\x03" + subscribe[2:4] + b"\x01")
            await stream.receive()

    async with listening(forgetful) as uri, connect(uri, "device") as device:
        with anyio.fail_after(PATIENCE), pytest.raises(Unreachable):
            await device.send_message("readings", b"x")


@pytest.mark.parametrize("uri", ["http://127.0.0.1", "mqtts://127.0.0.1", "mqtt://", "mqtt://host/path"])
async def test_an_address_that_is_none_is_a_value_error(uri: str) -> None:
    with pytest.raises(ValueError, match="mqtt"):
        async with connect(uri, "device"):
            pass


async def test_what_the_body_raises_is_raised_as_itself() -> None:
    with pytest.raises(KeyError):
        async with served():
            raise KeyError


async def test_a_device_whose_broker_is_gone_hears_so_and_comes_back_by_itself(tmp_path: Path) -> None:
    async def never(_request: Inbound) -> Reply:
        await anyio.sleep_forever()
        raise AssertionError

    async with anyio.create_task_group() as tasks:
        async with served(never) as (broker, service, uri):
            port = broker.plain_address[1] if broker.plain_address else 0
            device_context = connect(uri, "device")
            device = await device_context.__aenter__()
            lost = anyio.Event()

            async def ask() -> None:
                with pytest.raises(Unreachable):
                    await device.exchange(REQUEST)
                lost.set()

            tasks.start_soon(ask)
            await until(lambda: service.counters.requests)
        with anyio.fail_after(PATIENCE):
            await lost.wait()
        with pytest.raises(Unreachable):
            await device.exchange(REQUEST)
        with pytest.raises(Unreachable):
            await device.send_message("readings", b"x")
    async with (
        serve(plain=("127.0.0.1", port), service_password="secret") as broker,
        serve_authority(echo, broker=broker.service_address()),
    ):
        assert isinstance(await device.exchange(REQUEST), Content)
        await device_context.__aexit__(None, None, None)


def plain_configuration(folder: Path, port: int) -> Path:
    path = folder / "mosquitto.conf"
    path.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\npersistence false\n"
        "user root\nlog_type error\n"
    )
    return path


@pytest.mark.outside
@needs_mosquitto
async def test_after_a_restart_of_the_broker_the_service_is_subscribed_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    uri = f"mqtt://127.0.0.1:{port}"
    configuration = plain_configuration(tmp_path, port)
    caplog.set_level(logging.WARNING)
    async with anyio.create_task_group() as tasks:
        stop = anyio.Event()
        is_up = anyio.Event()

        async def first_life() -> None:
            async with mosquitto(configuration, port):
                is_up.set()
                await stop.wait()

        tasks.start_soon(first_life)
        await is_up.wait()
        async with (
            serve_authority(echo, broker=BrokerAddress(uri, Version.V5)) as service,
            connect(uri, "device") as device,
        ):
            assert isinstance(await device.exchange(REQUEST), Content)
            stop.set()
            await until(lambda: not service.is_connected)
            with pytest.raises(Unreachable):
                await service.publish("verified/readings", b"x")
            async with mosquitto(configuration, port):
                await until(lambda: service.counters.connections == 2)
                assert isinstance(await device.exchange(REQUEST), Content)
                await service.publish("verified/readings", b"x")
    assert {record.name for record in caplog.records} <= {"broker.service"}


@pytest.mark.outside
@needs_mosquitto
@pytest.mark.parametrize(
    ("wanted", "heard_on"),
    [
        ("est/device/replies", "est/device/replies"),
        ("est/victim/replies", "est/device/meter-ds/sen/accepted"),
        ("est/device/meter-ds/sen", "est/device/meter-ds/sen/accepted"),
    ],
)
async def test_mqtt_5_response_topics_are_honoured_below_the_requesters_own_prefix(
    tmp_path: Path, wanted: str, heard_on: str
) -> None:
    port = free_port()
    address = BrokerAddress(f"mqtt://127.0.0.1:{port}", Version.V5)
    heard: list[tuple[str, bytes, dict[str, Any]]] = []
    async with (
        mosquitto(plain_configuration(tmp_path, port), port),
        serve_authority(echo, broker=address) as service,
        open_connection(address, "device", lambda *delivery: heard.append(delivery)) as device,
    ):
        await device.subscribe("est/+/replies", "est/+/+/+/+")
        await device.send(
            "est/device/meter-ds/sen", b"please", response_topic=wanted, correlation_data=b"\x00\xff"
        )
        await until(lambda: heard)
        topic, payload, properties = heard[0]
        assert topic == heard_on
        assert payload == cbor.encode([request_id(b"please"), b"answer to please"])
        assert properties["correlation_data"] == [b"\x00\xff"]
        assert (("outcome", "accepted") in properties.get("user_property", [])) is (topic == wanted)
        assert service.counters.requests == 1


@pytest.mark.outside
@needs_mosquitto
async def test_no_more_is_in_flight_than_an_mqtt_5_broker_takes(tmp_path: Path) -> None:
    port = free_port()
    address = BrokerAddress(f"mqtt://127.0.0.1:{port}", Version.V5)
    replies: list[Reply] = []

    async def ask(device: MqttDevice, number: int) -> None:
        replies.append(await device.exchange(Outbound("meter-ds", Operation.SEN, b"%d" % number)))

    async with (
        mosquitto(plain_configuration(tmp_path, port), port),
        serve_authority(echo, broker=address) as service,
        connect(address.uri, "device", version=Version.V5) as device,
        anyio.create_task_group() as tasks,
    ):
        for number in range(200):
            tasks.start_soon(ask, device, number)
        await until(lambda: len(replies) == 200)
        assert all(isinstance(reply, Content) for reply in replies)
        assert service.counters.dropped == 0


@pytest.mark.outside
@needs_mosquitto
async def test_services_of_a_group_share_the_requests(tmp_path: Path) -> None:
    port = free_port()
    address = BrokerAddress(f"mqtt://127.0.0.1:{port}", Version.V5)
    async with (
        mosquitto(plain_configuration(tmp_path, port), port),
        serve_authority(echo, broker=address, share="authorities") as one,
        serve_authority(echo, broker=address, share="authorities") as other,
        connect(address.uri, "device") as device,
    ):
        for number in range(20):
            assert isinstance(
                await device.exchange(Outbound("meter-ds", Operation.SEN, b"%d" % number)), Content
            )
        assert one.counters.requests + other.counters.requests == 20
        assert one.counters.requests
        assert other.counters.requests


async def test_gmqtt_still_has_what_the_adapter_relies_on() -> None:
    client = gmqtt.Client("x")
    for name in ("push_message", "remove_message_by_mid", "wait_empty", "clear", "get_all", "is_empty"):
        assert hasattr(client._persistent_storage, name)
