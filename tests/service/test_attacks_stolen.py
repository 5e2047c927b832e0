"""An attacker with recordings, stolen or retired keys: what they had once gives them nothing more.

The real authority behind its port; see `tests/service/test_attacks.py` for the table of all attacks.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from agents.authority import Limits, revoke
from agents.authority.domain import Registrar
from agents.authority.quota import Rate
from protocol import c509
from protocol.errors import ProblemKind
from protocol.exchange.authority_effects import Statement
from protocol.exchange.request import RevocationReason
from protocol.labels import Operation
from protocol.ports import Content, Inbound, Reply, SignedRefusal
from protocol.problem import Problem
from tests.rig import NOW, Device, Rig, certificate_of, new_key, open_rig, rig_in
from tests.service.test_authority_refusals import flipped


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_in(tmp_path) as opened:
        yield opened


def refusal(reply: Reply) -> ProblemKind:
    assert isinstance(reply, SignedRefusal), reply
    return reply.problem.kind


def rekeyed(rig: Rig, device: Device) -> Device:
    """Return the device with its next certificate, which is current."""
    key = new_key()
    certificate = certificate_of(rig.ask(device.enroll(key, op=Operation.SREN)))
    device = device.holding(device.label, key, certificate)
    assert isinstance(rig.ask(device.confirm(certificate)), Content)
    return device


# --- a key that was retired or given back ---------------------------------------------------------------


def test_a_key_that_was_given_back_takes_nothing_down_that_descends_from_it(rig: Rig) -> None:
    """Its second `rev` gets the receipt again, but may not turn into one for key compromise."""
    old = rig.enrolled()
    new = rekeyed(rig, old)
    given_back = old.credentials["meter-ds"][1]
    serial = c509.decode_certificate(given_back).serial.hex()
    revoke(rig.agent.store, serial, RevocationReason.CESSATION_OF_OPERATION, NOW)
    before, records = rig.snapshot(), len(rig.events())
    reply = rig.ask(old.give_back(given_back, reason=RevocationReason.KEY_COMPROMISE))
    assert isinstance(reply, Content), "whoever lost the receipt gets one"
    assert rig.snapshot() == before
    assert len(rig.events()) == records
    assert rig.states(new) == ["revoked", "current"]


def test_the_present_key_may_say_so_of_one_that_was_given_back(rig: Rig) -> None:
    old = rig.enrolled()
    new = rekeyed(rig, old)
    given_back = old.credentials["meter-ds"][1]
    assert isinstance(rig.ask(new.give_back(given_back)), Content)
    assert rig.states(new) == ["revoked", "current"]
    reply = rig.ask(new.give_back(given_back, reason=RevocationReason.KEY_COMPROMISE))
    assert isinstance(reply, Content)
    assert rig.states(new) == ["revoked", "revoked"], "what a stolen key asked for goes with it"


@pytest.mark.parametrize("op", [Operation.REV, Operation.CONF])
def test_a_signer_revoked_between_decision_and_record_has_no_say(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, op: Operation
) -> None:
    device = rig.enrolled()
    agreement = certificate_of(rig.ask(device.enroll(new_key(), label="meter-ka")))
    inbound: Inbound = (
        device.confirm(agreement, label="meter-ka")
        if op is Operation.CONF
        else device.give_back(agreement, label="meter-ka")
    )
    serial = c509.decode_certificate(device.credentials["meter-ds"][1]).serial.hex()
    sign = Registrar.sign

    def revoke_first(registrar: Registrar, statement: Statement) -> bytes:
        monkeypatch.setattr(Registrar, "sign", sign)
        revoke(rig.agent.store, serial, RevocationReason.PRIVILEGE_WITHDRAWN, NOW)
        return sign(registrar, statement)

    monkeypatch.setattr(Registrar, "sign", revoke_first)
    assert refusal(rig.ask(inbound)) is ProblemKind.SIGNER_REVOKED
    assert rig.states(device, "meter-ka") == ["void"], "it died with its parent, and of nothing else"


# --- recordings -----------------------------------------------------------------------------------------


def issued_before(rig: Rig) -> tuple[Device, Inbound]:
    device = rig.device()
    inbound = device.enroll(new_key())
    certificate_of(rig.ask(inbound))
    return device, inbound


def confirmed_before(rig: Rig) -> tuple[Device, Inbound]:
    device = rig.enrolled()
    return device, device.confirm(device.credentials["meter-ds"][1])


def returned_before(rig: Rig) -> tuple[Device, Inbound]:
    device = rig.enrolled()
    inbound = device.give_back(device.credentials["meter-ds"][1])
    assert isinstance(rig.ask(inbound), Content)
    return device, inbound


DONE_BEFORE: dict[Operation, Callable[[Rig], tuple[Device, Inbound]]] = {
    Operation.SEN: issued_before,
    Operation.CONF: confirmed_before,
    Operation.REV: returned_before,
}


def replayed(inbound: Inbound) -> Inbound:
    return replace(inbound, source="coap:203.0.113.66:4711")


@pytest.mark.parametrize("is_flipped", [False, True])
@pytest.mark.parametrize("op", list(DONE_BEFORE))
def test_a_replay_is_not_charged_to_whoever_signed_it(rig: Rig, op: Operation, is_flipped: bool) -> None:
    """Whoever has one recording could have kept a device from ever getting another certificate."""
    device, inbound = DONE_BEFORE[op](rig)
    inbound = replayed(flipped(inbound) if is_flipped else inbound)
    before, records = rig.snapshot(), len(rig.events())
    for _ in range(80):
        assert isinstance(rig.ask(inbound), Content)
    assert rig.snapshot() == before
    assert len(rig.events()) == records
    assert isinstance(rig.ask(device.enroll(new_key())), Content), "the device goes on"


def test_replays_use_up_the_quota_of_whoever_delivers_them(tmp_path: Path) -> None:
    with rig_in(tmp_path, limits=Limits(repeats=Rate(5, 1))) as rig:
        device = rig.enrolled()
        recorded = replayed(device.confirm(device.credentials["meter-ds"][1]))
        kinds = [type(rig.ask(recorded)) for _ in range(7)]
        assert kinds == [Content] * 5 + [Problem] * 2
        assert isinstance(rig.ask(replace(recorded, source="coap:192.0.2.1:5683")), Content)
        rig.clock.now += 2
        assert isinstance(rig.ask(recorded), Content)


@pytest.mark.parametrize("has_certificate", [True, False])
def test_refused_requests_are_charged_to_their_source_and_logged_within_bounds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, has_certificate: bool
) -> None:
    """Also by a signer that came by value: a curious owner fills neither log nor disk."""
    with rig_in(tmp_path, limits=Limits(failures=Rate(60, 1))) as rig:
        device = rig.device(has_certificate=has_certificate, is_registered=has_certificate)
        records = len(rig.events())
        for _ in range(70):
            rig.ask(replayed(device.enroll(new_key(), name="54524CFFFFFFFFFF", by_value=True)))
        last = rig.ask(replayed(device.enroll(new_key(), by_value=True)))
        assert isinstance(last, Problem)
        assert last.kind is ProblemKind.OVERLOADED
        assert len(rig.events()) <= records + 10
        assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) <= 10 + 20


async def test_a_blocked_source_does_not_hold_a_twin_from_elsewhere_up(tmp_path: Path) -> None:
    """The same bytes at the same time: the answer to one who has to wait is not the other's."""
    async with open_rig(tmp_path, limits=Limits(failures=Rate(1, 0.001), groups=1)) as rig:
        inbound = rig.device().enroll(new_key(), source="coap:192.0.2.1:5683")
        attacker = replayed(inbound)
        await rig.agent.handle(replace(attacker, body=b"junk"))
        replies: dict[str, Reply] = {}

        async def ask(one: Inbound) -> None:
            replies[one.source] = await rig.agent.handle(one)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, attacker)
            tasks.start_soon(ask, inbound)
        refused = replies[attacker.source]
        assert isinstance(refused, Problem)
        assert refused.kind is ProblemKind.OVERLOADED
        certificate_of(replies[inbound.source])
