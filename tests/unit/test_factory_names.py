"""How a batch's devices are called, and what its manifest says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.factory.manifest import ManifestEntry, read_manifest, write_manifest
from agents.factory.names import DEFAULT_PREFIX, MAX_SERIAL, device_name
from agents.keys import SoftwareSigner, generate
from protocol import cbor
from protocol.errors import EnrollmentError, MalformedMessage, RequestRejected
from protocol.profiles import Naming, profile_of
from protocol.signing import sign1
from protocol.voucher import key_identifier

METER = profile_of("meter-boot")
GATEWAY = profile_of("its-boot")
SIGNER = SoftwareSigner(generate())
KEY = SIGNER._public_key
ENTRIES = (ManifestEntry("54524C0000000001", "client", bytes(32)), ManifestEntry("b", "c", b"\x01" * 32))


def test_a_meter_has_a_system_title_of_the_makers_flag_id_and_its_serial_number() -> None:
    assert device_name(METER, DEFAULT_PREFIX[Naming.SYSTEM_TITLE], 1) == "54524C0000000001"
    assert device_name(METER, b"ABC", MAX_SERIAL) == "414243FFFFFFFFFF"


def test_a_gateway_has_a_locally_administered_eui_64() -> None:
    name = device_name(GATEWAY, DEFAULT_PREFIX[Naming.EUI64], 258)
    assert name == "02-54-52-00-00-00-01-02"
    assert int(name[:2], 16) & 2


@given(st.binary(min_size=3, max_size=3), st.integers(0, MAX_SERIAL), st.integers(0, MAX_SERIAL))
def test_two_serial_numbers_have_two_names_that_the_profile_takes(prefix: bytes, one: int, two: int) -> None:
    for profile in (METER, GATEWAY):
        names = {profile.naming.check(device_name(profile, prefix, serial)) for serial in (one, two)}
        assert len(names) == len({one, two})


@pytest.mark.parametrize(("prefix", "serial"), [(b"AB", 1), (b"ABCD", 1), (b"ABC", -1), (b"ABC", 2**40)])
def test_other_sizes_are_no_names(prefix: bytes, serial: int) -> None:
    with pytest.raises(ValueError, match=r"three bytes|less than"):
        device_name(METER, prefix, serial)


def test_a_manifest_is_read_by_whoever_has_the_makers_key() -> None:
    data = write_manifest(SIGNER, KEY, "meter-boot", ENTRIES)
    assert read_manifest(data, KEY, "meter-boot") == ENTRIES


def test_a_manifest_of_another_maker_or_label_is_refused() -> None:
    data = write_manifest(SIGNER, KEY, "meter-boot", ENTRIES)
    with pytest.raises(RequestRejected):
        read_manifest(data, KEY, "its-boot")
    with pytest.raises(RequestRejected):
        read_manifest(data, SoftwareSigner(generate())._public_key, "meter-boot")


def test_a_manifest_with_any_byte_changed_is_refused() -> None:
    data = write_manifest(SIGNER, KEY, "meter-boot", ENTRIES)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        with pytest.raises(EnrollmentError):
            read_manifest(bytes(changed), KEY, "meter-boot")


@pytest.mark.parametrize("payload", [{}, 1, [1], [["a", "b"]], [["a", "b", b"short"]], [["a", 1, bytes(32)]]])
def test_a_signed_something_else_is_no_manifest(payload: object) -> None:
    aad = cbor.encode(["manifest", "meter-boot"])
    data = sign1(SIGNER, cbor.encode(payload), aad, key_id=key_identifier(KEY)[:8])
    with pytest.raises(MalformedMessage):
        read_manifest(data, KEY, "meter-boot")
