"""The store: one database, one writer at a time, every rule checked inside the transaction that needs it.

Synchronous on purpose: it is used from worker threads by the authority and plainly by the command line.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import bindparam, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from agents.authority import audit
from agents.authority.audit import Entry
from agents.authority.schema import COUNTERS, REVISION, open_engine

_NEXT_REVISION = (
    update(COUNTERS)
    .where(COUNTERS.c.name == bindparam("counter", REVISION))
    .values(value=COUNTERS.c.value + 1)
    .returning(COUNTERS.c.value)
)
_REVISION = select(COUNTERS.c.value).where(COUNTERS.c.name == bindparam("counter", REVISION))


class Writing:
    """One write transaction: its connection, its time, and what it will leave in the audit log."""

    def __init__(self, connection: Connection, now: int) -> None:
        self.connection = connection
        self.now = now
        self._entries: list[Entry] = []
        self._revision: int | None = None

    def note(self, entry: Entry) -> None:
        """Leave an audit record, in the order of the calls."""
        self._entries.append(entry)

    @property
    def revision(self) -> int:
        """The revision of the certificates that end in this transaction; asking for it makes it."""
        if self._revision is None:
            self._revision = int(self.connection.execute(_NEXT_REVISION).scalar_one())
        return self._revision

    def finish(self) -> None:
        """Write the audit records; the last step before the commit."""
        audit.append(self.connection, self._entries, self.now)


class Store:
    """The database of one authority directory.

    Threads: any; reads and writes each go one at a time, in parallel to each other.

    Args:
        path: The database file.
        create: Make the tables, for a new directory.

    Raises:
        WrongStore: Not a store of this version.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        self._write_engine = open_engine(path, create=create)
        self._read_engine = open_engine(path)
        self._writer = self._write_engine.connect()
        self._reader = self._read_engine.connect().execution_options(read_only=True)
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._is_durable = True

    def close(self) -> None:
        """Close both connections; the write-ahead log is folded into the database."""
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._read_engine.dispose()
            self._writer.close()
            self._write_engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a read transaction: one consistent picture."""
        with self._read_lock, self._reader.begin():
            yield self._reader

    @contextmanager
    def writing(self, now: int, *, durable: bool = True) -> Iterator[Writing]:
        """Open a write transaction; it is committed when the body ends, undone if it raises.

        Args:
            now: POSIX seconds, the time of every record made in it.
            durable: Survive power loss; otherwise only the end of this process (much cheaper).
        """
        with self._write_lock:
            self._set_durable(durable)
            with self._writer.begin():
                writing = Writing(self._writer, now)
                yield writing
                writing.finish()

    def _set_durable(self, durable: bool) -> None:
        if durable is self._is_durable:
            return
        raw = self._writer.connection.dbapi_connection
        assert raw is not None
        raw.cursor().execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        self._is_durable = durable

    def revision(self) -> int:
        """Return the number of changes by which certificates ended."""
        with self.reading() as connection:
            return int(connection.execute(_REVISION).scalar_one())


def in_words(error: SQLAlchemyError | OSError) -> str:
    """Return what went wrong, without the statement and its values: those belong in no log."""
    return str(error.orig if isinstance(error, DBAPIError) else error)
