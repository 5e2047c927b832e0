"""An attacker with recordings, stolen or retired keys: what they had once gives them nothing more.

The real authority behind its port; see `tests/service/test_attacks.py` for the table of all attacks.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.authority import revoke
from agents.authority.domain import Registrar
from protocol import c509
from protocol.errors import ProblemKind
from protocol.exchange.authority_effects import Statement
from protocol.exchange.request import RevocationReason
from protocol.labels import Operation
from protocol.ports import Content, Inbound, Reply, SignedRefusal
from tests.rig import NOW, Device, Rig, certificate_of, new_key, rig_in


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
