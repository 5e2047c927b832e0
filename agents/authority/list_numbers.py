"""The numbers of an authority's revocation lists, and which revision of the store each list shows.

The newest are all kept: deltas start from them. Of older ones the last of each hour stays, so that it can be
said to the hour when a certificate was first listed, for as long as the store is kept.
"""

from typing import Final

from sqlalchemy import bindparam, delete, func, insert, select
from sqlalchemy.engine import Connection

from agents.authority.schema import CRL_NUMBERS

EXACT: Final = 2000
"""Newest lists that are all remembered: half an hour of a list a second, or years of a list a day."""
HOUR: Final = 3600

_N: Final = CRL_NUMBERS.c
_MINE = _N.authority == bindparam("mine")
_ADD = insert(CRL_NUMBERS)
_LAST = select(func.max(_N.number)).where(_MINE)
_REVISION_OF = select(_N.revision).where(_MINE, _N.number == bindparam("wanted"))
_PAIR = select(_N.number, _N.this_update).where(
    _MINE, _N.number.in_([bindparam("leaving"), bindparam("following")])
)
_DROP = delete(CRL_NUMBERS).where(_MINE, _N.number == bindparam("leaving"))


def last_number(connection: Connection, authority: bytes) -> int:
    """Return the number of the newest list; 0 before the first."""
    return int(connection.execute(_LAST, {"mine": authority}).scalar_one() or 0)


def revision_of(connection: Connection, authority: bytes, number: int) -> int | None:
    """Return the revision that a list shows; None if it is not, or no longer, known."""
    found = connection.execute(_REVISION_OF, {"mine": authority, "wanted": number}).scalar_one_or_none()
    return None if found is None else int(found)


def record(connection: Connection, authority: bytes, number: int, revision: int, this_update: int) -> None:
    """Remember a new list, inside its write transaction, and thin what it pushes out of the newest."""
    row = {"authority": authority, "number": number, "revision": revision, "this_update": this_update}
    connection.execute(_ADD, row)
    leaving = number - EXACT
    places = {"mine": authority, "leaving": leaving, "following": leaving + 1}
    times = {row.number: row.this_update for row in connection.execute(_PAIR, places)}
    if len(times) == 2 and times[leaving] // HOUR == times[leaving + 1] // HOUR:
        connection.execute(_DROP, {"mine": authority, "leaving": leaving})
