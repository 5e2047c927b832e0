"""What a station keeps for its operator: which car was where, was shown which certificate, and asked what.

Plug and charge can be relayed to another station's customer; afterwards the record of which certificate
worked at which place when is what tells the honest station from the other. One JSON line for each event:

    {"time": POSIX, "session": number, "car": source, "evse": EVSEID, "station": c5t,
     "event": "proof"|<operation>, "label": …, "signer": c5t, "outcome": …, "seconds": …}

A session is a car's address from its first question until it was silent for `IDLE` seconds. `signer` is what
the car's request says of its certificate, which only the authority verifies. No key, no body is ever here.
"""

import json
import logging
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from protocol.cose import decode_sign1
from protocol.errors import MalformedMessage
from protocol.ports import Content, Inbound, Pending, Reply, SignedRefusal
from protocol.problem import Problem

IDLE: Final = 300.0
"""Seconds of silence after which a car that comes from the same address may be another one."""
MAX_SESSIONS: Final = 64
"""Sessions remembered: four times as many as cars are served at once. The one silent longest makes room."""
MAX_BYTES: Final = 1024 * 1024
"""Length of the file at which it becomes FILE.1, whose content before is gone: some 4000 events each."""
MAX_WAITING: Final = 1024
"""Lines that wait for the disk, 300 bytes each; beyond, the oldest is lost: no car waits for a disk."""

_log: Final = logging.getLogger(__name__)


@dataclass
class _Session:
    number: int
    last: float


class Journal:
    """The record of one station; `open_journal` writes it to a file as well.

    Args:
        evse: What the operator calls the place.
        wall: Tells POSIX seconds.
    """

    def __init__(self, evse: str = "", wall: Callable[[], float] = time.time) -> None:
        self._evse = evse
        self._wall = wall
        self._lines: deque[str] = deque(maxlen=MAX_WAITING)
        self._arrived = anyio.Event()
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._next = int(wall() * 1000)
        self.certificates: dict[str, str] = {}
        """c5t, in hex, of the certificate that the station shows, by its label."""

    def proved(self, source: str, label: str) -> None:
        """Note that the station has shown its certificate of `label` to a car."""
        self._note(source, "proof", label, outcome="shown")

    def relayed(self, inbound: Inbound, reply: Reply, seconds: float) -> None:
        """Note one question of a car and how it went."""
        self._note(
            inbound.source,
            inbound.op.value,
            inbound.label,
            signer=_signer(inbound.body),
            outcome=_outcome(reply),
            seconds=round(seconds, 3),
        )

    def _note(self, source: str, event: str, label: str, **more: object) -> None:
        now = self._wall()
        line = {
            "time": round(now, 3),
            "session": self._session(source, now).number,
            "car": source,
            "evse": self._evse,
            "station": ",".join(self.certificates.values()),
            "event": event,
            "label": label,
            **{key: value for key, value in more.items() if value is not None},
        }
        # Strangers may ask as often as they like; a file has an end, a log has none.
        _log.debug("car", extra={key: value for key, value in line.items() if key != "time"})
        self._lines.append(json.dumps(line) + "\n")
        self._arrived.set()

    def _session(self, source: str, now: float) -> _Session:
        session = self._sessions.get(source)
        if session is None or now - session.last > IDLE:
            self._next += 1
            session = self._sessions[source] = _Session(self._next, now)
        session.last = now
        self._sessions.move_to_end(source)
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return session

    async def write_to(self, file: Path, max_bytes: int) -> None:
        """Write lines as they come, for ever."""
        while True:
            await self._arrived.wait()
            self._arrived = anyio.Event()
            await self.flush(file, max_bytes)

    async def flush(self, file: Path, max_bytes: int) -> None:
        """Write what there is; a disk that fails costs these lines, and a warning."""
        lines = "".join(self._lines)
        self._lines.clear()
        try:
            await to_thread.run_sync(_append, file, lines, max_bytes)
        except OSError as error:
            _log.warning("%s: %s", file, error.strerror or error)


def _append(file: Path, lines: str, max_bytes: int) -> None:
    if lines and file.exists() and file.stat().st_size + len(lines) > max_bytes:
        file.replace(file.with_name(file.name + ".1"))
    with file.open("a") as stream:
        stream.write(lines)


@asynccontextmanager
async def open_journal(
    file: Path | None, *, evse: str = "", wall: Callable[[], float] = time.time, max_bytes: int = MAX_BYTES
) -> AsyncGenerator[Journal]:
    """Open a journal; when the block ends, everything is written.

    Args:
        file: Where to; None: to the process's log alone, for debugging.
        evse: What the operator calls the place.
        wall: Tells POSIX seconds.
        max_bytes: Length at which the file is put aside.
    """
    journal = Journal(evse, wall)
    if file is None:
        yield journal
        return
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(journal.write_to, file, max_bytes)
        try:
            yield journal
        finally:
            tasks.cancel_scope.cancel()
    with anyio.CancelScope(shield=True):
        await journal.flush(file, max_bytes)


def _signer(body: bytes) -> str | None:
    """Return which certificate a request names, as far as it can be read."""
    try:
        thumbprint = decode_sign1(body).header.thumbprint if body else None
    except MalformedMessage:
        return None
    return None if thumbprint is None else thumbprint.hex()


def _outcome(reply: Reply) -> str:
    match reply:
        case Content():
            return "answered"
        case Pending():
            return "pending"
        case SignedRefusal():
            return "refused"
        case Problem(kind):
            return kind.name.lower()
