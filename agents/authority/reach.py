"""Whom the news of a revocation can have reached, certificate by certificate, as far as it can be known here.

Known: when a list first carried it, how often a list that carries it was given out and over what, how often
OCSP said so, which devices report to have verified such a list, and whether the device that held it still
does. Not known: what others did with what they got, and what a broker or a cache in between kept to itself.
Counts say "at least" (`agents.authority.reach_counts`).
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from agents.authority import removals
from agents.authority.schema import (
    CERTIFICATES,
    CRL_FETCHES,
    CRL_NUMBERS,
    DEVICES,
    OCSP_ANSWERS,
    REMOVALS,
    REPORTS,
)
from agents.authority.store import Store
from protocol.errors import MalformedMessage
from protocol.exchange.facts import CertificateState
from protocol.exchange.request import RevocationReason
from protocol.held import HeldReport, decode_held
from protocol.labels import Industry, Tier
from protocol.profiles import PROFILES, Form

_C: Final = CERTIFICATES.c
_REVOKED = (
    select(
        _C.id, _C.authority, _C.serial, _C.label, _C.device_id, _C.thumbprint, _C.ended_at,
        _C.ended_revision, _C.reason, DEVICES.c.name, DEVICES.c.client_id,
        REMOVALS.c.removed_at, REMOVALS.c.told_by,
        OCSP_ANSWERS.c.count.label("ocsp_count"), OCSP_ANSWERS.c.last_at.label("ocsp_last"),
    )
    .select_from(
        CERTIFICATES.join(DEVICES, DEVICES.c.id == _C.device_id)
        .outerjoin(REMOVALS, REMOVALS.c.certificate_id == _C.id)
        .outerjoin(OCSP_ANSWERS, OCSP_ANSWERS.c.certificate_id == _C.id)
    )
    .where(_C.state == CertificateState.REVOKED.value)
    .order_by(_C.ended_revision, _C.id)
)  # fmt: skip
_FETCHES = select(
    CRL_FETCHES.c.authority,
    CRL_FETCHES.c.channel,
    CRL_FETCHES.c.number,
    CRL_FETCHES.c.count,
    CRL_FETCHES.c.last_at,
)
_NEWEST = (
    select(_C.device_id, _C.label, func.max(_C.id))
    .where(_C.state.in_([CertificateState.CURRENT.value, CertificateState.SUPERSEDED.value]))
    .group_by(_C.device_id, _C.label)
)
"""The newest of each device and label that the device has confirmed, or has signed with."""


class Removal(StrEnum):
    """Whether a meter still holds the revoked certificate."""

    NOT_NEEDED = "not needed"
    """Its holder asks for revocations, or is asked for them: no meter that believes whatever it holds."""
    ELSEWHERE = "unknown"
    """A client's: meters that were given it hold it, and which those are is not known here."""
    NEEDED = "needed"
    """Nobody has said anything."""
    HELD = "still held"
    """The meter reports it, after the revocation."""
    REPLACED = "replaced"
    """A later certificate of the same label is in use: importing it took the place of this one."""
    REPORTED_GONE = "reported gone"
    """The meter's own report, after the revocation, does not have it."""
    GIVEN_BACK = "given back"
    """The meter gave it back by itself."""
    CONFIRMED = "confirmed"
    """The operator says that it was removed."""

    @property
    def is_open(self) -> bool:
        """Whether a removal command has to be sent."""
        return self in (Removal.NEEDED, Removal.HELD)


@dataclass(frozen=True, slots=True)
class Listed:
    """The first list that carries a certificate."""

    number: int
    at: int
    """Its thisUpdate, POSIX seconds."""
    is_exact: bool
    """Whether it is the very first; lists before it are forgotten otherwise, and it is at latest this one."""


@dataclass(frozen=True, slots=True)
class Fetches:
    """How often something was given out."""

    count: int
    last_at: int
    """POSIX seconds."""


@dataclass(frozen=True, slots=True)
class Reached:
    """One revoked certificate, and whom that can have reached."""

    device: str
    client_id: str
    label: str
    serial: bytes
    authority: bytes
    """Key identifier of its issuer, 32 bytes."""
    revoked_at: int
    reason: RevocationReason
    is_published: bool
    """Whether its issuer's lists are published here; a maker's are not."""
    listed: Listed | None
    """None: on no list yet."""
    fetches: Mapping[str, Fetches]
    """By channel (coap, mqtt, http, announced): lists that carry it, given out since."""
    ocsp: Fetches | None
    """Answers that said so."""
    devices: int
    """Devices that report to have verified a list that carries it."""
    removal: Removal


def reach(store: Store) -> list[Reached]:
    """Return every revoked certificate, in the order of revocation."""
    with store.reading() as connection:
        rows = connection.execute(_REVOKED).all()
        lists = _Lists(connection)
        reports = _reports(connection)
        newest = {(device, label): number for device, label, number in connection.execute(_NEWEST)}
    verified: dict[bytes, list[int]] = defaultdict(list)
    for _, report in reports.values():
        verified[report.authority].append(report.crl_number)
    for numbers in verified.values():
        numbers.sort()
    found: list[Reached] = []
    for row in rows:
        profile = PROFILES.get(row.label)
        listed = lists.first(row.authority, row.ended_revision)
        those = verified.get(row.authority, [])
        found.append(
            Reached(
                row.name,
                row.client_id,
                row.label,
                row.serial,
                row.authority,
                row.ended_at,
                RevocationReason(row.reason or 0),
                profile is None or profile.tier is not Tier.BOOTSTRAPPING,
                listed,
                {} if listed is None else lists.fetches(row.authority, listed.number),
                None if row.ocsp_count is None else Fetches(row.ocsp_count, row.ocsp_last),
                0 if listed is None else len(those) - bisect_left(those, listed.number),
                _removal(row, reports.get(row.device_id), newest.get((row.device_id, row.label))),
            )
        )
    return found


def _removal(row: Any, report: tuple[int, HeldReport] | None, newest: int | None) -> Removal:  # noqa: ANN401
    """Return what is known of a revoked certificate's removal, the surest first."""
    profile = PROFILES.get(row.label)
    if profile is None or profile.domain.industry is not Industry.METERING or profile.form is not Form.X509:
        return Removal.NOT_NEEDED
    if row.told_by is not None:
        return Removal.CONFIRMED if row.told_by == removals.OPERATOR else Removal.GIVEN_BACK
    if row.label.startswith("client"):
        return Removal.ELSEWHERE
    if report is not None and report[0] >= row.ended_at:
        is_held = any(held.thumbprint == row.thumbprint for held in report[1].certificates)
        if is_held or profile.tier is not Tier.BOOTSTRAPPING:
            # A report tells of what the device has under its owner; of tier 1 only what it names counts.
            return Removal.HELD if is_held else Removal.REPORTED_GONE
    return Removal.REPLACED if newest is not None and newest > row.id else Removal.NEEDED


def _reports(connection: Connection) -> dict[int, tuple[int, HeldReport]]:
    """Return when each device reported last, and what."""
    found: dict[int, tuple[int, HeldReport]] = {}
    for row in connection.execute(select(REPORTS)):
        try:
            found[row.device_id] = row.received_at, decode_held(row.body)
        except MalformedMessage:
            continue  # of another version of this program
    return found


class _Lists:
    """The numbers of all authorities' lists, and how often which were given out."""

    def __init__(self, connection: Connection) -> None:
        self._numbers: dict[bytes, list[tuple[int, int, int]]] = defaultdict(list)
        rows: Iterable[Any] = connection.execute(select(CRL_NUMBERS).order_by(CRL_NUMBERS.c.number))
        for row in rows:
            self._numbers[row.authority].append((row.revision, row.number, row.this_update))
        self._fetches: dict[bytes, list[tuple[str, int, int, int]]] = defaultdict(list)
        for authority, *fetches in connection.execute(_FETCHES):
            self._fetches[authority].append((fetches[0], fetches[1], fetches[2], fetches[3]))
        self._known: dict[tuple[bytes, int], dict[str, Fetches]] = {}

    def first(self, authority: bytes, revision: int) -> Listed | None:
        """Return the first list that shows `revision`."""
        known = self._numbers.get(authority, [])
        place = bisect_left(known, (revision, 0, 0))
        if place == len(known):
            return None
        _, number, at = known[place]
        before = known[place - 1][1] if place else 0
        return Listed(number, at, before == number - 1)

    def fetches(self, authority: bytes, number: int) -> Mapping[str, Fetches]:
        """Return how often list `number` or a later one was given out, by channel."""
        key = authority, number
        if key not in self._known:
            summed: dict[str, Fetches] = {}
            for channel, given, count, last in self._fetches.get(authority, []):
                if given >= number:
                    before = summed.get(channel, Fetches(0, 0))
                    summed[channel] = Fetches(before.count + count, max(before.last_at, last))
            self._known[key] = dict(sorted(summed.items()))
        return self._known[key]
