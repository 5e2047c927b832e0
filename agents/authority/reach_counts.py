"""Who asked for revocation lists, in a few durable numbers: what `agents.authority.reach` reports from.

Counts wait in memory and are written once a minute. A crash loses at most that minute, and the fetches of one
minute count for the oldest list that was given out in it: the figures say "at least".
"""

import threading
from dataclasses import dataclass
from typing import Final

from sqlalchemy import bindparam, delete, func
from sqlalchemy.dialects.sqlite import insert as upsert

from agents.authority.schema import CRL_FETCHES, OCSP_ANSWERS
from agents.authority.store import Store

PERIOD: Final = 60
"""Seconds between two writes."""
KEPT: Final = 400 * 24 * 3600
"""Seconds for which a count is kept after its last fetch: one row a minute and channel, 20 MiB at most."""
_MAX_WAITING: Final = 10_000
"""Certificates whose OCSP answers are counted between two writes; more are not counted."""

_ADD_FETCHES = upsert(CRL_FETCHES)
_ADD_FETCHES = _ADD_FETCHES.on_conflict_do_update(
    index_elements=[CRL_FETCHES.c.authority, CRL_FETCHES.c.channel, CRL_FETCHES.c.number],
    set_={
        "count": CRL_FETCHES.c.count + _ADD_FETCHES.excluded.count,
        "last_at": func.max(CRL_FETCHES.c.last_at, _ADD_FETCHES.excluded.last_at),
    },
)
_ADD_ANSWERS = upsert(OCSP_ANSWERS)
_ADD_ANSWERS = _ADD_ANSWERS.on_conflict_do_update(
    index_elements=[OCSP_ANSWERS.c.certificate_id],
    set_={
        "count": OCSP_ANSWERS.c.count + _ADD_ANSWERS.excluded.count,
        "last_at": func.max(OCSP_ANSWERS.c.last_at, _ADD_ANSWERS.excluded.last_at),
    },
)
_FORGET = delete(CRL_FETCHES).where(CRL_FETCHES.c.last_at < bindparam("before"))


@dataclass(slots=True)
class _Fetches:
    number: int
    count: int
    last_at: int


class ReachCounts:
    """Counts fetches of lists and OCSP answers about revoked certificates. Threads: any."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._fetches: dict[tuple[bytes, str], _Fetches] = {}
        self._answers: dict[int, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._written_at = 0

    def fetched(self, authority: bytes, channel: str, number: int, now: int) -> None:
        """Count one fetch.

        Args:
            authority: Whose list, 32 bytes.
            channel: "coap", "mqtt", "announced": a handful of words, one row each and minute.
            number: crlNumber of the list that was given out, or that the peer was told it has.
            now: POSIX seconds.
        """
        with self._lock:
            counted = self._fetches.setdefault((authority, channel), _Fetches(number, 0, now))
            counted.number = min(counted.number, number)
            counted.count += 1
            counted.last_at = now

    def answered(self, certificate_id: int, now: int) -> None:
        """Count one OCSP answer that said that a certificate is revoked."""
        with self._lock:
            if certificate_id in self._answers or len(self._answers) < _MAX_WAITING:
                self._answers[certificate_id] = self._answers.get(certificate_id, (0, 0))[0] + 1, now

    def write(self, now: int, *, is_last: bool = False) -> None:
        """Write what was counted, if it is time; blocks on the disk."""
        with self._lock:
            if not is_last and now - self._written_at < PERIOD:
                return
            self._written_at = now
            fetches, self._fetches = self._fetches, {}
            answers, self._answers = self._answers, {}
        if not fetches and not answers:
            return
        with self._store.writing(now, durable=False) as writing:
            if fetches:
                rows = [
                    {
                        "authority": authority,
                        "channel": channel,
                        "number": counted.number,
                        "count": counted.count,
                        "last_at": counted.last_at,
                    }
                    for (authority, channel), counted in fetches.items()
                ]
                writing.connection.execute(_ADD_FETCHES, rows)
                writing.connection.execute(_FORGET, {"before": now - KEPT})
            if answers:
                told = [
                    {"certificate_id": number, "count": count, "last_at": last}
                    for number, (count, last) in answers.items()
                ]
                writing.connection.execute(_ADD_ANSWERS, told)
