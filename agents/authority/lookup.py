"""What the store knows about a group of requests: a handful of queries for the whole group."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Select, bindparam, select, tuple_
from sqlalchemy.engine import Connection

from agents.authority.epochs import with_epochs
from agents.authority.grant_facts import with_grants
from agents.authority.schema import ANSWERS, CERTIFICATES, DEVICES, KEYS
from protocol.cose import Algorithm
from protocol.errors import ProblemKind
from protocol.exchange.authority_effects import Lookup
from protocol.exchange.facts import (
    CertificateFacts,
    CertificateRef,
    CertificateState,
    DeviceFacts,
    Facts,
    KeyFacts,
    RememberedCertificate,
    RememberedRefusal,
    SignerRecord,
)
from protocol.labels import Domain
from protocol.problem import Problem

_PARENT: Final = CERTIFICATES.alias("parent")
_C: Final = CERTIFICATES.c
_D: Final = DEVICES.c

CERTIFICATE_QUERY: Final[Select[Any]] = select(
    _C.id,
    _C.authority,
    _C.serial,
    _C.label,
    _C.state,
    _C.not_before,
    _C.not_after,
    _C.algorithm,
    _C.public_key,
    _C.encoded,
    _C.thumbprint,
    _C.parent_id,
    _PARENT.c.state,
    _PARENT.c.not_after,
    _D.id,
    _D.name,
    _D.client_id,
    _D.epoch,
    _D.entitled,
    _D.domain,
).select_from(
    CERTIFICATES.join(DEVICES, _D.id == _C.device_id).outerjoin(_PARENT, _PARENT.c.id == _C.parent_id)
)
"""One certificate with its device and its parent's state; `certificate_facts` reads its rows."""

_BY_THUMBPRINT = CERTIFICATE_QUERY.where(_C.thumbprint.in_(bindparam("thumbprints", expanding=True)))
_BY_SERIAL = CERTIFICATE_QUERY.where(_C.serial.in_(bindparam("serials", expanding=True)))
_BY_KEY = (
    select(
        KEYS.c.key_hash,
        KEYS.c.authority,
        KEYS.c.label,
        KEYS.c.device_id,
        KEYS.c.signer_id,
        _C.state,
        KEYS.c.not_after,
    )
    .select_from(KEYS.outerjoin(CERTIFICATES, _C.id == KEYS.c.id))
    .where(KEYS.c.key_hash.in_(bindparam("hashes", expanding=True)))
)
_BY_DIGEST = (
    select(
        ANSWERS.c.digest,
        ANSWERS.c.refusal,
        ANSWERS.c.kind,
        ANSWERS.c.detail,
        _C.encoded,
        _C.state,
        _C.not_after,
    )
    .select_from(ANSWERS.outerjoin(CERTIFICATES, _C.id == ANSWERS.c.certificate_id))
    .where(ANSWERS.c.digest.in_(bindparam("digests", expanding=True)))
)
_BY_NAME = select(_D.id, _D.name, _D.client_id, _D.epoch, _D.entitled, _D.maker).where(
    tuple_(_D.maker, _D.name).in_(bindparam("names", expanding=True))
)
_WITH_BOOTSTRAP = select(_C.device_id).where(
    _C.device_id.in_(bindparam("devices", expanding=True)), _C.parent_id.is_(None)
)


# Few sets of labels, many devices.
@lru_cache(maxsize=256)
def _labels(entitled: str) -> frozenset[str]:
    return frozenset(entitled.split())


_STATES: Final = {state.value: state for state in CertificateState}
_ALGORITHMS: Final = {int(algorithm): algorithm for algorithm in Algorithm}
_DOMAINS: Final = {domain.value: domain for domain in Domain}


def certificate_facts(row: Sequence[Any], now: int) -> CertificateFacts:
    """Return one row of `CERTIFICATE_QUERY` as facts."""
    (
        number, authority, serial, label, state, not_before, not_after, algorithm, public_key, encoded, _,
        parent_id, parent_state, parent_not_after, device_id, name, client_id, epoch, entitled, _,
    ) = row  # fmt: skip
    is_parent_alive = parent_id is None or (
        parent_state == "current" and (parent_not_after is None or now <= parent_not_after)
    )
    return CertificateFacts(
        number,
        DeviceFacts(device_id, name, client_id, epoch, _labels(entitled)),
        CertificateRef(authority, serial),
        label,
        _STATES[state],
        is_parent_alive,
        not_before,
        not_after,
        _ALGORITHMS[algorithm],
        public_key,
        encoded,
    )


def signer_records(connection: Connection, thumbprints: Sequence[bytes]) -> dict[bytes, SignerRecord | None]:
    """Return the certificate behind each thumbprint, for the verifier."""
    found: dict[bytes, SignerRecord | None] = dict.fromkeys(thumbprints)
    for row in connection.execute(_BY_THUMBPRINT, {"thumbprints": list(found)}):
        (
            _, authority, serial, label, state, not_before, not_after, algorithm, public_key, encoded,
            thumbprint, _, _, _, _, name, client_id, _, _, domain,
        ) = row  # fmt: skip
        found[thumbprint] = SignerRecord(
            CertificateRef(authority, serial),
            name,
            client_id,
            _DOMAINS[domain],
            label,
            _STATES[state],
            not_before,
            not_after,
            _ALGORITHMS[algorithm],
            public_key,
            encoded,
        )
    return found


def find_facts(connection: Connection, lookups: Sequence[Lookup], now: int) -> list[Facts]:
    """Return what is known for each of `lookups`, in order; `wait` is for somebody else to fill in."""
    certificates = _certificates(connection, lookups, now)
    targets = _targets(connection, lookups, now)
    keys = _keys(connection, [lookup.key_hash for lookup in lookups if lookup.key_hash is not None])
    answers = _answers(connection, [lookup.ask.memory for lookup in lookups])
    registered = _registered(connection, lookups)
    found: list[Facts] = []
    for lookup in lookups:
        target: CertificateFacts | None = None
        if lookup.target_thumbprint is not None:
            target = certificates.get(lookup.target_thumbprint)
        elif lookup.target_serial is not None:
            target = targets.get((lookup.ask.authority, lookup.target_serial))
        device, has_bootstrap = registered.get(lookup.bootstrap, (None, False))
        found.append(
            Facts(
                signer=certificates.get(lookup.thumbprint),
                registered=device,
                has_bootstrap=has_bootstrap,
                answer=answers.get(lookup.ask.memory),
                key=None if lookup.key_hash is None else keys.get(lookup.key_hash),
                target=target,
            )
        )
    return with_grants(connection, lookups, _as_owned(connection, lookups, found))


def _as_owned(connection: Connection, lookups: Sequence[Lookup], found: list[Facts]) -> list[Facts]:
    """Return the facts with what there is to say of devices that have changed their owner."""
    asking = [facts.registered if facts.signer is None else facts.signer.device for facts in found]
    changed = with_epochs(
        connection,
        [
            (device, lookup.ask.authority)
            for device, lookup in zip(asking, lookups, strict=True)
            if device is not None
        ],
    )
    if not changed:
        return found
    told: list[Facts] = []
    for facts, device, lookup in zip(found, asking, lookups, strict=True):
        known = None if device is None else changed.get((device.id, lookup.ask.authority))
        if known is None:
            told.append(facts)
        elif facts.signer is None:
            told.append(replace(facts, registered=known))
        else:
            told.append(replace(facts, signer=replace(facts.signer, device=known)))
    return told


def _certificates(
    connection: Connection, lookups: Iterable[Lookup], now: int
) -> dict[bytes, CertificateFacts]:
    thumbprints = {lookup.thumbprint for lookup in lookups}
    thumbprints |= {lookup.target_thumbprint for lookup in lookups if lookup.target_thumbprint is not None}
    rows = connection.execute(_BY_THUMBPRINT, {"thumbprints": list(thumbprints)})
    return {row[10]: certificate_facts(row, now) for row in rows}


def _targets(
    connection: Connection, lookups: Iterable[Lookup], now: int
) -> dict[tuple[bytes, bytes], CertificateFacts]:
    serials = {lookup.target_serial for lookup in lookups if lookup.target_serial is not None}
    if not serials:
        return {}
    rows = connection.execute(_BY_SERIAL, {"serials": list(serials)})
    return {(row[1], row[2]): certificate_facts(row, now) for row in rows}


def _keys(connection: Connection, hashes: Sequence[bytes]) -> dict[bytes, KeyFacts]:
    if not hashes:
        return {}
    return {
        row[0]: KeyFacts(row[1], row[2], row[3], row[4], None if row[5] is None else _STATES[row[5]], row[6])
        for row in connection.execute(_BY_KEY, {"hashes": hashes})
    }


def _answers(
    connection: Connection, digests: Sequence[bytes]
) -> dict[bytes, RememberedCertificate | RememberedRefusal]:
    found: dict[bytes, RememberedCertificate | RememberedRefusal] = {}
    for row in connection.execute(_BY_DIGEST, {"digests": digests}):
        digest, refusal, kind, detail, encoded, state, not_after = row
        if refusal is not None:
            found[digest] = RememberedRefusal(refusal, Problem(ProblemKind(kind), detail))
        elif encoded is not None:
            found[digest] = RememberedCertificate(encoded, _STATES[state], not_after)
    return found


def _registered(
    connection: Connection, lookups: Iterable[Lookup]
) -> dict[tuple[bytes, str] | None, tuple[DeviceFacts, bool]]:
    names = {lookup.bootstrap for lookup in lookups if lookup.bootstrap is not None}
    if not names:
        return {}
    devices = {
        (row.maker, row.name): DeviceFacts(row.id, row.name, row.client_id, row.epoch, _labels(row.entitled))
        for row in connection.execute(_BY_NAME, {"names": list(names)})
    }
    ids = [device.id for device in devices.values()]
    with_bootstrap = set(connection.execute(_WITH_BOOTSTRAP, {"devices": ids}).scalars())
    return {name: (device, device.id in with_bootstrap) for name, device in devices.items()}
