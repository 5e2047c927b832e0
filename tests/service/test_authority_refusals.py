"""Bad input at the authority's port: the right no, one log line, and nothing else changes."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import text

from agents.authority import revoke
from agents.keys import SoftwareSigner, generate
from protocol import c509, cbor
from protocol.cose import Algorithm, Sign1, decode_sign1
from protocol.errors import ProblemKind
from protocol.exchange.request import (
    Door,
    Revocation,
    RevocationReason,
    certification_request,
    sign_request,
)
from protocol.labels import Domain, Operation
from protocol.ports import Content, Inbound, Reply, SignedRefusal
from protocol.problem import Problem
from protocol.profiles import profile_of
from tests.rig import NOW, Rig, certificate_of, new_key, rig_in

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
YEAR = 365 * 24 * 3600


@pytest.fixture
def rig(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Rig]:
    caplog.set_level(logging.INFO, logger="trillium.authority")
    with rig_in(tmp_path) as opened:
        yield opened


def hinted(rig: Rig, caplog: pytest.LogCaptureFixture, inbound: Inbound) -> ProblemKind:
    """Ask, and check that the answer is an unsigned hint that leaves nothing but one log line."""
    before = rig.snapshot("answers", "audit")
    caplog.clear()
    reply = rig.ask(inbound)
    assert isinstance(reply, Problem), reply
    assert rig.snapshot("answers", "audit") == before
    assert len(caplog.records) == 1, caplog.records
    return reply.kind


def refused(rig: Rig, caplog: pytest.LogCaptureFixture, inbound: Inbound) -> ProblemKind:
    """Ask, and check that the answer is a signed refusal that leaves one log line and one record."""
    before, records = rig.snapshot(), len(rig.events())
    caplog.clear()
    reply = rig.ask(inbound)
    assert isinstance(reply, SignedRefusal), reply
    verdict = rig.verdict(inbound, reply)
    assert isinstance(verdict, Problem)
    assert verdict.kind is reply.problem.kind
    assert rig.snapshot() == before
    assert len(caplog.records) == 1, caplog.records
    assert rig.events()[records].event == "refuse"
    return verdict.kind


def test_random_bytes_are_malformed(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    for size in (0, 1, 7, 203, 1000):
        inbound = Inbound("meter-ds", Operation.SEN, os.urandom(size), "test:1")
        assert hinted(rig, caplog, inbound) is ProblemKind.MALFORMED


def test_a_request_cut_at_any_byte_is_malformed(rig: Rig) -> None:
    inbound = rig.device().enroll(new_key())
    before = rig.snapshot("answers", "audit")
    for size in range(len(inbound.body)):
        reply = rig.ask(Inbound("meter-ds", Operation.SEN, inbound.body[:size], f"test:{size}"))
        assert isinstance(reply, Problem)
        assert reply.kind is ProblemKind.MALFORMED
    assert rig.snapshot("answers", "audit") == before
    assert isinstance(rig.ask(inbound), Content)


def test_every_flipped_byte_is_refused_unsigned(rig: Rig) -> None:
    """Nothing in a request is outside the outer signature, so no change of it is authenticated."""
    inbound = rig.device().enroll(new_key())
    before = rig.snapshot("answers", "audit")
    for index in range(len(inbound.body)):
        body = bytearray(inbound.body)
        body[index] ^= 1
        reply = rig.ask(Inbound("meter-ds", Operation.SEN, bytes(body), f"test:{index}"))
        assert isinstance(reply, Problem), (index, reply)
    assert rig.snapshot("answers", "audit") == before


def test_more_than_a_request_can_be_is_too_large(rig: Rig) -> None:
    reply = rig.ask(Inbound("meter-ds", Operation.SEN, bytes(1025), "test:1"))
    assert isinstance(reply, Problem)
    assert reply.kind is ProblemKind.TOO_LARGE


@pytest.mark.parametrize("label", ["meter-boot", "no-such-label", "", "meter-ds/../its-enroll"])
def test_a_label_that_cannot_be_asked_for_is_not_found(rig: Rig, label: str) -> None:
    body = rig.device().enroll(new_key()).body
    for op in (Operation.SEN, Operation.CRTS):
        reply = rig.ask(Inbound(label, op, body, "test:1"))
        assert isinstance(reply, Problem)
        assert reply.kind is ProblemKind.NOT_FOUND


def test_server_side_keys_are_not_made_here(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    body = rig.device().enroll(new_key()).body
    assert hinted(rig, caplog, Inbound("meter-ds", Operation.SKG, body, "t:1")) is ProblemKind.NOT_FOUND


def test_an_unknown_signer_is_asked_for_its_certificate(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    stranger = rig.device(is_registered=False)
    assert hinted(rig, caplog, stranger.enroll(new_key())) is ProblemKind.UNKNOWN_SIGNER


def test_a_signer_by_value_that_is_not_in_the_inventory_is_not_entitled(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = rig.device(is_registered=False)
    inbound = stranger.enroll(new_key(), by_value=True)
    assert refused(rig, caplog, inbound) is ProblemKind.NOT_ENTITLED


def test_a_signer_by_value_of_an_unknown_maker_is_refused_unsigned(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    device = rig.device(has_certificate=False)
    true = c509.decode_certificate(device.credentials["meter-boot"][1])
    key = new_key()
    forged = c509.TbsCertificate(
        true.type,
        true.serial,
        true.signature_algorithm,
        c509.Name.common_name("Somebody"),
        true.not_before,
        true.not_after,
        true.subject,
        true.public_key_algorithm,
        bytes((0x100 - key.public_key[0],)) + key.public_key[1:],
        true.extensions,
    )
    signed = forged.with_signature(key.sign(forged.to_be_signed())).encoded
    device = device.holding("meter-boot", key, signed)
    assert hinted(rig, caplog, device.enroll(new_key(), by_value=True)) is ProblemKind.WRONG_SIGNER


def test_a_signer_by_value_that_its_maker_did_not_sign_is_refused_unsigned(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    device = rig.device(has_certificate=False)
    true = c509.decode_certificate(device.credentials["meter-boot"][1])
    key = new_key()
    forged = c509.TbsCertificate(
        true.type,
        true.serial,
        true.signature_algorithm,
        true.issuer,
        true.not_before,
        true.not_after,
        true.subject,
        true.public_key_algorithm,
        bytes((0x100 - key.public_key[0],)) + key.public_key[1:],
        true.extensions,
    )
    signed = forged.with_signature(key.sign(forged.to_be_signed())).encoded
    device = device.holding("meter-boot", key, signed)
    assert hinted(rig, caplog, device.enroll(new_key(), by_value=True)) is ProblemKind.BAD_SIGNATURE


def test_a_second_bootstrap_certificate_by_value_is_refused(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    device = rig.device()
    key = new_key()
    maker = rig.makers[Domain.METERING]
    second = maker.issue(profile_of("meter-boot"), device.name, key.public_key).encoded
    device = device.holding("meter-boot", key, second)
    inbound = device.enroll(new_key(), by_value=True)
    assert refused(rig, caplog, inbound) is ProblemKind.WRONG_SIGNER


def test_a_certificate_of_the_wrong_tier_opens_no_door(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    device = rig.enrolled()
    wrong: list[Inbound] = [
        device.enroll(new_key(), by="meter-ds"),  # sen is for tier 1
        device.enroll(new_key(), op=Operation.SREN, by="meter-boot"),
        device.enroll(new_key(), label="meter-ka", by="meter-boot"),
        device.signed(
            Operation.REV,
            Revocation(device.authority, b"\x01", RevocationReason.UNSPECIFIED).encode(),
            by="meter-boot",
        ),
    ]
    for inbound in wrong:
        assert refused(rig, caplog, inbound) is ProblemKind.WRONG_SIGNER


def test_a_key_agreement_certificate_signs_nothing(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    device = rig.enrolled()
    key = new_key()
    certificate = certificate_of(rig.ask(device.enroll(key, label="meter-ka")))
    device = device.holding("meter-ka", key, certificate)
    inbound = device.enroll(new_key(), label="meter-ka", op=Operation.SREN, by="meter-ka")
    assert refused(rig, caplog, inbound) is ProblemKind.WRONG_SIGNER


def test_domains_never_mix(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    meter = rig.device(Domain.METERING)
    vehicle = rig.device(Domain.ITS)
    signer, certificate = meter.credentials["meter-boot"]
    payload = certification_request(c509.Name.common_name(meter.name), new_key())
    body = sign_request(signer, certificate, vehicle.door(Operation.SEN), payload)
    inbound = Inbound("its-enroll", Operation.SEN, body, "test:1")
    assert refused(rig, caplog, inbound) is ProblemKind.WRONG_SIGNER


def test_an_expired_signer_is_refused(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    device = rig.enrolled()
    rig.clock.now += 4 * YEAR
    inbound = device.enroll(new_key(), op=Operation.SREN)
    assert refused(rig, caplog, inbound) is ProblemKind.SIGNER_EXPIRED


def test_a_signer_that_is_not_yet_valid_is_refused_for_now(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    device = rig.device()
    inbound = device.enroll(new_key())
    rig.clock.now -= YEAR
    assert refused(rig, caplog, inbound) is ProblemKind.SIGNER_NOT_YET_VALID
    rig.clock.now += YEAR
    assert isinstance(rig.ask(inbound), Content), "a temporary refusal is not remembered"


def test_a_revoked_signer_is_refused(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    device = rig.enrolled()
    revoke(rig.agent.store, device.name, RevocationReason.PRIVILEGE_WITHDRAWN, NOW)
    inbound = device.enroll(new_key(), op=Operation.SREN)
    assert refused(rig, caplog, inbound) is ProblemKind.SIGNER_REVOKED
    assert refused(rig, caplog, device.enroll(new_key())) is ProblemKind.SIGNER_REVOKED


def test_proof_by_another_key_is_refused(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    device = rig.device()
    wanted, other = new_key(), new_key()
    payload = certification_request(c509.Name.common_name(device.name), wanted)
    request = c509.decode_request(payload)
    forged = request.with_signature(other.sign(request.signed_bytes)).encoded
    inbound = device.signed(Operation.SEN, forged)
    assert refused(rig, caplog, inbound) is ProblemKind.PROOF_FAILED


def test_another_devices_name_is_refused(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    device, other = rig.device(), rig.device()
    inbound = device.enroll(new_key(), name=other.name)
    assert refused(rig, caplog, inbound) is ProblemKind.WRONG_SUBJECT


def test_another_devices_inner_request_is_refused(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Lifted from the air: the name inside is not the one that the envelope's signer proves."""
    device, victim = rig.device(), rig.device()
    inner = decode_sign1(victim.enroll(new_key()).body).payload
    inbound = device.signed(Operation.SEN, inner)
    assert refused(rig, caplog, inbound) is ProblemKind.WRONG_SUBJECT


def test_a_label_that_the_device_is_not_registered_for_is_refused(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    device = rig.enrolled()
    with rig.agent.store.writing(NOW) as writing:
        writing.connection.execute(text("UPDATE devices SET entitled = 'meter-ds meter-ka'"))
    inbound = device.enroll(new_key(), label="meter-tls")
    assert refused(rig, caplog, inbound) is ProblemKind.NOT_ENTITLED


def test_a_key_that_was_used_before_is_refused(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    device, other = rig.enrolled(), rig.device()
    key = device.credentials["meter-ds"][0]
    used: list[tuple[str, Inbound]] = [
        ("by another device", other.enroll(key)),
        ("under another label", device.enroll(key, label="meter-tls")),
        ("to rekey to itself", device.enroll(key, op=Operation.SREN)),
        ("the bootstrap key", other.enroll(other.credentials["meter-boot"][0])),
        ("another device's bootstrap key", other.enroll(device.credentials["meter-boot"][0])),
    ]
    for what, inbound in used:
        assert refused(rig, caplog, inbound) is ProblemKind.KEY_USED, what


def test_an_uncompressed_point_is_the_same_key(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    device, other = rig.enrolled(), rig.device()
    key = generate()
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    signer = SoftwareSigner(key, even_y=False)
    rig.ask(device.enroll(signer, label="meter-tls"))
    request = c509.decode_request(certification_request(c509.Name.common_name(other.name), signer))
    numbers = key.public_key().public_numbers()
    tbs = c509.TbsRequest(
        2, 0, request.subject, 1, b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big"), ()
    )
    payload = tbs.with_signature(signer.sign(tbs.to_be_signed())).encoded
    assert refused(rig, caplog, other.signed(Operation.SEN, payload)) is ProblemKind.KEY_USED


def test_an_algorithm_that_no_profile_takes_is_refused(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    device = rig.device()
    for algorithm in (Algorithm.ES384, Algorithm.ES512, Algorithm.EDDSA):
        key = SoftwareSigner(generate(algorithm), even_y=False)
        assert refused(rig, caplog, device.enroll(key)) is ProblemKind.BAD_KEY


def test_key_and_proof_of_different_algorithms_are_refused(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    device = rig.device()
    payload = cbor.encode([2, 1, device.name, 1, new_key().public_key, [], bytes(96)])
    inbound = device.signed(Operation.SEN, payload)
    assert hinted(rig, caplog, inbound) is ProblemKind.BAD_KEY


@pytest.mark.parametrize(
    "point",
    [
        b"\x02" + b"\xff" * 32,  # x is no field element
        b"\x02" + bytes(31) + b"\x01",  # x without a y
        b"\x04" + bytes(64),
        b"\x04" + b"\x11" * 64,  # not on the curve
    ],
)
def test_a_point_off_the_curve_is_refused(rig: Rig, caplog: pytest.LogCaptureFixture, point: bytes) -> None:
    device, key = rig.device(), new_key()
    tbs = c509.TbsRequest(2, 0, c509.Name.common_name(device.name), 1, point, ())
    payload = tbs.with_signature(key.sign(tbs.to_be_signed())).encoded
    assert refused(rig, caplog, device.signed(Operation.SEN, payload)) is ProblemKind.BAD_KEY


def test_attributes_are_not_taken(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    device, key = rig.device(), new_key()
    payload = cbor.encode([2, 0, device.name, 1, key.public_key, [1, "password"], bytes(64)])
    kind = hinted(rig, caplog, device.signed(Operation.SEN, payload))
    assert kind is ProblemKind.NOT_ENTITLED


def test_a_request_is_good_at_one_door_for_one_owner(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    device = rig.enrolled()
    right = device.door(Operation.SREN)
    payload = certification_request(c509.Name.common_name(device.name), new_key())
    elsewhere = [
        Door(bytes(32), right.label, right.op, right.epoch),
        Door(right.authority, "meter-ka", right.op, right.epoch),
        Door(right.authority, right.label, Operation.SEN, right.epoch),
        Door(right.authority, right.label, right.op, right.epoch + 1),
    ]
    for door in elsewhere:
        inbound = device.signed(Operation.SREN, payload, door=door)
        assert hinted(rig, caplog, inbound) is ProblemKind.BAD_SIGNATURE


def test_a_request_recorded_under_an_earlier_owner_is_refused(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    device = rig.device()
    recorded = device.enroll(new_key())
    with rig.agent.store.writing(NOW) as writing:
        writing.connection.execute(text("UPDATE devices SET epoch = 1"))
    assert hinted(rig, caplog, recorded) is ProblemKind.BAD_SIGNATURE


def test_a_signature_of_another_algorithm_than_the_signers_is_refused(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    device = rig.device()
    signed = decode_sign1(device.enroll(new_key()).body)
    stranger = SoftwareSigner(generate(Algorithm.ES384), even_y=False)
    _, certificate = device.credentials["meter-boot"]
    body = sign_request(stranger, certificate, device.door(Operation.SEN), signed.payload)
    inbound = Inbound("meter-ds", Operation.SEN, body, "test:1")
    assert hinted(rig, caplog, inbound) is ProblemKind.BAD_SIGNATURE


def flipped(inbound: Inbound) -> Inbound:
    """Return the request with its outer signature (r, s) turned into (r, n - s), as good as before."""
    signed = decode_sign1(inbound.body)
    s = P256_ORDER - int.from_bytes(signed.signature[32:], "big")
    body = Sign1(
        signed.protected, signed.header, signed.payload, signed.signature[:32] + s.to_bytes(32, "big")
    ).encode()
    assert body != inbound.body
    return Inbound(inbound.label, inbound.op, body, inbound.source)


def test_a_flipped_signature_gets_the_same_certificate(rig: Rig) -> None:
    inbound = rig.device().enroll(new_key())
    certificate = certificate_of(rig.ask(inbound))
    assert certificate_of(rig.ask(flipped(inbound))) == certificate


def test_a_flipped_old_request_raises_no_alarm(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    device = rig.enrolled()
    rekey = device.enroll(new_key(), op=Operation.SREN)  # never confirmed
    rig.ask(rekey)
    key = new_key()
    second = certificate_of(rig.ask(device.enroll(key, op=Operation.SREN)))
    new = device.holding("meter-ds", key, second)
    rig.ask(new.confirm(second))
    assert refused(rig, caplog, flipped(rekey)) is ProblemKind.SIGNER_SUPERSEDED
    assert not [entry for entry in rig.events() if entry.event == "alarm"]


def test_a_superseded_key_that_signs_something_new_raises_an_alarm(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    device = rig.enrolled()
    key = new_key()
    second = certificate_of(rig.ask(device.enroll(key, op=Operation.SREN)))
    rig.ask(device.holding("meter-ds", key, second).confirm(second))
    thief = device.enroll(new_key(), op=Operation.SREN)
    assert refused(rig, caplog, thief) is ProblemKind.SIGNER_SUPERSEDED
    alarms = [entry for entry in rig.events() if entry.event == "alarm"]
    assert [alarm.device for alarm in alarms] == [device.name]


def test_a_refusal_is_remembered_and_given_again_byte_for_byte(rig: Rig) -> None:
    device, other = rig.device(), rig.device()
    inbound = device.enroll(new_key(), name=other.name)
    first = rig.ask(inbound)
    records = len(rig.events())
    second = rig.ask(inbound)
    assert isinstance(first, SignedRefusal)
    assert second == first
    assert len(rig.events()) == records


def test_signed_refusals_are_limited_per_device(rig: Rig) -> None:
    device, other, third = rig.device(), rig.device(), rig.device()
    replies = [rig.ask(device.enroll(new_key(), name=other.name)) for _ in range(12)]
    kinds = [type(reply) for reply in replies]
    assert kinds == [SignedRefusal] * 10 + [Problem] * 2
    last = replies[-1]
    assert isinstance(last, Problem)
    assert last.kind is ProblemKind.OVERLOADED
    assert last.retry_after is not None
    assert isinstance(rig.ask(third.enroll(new_key(), name=other.name)), SignedRefusal)
    rig.clock.now += last.retry_after + 1
    assert isinstance(rig.ask(device.enroll(new_key(), name=other.name)), SignedRefusal)


def test_a_device_that_asks_without_end_is_told_to_wait(rig: Rig) -> None:
    device = rig.device()
    replies: list[Reply] = [rig.ask(device.enroll(new_key())) for _ in range(62)]
    assert all(isinstance(reply, Content) for reply in replies[:60])
    last = replies[-1]
    assert isinstance(last, Problem)
    assert last.kind is ProblemKind.OVERLOADED
    assert isinstance(rig.ask(rig.device().enroll(new_key())), Content), "others go on"


def test_a_source_of_junk_is_told_to_wait_and_cannot_speak_for_others(rig: Rig) -> None:
    device = rig.device()
    good = device.enroll(new_key(), source="coap:192.0.2.1:7")
    signed = decode_sign1(good.body)
    for number in range(501):
        forged = Sign1(signed.protected, signed.header, signed.payload, number.to_bytes(64, "big")).encode()
        rig.ask(Inbound("meter-ds", Operation.SEN, forged, "coap:192.0.2.9:5683"))
    reply = rig.ask(Inbound("meter-ds", Operation.SEN, good.body, "coap:192.0.2.9:40000"))
    assert isinstance(reply, Problem)
    assert reply.kind is ProblemKind.OVERLOADED, "the source is blocked, whatever its port"
    assert isinstance(rig.ask(good), Content), "the signer that it named is not"
