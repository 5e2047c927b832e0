"""Makers whose devices are taken besides the domain's own: foreign manufacturers, and makers of other roots.

A foreign CA lists none of our labels and prefixes, so the operator states them when the maker is trusted:
one row in `makers` for each CA and label, with who approved it. The audit log has the row's hash in a record
of its own, and the row says which; a row that the log does not bear out is no statement, and nothing is
loaded. The last statement about a CA and a label counts.
"""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_der_public_key
from sqlalchemy import Column, Integer, LargeBinary, Table, Text, bindparam, delete, func, insert, select
from sqlalchemy.engine import Connection

from agents.authority.audit import Entry, Event, read_record
from agents.authority.schema import AUDIT, METADATA, open_engine
from agents.authority.store import Store
from protocol import c509, cbor
from protocol.cose import PublicKey
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.labels import Domain, Tier
from protocol.path import Authority, is_issued_by, verify_authority
from protocol.profiles import NameSpace, Prefix, name_space, profile_of
from protocol.validity import Clock

MAKERS: Final = Table(
    "makers",
    METADATA,
    Column("key_id", LargeBinary(32), primary_key=True),
    Column("label", Text, primary_key=True),
    Column("statement", LargeBinary, nullable=False),
    Column("audit_sequence", Integer, nullable=False),
)
_ALL = select(MAKERS)
_EXISTS = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'makers'"
_RECORD = select(AUDIT.c.record).where(AUDIT.c.sequence == bindparam("number"))
_LAST = select(func.max(AUDIT.c.sequence))
_MAX_STATEMENT: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Statement:
    """What an operator states of one maker for one label."""

    name: str
    """What the maker is called here."""
    label: str
    """Tier 1: what its CA may issue for us."""
    prefixes: tuple[Prefix, ...]
    """What the names that it gives begin with; none where such names are no maker's."""
    chain: tuple[c509.Certificate, ...]
    """The CA that issues the devices' certificates first, its root last."""
    voucher_key: bytes | None
    """Public key of its manifests and vouchers, SubjectPublicKeyInfo; a foreign maker has none."""
    approved_by: str
    approved_at: int
    """POSIX seconds."""

    @property
    def key_id(self) -> bytes:
        """Key identifier of the issuing CA, 32 bytes."""
        return hashlib.sha256(self.chain[0].spki_der).digest()

    def encode(self) -> bytes:
        """Return the statement as it is stored, and hashed into the audit log."""
        prefixes = [[int(prefix.space), prefix.octets] for prefix in self.prefixes]
        chain = [certificate.encoded for certificate in self.chain]
        return cbor.encode(
            [self.name, self.label, prefixes, chain, self.voucher_key, self.approved_by, self.approved_at]
        )

    @classmethod
    def decode(cls, data: bytes) -> "Statement":
        """Return the statement in `data`, or raise MalformedMessage."""
        match cbor.decode(data, max_bytes=_MAX_STATEMENT):
            case [str(name), str(label), list(prefixes), list(chain), key, str(who), int(when)]:
                try:
                    listed = tuple(Prefix(NameSpace(space), octets) for space, octets in prefixes)
                except (ValueError, TypeError):
                    raise MalformedMessage("a statement about a maker has a prefix that is none") from None
                certificates = tuple(c509.decode_certificate(one) for one in chain)
                return cls(name, label, listed, certificates, key, who, when)
            case _:
                raise MalformedMessage("not a statement about a maker")

    def authority(self, clock: Clock) -> Authority:
        """Return the maker as doors and inventory know it.

        Raises:
            RequestRejected: Its chain is not one, or what is stated goes beyond what its CAs list.
            MalformedMessage: A key that is not on its curve.
        """
        profile = profile_of(self.label)
        if profile.tier is not Tier.BOOTSTRAPPING:
            raise RequestRejected(ProblemKind.WRONG_SIGNER, f"{self.label} is no maker's to issue")
        path = self.chain[:-1] or self.chain
        found = verify_authority(path, root=self.chain[-1], authority=None, clock=clock)
        if found.labels and self.label not in found.labels:
            raise RequestRejected(ProblemKind.WRONG_SIGNER, f"its CA may not issue {self.label}")
        space = name_space(profile.naming)
        if space is None:
            return replace(found, labels=frozenset({self.label}))
        stated = frozenset(prefix for prefix in self.prefixes if prefix.space is space)
        if not stated:
            raise RequestRejected(
                ProblemKind.WRONG_SUBJECT, f"say which {space.title} its names begin with: --prefix"
            )
        listed = found.prefixes.get(space)
        beyond = stated - listed if listed is not None else frozenset[Prefix]()
        if beyond:
            words = ", ".join(map(str, sorted(beyond)))
            raise RequestRejected(ProblemKind.WRONG_SUBJECT, f"its CA does not list {space.title} {words}")
        return replace(
            found, labels=frozenset({self.label}), prefixes={space: stated}, gives=frozenset({space})
        )


def trust(store: Store, statement: Statement, now: int) -> None:
    """Take a maker's devices from now on; a statement about the same CA and label is replaced.

    Raises:
        RequestRejected: As `Statement.authority` says. Nothing was changed.
    """
    statement.authority(Clock(now))
    encoded = statement.encode()
    prefixes = " ".join(map(str, statement.prefixes))
    detail = f"maker {statement.name} ({prefixes}) by {statement.approved_by}: {_digest(encoded)}"
    with store.writing(now) as writing:
        MAKERS.create(writing.connection, checkfirst=True)
        sequence = int(writing.connection.execute(_LAST).scalar_one() or 0) + 1
        writing.note(Entry(Event.TRUST, label=statement.label, detail=detail))
        key = (MAKERS.c.key_id == statement.key_id) & (MAKERS.c.label == statement.label)
        writing.connection.execute(delete(MAKERS).where(key))
        writing.connection.execute(
            insert(MAKERS).values(
                key_id=statement.key_id, label=statement.label, statement=encoded, audit_sequence=sequence
            )
        )


def _digest(encoded: bytes) -> str:
    return hashlib.sha256(encoded).hexdigest()


def read_statements(connection: Connection, domain: Domain) -> list[Statement]:
    """Return what is stated of a domain's makers.

    Raises:
        MalformedMessage: A statement that the audit log does not bear out.
    """
    if connection.exec_driver_sql(_EXISTS).first() is None:
        return []
    return [
        _borne_out(connection, row)
        for row in connection.execute(_ALL.order_by(MAKERS.c.audit_sequence)).all()
        if profile_of(row.label).domain is domain
    ]


def _borne_out(connection: Connection, row: Any) -> Statement:  # noqa: ANN401 (a database row)
    statement = Statement.decode(row.statement)
    found = connection.execute(_RECORD, {"number": row.audit_sequence}).scalar()
    entry = None if found is None else read_record(found).entry
    if (
        entry is None
        or entry.event is not Event.TRUST
        or not entry.detail.endswith(f": {_digest(row.statement)}")
        or (statement.key_id, statement.label) != (row.key_id, row.label)
    ):
        raise MalformedMessage(f"maker {statement.name}: the audit log says nothing of this statement")
    return statement


def stated_makers(path: Path, domain: Domain, clock: Clock) -> tuple[Authority, ...]:
    """Return the makers that are trusted by a statement, one for each CA.

    Args:
        path: The store.
        domain: Whose.
        clock: What is known of the time.

    Raises:
        EnrollmentError: A statement that the log does not bear out, or whose chain is none (any more).
        WrongStore: The store cannot be used.
    """
    engine = open_engine(path)
    try:
        with closing(engine.connect().execution_options(read_only=True)) as connection:
            statements = read_statements(connection, domain)
    finally:
        engine.dispose()
    return merged(statement.authority(clock) for statement in statements)


def merged(authorities: Iterable[Authority]) -> tuple[Authority, ...]:
    """Return one authority for each key, permitted what all statements about it permit."""
    found: dict[bytes, Authority] = {}
    for one in authorities:
        known = found.get(one.key_id)
        if known is None:
            found[one.key_id] = one
            continue
        spaces = known.prefixes.keys() | one.prefixes.keys()
        nothing: frozenset[Prefix] = frozenset()
        found[one.key_id] = replace(
            known,
            labels=known.labels | one.labels,
            prefixes={
                space: known.prefixes.get(space, nothing) | one.prefixes.get(space, nothing)
                for space in spaces
            },
            gives=known.gives | one.gives,
        )
    return tuple(found.values())


def order_chain(
    certificates: Sequence[c509.Certificate], more: Sequence[c509.Certificate] = ()
) -> tuple[c509.Certificate, ...]:
    """Return CA certificates that came in any order as a chain: the one that issues first, its root last.

    Args:
        certificates: With the one that issues.
        more: Where those above it may be, too.

    Raises:
        RequestRejected: They are no one chain that ends at a root.
    """
    cas = list(
        {certificate.encoded: certificate for certificate in certificates if certificate.is_ca}.values()
    )
    above = {ca.issuer_name for ca in cas if ca.issuer_name != ca.subject}
    issuing = [ca for ca in cas if ca.subject not in above]
    if len(issuing) != 1:
        names = ", ".join(str(ca.subject) for ca in issuing) or "none"
        raise RequestRejected(
            ProblemKind.WRONG_SIGNER,
            f"there is to be one CA that issues, with those above it; found: {names}",
        )
    chain = issuing
    while (last := chain[-1]).issuer_name != last.subject:
        parents = [ca for ca in (*cas, *more) if ca not in chain and is_issued_by(last, ca)]
        if not parents:
            raise RequestRejected(
                ProblemKind.WRONG_SIGNER, f"the CA above {last.subject} is missing: {last.issuer_name}"
            )
        chain.append(parents[0])
    return tuple(chain)


def voucher_key_of(spki: bytes) -> PublicKey:
    """Return a maker's voucher key, or raise MalformedMessage."""
    try:
        key = load_der_public_key(spki)
    except ValueError:
        raise MalformedMessage("not a public key") from None
    if not isinstance(key, (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)):
        raise MalformedMessage("a voucher key of a kind that is not used here")
    return key
