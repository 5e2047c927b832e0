"""The audit log: a chain of hashes over every decision, whose head is signed and published.

    record = deterministic CBOR of [sequence, time, event, client-id, device, label, serial, detail]
    hash   = SHA-256(previous hash ‖ record), 32 zero bytes before the first
    head   = COSE_Sign1({1: alg, 4: kid}, payload = [sequence, hash, time], aad = ["audit-head"])

Whoever can write the database can write a chain anew; not the head, which the registration key signs and
which is published outside. So a change, a removal or a new order shows in the chain, a cut end in the head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Final

import cbor2
from sqlalchemy import bindparam, insert, select
from sqlalchemy.engine import Connection

from agents.authority.schema import AUDIT
from protocol import cbor
from protocol.cose import PublicKey, decode_sign1, is_signature_valid
from protocol.errors import MalformedMessage
from protocol.signing import Signer, sign1
from protocol.voucher import key_identifier

GENESIS: Final = bytes(32)
"""What stands before the first record."""
_AAD: Final = cbor.encode(["audit-head"])
_PAGE: Final = 5000
"""Records read at a time while verifying."""


class Event(StrEnum):
    """What was decided."""

    INIT = "init"
    REGISTER = "register"
    ISSUE = "issue"
    CONFIRM = "confirm"
    ACTIVATE = "activate"
    SUPERSEDE = "supersede"
    VOID = "void"
    REVOKE = "revoke"
    GRANT = "grant"
    """A car may have certificates for a contract from now on."""
    WITHDRAW = "withdraw"
    """A contract has ended."""
    PREPARE = "prepare"
    """A certificate is made that nobody has asked for yet."""
    REMOVE = "remove"
    """An operator says that a device no longer holds a certificate that ended."""
    REFUSE = "refuse"
    ALARM = "alarm"
    TRANSFER = "transfer"
    """A device went to another owner, or came from one; says who approved."""
    RESET = "reset"
    """A device was sold, or is as new: what its owner gave it has ended."""
    NEW_KEY = "new-key"
    """A device has another tier 1 certificate."""
    TRUST = "trust"
    """Devices of another maker are taken from now on; says who approved."""
    JUNK = "junk"
    """Counts of what was not authenticated, once in a while."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision, before it has a place in the chain."""

    event: Event
    client_id: str | None = None
    device: str | None = None
    label: str | None = None
    serial: bytes | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain."""

    sequence: int
    """Number of the last record; 0 before the first."""
    hash: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it was read back."""

    sequence: int
    time: int
    entry: Entry


class AuditBroken(Exception):
    """The log is not what was written.

    Attributes:
        sequence: The first record that is wrong or missing.
    """

    def __init__(self, sequence: int, what: str) -> None:
        super().__init__(f"audit record {sequence}: {what}")
        self.sequence = sequence


_LAST = select(AUDIT.c.sequence, AUDIT.c.hash).order_by(AUDIT.c.sequence.desc()).limit(1)
_HASH = select(AUDIT.c.hash).where(AUDIT.c.sequence == bindparam("number"))
_INSERT = insert(AUDIT)
_PAGE_FROM = (
    select(AUDIT.c.sequence, AUDIT.c.record, AUDIT.c.hash)
    .where(AUDIT.c.sequence > bindparam("after"))
    .order_by(AUDIT.c.sequence)
    .limit(_PAGE)
)


def read_head(connection: Connection) -> Head:
    """Return the end of the chain."""
    row = connection.execute(_LAST).first()
    return Head(0, GENESIS) if row is None else Head(row.sequence, row.hash)


def goes_through(connection: Connection, head: Head) -> bool:
    """Return whether the chain has `head` where it says; what stands before it is not looked at."""
    if head.sequence == 0:
        return head.hash == GENESIS
    return connection.execute(_HASH, {"number": head.sequence}).scalar() == head.hash


def append(connection: Connection, entries: Sequence[Entry], now: int) -> None:
    """Add `entries` to the chain; the head is read and written in the transaction that is open."""
    if not entries:
        return
    head = read_head(connection)
    sequence, previous = head.sequence, head.hash
    rows: list[dict[str, object]] = []
    for entry in entries:
        sequence += 1
        # Flat, and of plain types only, so that the plain encoder is deterministic.
        record = cbor2.dumps(
            [
                sequence,
                now,
                entry.event.value,
                entry.client_id,
                entry.device,
                entry.label,
                entry.serial,
                entry.detail,
            ]
        )
        previous = sha256(previous + record).digest()
        rows.append({"sequence": sequence, "record": record, "hash": previous})
    connection.execute(_INSERT, rows)


def read_record(record: bytes) -> Record:
    """Return the record in `record`.

    Raises:
        MalformedMessage: It is none.
    """
    sequence, time, event, client_id, device, label, serial, detail = cbor.decode_array(record, 8)
    try:
        return Record(sequence, time, Entry(Event(event), client_id, device, label, serial, detail))
    except ValueError:
        raise MalformedMessage("not an audit record") from None


def sign_head(head: Head, signer: Signer, key_id: bytes, now: int) -> bytes:
    """Return the head, signed; `key_id` is the key identifier of the registration key, 32 bytes."""
    return sign1(signer, cbor.encode([head.sequence, head.hash, now]), _AAD, key_id=key_id[:8])


def read_signed_head(data: bytes, keys: Sequence[PublicKey]) -> Head:
    """Return the head in `data` if one of `keys` signed it.

    Raises:
        MalformedMessage: Not a head, or not signed by one of them.
    """
    signed = decode_sign1(data, max_bytes=512)
    for key in keys:
        if key_identifier(key)[:8] == signed.header.key_id and is_signature_valid(
            key, signed.header.algorithm, signed.signature, signed.signed_bytes(_AAD)
        ):
            break
    else:
        raise MalformedMessage("the published head is not signed by a registration key of this authority")
    sequence, digest, _ = cbor.decode_array(signed.payload, 3)
    if type(sequence) is not int or type(digest) is not bytes:
        raise MalformedMessage("a head is [sequence, hash, time]")
    return Head(sequence, digest)


def verify_chain(connection: Connection, published: Head | None) -> Head:
    """Return the end of the chain, after every record was looked at.

    Args:
        connection: A read transaction.
        published: A head that was signed earlier; the chain must go through it.

    Raises:
        AuditBroken: A record was changed, removed, added in between or moved, or the end was cut off.
    """
    expected, previous = 1, GENESIS
    while True:
        rows = connection.execute(_PAGE_FROM, {"after": expected - 1}).all()
        for row in rows:
            if row.sequence != expected:
                raise AuditBroken(expected, "missing")
            try:
                sequence = read_record(row.record).sequence
            except MalformedMessage as error:
                raise AuditBroken(expected, f"changed: {error}") from None
            if sequence != expected:
                raise AuditBroken(expected, f"record {sequence} stands in its place")
            previous = sha256(previous + row.record).digest()
            if previous != row.hash:
                raise AuditBroken(expected, "changed, or another stood before it")
            if published is not None and published.sequence == expected and published.hash != previous:
                raise AuditBroken(expected, "not the record of which the head was published")
            expected += 1
        if len(rows) < _PAGE:
            break
    if published is not None and published.sequence >= expected:
        raise AuditBroken(expected, f"missing: the log was cut off; {published.sequence} had been published")
    return Head(expected - 1, previous)
