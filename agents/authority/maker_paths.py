"""Whose devices are taken here: our makers, those that an operator stated, and those of devices that came.

A device that came from another authority may go on to a third one, which wants to see its maker's path; so
the path is kept, as it was verified when the device came.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.engine import Connection

from agents.authority.domain import read_line, read_makers
from agents.authority.layout import BadDirectory, Layout, Settings
from agents.authority.makers import read_statements
from agents.authority.schema import MAKER_PATHS
from agents.authority.store import Store, Writing
from protocol import c509
from protocol.errors import EnrollmentError
from protocol.labels import Domain
from protocol.path import Authority, verification_key, verify_authority
from protocol.validity import Clock
from protocol.voucher import key_identifier

ENDLESS: Final = Clock(None)
"""Of their time, those judge who are shown certificates; whose a device is, no clock decides."""
_KEEP: Final = upsert(MAKER_PATHS).on_conflict_do_nothing()


def keep_paths(writing: Writing, domain: Domain, paths: Mapping[bytes, bytes]) -> None:
    """Keep makers' paths (COSE_C509 by key identifier), each verified by the caller."""
    rows = [{"key_id": key_id, "domain": domain.value, "path": path} for key_id, path in paths.items()]
    if rows:
        writing.connection.execute(_KEEP, rows)


def _kept(connection: Connection, domain: Domain) -> dict[bytes, bytes]:
    wanted = select(MAKER_PATHS).where(MAKER_PATHS.c.domain == domain.value)
    return {row.key_id: row.path for row in connection.execute(wanted)}


def maker_paths(store: Store, layout: Layout, settings: Settings, domain: Domain) -> dict[bytes, bytes]:
    """Return the path of each maker's CA, it first and its root left out, as COSE_C509, by key identifier.

    Raises:
        BadDirectory: A certificate is damaged, or a statement was not made.
    """
    line = settings.lines(domain).maker
    try:
        above = read_line(layout, line)[1][1:]
        own = {
            maker.key_id: c509.encode_chain([maker.certificate, *above])
            for maker in read_makers(layout, line, domain, ENDLESS)
        }
        with store.reading() as connection:
            stated = read_statements(connection, domain)
            kept = _kept(connection, domain)
    except (OSError, ValueError, EnrollmentError) as error:
        raise BadDirectory(f"{domain.value}: {error}") from None
    # Whoever gets devices of stated makers knows them by a statement of its own, or takes none of them.
    return kept | own | {one.key_id: c509.encode_chain(one.chain[:-1] or one.chain) for one in stated}


def verified_makers(
    store: Store, layout: Layout, settings: Settings, domain: Domain, more: Iterable[bytes] = ()
) -> dict[bytes, Authority]:
    """Return the makers whose devices are taken here, by key identifier.

    Args:
        store: Open.
        layout: Of the directory.
        settings: Its own.
        domain: Which of its domains.
        more: Paths (COSE_C509) that somebody else shows: taken where our makers' root vouches for them.

    Raises:
        BadDirectory: A certificate is damaged, or a statement was not made.
        RequestRejected: A path in `more` leads elsewhere.
        MalformedMessage: One is no path.
    """
    line = settings.lines(domain).maker
    try:
        known = {maker.key_id: maker for maker in read_makers(layout, line, domain, ENDLESS)}
        root, _ = read_line(layout, line)
        with store.reading() as connection:
            kept = _kept(connection, domain)
    except (OSError, ValueError, EnrollmentError) as error:
        raise BadDirectory(f"{domain.value}: {error}") from None
    for encoded in kept.values():
        with suppress(EnrollmentError):  # whose root we have taken leave of
            _add(known, encoded, root)
    for encoded in more:
        _add(known, encoded, root)
    return known


def _add(known: dict[bytes, Authority], encoded: bytes, root: c509.Certificate) -> None:
    path = c509.decode_chain(encoded)
    key_id = key_identifier(verification_key(path[0]))
    if key_id not in known:
        known[key_id] = verify_authority(path, root=root, authority=None, clock=ENDLESS)
