"""The OCSP responder: what is good, revoked or unknown, from the store, signed and kept.

    request ──> whose? ──not ours──> unauthorized
                  │
                kept? ──────yes────> the answer that was made before
                  └──no──> read and sign in a worker thread ──> keep

Once in a quarter of a second, when somebody asks, it is looked whether certificates have ended since: what
was kept about those is made anew at once. So nobody is told "good" of a certificate for longer than that
after it was revoked; a relying party that keeps an answer may believe it for as long as the answer says.
"""

import datetime as dt
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

import anyio
from anyio import CapacityLimiter, to_thread
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from sqlalchemy.exc import SQLAlchemyError

from agents.authority import AuthorityAgent, BadDirectory, Layout
from agents.authority.audit import Entry, Event
from agents.authority.domain import DomainAuthority
from agents.authority.pki import HASHES
from agents.authority.store import Store, in_words
from agents.ocsp import standing
from agents.ocsp.credential import Credential, credential_of, keep_certificate, renewed
from agents.ocsp.question import NAMING_HASHES, Issuers, NotAQuestion, Question, read_question, reason_flag
from agents.ocsp.standing import Standing, State

LIFE: Final = 3600
"""Seconds for which an answer is good: as long as a relying party may go on believing it."""
REFRESH: Final = LIFE // 2
"""Age in seconds from which on a kept answer that is asked for is made anew before anybody waits for it."""
UNKNOWN_LIFE: Final = 60
"""The same for "unknown": the certificate may be issued in a moment. These are not kept."""
FRESH: Final = 0.25
"""Seconds for which kept answers are given out without another look at the store."""
PERIOD: Final = 1.0
"""Seconds between two looks when nobody asks."""
MAX_KEPT: Final = 16_384
"""Answers that are kept, about 1 KiB each; the oldest makes room."""
MAX_IN_WORK: Final = 128
"""Answers that wait to be made: a tenth of a second of work. More are told to try later."""
MAX_AT_ONCE: Final = 256
"""Answers that are made anew in one go, before others have their turn."""
_LOG: Final = logging.getLogger("trillium.ocsp")


class Failing(Enum):
    """Answers without a signature (RFC 6960 §4.2.1)."""

    MALFORMED = ocsp.OCSPResponseStatus.MALFORMED_REQUEST
    INTERNAL = ocsp.OCSPResponseStatus.INTERNAL_ERROR
    TRY_LATER = ocsp.OCSPResponseStatus.TRY_LATER
    UNAUTHORIZED = ocsp.OCSPResponseStatus.UNAUTHORIZED


@dataclass(slots=True)
class Answer:
    """One OCSP response."""

    der: bytes
    this_update: int = 0
    """POSIX seconds."""
    next_update: int = 0
    """POSIX seconds; 0 for one without signature, which nobody must keep."""
    certificate_id: int | None = None
    """The revoked certificate that it is about, for the counts."""
    revision: int = 0
    """The store's revision that it shows."""
    is_wanted: bool = field(default=False, compare=False)
    """Whether somebody asked for it since it was made."""


_FAILING: Final = {
    failing: Answer(ocsp.OCSPResponseBuilder.build_unsuccessful(failing.value).public_bytes(Encoding.DER))
    for failing in Failing
}
_Key = tuple[bytes, bytes, str]
"""Authority, serial number, name of the hash."""


class Responder:
    """Answers OCSP requests; made by `open_responder`.

    Args:
        agent: The authority, open as long as this is used.
        credentials: One per authority, by its key identifier; replaced in time.
        layout: Where a new certificate of the responder's is kept.
        clock: POSIX seconds.
    """

    def __init__(
        self,
        agent: AuthorityAgent,
        credentials: Mapping[bytes, Credential],
        layout: Layout,
        clock: Callable[[], float],
    ) -> None:
        self._store = agent.store
        self._reach = agent.reach
        self._authorities = {a.key_id: a for a in agent.authorities.values()}
        self._issuers = Issuers(self._authorities.values())
        self._credentials = dict(credentials)
        self._layout = layout
        self._clock = clock
        self._kept: OrderedDict[_Key, Answer] = OrderedDict()
        self._revision = -1
        self._looked_at = -FRESH
        self._looking = anyio.Lock()
        self._limiter = CapacityLimiter(1)
        self._in_work = 0
        self._credential_lock = threading.Lock()
        self.made = 0
        """Answers that were signed."""
        self.given = 0
        """Requests that were answered, also without signature."""

    async def answer(self, request: bytes) -> Answer:
        """Return the answer to one request, any bytes at all.

        Cancellation: anywhere; an answer in the making is finished first.
        """
        self.given += 1
        try:
            question = read_question(request)
        except NotAQuestion:
            return _FAILING[Failing.MALFORMED]
        authority = self._issuers.find(question)
        if authority is None:
            # RFC 5019 §2.2.3: not authoritative for it, and so nothing to sign.
            return _FAILING[Failing.UNAUTHORIZED]
        try:
            await self._look()
            found = await self._find(authority, question)
        except (SQLAlchemyError, OSError) as error:
            _LOG.error("the store does not answer", extra={"error": in_words(error)})
            return _FAILING[Failing.INTERNAL]
        if found.certificate_id is not None:
            self._reach.answered(found.certificate_id, int(self._clock()))
        return found

    async def _find(self, authority: DomainAuthority, question: Question) -> Answer:
        key = authority.key_id, question.serial, question.hash_name
        kept = self._kept.get(key)
        if kept is not None and self._clock() < kept.next_update - REFRESH // 2:
            kept.is_wanted = True
            return kept
        if self._in_work >= MAX_IN_WORK:
            return _FAILING[Failing.TRY_LATER]
        self._in_work += 1
        try:
            made = (await to_thread.run_sync(self._make, [key], limiter=self._limiter))[0]
        finally:
            self._in_work -= 1
        self._keep(key, made)
        return made

    def _keep(self, key: _Key, made: Answer) -> None:
        # One that was read before the last look may have missed what that look found.
        if made.next_update - made.this_update <= UNKNOWN_LIFE or made.revision < self._revision:
            self._kept.pop(key, None)
            return
        self._kept[key] = made
        self._kept.move_to_end(key)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    async def _look(self) -> None:
        """See what has ended since the last look, and make anew what was kept about it."""
        if time.monotonic() - self._looked_at < FRESH:
            return
        async with self._looking:
            if time.monotonic() - self._looked_at < FRESH:
                return  # somebody looked while we waited
            started = time.monotonic()
            revision, ended = await to_thread.run_sync(
                standing.ended_since, self._store, tuple(self._authorities), self._revision
            )
            stale = [
                key
                for authority, serial in ended
                for name in NAMING_HASHES
                if (key := (authority, serial, name)) in self._kept
            ]
            for key in stale:
                del self._kept[key]
            self._revision = revision
            self._looked_at = started
        await self._make_anew(stale[:MAX_AT_ONCE])

    async def _make_anew(self, keys: Sequence[_Key]) -> None:
        if keys:
            made = await to_thread.run_sync(self._make, keys, limiter=self._limiter)
            for key, answer in zip(keys, made, strict=True):
                self._keep(key, answer)

    async def run(self) -> None:
        """Make answers anew before they are over, and credentials too, until cancelled."""
        while True:
            try:
                await self._look()
                await self._make_anew(self._ageing())
            except (SQLAlchemyError, OSError) as error:
                _LOG.error("the store does not answer", extra={"error": in_words(error)})
            await anyio.sleep(PERIOD)

    def _ageing(self) -> list[_Key]:
        """Return what is to be made anew; what nobody wants any more is forgotten."""
        now = self._clock()
        # The oldest stand in front: whatever is made anew goes to the end.
        found: list[_Key] = []
        for key, answer in list(self._kept.items())[:MAX_AT_ONCE]:
            if now < answer.this_update + REFRESH:
                break
            if answer.is_wanted:
                found.append(key)
            else:
                del self._kept[key]
        return found

    def _make(self, keys: Sequence[_Key]) -> list[Answer]:
        """Read and sign; runs in a worker thread."""
        revision, found = standing.of(self._store, [(authority, serial) for authority, serial, _ in keys])
        return [self._sign(key, found[key[0], key[1]], revision) for key in keys]

    def _sign(self, key: _Key, found: Standing, revision: int) -> Answer:
        authority = self._authorities[key[0]]
        now = int(self._clock())
        credential = self._credential(authority, now)
        if now >= credential.not_after:
            return _FAILING[Failing.INTERNAL]  # as its CA has, which nobody believes any more
        if key[1] in (
            authority.registrar.certificate.serial,
            credential.certificate.serial_number.to_bytes(8, "big"),
        ):
            found = Standing(State.GOOD)  # the authority's own, which are not in the inventory
        life = UNKNOWN_LIFE if found.state is State.UNKNOWN else LIFE
        next_update = min(now + life, credential.not_after)
        digest = NAMING_HASHES[key[2]]
        name_hash, key_hash = self._issuers.hashes(authority, key[2])
        response = (
            ocsp.OCSPResponseBuilder()
            .add_response_by_hash(
                issuer_name_hash=name_hash,
                issuer_key_hash=key_hash,
                serial_number=int.from_bytes(key[1], "big"),
                algorithm=digest,
                cert_status=_STATUS[found.state],
                this_update=_moment(now),
                next_update=_moment(next_update),
                revocation_time=None if found.state is not State.REVOKED else _moment(found.ended_at),
                revocation_reason=None if found.state is not State.REVOKED else reason_flag(found.reason),
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, credential.certificate)
            .certificates([credential.certificate])
            .sign(credential.key, HASHES[credential.key.curve.name])
        )
        self.made += 1
        number = found.certificate_id if found.state is State.REVOKED else None
        return Answer(response.public_bytes(Encoding.DER), now, next_update, number, revision)

    def _credential(self, authority: DomainAuthority, now: int) -> Credential:
        with self._credential_lock:
            credential = self._credentials[authority.key_id]
            # The last one ends with its CA: another would not last longer.
            if credential.is_worn(now) and credential.not_after < authority.issuer.not_after:
                credential = renewed(authority, credential, now)
                _note(self._store, authority, credential, now)
                self._credentials[authority.key_id] = credential
                try:
                    keep_certificate(self._layout, authority, credential)
                except OSError as error:
                    _LOG.error("cannot write a signing certificate", extra={"error": in_words(error)})
            return credential


_STATUS: Final = {
    State.GOOD: ocsp.OCSPCertStatus.GOOD,
    State.REVOKED: ocsp.OCSPCertStatus.REVOKED,
    State.UNKNOWN: ocsp.OCSPCertStatus.UNKNOWN,
}


def _moment(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


@asynccontextmanager
async def open_responder(
    agent: AuthorityAgent, directory: Path, passphrase: bytes, *, clock: Callable[[], float] = time.time
) -> AsyncIterator[Responder]:
    """Open a responder for all authorities of an open directory; it works while the body runs.

    Args:
        agent: As `open_authority` opened it.
        directory: Of the same.
        passphrase: Of the operators' keys.
        clock: POSIX seconds.

    Raises:
        BadDirectory: A signing key cannot be read or written.
    """
    layout = Layout(directory)
    credentials = await to_thread.run_sync(_credentials, agent, layout, passphrase, int(clock()))
    responder = Responder(agent, credentials, layout, clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(responder.run)
        yield responder
        tasks.cancel_scope.cancel()


def _credentials(
    agent: AuthorityAgent, layout: Layout, passphrase: bytes, now: int
) -> dict[bytes, Credential]:
    credentials: dict[bytes, Credential] = {}
    for authority in agent.authorities.values():
        try:
            credential, is_new = credential_of(layout, authority, passphrase, now)
        except (OSError, ValueError) as error:
            raise BadDirectory(f"{authority.domain.value} OCSP responder: {error}") from None
        credentials[authority.key_id] = credential
        if is_new:
            _note(agent.store, authority, credential, now)
    return credentials


def _note(store: Store, authority: DomainAuthority, credential: Credential, now: int) -> None:
    """Write into the audit log that a signing certificate was made."""
    serial = credential.certificate.serial_number.to_bytes(8, "big")
    with store.writing(now) as writing:
        what = f"{authority.domain.value} OCSP signing certificate"
        writing.note(Entry(Event.ISSUE, serial=serial, detail=what))
