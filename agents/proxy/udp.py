"""A UDP proxy in front of one server: every peer gets a socket of its own, as behind a NAT.

Sockets are used without waiting: a datagram that the kernel does not take at once is lost, which is
what this proxy is for.
"""

import socket
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final

import anyio
from anyio.abc import TaskGroup, TaskStatus

from agents.proxy.faults import Counts, Faults, Mangler

MAX_PEERS: Final = 1024
"""Peers remembered at once, one socket each; the one that was silent longest makes room."""
MAX_DATAGRAM: Final = 65535
MAX_PER_WAKE: Final = 64
"""Datagrams read from one socket before the others get their turn."""

Address = tuple[str, int]


def _numeric(address: Address, *, passive: bool) -> tuple[socket.AddressFamily, Address]:
    flags = socket.AI_NUMERICSERV | (socket.AI_PASSIVE if passive else 0)
    family, _, _, _, found = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM, flags=flags)[0]
    return family, (str(found[0]), int(found[1]))


@dataclass(slots=True)
class _Peer:
    address: Address
    upstream: socket.socket
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class UdpProxy:
    """A running proxy; made by `serve_udp`."""

    def __init__(self, listening: socket.socket, upstream: Address, faults: Faults, seed: int) -> None:
        self._listening = listening
        self._family, self._upstream = _numeric(upstream, passive=False)
        self.counts = Counts()
        """Datagrams of both directions."""
        # Not for secrets: a seed makes a bad network repeatable.
        self._up: Mangler[tuple[_Peer, bytes]] = Mangler(faults, Random(f"{seed}:up"), self.counts)  # noqa: S311
        self._down: Mangler[tuple[_Peer, bytes]] = Mangler(faults, Random(f"{seed}:down"), self.counts)  # noqa: S311
        self._peers: OrderedDict[Address, _Peer] = OrderedDict()
        self._wake = anyio.Event()

    @property
    def address(self) -> Address:
        """Where devices send to."""
        host, port = self._listening.getsockname()[:2]
        return str(host), int(port)

    async def run(self, tasks: TaskGroup) -> None:
        """Carry datagrams until cancelled; peers' tasks live in `tasks`."""
        tasks.start_soon(self._release)
        while True:
            await anyio.wait_readable(self._listening)
            for _ in range(MAX_PER_WAKE):
                try:
                    datagram, source = self._listening.recvfrom(MAX_DATAGRAM)
                except BlockingIOError:
                    break
                except ConnectionError:
                    continue  # an ICMP error of some peer that is gone
                peer = await self._peer((str(source[0]), int(source[1])), tasks)
                self._send_up(self._up.take((peer, datagram), anyio.current_time()).leaving)
            self._wake.set()

    async def _peer(self, address: Address, tasks: TaskGroup) -> _Peer:
        peer = self._peers.get(address)
        if peer is None:
            while len(self._peers) >= MAX_PEERS:
                _, silent = self._peers.popitem(last=False)
                silent.scope.cancel()
            upstream = socket.socket(self._family, socket.SOCK_DGRAM)
            upstream.setblocking(False)
            upstream.connect(self._upstream)
            peer = self._peers[address] = _Peer(address, upstream)
            await tasks.start(self._receive_down, peer)
        self._peers.move_to_end(address)
        return peer

    async def _receive_down(
        self, peer: _Peer, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        with peer.scope, peer.upstream:
            task_status.started()
            while True:
                await anyio.wait_readable(peer.upstream)
                for _ in range(MAX_PER_WAKE):
                    try:
                        datagram = peer.upstream.recv(MAX_DATAGRAM)
                    except BlockingIOError:
                        break
                    except ConnectionError:
                        continue  # nobody listens upstream just now
                    self._send_down(self._down.take((peer, datagram), anyio.current_time()).leaving)
                self._wake.set()

    async def _release(self) -> None:
        while True:
            self._wake = anyio.Event()
            deadlines = [d for d in (self._up.deadline, self._down.deadline) if d is not None]
            with anyio.move_on_at(min(deadlines, default=float("inf"))):
                await self._wake.wait()
            now = anyio.current_time()
            self._send_up(self._up.due(now))
            self._send_down(self._down.due(now))

    @staticmethod
    def _send_up(items: list[tuple[_Peer, bytes]]) -> None:
        for peer, datagram in items:
            try:
                peer.upstream.send(datagram)
            except OSError:
                continue  # full, refused, or the peer made room: lost

    def _send_down(self, items: list[tuple[_Peer, bytes]]) -> None:
        for peer, datagram in items:
            try:
                self._listening.sendto(datagram, peer.address)
            except OSError:
                continue  # likewise


@asynccontextmanager
async def serve_udp(
    bind: Address, upstream: Address, faults: Faults, *, seed: int = 0
) -> AsyncGenerator[UdpProxy, None]:
    """Run a proxy while the context is open; its socket is bound when the body starts.

    Args:
        bind: Where devices send to; port 0 takes a free one (see `UdpProxy.address`).
        upstream: The server.
        faults: How bad both directions are.
        seed: Makes the decisions repeatable.

    Raises:
        OSError: The address cannot be bound or resolved.
    """
    family, local = _numeric(bind, passive=True)
    with socket.socket(family, socket.SOCK_DGRAM) as listening:
        listening.setblocking(False)
        listening.bind(local)
        proxy = UdpProxy(listening, upstream, faults, seed)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(proxy.run, tasks)
            try:
                yield proxy
            finally:
                tasks.cancel_scope.cancel()
