"""Requests for generated keys (`skg`), on their way through the desk: one signer's nonce, one certificate.

    reserve   cheap transaction    the intent: of this request alone, or of a contract that was prepared
    pack      (no transaction)     key, certificate and wrapping if nothing was prepared; the signature
    recheck   durable transaction  whether all that is still granted
    keep      the same             the wrapped key and the package, beside the certificate

The nonce's hash stands where a key's hash stands otherwise (`protocol.exchange.authority_rules.nonce_hash`),
so what holds for keys holds here: one row, one certificate, whatever is repeated and whenever we die. What is
kept for a repeat goes when the device has confirmed (`agents.authority.readiness`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert

from agents.authority import life
from agents.authority.domain import DomainAuthority
from agents.authority.intents import Reserved, Signed, find_keys, last_id, new_serial, record_signer
from agents.authority.packing import (
    Draft,
    Made,
    Services,
    Vouching,
    characters_of,
    decode_installation,
    encode_installation,
    make,
    pack,
)
from agents.authority.schema import ANSWERS, CERTIFICATES, GRANTS, INSTALLATIONS, KEYS, PACKAGES
from agents.authority.store import Writing
from protocol.errors import ProblemKind, RequestRejected
from protocol.exchange import authority_rules as rules
from protocol.exchange.authority_effects import Generate, Issued, Lost, NewSigner, Outcome, Packaged
from protocol.exchange.authority_judgement import usable_key
from protocol.exchange.facts import GrantFacts
from protocol.problem import Problem
from protocol.profiles import Profile

RESERVED, READY, CLAIMED = "reserved", "ready", "claimed"
"""Stages of an installation: its certificate is to be made, is made, belongs to a request."""
RETRY_AFTER: Final = 30.0
"""Seconds after which a device may ask again where nobody can sign packages: an operator has to act."""
MAX_PACKAGES: Final = 4
"""Packages kept of one certificate: a device asks with the same bytes, and twice in two forms at most."""

_NOBODY: Final = Lost(Problem(ProblemKind.UNAVAILABLE, "nobody signs contract packages now", RETRY_AFTER))
_USED: Final = Lost(Problem(ProblemKind.KEY_USED, "this request was answered, and its certificate has ended"))
_INSTALLED: Final = Lost(Problem(ProblemKind.KEY_USED, "the key was installed, and is not kept here"))
_TWIN: Final = Lost(Problem(ProblemKind.UNAVAILABLE, "the same request is being answered", 1.0))
_NOT_GRANTED: Final = Lost(Problem(ProblemKind.NOT_ENTITLED, "what was granted has ended"))

_I: Final = INSTALLATIONS.c
_OF_CERTIFICATE = select(_I.certificate, _I.installation).where(
    _I.certificate_id == bindparam("certificate"), _I.installation.is_not(None)
)
_PREPARED = (
    select(KEYS.c.id, KEYS.c.serial, KEYS.c.not_before, KEYS.c.not_after, _I.certificate, _I.installation)
    .select_from(INSTALLATIONS.join(KEYS, KEYS.c.id == _I.certificate_id))
    .where(
        _I.grant_id == bindparam("grant"),
        _I.recipient_id == bindparam("recipient"),
        _I.stage == READY,
        _I.fresh_until >= bindparam("now"),
        KEYS.c.authority == bindparam("authority"),
    )
)
_CLAIM_KEY = update(KEYS).where(KEYS.c.id == bindparam("number")).values(key_hash=bindparam("stands_for"))
_CLAIM = update(INSTALLATIONS).where(_I.certificate_id == bindparam("number")).values(stage=CLAIMED)
_INSERT_KEY = insert(KEYS)
_KEEP = upsert(INSTALLATIONS).on_conflict_do_nothing()
_REMEMBER = upsert(ANSWERS).on_conflict_do_nothing()
_PACKAGE = select(PACKAGES.c.encoded).where(PACKAGES.c.digest == bindparam("memory"))
_ADD_PACKAGE = insert(PACKAGES)
_OLDER = (
    select(PACKAGES.c.digest)
    .join(ANSWERS, ANSWERS.c.digest == PACKAGES.c.digest)
    .where(PACKAGES.c.certificate_id == bindparam("certificate"))
    .order_by(ANSWERS.c.answered_at.desc())
    .offset(MAX_PACKAGES)
)
_FORGET_OLDER = delete(PACKAGES).where(PACKAGES.c.digest.in_(_OLDER.scalar_subquery()))
_GRANTED = select(GRANTS.c.id).where(
    GRANTS.c.id.in_(bindparam("grants", expanding=True)), GRANTS.c.ended_at.is_(None)
)
_SERVICE_STATE = select(CERTIFICATES.c.state).where(CERTIFICATES.c.thumbprint == bindparam("thumbprint"))


@dataclass(frozen=True, slots=True)
class Promised(Reserved):
    """An intent, with what of it is made already, and who will sign the package."""

    vouching: Vouching
    made: Made | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed(Signed):
    """A certificate in its package, which nobody outside has seen yet."""

    grant: GrantFacts
    made: Made
    package: bytes
    characters: int | None


class Provision:
    """Threads: any.

    Args:
        authorities: By key identifier.
        latest: notAfter of each issuing CA.
        services: Who signs packages.
    """

    def __init__(
        self, authorities: Mapping[bytes, DomainAuthority], latest: Mapping[bytes, int], services: Services
    ) -> None:
        self._authorities = authorities
        self._latest = latest
        self._services = services

    def vouching(self, writing: Writing, profile: Profile) -> Vouching | None:
        """Return who signs packages of this profile now; None where nobody can."""
        service = None if profile.vouched_by is None else self._services.get(profile.vouched_by)
        found = None if service is None else service(writing.now)
        if found is None:
            return None
        states = writing.connection.execute(_SERVICE_STATE, {"thumbprint": found.thumbprint}).scalars().all()
        # A service of another operator is none of ours to judge; one of ours may have ended just now.
        return found if not states or life.CURRENT in states else None

    def not_after(self, authority: bytes, profile: Profile, granted_until: int | None, now: int) -> int:
        """Return when a certificate that begins now ends: with its profile, its issuer or its contract."""
        ends = [self._latest[authority]]
        if profile.validity is not None:
            ends.append(now + profile.validity)
        if granted_until is not None:
            ends.append(granted_until)
        return min(ends)

    def reserve(self, writing: Writing, orders: Sequence[Generate]) -> list[Promised | Lost]:
        """Return, in order, what is to be packed; a contract that is ready is given to its request.

        Args:
            writing: A transaction; it only has to survive this process.
            orders: Decided on facts that may have changed since.
        """
        return [self._reserve(writing, order) for order in orders]

    def _reserve(self, writing: Writing, order: Generate) -> Promised | Lost:
        vouching = self.vouching(writing, order.profile)
        if vouching is None:
            return _NOBODY
        parent = record_signer(writing, order.signer)
        if isinstance(parent, Lost):
            return parent
        row = find_keys(writing, [order.key_hash]).get(order.key_hash)
        if row is not None:
            return self._known(writing, order, parent, row, vouching)
        prepared = writing.connection.execute(
            _PREPARED,
            {
                "grant": order.grant.id,
                "recipient": parent,
                "now": writing.now,
                "authority": order.ask.authority,
            },
        ).first()
        if prepared is not None:
            number = {"number": prepared.id}
            writing.connection.execute(_CLAIM_KEY, number | {"stands_for": order.key_hash})
            writing.connection.execute(_CLAIM, number)
            made = Made(prepared.certificate, decode_installation(prepared.installation))
            return _promise(prepared, parent, vouching, made)
        reserved: dict[str, Any] = {
            "id": last_id(writing) + 1,
            "key_hash": order.key_hash,
            "authority": order.ask.authority,
            "label": order.ask.label,
            "device_id": order.device.id,
            "signer_id": parent,
            "serial": new_serial(),
            "not_before": writing.now - order.profile.backdate,
            "not_after": self.not_after(
                order.ask.authority, order.profile, order.grant.not_after, writing.now
            ),
        }
        writing.connection.execute(_INSERT_KEY, [reserved])
        return Promised(
            reserved["id"],
            parent,
            reserved["serial"],
            reserved["not_before"],
            reserved["not_after"],
            vouching,
            None,
        )

    def _known(
        self,
        writing: Writing,
        order: Generate,
        parent: int,
        row: Any,  # noqa: ANN401 (a database row)
        vouching: Vouching,
    ) -> Promised | Lost:
        """Go on with a request that was here before, in these bytes or in others."""
        claim = (order.ask.authority, order.ask.label, order.device.id, parent)
        is_own = claim == (row.authority, row.label, row.device_id, row.signer_id)
        if not is_own or rules.is_over(row.not_after, writing.now):
            return _USED
        if row.state == life.CURRENT:
            return _INSTALLED
        if row.state not in (None, life.PENDING):
            return _USED
        kept = writing.connection.execute(_OF_CERTIFICATE, {"certificate": row.id}).first()
        if kept is None and row.state is not None:
            return _INSTALLED
        made = None if kept is None else Made(kept.certificate, decode_installation(kept.installation))
        return _promise(row, parent, vouching, made)

    def pack(self, wanted: Sequence[tuple[Generate, Promised]]) -> list[Signed]:
        """Return, in order, the packages; twins in one group share key, certificate and signature."""
        made: dict[int, Made | Lost] = {}
        packages: dict[bytes, bytes] = {}
        packed: list[Signed] = []
        for order, promised in wanted:
            done = made.get(promised.id) or promised.made or self._make(order, promised)
            made[promised.id] = done
            if isinstance(done, Lost):
                packed.append(Signed(order, promised, b"", b"", done))
                continue
            memory = order.ask.memory
            if memory not in packages:
                packages[memory] = pack(
                    done.installation, promised.vouching, request=order.ask.digest, label=order.ask.label
                )
            characters = characters_of(done.installation, promised.vouching)
            packed.append(
                Packed(
                    order,
                    promised,
                    done.point,
                    done.certificate,
                    grant=order.grant,
                    made=done,
                    package=packages[memory],
                    characters=characters,
                )
            )
        return packed

    def _make(self, order: Generate, promised: Promised) -> Made | Lost:
        signer = order.signer
        recipient = usable_key(signer.certificate)[1] if isinstance(signer, NewSigner) else signer.public_key
        draft = Draft(
            order.profile,
            order.grant.name,
            order.device.name,
            promised.serial,
            promised.not_before,
            promised.not_after,
            recipient,
        )
        try:
            return make(self._authorities[order.ask.authority], draft)
        except RequestRejected as error:
            return Lost(Problem.of(error))

    @staticmethod
    def recheck(writing: Writing, signed: Sequence[Signed]) -> list[Signed]:
        """Return `signed`, with a refusal for what is granted no more."""
        grants = {item.grant.id for item in signed if isinstance(item, Packed)}
        if not grants:
            return list(signed)
        alive = set(writing.connection.execute(_GRANTED, {"grants": list(grants)}).scalars())
        return [
            replace(item, refusal=_NOT_GRANTED)
            if isinstance(item, Packed) and item.grant.id not in alive
            else item
            for item in signed
        ]

    @staticmethod
    def keep(writing: Writing, signed: Sequence[Signed], outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Write what belongs to the certificates that were recorded; return what became of each request."""
        return [
            _keep(writing, item, outcome)
            if isinstance(item, Packed) and isinstance(outcome, Issued)
            else outcome
            for item, outcome in zip(signed, outcomes, strict=True)
        ]


def _promise(row: Any, parent: int, vouching: Vouching, made: Made | None) -> Promised:  # noqa: ANN401
    return Promised(row.id, parent, row.serial, row.not_before, row.not_after, vouching, made)


def _keep(writing: Writing, item: Packed, recorded: Issued) -> Packaged | Lost:
    connection, ask, number = writing.connection, item.order.ask, item.reserved.id
    known = connection.execute(_PACKAGE, {"memory": ask.memory}).scalar()
    if known is not None:
        return Packaged(known)
    if recorded.encoded != item.encoded:
        # Another group was first, with another key: ours goes unseen, and the next try finds theirs.
        return _TWIN
    connection.execute(
        _KEEP,
        [
            {
                "certificate_id": number,
                "grant_id": item.grant.id,
                "recipient_id": item.reserved.parent_id,
                "stage": CLAIMED,
                "fresh_until": writing.now,
                "certificate": item.encoded,
                "installation": encode_installation(item.made.installation),
                "characters": item.characters,
            }
        ],
    )
    answer = {"digest": ask.memory, "device_id": item.order.device.id, "certificate_id": number}
    connection.execute(_REMEMBER, [answer | {"answered_at": writing.now}])
    connection.execute(
        _ADD_PACKAGE, [{"digest": ask.memory, "certificate_id": number, "encoded": item.package}]
    )
    connection.execute(_FORGET_OLDER, {"certificate": number})
    return Packaged(item.package)
