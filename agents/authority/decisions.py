"""What a group of requests decides: one durable transaction for all of it.

Certificates, confirmations, revocations, remembered answers and audit records; every rule that depends on
state is looked at again in here, because somebody else may have written since the decision.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert

from agents.authority import life, removals
from agents.authority.audit import Entry, Event
from agents.authority.intents import Signed
from agents.authority.schema import ANSWERS, CERTIFICATES, DEVICES
from agents.authority.store import Writing
from protocol import c509
from protocol.errors import ProblemKind
from protocol.exchange.authority_effects import Confirm, Done, Issued, Lost, Outcome, Refuse, Revoke
from protocol.exchange.facts import CertificateState
from protocol.exchange.request import INSTALLED
from protocol.problem import TITLES, Problem

MAX_REFUSALS_PER_DEVICE: Final = 32
"""Remembered refusals of one device; older ones are forgotten, so that asking nonsense fills no disk."""

_ENDED: Final = {
    life.REVOKED: Lost(Problem(ProblemKind.SIGNER_REVOKED, "the signing certificate was revoked just now")),
    life.SUPERSEDED: Lost(Problem(ProblemKind.SIGNER_SUPERSEDED, "the signing certificate was replaced")),
    life.VOID: Lost(Problem(ProblemKind.SIGNER_SUPERSEDED, "the signing certificate never became current")),
    life.PENDING: Lost(
        Problem(ProblemKind.SIGNER_SUPERSEDED, "the signing certificate cannot become current")
    ),
}


_INSERT_CERTIFICATES = insert(CERTIFICATES)
_FIND_CERTIFICATES = select(CERTIFICATES.c.id, CERTIFICATES.c.encoded).where(
    CERTIFICATES.c.id.in_(bindparam("ids", expanding=True))
)
_FIND_PARENTS = (
    select(CERTIFICATES.c.id, CERTIFICATES.c.state, DEVICES.c.epoch)
    .select_from(CERTIFICATES.join(DEVICES, DEVICES.c.id == CERTIFICATES.c.device_id))
    .where(CERTIFICATES.c.id.in_(bindparam("ids", expanding=True)))
)
_REMEMBER = upsert(ANSWERS)
_REMEMBER = _REMEMBER.on_conflict_do_update(
    index_elements=[ANSWERS.c.digest],
    set_={
        name: _REMEMBER.excluded[name]
        for name in ("device_id", "certificate_id", "refusal", "kind", "detail", "answered_at")
    },
)
_OLD_REFUSALS = (
    select(ANSWERS.c.digest)
    .where(ANSWERS.c.device_id.is_not_distinct_from(bindparam("device")), ANSWERS.c.refusal.is_not(None))
    .order_by(ANSWERS.c.answered_at.desc())
    .offset(bindparam("keep"))
)
_FORGET = delete(ANSWERS).where(ANSWERS.c.digest.in_(_OLD_REFUSALS.scalar_subquery()))


def record(
    writing: Writing,
    issues: Sequence[Signed],
    changes: Sequence[tuple[Confirm | Revoke, bytes]],
    refusals: Sequence[tuple[Refuse, bytes]],
) -> tuple[list[Outcome], list[Outcome]]:
    """Write everything that a group of requests decided.

    Args:
        writing: A durable transaction.
        issues: Certificates, signed.
        changes: Confirmations and revocations, each with the receipt to give if it can still be done.
        refusals: Refusals, each with its signed form.

    Returns:
        What became of `issues` and of `changes`, in order.
    """
    activated = [(o.order.device.id, o.reserved.parent_id) for o in issues if o.order.activate_signer]
    if activated:
        life.make_current(writing, activated, Event.ACTIVATE)
    changed: list[Outcome] = [_UNDONE] * len(changes)
    numbered = ((order.target.device.id, index) for index, (order, _) in enumerate(changes))
    for turn in life.rounds(numbered):
        _change(writing, changes, turn, changed)
    issued: list[Outcome] = [_UNDONE] * len(issues)
    places = ((signed.order.device.id, index) for index, signed in enumerate(issues))
    for turn in life.rounds(places):
        _issue(writing, issues, turn, issued)
    _remember_refusals(writing, refusals)
    return issued, changed


_UNDONE: Final = Lost(Problem(ProblemKind.UNAVAILABLE, "not done"))
_OTHER_OWNER: Final = Lost(Problem(ProblemKind.UNAVAILABLE, "the device changes its owner just now", 1.0))
"""For the moment between a look and a change; whoever asks again is told who the new owner is."""
_NOT_PENDING: Final = Lost(Problem(ProblemKind.NO_SUCH_CERTIFICATE, "the certificate is not pending"))


def _change(
    writing: Writing,
    changes: Sequence[tuple[Confirm | Revoke, bytes]],
    turn: Sequence[int],
    outcomes: list[Outcome],
) -> None:
    """Carry out at most one confirmation or revocation per device."""
    orders = {index: changes[index][0] for index in turn}
    first_used = [
        (order.signer.device.id, order.signer.id)
        for order in orders.values()
        if order.signer.state is CertificateState.PENDING and order.signer.id != order.target.id
    ]
    if first_used:  # which makes them current, and what they replace superseded
        life.make_current(writing, first_used, Event.ACTIVATE)
    signers = life.lives(writing, {order.signer.id for order in orders.values()})
    ended = {index: _ended(order, signers, writing.now) for index, order in orders.items()}
    confirmed = [
        (order.target.device.id, order.target.id)
        for index, order in orders.items()
        if isinstance(order, Confirm) and order.status == INSTALLED and ended[index] is None
    ]
    current = life.make_current(writing, confirmed, Event.CONFIRM) if confirmed else set()
    others = [order.target.id for order in orders.values() if order.target.id not in current]
    found = life.lives(writing, others) if others else {}
    for index, order in orders.items():
        state, lost, receipt = found.get(order.target.id), ended[index], Done(changes[index][1])
        if isinstance(order, Revoke):
            outcomes[index] = _revoke(writing, order, state, lost) or receipt
        elif lost is not None:
            outcomes[index] = lost
        elif order.status == INSTALLED:
            outcomes[index] = receipt if order.target.id in current else _NOT_PENDING
        elif state is not None and state.state in (life.PENDING, life.VOID):
            life.void(writing, [state], f"its device could not install it: {_in_words(order.status)}")
            outcomes[index] = receipt
        else:
            outcomes[index] = _NOT_PENDING


def _in_words(status: int) -> str:
    """Return what a device says is wrong with its certificate; devices may have numbers of their own."""
    try:
        return f"{TITLES[ProblemKind(status)]} ({status})"
    except ValueError:
        return f"status {status}"


def _ended(order: Confirm | Revoke, signers: dict[int, life.Life], now: int) -> Lost | None:
    """Return why the signer of `order` has no say any more, if it has ended since the decision."""
    if isinstance(order, Confirm) and order.signer.id == order.target.id:
        return None  # its own state, which is looked at next, says what can be done
    signer = signers.get(order.signer.id)
    if signer is None:
        return _UNDONE
    if signer.state == life.CURRENT or signer.may_become_current(now):
        return None
    return _ENDED[signer.state]


def _revoke(writing: Writing, order: Revoke, state: life.Life | None, ended: Lost | None) -> Lost | None:
    """Revoke as a device asks; return why not.

    Who says it a second time has perhaps ended by the first: it gets its receipt, and changes nothing, or
    whoever finds a key that was given back could take down all that descends from it.
    """
    if state is None:
        return _UNDONE
    if ended is None:
        life.revoke(writing, [state], order.reason, f"by its device: {order.reason.name.lower()}")
        removals.record(writing, state.id, removals.DEVICE)
        return None
    return None if state.state == life.REVOKED else ended


def _issue(writing: Writing, issues: Sequence[Signed], turn: Sequence[int], outcomes: list[Outcome]) -> None:
    """Record at most one certificate per device."""
    connection, now = writing.connection, writing.now
    signed = [issues[index] for index in turn]
    asked = list({item.reserved.parent_id for item in signed})
    found = connection.execute(_FIND_PARENTS, {"ids": asked}).all()
    parents = {row.id: row.state for row in found}
    epochs = {row.id: row.epoch for row in found}
    recorded = {
        row.id: row.encoded
        for row in connection.execute(_FIND_CERTIFICATES, {"ids": [item.reserved.id for item in signed]})
    }
    fresh: list[Signed] = []
    for index, item in zip(turn, signed, strict=True):
        known = recorded.get(item.reserved.id)
        if epochs.get(item.reserved.parent_id) != item.order.device.epoch:
            outcomes[index] = _OTHER_OWNER
        elif item.refusal is not None:
            outcomes[index] = item.refusal
        elif known is not None:  # a twin in another group was first: its signature counts, not ours
            outcomes[index] = Issued(known)
        elif parents.get(item.reserved.parent_id) != life.CURRENT:
            outcomes[index] = _ENDED.get(parents.get(item.reserved.parent_id, ""), _UNDONE)
        else:
            outcomes[index] = Issued(item.encoded)
            fresh.append(item)
    if not fresh:
        return
    older = life.pending_of(writing, [(item.order.device.id, item.order.ask.label) for item in fresh])
    life.void(writing, older, "a newer one was asked for")
    connection.execute(_INSERT_CERTIFICATES, [_certificate_row(item, now) for item in fresh])
    connection.execute(
        _REMEMBER,
        [
            {
                "digest": item.order.ask.memory,
                "device_id": item.order.device.id,
                "certificate_id": item.reserved.id,
                "refusal": None,
                "kind": None,
                "detail": None,
                "answered_at": now,
            }
            for item in fresh
        ],
    )
    for item in fresh:
        device, ask = item.order.device, item.order.ask
        writing.note(
            Entry(Event.ISSUE, device.client_id, device.name, ask.label, item.reserved.serial, ask.op.value)
        )


def _certificate_row(signed: Signed, now: int) -> dict[str, object]:
    order, reserved = signed.order, signed.reserved
    return {
        "id": reserved.id,
        "authority": order.ask.authority,
        "serial": reserved.serial,
        "label": order.ask.label,
        "device_id": order.device.id,
        "parent_id": reserved.parent_id,
        "state": life.PENDING,
        "not_before": reserved.not_before,
        "not_after": reserved.not_after,
        "algorithm": int(order.algorithm),
        "public_key": signed.point,
        "thumbprint": c509.thumbprint(signed.encoded),
        "encoded": signed.encoded,
        "issued_at": now,
    }


def _remember_refusals(writing: Writing, refusals: Sequence[tuple[Refuse, bytes]]) -> None:
    rows: list[dict[str, object]] = []
    for refuse, encoded in refusals:
        device, problem, ask = refuse.device, refuse.problem, refuse.ask
        client_id, name = (None, None) if device is None else (device.client_id, device.name)
        serial = None if refuse.signer is None else refuse.signer.ref.serial
        detail = f"{ask.op.value}: {problem.kind.name.lower()}: {problem.detail}"
        writing.note(Entry(Event.REFUSE, client_id, name, ask.label, serial, detail))
        if refuse.alarm:
            writing.note(Entry(Event.ALARM, client_id, name, ask.label, serial, refuse.alarm))
        if not problem.is_temporary and problem.retry_after is None:
            rows.append(
                {
                    "digest": ask.memory,
                    "device_id": None if device is None else device.id,
                    "certificate_id": None,
                    "refusal": encoded,
                    "kind": int(problem.kind),
                    "detail": problem.detail,
                    "answered_at": writing.now,
                }
            )
    if not rows:
        return
    writing.connection.execute(_REMEMBER, rows)
    for device_id in {row["device_id"] for row in rows}:
        writing.connection.execute(_FORGET, {"device": device_id, "keep": MAX_REFUSALS_PER_DEVICE})
