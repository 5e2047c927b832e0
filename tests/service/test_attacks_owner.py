"""A curious owner: a device's own valid key, used in every way that it was not given for.

The real authority behind its port; see `tests/service/test_attacks.py` for the table of all attacks.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.authority import InventoryError, NewDevice, register_devices
from protocol import c509
from protocol.c509 import keys
from protocol.errors import ProblemKind
from protocol.labels import Domain, Operation
from protocol.ports import Content, Inbound, Reply, SignedRefusal
from protocol.problem import Problem
from protocol.profiles import services_of
from tests.rig import NOW, Rig, certificate_of, new_key, rig_in
from tests.service.test_authority_refusals import P256_ORDER


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_in(tmp_path) as opened:
        yield opened


def hint(reply: Reply) -> ProblemKind:
    assert isinstance(reply, Problem), reply
    return reply.kind


# --- one certificate, other bytes -----------------------------------------------------------------------


def uncompressed(encoded: bytes) -> bytes:
    """Return the certificate with its point in full: the same X.509, another thumbprint."""
    true = c509.decode_certificate(encoded)
    assert isinstance(true.public_key_algorithm, int)
    point = keys.bit_string_octets(true.public_key_algorithm, true.public_key)
    tbs = c509.TbsCertificate(
        true.type,
        true.serial,
        true.signature_algorithm,
        true.issuer,
        true.not_before,
        true.not_after,
        true.subject,
        true.public_key_algorithm,
        point,
        true.extensions,
    )
    odd = tbs.with_signature(true.signature)
    assert odd.to_der() == true.to_der()
    return odd.encoded


def with_other_s(encoded: bytes) -> bytes:
    """Return the certificate with its signature (r, s) turned into (r, n - s), as good as before."""
    true = c509.decode_certificate(encoded)
    s = P256_ORDER - int.from_bytes(true.signature[32:], "big")
    return encoded[:-32] + s.to_bytes(32, "big")


@pytest.mark.parametrize("other_form", [uncompressed, with_other_s])
def test_a_bootstrap_certificate_is_recorded_in_one_form_only(rig: Rig, other_form: object) -> None:
    """Or whoever holds the key for a moment could lock its owner out: nobody knows it by that name."""
    assert callable(other_form)
    device = rig.device(has_certificate=False)
    key, certificate = device.credentials["meter-boot"]
    odd = device.holding("meter-boot", key, other_form(certificate))
    before = rig.snapshot("answers", "audit")
    assert hint(rig.ask(odd.enroll(new_key(), by_value=True))) is ProblemKind.MALFORMED
    assert rig.snapshot("answers", "audit") == before
    certificate_of(rig.ask(device.enroll(new_key(), by_value=True)))
    certificate_of(rig.ask(device.enroll(new_key())))
    assert isinstance(rig.ask(device.enroll(new_key(), by_value=True)), Content)
    assert hint(rig.ask(odd.enroll(new_key(), by_value=True))) is ProblemKind.MALFORMED


def test_the_inventory_takes_one_encoding_only(rig: Rig) -> None:
    device = rig.device(is_registered=False)
    odd = uncompressed(device.credentials["meter-boot"][1])
    maker = rig.makers[Domain.METERING].authority
    entitled = services_of("meter-boot")
    new = NewDevice(device.name, "meter-boot", maker.key_id, device.client_id, entitled, odd)
    with pytest.raises(InventoryError, match="encoded in another way"):
        register_devices(rig.agent.store, [new], NOW, (maker,))


# --- without end ----------------------------------------------------------------------------------------


def test_an_owner_who_asks_all_day_makes_the_revocation_list_no_longer_than_one_entry_a_minute(
    tmp_path: Path,
) -> None:
    """What is asked for and never confirmed is listed, and every device loads the list."""
    with rig_in(tmp_path) as rig:
        device = rig.device()
        for _ in range(200):
            rig.ask(device.enroll(new_key()))
            rig.clock.now += 10
        assert 0 < len(rig.states(device)) <= 60 + 200 * 10 / 60 + 1
        assert rig.states(device)[-1] == "pending"
        assert set(rig.states(device)[:-1]) == {"void"}


# --- one key, one use -----------------------------------------------------------------------------------


def test_no_key_is_certified_twice_whatever_it_is_for(rig: Rig) -> None:
    """Labels, domains, devices, and a key that the owner knows to be on somebody else's device."""
    meter, vehicle = rig.enrolled(), rig.enrolled(Domain.ITS)
    key, vehicles = meter.credentials["meter-ds"][0], vehicle.credentials["its-enroll"][0]
    again = [
        meter.enroll(key, label="meter-ka"),
        meter.enroll(vehicles, label="meter-tls"),
        rig.device(Domain.ITS).enroll(key),
        rig.device().enroll(vehicles),
    ]
    before = rig.snapshot()
    for inbound in again:
        reply = rig.ask(inbound)
        assert isinstance(reply, SignedRefusal), reply
        assert reply.problem.kind is ProblemKind.KEY_USED
    assert rig.snapshot() == before


def test_what_a_device_may_not_have_is_not_given_under_another_door(rig: Rig) -> None:
    """A request for one label, taken to the door of every other, with each of the device's credentials."""
    device = rig.enrolled()
    request = device.enroll(new_key(), label="meter-ka")
    for label in ("meter-ds", "meter-tls", "its-enroll"):
        for op in (Operation.SEN, Operation.SREN):
            assert hint(rig.ask(Inbound(label, op, request.body, "test:1"))) is ProblemKind.BAD_SIGNATURE
    certificate_of(rig.ask(request))


@pytest.mark.parametrize("op", [Operation.REV, Operation.CONF])
def test_a_pending_key_that_speaks_for_another_certificate_is_current_first(rig: Rig, op: Operation) -> None:
    """Or the device, its old certificate given back, would be left with one that died with it."""
    device, key = rig.enrolled(), new_key()
    old = device.credentials["meter-ds"][1]
    pending = certificate_of(rig.ask(device.enroll(key, op=Operation.SREN)))
    new = device.holding("meter-ds", key, pending)
    if op is Operation.REV:
        assert isinstance(rig.ask(new.give_back(old)), Content)
        assert rig.states(device) == ["revoked", "current"]
        return
    agreement = certificate_of(rig.ask(device.enroll(new_key(), label="meter-ka")))
    reply = rig.ask(new.confirm(agreement, label="meter-ka"))
    assert isinstance(reply, SignedRefusal), "it died with the certificate that had asked for it"
    assert rig.states(device) == ["superseded", "current"]
    assert rig.states(device, "meter-ka") == ["void"]
