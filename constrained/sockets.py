"""UDP sockets and their addresses: one IPv6 socket, which takes IPv4 as well."""

import socket
from typing import Final

import anyio

RECEIVE_BUFFER_BYTES: Final = 1 << 20
"""Asked of the kernel (which may give less): a burst of a thousand devices fits."""

SockAddr = tuple[str, int, int, int]
"""An IPv6 socket address: host, port, flow information, scope."""

_MAPPED: Final = "::ffff:"
_MAPPED_BYTES: Final = bytes(10) + b"\xff\xff"


async def bind(address: tuple[str, int]) -> socket.socket:
    """Return a UDP socket that is bound to `address`, which must not be in use.

    aiocoap would set SO_REUSEPORT: two servers on one port, each with half of the datagrams.

    Args:
        address: Host (a name, IPv4 or IPv6; "::" is everything) and port (0: any free one).

    Raises:
        OSError: The name is not known, or the address cannot be had.
    """
    resolved = await resolve(*address)
    bound = unbound()
    try:
        # Replies leave from the address that was asked, also where a host has several.
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        bound.bind(resolved)
    except BaseException:
        bound.close()
        raise
    return bound


def unbound() -> socket.socket:
    """Return a UDP socket that gets its port with the first datagram it sends."""
    unbound = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    unbound.setblocking(False)
    unbound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return unbound


async def resolve(host: str, port: int) -> SockAddr:
    """Return the first address of `host`, IPv4 in its IPv6 form.

    Raises:
        OSError: The name is not known.
    """
    found = await anyio.getaddrinfo(
        host,
        port,
        family=socket.AF_INET6,
        type=socket.SOCK_DGRAM,
        flags=socket.AI_V4MAPPED | socket.AI_PASSIVE,
    )
    # anyio writes the scope of a link-local address behind a percent sign.
    name, port = found[0][4]
    name, _, scope = name.partition("%")
    return name, port, 0, int(scope or 0)


def address_of(bound: socket.socket) -> tuple[str, int]:
    """Return where `bound` is, an IPv4 address written as such."""
    host, port = bound.getsockname()[:2]
    return host.removeprefix(_MAPPED), port


def source_of(sockaddr: SockAddr) -> str:
    """Return how `protocol.ports.Inbound` calls the peer at `sockaddr`."""
    host = sockaddr[0].removeprefix(_MAPPED)
    return f"coap:[{host}]:{sockaddr[1]}" if ":" in host else f"coap:{host}:{sockaddr[1]}"


def network_of(sockaddr: SockAddr) -> bytes:
    """Return what of a peer's address cannot be had for nothing: what shares are counted by.

    An IPv4 address is one peer's, or of the many behind one gateway (16 bytes). Of IPv6 addresses a host
    takes as many as it likes in its own network, which is the first half of each (8 bytes).

    Source:
        RFC 4291 §2.5.4.
    """
    packed = socket.inet_pton(socket.AF_INET6, sockaddr[0].partition("%")[0])
    return packed if packed.startswith(_MAPPED_BYTES) else packed[:8]


def is_multicast(pktinfo: bytes) -> bool:
    """Return whether a datagram came to a group (RFC 3542 `in6_pktinfo`: address, interface)."""
    if pktinfo.startswith(_MAPPED_BYTES):
        return pktinfo[12] >> 4 == 14
    return pktinfo[0] == 0xFF
