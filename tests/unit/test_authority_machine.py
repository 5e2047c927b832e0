"""The authority's exchange machine: every transition, and its refusal to be used out of order."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from protocol import c509
from protocol.cose import Algorithm
from protocol.errors import LocalProtocolError, ProblemKind
from protocol.exchange import authority_rules as rules
from protocol.exchange.authority import (
    MAX_REQUEST_BYTES,
    AuthorityExchange,
    Deciding,
    Ended,
    ExpectRequest,
    Looking,
    Proof,
    Verifying,
)
from protocol.exchange.authority_effects import (
    Confirm,
    Done,
    Hint,
    Issue,
    Issued,
    Lookup,
    Lost,
    Refuse,
    Respond,
    Revoke,
    Verify,
)
from protocol.exchange.authority_judgement import Place
from protocol.exchange.facts import (
    CertificateFacts,
    CertificateRef,
    CertificateState,
    DeviceFacts,
    Facts,
    KeyFacts,
    RememberedCertificate,
    RememberedRefusal,
)
from protocol.exchange.request import (
    Confirmation,
    Door,
    Revocation,
    RevocationReason,
    certification_request,
    sign_request,
)
from protocol.labels import Operation
from protocol.ports import Content, Inbound, Media, SignedRefusal
from protocol.problem import Problem
from protocol.profiles import PROFILES, over_the_air, profile_of
from tests.rig import NOW, new_key

AUTHORITY = bytes(range(32))
PLACES = {label: Place(AUTHORITY, profile_of(label)) for label in over_the_air()}
DEVICE = DeviceFacts(1, "54524C0000000001", "client", 0, frozenset(over_the_air()))
SIGNER_KEY, NEW_KEY = new_key(), new_key()
CERTIFICATE = b"a signer's certificate, as far as this machine looks"
YEAR = 365 * 24 * 3600


def signer(label: str = "meter-boot", **changes: Any) -> CertificateFacts:
    facts = CertificateFacts(
        7,
        DEVICE,
        CertificateRef(AUTHORITY, b"\x07"),
        label,
        CertificateState.CURRENT,
        True,
        NOW - YEAR,
        NOW + YEAR,
        SIGNER_KEY.algorithm,
        SIGNER_KEY.public_key,
        CERTIFICATE,
    )
    return replace(facts, **changes)


def request(op: Operation = Operation.SEN, label: str = "meter-ds", payload: bytes | None = None) -> Inbound:
    if payload is None:
        payload = certification_request(c509.Name.common_name(DEVICE.name), NEW_KEY)
    body = sign_request(SIGNER_KEY, CERTIFICATE, Door(AUTHORITY, label, op, 0), payload)
    return Inbound(label, op, body, "test:1")


def confirmation(status: int = 0) -> Inbound:
    digest = hashlib.sha256(CERTIFICATE).digest()
    return request(Operation.CONF, payload=Confirmation(digest, status).encode())


def revocation() -> Inbound:
    payload = Revocation(AUTHORITY, b"\x07", RevocationReason.KEY_COMPROMISE).encode()
    return request(Operation.REV, payload=payload)


def at(exchange: AuthorityExchange) -> type[object]:
    return type(exchange.state)


def looking(inbound: Inbound) -> AuthorityExchange:
    exchange = AuthorityExchange(PLACES)
    assert isinstance(exchange.receive(inbound), Lookup)
    return exchange


def verifying(inbound: Inbound, facts: Facts) -> AuthorityExchange:
    exchange = looking(inbound)
    assert isinstance(exchange.found(facts, NOW), Verify)
    return exchange


def judged(inbound: Inbound, facts: Facts) -> object:
    return verifying(inbound, facts).verified(is_outer_good=True)


def refused(inbound: Inbound, facts: Facts) -> ProblemKind:
    effect = judged(inbound, facts)
    assert isinstance(effect, Refuse), effect
    return effect.problem.kind


KEY = KeyFacts(AUTHORITY, "meter-ds", DEVICE.id, 7, None, None)


# --- transitions ----------------------------------------------------------------------------------------


def test_an_enrollment_goes_straight_through() -> None:
    exchange = AuthorityExchange(PLACES)
    assert at(exchange) is ExpectRequest
    inbound = request()
    lookup = exchange.receive(inbound)
    assert isinstance(lookup, Lookup)
    assert at(exchange) is Looking
    assert lookup.thumbprint == c509.thumbprint(CERTIFICATE)
    assert lookup.ask.digest == hashlib.sha256(inbound.body).digest()
    assert lookup.key_hash == rules.key_hash(1, NEW_KEY.public_key)
    verify = exchange.found(Facts(signer=signer()), NOW)
    assert isinstance(verify, Verify)
    assert at(exchange) is Verifying
    assert verify.signer is None
    assert verify.proof is not None
    issue = exchange.verified(is_outer_good=True)
    assert isinstance(issue, Issue)
    assert at(exchange) is Deciding
    assert (issue.device, issue.public_key) == (DEVICE, NEW_KEY.public_key)
    assert not issue.activate_signer
    reply = exchange.committed(Issued(b"the certificate"))
    assert reply == Respond(Content(b"the certificate", Media.C509_CERTIFICATE))
    assert at(exchange) is Ended


def test_a_confirmation_goes_straight_through() -> None:
    one = signer("meter-ds", state=CertificateState.PENDING)
    exchange = verifying(confirmation(), Facts(signer=one, target=one))
    order = exchange.verified(is_outer_good=True)
    assert isinstance(order, Confirm)
    assert (order.target, order.status) == (one, 0)
    assert exchange.committed(Done(b"receipt")) == Respond(Content(b"receipt", Media.SIGN1))


def test_a_revocation_goes_straight_through() -> None:
    one = signer("meter-ds")
    order = judged(revocation(), Facts(signer=one, target=one))
    assert isinstance(order, Revoke)
    assert order.reason is RevocationReason.KEY_COMPROMISE


def test_what_was_overtaken_becomes_a_refusal() -> None:
    exchange = verifying(request(), Facts(signer=signer()))
    exchange.verified(is_outer_good=True)
    problem = Problem(ProblemKind.KEY_USED, "somebody was quicker")
    effect = exchange.committed(Lost(problem))
    assert isinstance(effect, Refuse)
    assert (effect.problem, effect.device) == (problem, DEVICE)
    assert at(exchange) is Ended


def test_a_remembered_certificate_is_given_without_verifying_anything() -> None:
    for state in (CertificateState.PENDING, CertificateState.CURRENT):
        answer = RememberedCertificate(b"certificate", state, NOW)
        effect = looking(request()).found(Facts(signer=signer(), answer=answer, wait=5.0), NOW)
        assert effect == Respond(Content(b"certificate", Media.C509_CERTIFICATE))


@pytest.mark.parametrize(
    "answer",
    [
        RememberedCertificate(b"c", CertificateState.REVOKED, NOW + 1),
        RememberedCertificate(b"c", CertificateState.SUPERSEDED, NOW + 1),
        RememberedCertificate(b"c", CertificateState.VOID, NOW + 1),
        RememberedCertificate(b"c", CertificateState.CURRENT, NOW - 1),
    ],
)
def test_a_remembered_certificate_that_ended_is_not_given(answer: RememberedCertificate) -> None:
    assert isinstance(looking(request()).found(Facts(signer=signer(), answer=answer), NOW), Verify)


def test_a_remembered_refusal_is_given_again() -> None:
    problem = Problem(ProblemKind.WRONG_SUBJECT, "no")
    effect = looking(request()).found(
        Facts(signer=signer(), answer=RememberedRefusal(b"signed", problem)), NOW
    )
    assert effect == Respond(SignedRefusal(b"signed", problem))


def test_quotas_come_before_signatures_and_after_memory() -> None:
    effect = looking(request()).found(Facts(signer=signer(), wait=12.5), NOW)
    assert effect == Hint(Problem(ProblemKind.OVERLOADED, "too many requests", 12.5))


def test_an_unknown_signer_is_a_hint_whatever_is_remembered() -> None:
    answer = RememberedCertificate(b"c", CertificateState.CURRENT, None)
    effect = looking(request()).found(Facts(answer=answer), NOW)
    assert isinstance(effect, Hint)
    assert effect.problem.kind is ProblemKind.UNKNOWN_SIGNER


def test_a_thumbprint_alone_makes_no_certificate_known() -> None:
    """The one that came by value is not the one that is known under its thumbprint."""
    door = Door(AUTHORITY, "meter-ds", Operation.SREN, 0)
    payload = certification_request(c509.Name.common_name(DEVICE.name), NEW_KEY)
    body = sign_request(SIGNER_KEY, CERTIFICATE, door, payload, by_value=True)
    for known, expected in ((CERTIFICATE, Verify), (b"of the same thumbprint", Hint)):
        exchange = looking(Inbound("meter-ds", Operation.SREN, body, "test:1"))
        effect = exchange.found(Facts(signer=signer("meter-ds", encoded=known)), NOW)
        assert isinstance(effect, expected)


@pytest.mark.parametrize("good", [(False, True), (True, False), (False, False)])
def test_a_bad_signature_is_a_hint_even_where_the_answer_would_be_no(good: tuple[bool, bool]) -> None:
    for facts in (Facts(signer=signer()), Facts(signer=signer("meter-ka"))):
        exchange = verifying(request(), facts)
        effect = exchange.verified(is_outer_good=good[0], is_signer_good=good[1])
        assert isinstance(effect, Hint)
        assert effect.problem.kind is ProblemKind.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("proof", "kind"), [(Proof.BAD, ProblemKind.PROOF_FAILED), (Proof.NO_KEY, ProblemKind.BAD_KEY)]
)
def test_a_bad_proof_is_refused(proof: Proof, kind: ProblemKind) -> None:
    effect = verifying(request(), Facts(signer=signer())).verified(is_outer_good=True, proof=proof)
    assert isinstance(effect, Refuse)
    assert effect.problem.kind is kind


def test_no_proof_is_verified_where_the_answer_will_be_no() -> None:
    exchange = looking(request())
    effect = exchange.found(Facts(signer=signer("meter-ka")), NOW)
    assert isinstance(effect, Verify)
    assert effect.proof is None


Step = Callable[[AuthorityExchange], object]
STEPS: dict[str, Step] = {
    "receive": lambda e: e.receive(request()),
    "found": lambda e: e.found(Facts(signer=signer()), NOW),
    "verified": lambda e: e.verified(is_outer_good=True),
    "committed": lambda e: e.committed(Issued(b"")),
}


@pytest.mark.parametrize("done", range(5))
@pytest.mark.parametrize("step", range(4))
def test_a_step_out_of_order_is_our_own_bug(done: int, step: int) -> None:
    exchange = AuthorityExchange(PLACES)
    names = list(STEPS)
    for name in names[:done]:
        STEPS[name](exchange)
    if done == step:
        STEPS[names[step]](exchange)
        return
    before = exchange.state
    with pytest.raises(LocalProtocolError, match=f"{names[step]}\\(\\) needs"):
        STEPS[names[step]](exchange)
    assert exchange.state is before


# --- the first look -------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [*(set(PROFILES) - set(over_the_air())), "nonsense", ""])
def test_a_label_without_a_door_is_not_found(label: str) -> None:
    effect = AuthorityExchange(PLACES).receive(replace(request(), label=label))
    assert isinstance(effect, Hint)
    assert effect.problem.kind is ProblemKind.NOT_FOUND


@pytest.mark.parametrize("op", [Operation.SKG, Operation.CRTS, Operation.ATT, Operation.CRL])
def test_an_operation_that_nobody_signs_is_not_found(op: Operation) -> None:
    effect = AuthorityExchange(PLACES).receive(replace(request(), op=op))
    assert isinstance(effect, Hint)
    assert effect.problem.kind is ProblemKind.NOT_FOUND


def test_size_is_looked_at_before_anything_is_decoded() -> None:
    for size, kind in (
        (MAX_REQUEST_BYTES, ProblemKind.MALFORMED),
        (MAX_REQUEST_BYTES + 1, ProblemKind.TOO_LARGE),
    ):
        effect = AuthorityExchange(PLACES).receive(replace(request(), body=bytes(size)))
        assert isinstance(effect, Hint)
        assert effect.problem.kind is kind


def test_the_same_message_at_another_door_is_remembered_apart() -> None:
    inbound = request()
    asks = []
    for label, op in (("meter-ds", Operation.SEN), ("meter-ka", Operation.SEN), ("meter-ds", Operation.SREN)):
        lookup = AuthorityExchange(PLACES).receive(replace(inbound, label=label, op=op))
        assert isinstance(lookup, Lookup)
        asks.append(lookup.ask)
    assert len({ask.memory for ask in asks}) == 3
    assert len({ask.digest for ask in asks}) == 1


# --- rules ----------------------------------------------------------------------------------------------


ASKED = sorted(
    label
    for label in over_the_air()
    if Algorithm.ES256 in profile_of(label).algorithms and profile_of(label).signers_of(Operation.SEN)
)
"""Labels for whose certificates a device makes a P-256 key itself, as `request` does."""


@pytest.mark.parametrize("label", ASKED)
@pytest.mark.parametrize("op", [Operation.SEN, Operation.SREN])
def test_only_the_declared_labels_open_a_door(label: str, op: Operation) -> None:
    for other in PROFILES:
        effect = judged(request(op, label), Facts(signer=signer(other)))
        if other in profile_of(label).signers_of(op):
            assert isinstance(effect, Issue)
        else:
            assert isinstance(effect, Refuse)
            assert effect.problem.kind is ProblemKind.WRONG_SIGNER


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"not_after": NOW - 1}, ProblemKind.SIGNER_EXPIRED),
        ({"not_before": NOW + 1}, ProblemKind.SIGNER_NOT_YET_VALID),
        ({"state": CertificateState.REVOKED}, ProblemKind.SIGNER_REVOKED),
        ({"state": CertificateState.SUPERSEDED}, ProblemKind.SIGNER_SUPERSEDED),
        ({"state": CertificateState.VOID}, ProblemKind.SIGNER_SUPERSEDED),
        ({"state": CertificateState.PENDING, "is_parent_alive": False}, ProblemKind.SIGNER_SUPERSEDED),
        ({"device": replace(DEVICE, name="54524C00000000FF")}, ProblemKind.WRONG_SUBJECT),
        ({"device": replace(DEVICE, entitled=frozenset({"meter-ka"}))}, ProblemKind.NOT_ENTITLED),
    ],
)
def test_what_is_wrong_with_a_signer_is_said(changes: dict[str, Any], kind: ProblemKind) -> None:
    assert refused(request(), Facts(signer=signer(**changes))) is kind


@pytest.mark.parametrize("moment", [{"not_after": NOW}, {"not_before": NOW}, {"not_after": None}])
def test_a_validity_period_includes_both_its_ends(moment: dict[str, Any]) -> None:
    assert isinstance(judged(request(), Facts(signer=signer(**moment))), Issue)


def test_a_pending_signer_is_to_be_activated() -> None:
    pending = signer("meter-ds", state=CertificateState.PENDING)
    order = judged(request(label="meter-ka"), Facts(signer=pending))
    assert isinstance(order, Issue)
    assert order.activate_signer


@pytest.mark.parametrize(
    "changes",
    [
        {"authority": bytes(32)},
        {"label": "meter-tls"},
        {"device_id": 2},
        {"signer_id": 8},
        {"signer_id": None},
        {"state": CertificateState.REVOKED},
        {"state": CertificateState.SUPERSEDED},
        {"state": CertificateState.VOID},
        {"state": CertificateState.CURRENT, "not_after": NOW - 1},
    ],
)
def test_a_key_that_is_somebody_elses_or_has_ended_is_used(changes: dict[str, Any]) -> None:
    facts = Facts(signer=signer(), key=replace(KEY, **changes))
    assert refused(request(), facts) is ProblemKind.KEY_USED


@pytest.mark.parametrize("state", [None, CertificateState.PENDING, CertificateState.CURRENT])
def test_a_key_of_this_very_signer_goes_on_to_its_certificate(state: CertificateState | None) -> None:
    facts = Facts(signer=signer(), key=replace(KEY, state=state))
    assert isinstance(judged(request(), facts), Issue)


def test_a_superseded_signer_gets_what_it_was_given_and_nothing_else() -> None:
    old = signer("meter-ds", state=CertificateState.SUPERSEDED)
    rekey = request(Operation.SREN)
    given = Facts(signer=old, key=replace(KEY, state=CertificateState.CURRENT))
    assert isinstance(judged(rekey, given), Issue)
    for key in (None, KEY, replace(KEY, state=CertificateState.VOID), replace(KEY, signer_id=8)):
        assert refused(rekey, Facts(signer=old, key=key)) is ProblemKind.SIGNER_SUPERSEDED


def test_only_something_new_by_a_superseded_key_is_alarming() -> None:
    old = signer("meter-ds", state=CertificateState.SUPERSEDED)
    cases = [
        (request(Operation.SREN), Facts(signer=old), True),
        (request(Operation.SREN), Facts(signer=old, key=replace(KEY, signer_id=9)), True),
        (request(Operation.SREN), Facts(signer=old, key=replace(KEY, state=CertificateState.VOID)), False),
        (revocation(), Facts(signer=old, target=signer("meter-ds")), True),
        (confirmation(), Facts(signer=old, target=old), False),
        (request(Operation.SREN), Facts(signer=replace(old, state=CertificateState.REVOKED)), False),
    ]
    for inbound, facts, is_alarming in cases:
        effect = judged(inbound, facts)
        assert isinstance(effect, Refuse)
        assert bool(effect.alarm) is is_alarming, (inbound.op, facts)


@pytest.mark.parametrize(
    ("state", "status", "is_taken"),
    [
        (CertificateState.PENDING, 0, True),
        (CertificateState.CURRENT, 0, True),
        (CertificateState.PENDING, 1, True),
        (CertificateState.VOID, 1, True),
        (CertificateState.CURRENT, 1, False),
        (CertificateState.VOID, 0, False),
        (CertificateState.SUPERSEDED, 0, False),
        (CertificateState.REVOKED, 1, False),
    ],
)
def test_what_can_be_confirmed(state: CertificateState, status: int, is_taken: bool) -> None:
    one = signer("meter-ds", state=state)
    effect = judged(confirmation(status), Facts(signer=one, target=one))
    assert isinstance(effect, Confirm if is_taken else Refuse)


@pytest.mark.parametrize(
    "changes",
    [
        {"device": replace(DEVICE, id=2)},
        {"label": "meter-tls"},
        {"ref": CertificateRef(bytes(32), b"\x07")},
        {"encoded": b"of the same thumbprint"},
        {"id": 8},  # another of its own: for this label the new key itself confirms
    ],
)
def test_what_cannot_be_confirmed(changes: dict[str, Any]) -> None:
    one = signer("meter-ds", state=CertificateState.PENDING)
    facts = Facts(signer=one, target=replace(one, **changes))
    assert refused(confirmation(), facts) is ProblemKind.NO_SUCH_CERTIFICATE
    assert refused(confirmation(), Facts(signer=one)) is ProblemKind.NO_SUCH_CERTIFICATE


@pytest.mark.parametrize(
    "changes",
    [
        {"device": replace(DEVICE, id=2)},
        {"label": "meter-tls"},
        {"ref": CertificateRef(bytes(32), b"\x07")},
        {"ref": CertificateRef(AUTHORITY, b"\x08")},
    ],
)
def test_what_cannot_be_given_back(changes: dict[str, Any]) -> None:
    one = signer("meter-ds")
    facts = Facts(signer=one, target=replace(one, **changes))
    assert refused(revocation(), facts) is ProblemKind.NO_SUCH_CERTIFICATE
    assert refused(revocation(), Facts(signer=one)) is ProblemKind.NO_SUCH_CERTIFICATE


def test_a_lost_receipt_of_a_revocation_is_given_again() -> None:
    gone = signer("meter-ds", state=CertificateState.REVOKED)
    assert isinstance(judged(revocation(), Facts(signer=gone, target=gone)), Revoke)


# --- keys -----------------------------------------------------------------------------------------------


def test_all_forms_of_a_point_are_one_key() -> None:
    x, y = b"\x11" * 32, b"\x22" * 31
    for last, head, short in ((b"\x02", b"\x02", b"\xfe"), (b"\x03", b"\x03", b"\xfd")):
        forms = [b"\x04" + x + y + last, head + x, short + x]
        assert {rules.compressed(1, form) for form in forms} == {head + x}
        assert len({rules.key_hash(1, form) for form in forms}) == 1


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        (1, b""),
        (1, b"\x02" + bytes(31)),
        (1, b"\x05" + bytes(32)),
        (1, b"\x06" + bytes(64)),
        (1, b"\x00"),
        (2, b"\x02" + bytes(32)),
        (12, bytes(31)),
        (0, bytes(256)),
        (8, bytes(32)),
        (99, bytes(33)),
    ],
)
def test_no_key_of_ours_is_a_bad_key(algorithm: int, key: bytes) -> None:
    with pytest.raises(Exception, match="not a point") as caught:
        rules.compressed(algorithm, key)
    assert getattr(caught.value, "reason", None) is ProblemKind.BAD_KEY


def test_keys_of_two_algorithms_never_collide() -> None:
    key = b"\x02" + bytes(32)
    assert rules.key_hash(1, key) != rules.key_hash(12, key[1:])
