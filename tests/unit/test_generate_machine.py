"""The authority's machine where a key is asked for: what is looked up, judged and answered."""

from dataclasses import replace

import pytest

from protocol import c509, cbor
from protocol.cose import Algorithm
from protocol.errors import MalformedMessage, ProblemKind
from protocol.exchange import authority_rules as rules
from protocol.exchange.authority import AuthorityExchange, Deciding, Ended
from protocol.exchange.authority_effects import (
    Generate,
    Hint,
    Lookup,
    Lost,
    Order,
    Packaged,
    Refuse,
    Respond,
    Verify,
)
from protocol.exchange.authority_judgement import Place
from protocol.exchange.facts import (
    CertificateFacts,
    CertificateRef,
    CertificateState,
    DeviceFacts,
    Facts,
    GrantFacts,
    KeyFacts,
    RememberedCertificate,
)
from protocol.exchange.request import Door, KeyRequest, sign_request
from protocol.labels import Operation
from protocol.ports import Content, Inbound, Media
from protocol.problem import Problem
from protocol.profiles import over_the_air, profile_of
from tests.rig import NOW, new_key

AUTHORITY = bytes(range(32))
LABEL = "ev-contract"
PLACES = {label: Place(AUTHORITY, profile_of(label)) for label in over_the_air()}
PCID = "TRL000000000000012"
DEVICE = DeviceFacts(1, PCID, "client", 0, frozenset({LABEL}))
KEY = new_key()
CERTIFICATE = b"a provisioning certificate, as far as this machine looks"
NONCE = bytes(range(16))
GRANT = GrantFacts(5, "DE83DUIEN83QGZD", None)
SIGNER = CertificateFacts(
    7, DEVICE, CertificateRef(AUTHORITY, b"\x07"), "ev-oem", CertificateState.CURRENT, True, NOW - 9, None,
    KEY.algorithm, KEY.public_key, CERTIFICATE,
)  # fmt: skip
KNOWN = KeyFacts(AUTHORITY, LABEL, DEVICE.id, 7, CertificateState.PENDING, NOW + 9)


def request(name: str = PCID, label: str = LABEL, nonce: bytes = NONCE) -> Inbound:
    payload = KeyRequest(nonce, name).encode()
    door = Door(AUTHORITY, label, Operation.SKG, 0)
    return Inbound(label, Operation.SKG, sign_request(KEY, CERTIFICATE, door, payload), "test:1")


def judged(facts: Facts, inbound: Inbound | None = None) -> tuple[AuthorityExchange, Order | Refuse | Hint]:
    exchange = AuthorityExchange(PLACES)
    assert isinstance(exchange.receive(inbound or request()), Lookup)
    assert isinstance(exchange.found(facts, NOW), Verify)
    return exchange, exchange.verified(is_outer_good=True)


def refused(facts: Facts, inbound: Inbound | None = None) -> ProblemKind:
    _, effect = judged(facts, inbound)
    assert isinstance(effect, Refuse), effect
    return effect.problem.kind


def test_a_nonce_is_looked_up_in_place_of_a_key() -> None:
    lookup = AuthorityExchange(PLACES).receive(request())
    assert isinstance(lookup, Lookup)
    thumbprint = c509.thumbprint(CERTIFICATE)
    assert lookup.thumbprint == thumbprint
    assert lookup.key_hash == rules.nonce_hash(AUTHORITY, LABEL, thumbprint, NONCE)


def test_the_nonces_hash_is_of_door_signer_and_nonce() -> None:
    hashes = {
        rules.nonce_hash(AUTHORITY, LABEL, bytes(8), NONCE),
        rules.nonce_hash(bytes(32), LABEL, bytes(8), NONCE),
        rules.nonce_hash(AUTHORITY, "ev20-contract", bytes(8), NONCE),
        rules.nonce_hash(AUTHORITY, LABEL, b"\1" * 8, NONCE),
        rules.nonce_hash(AUTHORITY, LABEL, bytes(8), bytes(16)),
    }
    assert len(hashes) == 5


def test_a_granted_contract_is_generated_and_its_package_is_the_answer() -> None:
    exchange, order = judged(Facts(signer=SIGNER, grant=GRANT))
    assert isinstance(order, Generate)
    assert (order.device, order.grant, order.algorithm) == (DEVICE, GRANT, Algorithm.ES256)
    assert not order.activate_signer
    assert isinstance(exchange.state, Deciding)
    respond = exchange.committed(Packaged(b"package"))
    assert respond == Respond(Content(b"package", Media.CONTRACT_PACKAGE))
    assert isinstance(exchange.state, Ended)


def test_there_is_no_proof_of_possession_to_verify() -> None:
    exchange = AuthorityExchange(PLACES)
    exchange.receive(request())
    verify = exchange.found(Facts(signer=SIGNER, grant=GRANT), NOW)
    assert isinstance(verify, Verify)
    assert verify.proof is None


def test_what_could_not_be_done_is_refused() -> None:
    exchange, _ = judged(Facts(signer=SIGNER, grant=GRANT))
    refuse = exchange.committed(Lost(Problem(ProblemKind.UNAVAILABLE, "nobody signs", 30.0)))
    assert isinstance(refuse, Refuse)
    assert refuse.problem.retry_after == 30.0


def test_a_remembered_package_is_answered_at_once() -> None:
    exchange = AuthorityExchange(PLACES)
    exchange.receive(request())
    answer = RememberedCertificate(b"package", CertificateState.PENDING, NOW + 9, Media.CONTRACT_PACKAGE)
    respond = exchange.found(Facts(signer=SIGNER, answer=answer), NOW)
    assert respond == Respond(Content(b"package", Media.CONTRACT_PACKAGE))


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        (Facts(signer=SIGNER), ProblemKind.NOT_ENTITLED),
        (Facts(signer=SIGNER, grant=replace(GRANT, not_after=NOW - 1)), ProblemKind.NOT_ENTITLED),
        (
            Facts(signer=replace(SIGNER, device=replace(DEVICE, entitled=frozenset())), grant=GRANT),
            ProblemKind.NOT_ENTITLED,
        ),
        (Facts(signer=replace(SIGNER, label="ev-station"), grant=GRANT), ProblemKind.WRONG_SIGNER),
        (Facts(signer=replace(SIGNER, not_after=NOW - 1), grant=GRANT), ProblemKind.SIGNER_EXPIRED),
        (Facts(signer=replace(SIGNER, not_before=NOW + 1), grant=GRANT), ProblemKind.SIGNER_NOT_YET_VALID),
        (
            Facts(signer=replace(SIGNER, state=CertificateState.REVOKED), grant=GRANT),
            ProblemKind.SIGNER_REVOKED,
        ),
        (
            Facts(signer=SIGNER, grant=GRANT, key=replace(KNOWN, signer_id=8)),
            ProblemKind.KEY_USED,
        ),
        (
            Facts(signer=SIGNER, grant=GRANT, key=replace(KNOWN, state=CertificateState.VOID)),
            ProblemKind.KEY_USED,
        ),
        (
            Facts(signer=SIGNER, grant=GRANT, key=replace(KNOWN, not_after=NOW - 1)),
            ProblemKind.KEY_USED,
        ),
    ],
)
def test_every_rule_has_its_refusal(facts: Facts, kind: ProblemKind) -> None:
    assert refused(facts) is kind


def test_a_key_of_another_curve_can_be_wrapped_to_by_nobody() -> None:
    """The outer signature by such a key is not even looked at as one."""
    assert (
        refused(Facts(signer=replace(SIGNER, algorithm=Algorithm.ES512), grant=GRANT)) is ProblemKind.BAD_KEY
    )


def test_another_name_is_refused_before_anything_is_said_of_grants() -> None:
    assert refused(Facts(signer=SIGNER), request("TRL000000000000099")) is ProblemKind.WRONG_SUBJECT


def test_a_repeat_by_its_own_signer_goes_on() -> None:
    _, order = judged(Facts(signer=SIGNER, grant=GRANT, key=KNOWN))
    assert isinstance(order, Generate)


def test_labels_whose_keys_devices_make_have_no_such_door() -> None:
    effect = AuthorityExchange(PLACES).receive(request(label="meter-ds"))
    assert isinstance(effect, Hint)
    assert effect.problem.kind is ProblemKind.NOT_FOUND


def test_a_request_comes_back_as_it_was() -> None:
    asked = KeyRequest(NONCE, PCID)
    assert KeyRequest.decode(asked.encode()) == asked


@pytest.mark.parametrize(
    "item",
    [
        [],
        [NONCE],
        [NONCE, PCID, 1],
        [NONCE[1:], PCID],
        [NONCE, ""],
        [NONCE, "N" * 65],
        [PCID, NONCE],
        [NONCE, 1],
    ],
)
def test_what_is_no_request_is_malformed(item: object) -> None:
    with pytest.raises(MalformedMessage):
        KeyRequest.decode(cbor.encode(item))
