"""The proxies on real sockets."""

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import SocketAttribute, SocketStream

from agents.proxy import Faults, serve_mqtt, serve_udp
from agents.proxy.mqtt_packets import PacketReader, puback

LOOPBACK = "127.0.0.1"


@asynccontextmanager
async def udp_echo() -> AsyncGenerator[tuple[str, int]]:
    """A server that sends every datagram back to where it came from."""
    async with (
        await anyio.create_udp_socket(family=socket.AF_INET, local_host=LOOPBACK) as server,
        anyio.create_task_group() as tasks,
    ):

        async def echo() -> None:
            async for datagram, (host, port) in server:
                await server.sendto(datagram, host, port)

        tasks.start_soon(echo)
        yield LOOPBACK, server.extra(SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


async def test_datagrams_come_back_to_whoever_sent_them() -> None:
    async with udp_echo() as upstream, serve_udp((LOOPBACK, 0), upstream, Faults()) as proxy:
        async with (
            await anyio.create_connected_udp_socket(*proxy.address) as one,
            await anyio.create_connected_udp_socket(*proxy.address) as two,
        ):
            for n in range(50):
                await one.send(b"one %d" % n)
                await two.send(b"two %d" % n)
            with anyio.fail_after(5):
                assert [await one.receive() for _ in range(50)] == [b"one %d" % n for n in range(50)]
                assert [await two.receive() for _ in range(50)] == [b"two %d" % n for n in range(50)]
        assert proxy.counts.passed == 200


async def test_a_bad_network_loses_some_and_repeats_some_and_what_comes_back_was_sent() -> None:
    faults = Faults.of_loss(0.3)
    async with udp_echo() as upstream, serve_udp((LOOPBACK, 0), upstream, faults, seed=3) as proxy:
        async with await anyio.create_connected_udp_socket(*proxy.address) as device:
            got: list[bytes] = []
            for n in range(80):
                await device.send(b"%d" % n)
            with anyio.move_on_after(1.0):
                while True:
                    got.append(await device.receive())
        numbers = [int(datagram) for datagram in got]
        assert set(numbers) < set(range(80))
        assert len(numbers) > len(set(numbers))
        assert numbers != sorted(numbers)
        assert proxy.counts.dropped > 0


async def test_a_server_that_is_down_is_only_loss() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((LOOPBACK, 0))
        nobody = taken.getsockname()
    async with (
        serve_udp((LOOPBACK, 0), nobody, Faults()) as proxy,
        await anyio.create_connected_udp_socket(*proxy.address) as device,
    ):
        for _ in range(5):
            await device.send(b"anybody?")
            await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0.05) as scope:
            await device.receive()
        assert scope.cancelled_caught


@asynccontextmanager
async def acknowledging_broker() -> AsyncGenerator[tuple[tuple[str, int], list[bytes]]]:
    """Answers every QoS 1 PUBLISH with its PUBACK, as far as this test's packets go."""
    listener = await anyio.create_tcp_listener(local_host=LOOPBACK)
    seen: list[bytes] = []

    async def handle(stream: SocketStream) -> None:
        reader = PacketReader()
        async with stream:
            try:
                async for data in stream:
                    for packet in reader.feed(data):
                        seen.append(packet)
                        if packet[0] >> 4 == 3:
                            await stream.send(puback(int.from_bytes(packet[5:7], "big")))
            except anyio.BrokenResourceError:
                return

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield (LOOPBACK, listener.extra(SocketAttribute.local_port)), seen
        tasks.cancel_scope.cancel()


def publish(packet_id: int) -> bytes:
    return b"\x32\x06\x00\x01t" + packet_id.to_bytes(2, "big") + b"x"


async def test_every_publish_is_acknowledged_once_through_a_lossy_proxy() -> None:
    async with (
        acknowledging_broker() as (broker, seen),
        serve_mqtt((LOOPBACK, 0), broker, Faults.of_loss(0.4), seed=2) as proxy,
        await anyio.connect_tcp(*proxy.address) as client,
    ):
        reader = PacketReader()
        acknowledged: list[int] = []
        with anyio.fail_after(5):
            for packet_id in range(1, 61):
                await client.send(publish(packet_id))
            while len(acknowledged) < 60:
                packets = reader.feed(await client.receive())
                acknowledged += [int.from_bytes(packet[2:4], "big") for packet in packets]
            # Nothing follows: the next answer is to the next question.
            await client.send(b"\xe0\x00")
    assert sorted(acknowledged) == list(range(1, 61))
    assert 0 < proxy.counts.dropped < 60
    assert proxy.counts.repeated > 0
    delivered = [int.from_bytes(p[5:7], "big") for p in seen if p[0] >> 4 == 3]
    assert len(set(delivered)) == 60 - proxy.counts.dropped


async def is_closed(client: SocketStream) -> bool:
    with anyio.move_on_after(5):
        try:
            await client.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return True
    return False


async def test_a_broker_that_is_down_closes_the_connection() -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        nobody = taken.getsockname()
    async with (
        serve_mqtt((LOOPBACK, 0), nobody, Faults()) as proxy,
        await anyio.connect_tcp(*proxy.address) as client,
    ):
        assert await is_closed(client)


async def test_bytes_that_are_no_mqtt_close_the_connection() -> None:
    async with (
        acknowledging_broker() as (broker, _),
        serve_mqtt((LOOPBACK, 0), broker, Faults()) as proxy,
        await anyio.connect_tcp(*proxy.address) as client,
    ):
        await client.send(b"\x30\xff\xff\xff\xff\xff")
        assert await is_closed(client)
