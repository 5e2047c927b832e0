"""Takes in what devices say that they hold, for `agents.authority.reconcile` to compare.

A report is worth a row per device, the last one. It comes verified, on the event loop of a process that has
better to do: reports wait in memory, the newest of each device, and are written together by a worker thread.
What a crash forgets, the device says again within a day.
"""

import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio import to_thread
from sqlalchemy import bindparam, select
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.exc import SQLAlchemyError

from agents.authority.schema import DEVICES, REPORTS
from agents.authority.store import Store, in_words
from protocol.errors import MalformedMessage
from protocol.held import decode_held

MAX_WAITING: Final = 4096
"""Devices whose report may wait: a write every `PERIOD` gets rid of them in seconds; 16 MiB at most, usually
one. When it is full, a report is dropped and counted."""
MAX_BATCH: Final = 512
"""Reports in one transaction: some milliseconds, so that nobody who enrolls waits long."""
PERIOD: Final = 0.5
"""Seconds for which reports gather before they are written."""
PAUSE: Final = 5.0
"""Seconds between two attempts where the store does not answer."""
_LAST_WORDS: Final = 5.0

_LOG: Final = logging.getLogger(__name__)
_IDS = select(DEVICES.c.client_id, DEVICES.c.id).where(
    DEVICES.c.client_id.in_(bindparam("clients", expanding=True))
)
_KEEP = upsert(REPORTS)
_KEEP = _KEEP.on_conflict_do_update(
    index_elements=[REPORTS.c.device_id],
    set_={name: _KEEP.excluded[name] for name in ("received_at", "body")},
)

_Report = tuple[int, bytes]


class Reports:
    """Opened by `open_reports`; used on the event loop.

    Attributes:
        malformed: How many good messages held no report.
        dropped: How many reports found no room.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.malformed = 0
        self.dropped = 0
        self._store = store
        self._clock = clock
        self._waiting: OrderedDict[str, _Report] = OrderedDict()
        self._is_some = anyio.Event()

    def take(self, client_id: str, body: bytes) -> None:
        """Take the body of a verified message on the stream `held`; never waits, never raises."""
        try:
            decode_held(body)
        except MalformedMessage:
            self.malformed += 1
            return
        if client_id not in self._waiting and len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        self._waiting[client_id] = int(self._clock()), body
        self._is_some.set()

    async def run(self) -> None:
        """Write what waits, until cancelled."""
        while True:
            await self._is_some.wait()
            await anyio.sleep(PERIOD)
            if not await self._write():
                await anyio.sleep(PAUSE)

    async def flush(self) -> None:
        """Write everything that waits, if the store answers."""
        while self._waiting and await self._write():
            pass

    async def _write(self) -> bool:
        batch = dict(list(self._waiting.items())[:MAX_BATCH])
        try:
            await to_thread.run_sync(self._keep, batch, int(self._clock()))
        except (SQLAlchemyError, OSError) as error:
            _LOG.error("reports of devices cannot be stored", extra={"error": in_words(error)})
            return False
        for client_id, report in batch.items():
            if self._waiting.get(client_id) is report:  # and not a newer one that came meanwhile
                del self._waiting[client_id]
        if not self._waiting:
            self._is_some = anyio.Event()
        return True

    def _keep(self, batch: dict[str, _Report], now: int) -> None:
        with self._store.writing(now, durable=False) as writing:
            found = writing.connection.execute(_IDS, {"clients": list(batch)})
            rows = [
                {"device_id": number, "received_at": batch[client][0], "body": batch[client][1]}
                for client, number in found
            ]
            if rows:
                writing.connection.execute(_KEEP, rows)


@asynccontextmanager
async def open_reports(store: Store, clock: Callable[[], float]) -> AsyncIterator[Reports]:
    """Take reports while the body runs; at its end, what waits is written.

    Args:
        store: Open for longer than this.
        clock: POSIX seconds.
    """
    reports = Reports(store, clock)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reports.run)
            try:
                yield reports
            finally:
                tasks.cancel_scope.cancel()
    finally:
        with anyio.move_on_after(_LAST_WORDS, shield=True):
            await reports.flush()
