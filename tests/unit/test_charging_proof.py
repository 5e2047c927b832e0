"""What a station proves to a car, octet by octet."""

from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from agents.keys import SoftwareSigner
from protocol import c509, cbor
from protocol.cose import Algorithm
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.ev.station_proof import MAX_PROOF_BYTES, StationProof, prove
from protocol.signing import sign1
from tests.ev_world import PART_20, EvWorld, Party

NONCE = bytes(range(32))
AT = "coap://192.0.2.1:5684"
LABEL = "ev-secc"


@pytest.fixture(scope="module")
def world() -> EvWorld:
    return EvWorld()


def signer(party: Party) -> SoftwareSigner:
    assert isinstance(party.key, ec.EllipticCurvePrivateKey)
    return SoftwareSigner(party.key)


def proof_of(station: Party, world: EvWorld, nonce: bytes = NONCE, *, key: Party | None = None) -> bytes:
    chain = (station.certificate, world.cpo2.certificate, world.cpo1.certificate)
    return prove(signer(key or station), chain, label=LABEL, nonce=nonce, address=AT, evse="DE*ABC*E1")


def refused(data: bytes, *, nonce: bytes = NONCE, label: str = LABEL, address: str = AT) -> ProblemKind:
    with pytest.raises(RequestRejected) as refusal:
        StationProof.decode(data).check(label=label, nonce=nonce, address=address)
    return refusal.value.reason


def test_a_proof_holds_for_its_nonce_label_and_address(world: EvWorld) -> None:
    station = world.secc()
    data = proof_of(station, world)
    proof = StationProof.decode(data)
    assert proof.check(label=LABEL, nonce=NONCE, address=AT) == station.certificate
    assert (proof.address, proof.evse, len(proof.chain)) == (AT, "DE*ABC*E1", 3)
    assert refused(data, nonce=bytes(32)) is ProblemKind.BAD_SIGNATURE
    assert refused(data, label="ev20-secc") is ProblemKind.BAD_SIGNATURE
    assert refused(data, address="coap://192.0.2.2:5684") is ProblemKind.WRONG_CLIENT


def test_a_proof_by_another_key_is_none(world: EvWorld) -> None:
    data = proof_of(world.secc(), world, key=world.secc())
    assert refused(data) is ProblemKind.BAD_SIGNATURE


def test_a_proof_that_names_another_certificate_of_the_same_key_is_none(world: EvWorld) -> None:
    station = world.secc()
    twin = world.secc(key=station.key)
    payload = cbor.encode([AT, "", c509.encode_chain([station.certificate])])
    aad = cbor.encode(["ev-station", LABEL, NONCE])
    data = sign1(signer(station), payload, aad, thumbprint=c509.thumbprint(twin.certificate.encoded))
    assert refused(data) is ProblemKind.UNKNOWN_SIGNER


def test_three_sub_cas_of_part_20_fit() -> None:
    world = EvWorld(PART_20)
    between = world.cpo1.ca("CPO Sub3", 0, role="V2G", country="DE")
    station = world.secc(between)
    chain = (
        station.certificate,
        between.certificate,
        world.cpo1.certificate,
        world.cpo2.certificate,
    )
    data = prove(signer(station), chain, label="ev20-secc", nonce=NONCE, address=AT, evse="x" * 64)
    assert len(data) < MAX_PROOF_BYTES
    proof = StationProof.decode(data)
    assert proof.signed.header.algorithm is Algorithm.ES512
    assert proof.check(label="ev20-secc", nonce=NONCE, address=AT) == station.certificate


def test_a_nonce_that_may_repeat_is_not_signed(world: EvWorld) -> None:
    for nonce in (b"", bytes(15), bytes(33)):
        with pytest.raises(MalformedMessage):
            proof_of(world.secc(), world, nonce)


@pytest.mark.parametrize(
    "payload",
    [
        [AT, ""],
        ["", "", b""],
        ["x" * 121, "", b""],
        [AT, "x" * 65, b""],
        [AT, 1, b""],
        [AT, "", "text"],
        [AT, "", b"\x80"],
    ],
)
def test_what_is_no_proof_is_malformed(world: EvWorld, payload: list[object]) -> None:
    station = world.secc()
    data = sign1(signer(station), cbor.encode(payload), b"", thumbprint=bytes(8))
    with pytest.raises(MalformedMessage):
        StationProof.decode(data)


def test_a_key_named_otherwise_or_too_many_certificates_are_malformed(world: EvWorld) -> None:
    station = world.secc()
    chain = c509.encode_chain([station.certificate] * 5)
    for payload, named in (
        (cbor.encode([AT, "", chain]), {"thumbprint": bytes(8)}),
        (cbor.encode([AT, "", c509.encode_chain([station.certificate])]), {"key_id": b"key"}),
    ):
        with pytest.raises(MalformedMessage):
            StationProof.decode(sign1(signer(station), payload, b"", **named))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_proof_or_malformed(data: bytes) -> None:
    with suppress(MalformedMessage):
        StationProof.decode(data)
