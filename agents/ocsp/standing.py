"""How certificates stand in the store, for the OCSP responder."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from sqlalchemy import bindparam, select

from agents.authority.schema import CERTIFICATES, COUNTERS, REVISION
from agents.authority.store import Store

_C: Final = CERTIFICATES.c
_REVISION = select(COUNTERS.c.value).where(COUNTERS.c.name == bindparam("counter", REVISION))
_FOUND = select(_C.authority, _C.serial, _C.id, _C.ended_at, _C.reason).where(
    _C.serial.in_(bindparam("serials", expanding=True))
)
_ENDED = select(_C.authority, _C.serial).where(
    _C.authority.in_(bindparam("authorities", expanding=True)), _C.ended_revision > bindparam("revision")
)


class State(Enum):
    """RFC 6960 §2.2."""

    GOOD = auto()
    """Issued, and not ended."""
    REVOKED = auto()
    """Ended: whatever is on the revocation list, superseded certificates too."""
    UNKNOWN = auto()
    """Not issued by this authority, as far as it remembers."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How one certificate stands."""

    state: State
    certificate_id: int | None = None
    ended_at: int = 0
    """POSIX seconds; for REVOKED."""
    reason: int = 0
    """RFC 5280 §5.3.1; for REVOKED."""


_UNKNOWN: Final = Standing(State.UNKNOWN)


def of(
    store: Store, wanted: Sequence[tuple[bytes, bytes]]
) -> tuple[int, dict[tuple[bytes, bytes], Standing]]:
    """Return the store's revision, and how each (authority, serial) stands at it."""
    with store.reading() as connection:
        revision = int(connection.execute(_REVISION).scalar_one())
        rows = connection.execute(_FOUND, {"serials": [serial for _, serial in wanted]}).all()
    found = dict.fromkeys(wanted, _UNKNOWN)
    for row in rows:
        key = row.authority, row.serial
        if key in found:
            found[key] = (
                Standing(State.GOOD, row.id)
                if row.ended_at is None
                else Standing(State.REVOKED, row.id, row.ended_at, row.reason or 0)
            )
    return revision, found


def ended_since(
    store: Store, authorities: Sequence[bytes], revision: int
) -> tuple[int, list[tuple[bytes, bytes]]]:
    """Return the store's revision, and what ended between `revision` and it; nothing below revision 0."""
    with store.reading() as connection:
        now = int(connection.execute(_REVISION).scalar_one())
        if revision < 0 or now == revision:
            return now, []
        rows = connection.execute(_ENDED, {"authorities": authorities, "revision": revision}).all()
    return now, [(row.authority, row.serial) for row in rows]
