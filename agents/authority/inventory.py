"""The inventory: which devices there are, what they may have, what they have.

Plain functions on an open `Store`; each is one transaction, and works beside a running authority.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import and_, bindparam, case, func, insert, or_, select
from sqlalchemy.exc import IntegrityError

from agents.authority import life
from agents.authority.audit import Entry, Event
from agents.authority.intents import bootstrap_rows
from agents.authority.schema import CERTIFICATES, DEVICES, KEYS
from agents.authority.store import Store, Writing
from protocol import c509
from protocol.errors import MalformedMessage, RequestRejected
from protocol.exchange.facts import CertificateState
from protocol.exchange.request import RevocationReason
from protocol.labels import Domain, Tier
from protocol.path import Authority, check_name, verify_leaf
from protocol.profiles import PROFILES, profile_of, services_of
from protocol.validity import Clock
from protocol.voucher import AUTHORITY_BYTES

_C: Final = CERTIFICATES.c
_D: Final = DEVICES.c


class InventoryError(ValueError):
    """The inventory cannot take this, or does not have it; the message says why. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class NewDevice:
    """A device as its maker announces it."""

    name: str
    label: str
    """Of its tier 1 certificate."""
    maker: bytes
    """Key identifier of the manufacturer CA, 32 bytes."""
    client_id: str
    entitled: tuple[str, ...]
    """Labels that its tier 1 certificate opens, directly or not."""
    certificate: bytes | None
    """Its tier 1 certificate, C509; None if it will send it itself once."""
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class DeviceSummary:
    """One line of the list of devices."""

    name: str
    domain: Domain
    client_id: str
    entitled: tuple[str, ...]
    current: int
    """Certificates that are current, tier 1 included."""
    pending: int
    revoked: int
    owner: str | None = None
    """What its owner is called here, where somebody said it."""


@dataclass(frozen=True, slots=True)
class CertificateSummary:
    """One certificate of one device."""

    label: str
    state: CertificateState
    serial: bytes
    authority: bytes
    not_before: int
    not_after: int | None
    issued_at: int
    ended_at: int | None
    reason: RevocationReason | None
    encoded: bytes


@dataclass(frozen=True, slots=True)
class DeviceDetail:
    """One device with everything it has or had."""

    name: str
    domain: Domain
    maker: bytes
    client_id: str
    epoch: int
    entitled: tuple[str, ...]
    registered_at: int
    certificates: tuple[CertificateSummary, ...]
    """Oldest first."""
    owner: str | None = None
    """What its owner is called here, where somebody said it."""


_ADD_DEVICES = insert(DEVICES)
_ADD_KEYS = insert(KEYS)
_ADD_CERTIFICATES = insert(CERTIFICATES)
_LAST_DEVICE = select(func.max(_D.id))
_LAST_KEY = select(func.max(KEYS.c.id))


def _counted(state: CertificateState) -> Any:  # noqa: ANN401 (an SQL expression)
    return func.coalesce(func.sum(case((_C.state == state.value, 1), else_=0)), 0)


_SUMMARY = (
    select(
        _D.name,
        _D.domain,
        _D.client_id,
        _D.entitled,
        _counted(CertificateState.CURRENT),
        _counted(CertificateState.PENDING),
        _counted(CertificateState.REVOKED),
        _D.owner,
    )
    .select_from(DEVICES.outerjoin(CERTIFICATES, _C.device_id == _D.id))
    .group_by(_D.id)
    .order_by(_D.domain, _D.name)
)
_DEVICE = select(DEVICES).where(or_(_D.name == bindparam("word"), _D.client_id == bindparam("word")))
_CERTIFICATES = select(CERTIFICATES).where(_C.device_id == bindparam("device")).order_by(_C.issued_at, _C.id)
_REGISTERED = (
    select(_D.client_id, _D.name, _D.maker, _C.encoded)
    .select_from(DEVICES.outerjoin(CERTIFICATES, and_(_C.device_id == _D.id, _C.parent_id.is_(None))))
    .where(_D.client_id.in_(bindparam("ids", expanding=True)))
)
_PAGE: Final = 500
_BY_SERIAL = select(_C.id).where(_C.serial == bindparam("number"))


def register_devices(
    store: Store, devices: Sequence[NewDevice], now: int, makers: Iterable[Authority]
) -> int:
    """Enter devices in the inventory, all of them or none; the same ones again change nothing.

    Args:
        store: Open.
        devices: At most a few thousand in one call: it is one transaction.
        now: POSIX seconds.
        makers: Whose devices these may be; verified up to the scheme root.

    Returns:
        How many were entered.

    Raises:
        InventoryError: One of them cannot be: a name or key that is known, labels that it cannot have, a
            certificate that is not its own or not its maker's, a name that is not its maker's to give.
    """
    by_key = {maker.key_id: maker for maker in makers}
    checked = [(device, _check(device, by_key)) for device in devices]
    with store.writing(now) as writing:
        known = _known(writing, devices)
        new = [(device, certificate) for device, certificate in checked if not _is_known(device, known)]
        device_id = int(writing.connection.execute(_LAST_DEVICE).scalar_one() or 0)
        number = int(writing.connection.execute(_LAST_KEY).scalar_one() or 0)
        rows: list[dict[str, object]] = []
        keys: list[dict[str, object]] = []
        bootstraps: list[dict[str, object]] = []
        for device, certificate in new:
            device_id += 1
            rows.append(
                {
                    "id": device_id,
                    "name": device.name,
                    "domain": profile_of(device.label).domain.value,
                    "label": device.label,
                    "maker": device.maker,
                    "client_id": device.client_id,
                    "epoch": device.epoch,
                    "entitled": " ".join(device.entitled),
                    "registered_at": now,
                }
            )
            serial: bytes | None = None
            if certificate is not None:
                number += 1
                serial = certificate.serial
                try:
                    key, row = bootstrap_rows(number, device_id, device.maker, device.label, certificate, now)
                except (RequestRejected, MalformedMessage) as error:
                    raise InventoryError(f"{device.name}: {error}") from None
                keys.append(key)
                bootstraps.append(row)
            label = None if serial is None else device.label
            writing.note(Entry(Event.REGISTER, device.client_id, device.name, label, serial))
        try:
            for statement, values in (
                (_ADD_DEVICES, rows),
                (_ADD_KEYS, keys),
                (_ADD_CERTIFICATES, bootstraps),
            ):
                if values:
                    writing.connection.execute(statement, values)
        except IntegrityError as error:
            raise InventoryError(
                f"a name, key or serial number is registered already ({error.orig})"
            ) from None
    return len(new)


def _known(writing: Writing, devices: Sequence[NewDevice]) -> dict[str, tuple[str, bytes, bytes | None]]:
    """Return (name, maker, bootstrap certificate) of those that are registered, by client-id."""
    known: dict[str, tuple[str, bytes, bytes | None]] = {}
    for start in range(0, len(devices), _PAGE):
        page = [device.client_id for device in devices[start : start + _PAGE]]
        for client_id, *rest in writing.connection.execute(_REGISTERED, {"ids": page}):
            known[client_id] = rest[0], rest[1], rest[2]
    return known


def _is_known(device: NewDevice, known: dict[str, tuple[str, bytes, bytes | None]]) -> bool:
    found = known.get(device.client_id)
    if found is None:
        return False
    if found != (device.name, device.maker, device.certificate):
        raise InventoryError(f"{device.name}: is registered already, with another certificate")
    return True


def _check(device: NewDevice, makers: Mapping[bytes, Authority]) -> c509.Certificate | None:
    if len(device.maker) != AUTHORITY_BYTES:
        raise InventoryError(f"{device.name}: a maker is named by {AUTHORITY_BYTES} bytes")
    maker = makers.get(device.maker)
    if maker is None:
        raise InventoryError(f"{device.name}: nobody knows its maker, {device.maker.hex()}")
    profile = PROFILES.get(device.label)
    if profile is None or profile.tier is not Tier.BOOTSTRAPPING:
        raise InventoryError(f"{device.name}: {device.label!r} is no tier 1 label")
    services = services_of(device.label)
    for label in device.entitled:
        if label not in services:
            raise InventoryError(
                f"{device.name}: {device.label} opens no {label!r}, but {', '.join(services)}"
            )
    try:
        check_name(profile.naming.check(device.name), maker, profile)
        if device.certificate is None:
            return None
        certificate = c509.decode_certificate(device.certificate)
        # Of its time, those judge who are shown it: it may be registered long before it is used.
        if verify_leaf(certificate, maker, profile, Clock(None)) != device.name:
            raise InventoryError(f"{device.name}: the certificate is another device's")
        if not _is_plain(certificate) and not c509.is_canonical(certificate):
            raise InventoryError(f"{device.name}: the certificate is encoded in another way than ours")
    except (RequestRejected, MalformedMessage) as error:
        raise InventoryError(f"{device.name}: {error}") from None
    return certificate


_PLAIN_EXTENSIONS: Final = frozenset(
    {
        c509.ExtensionId.SUBJECT_KEY_IDENTIFIER,
        c509.ExtensionId.KEY_USAGE,
        c509.ExtensionId.AUTHORITY_KEY_IDENTIFIER,
    }
)


def _is_plain(certificate: c509.Certificate) -> bool:
    """Whether it shows at a glance that the encoding is ours, as with everything that our makers make.

    Where nothing is spelled out that has a number, and the point travels compressed, there is only one way
    to write it. Encoding it anew to be sure takes longer than all the rest of a registration.
    """
    return (
        certificate.public_key[0] in (0xFE, 0xFD)
        and isinstance(certificate.signature_algorithm, int)
        and isinstance(certificate.public_key_algorithm, int)
        and all(
            len(name.attributes) == 1 and name.attributes[0][0] == 1
            for name in (certificate.subject, certificate.issuer_name)
        )
        and all(
            extension.id in _PLAIN_EXTENSIONS and isinstance(extension.value, (int, bytes))
            for extension in certificate.extensions
        )
    )


def list_devices(store: Store) -> list[DeviceSummary]:
    """Return every device, by domain and name."""
    with store.reading() as connection:
        rows = connection.execute(_SUMMARY).all()
    return [
        DeviceSummary(
            name, Domain(domain), client_id, tuple(entitled.split()), current, pending, revoked, owner
        )
        for name, domain, client_id, entitled, current, pending, revoked, owner in rows
    ]


def show_device(store: Store, word: str) -> DeviceDetail:
    """Return one device with its certificates.

    Args:
        store: Open.
        word: Its name or client-id.

    Raises:
        InventoryError: There is none, or several makers have one of that name (then use the client-id).
    """
    with store.reading() as connection:
        row = _only(connection.execute(_DEVICE, {"word": word}).all(), word)
        rows = connection.execute(_CERTIFICATES, {"device": row.id}).all()
    return DeviceDetail(
        row.name,
        Domain(row.domain),
        row.maker,
        row.client_id,
        row.epoch,
        tuple(row.entitled.split()),
        row.registered_at,
        tuple(_summary(certificate) for certificate in rows),
        row.owner,
    )


def _only(rows: Sequence[Any], word: str) -> Any:  # noqa: ANN401 (a database row)
    if not rows:
        raise InventoryError(f"no device is called {word!r}")
    if len(rows) > 1:
        ids = ", ".join(row.client_id for row in rows)
        raise InventoryError(f"several makers have a device {word!r}; say which by client-id: {ids}")
    return rows[0]


def _summary(row: Any) -> CertificateSummary:  # noqa: ANN401 (a database row)
    return CertificateSummary(
        row.label,
        CertificateState(row.state),
        row.serial,
        row.authority,
        row.not_before,
        row.not_after,
        row.issued_at,
        row.ended_at,
        None if row.reason is None else RevocationReason(row.reason),
        row.encoded,
    )


def revoke(store: Store, word: str, reason: RevocationReason, now: int) -> list[CertificateSummary]:
    """Revoke a device or a certificate, at once for every process that uses this store.

    Args:
        store: Open.
        word: A device's name or client-id: everything it has is revoked, its tier 1 certificate too. Or a
            serial number in hex.
        reason: Key compromise takes all that descend from a certificate with it, ended or not.
        now: POSIX seconds.

    Returns:
        What is revoked now and was not before.

    Raises:
        InventoryError: Neither a device nor a certificate is called that.
    """
    with store.writing(now) as writing:
        rows = writing.connection.execute(_DEVICE, {"word": word}).all()
        if rows:
            device = _only(rows, word)
            targets = [one for one in life.lives_of_device(writing, device.id) if one.is_alive]
        else:
            targets = _by_serial(writing, word)
        revoked = life.revoke(writing, targets, reason, f"by the operator: {reason.name.lower()}")
        numbers = {one.id for one in revoked}
        found = writing.connection.execute(select(CERTIFICATES).where(_C.id.in_(numbers))).all()
        return [_summary(row) for row in found]


def _by_serial(writing: Writing, word: str) -> list[life.Life]:
    try:
        serial = bytes.fromhex(word.replace(":", ""))
    except ValueError:
        serial = b""
    numbers = writing.connection.execute(_BY_SERIAL, {"number": serial}).scalars().all()
    if not numbers:
        raise InventoryError(f"no device and no certificate is called {word!r}")
    return list(life.lives(writing, numbers).values())
