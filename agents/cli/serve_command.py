"""`trillium serve`: an authority, its verifier, its CoAP endpoint and its broker in one process.

Opened from the inside out, so that whoever is asked first can answer, and closed the other way: first
nothing new comes in, then what was taken is verified and published, then the store closes.

    authority ─ broker ─ our client of it ─ verifier and mailbox ─ CoAP ─ "ready"
"""

import os
import secrets
import ssl
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio

from agents.authority import AuthorityAgent, BadDirectory, WrongStore, open_authority, read_settings
from agents.authority.reports import open_reports
from agents.cli.addresses import Address, as_text, is_loopback, parse_uri
from agents.cli.broker_files import BrokerFiles
from agents.cli.doorkeeper import Doorkeeper
from agents.cli.ending import stoppable
from agents.cli.failure import REFUSED, USAGE, Failure
from agents.cli.ocsp_listener import listening
from agents.cli.passphrase import passphrase_from
from agents.cli.serve_counts import Counts, print_line
from agents.cli.vouching import open_services, say_what_is_missing
from agents.metering.mailbox import PostOffice
from agents.verifier import Verifier, open_verifier
from broker import embedded
from broker.address import BrokerAddress, Version
from broker.embedded import EmbeddedBroker, TlsListener
from broker.service import Service, serve_authority
from constrained import server as coap_server
from protocol import held
from protocol.errors import ProblemKind, ServiceError, Unreachable
from protocol.labels import Operation
from protocol.metering import mail
from protocol.ports import Inbound, InboundMessage, Reply
from protocol.problem import Problem

EMBEDDED: Final = "embedded"
READER_VARIABLE: Final = "TRILLIUM_READER_PASSWORD"
"""Environment variable with the password of user `reader`, who may read verified messages."""
_NOT_YET: Final = Problem(ProblemKind.UNAVAILABLE, "starting or stopping", 1.0)


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for."""

    directory: Path
    coap: Address | None
    mqtt: Address | None
    mqtts: Address | None
    ocsp: Address | None
    broker: str
    """`EMBEDDED`, or a URI."""
    broker_ca: Path | None
    tls_names: tuple[str, ...]
    expose: bool
    passphrase_file: Path | None
    cps: Path | None
    """Identity folder of the service that signs contract packages of ISO 15118-2."""
    cps20: Path | None
    """Of ISO 15118-20."""
    engine: coap_server.Engine
    stats: float
    """Seconds between two lines of counts; 0 for none."""
    until_eof: bool

    def check(self) -> None:
        """Refuse what cannot work, before anything is opened.

        Raises:
            Failure: Why.
        """
        if self.broker != EMBEDDED:
            scheme, (host, _) = parse_uri(self.broker, "--broker", ("mqtts", "mqtt"))
            if self.mqtt is not None or self.mqtts is not None:
                raise Failure("--mqtt and --mqtts are of the embedded broker; --broker names another", USAGE)
            if scheme == "mqtt" and not is_loopback(host) and not self.expose:
                raise Failure(f"--broker {self.broker}: without TLS on loopback only, or --expose", USAGE)
            return
        if self.coap is None and self.mqtt is None and self.mqtts is None and self.ocsp is None:
            raise Failure("nothing to listen on: --coap, --mqtt, --mqtts or --ocsp", USAGE)
        for option, address in (("--mqtt", self.mqtt), ("--mqtts", self.mqtts)):
            if address is not None and not is_loopback(address[0]) and not self.expose:
                raise Failure(
                    f"{option} {as_text(address)}: the embedded broker is not made for strangers and stays "
                    "on loopback; use mosquitto (trillium broker export mosquitto), or --expose",
                    USAGE,
                )


def run(options: Options, log: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        options: What was asked for.
        log: Starts logging, once it is clear that there will be something to log.

    Raises:
        Failure: It cannot start; nothing is left running.
    """
    options.check()
    try:
        read_settings(options.directory)  # before anybody types a passphrase
        passphrase = passphrase_from(options.passphrase_file)
        log()
        anyio.run(_serve, options, passphrase)
    except* (BadDirectory, WrongStore, Unreachable) as group:
        raise Failure(str(_one(group)), REFUSED) from None


def _one(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


_T = TypeVar("_T")


async def _listen(
    stack: AsyncExitStack, listener: AbstractAsyncContextManager[_T], *options: tuple[str, Address | None]
) -> _T:
    """Open a listener; whatever the system says against it is told with its address."""
    try:
        return await stack.enter_async_context(listener)
    except OSError as error:
        where = " ".join(f"{option} {as_text(address)}" for option, address in options if address is not None)
        raise Failure(f"{where}: {error.strerror or error}", REFUSED) from None


class _Relay:
    """Hands messages to the verifier and mail to the mailbox while there are any, good ones to the broker.

    Args:
        authority: Answers everything else.
    """

    def __init__(self, authority: AuthorityAgent) -> None:
        self.verifier: Verifier | None = None
        self.office: PostOffice | None = None
        self.service: Service | None = None
        self._authority = authority

    async def answer(self, inbound: Inbound) -> Reply:
        """Answer a request: `protocol.ports.Handler`."""
        if inbound.op is not Operation.MAIL:
            return await self._authority.handle(inbound)
        return _NOT_YET if self.office is None else await self.office.handle(inbound)

    async def handle(self, inbound: InboundMessage) -> Problem | None:
        """Take a message: `protocol.ports.MessageHandler`."""
        return _NOT_YET if self.verifier is None else await self.verifier.handle(inbound)

    async def publish(self, stream: str, body: bytes) -> None:
        """Publish a verified message: `agents.verifier.Publish`."""
        if self.service is not None and stream != mail.STREAM:  # letters are for those two alone
            await self.service.publish(f"verified/{stream}", body)

    async def announce(self, name: str, body: bytes) -> bool:
        """Publish an audit head or a revocation list for everybody; return whether the broker took it."""
        if self.service is not None and self.service.is_connected:
            # Who did not get it asks for it; nothing depends on this copy.
            with suppress(ServiceError):
                await self.service.publish(f"pub/{name}", body)
                return True
        return False


async def _serve(options: Options, passphrase: bytes) -> None:
    async with stoppable(until_eof=options.until_eof) as stopped, AsyncExitStack() as stack:
        services = await anyio.to_thread.run_sync(open_services, options.cps, options.cps20, passphrase)
        authority = await stack.enter_async_context(
            open_authority(options.directory, passphrase, services=services)
        )
        await anyio.to_thread.run_sync(say_what_is_missing, authority.labels, services, int(time.time()))
        relay = _Relay(authority)
        ready: list[str] = []
        broker: EmbeddedBroker | None = None
        address: BrokerAddress | None = None
        if options.broker != EMBEDDED:
            address = await anyio.to_thread.run_sync(_external, options, passphrase)
            ready.append(options.broker)
        elif options.mqtt is not None or options.mqtts is not None:
            listener = _embedded(options, authority, passphrase)
            broker = await _listen(stack, listener, ("--mqtt", options.mqtt), ("--mqtts", options.mqtts))
            address = broker.service_address(_to_ourselves() if broker.plain_address is None else None)
            ready += _broker_uris(broker)
        if address is not None:
            relay.service = await stack.enter_async_context(
                serve_authority(relay.answer, broker=address, labels=authority.labels, messages=relay.handle)
            )
            authority.add_listener(relay.announce)
        verifier = await stack.enter_async_context(_verifying(authority, relay))
        if options.coap is not None:
            endpoint = coap_server.serve(
                relay.answer,
                authority.labels,
                bind=options.coap,
                messages=relay.handle,
                engine=options.engine,
            )
            coap = await _listen(stack, endpoint, ("--coap", options.coap))
            ready = [*coap.uris, *ready]
        if options.ocsp is not None:
            responder = listening(authority, options.directory, passphrase, options.ocsp)
            ready.append(await _listen(stack, responder, ("--ocsp", options.ocsp)))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        counts = Counts(authority, verifier, broker)
        print_line(f"ready {' '.join(ready)}")
        if options.stats:
            tasks.start_soon(counts.tell_now_and_then, options.stats)
        await stopped.wait()
        tasks.cancel_scope.cancel()
    if options.stats:
        counts.tell()


@asynccontextmanager
async def _verifying(authority: AuthorityAgent, relay: _Relay) -> AsyncGenerator[Verifier, None]:
    async with (
        open_reports(authority.store, time.time) as reports,
        open_verifier(
            authority.signers,
            relay.publish,
            listeners={held.STREAM: lambda message: reports.take(message.client_id, message.body)},
        ) as verifier,
    ):
        relay.verifier, relay.office = verifier, PostOffice(verifier.verify)
        try:
            yield verifier
        finally:
            relay.verifier = relay.office = None


@asynccontextmanager
async def _embedded(
    options: Options, authority: AuthorityAgent, passphrase: bytes
) -> AsyncGenerator[EmbeddedBroker, None]:
    async with AsyncExitStack() as stack:
        tls: TlsListener | None = None
        doorkeeper = stack.enter_context(Doorkeeper(options.directory))
        if options.mqtts is not None:
            files = BrokerFiles(options.directory, authority.settings)
            host, port = options.mqtts
            certificate, key = await anyio.to_thread.run_sync(
                files.server, (host, *options.tls_names), passphrase
            )
            tls = TlsListener(host, port, certificate, key, files.device_cas(), passphrase)
        broker = await stack.enter_async_context(
            embedded.serve(
                plain=options.mqtt,
                tls=tls,
                identify=doorkeeper.identify,
                service_password=secrets.token_urlsafe(32),
                reader_password=os.environ.get(READER_VARIABLE) or None,
                expose=options.expose,
            )
        )
        tasks = await stack.enter_async_context(anyio.create_task_group())
        if tls is not None:
            tasks.start_soon(doorkeeper.watch, broker.review)
        yield broker
        tasks.cancel_scope.cancel()


def _broker_uris(broker: EmbeddedBroker) -> list[str]:
    listeners = (("mqtt", broker.plain_address), ("mqtts", broker.tls_address))
    return [f"{scheme}://{as_text(address)}" for scheme, address in listeners if address is not None]


def _to_ourselves() -> ssl.SSLContext:
    """Return a TLS context for the way to our own broker, in our own process: nobody is in between."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _external(options: Options, passphrase: bytes) -> BrokerAddress:
    scheme, _ = parse_uri(options.broker, "--broker", ("mqtts", "mqtt"))
    if scheme == "mqtt":
        return BrokerAddress(options.broker, Version.V5)
    settings = read_settings(options.directory)
    files = BrokerFiles(options.directory, settings)
    certificate, key = files.service(passphrase)
    try:
        context = ssl.create_default_context(cafile=str(options.broker_ca or files.root))
        context.load_cert_chain(certificate, key, passphrase)
    except (OSError, ValueError) as error:
        raise Failure(f"--broker {options.broker}: our TLS files cannot be used: {error}", REFUSED) from None
    return BrokerAddress(options.broker, Version.V5, ssl_context=context)
