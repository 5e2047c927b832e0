"""Bad input at the authority's front door: the right no, one log line, and nothing else changes.

Here every line of the list is asked of a whole authority (door, desk, store), and the answer is looked at as a
device would: `HINTED` and `REFUSED` name them. Where a line is about somebody else's side, or has many more cases:

| bad input                                   | here: `test_bad_input_…[…]`                  | more of it                                             |
|---------------------------------------------|----------------------------------------------|--------------------------------------------------------|
| random bytes                                | random bytes                                 | test_authority_refusals, property/test_cbor            |
| truncation at every byte                    | `test_a_request_cut_at_any_byte`             | property/test_c509_hostile                             |
| oversize                                    | oversize                                     | integration/test_coap_robustness, test_mqtt_embedded   |
| wrong label                                 | label that is none, label of the factory     | integration/test_attacks_serve                         |
| certificate of the wrong tier               | tier 1 where tier 2 belongs, and vice versa  | test_attacks_verifier, unit/test_authority_machine     |
| unknown signer                              | unknown signer, by value too                 | test_attacks_rogue                                     |
| expired, not yet valid, revoked signer      | expired, not yet valid, revoked              | test_authority_refusals, test_verifier                 |
| proof of possession by another key          | proof by another key                         | test_authority_refusals                                |
| request for another device's name           | another device's name                        | test_authority_refusals                                |
| key already used                            | key of another device, its own bootstrap key | test_authority_refusals, test_authority_life           |
| unknown algorithm                           | algorithm of no profile, … nobody knows      | test_authority_refusals, unit/test_cose                |
| weak or off-curve point                     | point off the curve, no point, RSA           | test_authority_refusals, unit/test_path                |
| topic of another client                     | `test_attacks_verifier`                      | unit/test_mqtt_access, integration/test_attacks_serve  |
| a reply that is not ours                    | unit/test_device_wrong_answers               | unit/test_mqtt_replies, test_attacks_rogue             |
| a forged refusal or receipt                 | unit/test_device_wrong_answers               | unit/test_receipt, test_attacks_rogue                  |
| another device's inner request              | another device's inner request               | test_authority_refusals                                |
| recorded at another authority               | test_attacks_rogue                           | test_authority_refusals                                |
| recorded under an earlier owner             | of an earlier owner                          | test_authority_refusals                                |
| a flipped (r, n-s)                          | `test_a_flipped_signature_is_no_news`        | test_attacks_stolen, test_attacks_owner, test_verifier |
| dormant pending certificate, parent revoked | dormant certificate                          | test_authority_life, test_attacks_verifier             |
| an old CRL or chain                         | unit/test_device_wrong_answers               | unit/test_device_*, test_device_agent                  |

Over real sockets: integration/test_attacks_serve. Recordings and stolen keys: test_attacks_stolen. A valid identity
in the wrong hands: test_attacks_owner. A rogue operator: test_attacks_rogue. Files: test_attacks_directory.
"""  # noqa: E501 (a table)

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import text

from agents.authority import revoke
from agents.keys import SoftwareSigner, generate
from protocol import c509, cbor
from protocol.cose import Algorithm, decode_sign1
from protocol.errors import ProblemKind
from protocol.exchange.authority import MAX_REQUEST_BYTES
from protocol.exchange.request import Confirmation, RevocationReason
from protocol.labels import Domain, Operation
from protocol.ports import Content, Inbound, Reply, SignedRefusal
from protocol.problem import Problem
from tests.rig import NOW, Rig, certificate_of, new_key, open_rig
from tests.service.test_authority_refusals import flipped

YEAR = 365 * 24 * 3600


def raw(body: bytes, label: str = "meter-ds", op: Operation = Operation.SEN) -> Inbound:
    return Inbound(label, op, body, "coap:192.0.2.66:5683")


def of_a_request(rig: Rig, items: Sequence[object]) -> Inbound:
    """Return a device's own envelope around these members of a certification request."""
    return rig.device().signed(Operation.SEN, cbor.encode(items))


def proof_by_another_key(rig: Rig) -> Inbound:
    device = rig.device()
    wanted = c509.decode_request(decode_sign1(device.enroll(new_key()).body).payload)
    forged = wanted.with_signature(new_key().sign(wanted.signed_bytes)).encoded
    return device.signed(Operation.SEN, forged)


def inner_of_another(rig: Rig) -> Inbound:
    inner = decode_sign1(rig.device().enroll(new_key()).body).payload
    return rig.device().signed(Operation.SEN, inner)


def expired(rig: Rig) -> Inbound:
    device = rig.enrolled()
    rig.clock.now += 4 * YEAR
    return device.enroll(new_key(), op=Operation.SREN)


def not_yet_valid(rig: Rig) -> Inbound:
    device = rig.device()
    rig.clock.now -= YEAR
    return device.enroll(new_key())


def revoked(rig: Rig) -> Inbound:
    device = rig.enrolled()
    revoke(rig.agent.store, device.name, RevocationReason.PRIVILEGE_WITHDRAWN, NOW)
    return device.enroll(new_key(), op=Operation.SREN)


def of_an_earlier_owner(rig: Rig) -> Inbound:
    inbound = rig.device().enroll(new_key())
    with rig.agent.store.writing(NOW) as writing:
        writing.connection.execute(text("UPDATE devices SET epoch = 1"))
    return inbound


def dormant(rig: Rig) -> Inbound:
    """The stolen key had a rekey signed; its answer is confirmed long after the key was revoked."""
    device, key = rig.enrolled(), new_key()
    certificate = certificate_of(rig.ask(device.enroll(key, op=Operation.SREN)))
    serial = c509.decode_certificate(device.credentials["meter-ds"][1]).serial.hex()
    revoke(rig.agent.store, serial, RevocationReason.UNSPECIFIED, NOW)
    return device.holding("meter-ds", key, certificate).confirm(certificate)


def off_the_curve(rig: Rig, point: bytes) -> Inbound:
    device, key = rig.device(), new_key()
    tbs = c509.TbsRequest(2, 0, c509.Name.common_name(device.name), 1, point, ())
    return device.signed(Operation.SEN, tbs.with_signature(key.sign(tbs.to_be_signed())).encoded)


def key_of_another(rig: Rig) -> Inbound:
    return rig.device().enroll(rig.enrolled().credentials["meter-ds"][0])


def own_bootstrap_key(rig: Rig) -> Inbound:
    device = rig.device()
    return device.enroll(device.credentials["meter-boot"][0])


def vehicles_door(rig: Rig) -> Inbound:
    return rig.device(Domain.METERING).enroll(new_key(), label="its-enroll", by="meter-boot")


def tier_2_at_the_door_of_tier_1(rig: Rig) -> Inbound:
    return rig.enrolled().enroll(new_key(), by="meter-ds")


def tier_1_at_the_door_of_tier_2(rig: Rig) -> Inbound:
    return rig.device().enroll(new_key(), op=Operation.SREN, by="meter-boot")


def confirming_for_another(rig: Rig) -> Inbound:
    victim, key = rig.device(), new_key()
    pending = certificate_of(rig.ask(victim.enroll(key)))
    return rig.enrolled().confirm(pending)


def unknown_op(rig: Rig) -> Inbound:
    return raw(rig.device().enroll(new_key()).body, op=Operation.SKG)


def of_an_algorithm_nobody_knows(rig: Rig) -> Inbound:
    signed = decode_sign1(rig.device().enroll(new_key()).body)
    protected = cbor.encode({1: -47, 22: [-15, signed.header.thumbprint]})  # ES256K
    return raw(cbor.encode([protected, {}, signed.payload, signed.signature]))


def es384(rig: Rig) -> Inbound:
    return rig.device().enroll(SoftwareSigner(generate(Algorithm.ES384), even_y=False))


def of_another_operation(rig: Rig) -> Inbound:
    return raw(rig.device().enroll(new_key()).body, op=Operation.CONF)


def in_another_name(rig: Rig) -> Inbound:
    return rig.device().enroll(new_key(), name=rig.device().name)


def stranger(rig: Rig, *, by_value: bool = False) -> Inbound:
    return rig.device(is_registered=False).enroll(new_key(), by_value=by_value)


def confirming_nothing(rig: Rig) -> Inbound:
    return rig.enrolled().signed(Operation.CONF, Confirmation(bytes(32), 0).encode())


def no_point(rig: Rig) -> Inbound:
    return of_a_request(rig, [2, 0, "x", 1, b"\x00", [], bytes(64)])


def short_rsa(rig: Rig) -> Inbound:
    return of_a_request(rig, [2, 0, "x", 0, b"\x01" * 64, [], bytes(64)])


K = ProblemKind
Table = dict[str, tuple[Callable[[Rig], Inbound], ProblemKind]]
HINTED: Table = {
    "random bytes": (lambda _: raw(os.urandom(203)), K.MALFORMED),
    "nothing": (lambda _: raw(b""), K.MALFORMED),
    "oversize": (lambda _: raw(bytes(MAX_REQUEST_BYTES + 1)), K.TOO_LARGE),
    "label that is none": (lambda rig: raw(rig.device().enroll(new_key()).body, "x"), K.NOT_FOUND),
    "label of the factory": (lambda _: raw(b"", "meter-boot"), K.NOT_FOUND),
    "operation of another profile": (unknown_op, K.NOT_FOUND),
    "request of another operation": (of_another_operation, K.MALFORMED),
    "another domain": (vehicles_door, K.BAD_SIGNATURE),
    "unknown signer": (stranger, K.UNKNOWN_SIGNER),
    "algorithm that nobody knows": (of_an_algorithm_nobody_knows, K.MALFORMED),
    "no point": (no_point, K.MALFORMED),
    "short RSA key": (short_rsa, K.BAD_KEY),
    "of an earlier owner": (of_an_earlier_owner, K.BAD_SIGNATURE),
}
"""Nobody can tell who asked, so what is said is an unsigned hint, and leaves no record of its own."""
REFUSED: Table = {
    "tier 2 where tier 1 belongs": (tier_2_at_the_door_of_tier_1, K.WRONG_SIGNER),
    "tier 1 where tier 2 belongs": (tier_1_at_the_door_of_tier_2, K.WRONG_SIGNER),
    "unknown signer by value": (lambda rig: stranger(rig, by_value=True), K.NOT_ENTITLED),
    "expired": (expired, K.SIGNER_EXPIRED),
    "not yet valid": (not_yet_valid, K.SIGNER_NOT_YET_VALID),
    "revoked": (revoked, K.SIGNER_REVOKED),
    "proof by another key": (proof_by_another_key, K.PROOF_FAILED),
    "another device's name": (in_another_name, K.WRONG_SUBJECT),
    "another device's inner request": (inner_of_another, K.WRONG_SUBJECT),
    "key of another device": (key_of_another, K.KEY_USED),
    "its own bootstrap key": (own_bootstrap_key, K.KEY_USED),
    "algorithm of no profile": (es384, K.BAD_KEY),
    "point off the curve": (lambda rig: off_the_curve(rig, b"\x02" + bytes(31) + b"\x01"), K.BAD_KEY),
    "point of the other form": (lambda rig: off_the_curve(rig, b"\x04" + b"\x11" * 64), K.BAD_KEY),
    "dormant certificate": (dormant, K.SIGNER_SUPERSEDED),
    "confirming for another": (confirming_for_another, K.NO_SUCH_CERTIFICATE),
    "confirming nothing": (confirming_nothing, K.NO_SUCH_CERTIFICATE),
}
"""The signature is good, so the registration key says no, and the audit log has it."""


def the_one_line(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    (line,) = [one for one in caplog.records if one.levelno >= logging.INFO]
    assert line.levelname == "WARNING"
    assert line.exc_info is None
    return line


@pytest.mark.parametrize("name", HINTED)
async def test_bad_input_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    make, kind = HINTED[name]
    async with open_rig(tmp_path) as rig:
        inbound = make(rig)
        before = rig.snapshot("answers", "audit")
        caplog.clear()
        reply = await rig.agent.handle(inbound)
        assert rig.snapshot("answers", "audit") == before
        assert getattr(the_one_line(caplog), "kind", "") == kind.name
        assert isinstance(reply, Problem), reply
        assert reply.kind is kind


@pytest.mark.parametrize("name", REFUSED)
async def test_bad_input_by_who_is_known_leaves_a_record_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    make, kind = REFUSED[name]
    async with open_rig(tmp_path) as rig:
        inbound = make(rig)
        before, records = rig.snapshot(), len(rig.events())
        caplog.clear()
        reply = await rig.agent.handle(inbound)
        assert rig.snapshot() == before
        assert getattr(the_one_line(caplog), "kind", "") == kind.name
        assert isinstance(reply, SignedRefusal), reply
        told = rig.verdict(inbound, reply)
        assert isinstance(told, Problem)
        assert told.kind is reply.problem.kind is kind
        assert [entry.event.value for entry in rig.events()[records:]] == ["refuse"]


async def test_a_request_cut_at_any_byte(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        whole = rig.device().enroll(new_key())
        before = rig.snapshot("answers", "audit")
        for size in range(len(whole.body)):
            reply = await rig.agent.handle(raw(whole.body[:size]))
            assert isinstance(reply, Problem)
            assert reply.kind is ProblemKind.MALFORMED
        assert rig.snapshot("answers", "audit") == before
        certificate_of(await rig.agent.handle(whole))


async def test_a_flipped_signature_is_no_news(tmp_path: Path) -> None:
    """Anybody can turn (r, s) into (r, n - s); nothing new comes of it, before or after the first."""
    async with open_rig(tmp_path) as rig:
        device, key = rig.device(), new_key()
        inbound = device.enroll(key)
        certificate = certificate_of(await rig.agent.handle(flipped(inbound)))
        before, records = rig.snapshot("answers"), len(rig.events())
        assert certificate_of(await rig.agent.handle(inbound)) == certificate
        device = device.holding("meter-ds", key, certificate)
        assert rig.snapshot("answers") == before
        assert len(rig.events()) == records
        confirmation = device.confirm(certificate)
        receipts: list[Reply] = [await rig.agent.handle(one) for one in (confirmation, flipped(confirmation))]
        assert all(isinstance(receipt, Content) for receipt in receipts)
        assert rig.states(device) == ["current"]
