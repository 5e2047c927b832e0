"""Requests to the security setup object: the octets that are known, and nothing else taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import MalformedMessage
from protocol.metering import axdr, setup
from protocol.metering.keys import KeyKind
from protocol.metering.setup import (
    ByEntity,
    BySerial,
    CertificateType,
    Entity,
    ExportCertificate,
    GenerateCertificateRequest,
    GenerateKeyPair,
    ImportCertificate,
    KeyAgreement,
    KeyPair,
    KeyTransfer,
    RemoveCertificate,
    Response,
)
from protocol.metering.title import SystemTitle

METER = SystemTitle(bytes.fromhex("4b4550000000002a"))
DS = CertificateType.DIGITAL_SIGNATURE
HEAD = "c301c1004000002b0000ff"
ACTIONS = {
    GenerateCertificateRequest(KeyPair.DIGITAL_SIGNATURE): HEAD + "05011600",
    GenerateKeyPair(KeyPair.TLS): HEAD + "04011602",
    ImportCertificate(b"\x30\x00"): HEAD + "060109023000",
    ExportCertificate(ByEntity(Entity.SERVER, DS, METER)): HEAD
    + "07010202160002031600160009084b4550000000002a",
    RemoveCertificate(ByEntity(Entity.CLIENT, CertificateType.KEY_AGREEMENT, METER)): HEAD
    + "08010202160002031601160109084b4550000000002a",
    RemoveCertificate(BySerial(b"\x07", b"CA")): HEAD + "080102021601020209010709024341",
}


@pytest.mark.parametrize(("action", "octets"), ACTIONS.items(), ids=lambda item: type(item).__name__)
def test_a_request_has_the_octets_that_peers_write(action: setup.Action, octets: str) -> None:
    assert setup.encode_request(action).hex() == octets
    assert setup.decode_request(bytes.fromhex(octets)) == (action, setup.INVOKE_ID)


def test_keys_go_in_an_array_of_key_id_and_octets() -> None:
    wrapped = {KeyKind.MASTER: bytes(24), KeyKind.UNICAST: bytes(24)}
    entry = "0918" + "00" * 24
    data = setup.encode_request(KeyTransfer(wrapped))
    assert data.hex() == f"{HEAD}0201" + "0102" + f"02021600{entry}" + f"02021603{entry}"
    assert setup.decode_request(data)[0] == KeyTransfer(wrapped)
    agreement = KeyAgreement({KeyKind.UNICAST: bytes(128)})
    data = setup.encode_request(agreement, instance=2, invoke_id=0x42)
    assert data.hex() == "c30142004000002b0002ff0301" + "0101" + "02021600098180" + "00" * 128
    assert setup.decode_request(data) == (agreement, 0x42)


@pytest.mark.parametrize(
    "octets",
    [
        HEAD + "01011600",  # a method that is not here
        HEAD + "05001600",  # no data
        HEAD + "05011603",  # no such key pair
        HEAD + "0501160000",  # more behind it
        HEAD + "05011100",  # an unsigned for an enum
        HEAD + "02010102" + "02021600090100" * 2,  # one kind twice
        HEAD + "0201" + "0105",  # more keys than there are kinds
        HEAD + "020101010203160009010000",  # a structure of three
        HEAD + "070102021602020209010709024341",  # identified in a third way
        HEAD + "07010202160002031600160009074b455000000000",  # a title of seven octets
        "c301c1000f00002b0000ff05011600",  # another class
        "c301c1004000002c0000ff05011600",  # another object
        "c302c1004000002b0000ff05011600",  # another kind of ACTION
    ],
)
def test_other_requests_are_malformed(octets: str) -> None:
    with pytest.raises(MalformedMessage):
        setup.decode_request(bytes.fromhex(octets))


def test_an_answer_brings_a_result_and_data_or_none() -> None:
    request = b"\x30\x82" + bytes(300)
    full = Response(0, axdr.octet_string(request))
    assert setup.encode_response(full)[:8].hex() == "c701c10001000982"
    read = setup.decode_response(setup.encode_response(full))
    assert read == full
    assert read.data is not None
    assert setup.read_object(read.data) == request
    assert setup.encode_response(Response(0)).hex() == "c701c10000"
    assert setup.decode_response(bytes.fromhex("c701c20300")) == Response(3, None, 0xC2)


@pytest.mark.parametrize(
    "octets", ["c701c100", "c701c1000000", "c701c1000101", "c701c1000100", "c702c10000", "c701c10002"]
)
def test_other_answers_are_malformed(octets: str) -> None:
    with pytest.raises(MalformedMessage):
        setup.decode_response(bytes.fromhex(octets))


def test_an_object_is_one_octet_string_within_its_limit() -> None:
    for data in (b"\x09\x01\x00\x00", b"\x0a\x01\x00", axdr.octet_string(bytes(2049)), b""):
        with pytest.raises(MalformedMessage):
            setup.read_object(data)


def test_a_keys_representation_does_not_show_it() -> None:
    assert "secret" not in repr(KeyTransfer({KeyKind.UNICAST: b"secret"}))


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: bytes.fromhex(HEAD) + tail))
def test_any_bytes_are_a_request_or_malformed(data: bytes) -> None:
    try:
        action, invoke_id = setup.decode_request(data)
    except MalformedMessage:
        pass
    else:
        again = setup.encode_request(action, instance=data[9], invoke_id=invoke_id)
        assert setup.decode_request(again) == (action, invoke_id)
    try:
        response = setup.decode_response(data)
    except MalformedMessage:
        return
    assert setup.encode_response(response) == data


@pytest.mark.parametrize("decode", [setup.decode_request, setup.decode_response])
def test_a_flood_is_malformed_before_it_is_read(decode: object) -> None:
    assert callable(decode)
    with pytest.raises(MalformedMessage):
        decode(bytes(4097))
