"""Any key, vector, name and change of a byte: a package comes back whole, or is refused in one way."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import MalformedMessage, RequestRejected
from protocol.ev import CpsPackage, Edition, Emaid, Evseid, Pcid, Seccid, WrappedKey, check, wrap2, wrap20
from protocol.ev.check_character import ALPHABET, check_character
from tests.ev_samples import REQUEST, contract, new_key

LETTERS = ALPHABET[10:]


def scalars(edition: Edition) -> st.SearchStrategy[ec.EllipticCurvePrivateKey]:
    order = int.from_bytes(edition.group.order, "big")
    edges = st.sampled_from((1, 2, 255, 256, order // 2, order - 2, order - 1))
    numbers = edges | st.integers(1, order - 1)
    return numbers.map(lambda number: ec.derive_private_key(number, edition.group.curve))


@given(
    scalars(Edition.PART_2),
    scalars(Edition.PART_2),
    scalars(Edition.PART_2),
    st.binary(min_size=16, max_size=16),
)
def test_part_2_round_trips(
    key: ec.EllipticCurvePrivateKey,
    car: ec.EllipticCurvePrivateKey,
    ephemeral: ec.EllipticCurvePrivateKey,
    iv: bytes,
) -> None:
    wrapped = wrap2.wrap(key, car.public_key(), ephemeral=ephemeral, iv=iv)
    assert (len(wrapped.encrypted), len(wrapped.dh_public_key)) == (48, 65)
    assert wrap2.unwrap(wrapped, car, key.public_key()).private_numbers() == key.private_numbers()


@given(
    scalars(Edition.PART_20),
    scalars(Edition.PART_20),
    st.binary(min_size=12, max_size=12),
    st.text(ALPHABET, min_size=18, max_size=18),
    st.binary(min_size=8, max_size=8),
)
def test_part_20_round_trips(
    key: ec.EllipticCurvePrivateKey, car: ec.EllipticCurvePrivateKey, iv: bytes, pcid: str, identifier: bytes
) -> None:
    ephemeral = new_key(Edition.PART_20)
    wrapped = wrap20.wrap(
        key, car.public_key(), ephemeral=ephemeral, iv=iv, pcid=pcid, key_identifier=identifier
    )
    assert (len(wrapped.encrypted), len(wrapped.dh_public_key)) == (94, 133)
    back = wrap20.unwrap(wrapped, car, key.public_key(), pcid=pcid, key_identifier=identifier)
    assert back.private_numbers() == key.private_numbers()


@given(st.sampled_from(Edition), st.binary(max_size=140), st.binary(max_size=100))
def test_any_bytes_in_place_of_a_wrapped_key_are_refused(
    edition: Edition, point: bytes, encrypted: bytes
) -> None:
    sample = contract(edition)
    for wrapped in (
        WrappedKey(point, encrypted),
        WrappedKey(sample.wrapped.dh_public_key, encrypted),
        WrappedKey(point, sample.wrapped.encrypted),
    ):
        installation = sample.installation()
        with pytest.raises((MalformedMessage, RequestRejected)):
            type(installation)(edition, installation.contract_chain, wrapped, installation.name).unwrap(
                sample.car, pcid=sample.pcid
            )


PACKAGES = {edition: contract(edition).package().encode() for edition in Edition}


@given(st.sampled_from(Edition), st.integers(0), st.integers(1, 255))
def test_a_package_with_any_byte_changed_installs_nothing(
    edition: Edition, position: int, change: int
) -> None:
    data = bytearray(PACKAGES[edition])
    data[position % len(data)] ^= change
    sample = contract(edition)
    beside = CpsPackage.decode(PACKAGES[edition]).cps_chain
    try:
        package = CpsPackage.decode(bytes(data))
        # What stands unsigned above the leaf is for the path validator to judge.
        if package.cps_chain[1:] == beside[1:]:
            with pytest.raises((MalformedMessage, RequestRejected)):
                check(package, sample.cps.public_key(), label=sample.label, request=REQUEST)
    except MalformedMessage:
        pass


@given(st.binary(max_size=300) | st.integers(0, 4000).map(lambda end: PACKAGES[Edition.PART_2][:end]))
def test_any_bytes_decode_or_are_malformed(data: bytes) -> None:
    if data == PACKAGES[Edition.PART_2]:
        return
    with pytest.raises(MalformedMessage):
        CpsPackage.decode(data)


@given(st.text(LETTERS, min_size=2, max_size=2), st.text(ALPHABET, min_size=12, max_size=12))
def test_every_emaid_round_trips_with_its_check_character(country: str, rest: str) -> None:
    text = country + rest + check_character(country + rest)
    assert str(Emaid.parse(text)) == text
    written = f"{text[:2]}-{text[2:5]}-{text[5:14]}-{text[14]}".lower()
    assert Emaid.normalise(written) == text == Emaid.normalise(text)


@given(st.text(max_size=70) | st.text(ALPHABET + "-*abc", max_size=70))
def test_any_text_is_a_name_in_one_spelling_or_refused(text: str) -> None:
    for kind in (Emaid, Pcid, Seccid, Evseid):
        try:
            canonical = kind.normalise(text)
        except RequestRejected:
            continue
        assert str(kind.parse(canonical)) == canonical == kind.normalise(canonical)
