"""Intents: which certificate a key will get is written down before anything is signed.

    reserve   cheap transaction    one row in `keys` per new key: serial and validity are fixed
              (the issuer signs)
    record    durable transaction  the certificate, and everything else (`agents.authority.decisions`)

Nothing is answered before `record` has returned. After a crash in between, the intent is found by the next
valid request for its key and signed again: the first signature was never released.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import bindparam, func, insert, select

from agents.authority import life
from agents.authority.audit import Entry, Event
from agents.authority.schema import CERTIFICATES, KEYS
from agents.authority.store import Writing
from protocol import c509
from protocol.errors import ProblemKind
from protocol.exchange import authority_rules as rules
from protocol.exchange.authority_effects import (
    Generate,
    Issue,
    Issued,
    Lost,
    NewSigner,
)
from protocol.exchange.facts import CertificateFacts
from protocol.path import verification_key
from protocol.problem import Problem

SERIAL_BYTES: Final = 8
_KEY_USED: Final = Lost(Problem(ProblemKind.KEY_USED, "this key was certified before"))


@dataclass(frozen=True, slots=True)
class Reserved:
    """An intent: what the certificate of this key will be, or already is."""

    id: int
    parent_id: int
    serial: bytes
    not_before: int
    not_after: int | None


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate that nobody outside has seen yet."""

    order: Issue | Generate
    reserved: Reserved
    point: bytes
    """Its key: an uncompressed SEC1 point, or the 32 bytes of an Ed25519 key."""
    encoded: bytes
    refusal: Lost | None = None
    """Why there will be none after all."""


_FIND_KEYS = (
    select(
        KEYS.c.key_hash,
        KEYS.c.id,
        KEYS.c.authority,
        KEYS.c.label,
        KEYS.c.device_id,
        KEYS.c.signer_id,
        KEYS.c.serial,
        KEYS.c.not_before,
        KEYS.c.not_after,
        CERTIFICATES.c.state,
        CERTIFICATES.c.encoded,
    )
    .select_from(KEYS.outerjoin(CERTIFICATES, CERTIFICATES.c.id == KEYS.c.id))
    .where(KEYS.c.key_hash.in_(bindparam("hashes", expanding=True)))
)
_LAST_ID = select(func.max(KEYS.c.id))
_INSERT_KEYS = insert(KEYS)
_INSERT_CERTIFICATES = insert(CERTIFICATES)
_BOOTSTRAPS = select(CERTIFICATES.c.id, CERTIFICATES.c.encoded).where(
    CERTIFICATES.c.device_id == bindparam("device"), CERTIFICATES.c.parent_id.is_(None)
)


def new_serial() -> bytes:
    """Return 8 random bytes that are a positive integer of exactly that length."""
    while True:
        serial = bytearray(secrets.token_bytes(SERIAL_BYTES))
        serial[0] &= 0x7F
        if serial[0]:
            return bytes(serial)


def reserve(
    writing: Writing, orders: Sequence[Issue], latest: dict[bytes, int]
) -> list[Reserved | Issued | Lost]:
    """Write the intents of `orders` and return, in order, what is to be signed, or what is known already.

    Args:
        writing: A transaction; it only has to survive this process.
        orders: Decided on facts that may have changed since.
        latest: notAfter of each issuing CA; no certificate outlives its issuer.
    """
    # Before anything else, so that their keys are among the known ones.
    parents = [record_signer(writing, order.signer) for order in orders]
    known = find_keys(writing, [order.key_hash for order in orders])
    number = last_id(writing)
    fresh: dict[bytes, tuple[tuple[object, ...], Reserved]] = {}
    rows: list[dict[str, object]] = []
    results: list[Reserved | Issued | Lost] = []
    for order, parent in zip(orders, parents, strict=True):
        if isinstance(parent, Lost):
            results.append(parent)
            continue
        claim = (order.ask.authority, order.ask.label, order.device.id, parent)
        row = known.get(order.key_hash)
        if row is not None:
            is_own = claim == (row.authority, row.label, row.device_id, row.signer_id)
            is_over = rules.is_over(row.not_after, writing.now)
            if not is_own or is_over or row.state not in (None, life.PENDING, life.CURRENT):
                results.append(_KEY_USED)
            elif row.state is None:
                results.append(Reserved(row.id, parent, row.serial, row.not_before, row.not_after))
            else:
                results.append(Issued(row.encoded))
            continue
        twin = fresh.get(order.key_hash)
        if twin is not None:
            results.append(twin[1] if twin[0] == claim else _KEY_USED)
            continue
        number += 1
        profile = order.profile
        not_after: int | None = None  # a profile without an end means that, whenever its CA ends
        if profile.validity is not None:
            not_after = min(writing.now + profile.validity, latest[order.ask.authority])
        reserved = Reserved(number, parent, new_serial(), writing.now - profile.backdate, not_after)
        fresh[order.key_hash] = claim, reserved
        results.append(reserved)
        rows.append(
            {
                "id": number,
                "key_hash": order.key_hash,
                "authority": order.ask.authority,
                "label": order.ask.label,
                "device_id": order.device.id,
                "signer_id": parent,
                "serial": reserved.serial,
                "not_before": reserved.not_before,
                "not_after": reserved.not_after,
            }
        )
    if rows:
        writing.connection.execute(_INSERT_KEYS, rows)
    return results


def find_keys(writing: Writing, hashes: Sequence[bytes]) -> dict[bytes, Any]:
    """Return the row of each key that is known, with its certificate's state and encoding, by its hash."""
    return {row.key_hash: row for row in writing.connection.execute(_FIND_KEYS, {"hashes": list(hashes)})}


def last_id(writing: Writing) -> int:
    """Return the last number that a key was given."""
    return int(writing.connection.execute(_LAST_ID).scalar_one() or 0)


def record_signer(writing: Writing, signer: CertificateFacts | NewSigner) -> int | Lost:
    """Return the number of the signing certificate; one that came by value is recorded first."""
    if not isinstance(signer, NewSigner):
        return signer.id
    certificate = signer.certificate
    rows = writing.connection.execute(_BOOTSTRAPS, {"device": signer.device.id}).all()
    if rows:
        if rows[0].encoded == certificate.encoded:
            return int(rows[0].id)
        return Lost(Problem(ProblemKind.WRONG_SIGNER, "another bootstrap certificate is registered"))
    algorithm = certificate.public_key_algorithm
    assert isinstance(algorithm, int)
    digest = rules.key_hash(algorithm, certificate.public_key)
    if writing.connection.execute(_FIND_KEYS, {"hashes": [digest]}).first() is not None:
        return _KEY_USED
    number = last_id(writing) + 1
    key, row = bootstrap_rows(
        number, signer.device.id, signer.authority, signer.label, certificate, writing.now
    )
    writing.connection.execute(_INSERT_KEYS, [key])
    writing.connection.execute(_INSERT_CERTIFICATES, [row])
    writing.note(
        Entry(
            Event.REGISTER,
            signer.device.client_id,
            signer.device.name,
            signer.label,
            certificate.serial,
            "bootstrap certificate came by value",
        )
    )
    return number


def bootstrap_rows(
    number: int, device_id: int, authority: bytes, label: str, certificate: c509.Certificate, now: int
) -> tuple[dict[str, object], dict[str, object]]:
    """Return the rows (of `keys`, of `certificates`) of a certificate that a maker issued."""
    algorithm = certificate.public_key_algorithm
    assert isinstance(algorithm, int)
    both: dict[str, object] = {
        "id": number,
        "authority": authority,
        "label": label,
        "device_id": device_id,
        "serial": certificate.serial,
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
    }
    key = both | {
        "key_hash": rules.key_hash(algorithm, certificate.public_key),
        "signer_id": None,
    }
    row = both | {
        "parent_id": None,
        "state": life.CURRENT,
        "algorithm": rules.cose_algorithm(algorithm),
        "public_key": _point(certificate),
        "thumbprint": c509.thumbprint(certificate.encoded),
        "encoded": certificate.encoded,
        "issued_at": now,
    }
    return key, row


def _point(certificate: c509.Certificate) -> bytes:
    key = verification_key(certificate)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key.public_bytes_raw()
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
