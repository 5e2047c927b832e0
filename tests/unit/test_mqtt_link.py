"""One connection of the embedded broker: whole packets in, a bounded buffer out."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from amqtt.mqtt.packet import MQTTFixedHeader
from anyio.abc import SocketStream

from broker.link import MAX_BACKLOG_BYTES, Link, Violation

PINGREQ = b"\xc0\x00"
LONG = b"\x32\xc8\x01" + bytes(200)


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Link, SocketStream]]:
    """Yield a link and the stream at its other end."""
    ours, theirs = socket.socketpair()
    async with await SocketStream.from_socket(ours) as here, await SocketStream.from_socket(theirs) as there:
        yield Link(here), there


def seen(packet: tuple[MQTTFixedHeader, bytes]) -> tuple[int, int, bytes]:
    header, body = packet
    assert header.remaining_length == len(body)
    return header.packet_type, header.flags, body


async def test_packets_are_cut_out_of_the_stream_however_it_comes() -> None:
    async with pair() as (link, peer):
        await peer.send(PINGREQ + LONG + PINGREQ)
        assert [seen(await link.read_packet()) for _ in range(3)] == [
            (12, 0, b""),
            (3, 2, bytes(200)),
            (12, 0, b""),
        ]

        async def one_by_one() -> None:
            for byte in LONG:
                await peer.send(bytes([byte]))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one_by_one)
            assert seen(await link.read_packet()) == (3, 2, bytes(200))


@pytest.mark.parametrize(
    "wrong", [b"\x30\xff\xff\xff\xff", b"\x30\xff\xff\xff\xff\x01", b"\x30\x81\x80\x04", b"\x10\x65"]
)
async def test_a_length_that_is_malformed_or_too_long_is_refused_before_the_rest_comes(wrong: bytes) -> None:
    async with pair() as (link, peer):
        await peer.send(wrong)
        with pytest.raises(Violation):
            await link.read_packet(100)


async def test_the_longest_packet_is_still_taken() -> None:
    async with pair() as (link, peer):
        await peer.send(b"\x30\x64" + bytes(100))
        assert len((await link.read_packet(100))[1]) == 100


async def test_a_silent_peer_is_waited_for_only_so_long() -> None:
    async with pair() as (link, peer):
        await peer.send(b"\x30")
        with pytest.raises(TimeoutError):
            await link.read_packet(patience=0.05)


async def test_a_peer_with_many_packets_leaves_a_turn_to_the_others() -> None:
    async with pair() as (link, peer):
        await peer.send(PINGREQ * 100)
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await anyio.lowlevel.checkpoint()
                turns += 1

        async with anyio.create_task_group() as tasks:
            await link.read_packet()
            tasks.start_soon(other)
            for _ in range(99):
                await link.read_packet()
            assert turns >= 2
            tasks.cancel_scope.cancel()


async def test_a_peer_that_does_not_read_is_given_up_when_the_buffer_is_full() -> None:
    async with pair() as (link, _peer):
        link.write(bytes(MAX_BACKLOG_BYTES))
        with pytest.raises(Violation):
            link.write(b"x")
        assert link.backlog == MAX_BACKLOG_BYTES


async def test_what_is_written_is_sent_in_order_and_no_longer_counts() -> None:
    async with pair() as (link, peer), anyio.create_task_group() as tasks:
        tasks.start_soon(link.send_forever)
        for each in (b"one ", b"two ", b"three"):
            link.write(each)
        received = b""
        while received != b"one two three":
            received += await peer.receive()
        await anyio.wait_all_tasks_blocked()
        assert link.backlog == 0
        tasks.cancel_scope.cancel()


async def test_closing_sends_what_is_left() -> None:
    async with pair() as (link, peer):
        link.write(b"goodbye")
        await link.aclose()
        assert await peer.receive() == b"goodbye"
        with pytest.raises(anyio.EndOfStream):
            await peer.receive()
