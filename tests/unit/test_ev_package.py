"""The installation package: what is signed, what is refused, and how long it would be as EXI."""

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from agents.keys import SoftwareSigner
from protocol import c509, cbor
from protocol.cose import Algorithm, decode_sign1
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.ev import (
    MAX_PACKAGE_BYTES,
    CpsPackage,
    Edition,
    Installation,
    WrappedKey,
    bound_exi,
    check,
    request_digest,
)
from protocol.ev.exi_size import OCPP_2_0_1_REQUEST, ExiBound
from protocol.signing import sign1
from tests.ev_samples import EMAID, PCID, REQUEST, Contract, certificate, contract, key_identifier, new_key

PART_2 = contract(Edition.PART_2)
PART_20 = contract(Edition.PART_20)


def refusal(package: CpsPackage, sample: Contract, **other: Any) -> ProblemKind:
    with pytest.raises(RequestRejected) as caught:
        checked(package, sample, **other)
    return caught.value.reason


def checked(package: CpsPackage, sample: Contract, **other: Any) -> Installation:
    arguments = {"label": sample.label, "request": REQUEST} | other
    cps_key = arguments.pop("cps_key", sample.cps.public_key())
    return check(package, cps_key, **arguments)


def encoded(package: CpsPackage, payload: object = None, chain: object = None) -> bytes:
    """Return the package with another payload or chain under the old signature."""
    signed = package.signed
    if payload is not None:
        signed = signed._replace(payload=cbor.encode(payload))
    return cbor.encode([signed.encode(), list(package.cps_chain) if chain is None else chain])


@pytest.mark.parametrize("edition", Edition)
def test_a_car_gets_its_key_from_a_package(edition: Edition) -> None:
    sample = contract(edition)
    package = CpsPackage.decode(sample.package().encode())
    installation = checked(package, sample, name=sample.name)
    assert installation == sample.installation()
    assert installation.emaid() == EMAID
    key = installation.unwrap(sample.car, pcid=sample.pcid)
    assert key.private_numbers() == sample.key.private_numbers()


@pytest.mark.parametrize("edition", Edition)
def test_a_package_is_what_its_bytes_say(edition: Edition) -> None:
    package = contract(edition).package()
    data = package.encode()
    assert CpsPackage.decode(data) == package
    assert CpsPackage.decode(data).encode() == data
    signed, chain = cbor.decode_array(data, 2, max_bytes=MAX_PACKAGE_BYTES)
    assert tuple(chain) == contract(edition).cps_chain
    assert decode_sign1(signed, max_bytes=MAX_PACKAGE_BYTES) == package.signed
    assert package.signed_bytes("a") != package.signed_bytes("b")


def test_a_package_answers_one_request_under_one_label() -> None:
    package = PART_2.package()
    assert refusal(package, PART_2, request=request_digest(b"another")) is ProblemKind.WRONG_SUBJECT
    assert refusal(package, PART_2, label="ev20-contract") is ProblemKind.BAD_SIGNATURE


@pytest.mark.parametrize("edition", Edition)
def test_a_package_for_somebody_else_is_refused(edition: Edition) -> None:
    sample = contract(edition)
    other = "DE83DUIEN83ZGQM" if edition is Edition.PART_2 else "TRL000000000000013"
    assert refusal(sample.package(), sample, name=other) is ProblemKind.WRONG_SUBJECT


def test_a_package_of_another_service_is_refused() -> None:
    package = PART_2.package()
    other = new_key(Edition.PART_2)
    assert refusal(package, PART_2, cps_key=other.public_key()) is ProblemKind.UNKNOWN_SIGNER
    for key in (PART_20.cps.public_key(), ed25519.Ed25519PrivateKey.generate().public_key()):
        assert refusal(package, PART_2, cps_key=key) is ProblemKind.UNKNOWN_SIGNER


def test_a_signature_by_another_key_than_the_leafs_is_refused() -> None:
    thief = replace(PART_2, cps=new_key(Edition.PART_2))
    assert refusal(thief.package(), PART_2) is ProblemKind.BAD_SIGNATURE


def test_another_certificate_of_the_same_key_is_another_signer() -> None:
    # The signature names the leaf and not its key: a leaf with another role cannot take its place.
    leaf = certificate(("secc",), PART_2.cps.public_key(), PART_2.issuer, component="CPO")
    package = CpsPackage.decode(encoded(PART_2.package(), chain=[leaf]))
    assert refusal(package, PART_2) is ProblemKind.UNKNOWN_SIGNER


@pytest.mark.parametrize("edition", Edition)
def test_whatever_the_signature_covers_cannot_be_changed(edition: Edition) -> None:
    sample = contract(edition)
    package = sample.package()
    request, contents = cbor.decode_array(package.signed.payload, 2, max_bytes=MAX_PACKAGE_BYTES)
    number, chain, encrypted, dh_public_key, name = contents
    other = certificate((EMAID,), new_key(edition).public_key(), sample.issuer)
    last = {"D": "E", "2": "3"}[name[-1]]
    for changed in (
        [number, [other, *chain[1:]], encrypted, dh_public_key, name],
        [number, chain[:1], encrypted, dh_public_key, name],
        [number, chain, encrypted[:-1] + bytes([encrypted[-1] ^ 1]), dh_public_key, name],
        [number, chain, encrypted, dh_public_key[:-1] + bytes([dh_public_key[-1] ^ 1]), name],
        [number, chain, encrypted, dh_public_key, name[:-1] + last],
    ):
        forged = CpsPackage.decode(encoded(package, payload=[request, changed]))
        assert refusal(forged, sample) is ProblemKind.BAD_SIGNATURE
    forged = CpsPackage.decode(encoded(package, payload=[bytes(32), contents]))
    assert refusal(forged, sample, request=bytes(32)) is ProblemKind.BAD_SIGNATURE


def test_a_certificate_for_another_emaid_is_refused() -> None:
    leaf = certificate(("DE83DUIEN83ZGQM",), PART_2.key.public_key(), PART_2.issuer)
    assert refusal(PART_2.with_leaf(leaf).package(), PART_2) is ProblemKind.WRONG_SUBJECT


@pytest.mark.parametrize("edition", Edition)
@pytest.mark.parametrize("names", [(), ("DE-83D-UIEN83QGZ-D",), (EMAID, "DE83DUIEN83ZGQM"), ("OEMProvCert",)])
def test_a_contract_certificate_has_one_canonical_emaid(edition: Edition, names: tuple[str, ...]) -> None:
    sample = contract(edition)
    leaf = certificate(names, sample.key.public_key(), sample.issuer)
    assert refusal(sample.with_leaf(leaf).package(), sample) is ProblemKind.WRONG_SUBJECT


@pytest.mark.parametrize("edition", Edition)
def test_a_contract_key_of_another_curve_is_refused(edition: Edition) -> None:
    sample = contract(edition)
    leaf = certificate((EMAID,), ec.generate_private_key(ec.SECP384R1()).public_key(), sample.issuer)
    assert refusal(sample.with_leaf(leaf).package(), sample) is ProblemKind.BAD_KEY


def test_a_contract_certificate_that_is_none_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        checked(PART_2.with_leaf(b"not a certificate").package(), PART_2)


def test_a_wrapped_key_that_is_not_the_certificates_is_refused_under_a_good_signature() -> None:
    # A careless service signs what does not fit together; the car still notices.
    leaf = certificate((EMAID,), new_key(Edition.PART_2).public_key(), PART_2.issuer)
    installation = checked(PART_2.with_leaf(leaf).package(), PART_2)
    with pytest.raises(RequestRejected) as caught:
        installation.unwrap(PART_2.car)
    assert caught.value.reason is ProblemKind.BAD_KEY


def test_part_20_needs_the_cars_own_pcid_and_a_key_identifier() -> None:
    installation = PART_20.installation()
    with pytest.raises(ValueError, match="PCID"):
        installation.unwrap(PART_20.car)
    with pytest.raises(RequestRejected):
        installation.unwrap(PART_20.car, pcid="TRL000000000000013")
    for identifier, error in (
        (None, MalformedMessage),
        (bytes(20), RequestRejected),
        (bytes(8), RequestRejected),
    ):
        leaf = certificate((EMAID,), PART_20.key.public_key(), PART_20.issuer, identifier=identifier)
        with pytest.raises(error):
            PART_20.with_leaf(leaf).installation().unwrap(PART_20.car, pcid=PCID)
    assert installation.key_identifier() == key_identifier(PART_20.key.public_key())


@pytest.mark.parametrize("count", [1, 4])
def test_a_chain_has_no_sub_ca_or_up_to_three(count: int) -> None:
    leaf, sub_ca = PART_2.chain
    sample = replace(
        PART_2,
        chain=(leaf, *[sub_ca] * (count - 1)),
        cps_chain=(PART_2.cps_chain[0], *[sub_ca] * (count - 1)),
    )
    package = CpsPackage.decode(sample.package().encode())
    assert len(checked(package, sample).contract_chain) == count == len(package.cps_chain)


def test_the_longest_package_has_room() -> None:
    # Four certificates of 1600 bytes in each chain; only the CPS leaf is opened when signing.
    filler = bytes(1600)
    sample = replace(
        PART_20,
        chain=(PART_20.chain[0], filler, filler, filler),
        cps_chain=(PART_20.cps_chain[0], filler, filler, filler),
    )
    data = sample.package().encode()
    spare = 2 * 1600 - len(PART_20.chain[0]) - len(PART_20.cps_chain[0])
    assert len(data) + spare < MAX_PACKAGE_BYTES
    assert CpsPackage.decode(data).encode() == data


def contents(**other: Any) -> list[object]:
    good = {
        "edition": 2,
        "chain": list(PART_2.chain),
        "encrypted": PART_2.wrapped.encrypted,
        "dh": PART_2.wrapped.dh_public_key,
        "name": EMAID,
    }
    return list((good | other).values())


@pytest.mark.parametrize(
    "payload",
    [
        [],
        [REQUEST],
        [REQUEST, contents(), 0],
        [REQUEST[:31], contents()],
        [REQUEST + b"\0", contents()],
        [REQUEST.hex(), contents()],
        [REQUEST, contents()[:4]],
        [REQUEST, [*contents(), 0]],
        [REQUEST, {0: contents()}],
        [REQUEST, contents(edition=20)],
        [REQUEST, contents(edition=3)],
        [REQUEST, contents(edition=True)],
        [REQUEST, contents(edition="2")],
        [REQUEST, contents(chain=[])],
        [REQUEST, contents(chain=[PART_2.chain[0]] * 5)],
        [REQUEST, contents(chain=[b""])],
        [REQUEST, contents(chain=[bytes(801)])],
        [REQUEST, contents(chain=["text"])],
        [REQUEST, contents(chain=PART_2.chain[0])],
        [REQUEST, contents(encrypted=bytes(47))],
        [REQUEST, contents(encrypted=bytes(94))],
        [REQUEST, contents(encrypted=None)],
        [REQUEST, contents(dh=bytes(133))],
        [REQUEST, contents(dh=bytes(64))],
        [REQUEST, contents(name=PCID)],
        [REQUEST, contents(name="DE-83D-UIEN83QGZ-D")],
        [REQUEST, contents(name=EMAID.encode())],
    ],
)
def test_a_payload_of_another_shape_is_malformed(payload: object) -> None:
    with pytest.raises(MalformedMessage):
        CpsPackage.decode(encoded(PART_2.package(), payload=payload))


@pytest.mark.parametrize("chain", [[], [b""], [bytes(801)], ["text"], [bytes(9)] * 5, b"", None, {0: b"x"}])
def test_a_chain_of_another_shape_is_malformed(chain: object) -> None:
    signed = PART_2.package().signed.encode()
    with pytest.raises(MalformedMessage):
        CpsPackage.decode(cbor.encode([signed, chain]))


def test_what_is_no_signed_object_is_malformed() -> None:
    chain = list(PART_2.cps_chain)
    for signed in (None, "text", b"", b"\x80", [PART_2.package().signed.encode()]):
        with pytest.raises(MalformedMessage):
            CpsPackage.decode(cbor.encode([signed, chain]))


def test_a_signer_is_named_by_its_thumbprint_alone() -> None:
    package = PART_2.package()
    signer = SoftwareSigner(PART_2.cps)
    leaf = c509.from_der(PART_2.cps_chain[0]).encoded
    names: tuple[dict[str, bytes], ...] = ({"certificate": leaf}, {"key_id": b"cps-1"})
    for name in names:
        signed = sign1(signer, package.signed.payload, cbor.encode(["ev-package", PART_2.label]), **name)
        with pytest.raises(MalformedMessage, match="c5t"):
            CpsPackage.decode(cbor.encode([signed, list(PART_2.cps_chain)]))


def test_the_signature_algorithm_is_the_editions() -> None:
    package = PART_2.package()
    signed = sign1(SoftwareSigner(PART_20.cps), package.signed.payload, b"", thumbprint=bytes(8))
    assert decode_sign1(signed).header.algorithm is Algorithm.ES512
    with pytest.raises(MalformedMessage, match="algorithm"):
        CpsPackage.decode(cbor.encode([signed, list(PART_2.cps_chain)]))


def test_whoever_signs_is_told_of_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="ES256"):
        replace(PART_2, cps=PART_20.cps).package()
    with pytest.raises(ValueError, match="no package"):
        replace(PART_2, cps_chain=(b"not a certificate",)).package()
    with pytest.raises(ValueError, match="no package"):
        PART_2.package(replace(PART_2.installation(), name="de83duien83qgzd"))


def test_a_leaf_without_c509_form_is_malformed() -> None:
    # A point that is not on its curve, a broken encoding: whatever a path validator would have let through.
    package = PART_2.package()
    broken = replace(package, cps_chain=(b"\x30\x00", *package.cps_chain[1:]))
    with pytest.raises(MalformedMessage):
        checked(broken, PART_2)


def test_the_longest_package_that_part_2_allows_fits_the_field_of_ocpp() -> None:
    chain = (bytes(800),) * 3
    longest = Installation(Edition.PART_2, chain, WrappedKey(bytes(65), bytes(48)), EMAID)
    bound = bound_exi(longest, chain)
    assert bound.base64_characters == 7496
    assert bound.fits()
    assert not bound.fits(OCPP_2_0_1_REQUEST)
    assert not bound_exi(longest, (bytes(800),) * 4).fits()


def test_base64_has_four_characters_for_each_three_bytes_begun() -> None:
    assert [ExiBound(size).base64_characters for size in (0, 1, 2, 3, 4)] == [0, 4, 4, 4, 8]
    assert ExiBound(5625).fits()
    assert not ExiBound(5626).fits()


def test_a_usual_package_is_not_much_shorter_than_its_bound() -> None:
    chain, cps = (bytes(599), bytes(550), bytes(550)), (bytes(551), bytes(550), bytes(550))
    usual = Installation(Edition.PART_2, chain, WrappedKey(bytes(65), bytes(48)), EMAID)
    assert 4152 <= bound_exi(usual, cps).exi_bytes <= 4152 + 20


def test_messages_of_part_20_are_not_estimated() -> None:
    with pytest.raises(ValueError, match="part 2"):
        bound_exi(PART_20.installation(), PART_20.cps_chain)
