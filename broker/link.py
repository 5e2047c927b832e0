"""One TCP or TLS connection of the embedded broker, with a bound on all that it may hold.

amqtt reads from and writes to adapters; this one reads whole packets, so that nothing of a packet is
decoded before all of it is here and no packet is longer than allowed (amqtt takes 256 MiB, and on a
malformed packet loses its place in the stream). What is written waits in a buffer that one task
empties, so that a peer that does not read stops nobody, and ends when the buffer is full.
"""

import math
import ssl
from typing import Final, TypeVar

import anyio
from amqtt.adapters import WriterAdapter
from amqtt.mqtt.packet import MQTTFixedHeader
from anyio.abc import ByteStream, SocketAttribute
from anyio.lowlevel import checkpoint
from anyio.streams.tls import TLSAttribute

MAX_PACKET_BYTES: Final = 65536 + 256
"""A reply of 64 KiB with its topic; every request is far below."""
MAX_CONNECT_BYTES: Final = 1024
"""A CONNECT with the longest client-id, a will topic, user name and token."""
MAX_BACKLOG_BYTES: Final = 262144
"""Bytes waiting for a peer that reads slowly: a thousand replies, or four revocation lists."""
_CHUNK: Final = 16384
_TURN: Final = 32
"""Packets of one peer before the others have their turn."""
_FLUSH_SECONDS: Final = 1.0

LOST: Final = (
    anyio.EndOfStream,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.BusyResourceError,
    OSError,
)
"""How anyio says that a connection is over (ssl.SSLError is an OSError)."""


T = TypeVar("T")


class Violation(Exception):
    """The peer broke MQTT, or a limit; its connection is closed without another word."""


class Link(WriterAdapter):  # type: ignore[misc]  # amqtt ships no types
    """Bytes in and out of one peer."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._inbox = bytearray()
        self._outbox = bytearray()
        self._sending = 0
        self._at_once = 0
        self._wake = anyio.Event()

    @property
    def backlog(self) -> int:
        """Bytes that the peer has not taken yet."""
        return len(self._outbox) + self._sending

    @property
    def peer_certificate(self) -> bytes | None:
        """DER of the verified client certificate; None without one, or without TLS."""
        return self._extra(TLSAttribute.peer_certificate_binary)

    def _extra(self, attribute: T) -> T | None:
        return self._stream.extra(attribute, None)  # noqa: S610 (anyio's, not Django's)

    async def read_packet(
        self, max_bytes: int = MAX_PACKET_BYTES, patience: float = math.inf
    ) -> tuple[MQTTFixedHeader, bytes]:
        """Return the next packet: its fixed header, and everything after it.

        Args:
            max_bytes: Longest packet that is taken.
            patience: Longest silence of the peer, in seconds.

        Raises:
            Violation: The packet is longer than `max_bytes`, or its length is malformed.
            One of `LOST`: The connection is over, or was silent for too long.
        """
        while (packet := self._take_packet(max_bytes)) is None:
            self._at_once = 0
            with anyio.fail_after(patience):
                self._inbox += await self._stream.receive(_CHUNK)
        self._at_once += 1
        if self._at_once % _TURN == 0:
            await checkpoint()
        return packet

    def _take_packet(self, max_bytes: int) -> tuple[MQTTFixedHeader, bytes] | None:
        inbox, length, end = self._inbox, 0, 0
        for position in range(1, min(len(inbox), 5)):
            length |= (inbox[position] & 0x7F) << 7 * (position - 1)
            if not inbox[position] & 0x80:
                end = position + 1
                break
        else:
            if len(inbox) >= 5:
                # [MQTT-2.2.3] at most four bytes of length.
                msg = "malformed remaining length"
                raise Violation(msg)
            return None
        if length > max_bytes:
            msg = f"packet of {length} bytes"
            raise Violation(msg)
        if len(inbox) < end + length:
            return None
        header = MQTTFixedHeader(inbox[0] >> 4, inbox[0] & 0x0F, length)
        body = bytes(inbox[end : end + length])
        del inbox[: end + length]
        return header, body

    async def send_forever(self) -> None:
        """Send what is written, until cancelled or the connection is over.

        Raises:
            One of `LOST`.
        """
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            await self._flush()

    async def _flush(self) -> None:
        while self._outbox:
            chunk = bytes(self._outbox)
            self._outbox.clear()
            self._sending = len(chunk)
            await self._stream.send(chunk)
            self._sending = 0

    async def aclose(self) -> None:
        """Send what is left if the peer takes it, then close; never raises but for cancellation."""
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(_FLUSH_SECONDS):
                try:
                    await self._flush()
                except LOST:
                    self._outbox.clear()
            await anyio.aclose_forcefully(self._stream)

    # amqtt's side:

    def write(self, data: bytes) -> None:
        """Queue `data`; raises `Violation` when the peer has left too much unread."""
        if len(self._outbox) + len(data) > MAX_BACKLOG_BYTES:
            msg = "the peer does not read"
            raise Violation(msg)
        self._outbox += data
        self._wake.set()

    async def drain(self) -> None:
        """Return at once: `send_forever` drains."""

    def get_peer_info(self) -> tuple[str, int] | None:
        """Return the peer's address and port."""
        address = self._extra(SocketAttribute.remote_address)
        return (str(address[0]), int(address[1])) if address else None

    def get_ssl_info(self) -> ssl.SSLObject | None:
        """Return the TLS side of the connection."""
        return self._extra(TLSAttribute.ssl_object)

    async def close(self) -> None:
        """Return at once: whoever accepted the connection closes it."""
