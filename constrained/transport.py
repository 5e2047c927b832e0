"""aiocoap's UDP transport and message layer, made safe to stand before strangers.

Subclasses at the seams of aiocoap 0.4.17: the message interface, the message manager and the remote
address. Nothing of the library is patched. What is bounded here has no bound there: `docs/coap.md`.
"""

import asyncio
import socket
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

from aiocoap import Message
from aiocoap.message import Direction
from aiocoap.messagemanager import MessageManager
from aiocoap.numbers.constants import Unreliable
from aiocoap.numbers.types import ACK, CON, RST
from aiocoap.numbers.types import Type as LibraryType
from aiocoap.optiontypes import OpaqueOption
from aiocoap.tokenmanager import TokenManager
from aiocoap.transports.udp6 import MessageInterfaceUDP6, UDP6EndpointAddress
from aiocoap.util import socknumbers

from constrained.quiet import QuietLog
from constrained.shelf import Shelf
from constrained.sockets import is_multicast, source_of
from constrained.wire import MAX_DATAGRAM_BYTES, Datagram, decode
from protocol.errors import MalformedMessage

EXCHANGE_LIFETIME: Final = 247.0
"""Seconds in which a message ID stands for one message (RFC 7252 §4.8.2)."""
_IF_MATCH: Final = 1
"""Critical and never understood here: it stands for whatever was refused in a message."""


def fill(message: Any, options: Iterable[tuple[int, bytes]]) -> Any:  # noqa: ANN401 (aiocoap is untyped)
    """Add `options` to an aiocoap message and return it.

    They stay bytes under plain numbers: aiocoap would keep every number that it is shown for ever, and
    has no use for the values.
    """
    for number, value in options:
        message.opt.add_option(OpaqueOption(number, value))
    return message


def datagram_of(message: Any) -> Datagram:  # noqa: ANN401
    """Return what an aiocoap message, filled by `fill`, says."""
    options = tuple((option.number, option.value) for option in message.opt.option_list())
    refused = _IF_MATCH if any(number == _IF_MATCH for number, _ in options) else None
    return Datagram(
        message.mtype, message.code, message.mid, message.token, options, message.payload, refused
    )


class Peer(UDP6EndpointAddress):  # type: ignore[misc]  # aiocoap is untyped
    """A remote address that answers cheaply: aiocoap asks it twenty times per message."""

    def __init__(self, sockaddr: Any, interface: Any, *, pktinfo: bytes | None = None) -> None:  # noqa: ANN401
        super().__init__(sockaddr, interface, pktinfo=pktinfo)
        self._hash = hash(sockaddr[:-1])

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or bool(super().__eq__(other))

    @property
    def source(self) -> str:
        """As in `protocol.ports.Inbound`."""
        return source_of(self.sockaddr)

    @property
    def is_multicast(self) -> bool:
        """Always False: nothing is sent to groups."""
        return False

    @property
    def is_multicast_locally(self) -> bool:
        """Always False: what comes to a group is dropped by `Transport`."""
        return False


class Transport(MessageInterfaceUDP6):  # type: ignore[misc]  # aiocoap is untyped
    """The socket. What is not CoAP, or not for us, is dropped here without a log line."""

    takes_requests = True

    @classmethod
    async def open(cls, bound: socket.socket, manager: Any, log: QuietLog) -> Any:  # noqa: ANN401
        """Return the transport over `bound` (`constrained.sockets.bind`)."""
        transport = await cls._create_transport_endpoint(bound, manager, log, asyncio.get_running_loop())
        if cls.takes_requests:
            # With it, Linux reports one peer's closed port to whoever is answered next, and that
            # answer is lost (seen with 0.4.17); ICMP errors are easily forged besides.
            bound.setsockopt(socket.IPPROTO_IPV6, socknumbers.IPV6_RECVERR, 0)
            bound.setsockopt(socket.IPPROTO_IP, socknumbers.IP_RECVERR, 0)
        return transport

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401
        """Take the transport, and make it read one byte more than is allowed."""
        transport.max_size = MAX_DATAGRAM_BYTES + 1
        super().connection_made(transport)

    def datagram_msg_received(
        self,
        data: bytes,
        ancdata: Sequence[tuple[int, int, bytes]],
        flags: int,
        address: Any,  # noqa: ANN401
    ) -> None:
        """Read one datagram."""
        pktinfo = ancdata[0][2] if ancdata else None
        if pktinfo is not None and is_multicast(pktinfo):
            return
        try:
            datagram = decode(data)
        except MalformedMessage:
            self.log.debug("dropped a datagram that is not CoAP")
            return
        if 0 < datagram.code < 32 and not self.takes_requests:
            return
        if flags & socket.MSG_TRUNC:
            # The rest is gone for good; a body as long as the buffer is over every limit.
            datagram = datagram._replace(payload=data)
        self._dispatch(datagram, Peer(address, self, pktinfo=pktinfo))

    def _dispatch(self, datagram: Datagram, peer: Peer) -> None:
        message = Message(code=datagram.code, payload=datagram.payload)
        message.mtype = LibraryType(datagram.type)
        message.mid, message.token = datagram.mid, datagram.token
        message.remote, message.direction = peer, Direction.INCOMING
        fill(message, datagram.options if datagram.refused is None else [(_IF_MATCH, b"")])
        try:
            self._ctx.dispatch_message(message)
        except Exception as error:  # noqa: BLE001 (aiocoap asserts on what peers may send)
            self.log.warning("a datagram was too much for aiocoap: %s: %s", type(error).__name__, error)

    def send_again(self, datagram: bytes, peer: Peer) -> None:
        """Send what was sent before."""
        local = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, peer.pktinfo)] if peer.pktinfo else []
        self.transport.sendmsg(datagram, local, 0, peer.sockaddr)

    def datagram_errqueue_received(self, *args: Any) -> None:  # noqa: ANN401
        """Pass on an ICMP error; aiocoap asserts where a network decides."""
        try:
            super().datagram_errqueue_received(*args)
        except Exception as error:  # noqa: BLE001
            self.log.warning("an ICMP error was too much for aiocoap: %s: %s", type(error).__name__, error)


class DeviceEnd(Transport):
    """The socket of a device: it asks, and answers nobody."""

    takes_requests = False


class Messages(MessageManager):  # type: ignore[misc]  # aiocoap is untyped
    """The message layer, remembering a bounded number of exchanges and without a timer for each.

    Args:
        tokens: The layer above.
        exchanges: As in `Limits`.
        unacknowledged: As in `Limits`.
    """

    def __init__(self, tokens: TokenManager, exchanges: int, unacknowledged: int) -> None:
        super().__init__(tokens)
        self._unacknowledged = unacknowledged
        self._recent: Shelf[tuple[Peer, int], tuple[bytes, bytes]] = Shelf(exchanges, EXCHANGE_LIFETIME)

    def _deduplicate_message(self, message: Any) -> bool:  # noqa: ANN401
        key = (message.remote, message.mid)
        earlier = self._recent.get(key)
        # A device that lost its memory may count message IDs anew; its token then differs.
        if earlier is None or earlier[0] != message.token:
            self._recent.put(key, (message.token, b""))
            return False
        if message.mtype is CON and earlier[1]:
            self.message_interface.send_again(earlier[1], message.remote)
        return True

    def _store_response_for_duplicates(self, message: Any) -> None:  # noqa: ANN401
        # Only these carry the peer's message ID; a message of ours may have an equal one by chance.
        if message.mtype is ACK or message.mtype is RST:
            key = (message.remote, message.mid)
            earlier = self._recent.get(key)
            if earlier is not None:
                # Bytes: the message would keep its request and their options alive, 3 KiB of them.
                self._recent.put(key, (earlier[0], message.encode()))

    def send_message(self, message: Any, messageerror_monitor: Any) -> Any:  # noqa: ANN401
        """Send `message`.

        A separate response goes as NON where repeating it would need a queue. One that carries
        No-Response is not wanted: it is acknowledged only (0.4.17 raises its own deprecation there).
        """
        if message.code.is_response():
            if message.opt.no_response is not None:
                self._acknowledge_only(message)
                return None
            if self._active_exchanges is not None and (
                message.remote in self._backlogs or len(self._active_exchanges) >= self._unacknowledged
            ):
                message.transport_tuning = _UNRELIABLE
        super().send_message(message, messageerror_monitor)
        return partial(self._give_up, message) if message.mtype is CON else None

    def _give_up(self, message: Any) -> None:  # noqa: ANN401
        """Stop repeating `message`: it is answered, or nobody wants the answer any more.

        0.4.17 goes on, and makes the next request to the same server wait until it has given up.
        """
        if self._active_exchanges is None:
            return
        remote = message.remote
        _, repeat = self._active_exchanges.pop((remote, message.mid), (None, None))
        if repeat is not None:
            repeat.cancel()
            self._continue_backlog(remote)
        elif remote in self._backlogs:
            self._backlogs[remote] = [entry for entry in self._backlogs[remote] if entry[0] is not message]

    def _acknowledge_only(self, response: Any) -> None:  # noqa: ANN401
        mid, handle = self._piggyback_opportunities.pop((response.remote, response.token), (None, None))
        if handle is not None:
            handle.cancel()
            self._send_empty_ack(response.remote, mid, "no response is wanted")


_UNRELIABLE: Final = Unreliable()
