"""Contracts made before anybody asks: so that an answer is one signature away when a car stands at a station.

    grant ──look──> reserved (intent: serial, validity) ──made──> ready ──asked for──> claimed ─> gone
                        └── the grant or the recipient's certificate ended, or it grew old: void ──┘

A certificate that is ready is nobody's yet: it is not among the device's, no list names it, and what becomes
void was never outside. The intent is on disk before anything is signed; who dies in between finds it again.

Works in a thread of its own, a few contracts at a time, and only while no requests wait; under lasting load
a few a second all the same. A grant says when it is worth another look (`look_at`), so that looking at a
hundred thousand of them costs nothing while nothing changes.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import anyio
from anyio import CapacityLimiter, to_thread
from sqlalchemy import and_, bindparam, insert, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from agents.authority import life
from agents.authority.audit import Entry, Event
from agents.authority.domain import DomainAuthority
from agents.authority.grants import forget
from agents.authority.intents import last_id, new_serial
from agents.authority.packing import Draft, Made, characters_of, encode_installation, make
from agents.authority.provision import CLAIMED, READY, RESERVED, Provision
from agents.authority.schema import CERTIFICATES, COUNTERS, DEVICES, GRANTS, INSTALLATIONS, KEYS, REVISION
from agents.authority.store import Store, Writing, in_words
from protocol.errors import RequestRejected
from protocol.ev.exi_size import OCPP_2_0_1_RESPONSE
from protocol.profiles import Profile, profile_of

CHUNK: Final = 16
"""Contracts made at a time: 20 ms of work (P-521), for which a request waits at most."""
LOOKS: Final = 256
"""Grants looked at in one transaction: a few queries each, 50 ms or so where nothing is to be made."""
PAUSE: Final = 1.0
"""Seconds between two looks where there was nothing to do, and between two chunks under load."""
BUSY_PAUSE: Final = 0.1
"""Seconds after which it is looked whether requests still wait."""
FRESH: Final = 10
"""One part in so many of its validity, and a contract that nobody asked for is made anew."""
LEAD: Final = 24 * 3600
"""Seconds before a car may want to renew, from when on its next contract is ready."""
LATER: Final = 24 * 3600
"""Seconds after which is looked again at what cannot be prepared just now."""
_NEVER: Final = 1 << 62

_LOG: Final = logging.getLogger("trillium.authority")
_G: Final = GRANTS.c
_I: Final = INSTALLATIONS.c
_C: Final = CERTIFICATES.c
_DUE = (
    select(GRANTS, DEVICES.c.name.label("device"), DEVICES.c.client_id)
    .select_from(GRANTS.join(DEVICES, DEVICES.c.id == _G.device_id))
    .where(
        _G.ended_at.is_(None),
        _G.look_at <= bindparam("now"),
        _G.label.in_(bindparam("labels", expanding=True)),
    )
    .order_by(_G.look_at)
    .limit(bindparam("most"))
)
_SETTLED = (
    select(_I.certificate_id)
    .select_from(INSTALLATIONS.outerjoin(CERTIFICATES, _C.id == _I.certificate_id))
    .where(
        _I.stage == CLAIMED,
        or_(
            and_(_C.state.is_not(None), _C.state != life.PENDING),
            and_(_C.state.is_(None), _I.fresh_until < bindparam("now")),
        ),
    )
    .limit(LOOKS)
)
_REVISION = select(COUNTERS.c.value).where(COUNTERS.c.name == REVISION)
_LOOK_AGAIN = (
    update(GRANTS)
    .where(
        _G.ended_at.is_(None),
        _G.device_id.in_(
            select(_C.device_id).where(
                _C.ended_revision > bindparam("seen"), _C.authority.in_(bindparam("of", expanding=True))
            )
        ),
    )
    .values(look_at=0)
)
_PREPARED = (
    select(INSTALLATIONS, KEYS.c.serial, KEYS.c.not_before, KEYS.c.not_after)
    .select_from(INSTALLATIONS.join(KEYS, KEYS.c.id == _I.certificate_id))
    .where(_I.grant_id == bindparam("grant"), _I.stage != CLAIMED)
)
_ALIVE = select(_C.id, _C.state, _C.not_before, _C.not_after, _C.public_key, _C.algorithm).where(
    _C.device_id == bindparam("device"),
    _C.label == bindparam("place"),
    _C.state.in_([life.PENDING, life.CURRENT]),
)
_BOOTSTRAP = select(_C.id, _C.not_after, _C.public_key, _C.algorithm).where(
    _C.device_id == bindparam("device"), _C.parent_id.is_(None), _C.state == life.CURRENT
)
_LOOK_AT = update(GRANTS).where(_G.id == bindparam("grant")).values(look_at=bindparam("at"))
_ADD_KEY = insert(KEYS)
_ADD = insert(INSTALLATIONS)
_MAKE_READY = (
    update(INSTALLATIONS)
    .where(_I.certificate_id == bindparam("number"), _I.stage == RESERVED)
    .values(
        stage=READY,
        certificate=bindparam("encoded"),
        installation=bindparam("contents"),
        characters=bindparam("length"),
    )
)


@dataclass(frozen=True, slots=True)
class _Task:
    """One contract to be made."""

    grant: int
    number: int
    authority: bytes
    draft: Draft
    fresh_until: int


class Readiness:
    """Keeps the ready store full. Use `run`, or `step` by hand.

    Args:
        store: Open.
        places: Labels with generated keys, and their authorities.
        provision: The desk's.
        clock: POSIX seconds.
        is_busy: Whether requests wait.
    """

    def __init__(
        self,
        store: Store,
        places: Mapping[str, DomainAuthority],
        provision: Provision,
        clock: Callable[[], float],
        is_busy: Callable[[], bool],
    ) -> None:
        self._store = store
        self._places = places
        self._provision = provision
        self._clock = clock
        self._is_busy = is_busy
        self._seen = 0
        self._warned: set[str] = set()
        self._issuers = {a.key_id for a in places.values()}
        self._issuers |= {maker.key_id for a in places.values() for maker in a.makers}
        self._limiter = CapacityLimiter(1)
        self.made = 0
        """Contracts that were made ahead since it opened."""

    async def run(self) -> None:
        """Make contracts until cancelled, which waits for the chunk in work."""
        while self._places:
            waited = 0.0
            while self._is_busy() and waited < PAUSE:
                await anyio.sleep(BUSY_PAUSE)
                waited += BUSY_PAUSE
            try:
                has_more = await to_thread.run_sync(self.step, limiter=self._limiter)
            except (SQLAlchemyError, OSError) as error:
                _LOG.error("no contracts are prepared: the store failed", extra={"error": in_words(error)})
                has_more = False
            if not has_more:
                await anyio.sleep(PAUSE)

    def step(self) -> bool:
        """Tidy up, and make at most `CHUNK` contracts; return whether there was anything to do."""
        now = int(self._clock())
        if not self._is_anything_due(now):
            return False
        with self._store.writing(now) as writing:
            revision, tasks = self._reserve(writing)
        self._seen = revision
        made = [(task, self._make(task)) for task in tasks]
        if made:
            with self._store.writing(now, durable=False) as writing:
                self._record(writing, made)
        self.made += sum(one is not None for _, one in made)
        return True

    def _is_anything_due(self, now: int) -> bool:
        with self._store.reading() as connection:
            return (
                int(connection.execute(_REVISION).scalar_one()) > self._seen
                or connection.execute(_DUE, self._due(now, 1)).first() is not None
                or connection.execute(_SETTLED, {"now": now}).first() is not None
            )

    def _due(self, now: int, most: int) -> dict[str, object]:
        return {"now": now, "labels": list(self._places), "most": most}

    def _reserve(self, writing: Writing) -> tuple[int, list[_Task]]:
        connection = writing.connection
        revision = int(connection.execute(_REVISION).scalar_one())
        if revision > self._seen:
            connection.execute(_LOOK_AGAIN, {"seen": self._seen, "of": list(self._issuers)})
        forget(writing, connection.execute(_SETTLED, {"now": writing.now}).scalars().all())
        tasks: list[_Task] = []
        for grant in connection.execute(_DUE, self._due(writing.now, LOOKS)).all():
            task = self._look(writing, grant)
            if task is not None:
                tasks.append(task)
            if len(tasks) == CHUNK:
                break
        return revision, tasks

    def _look(self, writing: Writing, grant: Any) -> _Task | None:  # noqa: ANN401 (a database row)
        """Return what is to be made for one grant; else say when to look again."""
        profile = profile_of(grant.label)
        recipient, at = self._recipient(writing, grant, profile)
        prepared = writing.connection.execute(_PREPARED, {"grant": grant.id}).first()
        if prepared is not None:
            is_good = (
                recipient is not None
                and prepared.recipient_id == recipient.id
                and prepared.fresh_until >= writing.now
            )
            if is_good and prepared.stage == READY:
                self._look_at(writing, grant, prepared.fresh_until + 1)
                return None
            if is_good:
                return self._task(grant, profile, prepared, prepared.certificate_id, recipient)
            forget(writing, [prepared.certificate_id])
            self._note(writing, Event.VOID, grant, prepared.serial, "prepared, and nobody asked for it")
        if recipient is None:
            self._look_at(writing, grant, at)
            return None
        return self._begin(writing, grant, profile, recipient)

    def _recipient(self, writing: Writing, grant: Any, profile: Profile) -> tuple[Any, int]:  # noqa: ANN401
        """Return the certificate that would sign the next request; None, and when there may be one."""
        now = writing.now
        if grant.not_after is not None and grant.not_after <= now:
            return None, _NEVER
        place = {"device": grant.device_id, "place": grant.label}
        alive = {row.state: row for row in writing.connection.execute(_ALIVE, place)}
        if life.PENDING in alive:
            return None, now + LATER
        found: Any = alive.get(life.CURRENT)
        if found is not None:
            if grant.not_after is not None and found.not_after >= grant.not_after:
                return None, _NEVER  # nothing comes after it
            life_span = found.not_after - found.not_before
            start = found.not_before + int(life_span * profile.renew_after) - LEAD
            if now < start:
                return None, start
        else:
            found = writing.connection.execute(_BOOTSTRAP, {"device": grant.device_id}).first()
        if found is None or (found.not_after is not None and found.not_after <= now):
            return None, now + LATER
        return (found, 0) if found.algorithm in profile.algorithms else (None, _NEVER)

    def _begin(self, writing: Writing, grant: Any, profile: Profile, recipient: Any) -> _Task:  # noqa: ANN401
        authority = self._places[grant.label].key_id
        number, serial, now = last_id(writing) + 1, new_serial(), writing.now
        not_after = self._provision.not_after(authority, profile, grant.not_after, now)
        key = {
            "id": number,
            # No request's, until one claims it.
            "key_hash": sha256(b"prepared" + authority + serial).digest(),
            "authority": authority,
            "label": grant.label,
            "device_id": grant.device_id,
            "signer_id": recipient.id,
            "serial": serial,
            "not_before": now - profile.backdate,
            "not_after": not_after,
        }
        prepared = {
            "certificate_id": number,
            "grant_id": grant.id,
            "recipient_id": recipient.id,
            "stage": RESERVED,
            "fresh_until": now + (not_after - now) // FRESH,
        }
        writing.connection.execute(_ADD_KEY, [key])
        writing.connection.execute(_ADD, [prepared])
        self._note(writing, Event.PREPARE, grant, serial, grant.name)
        row = writing.connection.execute(_PREPARED, {"grant": grant.id}).one()
        return self._task(grant, profile, row, number, recipient)

    def _task(self, grant: Any, profile: Profile, row: Any, number: int, recipient: Any) -> _Task:  # noqa: ANN401
        draft = Draft(
            profile,
            grant.name,
            grant.device,
            row.serial,
            row.not_before,
            row.not_after,
            recipient.public_key,
        )
        return _Task(grant.id, number, self._places[grant.label].key_id, draft, row.fresh_until)

    def _make(self, task: _Task) -> Made | None:
        try:
            return make(self._places[task.draft.profile.label], task.draft)
        except RequestRejected as error:
            _LOG.error(
                "a contract cannot be prepared",
                extra={"label": task.draft.profile.label, "device": task.draft.device, "detail": str(error)},
            )
            return None

    def _record(self, writing: Writing, made: Sequence[tuple[_Task, Made | None]]) -> None:
        for task, one in made:
            if one is None:
                forget(writing, [task.number])
                writing.connection.execute(_LOOK_AT, {"grant": task.grant, "at": writing.now + LATER})
                continue
            profile = task.draft.profile
            length = characters_of(one.installation, self._provision.vouching(writing, profile))
            if length is not None and length > OCPP_2_0_1_RESPONSE and profile.label not in self._warned:
                self._warned.add(profile.label)
                _LOG.warning(
                    "contract packages may be too long for OCPP 2.0.1",
                    extra={"label": profile.label, "characters": length, "limit": OCPP_2_0_1_RESPONSE},
                )
            writing.connection.execute(
                _MAKE_READY,
                {
                    "number": task.number,
                    "encoded": one.certificate,
                    "contents": encode_installation(one.installation),
                    "length": length,
                },
            )
            writing.connection.execute(_LOOK_AT, {"grant": task.grant, "at": task.fresh_until + 1})

    @staticmethod
    def _look_at(writing: Writing, grant: Any, at: int) -> None:  # noqa: ANN401 (a database row)
        writing.connection.execute(_LOOK_AT, {"grant": grant.id, "at": at})

    @staticmethod
    def _note(writing: Writing, event: Event, grant: Any, serial: bytes, detail: str) -> None:  # noqa: ANN401
        writing.note(Entry(event, grant.client_id, grant.device, grant.label, serial, detail))
