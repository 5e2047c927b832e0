"""Contracts: which name an operator grants which car, until when; granted, ended and listed.

A grant is what a request for a generated key is judged by (`protocol.exchange.authority_rules.check_grant`).
Each function is one transaction and works beside a running authority. While a grant is there, the car gets
a certificate as often as it needs one; when it has ended nothing can be made until there is a new one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import and_, bindparam, insert, select

from agents.authority import life
from agents.authority.audit import Entry, Event
from agents.authority.grants import end_grant
from agents.authority.inventory import InventoryError
from agents.authority.possession import Held, find_devices
from agents.authority.provision import CLAIMED, READY
from agents.authority.schema import CERTIFICATES, DEVICES, GRANTS, INSTALLATIONS
from agents.authority.store import Store, Writing
from protocol.cose import Algorithm
from protocol.errors import RequestRejected
from protocol.ev import Emaid
from protocol.ev.wrap20 import PCID_CHARACTERS
from protocol.exchange.request import RevocationReason
from protocol.profiles import Profile, profile_of, services_of

MAX_TENANT_CHARS: Final = 64
_PROVIDER_CHARS: Final = 5
"""Country and provider: whom an eMAID names as the one that bills."""
_G: Final = GRANTS.c
_I: Final = INSTALLATIONS.c
_C: Final = CERTIFICATES.c
_ADD = insert(GRANTS)
_OF_CAR = (
    select(_G.name, _G.label, _G.tenant, _G.device_id)
    .select_from(GRANTS.join(DEVICES, DEVICES.c.id == _G.device_id))
    .where(DEVICES.c.name == bindparam("device"), _G.ended_at.is_(None))
)
_EPOCH = select(DEVICES.c.epoch).where(DEVICES.c.id == bindparam("device"))
_BY_NAME = (
    select(GRANTS, DEVICES.c.client_id, DEVICES.c.name.label("device"))
    .select_from(GRANTS.join(DEVICES, DEVICES.c.id == _G.device_id))
    .where(_G.name == bindparam("word"), _G.ended_at.is_(None))
)
_LIST = (
    select(
        _G.name,
        _G.label,
        _G.tenant,
        _G.not_after,
        _G.granted_at,
        _G.ended_at,
        DEVICES.c.name.label("device"),
        DEVICES.c.client_id,
        _C.state,
        _C.serial,
        _C.not_after.label("certified_until"),
        _I.stage,
        _I.characters,
    )
    .select_from(
        GRANTS.join(DEVICES, DEVICES.c.id == _G.device_id)
        .outerjoin(
            CERTIFICATES,
            and_(
                _C.device_id == _G.device_id,
                _C.label == _G.label,
                _C.state.in_([life.PENDING, life.CURRENT]),
                _G.ended_at.is_(None),
            ),
        )
        .outerjoin(INSTALLATIONS, and_(_I.grant_id == _G.id, _I.stage != CLAIMED))
    )
    .order_by(_G.id, _C.state)
)


@dataclass(frozen=True, slots=True)
class Contract:
    """One contract as an operator sees it."""

    name: str
    """eMAID."""
    device: str
    """PCID."""
    client_id: str
    label: str
    tenant: str
    """Whose contract it is."""
    not_after: int | None
    """POSIX seconds; None: until somebody ends it."""
    granted_at: int
    ended_at: int | None
    state: str
    """ended; installed: the car has confirmed; given: not yet; ready: it can have it at once; granted."""
    serial: bytes | None
    """Of the certificate that is installed, or else of the one that is given."""
    certified_until: int | None
    """POSIX seconds; the end of that certificate."""
    is_ready: bool
    """Whether the next package is prepared."""
    characters: int | None
    """Of the prepared package as EXI in base64, at most, where that is known."""


def add_contract(
    store: Store,
    word: str,
    emaid: str,
    now: int,
    *,
    tenant: str | None = None,
    until: int | None = None,
    label: str | None = None,
) -> Contract:
    """Grant a contract to a car; the same again changes nothing.

    Args:
        store: Open.
        word: The car's PCID, or its client-id.
        emaid: In any spelling that people use.
        now: POSIX seconds.
        tenant: Whose contract it is; None: the provider that the eMAID names.
        until: Its end, POSIX seconds; None: until somebody ends it.
        label: Under which; None where only one is possible.

    Raises:
        InventoryError: No such car, no eMAID, another tenant's car, a name or a car that has a contract
            already, or an end that is over. Nothing was changed.
    """
    try:
        name = Emaid.normalise(emaid)
    except RequestRejected as error:
        raise InventoryError(str(error)) from None
    if until is not None and until <= now:
        raise InventoryError(f"{name}: a contract ends after it has begun")
    whose = tenant or name[:_PROVIDER_CHARS]
    if len(whose) > MAX_TENANT_CHARS or not whose.isprintable():
        raise InventoryError(f"a tenant's name has 1 to {MAX_TENANT_CHARS} characters")
    car, profile = _car(store, word, label)
    if car.owner and car.owner != whose:
        raise InventoryError(f"{car.name}: belongs to {car.owner}, and {whose} grants it nothing")
    with store.writing(now) as writing:
        if writing.connection.execute(_EPOCH, {"device": car.id}).scalar_one() != car.epoch:
            raise InventoryError(f"{car.name}: changes hands just now; ask again")
        for other in writing.connection.execute(_OF_CAR, {"device": car.name}):
            if (other.device_id, other.label, other.name, other.tenant) == (
                car.id,
                profile.label,
                name,
                whose,
            ):
                return _find(writing, name, profile.label)
            if other.tenant != whose:
                raise InventoryError(
                    f"{car.name}: has a contract of {other.tenant}; {whose} grants it nothing"
                )
            if (other.device_id, other.label) == (car.id, profile.label):
                raise InventoryError(f"{car.name}: has contract {other.name} already; end that first")
        for other in writing.connection.execute(_BY_NAME, {"word": name}):
            if other.label == profile.label or other.tenant != whose:
                raise InventoryError(f"{name}: is granted to {other.device}; end that first")
        grant = {"device_id": car.id, "label": profile.label, "name": name, "tenant": whose}
        times = {"not_after": until, "granted_at": now, "look_at": 0}
        writing.connection.execute(_ADD, [grant | times])
        writing.note(Entry(Event.GRANT, car.client_id, car.name, profile.label, None, f"{name} of {whose}"))
        return _find(writing, name, profile.label)


def _car(store: Store, word: str, label: str | None) -> tuple[Held, Profile]:
    """Return the one car of this name that can have a contract, and under which label.

    A car for both parts of ISO 15118 has two identities of one name.
    """
    found: list[tuple[Held, Profile]] = []
    known: list[Held] = []
    with store.reading() as connection:
        words = [
            row.client_id
            for row in connection.execute(select(DEVICES.c.client_id).where(DEVICES.c.name == word))
        ]
    known = find_devices(store, words or [word])
    for device in known:
        for service in services_of(device.label):
            profile = profile_of(service)
            if profile.is_key_generated and label in (None, service):
                found.append((device, profile))
    if not found:
        raise InventoryError(f"{word}: can have no contract" + (f" under {label}" if label else ""))
    if len(found) > 1:
        choice = ", ".join(f"{profile.label} for {device.client_id}" for device, profile in found)
        raise InventoryError(f"{word}: can have contracts under several labels; say which: {choice}")
    device, profile = found[0]
    if profile.label not in device.entitled.split():
        raise InventoryError(f"{device.name}: is not ours any more, or may not have {profile.label}")
    if profile.algorithms[0] is Algorithm.ES512 and len(device.name) != PCID_CHARACTERS:
        raise InventoryError(
            f"{device.name}: ISO 15118-20 binds keys to PCIDs of {PCID_CHARACTERS} characters only"
        )
    return device, profile


def end_contract(
    store: Store, emaid: str, now: int, reason: RevocationReason = RevocationReason.CESSATION_OF_OPERATION
) -> int:
    """End a contract: its certificate is revoked, and none is made until it is granted anew.

    Returns:
        How many certificates were revoked: none where the car never asked for one.

    Raises:
        InventoryError: No contract of this name is granted.
    """
    try:
        name = Emaid.normalise(emaid, verify=False)
    except RequestRejected as error:
        raise InventoryError(str(error)) from None
    with store.writing(now) as writing:
        grants = writing.connection.execute(_BY_NAME, {"word": name}).all()
        if not grants:
            raise InventoryError(f"{name}: no such contract is granted")
        revoked = 0
        for grant in grants:
            end_grant(writing, grant, "the contract has ended")
            lives = life.lives_of_device(writing, grant.device_id)
            targets = [one for one in lives if one.label == grant.label and one.is_alive]
            revoked += len(life.revoke(writing, targets, reason, "the contract has ended"))
        return revoked


def list_contracts(store: Store) -> list[Contract]:
    """Return every contract that was ever granted, oldest first."""
    with store.reading() as connection:
        return _contracts(connection.execute(_LIST).all())


def _find(writing: Writing, name: str, label: str) -> Contract:
    wanted = _LIST.where(_G.name == name, _G.label == label, _G.ended_at.is_(None))
    return _contracts(writing.connection.execute(wanted).all())[0]


def _contracts(rows: Sequence[Any]) -> list[Contract]:
    """Return one contract for the one or two rows of each: its current certificate, its pending one."""
    found: dict[tuple[str, str, int, int | None], Contract] = {}
    for row in rows:  # current comes before pending
        key = (row.name, row.label, row.granted_at, row.ended_at)
        if key not in found:
            found[key] = _contract(row)
    return list(found.values())


def _contract(row: Any) -> Contract:  # noqa: ANN401 (a database row)
    is_ready = row.stage == READY
    state = {life.CURRENT: "installed", life.PENDING: "given"}.get(
        row.state, "ready" if is_ready else "granted"
    )
    return Contract(
        row.name,
        row.device,
        row.client_id,
        row.label,
        row.tenant,
        row.not_after,
        row.granted_at,
        row.ended_at,
        state if row.ended_at is None else "ended",
        row.serial,
        row.certified_until,
        is_ready,
        row.characters,
    )
