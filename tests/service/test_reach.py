"""The report on whom a revocation can have reached: what it counts, and what it does not claim."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.authority import (
    Fetches,
    InventoryError,
    Reached,
    Removal,
    confirm_removal,
    list_numbers,
    reach,
    revoke,
)
from agents.authority.reach_counts import KEPT, PERIOD, ReachCounts
from agents.authority.reports import Reports
from agents.ocsp import open_responder
from protocol import c509
from protocol.exchange.request import RevocationReason
from protocol.held import HeldCertificate, HeldReport, HeldState
from protocol.labels import Domain, Operation
from protocol.ports import Content, Inbound, Media
from tests.rig import NOW, PASSPHRASE, Device, Rig, certificate_of, new_key, open_rig, rig_in
from tests.service.test_ocsp import ca_of, question

DS = "meter-ds"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_in(tmp_path) as opened:
        yield opened


def held(device: Device, label: str = DS) -> bytes:
    return device.credentials[label][1]


def serial_of(device: Device, label: str = DS) -> bytes:
    return c509.decode_certificate(held(device, label)).serial


def revoke_ds(rig: Rig, device: Device) -> None:
    revoke(
        rig.agent.store, serial_of(device).hex(), RevocationReason.CESSATION_OF_OPERATION, int(rig.clock())
    )


def make_list(rig: Rig) -> int:
    """Make a new list if something ended; return its number."""
    revocations = rig.agent._revocations[Domain.METERING]
    revocations._not_again_before = 0.0  # in tests things happen faster than lists may be built
    return revocations.current(int(rig.clock())).number


def about(rig: Rig, device: Device, label: str = DS) -> Reached:
    (found,) = [one for one in reach(rig.agent.store) if one.serial == serial_of(device, label)]
    return found


def test_nothing_revoked_is_nothing_to_report(rig: Rig) -> None:
    rig.enrolled()
    assert reach(rig.agent.store) == []


def test_the_first_list_that_carries_a_certificate_is_named(rig: Rig) -> None:
    device, other = rig.enrolled(), rig.enrolled()
    make_list(rig)
    revoke_ds(rig, device)
    assert about(rig, device).listed is None, "on no list yet"
    rig.clock.now += 60
    number = make_list(rig)
    revoke_ds(rig, other)
    make_list(rig)
    listed = about(rig, device).listed
    assert listed is not None
    assert (listed.number, listed.at, listed.is_exact) == (number, NOW + 60, True)
    found = about(rig, other).listed
    assert found is not None
    assert found.number == number + 1


def test_where_older_lists_are_forgotten_the_report_says_at_latest(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_numbers, "EXACT", 2)
    devices = [rig.enrolled() for _ in range(6)]
    for device in devices:
        revoke_ds(rig, device)
        make_list(rig)
    first, last = about(rig, devices[0]).listed, about(rig, devices[-1]).listed
    assert first is not None
    assert last is not None
    assert not first.is_exact
    assert last.is_exact


def test_a_makers_certificates_are_on_no_list_of_ours(rig: Rig) -> None:
    device = rig.enrolled()
    revoke(rig.agent.store, device.name, RevocationReason.KEY_COMPROMISE, NOW)
    make_list(rig)
    found = about(rig, device, "meter-boot")
    assert (found.is_published, found.listed) == (False, None)
    assert about(rig, device).is_published


async def test_lists_and_answers_that_were_given_out_are_counted_by_channel(tmp_path: Path) -> None:
    async with (
        open_rig(tmp_path) as rig,
        open_responder(rig.agent, rig.directory, PASSPHRASE, clock=rig.clock) as responder,
    ):
        device, other = rig.enrolled(), rig.enrolled()
        crl = Inbound(DS, Operation.CRL, b"", "coap:192.0.2.1:1")
        await rig.agent.handle(crl)
        rig.agent.reach.write(NOW, is_last=True)
        revoke_ds(rig, device)
        make_list(rig)
        rig.agent._crl_seen.clear()
        for inbound in (crl, crl, Inbound(DS, Operation.CRL, b"", "mqtt:some", Media.C509_CRL, 1)):
            assert isinstance(await rig.agent.handle(inbound), Content)
        for asked in (device, device, other):
            serial = int.from_bytes(serial_of(asked), "big")
            await responder.answer(question(ca_of(rig), serial))
        rig.agent.reach.write(NOW + 60, is_last=True)
        found = about(rig, device)
        assert found.fetches == {"coap": Fetches(2, NOW), "mqtt": Fetches(1, NOW)}
        assert found.ocsp == Fetches(2, NOW)


async def test_an_announcement_that_a_broker_took_counts_once(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        took = True

        async def listener(_name: str, _body: bytes) -> bool:
            return took

        rig.agent.add_listener(listener)
        device, other = rig.enrolled(), rig.enrolled()
        revoke_ds(rig, device)
        make_list(rig)
        await rig.agent.publish()
        took = False
        revoke_ds(rig, other)
        make_list(rig)
        await rig.agent.publish()
        rig.agent.reach.write(NOW, is_last=True)
        assert about(rig, device).fetches == {"announced": Fetches(1, NOW)}
        assert about(rig, other).fetches == {}


def test_counts_understate_and_outlive_the_process(tmp_path: Path) -> None:
    with rig_in(tmp_path) as rig:
        directory, clock, authority = rig.directory, rig.clock, rig.agent.authorities[Domain.METERING].key_id
        device = rig.enrolled()
        before = make_list(rig)
        revoke_ds(rig, device)
        after = make_list(rig)
        counts = ReachCounts(rig.agent.store)
        counts.write(NOW)
        counts.fetched(authority, "coap", before, NOW)
        counts.fetched(authority, "coap", after, NOW)
        counts.write(NOW + PERIOD - 1)
        assert about(rig, device).fetches == {}, "not written yet"
        counts.write(NOW + PERIOD)
        assert about(rig, device).fetches == {}, "both count for the older list"
        counts.fetched(authority, "coap", after, NOW + PERIOD)
        counts.write(NOW + 2 * PERIOD)
    with rig_in(tmp_path, directory=directory, clock=clock) as rig:
        assert about(rig, device).fetches == {"coap": Fetches(1, NOW + PERIOD)}
        rig.agent.reach.fetched(authority, "mqtt", after, NOW + PERIOD + KEPT)
        rig.agent.reach.write(NOW + 2 * PERIOD + KEPT, is_last=True)
        assert list(about(rig, device).fetches) == ["mqtt"], "counts are not kept for ever"


def report(rig: Rig, device: Device, *certificates: bytes, number: int = 0) -> None:
    """Let a device's report of what it holds come in."""
    held_now = tuple(
        HeldCertificate(DS, c509.thumbprint(encoded), HeldState.CURRENT) for encoded in certificates
    )
    body = HeldReport(device.authority, 0, (), (), number, held_now).encode()
    reports = Reports(rig.agent.store, rig.clock)
    reports._keep({device.client_id: (int(rig.clock()), body)}, int(rig.clock()))


def test_devices_that_have_verified_the_list_are_counted(rig: Rig) -> None:
    device, informed, late = rig.enrolled(), rig.enrolled(), rig.enrolled()
    before = make_list(rig)
    revoke_ds(rig, device)
    after = make_list(rig)
    report(rig, informed, number=after)
    report(rig, late, number=before)
    assert about(rig, device).devices == 1


def test_a_meter_needs_a_removal_command_until_somebody_says_otherwise(rig: Rig) -> None:
    device = rig.enrolled()
    revoke_ds(rig, device)
    assert about(rig, device).removal is Removal.NEEDED
    report(rig, device, held(device))
    assert about(rig, device).removal is Removal.HELD
    report(rig, device)
    assert about(rig, device).removal is Removal.REPORTED_GONE
    assert confirm_removal(rig.agent.store, device.name, serial_of(device), NOW)
    assert about(rig, device).removal is Removal.CONFIRMED
    assert not confirm_removal(rig.agent.store, device.name, serial_of(device), NOW), "no news"
    assert [entry.serial for entry in rig.events() if entry.event == "remove"] == [serial_of(device)]


def test_a_report_from_before_the_revocation_says_nothing(rig: Rig) -> None:
    device = rig.enrolled()
    report(rig, device)
    rig.clock.now += 1
    revoke_ds(rig, device)
    assert about(rig, device).removal is Removal.NEEDED


def test_what_the_meter_gave_back_or_replaced_needs_none(rig: Rig) -> None:
    giver, replacer = rig.enrolled(), rig.enrolled()
    certificate_of_giver = held(giver)
    assert isinstance(rig.ask(giver.give_back(certificate_of_giver)), Content)
    assert about(rig, giver).removal is Removal.GIVEN_BACK
    revoke_ds(rig, replacer)
    key = new_key()
    certificate = certificate_of(rig.ask(replacer.enroll(key)))
    assert about(rig, replacer).removal is Removal.NEEDED, "the next one is not confirmed"
    rig.ask(replacer.holding(DS, key, certificate).confirm(certificate))
    assert about(rig, replacer).removal is Removal.REPLACED


def test_whoever_asks_for_revocations_needs_none_either(rig: Rig) -> None:
    vehicle = rig.enrolled(Domain.ITS)
    revoke(rig.agent.store, vehicle.name, RevocationReason.KEY_COMPROMISE, NOW)
    assert about(rig, vehicle, "its-enroll").removal is Removal.NOT_NEEDED


def test_a_clients_certificate_is_on_meters_that_nobody_here_knows(rig: Rig) -> None:
    device = rig.enrolled()
    revoke_ds(rig, device)
    with rig.agent.store.writing(NOW) as writing:
        writing.connection.exec_driver_sql(
            "UPDATE certificates SET label = 'client-ds' WHERE label = 'meter-ds'"
        )
    assert about(rig, device).removal is Removal.ELSEWHERE


def test_only_what_ended_can_be_removed(rig: Rig) -> None:
    device, other = rig.enrolled(), rig.enrolled()
    with pytest.raises(InventoryError, match="revoke it before"):
        confirm_removal(rig.agent.store, device.name, serial_of(device), NOW)
    revoke_ds(rig, device)
    with pytest.raises(InventoryError, match="never had"):
        confirm_removal(rig.agent.store, other.name, serial_of(device), NOW)
    with pytest.raises(InventoryError, match="no device"):
        confirm_removal(rig.agent.store, "nobody", serial_of(device), NOW)
