"""What an authority puts outside: the signed head of its audit log, and its revocation lists.

Looked at once a second, because another process (`trillium revoke`) may have written; nothing is published
that has not changed. Who carries it further (a public topic) adds a listener.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import anyio
from anyio import to_thread
from sqlalchemy.exc import SQLAlchemyError

from agents.authority import audit
from agents.authority.domain import Registrar
from agents.authority.layout import Layout
from agents.authority.reach_counts import ReachCounts
from agents.authority.revocation import RevocationList, Revocations
from agents.authority.store import Store, in_words
from agents.authority.tally import Tally
from agents.keys import write_atomically
from protocol.errors import MalformedMessage
from protocol.labels import Domain
from protocol.path import verification_key
from protocol.ports import Media

_LOG: Final = logging.getLogger("trillium.authority")
PERIOD: Final = 1.0
"""Seconds between two looks; at most so much of the log's end can be cut off unseen."""
JUNK_PERIOD: Final = 60
"""Seconds between two audit records that count what was not authentic."""

MAX_ANNOUNCED: Final = 48 * 1024
"""Longest list in bytes that is announced: it goes to everybody who listens, and brokers take 64 KiB. Longer
ones are asked for; the delta is announced in any case."""

Listener = Callable[[str, bytes], Awaitable[bool | None]]
"""Told (name, bytes) for each new publication: "audit-head"; "crl/<domain>", the list as DER,
"crl/<domain>/c509", the same in C509 form, "crl/<domain>/delta", in C509 form what is new since the list
before. Returns whether it was carried further."""


@dataclass(frozen=True, slots=True)
class _Announcement:
    """One thing to tell the listeners."""

    name: str
    body: bytes
    authority: bytes = b""
    number: int | None = None
    """crlNumber of a list; None for what is none, and for all but one form of a list: it counts once."""


def _announcements(
    domain: Domain, revocations: Revocations, current: RevocationList, now: int
) -> list[_Announcement]:
    """Return what is told of a new list, the shortest first."""
    name = f"crl/{domain.value}"
    found: list[_Announcement] = []
    delta = revocations.get(now, Media.C509_CRL, current.number - 1)
    if delta.base is not None:
        found.append(_Announcement(f"{name}/delta", delta.encoded))
    if len(current.encoded) <= MAX_ANNOUNCED:
        found.append(_Announcement(f"{name}/c509", revocations.get(now, Media.C509_CRL).encoded))
        found.append(_Announcement(name, current.encoded))
    return (
        [replace(found[0], authority=revocations.authority, number=current.number), *found[1:]]
        if found
        else []
    )


class Publisher:
    """Publishes from one authority directory.

    Args:
        layout: Where files go.
        store: Open as long as this is used.
        registrar: Signs the head.
        revocations: One per domain.
        tally: Its junk is recorded here.
        reach: Its counts are written here.
        clock: POSIX seconds.
    """

    def __init__(
        self,
        layout: Layout,
        store: Store,
        registrar: Registrar,
        revocations: Mapping[Domain, Revocations],
        tally: Tally,
        reach: ReachCounts,
        clock: Callable[[], float],
    ) -> None:
        self._layout = layout
        self._store = store
        self._registrar = registrar
        self._revocations = revocations
        self._tally = tally
        self._reach = reach
        self._clock = clock
        self._head: audit.Head | None = None
        self._is_torn = False
        self._numbers: dict[Domain, int] = {}
        self._junk_at = clock()
        self._listeners: list[Listener] = []
        self._one_at_a_time = anyio.Lock()

    def add_listener(self, listener: Listener) -> None:
        """Tell `listener` of every publication from now on."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Publish what changes, until cancelled."""
        while True:
            await self.publish()
            await anyio.sleep(PERIOD)

    async def publish(self, *, is_last: bool = False) -> None:
        """Publish what has changed since the last time, and tell the listeners before it returns."""
        async with self._one_at_a_time:
            try:
                published = await to_thread.run_sync(self._publish, is_last)
            except (SQLAlchemyError, OSError) as error:
                _LOG.error("cannot publish", extra={"error": in_words(error)})
                return
            for announcement in published:
                for listener in self._listeners:
                    is_carried = await listener(announcement.name, announcement.body)
                    if is_carried and announcement.number is not None:
                        self._reach.fetched(
                            announcement.authority, "announced", announcement.number, int(self._clock())
                        )

    def _publish(self, is_last: bool) -> list[_Announcement]:
        now = int(self._clock())
        self._record_junk(now, is_last=is_last)
        self._reach.write(now, is_last=is_last)
        published: list[_Announcement] = []
        for domain, revocations in self._revocations.items():
            current = revocations.current(now)
            before = self._numbers.get(domain)
            if current.number != before:
                self._numbers[domain] = current.number
                published += _announcements(domain, revocations, current, now)
        head = self._new_head()
        if head is not None:
            signed = audit.sign_head(head, self._registrar.signer, self._registrar.key_id, now)
            write_atomically(self._layout.audit_head, signed, mode=0o644)
            self._head = head
            published.append(_Announcement("audit-head", signed))
        return published

    def _new_head(self) -> audit.Head | None:
        """Return the log's end if it is news, and goes on from the one that was published last.

        To sign over a log that was cut off or written anew would be to destroy the evidence.
        """
        if self._is_torn:
            return None
        if self._head is None:
            self._head = self._published_before()
        with self._store.reading() as connection:
            head = audit.read_head(connection)
            if self._head is None or audit.goes_through(connection, self._head):
                return None if head == self._head else head
        self._is_torn = True
        _LOG.error(
            "the audit log was changed behind its published head; no more heads are signed",
            extra={"published": self._head.sequence, "found": head.sequence},
        )
        return None

    def _published_before(self) -> audit.Head | None:
        try:
            signed = self._layout.audit_head.read_bytes()
            return audit.read_signed_head(signed, [verification_key(self._registrar.certificate)])
        except FileNotFoundError:
            return None
        except MalformedMessage as error:
            _LOG.error("the published audit head is not ours", extra={"why": str(error)})
            return None

    def _record_junk(self, now: int, *, is_last: bool) -> None:
        if not is_last and now - self._junk_at < JUNK_PERIOD:
            return
        self._junk_at = now
        entry = self._tally.take_junk()
        if entry is not None:
            with self._store.writing(now) as writing:
                writing.note(entry)
