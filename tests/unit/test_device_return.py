"""A device gives a certificate back: the machine's transitions."""

import math

import pytest

from protocol.errors import ExchangeTimeout, LocalProtocolError, ProblemKind, RequestRejected
from protocol.exchange.device import State
from protocol.exchange.device_effects import Credential, Done, Drop, Fail, Seen, Send
from protocol.exchange.device_pace import Patience
from protocol.exchange.device_return import GiveBack
from protocol.exchange.device_trust import Trust
from protocol.exchange.request import Revocation, RevocationReason, decode_request
from protocol.labels import Operation
from protocol.ports import Content, Media, Outbound, SignedRefusal
from protocol.problem import Problem
from protocol.profiles import profile_of
from protocol.validity import Clock
from tests.world import METER, NOW, Record, World, new_signer


class Bench:
    """A machine that gives a current certificate back; signed by itself, or by another."""

    def __init__(self, label: str = "meter-ds") -> None:
        self.world = World()
        self.world.bootstrap()
        self.signer = self.hold("meter-ds")
        self.given = self.signer if label == "meter-ds" else self.hold(label)
        trust = Trust(self.world.anchor(), Seen(), self.world.chain, Clock(NOW))
        self.machine = GiveBack(
            trust,
            label,
            self.given.certificate,
            self.signer,
            RevocationReason.CESSATION_OF_OPERATION,
            Clock(NOW),
            Patience(answer=10, pause=4, give_up=1000),
        )

    def hold(self, label: str) -> Credential:
        key = new_signer()
        certificate = self.world.leaf(profile_of(label), METER, key)
        self.world._remember(Record(certificate, METER, label, "current"))
        return Credential(key, certificate.encoded)

    def start(self) -> Outbound:
        (send,) = self.machine.start(0.0)
        assert isinstance(send, Send)
        return send.request


def test_the_request_names_issuer_serial_and_reason() -> None:
    bench = Bench()
    request = decode_request(Operation.REV, bench.start().body)
    serial = bench.world.by_key_of(bench.given.certificate).certificate.serial
    reason = RevocationReason.CESSATION_OF_OPERATION
    assert request.payload == Revocation(bench.world.authority, serial, reason)


@pytest.mark.parametrize("label", ["meter-ds", "meter-ka"])
def test_the_receipt_lets_the_certificate_go(label: str) -> None:
    bench = Bench(label)
    assert bench.machine.receive(bench.world.answer(bench.start()), 0.0, 0.0) == (Drop(), Done())
    assert bench.world.by_key_of(bench.given.certificate).state == "revoked"
    assert bench.machine.state is State.DONE
    assert bench.machine.deadline == math.inf


def test_a_lost_receipt_is_made_up_for_by_the_refusal_of_the_revoked_key() -> None:
    bench = Bench()
    request = bench.start()
    problem = Problem(ProblemKind.SIGNER_REVOKED)
    refusal = SignedRefusal(bench.world.verdict(request, problem), problem)
    assert bench.machine.receive(refusal, 0.0, 0.0) == (Drop(), Done())


def test_a_revoked_key_that_is_not_the_one_given_back_is_no_success() -> None:
    bench = Bench("meter-ka")
    problem = Problem(ProblemKind.SIGNER_REVOKED)
    refusal = SignedRefusal(bench.world.verdict(bench.start(), problem), problem)
    (fail,) = bench.machine.receive(refusal, 0.0, 0.0)
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, RequestRejected)


def test_a_signed_refusal_ends_it_and_the_certificate_stays() -> None:
    bench = Bench()
    problem = Problem(ProblemKind.NO_SUCH_CERTIFICATE)
    refusal = SignedRefusal(bench.world.verdict(bench.start(), problem), problem)
    (fail,) = bench.machine.receive(refusal, 0.0, 0.0)
    assert isinstance(fail, Fail)
    assert bench.machine.state is State.FAILED


def test_without_an_answer_it_tries_again_and_gives_up_in_time() -> None:
    bench = Bench()
    request = bench.start()
    assert bench.machine.timeout(bench.machine.deadline, 0.5) == ()
    assert bench.machine.timeout(bench.machine.deadline, 0.5) == (Send(request),)
    (fail,) = bench.machine.timeout(1000.0, 0.5)
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, ExchangeTimeout)


def test_noise_is_passed_over() -> None:
    bench = Bench()
    assert bench.machine.receive(Problem(ProblemKind.KEY_USED), 0.0, 0.0) == ()
    bench.start()
    certificate = Content(bench.given.certificate, Media.C509_CERTIFICATE)
    assert bench.machine.receive(certificate, 0.0, 0.0) == ()
    assert bench.machine.receive(Problem(ProblemKind.SIGNER_REVOKED), 0.0, 0.0) == ()
    assert bench.machine.state is State.RETURNING


def test_out_of_order_is_our_own_bug() -> None:
    bench = Bench()
    with pytest.raises(LocalProtocolError):
        bench.machine.timeout(0.0, 0.0)
    bench.start()
    with pytest.raises(LocalProtocolError):
        bench.machine.start(0.0)
