"""Certificate revocation lists: built when something ended, numbered upwards, kept until something changes.

    revision of the store ──> number ──> full list as DER, at once
                                    └──> C509 form, deltas to earlier numbers: when somebody asks, and kept

Building takes a worker thread a moment and nobody else: entries are encoded once each, and however often
certificates end, no more than a tenth of the time goes into building. A long list waits longer for the next,
because whoever reads it block by block must come to its end; deltas are how to follow closely.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.sqlite import insert as upsert

from agents.authority import crl, list_numbers
from agents.authority.domain import DomainAuthority
from agents.authority.schema import CERTIFICATES, COUNTERS, CRLS, REVISION
from agents.authority.shelf import etag
from agents.authority.store import Store
from agents.keys import write_atomically
from protocol.ports import Media
from protocol.revocation_list import Head

DAY: Final = 24 * 3600
LIFE: Final = 7 * DAY
"""Seconds from thisUpdate to nextUpdate: a device that sleeps for days still finds its list good."""
REFRESH: Final = DAY
"""Seconds after which an unchanged list is made anew."""
KEPT_AFTER_EXPIRY: Final = DAY
"""Seconds for which an expired certificate stays listed (RFC 5280 §3.3: on one list beyond its end)."""
PAUSE_PER_ENTRY: Final = 1e-4
"""Seconds between two lists for each certificate on them: ten for a list of a hundred thousand."""
MAX_DELTA: Final = 2000
"""Certificates on a delta, 18 kB in C509 form and 82 in DER; who missed more gets the full list. Anybody may
ask for a delta to any list, and each is kept apart, while the full list is the same for everybody."""
MAX_KEPT: Final = 64
"""Other forms of the current list that are kept: one for each number that devices come back with."""
_SHARE: Final = 10

_C: Final = CERTIFICATES.c
_ENDED_SINCE = (
    select(_C.serial, _C.ended_at, _C.ended_revision, _C.reason, _C.not_after)
    .where(_C.authority == bindparam("authority"), _C.ended_revision > bindparam("revision"))
    .order_by(_C.ended_revision)
)
_REVISION = select(COUNTERS.c.value).where(COUNTERS.c.name == bindparam("counter", REVISION))
_STORED = select(CRLS).where(CRLS.c.authority == bindparam("authority"))
_KEEP = upsert(CRLS)
_KEEP = _KEEP.on_conflict_do_update(
    index_elements=[CRLS.c.authority],
    set_={
        name: _KEEP.excluded[name] for name in ("number", "revision", "this_update", "next_update", "encoded")
    },
)


@dataclass(frozen=True, slots=True)
class RevocationList:
    """One signed list."""

    encoded: bytes
    number: int
    revision: int
    """The store's revision that it shows."""
    this_update: int
    etag: bytes
    media: Media = Media.PKIX_CRL
    base: int | None = None
    """Number of the list that it is a delta to; None: a full list."""


class _Entry(NamedTuple):
    """One certificate that ended."""

    der: bytes
    reason: int
    revision: int
    not_after: int | None


class Revocations:
    """The revocation lists of one authority. Threads: any.

    Args:
        store: Says what ended.
        authority: Signs.
        path: Where the full list is published as a file, DER.
    """

    def __init__(self, store: Store, authority: DomainAuthority, path: Path) -> None:
        self._store = store
        self._authority = authority
        self._path = path
        self.authority: Final = authority.key_id
        """Whose lists, 32 bytes."""
        self._entries: dict[bytes, _Entry] = {}
        """By serial number, in the order in which they ended."""
        self._read_up_to = 0
        self._published = 0
        """Number of the list that was published before this run; the store may be older, from a backup."""
        self._list: RevocationList | None = None
        self._others: OrderedDict[tuple[Media, int | None], RevocationList] = OrderedDict()
        self._not_again_before = 0.0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def current(self, now: int) -> RevocationList:
        """Return the full list as DER, built anew if something ended since, or if it grows old."""
        with self._lock:
            return self._current(now)

    def get(self, now: int, media: Media = Media.PKIX_CRL, base: int | None = None) -> RevocationList:
        """Return the current list in another form.

        Args:
            now: POSIX seconds.
            media: PKIX_CRL or C509_CRL.
            base: Number of the list that the peer has. It gets a delta to it, or the full list if that
                number is not known, or no longer, or if more than `MAX_DELTA` certificates ended since: then
                `base` of the result is None.
        """
        with self._lock:
            current = self._current(now)
            made = self._others.get((media, base))
            if made is not None:
                return made
            changed = self._since(base) if base is not None and base <= current.number else None
            key = media, None if changed is None else base
            made = current if key == (Media.PKIX_CRL, None) else self._others.get(key)
            if made is None:
                head = Head(current.number, current.this_update, current.this_update + LIFE, key[1])
                entries = self._entries.items() if changed is None else changed
                made = self._others[key] = self._signed(media, head, entries, current.revision)
                if len(self._others) > MAX_KEPT:
                    self._others.popitem(last=False)
            return made

    def _current(self, now: int) -> RevocationList:
        if self._list is None:
            self._published = crl.number_of(self._path, self._authority.issuer.certificate)
            self._list = self._restored()
        known = self._list
        if known is not None and (
            (known.revision == self._store.revision() and now < known.this_update + REFRESH)
            or time.monotonic() < self._not_again_before
        ):
            return known
        started = time.monotonic()
        made = self._list = self._build(now)
        self._others.clear()
        write_atomically(self._path, made.encoded, mode=0o644)
        ended = time.monotonic()
        pause = max(_SHARE * (ended - started), PAUSE_PER_ENTRY * len(self._entries))
        self._not_again_before = ended + pause
        return made

    def _restored(self) -> RevocationList | None:
        """Return the list of the last run, if what is on it can be read again as it was."""
        with self._store.reading() as connection:
            row = connection.execute(_STORED, {"authority": self._authority.key_id}).first()
        if row is None or row.number < self._published or self._read() != row.revision:
            return None
        return RevocationList(row.encoded, row.number, row.revision, row.this_update, etag(row.encoded))

    def _read(self) -> int:
        """Read what ended since the last time; return the revision that is known now."""
        with self._store.reading() as connection:
            revision = int(connection.execute(_REVISION).scalar_one())
            rows = connection.execute(
                _ENDED_SINCE, {"authority": self._authority.key_id, "revision": self._read_up_to}
            ).all()
        for row in rows:
            # Whoever ended twice (superseded, then known to be stolen) belongs to the later revision.
            self._entries.pop(row.serial, None)
            entry = crl.encode_entry(row.serial, row.ended_at, row.reason)
            self._entries[row.serial] = _Entry(entry, row.reason, row.ended_revision, row.not_after)
            self._read_up_to = row.ended_revision
        return revision

    def _build(self, now: int) -> RevocationList:
        revision = self._read()
        over = [
            serial
            for serial, entry in self._entries.items()
            if entry.not_after is not None and entry.not_after + KEPT_AFTER_EXPIRY < now
        ]
        for serial in over:
            del self._entries[serial]
        with self._store.reading() as connection:
            # Devices take no list that is older than theirs, by its number.
            last = list_numbers.last_number(connection, self._authority.key_id)
            number = max(last, self._published) + 1
        made = self._signed(Media.PKIX_CRL, Head(number, now, now + LIFE), self._entries.items(), revision)
        self._keep(made, now)
        return made

    def _since(self, base: int) -> Sequence[tuple[bytes, _Entry]] | None:
        """Return what ended after list number `base`; None if that is too much, or nobody knows."""
        with self._store.reading() as connection:
            shown = list_numbers.revision_of(connection, self._authority.key_id, base)
        if shown is None:
            return None
        newest_first = takewhile(lambda item: item[1].revision > shown, reversed(self._entries.items()))
        found = list(islice(newest_first, MAX_DELTA + 1))
        return found[::-1] if len(found) <= MAX_DELTA else None

    def _signed(
        self, media: Media, head: Head, entries: Iterable[tuple[bytes, _Entry]], revision: int
    ) -> RevocationList:
        issuer = self._authority.issuer
        if media is Media.C509_CRL:
            encoded = issuer.sign_c509_crl(((serial, entry.reason) for serial, entry in entries), head)
        else:
            encoded = issuer.sign_crl(
                (entry.der for _, entry in entries),
                number=head.number,
                this_update=head.this_update,
                next_update=head.this_update + LIFE,
                base=head.base,
            )
        tag = etag(encoded)
        return RevocationList(encoded, head.number, revision, head.this_update, tag, media, head.base)

    def _keep(self, made: RevocationList, now: int) -> None:
        authority = self._authority.key_id
        with self._store.writing(now) as writing:
            writing.connection.execute(
                _KEEP,
                {
                    "authority": authority,
                    "number": made.number,
                    "revision": made.revision,
                    "this_update": made.this_update,
                    "next_update": made.this_update + LIFE,
                    "encoded": made.encoded,
                },
            )
            list_numbers.record(writing.connection, authority, made.number, made.revision, made.this_update)
