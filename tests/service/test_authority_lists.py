"""Revocation lists in every form: deltas, C509, what is kept and what is made when, over CoAP and MQTT."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from sqlalchemy import text

from agents.authority import Store, revoke
from agents.authority import list_numbers as numbers
from agents.authority.revocation import REFRESH, RevocationList, Revocations
from constrained.client import connect
from constrained.server import serve
from protocol import c509
from protocol.exchange.device_revocations import read_revocation_list
from protocol.exchange.request import RevocationReason
from protocol.labels import Domain, Operation
from protocol.path import Authority, verify_authority
from protocol.ports import Content, Inbound, Media, Outbound
from protocol.revocation_list import decode_list
from protocol.validity import Clock as DeviceClock
from tests.rig import NOW, Rig, open_rig, rig_in

BOTH = (Media.PKIX_CRL, Media.C509_CRL)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_in(tmp_path) as opened:
        yield opened


def lists(rig: Rig) -> Revocations:
    """Return the metering authority's lists, which may be built again at once."""
    revocations = rig.agent._revocations[Domain.METERING]
    revocations._not_again_before = 0.0  # in tests things happen faster than lists may be built
    return revocations


def end_one(rig: Rig) -> bytes:
    """Revoke another meter's certificates; return the serial number of the one that is listed."""
    device = rig.enrolled()
    revoke(rig.agent.store, device.name, RevocationReason.KEY_COMPROMISE, NOW)
    return c509.decode_certificate(device.credentials["meter-ds"][1]).serial


def serials(made: RevocationList) -> set[bytes]:
    if made.media is Media.C509_CRL:
        return set(decode_list(made.encoded).revoked)
    found = x509.load_der_x509_crl(made.encoded)
    return {entry.serial_number.to_bytes(8, "big") for entry in found}


def anyone(rig: Rig) -> Authority:
    """Return the metering authority as a device knows it."""
    known = rig.agent.authorities[Domain.METERING]
    return verify_authority(known.chain, root=known.root, authority=known.key_id, clock=DeviceClock(NOW))


@pytest.mark.parametrize("media", BOTH)
def test_a_delta_has_what_is_new_and_joins_to_the_whole_list(rig: Rig, media: Media) -> None:
    first = end_one(rig)
    before = lists(rig).get(NOW, media)
    second, third = end_one(rig), end_one(rig)
    delta, whole = lists(rig).get(NOW, media, before.number), lists(rig).get(NOW, media)
    assert (delta.base, delta.number, delta.media) == (before.number, whole.number, media)
    assert serials(delta) == {second, third}
    assert serials(whole) == {first, second, third}
    authority, clock = anyone(rig), DeviceClock(NOW)
    read = [
        read_revocation_list(one.encoded, authority, lowest_number=1, clock=clock, media=media, known=known)
        for one, known in (
            (whole, None),
            (
                delta,
                read_revocation_list(before.encoded, authority, lowest_number=1, clock=clock, media=media),
            ),
        )
    ]
    assert read[0] == read[1]


def test_nothing_new_is_a_delta_of_hardly_anything(rig: Rig) -> None:
    end_one(rig)
    whole = lists(rig).current(NOW)
    delta = lists(rig).get(NOW, Media.C509_CRL, whole.number)
    assert serials(delta) == set()
    assert len(delta.encoded) == 110, "numbers of one byte"


@pytest.mark.parametrize("base", [0, -1, 99, 2**62])
@pytest.mark.parametrize("media", BOTH)
def test_a_number_that_nobody_knows_gets_the_whole_list(rig: Rig, base: int, media: Media) -> None:
    serial = end_one(rig)
    made = lists(rig).get(NOW, media, base)
    assert made.base is None
    assert serials(made) == {serial}
    assert made is lists(rig).get(NOW, media), "one and the same, made once"


def test_a_certificate_that_ended_twice_is_in_the_later_delta(rig: Rig) -> None:
    device = rig.enrolled()
    revoke(rig.agent.store, device.name, RevocationReason.CESSATION_OF_OPERATION, NOW)
    before = lists(rig).current(NOW)
    serial = c509.decode_certificate(device.credentials["meter-ds"][1]).serial
    with rig.agent.store.writing(NOW) as writing:
        # As `life.end` does when a retired key turns out stolen.
        writing.connection.execute(
            text("UPDATE certificates SET reason = 1, ended_revision = :now WHERE serial = :serial"),
            {"now": writing.revision, "serial": serial},
        )
    delta = lists(rig).get(NOW, Media.C509_CRL, before.number)
    assert dict(decode_list(delta.encoded).revoked) == {serial: 1}


def test_deltas_go_on_over_a_restart(tmp_path: Path) -> None:
    with rig_in(tmp_path) as rig:
        directory, clock = rig.directory, rig.clock
        end_one(rig)
        before = lists(rig).current(NOW)
        second = end_one(rig)
        after = lists(rig).current(NOW)
    with rig_in(tmp_path, directory=directory, clock=clock) as rig:
        delta = rig.agent._revocations[Domain.METERING].get(NOW, Media.C509_CRL, before.number)
        assert (delta.number, serials(delta)) == (after.number, {second}), "the list was not made anew"


def test_a_list_is_made_once_and_given_out_as_often_as_it_is_asked_for(rig: Rig) -> None:
    end_one(rig)
    for media, base in ((Media.PKIX_CRL, None), (Media.C509_CRL, None), (Media.C509_CRL, 1)):
        assert lists(rig).get(NOW, media, base) is lists(rig).get(NOW + REFRESH - 1, media, base)
    assert lists(rig).get(NOW + REFRESH).number == lists(rig).current(NOW + REFRESH).number == 2


def test_a_long_list_leaves_time_to_read_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.authority.revocation.PAUSE_PER_ENTRY", 3600.0)
    end_one(rig)
    revocations = lists(rig)
    first = revocations.current(NOW)
    end_one(rig)
    assert revocations.current(NOW) is first


def test_numbers_are_thinned_to_the_last_of_each_hour(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "EXACT", 3)
    authority = bytes(32)
    with rig.agent.store.writing(NOW) as writing:
        for number in range(1, 13):
            # Four lists an hour.
            numbers.record(writing.connection, authority, number, number * 10, (number - 1) * 900)
        kept = [n for n in range(1, 13) if numbers.revision_of(writing.connection, authority, n) is not None]
        assert kept == [4, 8, 10, 11, 12]
        assert numbers.last_number(writing.connection, authority) == 12
        assert numbers.last_number(writing.connection, bytes([1]) * 32) == 0


@pytest.mark.parametrize("engine", ["aiocoap", "lean"])
async def test_a_device_gets_form_and_delta_over_coap(engine: str, tmp_path: Path) -> None:
    async with (
        open_rig(tmp_path) as rig,
        serve(
            rig.agent.handle,
            rig.agent.labels,
            bind=("127.0.0.1", 0),
            engine=engine,  # type: ignore[arg-type]  # one of the two by the parameters above
        ) as server,
    ):
        first = end_one(rig)
        await rig.agent.publish()
        number = lists(rig).current(NOW).number
        rig.agent._crl_seen.clear()
        second = end_one(rig)
        lists(rig).current(NOW)
        async with connect(server.uris[0], block_size=64) as device:
            whole = await device.exchange(Outbound("meter-ds", Operation.CRL))
            compact = await device.exchange(Outbound("meter-ds", Operation.CRL, accept=Media.C509_CRL))
            delta = await device.exchange(
                Outbound("meter-ds", Operation.CRL, accept=Media.C509_CRL, base=number)
            )
        assert isinstance(whole, Content)
        assert whole.media is Media.PKIX_CRL
        assert {entry.serial_number for entry in x509.load_der_x509_crl(whole.body)} == {
            int.from_bytes(first, "big"),
            int.from_bytes(second, "big"),
        }
        assert isinstance(compact, Content)
        assert set(decode_list(compact.body).revoked) == {first, second}
        assert isinstance(delta, Content)
        assert set(decode_list(delta.body).revoked) == {second}
        assert len(delta.body) < 140
        assert len({whole.etag, compact.etag, delta.etag}) == 3


async def test_a_new_list_is_announced_as_a_delta_first(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        told: list[tuple[str, bytes]] = []

        async def listener(name: str, body: bytes) -> bool:
            told.append((name, body))
            return True

        rig.agent.add_listener(listener)
        serial = end_one(rig)
        lists(rig)
        await rig.agent.publish()
        names = [name for name, _ in told if "metering" in name]
        assert names == ["crl/metering/delta", "crl/metering/c509", "crl/metering"]
        assert set(decode_list(dict(told)["crl/metering/delta"]).revoked) == {serial}


async def test_a_list_too_long_for_a_broker_is_announced_as_a_delta_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.authority.publisher.MAX_ANNOUNCED", 100)
    async with open_rig(tmp_path) as rig:
        told: list[str] = []

        async def listener(name: str, body: bytes) -> bool:
            told.append(name)
            return True

        rig.agent.add_listener(listener)
        end_one(rig)
        lists(rig)
        await rig.agent.publish()
        assert [name for name in told if "metering" in name] == ["crl/metering/delta"]


async def test_another_process_that_revokes_is_seen_in_every_form(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        device = rig.enrolled()
        inbound = Inbound("meter-ds", Operation.CRL, b"", "coap:192.0.2.1:1", Media.C509_CRL)
        before = await rig.agent.handle(inbound)
        store = Store(rig.directory / "store.sqlite")
        revoke(store, device.name, RevocationReason.KEY_COMPROMISE, NOW)
        store.close()
        rig.agent._crl_seen.clear()
        lists(rig)
        after = await rig.agent.handle(inbound)
        assert isinstance(before, Content)
        assert isinstance(after, Content)
        assert len(decode_list(after.body).revoked) == len(decode_list(before.body).revoked) + 1
