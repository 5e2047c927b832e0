"""The store's tables, and how its database is opened.

One number names a key, the intent to certify it and the certificate that came of it: `keys.id` is
`certificates.id`. The row in `keys` is the intent: written before anything is signed, it fixes serial and
validity, and outlives the certificate, so that no key is ever certified twice.

SQLite in WAL mode: readers do not wait for the writer, and another process (`trillium revoke`) may work
beside a running authority. `BEGIN IMMEDIATE` makes every write transaction see the latest state, so the
rules that are checked inside one hold whoever else writes.
"""

import os
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    Column,
    Engine,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    create_engine,
    event,
    text,
)
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import StaticPool

SCHEMA_VERSION: Final = 2
"""Recorded in the database (PRAGMA user_version); another one is refused, not guessed at."""
_WHAT_TO_DO: Final = {
    1: "it was made before the first release: make a new directory (`trillium init`) and new devices for it",
}
"""What helps with a store of another version, where something does."""
BUSY_TIMEOUT_MS: Final = 10_000
"""How long one process waits for another's write transaction, in milliseconds; ours last a few."""
CACHE_KIB: Final = 16 * 1024
"""Page cache of one connection: the hot part of an inventory of tens of thousands fits."""

METADATA: Final = MetaData()

DEVICES: Final = Table(
    "devices",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("domain", Text, nullable=False),
    Column("label", Text, nullable=False),  # of tier 1
    Column("maker", LargeBinary(32), nullable=False),
    Column("client_id", Text, nullable=False, unique=True),
    Column("epoch", Integer, nullable=False),
    Column("entitled", Text, nullable=False),  # labels, separated by blanks
    Column("registered_at", Integer, nullable=False),
    Column("owner", Text),  # what the owner is called, where several share this authority
    Index("devices_by_name", "name", "maker", unique=True),
)

OWNERS: Final = Table(
    "owners",
    METADATA,
    Column("device_id", Integer, ForeignKey("devices.id"), primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("authority", LargeBinary(32), nullable=False),
    Column("owner", Text, nullable=False),
    Column("voucher", LargeBinary),  # None: the device came with it
    Column("signed_by", LargeBinary(32)),
    Column("is_by_maker", Integer, nullable=False),
    Column("shortcut", LargeBinary),
    Column("at", Text),
    Column("since", Integer, nullable=False),
    Column("approved_by", Text, nullable=False),
)
"""Every owner of the devices that ever changed one (`agents.authority.epochs`)."""

MAKER_PATHS: Final = Table(
    "maker_paths",
    METADATA,
    Column("key_id", LargeBinary(32), primary_key=True),
    Column("domain", Text, nullable=False),
    Column("path", LargeBinary, nullable=False),
)
"""Of makers whose devices came from other owners (`agents.authority.maker_paths`)."""

KEYS: Final = Table(
    "keys",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("key_hash", LargeBinary(32), nullable=False, unique=True),
    Column("authority", LargeBinary(32), nullable=False),
    Column("label", Text, nullable=False),
    Column("device_id", Integer, ForeignKey("devices.id"), nullable=False),
    Column("signer_id", Integer),  # None for a key from the factory
    Column("serial", LargeBinary(20), nullable=False),
    Column("not_before", Integer, nullable=False),
    Column("not_after", Integer),
)

CERTIFICATES: Final = Table(
    "certificates",
    METADATA,
    Column("id", Integer, ForeignKey("keys.id"), primary_key=True),
    Column("authority", LargeBinary(32), nullable=False),
    Column("serial", LargeBinary(20), nullable=False),
    Column("label", Text, nullable=False),
    Column("device_id", Integer, ForeignKey("devices.id"), nullable=False),
    Column("parent_id", Integer),
    Column("state", Text, nullable=False),
    Column("not_before", Integer, nullable=False),
    Column("not_after", Integer),
    Column("algorithm", Integer, nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("thumbprint", LargeBinary(8), nullable=False),
    Column("encoded", LargeBinary, nullable=False),
    Column("issued_at", Integer, nullable=False),
    Column("ended_at", Integer),
    Column("ended_revision", Integer),
    Column("reason", Integer),  # RFC 5280 §5.3.1, for the CRL
    Index("certificates_by_thumbprint", "thumbprint"),
    Index("certificates_by_serial", "serial", "authority", unique=True),
    Index("certificates_by_device", "device_id", "label"),
    Index("certificates_by_parent", "parent_id"),
    Index(
        "certificates_ended", "authority", "ended_revision", sqlite_where=text("ended_revision IS NOT NULL")
    ),
    # Not more than one of each: the rule itself, should the code above it ever be wrong.
    Index("one_pending", "device_id", "label", unique=True, sqlite_where=text("state = 'pending'")),
    Index("one_current", "device_id", "label", unique=True, sqlite_where=text("state = 'current'")),
)

ANSWERS: Final = Table(
    "answers",
    METADATA,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("device_id", Integer),
    Column("certificate_id", Integer),  # this, or the refusal
    Column("refusal", LargeBinary),
    Column("kind", Integer),
    Column("detail", Text),
    Column("answered_at", Integer, nullable=False),
    Index("refusals_by_device", "device_id", "answered_at", sqlite_where=text("refusal IS NOT NULL")),
)

GRANTS: Final = Table(
    "grants",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("device_id", Integer, ForeignKey("devices.id"), nullable=False),
    Column("label", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("not_after", Integer),  # of the contract; None: as long as its certificates
    Column("granted_at", Integer, nullable=False),
    Column("ended_at", Integer),
    Column("look_at", Integer, nullable=False),  # when there may be something to prepare
    Index("grants_of_device", "device_id", "label", unique=True, sqlite_where=text("ended_at IS NULL")),
    Index("grants_by_name", "name", "label", unique=True, sqlite_where=text("ended_at IS NULL")),
    Index("grants_to_look_at", "look_at", sqlite_where=text("ended_at IS NULL")),
)
"""Names that devices are granted: a contract's eMAID. One at a time for each device and label."""

INSTALLATIONS: Final = Table(
    "installations",
    METADATA,
    Column("certificate_id", Integer, ForeignKey("keys.id"), primary_key=True),
    Column("grant_id", Integer, ForeignKey("grants.id"), nullable=False),
    Column("recipient_id", Integer, ForeignKey("certificates.id"), nullable=False),
    Column("stage", Text, nullable=False),  # reserved, ready, claimed
    Column("fresh_until", Integer, nullable=False),
    Column("certificate", LargeBinary),
    Column("installation", LargeBinary),
    Column("characters", Integer),  # of its EXI form in base64, at most
    Index("one_prepared", "grant_id", unique=True, sqlite_where=text("stage != 'claimed'")),
    Index("installations_by_recipient", "recipient_id"),
    Index("installations_claimed", "certificate_id", sqlite_where=text("stage = 'claimed'")),
)
"""Certificates with generated keys, each wrapped to its recipient: prepared, or given and not confirmed."""

PACKAGES: Final = Table(
    "packages",
    METADATA,
    Column("digest", LargeBinary(32), primary_key=True),  # as in `answers`
    Column("certificate_id", Integer, nullable=False),
    Column("encoded", LargeBinary, nullable=False),
    Index("packages_by_certificate", "certificate_id"),
)
"""What was answered to `skg`, until the device has confirmed it."""

AUDIT: Final = Table(
    "audit",
    METADATA,
    Column("sequence", Integer, primary_key=True),
    Column("record", LargeBinary, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
)

CRLS: Final = Table(
    "crls",
    METADATA,
    Column("authority", LargeBinary(32), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("this_update", Integer, nullable=False),
    Column("next_update", Integer, nullable=False),
    Column("encoded", LargeBinary, nullable=False),
)

CRL_NUMBERS: Final = Table(
    "crl_numbers",
    METADATA,
    Column("authority", LargeBinary(32), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("this_update", Integer, nullable=False),
)
"""Which revision each list shows: what deltas start from, and what tells who can have learned of what."""

CRL_FETCHES: Final = Table(
    "crl_fetches",
    METADATA,
    Column("authority", LargeBinary(32), primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("last_at", Integer, nullable=False),
)

OCSP_ANSWERS: Final = Table(
    "ocsp_answers",
    METADATA,
    Column("certificate_id", Integer, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("last_at", Integer, nullable=False),
)

REMOVALS: Final = Table(
    "removals",
    METADATA,
    Column("certificate_id", Integer, primary_key=True),
    Column("removed_at", Integer, nullable=False),
    Column("told_by", Text, nullable=False),  # operator, device
)
"""Certificates that somebody says are no longer on the device that held them."""

REPORTS: Final = Table(
    "reports",
    METADATA,
    Column("device_id", Integer, ForeignKey("devices.id"), primary_key=True),
    Column("received_at", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
"""What each device last said that it holds (`protocol.held`): one row per device."""

MESSAGE_COUNTERS: Final = Table(
    "message_counters",
    METADATA,
    Column("certificate_id", Integer, primary_key=True),
    Column("counter", Integer, nullable=False),
)

COUNTERS: Final = Table(
    "counters",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", Integer, nullable=False),
)
REVISION: Final = "revision"
"""Grows with every certificate that ends."""


class WrongStore(Exception):
    """Not a store, or one of another version of this program."""


def open_engine(path: Path, *, create: bool = False) -> Engine:
    """Return an engine over one connection to the database at `path`.

    One connection, because one thread at a time uses it; the caller sees to that.

    Raises:
        WrongStore: No database there (unless `create`), or not of this version.
    """
    if not create and not path.is_file():
        raise WrongStore(f"{path}: no such store; `trillium init` makes one")
    if create:
        # Made here so that it is never readable by others, not even for a moment.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=StaticPool,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
    )
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    try:
        with engine.begin() as connection:
            version = _version(connection, create=create)
    except DatabaseError as error:
        engine.dispose()
        raise WrongStore(f"{path}: {error.orig}") from None
    if version != SCHEMA_VERSION:
        engine.dispose()
        advice = _WHAT_TO_DO.get(version, "use the program that wrote it")
        raise WrongStore(
            f"{path}: a store of version {version}; this program reads {SCHEMA_VERSION}: {advice}"
        )
    return engine


def _version(connection: Connection, *, create: bool) -> int:
    version = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
    if version != 0 or not create:
        return version
    METADATA.create_all(connection)
    connection.execute(COUNTERS.insert().values(name=REVISION, value=0))
    connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
    return SCHEMA_VERSION


def _configure(connection: Any, _: object) -> None:  # noqa: ANN401 (the driver's own type)
    # The driver must not open transactions by itself: ours begin in `_begin`.
    connection.isolation_level = None
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        f"cache_size = -{CACHE_KIB}",
        "mmap_size = 268435456",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    immediate = not connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
