"""How a batch's devices are called, and what its manifest says."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.factory.manifest import Manifest, ManifestEntry, Origin, read_manifest, write_manifest
from agents.factory.names import DEFAULT_PREFIX, MAX_SERIAL, Numbering, device_name
from agents.keys import SoftwareSigner, generate
from protocol import cbor
from protocol.errors import EnrollmentError, MalformedMessage, RequestRejected
from protocol.identity import client_id
from protocol.labels import Tier
from protocol.profiles import PROFILES, Naming, profile_of
from protocol.signing import sign1
from protocol.voucher import key_identifier

METER = profile_of("meter-boot")
GATEWAY = profile_of("its-boot")
SIGNER = SoftwareSigner(generate())
KEY = SIGNER._public_key
MAKER, OWNER = b"\x02" * 32, b"\x03" * 32
ENTRIES = (
    ManifestEntry("54524C0000000001", client_id(MAKER, "54524C0000000001"), bytes(32)),
    ManifestEntry("b", client_id(MAKER, "b"), b"\x01" * 32, Origin.DEVICE, "No. 7", "Stadtwerke"),
)


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
    with pytest.raises(ValueError, match=r"three bytes|serial number is"):
        device_name(METER, prefix, serial)


def test_a_manifest_is_read_by_whoever_has_the_makers_key() -> None:
    data = write_manifest(SIGNER, KEY, "meter-boot", MAKER, OWNER, ENTRIES)
    assert read_manifest(data, KEY) == Manifest("meter-boot", MAKER, OWNER, ENTRIES)


def test_a_manifest_of_another_maker_is_refused() -> None:
    data = write_manifest(SIGNER, KEY, "meter-boot", MAKER, OWNER, ENTRIES)
    with pytest.raises(RequestRejected):
        read_manifest(data, SoftwareSigner(generate())._public_key)


def test_a_manifest_with_any_bit_changed_is_refused() -> None:
    data = write_manifest(SIGNER, KEY, "meter-boot", MAKER, OWNER, ENTRIES)
    for position in range(8 * len(data)):
        changed = bytearray(data)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(EnrollmentError):
            read_manifest(bytes(changed), KEY)


GOOD = ["a", client_id(MAKER, "a"), bytes(32), 0, "", ""]


@pytest.mark.parametrize(
    "payload",
    [
        {},
        1,
        [1],
        [1, "meter-boot", MAKER, OWNER, [GOOD]],
        [2, "meter-ds", MAKER, OWNER, [GOOD]],
        [2, "no-such", MAKER, OWNER, [GOOD]],
        [2, "meter-boot", MAKER[1:], OWNER, [GOOD]],
        [2, "meter-boot", MAKER, OWNER, [["a", "b"]]],
        [2, "meter-boot", MAKER, OWNER, [GOOD, GOOD]],
        [2, "meter-boot", OWNER, OWNER, [GOOD]],
        [2, "meter-boot", MAKER, OWNER, [[*GOOD[:2], b"short", *GOOD[3:]]]],
        [2, "meter-boot", MAKER, OWNER, [[*GOOD[:3], 9, "", ""]]],
    ],
)
def test_a_signed_something_else_is_no_manifest(payload: object) -> None:
    data = sign1(SIGNER, cbor.encode(payload), cbor.encode(["manifest"]), key_id=key_identifier(KEY)[:8])
    with pytest.raises(MalformedMessage):
        read_manifest(data, KEY)


@pytest.mark.parametrize(
    ("label", "options", "name"),
    [
        ("meter-boot", {"prefix": b"TRL"}, "54524C0000000007"),
        ("client-boot", {"prefix": b"TRL"}, "54524C8000000007"),
        ("meter2-boot", {"prefix": b"TRL"}, "54524C0000000007"),
        ("client2-boot", {"prefix": b"TRL"}, "54524C8000000007"),
        ("smki-boot", {"prefix": b"\x02TR"}, "02-54-52-00-00-00-00-07"),
        ("its-boot", {"prefix": b"\x02TR"}, "02-54-52-00-00-00-00-07"),
        ("ev-oem", {"prefix": b"TRL"}, "TRL000000000000070"),
        ("ev20-oem", {"prefix": b"TRL"}, "TRL000000000000070"),
        ("ev-station", {"operator": "DETRL"}, "DETRLP0000000007"),
        ("ev20-station", {"operator": "DETRL"}, f"DETRLS{'7':0>32}"),
        ("ev-service", {}, "cps-7"),
        ("ev20-service", {}, "cps-7"),
    ],
)
def test_every_tier_1_label_counts_its_devices(label: str, options: dict[str, Any], name: str) -> None:
    numbering = Numbering(profile_of(label), **options)
    assert numbering.name(7) == name
    assert numbering.name(0) != numbering.name(numbering.last)
    for serial in (-1, numbering.last + 1):
        with pytest.raises(ValueError, match="a serial number is 0 to"):
            numbering.name(serial)


def test_every_tier_1_label_is_in_the_test_above() -> None:
    tier_1 = {label for label, profile in PROFILES.items() if profile.tier is Tier.BOOTSTRAPPING}
    mark = test_every_tier_1_label_counts_its_devices.pytestmark[0]
    assert {row[0] for row in mark.args[1]} == tier_1


def test_cars_of_part_20_have_names_that_part_20_takes() -> None:
    assert len(Numbering(profile_of("ev20-oem"), b"TRL").name(1)) == 18


@pytest.mark.parametrize("operator", ["", "D3TRL", "detrl", "DETR", "DETRLX"])
def test_a_station_begins_with_its_operator(operator: str) -> None:
    with pytest.raises((ValueError, RequestRejected)):
        Numbering(profile_of("ev-station"), operator=operator)
    with pytest.raises(ValueError, match="have no operator"):
        Numbering(profile_of("ev-service"), operator="DETRL")
