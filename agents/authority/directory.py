"""What the verifier asks of the store (`protocol.exchange.facts.Signers`)."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar, TypeVarTuple

from anyio import CapacityLimiter, to_thread
from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import SQLAlchemyError

from agents.authority import life
from agents.authority.audit import Event
from agents.authority.lookup import signer_records
from agents.authority.schema import CERTIFICATES, MESSAGE_COUNTERS
from agents.authority.store import Store, Writing, in_words
from protocol.errors import ServiceError
from protocol.exchange.facts import CertificateRef, SignerRecord

MAX_ALARM_CHARS: Final = 120
ALARM_PAUSE: Final = 60.0
"""Seconds between two audit records about the same certificate."""
_MAX_ALARMED: Final = 4096
"""Certificates whose last alarm is remembered; the oldest is forgotten, and may be reported again."""
_THREADS: Final = 2

_C: Final = CERTIFICATES.c
_BY_REF = select(_C.id, _C.device_id).where(
    _C.authority == bindparam("issuer"), _C.serial == bindparam("number")
)
_COUNTERS = select(_C.authority, _C.serial, MESSAGE_COUNTERS.c.counter).select_from(
    MESSAGE_COUNTERS.join(CERTIFICATES, _C.id == MESSAGE_COUNTERS.c.certificate_id)
)
_SERIALS = select(_C.id, _C.authority, _C.serial).where(_C.serial.in_(bindparam("serials", expanding=True)))
_RAISE = upsert(MESSAGE_COUNTERS)
_RAISE = _RAISE.on_conflict_do_update(
    index_elements=[MESSAGE_COUNTERS.c.certificate_id],
    set_={"counter": func.max(MESSAGE_COUNTERS.c.counter, _RAISE.excluded.counter)},
)
_PAGE: Final = 500

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SignerDirectory:
    """Implements `protocol.exchange.facts.Signers`. Every method raises ServiceError if the store fails.

    Args:
        store: Open as long as this is used.
        clock: POSIX seconds.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._limiter = CapacityLimiter(_THREADS)
        self._alarmed: OrderedDict[CertificateRef, float] = OrderedDict()
        self._lock = threading.Lock()

    async def _asked(self, question: Callable[[*Ts], T], *args: *Ts) -> T:
        """Ask the store in a thread. A store that does not answer is an outage, for the verifier to bear."""
        try:
            return await to_thread.run_sync(question, *args, limiter=self._limiter)
        except (SQLAlchemyError, OSError) as error:
            raise ServiceError(f"the store does not answer: {in_words(error)}") from error

    async def lookup(self, thumbprints: Sequence[bytes]) -> Mapping[bytes, SignerRecord | None]:
        """Return the certificate behind each c5t."""
        return await self._asked(self._lookup, thumbprints)

    def _lookup(self, thumbprints: Sequence[bytes]) -> Mapping[bytes, SignerRecord | None]:
        with self._store.reading() as connection:
            return signer_records(connection, thumbprints)

    async def revision(self) -> int:
        """Return the number that grows whenever a certificate ends."""
        return await self._asked(self._store.revision)

    async def activate(self, ref: CertificateRef) -> bool:
        """Make a pending certificate current; return whether it is current now."""
        return await self._asked(self._activate, ref)

    def _activate(self, ref: CertificateRef) -> bool:
        with self._store.writing(int(self._clock())) as writing:
            row = _find(writing, ref)
            if row is None:
                return False
            number, device = row
            return number in life.make_current(writing, [(device, number)], Event.ACTIVATE)

    async def alarm(self, ref: CertificateRef, what: str) -> None:
        """Leave an audit record about a certificate, at most one a minute."""
        now = self._clock()
        with self._lock:
            last = self._alarmed.get(ref)
            if last is not None and now - last < ALARM_PAUSE:
                return
            self._alarmed[ref] = now
            self._alarmed.move_to_end(ref)
            if len(self._alarmed) > _MAX_ALARMED:
                self._alarmed.popitem(last=False)
        await self._asked(self._alarm, ref, what[:MAX_ALARM_CHARS])

    def _alarm(self, ref: CertificateRef, what: str) -> None:
        with self._store.writing(int(self._clock())) as writing:
            row = _find(writing, ref)
            if row is not None:
                found = life.lives(writing, [row[0]])[row[0]]
                writing.note(found.entry(Event.ALARM, what))

    async def load_counters(self) -> Mapping[CertificateRef, int]:
        """Return the high-water mark of each certificate's message counter."""
        return await self._asked(self._load_counters)

    def _load_counters(self) -> Mapping[CertificateRef, int]:
        with self._store.reading() as connection:
            return {CertificateRef(row[0], row[1]): row[2] for row in connection.execute(_COUNTERS)}

    async def save_counters(self, counters: Mapping[CertificateRef, int]) -> None:
        """Keep these marks; none is lowered."""
        if counters:
            await self._asked(self._save_counters, dict(counters))

    def _save_counters(self, counters: Mapping[CertificateRef, int]) -> None:
        refs = list(counters)
        with self._store.writing(int(self._clock())) as writing:
            for start in range(0, len(refs), _PAGE):
                page = refs[start : start + _PAGE]
                rows = writing.connection.execute(_SERIALS, {"serials": [ref.serial for ref in page]})
                numbers = {CertificateRef(row[1], row[2]): row[0] for row in rows}
                marks = [
                    {"certificate_id": numbers[ref], "counter": counters[ref]}
                    for ref in page
                    if ref in numbers
                ]
                if marks:
                    writing.connection.execute(_RAISE, marks)


def _find(writing: Writing, ref: CertificateRef) -> tuple[int, int] | None:
    row = writing.connection.execute(_BY_REF, {"issuer": ref.authority, "number": ref.serial}).first()
    return None if row is None else (row[0], row[1])
