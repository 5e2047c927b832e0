"""A device gets another tier 1 certificate: for the same key, or for another one.

The same key anew (the old certificate ran out) changes nothing else. Another key is another matter: whatever
was wrapped to the old one cannot be opened any more, so those certificates end and are made anew when they
are asked for; what is granted stays granted. A key that was stolen takes along all that it had asked for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from agents.authority import life
from agents.authority.audit import Entry, Event
from agents.authority.grants import forget
from agents.authority.intents import bootstrap_rows
from agents.authority.inventory import InventoryError
from agents.authority.possession import Held, find_devices
from agents.authority.schema import ANSWERS, CERTIFICATES, DEVICES, GRANTS, INSTALLATIONS, KEYS
from agents.authority.store import Store, Writing
from protocol import c509
from protocol.errors import EnrollmentError
from protocol.exchange import authority_rules as rules
from protocol.exchange.facts import CertificateState
from protocol.exchange.request import RevocationReason
from protocol.path import Authority, verify_leaf
from protocol.profiles import profile_of
from protocol.validity import Clock

_C: Final = CERTIFICATES.c
_TIER_1 = select(_C.id, _C.encoded, KEYS.c.key_hash).select_from(
    CERTIFICATES.join(KEYS, KEYS.c.id == _C.id)
).where(_C.device_id == bindparam("device"), _C.parent_id.is_(None), _C.state == life.CURRENT)  # fmt: skip
_EPOCH = select(DEVICES.c.epoch).where(DEVICES.c.id == bindparam("device"))
_LAST_KEY = select(func.max(KEYS.c.id))
_WRAPPED = select(INSTALLATIONS.c.certificate_id).where(
    INSTALLATIONS.c.recipient_id.in_(bindparam("recipients", expanding=True))
)
_PREPARE_ANEW = (
    update(GRANTS)
    .where(GRANTS.c.device_id == bindparam("device"), GRANTS.c.ended_at.is_(None))
    .values(look_at=0)
)
_FORGET_REFUSALS = delete(ANSWERS).where(
    ANSWERS.c.device_id == bindparam("device"), ANSWERS.c.refusal.is_not(None)
)


@dataclass(frozen=True, slots=True)
class Replaced:
    """What became of a device's tier 1 certificate."""

    device: str
    client_id: str
    serial: bytes
    is_new_key: bool
    is_change: bool
    """False: it was the device's certificate already."""
    ended: int
    """Certificates of tier 2 and 3 that were revoked."""


def replace_certificate(
    store: Store,
    word: str,
    encoded: bytes,
    makers: Iterable[Authority],
    *,
    now: int,
    approved_by: str,
    reason: RevocationReason = RevocationReason.SUPERSEDED,
) -> Replaced:
    """Give a device another tier 1 certificate, in one durable transaction.

    Args:
        store: Open; an authority may serve from it meanwhile.
        word: The device's name or client-id.
        encoded: The certificate, C509 of type 3.
        makers: Whose devices are taken here, verified.
        now: POSIX seconds.
        approved_by: Who answers for it; the audit log says so.
        reason: Why the old key goes; KEY_COMPROMISE takes along all that descends from it.

    Raises:
        InventoryError: Not by the device's maker, for another device or label, or its key is somebody's
            already. Nothing was changed.
    """
    device, certificate = _verify(find_devices(store, [word]), encoded, list(makers))
    algorithm = certificate.public_key_algorithm
    assert isinstance(algorithm, int)
    key_hash = rules.key_hash(algorithm, certificate.public_key)
    with store.writing(now) as writing:
        connection = writing.connection
        if connection.execute(_EPOCH, {"device": device.id}).scalar_one() != device.epoch:
            raise InventoryError(f"{device.name}: changes hands just now; ask again")
        old = connection.execute(_TIER_1, {"device": device.id}).first()
        is_new_key = old is None or old.key_hash != key_hash
        ended = 0
        if old is not None and old.encoded == encoded:
            return Replaced(
                device.name, device.client_id, certificate.serial, is_new_key=False, is_change=False, ended=0
            )
        if old is not None and not is_new_key:
            _renew(writing, device, old.id, certificate)
        else:
            if old is not None:
                ended = _end_of_key(writing, device, old.id, reason)
            _add(writing, device, certificate)
        connection.execute(_FORGET_REFUSALS, {"device": device.id})
        key = "another key" if is_new_key else "the same key"
        detail = f"{key}, approved by {approved_by!r}"
        writing.note(
            Entry(Event.NEW_KEY, device.client_id, device.name, device.label, certificate.serial, detail)
        )
    return Replaced(
        device.name, device.client_id, certificate.serial, is_new_key, is_change=True, ended=ended
    )


def _verify(
    devices: Sequence[Held], encoded: bytes, makers: Sequence[Authority]
) -> tuple[Held, c509.Certificate]:
    """Return the certificate, and which identity of the device it is for (mostly there is one only)."""
    refusals: list[str] = []
    for device in devices:
        try:
            return device, _verify_for(device, encoded, makers)
        except (InventoryError, EnrollmentError) as error:
            refusals.append(f"{device.name}: {error}")
    raise InventoryError("; ".join(dict.fromkeys(refusals)))


def _verify_for(device: Held, encoded: bytes, makers: Sequence[Authority]) -> c509.Certificate:
    maker = next((maker for maker in makers if maker.key_id == device.maker), None)
    if maker is None:
        raise InventoryError(f"nobody knows its maker, {device.maker.hex()}")
    certificate = c509.decode_certificate(encoded)
    # Of its time, those judge who are shown it.
    name = verify_leaf(certificate, maker, profile_of(device.label), Clock(None))
    if not c509.is_canonical(certificate):
        raise InventoryError("the certificate is encoded in another way than ours")
    if name != device.name:
        raise InventoryError(f"the certificate is for {name}")
    return certificate


def _renew(writing: Writing, device: Held, number: int, certificate: c509.Certificate) -> None:
    """Put the new certificate in the old one's place: keys are certified once, and this is the same key."""
    key, row = bootstrap_rows(number, device.id, device.maker, device.label, certificate, writing.now)
    for table, values in ((KEYS, key), (CERTIFICATES, row)):
        writing.connection.execute(update(table).where(table.c.id == number).values(values))


def _end_of_key(writing: Writing, device: Held, number: int, reason: RevocationReason) -> int:
    connection = writing.connection
    services = life.services_of_devices(writing, [device.id])
    wrapped = [one for one in services if profile_of(one.label).is_key_generated]
    # Packages that wait for the old key, or were not confirmed yet, can be opened by nobody.
    recipients = [number, *(one.id for one in wrapped)]
    forget(writing, connection.execute(_WRAPPED, {"recipients": recipients}).scalars().all())
    connection.execute(_PREPARE_ANEW, {"device": device.id})
    revoked = life.revoke(writing, wrapped, RevocationReason.SUPERSEDED, "its key was wrapped to another")
    if reason is RevocationReason.SUPERSEDED:
        retire(writing, [number], reason, "the device has another key")
    else:
        revoked += life.revoke(writing, list(life.lives(writing, [number]).values()), reason)
    return sum(1 for one in revoked if one.parent_id is not None)


def retire(writing: Writing, numbers: Sequence[int], reason: RevocationReason, detail: str) -> None:
    """End tier 1 certificates that others replace, and what is pending under them."""
    found = list(life.lives(writing, numbers).values()) if numbers else []
    life.end(writing, found, CertificateState.SUPERSEDED, reason, Event.SUPERSEDE, detail)


def _add(writing: Writing, device: Held, certificate: c509.Certificate) -> None:
    connection = writing.connection
    number = int(connection.execute(_LAST_KEY).scalar_one() or 0) + 1
    rows: tuple[tuple[Any, dict[str, object]], ...]
    try:
        key, row = bootstrap_rows(number, device.id, device.maker, device.label, certificate, writing.now)
        rows = ((KEYS, key), (CERTIFICATES, row))
        for table, values in rows:
            connection.execute(insert(table), values)
    except IntegrityError as error:
        raise InventoryError(
            f"{device.name}: its key or serial number was certified before ({error.orig})"
        ) from None
