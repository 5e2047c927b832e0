"""The store: rules that hold whoever writes, the inventory, and what the verifier asks."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from agents.authority import (
    InventoryError,
    NewDevice,
    Store,
    WrongStore,
    list_devices,
    register_devices,
    revoke,
    show_device,
)
from protocol import c509
from protocol.c509.der import oid_from_text
from protocol.exchange.facts import CertificateRef, CertificateState
from protocol.exchange.request import RevocationReason
from protocol.identity import client_id
from protocol.labels import Domain, Operation
from protocol.path import Authority
from protocol.profiles import profile_of, services_of
from tests.rig import NOW, Device, Rig, certificate_of, new_key, rig_in

FIELDS = (
    "type", "serial", "signature_algorithm", "issuer", "not_before", "not_after", "subject",
    "public_key_algorithm", "public_key", "extensions",
)  # fmt: skip


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_in(tmp_path) as opened:
        yield opened


def makers(rig: Rig) -> list[Authority]:
    return [maker.authority for maker in rig.makers.values()]


def new_device(rig: Rig, name: str, domain: Domain = Domain.METERING) -> NewDevice:
    maker = rig.makers[domain]
    boot = "meter-boot" if domain is Domain.METERING else "its-boot"
    certificate = maker.issue(profile_of(boot), name, new_key().public_key)
    return NewDevice(
        name, boot, maker.key_id, client_id(maker.key_id, name), services_of(boot), certificate.encoded
    )


# --- rules ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["pending", "current"])
def test_the_database_itself_allows_one_certificate_of_a_kind(rig: Rig, state: str) -> None:
    device = rig.enrolled()
    for _ in range(2):
        rig.ask(device.enroll(new_key(), op=Operation.SREN))
    statement = f"UPDATE certificates SET state = '{state}' WHERE label = 'meter-ds'"
    with pytest.raises(IntegrityError), rig.agent.store.writing(NOW) as writing:
        writing.connection.execute(text(statement))


def test_the_database_itself_allows_a_key_once(rig: Rig) -> None:
    rig.enrolled()
    statement = (
        "INSERT INTO keys SELECT id + 1000, key_hash, authority, label, device_id, signer_id, x'01', 0, 1"
        " FROM keys LIMIT 1"
    )
    with pytest.raises(IntegrityError), rig.agent.store.writing(NOW) as writing:
        writing.connection.execute(text(statement))


def test_a_writer_waits_for_another_process(rig: Rig) -> None:
    device = rig.device()
    other = Store(rig.directory / "store.sqlite")
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with other.writing(NOW):
            begun.set()
            go_on.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert begun.wait(10)
    threading.Timer(0.05, go_on.set).start()
    certificate_of(rig.ask(device.enroll(new_key())))
    thread.join()
    other.close()


def test_readers_do_not_wait_for_a_writer(rig: Rig) -> None:
    device = rig.enrolled()
    with rig.agent.store.writing(NOW):
        assert show_device(rig.agent.store, device.name).name == device.name


def test_a_store_is_made_once_and_opened_by_its_version(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with pytest.raises(WrongStore, match="no such store"):
        Store(path)
    Store(path, create=True).close()
    assert path.stat().st_mode & 0o077 == 0
    store = Store(path)
    with store.writing(NOW) as writing:
        writing.connection.exec_driver_sql("PRAGMA user_version = 7")
    store.close()
    with pytest.raises(WrongStore, match="version 7"):
        Store(path)


def test_only_what_is_released_waits_for_the_disk(rig: Rig) -> None:
    levels = {}
    for durable in (False, True, False, True):
        with rig.agent.store.writing(NOW, durable=durable) as writing:
            levels[durable] = writing.connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
    assert levels == {False: 1, True: 2}  # NORMAL, FULL


# --- inventory ------------------------------------------------------------------------------------------


def test_devices_are_registered_listed_and_shown(rig: Rig) -> None:
    names = [f"54524C{number:010X}" for number in range(600)]
    assert (
        register_devices(rig.agent.store, [new_device(rig, name) for name in names], NOW, makers(rig)) == 600
    )
    assert [one.name for one in list_devices(rig.agent.store)] == names
    shown = show_device(rig.agent.store, names[7])
    assert shown.entitled == services_of("meter-boot")
    assert [one.label for one in shown.certificates] == ["meter-boot"]
    assert show_device(rig.agent.store, shown.client_id) == shown
    events = [entry for entry in rig.events() if entry.event == "register"]
    assert [entry.device for entry in events] == names


def test_the_same_devices_again_change_nothing(rig: Rig) -> None:
    devices = [new_device(rig, f"54524C{number:010X}") for number in range(3)]
    register_devices(rig.agent.store, devices, NOW, makers(rig))
    before = rig.snapshot("audit")
    assert register_devices(rig.agent.store, devices, NOW + 1, makers(rig)) == 0
    assert rig.snapshot("audit") == before
    more = [*devices, new_device(rig, "54524C00000000AA")]
    assert register_devices(rig.agent.store, more, NOW + 1, makers(rig)) == 1


def test_one_device_that_cannot_be_registered_keeps_all_of_its_batch_out(rig: Rig) -> None:
    good = new_device(rig, "54524C0000000001")
    register_devices(rig.agent.store, [good], NOW, makers(rig))
    fresh = new_device(rig, "54524C0000000002")
    other = new_device(rig, "54524C0000000001")
    bad = {
        "another certificate": other,
        "no system title": replace(new_device(rig, "54524C0000000003"), name="meter 3"),
        "another device's": replace(new_device(rig, "54524C0000000003"), name="54524C0000000004"),
        "no over-the-air label": replace(fresh, entitled=("its-enroll",), client_id="x"),
        "nobody knows": replace(fresh, maker=bytes(32), client_id="v"),
        "not the CA's": replace(fresh, name="4142430000000002", certificate=None, client_id="u"),
        "32 bytes": replace(fresh, maker=b"short", client_id="y"),
        "registered already": replace(good, client_id="z"),
        "expected an array": replace(fresh, certificate=b"\x80", client_id="w"),
    }
    before = rig.snapshot("audit")
    for says, device in bad.items():
        with pytest.raises(InventoryError):
            register_devices(rig.agent.store, [fresh, device], NOW, makers(rig))
        assert rig.snapshot("audit") == before, says


def test_a_certificate_is_registered_in_one_encoding_only(rig: Rig) -> None:
    """The others have other thumbprints, and the device would not be known by its own."""
    good = new_device(rig, "54524C0000000001")
    assert good.certificate is not None
    ours = c509.decode_certificate(good.certificate)
    point = ours.load_public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    usage = ours.extensions[0]
    spelled_out = c509.Extension(oid_from_text("2.5.29.15"), usage.critical, bytes.fromhex("03020780"))
    variants: dict[str, dict[str, object]] = {
        "uncompressed": {"public_key": point},
        "spelled out": {"extensions": (spelled_out, *ours.extensions[1:])},
    }
    for what, changes in variants.items():
        fields = {name: getattr(ours, name) for name in FIELDS} | changes
        variant = c509.TbsCertificate(**fields).with_signature(ours.signature)
        assert variant.encoded != ours.encoded
        assert variant.to_der() == ours.to_der(), what
        with pytest.raises(InventoryError):
            register_devices(rig.agent.store, [replace(good, certificate=variant.encoded)], NOW, makers(rig))
    assert register_devices(rig.agent.store, [good], NOW, makers(rig)) == 1


def test_devices_of_one_name_by_two_makers_are_told_apart(rig: Rig) -> None:
    mine = new_device(rig, "54524C0000000001")
    other = replace(rig.makers[Domain.METERING].authority, key_id=bytes(32))
    theirs = replace(
        new_device(rig, "54524C0000000001"),
        maker=bytes(32),
        client_id=client_id(bytes(32), "54524C0000000001"),
    )
    register_devices(rig.agent.store, [mine, theirs], NOW, [*makers(rig), other])
    with pytest.raises(InventoryError, match="client-id"):
        show_device(rig.agent.store, mine.name)
    with pytest.raises(InventoryError, match="client-id"):
        revoke(rig.agent.store, mine.name, RevocationReason.UNSPECIFIED, NOW)
    assert len(revoke(rig.agent.store, theirs.client_id, RevocationReason.UNSPECIFIED, NOW)) == 1
    assert show_device(rig.agent.store, mine.client_id).certificates[0].state is CertificateState.CURRENT


def test_an_unknown_word_is_neither_device_nor_certificate(rig: Rig) -> None:
    for word in ("", "nobody", "0102", "zz"):
        with pytest.raises(InventoryError, match="is called"):
            revoke(rig.agent.store, word, RevocationReason.UNSPECIFIED, NOW)
    with pytest.raises(InventoryError, match="no device is called"):
        show_device(rig.agent.store, "nobody")


def test_a_certificate_is_revoked_by_its_serial_number(rig: Rig) -> None:
    device = rig.enrolled()
    serial = c509.decode_certificate(device.credentials["meter-ds"][1]).serial
    revoked = revoke(rig.agent.store, serial.hex(":"), RevocationReason.KEY_COMPROMISE, NOW)
    assert [(one.label, one.reason) for one in revoked] == [("meter-ds", RevocationReason.KEY_COMPROMISE)]
    again = revoke(rig.agent.store, serial.hex(), RevocationReason.KEY_COMPROMISE, NOW)
    assert again == []


# --- the verifier's questions ---------------------------------------------------------------------------


def pending(rig: Rig, device: Device) -> tuple[bytes, CertificateRef]:
    certificate = certificate_of(rig.ask(device.enroll(new_key(), op=Operation.SREN)))
    return certificate, CertificateRef(device.authority, c509.decode_certificate(certificate).serial)


async def test_a_signer_is_found_by_its_thumbprint(rig: Rig) -> None:
    device = rig.enrolled()
    certificate = device.credentials["meter-ds"][1]
    known, unknown = c509.thumbprint(certificate), bytes(8)
    found = await rig.agent.signers.lookup([known, unknown])
    assert found[unknown] is None
    record = found[known]
    assert record is not None
    assert record.certificate == certificate
    assert (record.device, record.client_id, record.label) == (device.name, device.client_id, "meter-ds")
    assert record.state is CertificateState.CURRENT
    assert record.domain is Domain.METERING


async def test_the_revision_grows_when_a_certificate_ends_and_not_when_one_is_issued(rig: Rig) -> None:
    device = rig.enrolled()
    before = await rig.agent.signers.revision()
    certificate, _ = pending(rig, device)
    assert await rig.agent.signers.revision() == before
    other = Store(rig.directory / "store.sqlite")
    revoke(other, c509.decode_certificate(certificate).serial.hex(), RevocationReason.UNSPECIFIED, NOW)
    other.close()
    assert await rig.agent.signers.revision() == before + 1


async def test_a_first_message_makes_a_pending_certificate_current(rig: Rig) -> None:
    device = rig.enrolled()
    _, ref = pending(rig, device)
    assert await rig.agent.signers.activate(ref)
    assert await rig.agent.signers.activate(ref)
    assert rig.states(device) == ["superseded", "current"]


async def test_nothing_brings_an_ended_certificate_to_life(rig: Rig) -> None:
    device = rig.enrolled()
    _, first = pending(rig, device)
    _, second = pending(rig, device)
    assert not await rig.agent.signers.activate(first)
    revoke(rig.agent.store, device.name, RevocationReason.UNSPECIFIED, NOW)
    assert not await rig.agent.signers.activate(second)
    assert not await rig.agent.signers.activate(CertificateRef(bytes(32), b"\x01"))
    assert rig.states(device) == ["revoked", "void", "revoked"]


@pytest.mark.parametrize(
    "fate",
    [
        "UPDATE certificates SET state = 'revoked' WHERE label = 'meter-ds' AND state = 'current'",
        "UPDATE certificates SET not_after = 1 WHERE label = 'meter-ds' AND state = 'current'",
        "UPDATE certificates SET not_after = 1 WHERE label = 'meter-ds' AND state = 'pending'",
    ],
    ids=["parent revoked", "parent expired", "itself expired"],
)
async def test_the_change_itself_looks_at_parent_and_time(rig: Rig, fate: str) -> None:
    """Whatever was decided before, and by whom: these rows were changed behind everybody's back."""
    device = rig.enrolled()
    _, ref = pending(rig, device)
    with rig.agent.store.writing(NOW) as writing:
        writing.connection.execute(text(fate))
    assert not await rig.agent.signers.activate(ref)
    assert rig.states(device)[1] == "pending"


async def test_alarms_are_recorded_once_a_minute(rig: Rig) -> None:
    device = rig.enrolled()
    serial = c509.decode_certificate(device.credentials["meter-ds"][1]).serial
    ref = CertificateRef(device.authority, serial)
    for _ in range(3):
        await rig.agent.signers.alarm(ref, "x" * 500)
    await rig.agent.signers.alarm(CertificateRef(bytes(32), b"\x01"), "nobody's")
    rig.clock.now += 61
    await rig.agent.signers.alarm(ref, "again")
    alarms = [entry for entry in rig.events() if entry.event == "alarm"]
    assert [(alarm.serial, alarm.detail) for alarm in alarms] == [(serial, "x" * 120), (serial, "again")]


async def test_message_counters_only_grow(rig: Rig) -> None:
    refs = []
    for _ in range(3):
        device = rig.enrolled()
        serial = c509.decode_certificate(device.credentials["meter-ds"][1]).serial
        refs.append(CertificateRef(device.authority, serial))
    signers = rig.agent.signers
    await signers.save_counters({})
    await signers.save_counters({refs[0]: 5, refs[1]: 2**63 - 1, CertificateRef(bytes(32), b"\x01"): 9})
    await signers.save_counters({refs[0]: 4, refs[2]: 7})
    assert await signers.load_counters() == {refs[0]: 5, refs[1]: 2**63 - 1, refs[2]: 7}
