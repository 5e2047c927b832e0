"""The authority agent: opens a directory and answers requests, for all of its domains, until it is closed."""

import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import anyio
from anyio import CapacityLimiter, to_thread
from sqlalchemy.exc import SQLAlchemyError

from agents.authority import audit, shelf
from agents.authority.desk import UNAVAILABLE, Desk
from agents.authority.directory import SignerDirectory
from agents.authority.domain import DomainAuthority, load_domain, registration_keys
from agents.authority.door import Door
from agents.authority.layout import BadDirectory, Layout, Settings, read_settings, readable_roots
from agents.authority.packing import NO_SERVICES, Services
from agents.authority.publisher import Listener, Publisher
from agents.authority.quota import Limits
from agents.authority.reach_counts import ReachCounts
from agents.authority.readiness import Readiness
from agents.authority.revocation import RevocationList, Revocations
from agents.authority.store import Store
from agents.authority.tally import Tally
from agents.authority.verification import Verifier
from protocol.errors import MalformedMessage, ProblemKind
from protocol.exchange.authority import MAX_REQUEST_BYTES
from protocol.labels import Domain, Operation
from protocol.ports import Content, Inbound, Media, Reply
from protocol.problem import Problem
from protocol.profiles import Form, profile_of

CRL_FRESH: Final = 0.5
"""Seconds for which a revocation list is given out without another look at the store."""
_MAX_SEEN: Final = 256
"""Forms of revocation lists that are given out so; beyond, all are looked for again."""
_LAST_WORDS: Final = 10.0
"""Seconds that publishing may take when the authority closes."""
_NOT_FOUND: Final = Problem(ProblemKind.NOT_FOUND, "no such label or operation here")
_TOO_LARGE: Final = Problem(ProblemKind.TOO_LARGE, f"more than {MAX_REQUEST_BYTES} bytes")
_NO_DER: Final = Problem(ProblemKind.UNSUPPORTED_FORMAT, "a native certificate has no DER form")


class AuthorityAgent:
    """An open authority; made by `open_authority`.

    Attributes:
        labels: What can be asked for.
        authorities: One per domain, with its public material.
        store: For the management functions (`agents.authority.inventory`).
        signers: For the verifier.
        tally: What was decided since it opened.
    """

    def __init__(
        self,
        settings: Settings,
        authorities: Mapping[Domain, DomainAuthority],
        store: Store,
        layout: Layout,
        limits: Limits,
        clock: Callable[[], float],
        services: Services = NO_SERVICES,
    ) -> None:
        self.settings: Final = settings
        self.authorities: Final = authorities
        self.store: Final = store
        self.signers: Final = SignerDirectory(store, clock)
        self.tally: Final = Tally()
        self._clock = clock
        self._verifier = Verifier()
        self.desk: Final = Desk(
            store, tuple(authorities.values()), limits, clock, self.tally, self._verifier, services
        )
        self.door: Final = Door(self.desk.process, limits)
        generated = {
            label: a
            for a in authorities.values()
            for label, place in a.places.items()
            if place.profile.is_key_generated
        }
        self.readiness: Final = Readiness(
            store, generated, self.desk.provision, clock, lambda: self.door.in_work > 0
        )
        """Makes contracts before anybody asks."""
        self._by_label = {label: a for a in authorities.values() for label in a.places}
        self.labels: Final = tuple(self._by_label)
        self._revocations = {
            domain: Revocations(store, authority, layout.crl(domain))
            for domain, authority in authorities.items()
        }
        first = next(iter(authorities.values()))
        self.reach: Final = ReachCounts(store)
        self._publisher = Publisher(
            layout, store, first.registrar, self._revocations, self.tally, self.reach, clock
        )
        self._certificates = {
            (domain, is_der): shelf.certificates_der(a) if is_der else shelf.certificates(a)
            for domain, a in authorities.items()
            for is_der in (False, True)
        }
        self._templates = {label: shelf.template(profile_of(label)) for label in self.labels}
        self._crl_limiter = CapacityLimiter(1)
        self._crl_seen: dict[tuple[Domain, Media, int | None], tuple[float, RevocationList]] = {}

    async def handle(self, inbound: Inbound) -> Reply:
        """Answer one request: `protocol.ports.Handler`."""
        authority = self._by_label.get(inbound.label)
        if authority is None:
            return self.desk.turn_away(inbound, _NOT_FOUND)
        match inbound.op:
            case Operation.CRTS:
                return self._certificates[authority.domain, inbound.accept is Media.PKCS7_CERTS_ONLY]
            case Operation.ATT:
                return self._templates[inbound.label]
            case Operation.CRL:
                return await self._crl(authority, inbound)
            case _:
                pass
        if (
            inbound.accept in shelf.DER_FORMS
            and inbound.op in (Operation.SEN, Operation.SREN)
            and profile_of(inbound.label).form is Form.NATIVE
        ):
            return self.desk.turn_away(inbound, _NO_DER)
        if len(inbound.body) > MAX_REQUEST_BYTES:
            return self.desk.turn_away(inbound, _TOO_LARGE)
        reply = await self.door.ask(inbound)
        return shelf.as_asked(reply, inbound.accept) if isinstance(reply, Content) else reply

    async def _crl(self, authority: DomainAuthority, inbound: Inbound) -> Reply:
        media = Media.C509_CRL if inbound.accept is Media.C509_CRL else Media.PKIX_CRL
        try:
            found = await self._find_crl(authority.domain, media, inbound.base)
        except (SQLAlchemyError, OSError):
            return UNAVAILABLE
        channel = inbound.source.partition(":")[0]
        self.reach.fetched(authority.key_id, channel, found.number, int(self._clock()))
        return Content(found.encoded, found.media, found.etag)

    async def _find_crl(self, domain: Domain, media: Media, base: int | None) -> RevocationList:
        key = domain, media, base
        seen = self._crl_seen.get(key)
        if seen is not None and time.monotonic() - seen[0] < CRL_FRESH:
            return seen[1]
        async with self._crl_limiter:
            seen = self._crl_seen.get(key)
            if seen is not None and time.monotonic() - seen[0] < CRL_FRESH:
                return seen[1]  # somebody looked while we waited
            revocations = self._revocations[domain]
            found = await to_thread.run_sync(revocations.get, int(self._clock()), media, base)
            if len(self._crl_seen) >= _MAX_SEEN:
                self._crl_seen.clear()
            self._crl_seen[key] = time.monotonic(), found
            return found

    def close(self) -> None:
        """End its threads and close its store."""
        self._verifier.close()
        self.store.close()

    def add_listener(self, listener: Listener) -> None:
        """Tell `listener` of every new audit head and revocation list (`agents.authority.publisher`)."""
        self._publisher.add_listener(listener)

    async def publish(self) -> None:
        """Publish now what has changed; otherwise it happens once a second."""
        await self._publisher.publish()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Answer and publish while the body runs."""
        async with self.door.open(), anyio.create_task_group() as tasks:
            await self._publisher.publish()
            tasks.start_soon(self._publisher.run)
            tasks.start_soon(self.readiness.run)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
        with anyio.move_on_after(_LAST_WORDS, shield=True):
            await self._publisher.publish(is_last=True)


@asynccontextmanager
async def open_authority(
    directory: Path,
    passphrase: bytes,
    *,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.time,
    services: Services = NO_SERVICES,
) -> AsyncIterator[AuthorityAgent]:
    """Open an authority's directory and answer requests until the body ends.

    Args:
        directory: Made by `initialise`; its root keys must not be readable here.
        passphrase: Of the operators' keys.
        limits: How much at once; the defaults suit one machine.
        clock: POSIX seconds.
        services: Who signs contract packages; without one, contracts are not available.

    Raises:
        BadDirectory: Not an authority's directory, its root keys are within reach, a wrong passphrase, or
            another authority serves from it already.
        WrongStore: Its store is of another version.

    Cancellation: requests in work are finished, then it closes.
    """
    opened = await to_thread.run_sync(_open, directory, passphrase, int(clock()))
    settings, authorities, store, lock = opened
    try:
        agent = AuthorityAgent(
            settings, authorities, store, Layout(directory), limits or Limits(), clock, services
        )
        try:
            async with agent.run():
                yield agent
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(agent.close)
    finally:
        os.close(lock)


def _open(
    directory: Path, passphrase: bytes, now: int
) -> tuple[Settings, dict[Domain, DomainAuthority], Store, int]:
    settings = read_settings(directory)
    reachable = readable_roots(directory, settings)
    if reachable is not None:
        raise BadDirectory(
            f"the root keys in {reachable} can be read from here; move that folder to a medium that is not "
            "connected while the authority serves"
        )
    lock = _lock(Layout(directory).lock)
    try:
        authorities = {domain: load_domain(directory, domain, passphrase, now) for domain in settings.domains}
        return settings, authorities, Store(Layout(directory).store), lock
    except BaseException:
        os.close(lock)
        raise


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise BadDirectory(f"{path.parent}: another authority serves from this directory") from None
    return descriptor


def verify_audit(directory: Path, head: bytes | None = None) -> audit.Head:
    """Return the end of the audit log, if it is what was written.

    Args:
        directory: Of an authority, serving or not.
        head: A published head that was kept elsewhere; None takes the one in the directory, if there is one.

    Raises:
        AuditBroken: A record was changed, removed, moved or added, or the end was cut off; says where.
        BadDirectory: Not an authority's directory, or `head` is not by one of its registration keys.
        WrongStore: Its store is of another version.
    """
    settings = read_settings(directory)
    layout = Layout(directory)
    if head is None and layout.audit_head.is_file():
        head = layout.audit_head.read_bytes()
    published: audit.Head | None = None
    if head is not None:
        try:
            published = audit.read_signed_head(head, registration_keys(directory, settings.domains))
        except MalformedMessage as error:
            raise BadDirectory(f"audit head: {error}") from None
    with open_store(directory) as store, store.reading() as connection:
        return audit.verify_chain(connection, published)


@contextmanager
def open_store(directory: Path) -> Iterator[Store]:
    """Open the store of an authority's directory, also beside a running one, for the management functions.

    Raises:
        BadDirectory: Not an authority's directory.
        WrongStore: Its store is of another version.
    """
    read_settings(directory)
    store = Store(Layout(directory).store)
    try:
        yield store
    finally:
        store.close()
