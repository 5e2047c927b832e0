"""What the machines of both sides make of an owner who changed."""

import math
from dataclasses import replace

import pytest

from agents.keys import SoftwareSigner
from protocol.errors import ExchangeTimeout, LocalProtocolError, OwnerChanged, ProblemKind, RequestRejected
from protocol.exchange.authority import AuthorityExchange
from protocol.exchange.authority_effects import Hint, Refuse, Verify
from protocol.exchange.device import Enrollment, Order, State
from protocol.exchange.device_check import CheckIn
from protocol.exchange.device_effects import (
    Credential,
    Discard,
    Done,
    Effects,
    Fail,
    Learn,
    Seen,
    Send,
    TakeVoucher,
)
from protocol.exchange.device_pace import Patience
from protocol.exchange.device_return import GiveBack
from protocol.exchange.device_statement import Statement
from protocol.exchange.device_trust import Trust
from protocol.exchange.facts import DeviceFacts, Facts, FormerEpoch
from protocol.exchange.request import RevocationReason
from protocol.labels import Operation
from protocol.ports import Outbound, SignedRefusal
from protocol.problem import Problem, Successor
from protocol.profiles import profile_of
from protocol.validity import Clock
from protocol.voucher import Voucher
from tests.unit.test_authority_machine import DEVICE, looking, request, signer
from tests.world import METER, NOW, Record, World, new_signer

PATIENCE = Patience(answer=10, pause=2, give_up=100)
THERE = b"\x07" * 32


def trust(world: World) -> Trust:
    key = world.voucher_signer
    assert isinstance(key, SoftwareSigner)
    anchor = replace(world.anchor(), voucher_keys=(key._public_key,))
    return Trust(anchor, Seen(), world.chain, Clock(NOW))


def credential(world: World) -> Credential:
    key = new_signer()
    certificate = world.leaf(profile_of("meter-ds"), METER, key)
    world._remember(Record(certificate, METER, "meter-ds", "current"))
    return Credential(key, certificate.encoded)


def machines(world: World) -> dict[str, Enrollment | Statement]:
    own = credential(world)
    order = Order(profile=profile_of("meter-ds"), op=Operation.SREN, requester=own, new_key=new_signer())
    reason = RevocationReason.UNSPECIFIED
    clock = Clock(NOW)
    return {
        "rekey": Enrollment(trust(world), order, clock, PATIENCE),
        "return": GiveBack(trust(world), "meter-ds", own.certificate, own, reason, clock, PATIENCE),
        "check": CheckIn(trust(world), "meter-ds", own.certificate, own, clock, PATIENCE),
    }


def start(machine: Enrollment | Statement) -> Outbound:
    (*_, send) = machine.start(0.0)
    assert isinstance(send, Send)
    return send.request


def refuse(world: World, request: Outbound, voucher: bytes, at: str | None = None) -> SignedRefusal:
    problem = Problem(ProblemKind.OWNER_CHANGED, "sold", None, Successor(voucher, at))
    return SignedRefusal(world.verdict(request, problem), problem)


def by_authority(world: World, epoch: int = 1, device: str = METER) -> Voucher:
    return Voucher.issue(world.operator.signer, world.authority, device, THERE, epoch)


@pytest.mark.parametrize("what", ["rekey", "return", "check"])
@pytest.mark.parametrize("by", ["maker", "authority"])
def test_a_voucher_that_holds_is_taken_before_anything_else(what: str, by: str) -> None:
    world = World()
    machine = machines(world)[what]
    sent = start(machine)
    voucher = world.voucher(epoch=4, authority=THERE) if by == "maker" else by_authority(world, 4).encoded
    take, *rest = machine.receive(refuse(world, sent, voucher, "coap://192.0.2.7"), 1.0, 0.5)
    assert isinstance(take, TakeVoucher)
    assert (take.voucher.authority, take.voucher.epoch, take.at) == (THERE, 4, "coap://192.0.2.7")
    *discard, fail = rest
    assert discard == ([Discard()] if what == "rekey" else [])
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, OwnerChanged)
    assert fail.error.at == "coap://192.0.2.7"
    assert (machine.state, machine.deadline) == (State.FAILED, math.inf)


@pytest.mark.parametrize("what", ["rekey", "return", "check"])
def test_a_voucher_that_does_not_hold_is_only_a_refusal(what: str) -> None:
    world = World()
    stranger = new_signer()
    assert isinstance(stranger, SoftwareSigner)
    for voucher in (
        Voucher.issue(stranger, THERE, METER, THERE, 1).encoded,
        Voucher.issue(stranger, world.authority, METER, THERE, 1).encoded,
        by_authority(world, 0).encoded,
        by_authority(world, device="54524C0000000099").encoded,
        b"no voucher",
    ):
        machine = machines(world)[what]
        effects: Effects = machine.receive(refuse(world, start(machine), voucher), 1.0, 0.5)
        assert not any(isinstance(effect, TakeVoucher) for effect in effects)
        fail = effects[-1]
        assert isinstance(fail, Fail)
        assert type(fail.error) is RequestRejected
        assert "does not hold" in str(fail.error)


def test_the_refusal_of_an_unknown_registrar_is_read_once_it_is_known() -> None:
    world = World()
    machine = machines(world)["check"]
    sent = start(machine)
    world.renew_registration(NOW)
    (send,) = machine.receive(refuse(world, sent, by_authority(world).encoded), 1.0, 0.5)
    assert isinstance(send, Send)
    assert send.request.op is Operation.CRTS
    learn, take, fail = machine.receive(world.answer(send.request), 2.0, 0.5)
    assert isinstance(learn, Learn)
    assert isinstance(take, TakeVoucher)
    assert isinstance(fail, Fail)


def test_a_device_that_is_known_hears_so() -> None:
    world = World()
    machine = machines(world)["check"]
    sent = start(machine)
    assert machine.state is State.CHECKING
    assert machine.receive(world.answer(sent), 1.0, 0.5) == (Done(),)
    with pytest.raises(LocalProtocolError):
        machine.timeout(2.0, 0.5)
    with pytest.raises(LocalProtocolError):
        machine.start(2.0)


def test_nobody_waits_for_ever_to_hear_that_it_is_known() -> None:
    machine = machines(World())["check"]
    sent = start(machine)
    assert machine.timeout(10.0, 0.5) == ()
    assert machine.timeout(machine.deadline, 0.5) == (Send(sent),)
    (fail,) = machine.timeout(100.0, 0.5)
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, ExchangeTimeout)


# --- the authority's side ---------------------------------------------------------------------------------

GONE = FormerEpoch(0, Successor(b"voucher"))


def known(device: DeviceFacts) -> Facts:
    return Facts(signer=signer("meter-ds", device=device))


def verifying(device: DeviceFacts) -> tuple[AuthorityExchange, Verify]:
    exchange = looking(request(Operation.SREN))
    effect = exchange.found(known(device), NOW)
    assert isinstance(effect, Verify)
    return exchange, effect


def test_a_request_of_a_former_epoch_is_refused_with_the_voucher_and_nothing_else() -> None:
    exchange, verify = verifying(replace(DEVICE, epoch=1, former=(GONE,)))
    assert len(verify.former) == 1
    assert verify.former[0].signed_bytes != verify.outer.signed_bytes
    effect = exchange.verified(is_outer_good=False, former=0)
    assert isinstance(effect, Refuse)
    assert (effect.problem.kind, effect.problem.successor) == (ProblemKind.OWNER_CHANGED, GONE.successor)
    assert effect.device is not None
    assert not effect.alarm


def test_a_request_of_no_epoch_at_all_is_not_authentic() -> None:
    exchange, _ = verifying(replace(DEVICE, epoch=1, former=(GONE,)))
    effect = exchange.verified(is_outer_good=False)
    assert isinstance(effect, Hint)
    assert effect.problem.kind is ProblemKind.BAD_SIGNATURE


def test_a_certificate_by_value_has_to_be_its_makers_in_any_epoch() -> None:
    exchange, _ = verifying(replace(DEVICE, epoch=1, former=(GONE,)))
    effect = exchange.verified(is_outer_good=False, is_signer_good=False, former=0)
    assert isinstance(effect, Hint)


def test_nothing_is_good_for_the_present_epoch_of_another_authority() -> None:
    _, verify = verifying(replace(DEVICE, epoch=1, is_ours=False, former=(GONE,)))
    assert verify.outer.public_key == b""
    assert verify.former[0].public_key != b""


def test_who_never_changed_its_owner_costs_one_signature() -> None:
    _, verify = verifying(DEVICE)
    assert verify.former == ()
