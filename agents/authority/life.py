"""A certificate's life in the store: pending, current, and the ways in which it ends.

Every function works inside an open write transaction and looks at the state there again, so a change that
was decided on older facts either still fits or does not happen (compare-and-swap).

One device's changes must not meet in one call: callers take them in rounds (`rounds`), one per device.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from sqlalchemy import bindparam, select, update

from agents.authority.audit import Entry, Event
from agents.authority.schema import CERTIFICATES, DEVICES
from agents.authority.store import Writing
from protocol.exchange.facts import CertificateState
from protocol.exchange.request import RevocationReason

_C: Final = CERTIFICATES.c
_PARENT: Final = CERTIFICATES.alias("parent")
PENDING, CURRENT = CertificateState.PENDING.value, CertificateState.CURRENT.value
SUPERSEDED, REVOKED, VOID = (
    CertificateState.SUPERSEDED.value,
    CertificateState.REVOKED.value,
    CertificateState.VOID.value,
)
_COMPROMISE: Final = frozenset({RevocationReason.KEY_COMPROMISE, RevocationReason.CA_COMPROMISE})
"""Reasons that take all descendants with them: whoever had the key may have asked for those."""

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Life:
    """One certificate's state, as it is in this transaction."""

    id: int
    state: str
    device_id: int
    label: str
    serial: bytes
    parent_id: int | None
    not_after: int | None
    parent_state: str | None
    parent_not_after: int | None
    client_id: str
    device: str

    def entry(self, event: Event, detail: str = "") -> Entry:
        """Return an audit entry about this certificate."""
        return Entry(event, self.client_id, self.device, self.label, self.serial, detail)

    @property
    def is_alive(self) -> bool:
        """Whether it is pending or current."""
        return self.state in (PENDING, CURRENT)

    def may_become_current(self, now: int) -> bool:
        """Whether it is pending, in time, and its parent is current and in time."""
        return (
            self.state == PENDING
            and (self.not_after is None or now <= self.not_after)
            and self.parent_state == CURRENT
            and (self.parent_not_after is None or now <= self.parent_not_after)
        )


_LIVES = select(
    _C.id,
    _C.state,
    _C.device_id,
    _C.label,
    _C.serial,
    _C.parent_id,
    _C.not_after,
    _PARENT.c.state,
    _PARENT.c.not_after,
    DEVICES.c.client_id,
    DEVICES.c.name,
).select_from(
    CERTIFICATES.join(DEVICES, DEVICES.c.id == _C.device_id).outerjoin(_PARENT, _PARENT.c.id == _C.parent_id)
)
_BY_ID = _LIVES.where(_C.id.in_(bindparam("ids", expanding=True)))
_OF_DEVICES = _LIVES.where(_C.device_id.in_(bindparam("devices", expanding=True)))
_ALIVE_OF_DEVICES = _OF_DEVICES.where(_C.state.in_([PENDING, CURRENT]))
_PENDING_OF_DEVICES = _OF_DEVICES.where(_C.state == PENDING)
_PENDING_CHILDREN = _LIVES.where(_C.parent_id.in_(bindparam("parents", expanding=True)), _C.state == PENDING)
_CHILDREN = _LIVES.where(_C.parent_id.in_(bindparam("parents", expanding=True)))
_MAKE_CURRENT = update(CERTIFICATES).where(_C.id == bindparam("target")).values(state=CURRENT)
_END = (
    update(CERTIFICATES)
    .where(_C.id == bindparam("target"))
    .values(
        state=bindparam("new_state"),
        ended_at=bindparam("now"),
        ended_revision=bindparam("revision"),
        reason=bindparam("why"),
    )
)


def rounds(items: Iterable[tuple[int, _Item]]) -> list[list[_Item]]:
    """Return (device, item) pairs as lists in which no device comes twice, in the order of each device."""
    made: list[list[_Item]] = []
    seen: dict[int, int] = {}
    for device, item in items:
        turn = seen.get(device, 0)
        seen[device] = turn + 1
        if turn == len(made):
            made.append([])
        made[turn].append(item)
    return made


def lives(writing: Writing, ids: Iterable[int]) -> dict[int, Life]:
    """Return the state of each certificate in `ids` that exists."""
    rows = writing.connection.execute(_BY_ID, {"ids": list(ids)})
    return {row[0]: Life(*row) for row in rows}


def lives_of_device(writing: Writing, device_id: int) -> list[Life]:
    """Return all certificates of one device."""
    return [Life(*row) for row in writing.connection.execute(_OF_DEVICES, {"devices": [device_id]})]


def services_of_devices(writing: Writing, devices: Iterable[int]) -> list[Life]:
    """Return what is pending or current of these devices, tier 1 left out: all that an owner gave them."""
    rows = writing.connection.execute(_ALIVE_OF_DEVICES, {"devices": list(devices)})
    return [life for life in (Life(*row) for row in rows) if life.parent_id is not None]


def pending_of(writing: Writing, places: Iterable[tuple[int, str]]) -> list[Life]:
    """Return the pending certificates under these (device, label) pairs."""
    wanted = set(places)
    rows = writing.connection.execute(_PENDING_OF_DEVICES, {"devices": list({d for d, _ in wanted})})
    return [life for life in (Life(*row) for row in rows) if (life.device_id, life.label) in wanted]


def end(
    writing: Writing,
    ended: Sequence[Life],
    state: CertificateState,
    reason: RevocationReason,
    event: Event,
    detail: str = "",
    *,
    spare: frozenset[int] = frozenset(),
) -> None:
    """End these certificates, and with them whatever is pending under them, but for `spare`."""
    if not ended:
        return
    revision, now = writing.revision, writing.now
    writing.connection.execute(
        _END,
        [
            {
                "target": life.id,
                "new_state": state.value,
                "now": now,
                "revision": revision,
                "why": int(reason),
            }
            for life in ended
        ],
    )
    for life in ended:
        writing.note(life.entry(event, detail))
    rows = writing.connection.execute(_PENDING_CHILDREN, {"parents": [life.id for life in ended]})
    children = [life for life in (Life(*row) for row in rows) if life.id not in spare]
    if children:
        end(
            writing,
            children,
            CertificateState.VOID,
            RevocationReason.SUPERSEDED,
            Event.VOID,
            "its parent ended first",
        )


def make_current(writing: Writing, targets: Sequence[tuple[int, int]], event: Event) -> set[int]:
    """Make pending certificates current and retire everything else current at their place.

    Args:
        writing: The open transaction.
        targets: (device, certificate) pairs.
        event: CONFIRM or ACTIVATE.

    Returns:
        Those that are current now, also if they were before.
    """
    current: set[int] = set()
    for turn in rounds((device, target) for device, target in targets):
        current |= _make_current_once(writing, turn, event)
    return current


def _make_current_once(writing: Writing, targets: Sequence[int], event: Event) -> set[int]:
    found = lives(writing, targets)
    current = {number for number, life in found.items() if life.state == CURRENT}
    promoted = [life for life in found.values() if life.may_become_current(writing.now)]
    if not promoted:
        return current
    places = {(life.device_id, life.label): life for life in promoted}
    rows = writing.connection.execute(_ALIVE_OF_DEVICES, {"devices": [life.device_id for life in promoted]})
    retired = [
        life
        for life in (Life(*row) for row in rows)
        if life.state == CURRENT and (life.device_id, life.label) in places
    ]
    # Retired first: there is never more than one. Retiring the parent must not void its successor.
    end(
        writing,
        retired,
        CertificateState.SUPERSEDED,
        RevocationReason.SUPERSEDED,
        Event.SUPERSEDE,
        "the next certificate is current",
        spare=frozenset(life.id for life in promoted),
    )
    writing.connection.execute(_MAKE_CURRENT, [{"target": life.id} for life in promoted])
    for life in promoted:
        writing.note(life.entry(event))
    return current | {life.id for life in promoted}


def void(writing: Writing, targets: Sequence[Life], detail: str) -> None:
    """End certificates that never became current."""
    pending = [life for life in targets if life.state == PENDING]
    end(writing, pending, CertificateState.VOID, RevocationReason.SUPERSEDED, Event.VOID, detail)


def revoke(
    writing: Writing, targets: Sequence[Life], reason: RevocationReason, detail: str = ""
) -> list[Life]:
    """Revoke certificates; for a compromised key, with all that descend from it.

    Returns:
        What was revoked now; certificates that were before are left as they are.
    """
    revoked = [life for life in targets if life.state != REVOKED]
    end(writing, revoked, CertificateState.REVOKED, reason, Event.REVOKE, detail or reason.name.lower())
    if reason not in _COMPROMISE:
        return revoked
    seen = {life.id for life in targets}
    generation = [life.id for life in targets]
    while generation:
        rows = writing.connection.execute(_CHILDREN, {"parents": generation})
        children = [life for life in (Life(*row) for row in rows) if life.id not in seen]
        seen |= {life.id for life in children}
        generation = [life.id for life in children]
        heirs = [life for life in children if life.state != REVOKED]
        why = f"descends from a certificate revoked for {reason.name.lower()}"
        end(writing, heirs, CertificateState.REVOKED, reason, Event.REVOKE, why)
        revoked += heirs
    return revoked
