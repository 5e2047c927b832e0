"""What amqtt 0.12.1 does to strangers' advantage, and the embedded broker does not.

Each of the first tests is a defect that was measured in amqtt alone.
"""

import gc
import logging
import random
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives import serialization

from broker.access import Identity
from broker.embedded import EmbeddedBroker, TlsListener, serve
from broker.link import MAX_BACKLOG_BYTES
from broker.router import MAX_IN_FLIGHT, MAX_SUBSCRIPTIONS
from protocol.labels import Tier
from tests.integration.mqtt_world import (
    CONNACK,
    CONNECT,
    PUBLISH,
    SUBACK,
    Certificates,
    RawClient,
    certificates,
    connect_packet,
    never_blocking,
    packet,
    raw_client,
    text,
    until,
)

__all__ = ["certificates", "never_blocking"]

SERVICE = ("service", "secret")
READER = ("reader", "read")


@asynccontextmanager
async def embedded(**options: Any) -> AsyncIterator[EmbeddedBroker]:
    arguments = {"plain": ("127.0.0.1", 0), "service_password": "secret", "reader_password": "read"}
    async with serve(**{**arguments, **options}) as broker:
        yield broker


@asynccontextmanager
async def client(broker: EmbeddedBroker, client_id: str, **options: Any) -> AsyncIterator[RawClient]:
    async with raw_client(broker.plain_address) as raw:
        assert await raw.connect(client_id, **options) == 0
        yield raw


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_retained_message_is_delivered_and_never_kept() -> None:
    async with embedded() as broker, client(broker, "s", login=SERVICE) as service:
        async with client(broker, "early") as early:
            await early.subscribe("pub/#")
            await service.publish("pub/secret", b"once", retain=True)
            assert await early.message() == ("pub/secret", b"once", 1)
        async with client(broker, "late") as late:
            assert await late.hears_nothing()
            await late.subscribe("pub/#")
            assert await late.hears_nothing()


@pytest.mark.parametrize("clean", [True, False])
async def test_a_wrong_password_does_not_touch_the_session_of_whose_name_it_bears(clean: bool) -> None:
    async with (
        embedded() as broker,
        client(broker, "victim", login=SERVICE) as victim,
        client(broker, "device") as device,
    ):
        await victim.subscribe("m/+/+")
        async with raw_client(broker.plain_address) as attacker:
            assert await attacker.connect("victim", login=("service", "wrong"), clean=clean) == 5
        async with raw_client(broker.plain_address) as attacker:
            assert await attacker.connect("victim", clean=clean) == 0
        await device.publish("m/device/readings", b"still heard")
        assert (await victim.message())[1] == b"still heard"


async def test_no_message_is_lost_while_others_subscribe_and_unsubscribe() -> None:
    async with (
        embedded() as broker,
        client(broker, "s", login=SERVICE) as service,
        client(broker, "device") as device,
        client(broker, "restless") as restless,
        anyio.create_task_group() as tasks,
    ):
        await service.subscribe("m/+/+")

        async def come_and_go() -> None:
            while True:
                await restless.subscribe("est/restless/#")
                await restless.send(packet(0xA2, b"\x00\x08" + text("est/restless/#")))
                await restless.expect(0xB0)

        tasks.start_soon(come_and_go)
        for number in range(300):
            await device.publish("m/device/readings", b"%d" % number)
        assert [(await service.message())[1] for _ in range(300)] == [b"%d" % each for each in range(300)]
        tasks.cancel_scope.cancel()


async def test_a_silent_client_is_gone_after_one_and_a_half_keepalives_and_its_will_is_told() -> None:
    async with (
        embedded() as broker,
        client(broker, "s", login=SERVICE) as service,
        client(broker, "silent", keepalive=1, will=("m/silent/last", b"farewell")) as silent,
    ):
        await service.subscribe("m/+/+")
        assert await silent.is_closed()
        assert (await service.message())[:2] == ("m/silent/last", b"farewell")


async def test_a_client_that_says_goodbye_has_no_last_will() -> None:
    async with embedded() as broker, client(broker, "s", login=SERVICE) as service:
        await service.subscribe("m/+/+")
        async with client(broker, "polite", will=("m/polite/last", b"farewell")) as polite:
            await polite.send(b"\xe0\x00")
            assert await polite.is_closed()
        assert await service.hears_nothing()


@pytest.mark.parametrize("beginning", [b"", b"\x10", connect_packet("slow")[:-1]])
async def test_a_connection_that_does_not_finish_its_connect_is_closed(beginning: bytes) -> None:
    async with embedded(connect_seconds=0.2) as broker, raw_client(broker.plain_address) as raw:
        await raw.send(beginning)
        assert await raw.is_closed()


async def test_connections_without_a_good_connect_leave_no_file_open() -> None:
    async with embedded() as broker:
        async with client(broker, "warm"):
            pass
        before = open_files()
        for number in range(300):
            async with raw_client(broker.plain_address) as raw:
                await raw.send(b"\xc0\x00" if number % 2 else b"\x10\x02\x00")
        await until(lambda: broker.counters.connections == 0)
        assert open_files() <= before


async def test_a_huge_packet_is_refused_by_its_length() -> None:
    async with embedded() as broker, client(broker, "device") as device:
        await device.send(packet(PUBLISH, text("m/device/readings"), length=200 << 20))
        assert await device.is_closed()
        async with raw_client(broker.plain_address) as stranger:
            await stranger.send(packet(CONNECT, b"", length=5000))
            assert await stranger.is_closed()
        assert broker.counters.violations == 2


async def test_no_session_is_promised_that_is_not_kept() -> None:
    async with embedded() as broker:
        for _ in range(2):
            async with raw_client(broker.plain_address) as raw:
                await raw.send(connect_packet("device", clean=False))
                assert await raw.expect(CONNACK) == b"\x00\x00"
                await raw.subscribe("est/device/#")


@pytest.mark.parametrize(("sent", "granted", "heard"), [(0, 1, 0), (1, 0, 0), (1, 1, 1), (1, 2, 1)])
async def test_a_message_has_the_lower_of_both_qualities_of_service(
    sent: int, granted: int, heard: int
) -> None:
    async with (
        embedded() as broker,
        client(broker, "s", login=SERVICE) as service,
        client(broker, "device") as device,
    ):
        assert await service.subscribe("m/+/+", granted) == min(granted, 1)
        await device.publish("m/device/readings", b"reading", sent)
        assert (await service.message())[2] == heard


async def test_a_dollar_topic_ends_the_connection_instead_of_crippling_it() -> None:
    async with embedded() as broker, client(broker, "device") as device:
        await device.send(packet(PUBLISH, text("$SYS/x")))
        assert await device.is_closed()


@pytest.mark.parametrize("topic", ["m/other/last", "verified/readings", "est/device/#", ""])
async def test_a_last_will_outside_the_clients_topics_is_refused(topic: str) -> None:
    async with embedded() as broker, raw_client(broker.plain_address) as raw:
        assert await raw.connect("device", will=(topic, b"farewell")) == 5


async def test_one_connection_too_many_is_closed_at_once_and_the_others_go_on() -> None:
    async with embedded(max_connections=2) as broker, client(broker, "one") as one:
        async with client(broker, "two"), raw_client(broker.plain_address) as three:
            assert await three.is_closed()
            assert await one.is_alive()
            assert broker.counters.crowded_out == 1
        await until(lambda: broker.counters.connections == 1)
        async with client(broker, "three"):
            pass


async def test_a_subscriber_that_does_not_read_misses_messages_and_costs_little() -> None:
    async with (
        embedded() as broker,
        client(broker, "deaf", login=READER) as deaf,
        client(broker, "good", login=READER) as good,
        client(broker, "s", login=SERVICE) as service,
    ):
        await deaf.subscribe("verified/#", 0)
        await good.subscribe("verified/#", 0)
        body = bytes(16000)
        # Socket buffers come first; what they do not hold is ours.
        for _ in range(2000):
            await service.publish("verified/readings", body)
            assert (await good.message())[1] == body
            assert broker._door.clients["!reader/deaf"].link.backlog <= MAX_BACKLOG_BYTES
            if broker.counters.dropped > 10:
                break
        assert broker.counters.dropped > 10
        assert await good.is_alive()


async def test_a_subscriber_that_does_not_acknowledge_misses_messages() -> None:
    async with (
        embedded() as broker,
        client(broker, "lazy", login=READER) as lazy,
        client(broker, "s", login=SERVICE) as service,
    ):
        await lazy.subscribe("verified/#", 1)
        for number in range(MAX_IN_FLIGHT + 5):
            body = text("verified/readings") + struct.pack("!H", number + 1) + b"x"
            await service.send(packet(PUBLISH | 2, body))
        await service.is_alive()
        assert broker.counters.dropped == 5
        await lazy.message()


async def test_a_client_may_hold_only_so_many_subscriptions() -> None:
    async with embedded() as broker, client(broker, "device") as device:
        codes = [await device.subscribe(f"pub/{number}") for number in range(MAX_SUBSCRIPTIONS + 1)]
        assert codes == [1] * MAX_SUBSCRIPTIONS + [0x80]
        assert await device.subscribe("pub/0") == 1


async def test_a_service_subscribes_once_for_each_of_many_labels() -> None:
    async with embedded() as broker, client(broker, "s", login=SERVICE) as service:
        labels = [f"est/+/label-{number}/+" for number in range(4 * MAX_SUBSCRIPTIONS)]
        assert [await service.subscribe(label) for label in labels] == [1] * len(labels)


@pytest.mark.parametrize(
    "topic_filter", ["#", "est/other/#", "pub/a#", "pub/#/b", "$share/all/pub/#", "$SYS/#"]
)
async def test_a_subscription_outside_the_rules_is_refused(topic_filter: str) -> None:
    async with embedded() as broker, client(broker, "device") as device:
        assert await device.subscribe(topic_filter) == 0x80
        assert await device.is_alive()


async def test_nothing_stays_of_a_client_that_is_gone() -> None:
    async with embedded() as broker:
        async with client(broker, "device") as device:
            await device.subscribe("est/device/#")
            await device.subscribe("pub/#")
        await until(lambda: broker.counters.connections == 0)
        door = broker._door
        assert (door.clients, door._sessions, door._subscriptions, door._index) == ({}, {}, {}, {})


async def test_the_same_device_again_ends_its_older_connection() -> None:
    async with embedded() as broker, client(broker, "device") as old:
        await old.subscribe("pub/#")
        async with client(broker, "device") as new, client(broker, "s", login=SERVICE) as service:
            assert await old.is_closed()
            await new.subscribe("pub/#")
            await service.publish("pub/news", b"for all")
            assert (await new.message())[1] == b"for all"


async def test_a_device_cannot_take_the_name_of_a_service() -> None:
    async with (
        embedded() as broker,
        client(broker, "same", login=SERVICE) as service,
        client(broker, "same"),
    ):
        assert await service.is_alive()


async def test_who_only_claims_a_name_cannot_push_out_who_proved_it(certificates: Certificates) -> None:
    listener = TlsListener(
        "127.0.0.1", 0, certificates.server_chain, certificates.server_key, certificates.devices.pem.decode()
    )

    async def identify(_certificates: Sequence[bytes]) -> list[Identity]:
        return [Identity("device", Tier.PARTICIPATION)]

    async with (
        embedded(tls=listener, identify=identify) as broker,
        raw_client(broker.tls_address, certificates.devices.client_context("device")) as proven,
        raw_client(broker.plain_address) as claimed,
    ):
        assert await proven.connect("device") == 0
        assert await claimed.connect("device") == 5
        assert await proven.is_alive()


async def test_a_private_key_may_be_encrypted(certificates: Certificates, tmp_path: Path) -> None:
    plain = serialization.load_pem_private_key(certificates.server_key.read_bytes(), None)
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        plain.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"open"),
        )
    )
    arguments = "127.0.0.1", 0, certificates.server_chain, encrypted, certificates.devices.pem.decode()
    async with (
        embedded(tls=TlsListener(*arguments, b"open")) as broker,
        raw_client(broker.tls_address, certificates.devices.client_context(None)) as raw,
    ):
        assert await raw.connect("s", login=SERVICE) == 0
    with pytest.raises(OSError, match=r".") as failure:
        async with embedded(tls=TlsListener(*arguments, b"wrong")):
            pass
    assert "wrong" not in str(failure.value)


@pytest.mark.parametrize(
    ("login", "code"),
    [(("service", "wrong"), 5), (("service", ""), 5), (("reader", "secret"), 5), (("admin", "secret"), 5)],
)
async def test_a_wrong_user_or_password_is_refused(login: tuple[str, str], code: int) -> None:
    async with embedded() as broker, raw_client(broker.plain_address) as raw:
        assert await raw.connect("x", login=login) == code
        assert await raw.is_closed()


async def test_without_a_readers_password_there_is_no_reader() -> None:
    async with embedded(reader_password=None) as broker, raw_client(broker.plain_address) as raw:
        assert await raw.connect("x", login=("reader", "None")) == 5


@pytest.mark.parametrize("client_id", ["a/b", "+", "#", "a b", "\u00e9", "a" * 65, ""])
async def test_a_client_id_of_other_characters_is_refused(client_id: str) -> None:
    async with embedded() as broker, raw_client(broker.plain_address) as raw:
        assert await raw.connect(client_id) == 5


async def test_mqtt_5_is_told_that_it_is_not_spoken() -> None:
    async with embedded() as broker, raw_client(broker.plain_address) as raw:
        assert await raw.connect("device", level=5) == 1
        assert await raw.is_closed()


async def test_a_qos_2_message_is_delivered_once_however_often_it_is_sent() -> None:
    async with (
        embedded() as broker,
        client(broker, "s", login=SERVICE) as service,
        client(broker, "device") as device,
    ):
        await service.subscribe("m/+/+")
        once = packet(PUBLISH | 4, text("m/device/readings") + b"\x00\x05once")
        for _ in range(3):
            await device.send(once)
            assert await device.expect(0x50) == b"\x00\x05"
        await device.send(b"\x62\x02\x00\x05")
        assert await device.expect(0x70) == b"\x00\x05"
        assert (await service.message())[1] == b"once"
        assert await service.hears_nothing()
        await device.send(once)
        assert (await service.message())[1] == b"once"


@pytest.mark.parametrize(
    "wrong",
    [
        connect_packet("again"),
        b"\x00\x00",
        b"\xf0\x00",
        b"\x20\x02\x00\x00",
        b"\xc1\x00",
        b"\x80\x06\x00\x01" + text("a") + b"\x01",
        packet(PUBLISH | 6, text("m/device/readings") + b"\x00\x01x"),
        packet(PUBLISH | 2, text("m/device/+") + b"\x00\x01x"),
        packet(PUBLISH, b"\x00\x00x"),
        packet(PUBLISH, b"\xff\xffx"),
        packet(PUBLISH, b""),
        b"\x30\xff\xff\xff\xff\x7f",
        b"\x40\x01\x00",
        b"\x82\x00",
    ],
    ids=bytes.hex,
)
async def test_a_packet_against_the_rules_ends_the_connection(wrong: bytes) -> None:
    async with embedded() as broker, client(broker, "device") as device:
        await device.send(wrong)
        assert await device.is_closed()
        assert broker.counters.violations == 1


async def test_after_hundreds_of_malformed_connections_it_serves_as_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    chance = random.Random(5)
    packets = [
        connect_packet("fuzz", login=("service", "x"), will=("m/fuzz/last", b"x")),
        packet(0x82, b"\x00\x01" + text("est/fuzz/#") + b"\x01"),
        packet(0xA2, b"\x00\x01" + text("est/fuzz/#")),
        packet(PUBLISH | 2, text("m/fuzz/readings") + b"\x00\x01x"),
        b"\x40\x02\x00\x01",
        b"\x62\x02\x00\x01",
        b"\xc0\x00",
    ]

    def mangled() -> bytes:
        data = bytearray(chance.choice(packets))
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        return bytes(data[: chance.randint(1, len(data))] if chance.random() < 0.3 else data)

    async with embedded(connect_seconds=1) as broker:
        async with client(broker, "warm"):
            pass
        before = open_files()
        for number in range(600):
            async with raw_client(broker.plain_address) as raw:
                await raw.send(connect_packet("fuzz") if number % 2 else b"")
                await raw.send(b"".join(mangled() for _ in range(chance.randint(1, 3))))
                if chance.random() < 0.5:
                    await raw.send(chance.randbytes(20))
        await until(lambda: broker.counters.connections == 0)
        assert open_files() <= before
        async with client(broker, "s", login=SERVICE) as service, client(broker, "device") as device:
            assert await service.subscribe("m/+/+") == 1
            await device.publish("m/device/readings", b"reading")
            assert (await service.message())[1] == b"reading"
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "broker.example"])
async def test_it_does_not_listen_to_strangers_unless_told_so(host: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        async with embedded(plain=(host, 0)):
            pass


async def test_a_port_that_is_taken_is_told_as_itself() -> None:
    async with embedded() as broker:
        with pytest.raises(OSError, match="ddress already in use"):
            async with embedded(plain=broker.plain_address):
                pass


async def test_what_the_body_raises_is_raised_as_itself() -> None:
    with pytest.raises(KeyError):
        async with embedded() as broker, client(broker, "device"):
            raise KeyError


async def test_the_password_is_not_shown() -> None:
    async with embedded() as broker:
        assert "secret" not in repr(broker.service_address())


async def test_subscriptions_are_acknowledged_in_one_packet() -> None:
    async with embedded() as broker, client(broker, "device") as device:
        await device.send(packet(0x82, b"\x00\x07" + text("pub/#") + b"\x01" + text("m/#") + b"\x00"))
        assert await device.expect(SUBACK) == b"\x00\x07\x01\x80"
