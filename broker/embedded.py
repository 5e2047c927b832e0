"""The embedded broker: amqtt behind our own front door, on sockets of our own.

For the lab and for one machine. On the plain listener a client-id is merely claimed, so that listener
belongs on loopback; over TLS it is the one that the device's certificate is bound to. Services and
readers say who they are by a password in either case.
"""

import hmac
import ipaddress
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
from amqtt.session import Session
from anyio.abc import ByteStream, SocketAttribute, SocketListener, TaskGroup
from anyio.streams.tls import TLSStream

from broker.access import Identity, Role
from broker.address import BrokerAddress
from broker.front_door import CONNECT_SECONDS, FrontDoor, Secure
from broker.link import Link
from broker.router import Admission, Counters
from broker.topics import check_client_id
from protocol.errors import MalformedMessage

MAX_CONNECTIONS: Final = 2000
"""Open connections, about 90 KiB each over TLS: what one Python process serves before it needs mosquitto."""
BACKLOG: Final = 1024
"""Connections that wait to be accepted: a whole fleet comes back at once after a power cut."""
_ACCEPT_PAUSE: Final = 0.1
"""Seconds before accepting again after the system refused (no file descriptors left)."""

_log: Final = logging.getLogger(__name__)

Identify = Callable[[Sequence[bytes]], Awaitable[Sequence[Identity | None]]]
"""Says which device each verified leaf certificate (DER) names now, in order; None: unknown, or ended.

Awaited with one certificate when a client connects, and with those of all that are when they are reviewed."""


@dataclass(frozen=True, slots=True)
class TlsListener:
    """Where to listen with TLS, and as whom."""

    host: str
    port: int
    """0 takes any free one."""
    certificate_chain: Path
    """PEM, our own certificate first."""
    private_key: Path
    """PEM, PKCS#8, encrypted or not."""
    client_ca: str
    """PEM of the CA certificates that devices' certificates chain to."""
    private_key_password: bytes | None = field(default=None, repr=False)

    def context(self) -> ssl.SSLContext:
        """Return a TLS context that verifies whatever certificate a client shows.

        It does not insist on one: our services come with a password. What has neither is refused by
        the broker.

        Raises:
            OSError: A file cannot be read or does not fit (ssl.SSLError is one).
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate_chain, self.private_key, self.private_key_password)
        context.load_verify_locations(cadata=self.client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        # Manufacturer and operator CAs are trusted for what they are, without their root beside them.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context


@dataclass(frozen=True, slots=True)
class _Passwords:
    """The roles that are opened by a password."""

    service: str = field(repr=False)
    reader: str | None = field(repr=False)

    def role(self, username: str, password: str) -> Role | None:
        expected = {Role.SERVICE.value: self.service, Role.READER.value: self.reader}.get(username)
        if expected is None or not hmac.compare_digest(expected.encode(), password.encode()):
            return None
        return Role(username)


class EmbeddedBroker:
    """A running broker; made by `serve`."""

    def __init__(self, door: FrontDoor, identify: Identify, service_password: str) -> None:
        self._door = door
        self._identify = identify
        self._service_password = service_password
        self.plain_address: tuple[str, int] | None = None
        """Where it listens without TLS."""
        self.tls_address: tuple[str, int] | None = None
        """Where it listens with TLS."""

    @property
    def counters(self) -> Counters:
        """What it saw since it started."""
        return self._door.counters

    def service_address(self, ssl_context: ssl.SSLContext | None = None) -> BrokerAddress:
        """Return how our own services reach it: plainly if it listens so, else over TLS."""
        address = self.plain_address or self.tls_address
        assert address is not None
        scheme = "mqtt" if self.plain_address else "mqtts"
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        return BrokerAddress(
            f"{scheme}://{host}:{address[1]}",
            ssl_context=ssl_context,
            username=Role.SERVICE.value,
            password=self._service_password,
        )

    async def review(self) -> None:
        """Ask again which device each live connection's certificate names, for when some certificate ended.

        A connection whose certificate would not open it any more is closed; the others get the rights that
        their devices have now. Connections without a certificate stay as they are.
        """
        clients = [
            (client, certificate)
            for client in self._door.clients.values()
            if client.admission.role in (Role.NEWCOMER, Role.DEVICE)
            and (certificate := client.link.peer_certificate) is not None
        ]
        identities = await self._identify([certificate for _, certificate in clients])
        for (client, _), identity in zip(clients, identities, strict=True):
            self._door.readmit(client, _device(identity, client.admission.client_id))


async def _nobody(certificates: Sequence[bytes]) -> Sequence[Identity | None]:
    return [None] * len(certificates)


def _device(identity: Identity | None, client_id: str) -> Admission | None:
    if identity is None or identity.client_id != client_id:
        return None
    return Admission(client_id, Role.of(identity.tier), is_proven=True)


async def _admission(
    passwords: _Passwords, identify: Identify, link: Link, session: Session
) -> Admission | None:
    client_id: str = session.client_id
    if session.username is not None:
        role = passwords.role(session.username, session.password or "")
        return None if role is None else Admission(client_id, role, is_proven=True)
    if link.get_ssl_info() is not None:
        certificate = link.peer_certificate
        return None if certificate is None else _device((await identify([certificate]))[0], client_id)
    try:
        return Admission(check_client_id(client_id), Role.DEVICE, is_proven=False)
    except MalformedMessage:
        return None


@asynccontextmanager
async def serve(
    *,
    plain: tuple[str, int] | None = None,
    tls: TlsListener | None = None,
    identify: Identify = _nobody,
    service_password: str,
    reader_password: str | None = None,
    max_connections: int = MAX_CONNECTIONS,
    connect_seconds: float = CONNECT_SECONDS,
    expose: bool = False,
) -> AsyncIterator[EmbeddedBroker]:
    """Run a broker; the body runs once every socket is bound.

    Args:
        plain: Host and port to listen on without TLS; port 0 takes any free one.
        tls: Likewise with TLS.
        identify: Which device a client certificate names; its id must be the client-id.
        service_password: Opens the service's rights to user name `service`: a fresh random token.
        reader_password: Likewise for user name `reader`; None leaves nobody to read verified messages.
        max_connections: More are closed at once.
        connect_seconds: Until when a connection has shown who it is.
        expose: Listen on other addresses than loopback's. This broker is not hardened for that yet.

    Raises:
        ValueError: Neither listener, or one that is not on loopback without `expose`.
        OSError: A socket cannot be bound, or a file of `tls` cannot be read.

    Cancellation: at any point; all connections are closed.
    """
    hosts = [plain[0]] if plain is not None else []
    hosts += [tls.host] if tls is not None else []
    if not hosts:
        msg = "no listener"
        raise ValueError(msg)
    for host in hosts:
        if not expose and not _is_loopback(host):
            msg = f"{host} is not loopback; the embedded broker is not made for strangers (docs/mqtt.md)"
            raise ValueError(msg)
    for name in ("amqtt", "transitions"):
        # They narrate every packet, and log as warnings what any stranger can cause.
        logging.getLogger(name).setLevel(logging.ERROR)
    passwords = _Passwords(service_password, reader_password)
    door = FrontDoor(
        lambda link, session: _admission(passwords, identify, link, session),
        max_connections=max_connections,
        connect_seconds=connect_seconds,
    )
    broker = EmbeddedBroker(door, identify, service_password)
    try:
        async with anyio.create_task_group() as tasks:
            if plain is not None:
                broker.plain_address = await _listen(tasks, door, *plain)
            if tls is not None:
                context = await anyio.to_thread.run_sync(tls.context)
                broker.tls_address = await _listen(tasks, door, tls.host, tls.port, context)
            yield broker
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # One failure, of the start or of the body, is told as itself; tasks raise nothing else.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _listen(
    tasks: TaskGroup, door: FrontDoor, host: str, port: int, context: ssl.SSLContext | None = None
) -> tuple[str, int]:
    async def secure(stream: ByteStream) -> TLSStream:
        # Without the closing handshake: a device that is gone would be waited for.
        return await TLSStream.wrap(stream, server_side=True, ssl_context=context, standard_compatible=False)

    listeners = (await anyio.create_tcp_listener(local_host=host, local_port=port, backlog=BACKLOG)).listeners
    for listener in listeners:
        assert isinstance(listener, SocketListener)
        tasks.start_soon(_accept, tasks, listener, door, secure if context else None)
    address = listeners[0].extra(SocketAttribute.local_address)  # noqa: S610 (anyio's, not Django's)
    return str(address[0]), int(address[1])


async def _accept(
    tasks: TaskGroup,
    listener: SocketListener,
    door: FrontDoor,
    secure: Secure | None,
) -> None:
    async with listener:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                _log.error("cannot accept connections: %s", error)
                await anyio.sleep(_ACCEPT_PAUSE)
            else:
                tasks.start_soon(door.converse, stream, secure)
