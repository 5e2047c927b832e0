"""Certificate revocation lists: built when something ended, numbered upwards, kept until something changes.

Building takes a worker thread a moment and nobody else: entries are made once each, and however often
certificates end, no more than a tenth of the time goes into building.
"""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.sqlite import insert as upsert

from agents.authority import crl
from agents.authority.domain import DomainAuthority
from agents.authority.schema import CERTIFICATES, CRLS
from agents.authority.store import Store
from agents.keys import write_atomically

DAY: Final = 24 * 3600
LIFE: Final = 7 * DAY
"""Seconds from thisUpdate to nextUpdate: a device that sleeps for days still finds its list good."""
REFRESH: Final = DAY
"""Seconds after which an unchanged list is made anew."""
KEPT_AFTER_EXPIRY: Final = DAY
"""Seconds for which an expired certificate stays listed (RFC 5280 §3.3: on one list beyond its end)."""
_SHARE: Final = 10

_C: Final = CERTIFICATES.c
_ENDED_SINCE = (
    select(_C.serial, _C.ended_at, _C.ended_revision, _C.reason, _C.not_after)
    .where(_C.authority == bindparam("authority"), _C.ended_revision > bindparam("revision"))
    .order_by(_C.ended_revision)
)
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
    """DER CertificateList."""
    number: int
    revision: int
    """The store's revision that it shows."""
    this_update: int


class Revocations:
    """The revocation list of one authority. Threads: any.

    Args:
        store: Says what ended.
        authority: Signs.
        path: Where the list is published as a file.
    """

    def __init__(self, store: Store, authority: DomainAuthority, path: Path) -> None:
        self._store = store
        self._authority = authority
        self._path = path
        self._entries: dict[bytes, tuple[bytes, int | None]] = {}
        self._read_up_to = 0
        self._list: RevocationList | None = None
        self._not_again_before = 0.0
        self._lock = threading.Lock()

    def current(self, now: int) -> RevocationList:
        """Return the list, built anew if something ended since, or if it grows old."""
        with self._lock:
            revision = self._store.revision()
            known = self._list or self._stored()
            if known is not None and (
                (known.revision == revision and now < known.this_update + REFRESH)
                or time.monotonic() < self._not_again_before
            ):
                self._list = known
                return known
            started = time.monotonic()
            self._list = self._build(revision, now)
            write_atomically(self._path, self._list.encoded, mode=0o644)
            ended = time.monotonic()
            self._not_again_before = ended + _SHARE * (ended - started)
            return self._list

    def _stored(self) -> RevocationList | None:
        with self._store.reading() as connection:
            row = connection.execute(_STORED, {"authority": self._authority.key_id}).first()
        if row is None:
            return None
        return RevocationList(row.encoded, row.number, row.revision, row.this_update)

    def _build(self, revision: int, now: int) -> RevocationList:
        with self._store.reading() as connection:
            rows = connection.execute(
                _ENDED_SINCE, {"authority": self._authority.key_id, "revision": self._read_up_to}
            ).all()
        for row in rows:
            entry = crl.encode_entry(row.serial, row.ended_at, row.reason)
            self._entries[row.serial] = entry, row.not_after
            self._read_up_to = row.ended_revision
        over = [
            s for s, (_, end) in self._entries.items() if end is not None and end + KEPT_AFTER_EXPIRY < now
        ]
        for serial in over:
            del self._entries[serial]
        number = self._next_number()
        encoded = self._authority.issuer.sign_crl(
            (entry for entry, _ in self._entries.values()),
            number=number,
            this_update=now,
            next_update=now + LIFE,
        )
        made = RevocationList(encoded, number, revision, now)
        self._keep(made, now)
        return made

    def _next_number(self) -> int:
        stored = self._stored()
        return 1 if stored is None else stored.number + 1

    def _keep(self, made: RevocationList, now: int) -> None:
        with self._store.writing(now) as writing:
            writing.connection.execute(
                _KEEP,
                {
                    "authority": self._authority.key_id,
                    "number": made.number,
                    "revision": made.revision,
                    "this_update": made.this_update,
                    "next_update": made.this_update + LIFE,
                    "encoded": made.encoded,
                },
            )
