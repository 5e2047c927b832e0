"""Whatever arrives, a C509 decoder returns an object that encodes to it, or raises `MalformedMessage`."""

from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import c509, cbor
from protocol.errors import MalformedMessage
from tests import c509_samples

SAMPLES = c509_samples.everything()
DECODERS: list[Callable[[bytes], Any]] = [
    c509.decode_certificate,
    c509.decode_certificate_sequence,
    c509.decode_request,
    c509.decode_template,
    c509.decode_chain,
    c509.decode_private_key,
    c509.decode_pem,
    c509.Name.decode,
]
FROM_DER: list[Callable[[bytes], Any]] = [c509.from_der, c509.request_from_der]


def decoder(name: str) -> Callable[[bytes], Any]:
    found: Callable[[bytes], Any] = getattr(c509, name.split(maxsplit=1)[0])
    return found


def encoding(decoded: Any) -> bytes:
    """Return what `decoded` encodes to, put together from what was decoded where nothing was kept."""
    if isinstance(decoded, c509.Certificate | c509.CertificationRequest | c509.Name):
        return decoded.encoded
    if isinstance(decoded, tuple):
        return c509.encode_chain(decoded)
    whole: bytes = decoded.encode()
    return whole


def use(decoded: Any) -> None:
    """Ask for everything that is worked out late; a bad point shows here."""
    if not isinstance(decoded, c509.Certificate | c509.CertificationRequest):
        return
    assert str(decoded.subject) == decoded.subject.text
    try:
        decoded.load_public_key()
        assert decoded.spki_der
    except MalformedMessage:
        return
    if decoded.type == c509.REENCODED:
        back = c509.from_der if isinstance(decoded, c509.Certificate) else c509.request_from_der
        try:
            x509 = decoded.to_der()
        except MalformedMessage:
            return  # the point of a certificate in an attribute
        assert back(x509).to_der() == x509


def fields_of(signed: Any) -> Any:
    """Return the signed object made again from its fields."""
    if isinstance(signed, c509.Certificate):
        return c509.TbsCertificate(
            signed.type,
            signed.serial,
            signed.signature_algorithm,
            signed.issuer,
            signed.not_before,
            signed.not_after,
            signed.subject,
            signed.public_key_algorithm,
            signed.public_key,
            signed.extensions,
        ).with_signature(signed.signature)
    return c509.TbsRequest(
        signed.type,
        signed.signature_algorithm,
        signed.subject,
        signed.public_key_algorithm,
        signed.public_key,
        signed.attributes,
    ).with_signature(signed.signature, signed.recipient)


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_decode_and_encode_again(name: str) -> None:
    decoded = decoder(name)(SAMPLES[name])
    assert encoding(decoded) == SAMPLES[name]
    if isinstance(decoded, c509.TbsCertificate | c509.TbsRequest):
        assert fields_of(decoded).encoded == SAMPLES[name]
    use(decoded)


@pytest.mark.parametrize("name", SAMPLES)
def test_nothing_shorter_or_longer_than_the_whole_is_taken(name: str) -> None:
    whole = SAMPLES[name]
    for end in range(len(whole)):
        with pytest.raises(MalformedMessage):
            decoder(name)(whole[:end])
    for more in (b"\0", b"\xf6", whole):
        with pytest.raises(MalformedMessage):
            decoder(name)(whole + more)


@given(data=st.binary(max_size=200))
def test_any_bytes_raise_one_exception_only(data: bytes) -> None:
    for decode in DECODERS:
        try:
            decoded = decode(data)
        except MalformedMessage:
            continue
        assert encoding(decoded) in (data, b"\x8b" + data)


@pytest.mark.parametrize("name", SAMPLES)
@given(data=st.data())
def test_any_changed_byte_is_refused_or_means_something(name: str, data: st.DataObject) -> None:
    changed = bytearray(SAMPLES[name])
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] = data.draw(st.integers(0, 255))
    check(name, bytes(changed))


ODD_ITEMS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.integers(-40, 40)
    | st.binary(max_size=9)
    | st.text(max_size=9)
    | st.sampled_from([cbor.undefined, b"\x2a\x03", b"\x05\x00", "ab", "01-23-45-67-89-AB-CD-EF"])
    | st.builds(cbor.CBORTag, st.sampled_from([48, 121, 1]), st.binary(max_size=8) | st.text(max_size=3)),
    lambda children: st.lists(children, max_size=4),
    max_leaves=8,
)


def places(item: Any, path: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Return the way to every item inside `item`."""
    found = [path] if path else []
    if isinstance(item, list):
        for at, member in enumerate(item):
            found += places(member, (*path, at))
    return found


def replaced(item: Any, path: tuple[int, ...], how: Callable[[list[Any], int], None]) -> Any:
    """Return a copy of `item` with `how` done to the list that holds the place `path`."""
    if len(path) == 1:
        copy = list(item)
        how(copy, path[0])
        return copy
    return [replaced(member, path[1:], how) if at == path[0] else member for at, member in enumerate(item)]


@pytest.mark.parametrize("name", [name for name in SAMPLES if "chain" not in name])
@given(data=st.data())
def test_any_item_in_any_place_is_refused_or_means_something(name: str, data: st.DataObject) -> None:
    item = cbor.decode(SAMPLES[name], tags=frozenset({48, 121}))
    path = data.draw(st.sampled_from(places(item)))
    odd = data.draw(ODD_ITEMS)
    deed = data.draw(st.sampled_from(["set", "insert", "delete", "twice"]))

    def how(members: list[Any], at: int) -> None:
        if deed == "set":
            members[at] = odd
        elif deed == "insert":
            members.insert(at, odd)
        elif deed == "delete":
            del members[at]
        else:
            members[at:at] = members[at : at + 2]

    check(name, cbor2.dumps(replaced(item, path, how)))


NUMBERS = [*range(1, 10), *range(24, 39)]


@given(number=st.sampled_from(NUMBERS), critical=st.booleans(), value=ODD_ITEMS, native=st.booleans())
def test_any_value_of_any_extension_is_refused_or_means_something(
    number: int, critical: bool, value: Any, native: bool
) -> None:
    name = "decode_certificate" if native else "decode_certificate (re-encoded)"
    item = cbor.decode(SAMPLES[name], tags=frozenset({48}))
    item[9] = [-number if critical else number, value]
    check(name, cbor2.dumps(item))


def check(name: str, data: bytes) -> None:
    try:
        decoded = decoder(name)(data)
    except MalformedMessage:
        return
    assert encoding(decoded) == data
    signed = isinstance(decoded, c509.Certificate | c509.CertificationRequest)
    if signed and (decoded.type == c509.REENCODED or decoded.public_key == decoded.public_key_bytes):
        assert fields_of(decoded).encoded == data
    use(decoded)


@given(data=st.binary(max_size=200))
def test_der_of_any_bytes_raises_one_exception_only(data: bytes) -> None:
    for convert in FROM_DER:
        with pytest.raises(c509.NotConvertible):
            convert(data)


@pytest.mark.parametrize(
    "x509",
    [c509_samples.certificate(3).to_der(), c509_samples.request(3).to_der()],
    ids=["certificate", "request"],
)
@given(data=st.data())
def test_der_with_a_changed_byte_comes_back_or_is_refused(x509: bytes, data: st.DataObject) -> None:
    changed = bytearray(x509)
    changed[data.draw(st.integers(0, len(x509) - 1))] = data.draw(st.integers(0, 255))
    for convert in FROM_DER:
        try:
            converted = convert(bytes(changed))
        except c509.NotConvertible:
            continue
        assert converted.to_der() == bytes(changed)
        check(
            "decode_certificate" if isinstance(converted, c509.Certificate) else "decode_request",
            converted.encoded,
        )


@pytest.mark.parametrize(
    "x509",
    [c509_samples.certificate(3).to_der(), c509_samples.request(3).to_der()],
    ids=["certificate", "request"],
)
def test_der_cut_off_anywhere_is_refused(x509: bytes) -> None:
    for end in range(len(x509)):
        for convert in FROM_DER:
            with pytest.raises(c509.NotConvertible):
                convert(x509[:end])
