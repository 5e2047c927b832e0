"""The device's machine: every transition, every limit; real signatures, no clock, no network."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from protocol import c509, cbor
from protocol.cose import decode_sign1
from protocol.errors import ExchangeTimeout, LocalProtocolError, ProblemKind, RequestRejected
from protocol.exchange.device import Enrollment, Order, State
from protocol.exchange.device_ask import Waiting
from protocol.exchange.device_effects import (
    Credential,
    Discard,
    Done,
    Effects,
    Fail,
    Install,
    Learn,
    Promote,
    Save,
    Seen,
    Send,
)
from protocol.exchange.device_pace import Patience
from protocol.exchange.device_trust import Trust
from protocol.exchange.request import Confirmation, decode_request
from protocol.labels import Operation
from protocol.ports import Content, Media, Outbound, Pending, Reply, SignedRefusal
from protocol.problem import TEMPORARY, Problem
from protocol.profiles import profile_of
from protocol.receipt import Receipt
from protocol.validity import Clock
from tests.world import NOW, YEAR, World, ca, new_signer

PATIENCE = Patience(
    answer=10, longest_answer=40, pause=4, longest_pause=16, longest_retry_after=100, give_up=1000
)
CLOCK = Clock(NOW)
UNSEEN = Seen()
FINAL = sorted(set(ProblemKind) - TEMPORARY)


@dataclass
class Bench:
    """One machine, and the world it talks to; `knows` is whether it has the chain already."""

    world: World = field(default_factory=World)
    knows: bool = True
    label: str = "meter-ds"
    op: Operation = Operation.SEN
    requester: Credential | None = None
    confirmer: Credential | None = None
    request: bytes | None = None
    certificate: bytes | None = None
    clock: Clock = CLOCK
    seen: Seen = UNSEEN

    def __post_init__(self) -> None:
        self.new_key = new_signer()
        self.requester = self.requester or self.world.bootstrap()
        chain = self.world.chain if self.knows else None
        trust = Trust(self.world.anchor(), self.seen, chain, self.clock)
        order = Order(
            profile=profile_of(self.label),
            op=self.op,
            requester=self.requester,
            new_key=self.new_key,
            confirmer=self.confirmer,
            request=self.request,
            certificate=self.certificate,
        )
        self.machine = Enrollment(trust, order, self.clock, PATIENCE)

    def start(self) -> Outbound:
        """Start; return what is sent."""
        return sent(self.machine.start(0.0))

    def to_confirming(self) -> Outbound:
        """Go on until the certificate is installed; return the confirmation."""
        return sent(self.machine.receive(self.world.answer(self.start()), 0.0, 0.0))

    def receive(self, reply: Reply, now: float = 0.0, jitter: float = 0.5) -> Effects:
        return self.machine.receive(reply, now, jitter)

    def refusal(self, request: Outbound, problem: Problem) -> SignedRefusal:
        return SignedRefusal(self.world.verdict(request, problem), problem)


def sent(effects: Effects) -> Outbound:
    """Return the one thing that is sent, which is the last effect."""
    assert [type(effect) for effect in effects].count(Send) == 1
    assert isinstance(effects[-1], Send)
    return effects[-1].request


def enrolled(world: World) -> Credential:
    """Return a current signing credential."""
    bench = Bench(world)
    world.answer(bench.to_confirming())
    return Credential(bench.new_key, world.by_key[bench.new_key.public_key].certificate.encoded)


def test_a_device_that_knows_no_chain_fetches_it_first() -> None:
    bench = Bench(knows=False)
    assert bench.machine.start(0.0) == (Send(Outbound("meter-ds", Operation.CRTS)),)
    assert bench.machine.waiting is Waiting.CHAIN
    learn, save, send = bench.receive(Content(bench.world.chain, Media.COSE_C509))
    assert learn == Learn(bench.world.chain, Seen(NOW - YEAR, NOW - YEAR))
    assert isinstance(save, Save)
    assert send == Send(Outbound("meter-ds", Operation.SEN, save.request))


def test_the_request_is_stored_before_it_is_sent() -> None:
    save, send = Bench().machine.start(0.0)
    assert isinstance(save, Save)
    assert send == Send(Outbound("meter-ds", Operation.SEN, save.request))


def test_the_request_names_the_device_and_is_signed_by_thumbprint() -> None:
    bench = Bench()
    request = decode_request(Operation.SEN, bench.start().body)
    assert bench.requester is not None
    assert request.signed.header.thumbprint == c509.thumbprint(bench.requester.certificate)
    assert isinstance(request.payload, c509.CertificationRequest)
    assert request.payload.subject.cn == bench.world.anchor().device
    assert request.payload.public_key_bytes == bench.new_key.public_key


def test_a_verified_certificate_is_installed_before_it_is_confirmed() -> None:
    bench = Bench()
    answer = bench.world.answer(bench.start())
    assert isinstance(answer, Content)
    install, send = bench.receive(answer)
    assert install == Install(answer.body)
    assert isinstance(send, Send)
    assert (send.request.label, send.request.op) == ("meter-ds", Operation.CONF)
    assert bench.machine.state is State.CONFIRMING


def test_the_new_key_confirms_its_own_certificate() -> None:
    bench = Bench()
    answer = bench.world.answer(bench.start())
    assert isinstance(answer, Content)
    request = decode_request(Operation.CONF, sent(bench.receive(answer)).body)
    assert request.signed.header.thumbprint == c509.thumbprint(answer.body)
    assert isinstance(request.payload, Confirmation)
    assert request.payload.status == 0


def test_a_key_agreement_certificate_is_confirmed_by_the_signing_one() -> None:
    world = World()
    own = enrolled(world)
    bench = Bench(world, label="meter-ka", requester=own, confirmer=own)
    confirmation = bench.to_confirming()
    assert decode_sign1(confirmation.body).header.thumbprint == c509.thumbprint(own.certificate)
    assert bench.receive(world.answer(confirmation)) == (Promote(), Done())


def test_the_signed_receipt_promotes_and_ends() -> None:
    bench = Bench()
    confirmation = bench.to_confirming()
    assert bench.machine.deadline < math.inf
    assert bench.receive(bench.world.answer(confirmation)) == (Promote(), Done())
    assert bench.machine.state is State.DONE
    assert bench.machine.deadline == math.inf
    assert bench.machine.waiting is None


def test_what_comes_after_the_end_or_before_the_start_is_noise() -> None:
    bench = Bench()
    early = Bench(bench.world)
    assert early.receive(Content(bench.world.chain, Media.COSE_C509)) == ()
    receipt = bench.world.answer(bench.to_confirming())
    bench.receive(receipt)
    assert bench.receive(receipt) == ()
    assert bench.receive(Problem(ProblemKind.UNKNOWN_SIGNER)) == ()


def test_without_an_answer_the_same_bytes_go_out_after_a_pause() -> None:
    bench = Bench()
    request = bench.start()
    assert bench.machine.deadline == 10
    assert bench.machine.timeout(10.0, 0.5) == ()
    assert bench.machine.deadline == 12
    assert bench.machine.timeout(12.0, 0.5) == (Send(request),)


def test_waits_double_up_to_their_limits_and_jitter_is_a_part_of_the_pause() -> None:
    bench = Bench()
    bench.start()
    now, answers, pauses = 0.0, [], []
    for _ in range(5):
        answers.append(bench.machine.deadline - now)
        now = bench.machine.deadline
        assert bench.machine.timeout(now, 0.25) == ()
        pauses.append(bench.machine.deadline - now)
        now = bench.machine.deadline
        sent(bench.machine.timeout(now, 0.25))
    assert answers == [10, 20, 40, 40, 40]
    assert pauses == [1, 2, 4, 4, 4]


def test_progress_starts_the_doubling_afresh() -> None:
    bench = Bench()
    request = bench.start()
    bench.machine.timeout(10.0, 0.0)
    sent(bench.machine.timeout(10.0, 0.0))
    sent(bench.receive(bench.world.answer(request), now=11.0))
    assert bench.machine.deadline == 21


@pytest.mark.parametrize("kind", [kind for kind in ProblemKind if kind is not ProblemKind.UNKNOWN_SIGNER])
@pytest.mark.parametrize("is_confirming", [False, True], ids=["enrolling", "confirming"])
def test_an_unsigned_hint_only_puts_off_the_next_attempt(kind: ProblemKind, is_confirming: bool) -> None:
    bench = Bench()
    request = bench.to_confirming() if is_confirming else bench.start()
    state = bench.machine.state
    assert bench.receive(Problem(kind, "no!", retry_after=30.0), now=1.0, jitter=0.5) == ()
    assert bench.machine.state is state
    assert bench.machine.deadline == 1 + 30 + 2
    assert bench.machine.timeout(33.0, 0.5) == (Send(request),)


def test_a_hint_may_not_impose_more_than_the_limit() -> None:
    bench = Bench()
    bench.start()
    bench.receive(Problem(ProblemKind.OVERLOADED, retry_after=86400.0), now=0.0, jitter=0.0)
    assert bench.machine.deadline == 100


def test_pending_means_the_same_bytes_later() -> None:
    bench = Bench()
    request = bench.start()
    assert bench.receive(Pending(7.0), now=1.0, jitter=0.0) == ()
    assert bench.machine.deadline == 8
    assert bench.machine.timeout(8.0, 0.0) == (Send(request),)


@pytest.mark.parametrize("hint", [Problem(ProblemKind.OVERLOADED, retry_after=50.0), Pending(50.0)], ids=str)
def test_a_flood_of_hints_does_not_put_the_next_attempt_off_for_ever(hint: Reply) -> None:
    bench = Bench()
    bench.start()
    bench.receive(hint, now=0.0, jitter=0.0)
    for moment in range(1, 50):
        assert bench.receive(hint, now=float(moment), jitter=0.0) == ()
    assert bench.machine.deadline == 50


def test_an_unknown_signer_hint_during_a_pause_sends_nothing_before_its_end() -> None:
    bench = Bench()
    request = bench.start()
    bench.receive(Problem(ProblemKind.OVERLOADED, retry_after=50.0), jitter=0.0)
    assert bench.receive(Problem(ProblemKind.UNKNOWN_SIGNER)) == ()
    assert bench.machine.timeout(50.0, 0.0) == (Send(request),)


def test_an_answer_during_a_pause_is_welcome() -> None:
    bench = Bench()
    request = bench.start()
    bench.receive(Problem(ProblemKind.OVERLOADED), now=1.0)
    assert isinstance(bench.receive(bench.world.answer(request), now=1.5)[0], Install)


def test_an_unknown_signer_repeats_once_with_its_certificate_around_the_same_inner_request() -> None:
    bench = Bench()
    request = bench.start()
    bench.world.forget_thumbprints()
    save, send = bench.receive(bench.world.answer(request))
    assert isinstance(send, Send)
    assert save == Save(send.request.body)
    before, after = decode_sign1(request.body), decode_sign1(send.request.body)
    assert after.payload == before.payload
    assert bench.requester is not None
    assert after.header.certificate == bench.requester.certificate
    # Once: another hint of the same kind is a hint like any other.
    assert bench.receive(Problem(ProblemKind.UNKNOWN_SIGNER), jitter=0.0) == ()
    assert bench.machine.timeout(bench.machine.deadline, 0.0) == (send,)


def test_an_unknown_signer_of_a_confirmation_repeats_with_the_new_certificate() -> None:
    bench = Bench()
    confirmation = bench.to_confirming()
    bench.world.forget_thumbprints()
    effects = bench.receive(bench.world.answer(confirmation))
    again = sent(effects)
    assert len(effects) == 1, "the stored certificate is enough to make a confirmation again"
    assert decode_sign1(again.body).header.certificate is not None
    assert bench.receive(bench.world.answer(again)) == (Promote(), Done())


@pytest.mark.parametrize("kind", FINAL)
@pytest.mark.parametrize("is_confirming", [False, True], ids=["enrolling", "confirming"])
def test_a_signed_refusal_ends_it_and_discards_what_was_pending(
    kind: ProblemKind, is_confirming: bool
) -> None:
    bench = Bench()
    request = bench.to_confirming() if is_confirming else bench.start()
    discard, fail = bench.receive(bench.refusal(request, Problem(kind, "because", 5.0)))
    assert discard == Discard()
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, RequestRejected)
    assert (fail.error.reason, fail.error.detail, fail.error.retry_after) == (kind, "because", 5.0)
    assert bench.machine.state is State.FAILED
    assert bench.machine.deadline == math.inf


@pytest.mark.parametrize("kind", sorted(TEMPORARY - {ProblemKind.UNKNOWN_SIGNER}))
def test_a_signed_refusal_that_is_temporary_is_waited_out(kind: ProblemKind) -> None:
    bench = Bench()
    request = bench.start()
    refusal = bench.refusal(request, Problem(kind, retry_after=20.0))
    assert bench.receive(refusal, now=0.0, jitter=0.0) == ()
    assert bench.machine.deadline == 20
    assert bench.machine.timeout(20.0, 0.0) == (Send(request),)


def test_the_signed_words_count_not_what_the_transport_says() -> None:
    bench = Bench()
    request = bench.start()
    signed = bench.world.verdict(request, Problem(ProblemKind.NOT_ENTITLED))
    effects = bench.receive(SignedRefusal(signed, Problem(ProblemKind.OVERLOADED)))
    assert isinstance(effects[1], Fail)
    assert isinstance(effects[1].error, RequestRejected)
    assert effects[1].error.reason is ProblemKind.NOT_ENTITLED


def test_out_of_time_ends_it_and_leaves_what_is_stored() -> None:
    bench = Bench()
    bench.start()
    now = 0.0
    effects: Effects = ()
    while bench.machine.state is State.ENROLLING:
        assert not any(isinstance(effect, Fail) for effect in effects)
        now = bench.machine.deadline
        effects = bench.machine.timeout(now, 0.99)
    assert now == 1000
    (fail,) = effects
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, ExchangeTimeout)
    assert bench.machine.state is State.FAILED


def test_no_wait_is_longer_than_what_is_left() -> None:
    bench = Bench()
    bench.start()
    bench.receive(Problem(ProblemKind.OVERLOADED, retry_after=90.0), now=950.0, jitter=0.0)
    assert bench.machine.deadline == 1000


def test_a_stored_request_is_sent_again_as_it_is() -> None:
    first = Bench()
    request = first.start()
    again = Bench(first.world, requester=first.requester, request=request.body)
    assert again.machine.start(0.0) == (Send(request),)


def test_a_stored_request_with_a_whole_certificate_is_not_exchanged_for_another() -> None:
    first = Bench()
    first.start()
    by_value = sent(first.receive(Problem(ProblemKind.UNKNOWN_SIGNER)))
    again = Bench(first.world, requester=first.requester, request=by_value.body)
    again.start()
    assert again.receive(Problem(ProblemKind.UNKNOWN_SIGNER)) == ()


def test_a_stored_request_can_still_be_repeated_with_the_whole_certificate() -> None:
    first = Bench()
    request = first.start()
    again = Bench(first.world, requester=first.requester, request=request.body)
    again.start()
    by_value = sent(again.receive(Problem(ProblemKind.UNKNOWN_SIGNER)))
    assert decode_sign1(by_value.body).payload == decode_sign1(request.body).payload


def test_a_stored_certificate_is_confirmed() -> None:
    first = Bench()
    answer = first.world.answer(first.start())
    assert isinstance(answer, Content)
    again = Bench(first.world, certificate=answer.body)
    again.machine._order = replace(again.machine._order, new_key=first.new_key)
    (send,) = again.machine.start(0.0)
    assert again.machine.state is State.CONFIRMING
    assert isinstance(send, Send)
    assert send.request.op is Operation.CONF
    assert again.receive(first.world.answer(send.request)) == (Promote(), Done())


def test_a_receipt_by_a_new_registration_key_is_believed_after_a_look_at_the_chain() -> None:
    bench = Bench()
    confirmation = bench.to_confirming()
    bench.world.renew_registration(NOW - 10)
    receipt = bench.world.answer(confirmation)
    assert bench.receive(receipt) == (Send(Outbound("meter-ds", Operation.CRTS)),)
    assert bench.machine.waiting is Waiting.SIGNER
    learn, promote, done = bench.receive(Content(bench.world.chain, Media.COSE_C509))
    assert learn == Learn(bench.world.chain, Seen(NOW - YEAR, NOW - 10))
    assert (promote, done) == (Promote(), Done())


def test_a_refusal_by_a_new_registration_key_too() -> None:
    bench = Bench()
    request = bench.start()
    bench.world.renew_registration(NOW - 10)
    bench.receive(bench.refusal(request, Problem(ProblemKind.NOT_ENTITLED)))
    learn, discard, fail = bench.receive(Content(bench.world.chain, Media.COSE_C509))
    assert [type(effect) for effect in (learn, discard, fail)] == [Learn, Discard, Fail]


def test_the_chain_is_asked_for_again_if_it_does_not_come() -> None:
    bench = Bench()
    confirmation = bench.to_confirming()
    bench.world.renew_registration(NOW - 10)
    bench.receive(bench.world.answer(confirmation))
    bench.machine.timeout(10.0, 0.0)
    assert bench.machine.timeout(10.0, 0.0) == (Send(Outbound("meter-ds", Operation.CRTS)),)


def test_a_verdict_by_nobody_known_costs_one_look_at_the_chain_and_a_pause() -> None:
    bench = Bench()
    request = bench.start()
    stranger = bench.world.registrar(ca(bench.world.domain_root, "TRL-M", bench.world.operates))
    forged = bench.world.verdict(request, Problem(ProblemKind.NOT_ENTITLED), by=stranger)
    refusal = SignedRefusal(forged, Problem(ProblemKind.NOT_ENTITLED))
    assert bench.receive(refusal) == (Send(Outbound("meter-ds", Operation.CRTS)),)
    (learn,) = bench.receive(Content(bench.world.chain, Media.COSE_C509), now=5.0, jitter=0.5)
    assert isinstance(learn, Learn)
    assert bench.machine.waiting is Waiting.ANSWER
    assert bench.machine.timeout(bench.machine.deadline, 0.0) == (Send(request),)


def test_a_certificate_while_an_answers_signer_is_looked_for_is_passed_over() -> None:
    bench = Bench()
    request = bench.start()
    stranger = bench.world.registrar(bench.world.operator)
    forged = bench.world.verdict(request, Problem(ProblemKind.NOT_ENTITLED), by=stranger)
    bench.receive(SignedRefusal(forged, Problem(ProblemKind.NOT_ENTITLED)))
    assert bench.receive(bench.world.answer(request)) == ()
    assert bench.receive(SignedRefusal(forged, Problem(ProblemKind.NOT_ENTITLED))) == ()


def test_a_chain_nobody_asked_for_is_passed_over() -> None:
    bench = Bench()
    bench.start()
    assert bench.receive(Content(bench.world.chain, Media.COSE_C509)) == ()


def test_an_authority_that_may_not_issue_the_label_is_asked_again_later() -> None:
    bench = Bench(knows=False)
    bench.world.operator = ca(bench.world.domain_root, "TRL-M", ("meter-tls",))
    bench.world.renew_registration(NOW)
    bench.machine._trust.anchor = bench.world.anchor()
    bench.start()
    (learn,) = bench.receive(Content(bench.world.chain, Media.COSE_C509), jitter=0.0)
    assert isinstance(learn, Learn)
    assert bench.machine.timeout(bench.machine.deadline, 0.0) == (Send(Outbound("meter-ds", Operation.CRTS)),)


def test_a_stored_chain_that_no_longer_holds_is_fetched_again() -> None:
    bench = Bench(seen=Seen(chain=NOW))
    assert bench.machine.start(0.0) == (Send(Outbound("meter-ds", Operation.CRTS)),)


def test_a_receipt_of_another_status_than_done_is_passed_over() -> None:
    bench = Bench()
    confirmation = bench.to_confirming()
    odd = Content(bench.world.verdict(confirmation, Receipt(3)), Media.SIGN1)
    assert bench.receive(odd) == ()
    assert bench.machine.state is State.CONFIRMING


def test_a_receipt_where_a_certificate_belongs_is_passed_over() -> None:
    bench = Bench()
    request = bench.start()
    assert bench.receive(Content(bench.world.verdict(request, Receipt(0)), Media.SIGN1)) == ()
    assert bench.machine.state is State.ENROLLING


def test_a_second_copy_of_the_certificate_is_passed_over() -> None:
    bench = Bench()
    answer = bench.world.answer(bench.start())
    bench.receive(answer)
    assert bench.receive(answer) == ()
    assert bench.machine.state is State.CONFIRMING


def test_the_clock_runs_on_while_the_machine_waits() -> None:
    bench = Bench()
    bench.world.now = NOW + 600  # the certificate's notBefore is then 300 s after the start
    answer = bench.world.answer(bench.start())
    assert bench.receive(answer, now=100.0) == ()
    assert isinstance(bench.receive(answer, now=301.0)[0], Install)


def test_a_device_without_a_clock_takes_what_it_cannot_judge() -> None:
    bench = Bench(clock=Clock(None))
    assert isinstance(bench.receive(bench.world.answer(bench.start()))[0], Install)


def test_a_device_without_a_clock_knows_that_it_is_later_than_what_it_has_seen() -> None:
    bench = Bench(clock=Clock(None, floor=NOW + 4 * YEAR))
    bench.receive(bench.world.answer(bench.start()))
    assert bench.machine.state is State.REPORTING


def test_a_chain_that_began_after_a_certificate_ended_shows_that_it_ended() -> None:
    world = World()
    world.now = NOW - 5 * YEAR
    bench = Bench(world, clock=Clock(None))
    bench.receive(world.answer(bench.start()))
    assert bench.machine.state is State.REPORTING


@pytest.mark.parametrize(
    "misuse",
    [
        lambda machine: machine.timeout(0.0, 0.0),
        lambda machine: (machine.start(0.0), machine.start(0.0)),
    ],
    ids=["timeout before start", "two starts"],
)
def test_a_machine_out_of_order_is_our_own_bug(misuse: Callable[[Enrollment], object]) -> None:
    with pytest.raises(LocalProtocolError):
        misuse(Bench().machine)


def test_rekeying_with_the_current_certificate_goes_the_same_way() -> None:
    world = World()
    current = enrolled(world)
    bench = Bench(world, op=Operation.SREN, requester=current)
    assert bench.receive(world.answer(bench.to_confirming())) == (Promote(), Done())
    assert world.by_key_of(current.certificate).state == "superseded"


def test_requests_are_no_longer_than_promised() -> None:
    assert len(Bench().start().body) <= 210


def test_any_media_with_any_bytes_is_noise_at_any_point() -> None:
    for knows in (False, True):
        bench = Bench(knows=knows)
        bench.start()
        deadline = bench.machine.deadline
        for media in Media:
            for body in (b"", b"\x80", b"\xff" * 300, cbor.encode([b"", {}, b"", b""])):
                assert bench.receive(Content(body, media)) == ()
                assert bench.receive(SignedRefusal(body, Problem(ProblemKind.KEY_USED))) == ()
        assert bench.machine.deadline == deadline
