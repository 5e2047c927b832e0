"""Certificates from the first request to their end: exactly once, two-phase rekey, revocation."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agents.authority import Store, decisions, revoke
from agents.authority.desk import Ticket
from agents.authority.intents import new_serial
from agents.authority.issuer import Issuer, ToBeIssued
from agents.authority.verification import Verified, Verifier
from protocol import c509
from protocol.errors import ProblemKind
from protocol.exchange.authority_effects import Verify
from protocol.exchange.request import Revocation, RevocationReason
from protocol.labels import Domain, Operation
from protocol.ports import Content, Inbound, Media, Reply, SignedRefusal
from protocol.problem import Problem
from protocol.profiles import profile_of
from protocol.receipt import Receipt
from tests.rig import NOW, Device, Rig, certificate_of, new_key, rig_in

YEAR = 365 * 24 * 3600


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_in(tmp_path) as opened:
        yield opened


def refusal(reply: Reply) -> ProblemKind:
    assert isinstance(reply, SignedRefusal), reply
    return reply.problem.kind


def rekeyed(rig: Rig, device: Device) -> tuple[Device, bytes]:
    """Return the device with a pending certificate for a new key, and that certificate."""
    key = new_key()
    certificate = certificate_of(rig.ask(device.enroll(key, op=Operation.SREN)))
    return device.holding(device.label, key, certificate), certificate


def current(rig: Rig, device: Device, label: str | None = None) -> int:
    return rig.states(device, label).count("current")


# --- exactly once ---------------------------------------------------------------------------------------


def test_equal_bytes_get_the_equal_answer(rig: Rig) -> None:
    inbound = rig.device().enroll(new_key())
    assert rig.ask(inbound) == rig.ask(inbound) == rig.ask(inbound)


def test_a_request_signed_again_gets_the_same_certificate(rig: Rig) -> None:
    device, key = rig.device(), new_key()
    first = certificate_of(rig.ask(device.enroll(key)))
    for by_value in (False, True):
        again = device.enroll(key, by_value=by_value)
        assert certificate_of(rig.ask(again)) == first
    assert rig.states(device) == ["pending"]


def test_twins_in_one_group_get_one_certificate(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    device, key = rig.device(), new_key()
    issue, signed = Issuer.issue, []

    def count(issuer: Issuer, order: ToBeIssued) -> bytes:
        signed.append(order.serial)
        return issue(issuer, order)

    monkeypatch.setattr(Issuer, "issue", count)
    requests = [device.enroll(key) for _ in range(3)]
    replies = rig.ask_together(*requests, requests[0])
    assert len({certificate_of(reply) for reply in replies}) == 1
    assert rig.states(device) == ["pending"]
    assert len(signed) == 1


def test_twins_in_overlapping_groups_get_one_certificate(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are past the intent before either is recorded: the worst moment there is."""
    device, key = rig.device(), new_key()
    both = threading.Barrier(2)
    issue = Issuer.issue

    def meet(issuer: Issuer, order: ToBeIssued) -> bytes:
        both.wait(10)
        return issue(issuer, order)

    monkeypatch.setattr(Issuer, "issue", meet)
    tickets = [Ticket(device.enroll(key)), Ticket(device.enroll(key))]
    threads = [threading.Thread(target=rig.agent.desk.process, args=([ticket],)) for ticket in tickets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tickets[0].reply is not None
    assert tickets[0].reply == tickets[1].reply
    assert rig.states(device) == ["pending"]


def test_two_devices_with_one_key_at_once_are_not_both_served(rig: Rig) -> None:
    first, second, key = rig.device(), rig.device(), new_key()
    replies = rig.ask_together(first.enroll(key), second.enroll(key))
    certificate_of(replies[0])
    assert refusal(replies[1]) is ProblemKind.KEY_USED


def test_a_key_that_another_device_was_quicker_with_is_refused(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody had it when the first one's facts were looked up."""
    first, second, key = rig.device(), rig.device(), new_key()
    verify = Verifier.verify
    replies: list[Reply] = []

    def overtake(verifier: Verifier, checks: Sequence[Verify]) -> list[Verified]:
        monkeypatch.setattr(Verifier, "verify", verify)
        replies.append(rig.ask(second.enroll(key)))
        return verify(verifier, checks)

    monkeypatch.setattr(Verifier, "verify", overtake)
    replies.append(rig.ask(first.enroll(key)))
    certificate_of(replies[0])
    assert refusal(replies[1]) is ProblemKind.KEY_USED
    assert rig.states(first) == []


def test_an_intent_is_not_taken_up_again_after_its_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    device, key = rig.device(), new_key()

    def die(*_: object) -> None:
        raise OSError("power is gone")

    with monkeypatch.context() as patch:
        patch.setattr(decisions, "record", die)
        rig.ask(device.enroll(key))
    rig.clock.now += 4 * YEAR
    assert refusal(rig.ask(device.enroll(key))) is ProblemKind.KEY_USED
    assert rig.states(device) == []


def test_no_certificate_outlives_its_issuer(rig: Rig) -> None:
    rig.clock.now += 28 * YEAR
    certificate = c509.decode_certificate(certificate_of(rig.ask(rig.device().enroll(new_key()))))
    authority = rig.agent.authorities[Domain.METERING]
    assert certificate.not_after == authority.issuer.not_after
    assert certificate.not_after is not None
    assert certificate.not_after < rig.clock.now + 3 * YEAR


def test_serial_numbers_are_positive_and_of_eight_bytes() -> None:
    serials = {new_serial() for _ in range(2000)}
    assert len(serials) == 2000
    assert {len(serial) for serial in serials} == {8}
    assert {serial[0] for serial in serials} == set(range(1, 0x80))


def test_an_expired_signer_by_value_is_refused(rig: Rig) -> None:
    device, key = rig.device(has_certificate=False), new_key()
    order = ToBeIssued(
        profile_of("meter-boot"), b"\x01", device.name, NOW - YEAR, NOW - 1, key.algorithm, key.public_key
    )
    certificate = rig.makers[Domain.METERING]._issuer.issue(order)
    device = device.holding("meter-boot", key, certificate)
    assert refusal(rig.ask(device.enroll(new_key(), by_value=True))) is ProblemKind.SIGNER_EXPIRED
    assert rig.states(device, "meter-boot") == []


def test_an_intent_without_a_certificate_is_taken_up_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process died after signing and before the record: serial and validity stay as they were meant."""
    device, key = rig.device(), new_key()

    def die(*_: object) -> None:
        raise OSError("power is gone")

    with monkeypatch.context() as patch:
        patch.setattr(decisions, "record", die)
        assert rig.ask(device.enroll(key)) == Problem(
            ProblemKind.UNAVAILABLE, "the authority's store does not answer", 5.0
        )
    assert rig.states(device) == []
    rig.clock.now += 3600
    certificate = c509.decode_certificate(certificate_of(rig.ask(device.enroll(key))))
    assert certificate.not_before == NOW - 300
    with rig.agent.store.reading() as connection:
        serials = connection.exec_driver_sql("SELECT serial FROM keys WHERE label = 'meter-ds'").all()
    assert [row[0] for row in serials] == [certificate.serial]


def test_a_store_that_fails_changes_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    inbound = rig.device().enroll(new_key())
    before = rig.snapshot("answers", "audit")
    with monkeypatch.context() as patch:
        patch.setattr("agents.authority.desk.find_facts", lambda *_: (_ for _ in ()).throw(OSError("disk")))
        reply = rig.ask(inbound)
    assert isinstance(reply, Problem)
    assert reply.kind is ProblemKind.UNAVAILABLE
    assert reply.retry_after == 5.0
    assert rig.snapshot("answers", "audit") == before
    certificate_of(rig.ask(inbound))


def test_a_signer_revoked_between_intent_and_record_gets_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, issue = rig.device(), Issuer.issue

    def revoke_first(issuer: Issuer, order: ToBeIssued) -> bytes:
        revoke(rig.agent.store, device.name, RevocationReason.KEY_COMPROMISE, NOW)
        return issue(issuer, order)

    with monkeypatch.context() as patch:
        patch.setattr(Issuer, "issue", revoke_first)
        reply = rig.ask(device.enroll(new_key()))
    assert refusal(reply) is ProblemKind.SIGNER_REVOKED
    assert rig.states(device) == []


def test_an_old_request_whose_certificate_has_ended_is_refused(rig: Rig) -> None:
    device, key = rig.device(), new_key()
    old = device.enroll(key)
    certificate = certificate_of(rig.ask(old))
    holding = device.holding("meter-ds", key, certificate)
    rig.ask(holding.confirm(certificate))
    rig.ask(holding.give_back(certificate))
    assert refusal(rig.ask(old)) is ProblemKind.KEY_USED
    assert refusal(rig.ask(device.enroll(key))) is ProblemKind.KEY_USED


def test_an_answer_is_not_given_again_after_its_certificate_expired(rig: Rig) -> None:
    old = rig.device().enroll(new_key())
    certificate_of(rig.ask(old))
    rig.clock.now += 4 * YEAR
    assert refusal(rig.ask(old)) is ProblemKind.KEY_USED


def test_a_signer_by_value_is_recorded_once(rig: Rig) -> None:
    device, key = rig.device(has_certificate=False), new_key()
    reply = rig.ask(device.enroll(key))
    assert isinstance(reply, Problem)
    assert reply.kind is ProblemKind.UNKNOWN_SIGNER
    replies = rig.ask_together(device.enroll(key, by_value=True), device.enroll(key, by_value=True))
    assert len({certificate_of(one) for one in replies}) == 1
    assert certificate_of(rig.ask(device.enroll(key))) == certificate_of(replies[0])
    assert current(rig, device, "meter-boot") == 1


def test_the_bootstrap_key_itself_is_not_certified_when_it_comes_by_value(rig: Rig) -> None:
    device = rig.device(has_certificate=False)
    boot = device.credentials["meter-boot"][0]
    assert refusal(rig.ask(device.enroll(boot, by_value=True))) is ProblemKind.KEY_USED


# --- two phases -----------------------------------------------------------------------------------------


def test_a_receipt_says_done_and_comes_again(rig: Rig) -> None:
    device, key = rig.device(), new_key()
    certificate = certificate_of(rig.ask(device.enroll(key)))
    assert rig.states(device) == ["pending"]
    device = device.holding("meter-ds", key, certificate)
    confirmation = device.confirm(certificate)
    for inbound in (confirmation, confirmation, device.confirm(certificate)):
        reply = rig.ask(inbound)
        assert isinstance(reply, Content)
        assert reply.media is Media.SIGN1
        assert rig.verdict(inbound, reply) == Receipt(0)
    assert rig.states(device) == ["current"]


def test_a_newer_pending_certificate_voids_the_older(rig: Rig) -> None:
    device = rig.enrolled()
    first, old = rekeyed(rig, device)
    second, new = rekeyed(rig, device)
    assert rig.states(device) == ["current", "void", "pending"]
    assert refusal(rig.ask(first.confirm(old))) is ProblemKind.SIGNER_SUPERSEDED
    assert isinstance(rig.ask(second.confirm(new)), Content)
    assert rig.states(device) == ["superseded", "void", "current"]


def test_two_requests_of_one_device_in_one_group_leave_one_pending(rig: Rig) -> None:
    device = rig.enrolled()
    replies = rig.ask_together(*(device.enroll(new_key(), op=Operation.SREN) for _ in range(3)))
    assert len({certificate_of(reply) for reply in replies}) == 3
    assert sorted(rig.states(device)) == ["current", "pending", "void", "void"]


def test_a_rekey_retires_the_old_certificate_only_when_it_is_confirmed(rig: Rig) -> None:
    device = rig.enrolled()
    new, certificate = rekeyed(rig, device)
    certificate_of(rig.ask(device.enroll(new_key(), label="meter-ka")))  # the old key still works
    assert isinstance(rig.ask(new.confirm(certificate)), Content)
    assert rig.states(device) == ["superseded", "current"]
    assert refusal(rig.ask(device.enroll(new_key(), label="meter-ka"))) is ProblemKind.SIGNER_SUPERSEDED
    certificate_of(rig.ask(new.enroll(new_key(), label="meter-ka")))


def test_a_rekey_signed_again_after_its_confirmation_gets_its_certificate(rig: Rig) -> None:
    """The signer was retired by this very request: the device lost the answers, not its right."""
    device, key = rig.enrolled(), new_key()
    certificate = certificate_of(rig.ask(device.enroll(key, op=Operation.SREN)))
    new = device.holding("meter-ds", key, certificate)
    rig.ask(new.confirm(certificate))
    assert certificate_of(rig.ask(device.enroll(key, op=Operation.SREN))) == certificate
    assert not [entry for entry in rig.events() if entry.event == "alarm"]


def test_recovery_by_the_bootstrap_key_retires_everything_under_the_label(rig: Rig) -> None:
    device = rig.enrolled()
    thief, stolen = rekeyed(rig, device)
    rig.ask(thief.confirm(stolen))
    key = new_key()
    certificate = certificate_of(rig.ask(device.enroll(key)))
    assert rig.states(device) == ["superseded", "current", "pending"]
    rig.ask(device.holding("meter-ds", key, certificate).confirm(certificate))
    assert rig.states(device) == ["superseded", "superseded", "current"]
    assert current(rig, device, "meter-boot") == 1


def test_a_device_that_could_not_install_voids_its_certificate(rig: Rig) -> None:
    device = rig.enrolled()
    new, certificate = rekeyed(rig, device)
    complaint = new.confirm(certificate, status=ProblemKind.WRONG_SUBJECT)
    for inbound in (complaint, complaint, new.confirm(certificate, status=250)):
        assert rig.verdict(inbound, rig.ask(inbound)) == Receipt(0)
    assert rig.states(device) == ["current", "void"]
    assert refusal(rig.ask(new.confirm(certificate))) is ProblemKind.SIGNER_SUPERSEDED
    voids = [entry.detail for entry in rig.events() if entry.event == "void"]
    assert voids == ["its device could not install it: wrong subject (12)"]


def test_a_device_complains_of_a_certificate_that_is_out_of_its_time_already(rig: Rig) -> None:
    device = rig.enrolled()
    new, certificate = rekeyed(rig, device)
    rig.clock.now += 4 * 365 * 86400
    assert refusal(rig.ask(new.confirm(certificate))) is ProblemKind.SIGNER_EXPIRED
    complaint = new.confirm(certificate, status=250)
    assert rig.verdict(complaint, rig.ask(complaint)) == Receipt(0)
    assert rig.states(device) == ["current", "void"]
    voids = [entry.detail for entry in rig.events() if entry.event == "void"]
    assert voids == ["its device could not install it: status 250"]


def test_a_current_certificate_is_not_voided_by_a_late_complaint(rig: Rig) -> None:
    device = rig.enrolled()
    certificate = device.credentials["meter-ds"][1]
    reply = rig.ask(device.confirm(certificate, status=1))
    assert refusal(reply) is ProblemKind.NO_SUCH_CERTIFICATE
    assert rig.states(device) == ["current"]


def test_a_dormant_certificate_dies_with_its_parent(rig: Rig) -> None:
    device = rig.enrolled()
    dormant, certificate = rekeyed(rig, device)
    other_process = Store(rig.directory / "store.sqlite")
    serial = c509.decode_certificate(device.credentials["meter-ds"][1]).serial.hex()
    revoke(other_process, serial, RevocationReason.PRIVILEGE_WITHDRAWN, NOW)
    other_process.close()
    assert rig.states(device) == ["revoked", "void"]
    assert refusal(rig.ask(dormant.confirm(certificate))) is ProblemKind.SIGNER_SUPERSEDED
    assert rig.states(device) == ["revoked", "void"]


def test_a_pending_certificate_dies_when_its_parent_is_replaced(rig: Rig) -> None:
    device = rig.enrolled()
    key = new_key()
    agreement = certificate_of(rig.ask(device.enroll(key, label="meter-ka")))
    new, certificate = rekeyed(rig, device)
    rig.ask(new.confirm(certificate))
    assert rig.states(device, "meter-ka") == ["void"]
    late = new.confirm(agreement, label="meter-ka")
    assert refusal(rig.ask(late)) is ProblemKind.NO_SUCH_CERTIFICATE


def test_a_confirmation_and_the_retirement_of_its_parent_in_one_group_keep_their_order(rig: Rig) -> None:
    device = rig.enrolled()
    agreement = certificate_of(rig.ask(device.enroll(new_key(), label="meter-ka")))
    new, certificate = rekeyed(rig, device)
    replies = rig.ask_together(new.confirm(certificate), device.confirm(agreement, label="meter-ka"))
    assert isinstance(replies[0], Content)
    assert refusal(replies[1]) is ProblemKind.SIGNER_SUPERSEDED, "as it would be one after the other"
    assert rig.states(device, "meter-ka") == ["void"]


def test_a_pending_certificate_does_not_outlive_an_expired_parent(rig: Rig) -> None:
    device = rig.enrolled()
    rig.clock.now += 3 * YEAR - 600
    new, certificate = rekeyed(rig, device)
    rig.clock.now += 1200
    assert refusal(rig.ask(new.confirm(certificate))) is ProblemKind.SIGNER_SUPERSEDED
    assert rig.states(device) == ["current", "pending"]


def test_the_first_use_of_a_pending_key_makes_it_current(rig: Rig) -> None:
    device, key = rig.device(), new_key()
    certificate = certificate_of(rig.ask(device.enroll(key)))
    device = device.holding("meter-ds", key, certificate)
    certificate_of(rig.ask(device.enroll(new_key(), label="meter-ka")))
    assert rig.states(device) == ["current"]
    assert [entry.event.value for entry in rig.events()].count("activate") == 1


def test_a_label_that_another_one_confirms(rig: Rig) -> None:
    device = rig.enrolled()
    key = new_key()
    certificate = certificate_of(rig.ask(device.enroll(key, label="meter-tls")))
    reply = rig.ask(device.confirm(certificate, label="meter-tls"))
    assert isinstance(reply, Content)
    assert rig.states(device, "meter-tls") == ["current"]


@pytest.mark.parametrize("what", ["unknown", "another device's", "another label's", "another of its own"])
def test_only_a_devices_own_pending_certificate_can_be_confirmed(rig: Rig, what: str) -> None:
    device, other = rig.enrolled(), rig.device()
    key = new_key()
    match what:
        case "unknown":
            inbound = device.confirm(b"no such certificate")
        case "another device's":
            inbound = device.confirm(certificate_of(rig.ask(other.enroll(new_key()))))
        case "another label's":
            inbound = device.confirm(
                certificate_of(rig.ask(device.enroll(key, label="meter-ka"))), label="meter-tls"
            )
        case _:
            inbound = device.confirm(rekeyed(rig, device)[1])  # by the old key, not the new one
    before = rig.snapshot()
    assert refusal(rig.ask(inbound)) is ProblemKind.NO_SUCH_CERTIFICATE
    assert rig.snapshot() == before


# --- the end --------------------------------------------------------------------------------------------


def test_a_device_gives_its_certificate_back(rig: Rig) -> None:
    device = rig.enrolled()
    inbound = device.give_back(device.credentials["meter-ds"][1])
    assert rig.verdict(inbound, rig.ask(inbound)) == Receipt(0)
    assert rig.states(device) == ["revoked"]
    again = device.give_back(device.credentials["meter-ds"][1])
    for repeated in (inbound, again):
        assert rig.verdict(repeated, rig.ask(repeated)) == Receipt(0), "its receipt was lost"


def test_a_device_gives_back_nothing_of_others(rig: Rig) -> None:
    device, other = rig.enrolled(), rig.enrolled()
    theirs = c509.decode_certificate(other.credentials["meter-ds"][1]).serial
    own = c509.decode_certificate(device.credentials["meter-ds"][1]).serial
    boot = c509.decode_certificate(device.credentials["meter-boot"][1]).serial
    reason = RevocationReason.KEY_COMPROMISE
    before = rig.snapshot()
    for issuer, serial in (
        (device.authority, theirs),
        (device.authority, boot),
        (bytes(32), own),
        (device.authority, b"\x01"),
    ):
        inbound = device.signed(Operation.REV, Revocation(issuer, serial, reason).encode())
        assert refusal(rig.ask(inbound)) is ProblemKind.NO_SUCH_CERTIFICATE
    assert rig.snapshot() == before


def test_a_compromised_key_takes_its_descendants_along(rig: Rig) -> None:
    device = rig.enrolled()
    agreement = certificate_of(rig.ask(device.enroll(new_key(), label="meter-ka")))
    rig.ask(device.confirm(agreement, label="meter-ka"))
    new, certificate = rekeyed(rig, device)
    rig.ask(new.confirm(certificate))
    first = device.credentials["meter-ds"][1]
    inbound = new.give_back(first, reason=RevocationReason.KEY_COMPROMISE)
    assert isinstance(rig.ask(inbound), Content)
    assert rig.states(device) == ["revoked", "revoked"]
    assert rig.states(device, "meter-ka") == ["revoked"]
    certificate_of(rig.ask(device.enroll(new_key())))  # the bootstrap key recovers


def test_another_reason_leaves_descendants_alone(rig: Rig) -> None:
    device = rig.enrolled()
    new, certificate = rekeyed(rig, device)
    rig.ask(new.confirm(certificate))
    rig.ask(new.give_back(device.credentials["meter-ds"][1], reason=RevocationReason.SUPERSEDED))
    assert rig.states(device) == ["revoked", "current"]


def test_the_operator_revokes_a_device_with_everything_it_has(rig: Rig) -> None:
    device = rig.enrolled(Domain.ITS)
    revision = rig.agent.store.revision()
    revoked = revoke(rig.agent.store, device.name, RevocationReason.CESSATION_OF_OPERATION, NOW)
    assert sorted(one.label for one in revoked) == ["its-boot", "its-enroll"]
    assert rig.agent.store.revision() > revision
    assert refusal(rig.ask(device.enroll(new_key()))) is ProblemKind.SIGNER_REVOKED


def test_the_order_in_a_group_decides_between_confirming_and_revoking(rig: Rig) -> None:
    device = rig.enrolled()
    new, certificate = rekeyed(rig, device)
    group: list[Inbound] = [new.confirm(certificate), new.give_back(certificate)]
    replies = rig.ask_together(*group)
    assert all(isinstance(reply, Content) for reply in replies)
    assert rig.states(device) == ["superseded", "revoked"]
