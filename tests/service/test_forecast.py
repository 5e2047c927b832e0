"""A forecast over a real store: what devices will do, what nobody does, and what ends by itself."""

import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.engine import Connection

from agents.authority import BadDirectory, Store, revoke
from agents.authority.forecast import MAX_DAYS, forecast
from agents.authority.load import DAY, By, midnight
from agents.authority.outlook import Forecast
from agents.authority.schema import CERTIFICATES, DEVICES, KEYS
from protocol.exchange.request import RevocationReason
from protocol.labels import Domain
from protocol.profiles import profile_of
from protocol.renewal import renewal_time
from tests.rig import NOW, Device, Rig, rig_in

YEAR = 365 * DAY


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_in(tmp_path) as opened:
        yield opened


def look(rig: Rig, now: float, days: int = 365, by: By = By.DAY) -> Forecast:
    return forecast(rig.agent.store, rig.directory, int(now), days=days, by=by)


def moment(device: Device) -> int:
    from protocol import c509

    certificate = c509.decode_certificate(device.credentials[device.label][1])
    profile = profile_of(device.label)
    due = renewal_time(profile, certificate.not_before, certificate.not_after, device.name)
    assert due is not None
    return due


def test_a_renewal_is_forecast_for_the_day_on_which_its_device_comes(rig: Rig) -> None:
    devices = [rig.enrolled() for _ in range(8)] + [rig.enrolled(Domain.ITS) for _ in range(4)]
    expected = Counter((midnight(moment(device)), device.label) for device in devices)
    found = look(rig, NOW, days=3 * 365)
    told = Counter(
        {(bar.stretch.begins, label): count for bar in found.bars for label, count in bar.renewals.items()}
    )
    assert told == expected
    assert found.renewals == 12
    (ds,) = [label for label in found.labels if label.label == "meter-ds"]
    assert (ds.current, ds.renewals, ds.silent, ds.expiries, ds.lapsed) == (8, 8, 0, 0, 0)
    assert {label.label for label in found.labels} == {"meter-boot", "meter-ds", "its-boot", "its-enroll"}


def test_the_next_generations_are_expected_too(rig: Rig) -> None:
    rig.enrolled()
    assert look(rig, NOW, days=3 * 365).renewals == 1
    assert look(rig, NOW, days=3650, by=By.MONTH).renewals in (3, 4)


def test_whoever_does_not_come_expires(rig: Rig) -> None:
    device = rig.enrolled()
    due = moment(device)
    on_time = look(rig, due + DAY)
    assert on_time.labels[1].silent == 0
    assert on_time.bars[0].renewals == {"meter-ds": 1}
    late = look(rig, due + 3 * DAY)
    assert (late.renewals, late.labels[1].silent, late.labels[1].expiries) == (0, 1, 1)
    (end,) = [bar for bar in late.bars if bar.ends]
    assert end.stretch.begins == midnight(NOW + 3 * YEAR)
    assert end.expiries == {"meter-ds": 1}
    after = look(rig, NOW + 3 * YEAR + DAY)
    assert (after.labels[1].silent, after.labels[1].expiries, after.labels[1].lapsed) == (1, 0, 1)


def test_what_is_revoked_or_superseded_is_not_expected(rig: Rig) -> None:
    device = rig.enrolled()
    rig.enrolled(device=device)
    assert look(rig, NOW, days=3 * 365).renewals == 1
    revoke(rig.agent.store, device.client_id, RevocationReason.CESSATION_OF_OPERATION, NOW)
    assert look(rig, NOW, days=3 * 365).renewals == 0


def test_the_peak_is_measured_against_the_mean_of_a_stretch_as_long(rig: Rig) -> None:
    for _ in range(6):
        rig.enrolled()
    found = look(rig, NOW, days=3 * 365, by=By.MONTH)
    assert found.peak is not None
    mean = 6 / (3 * 365) * found.peak.stretch.days
    assert found.times_mean(found.peak) == pytest.approx(found.peak.load / mean)
    assert found.is_exceptional(found.peak)
    assert look(rig, NOW, days=30).peak is None


def test_ends_of_cas_are_told_and_from_when_on_they_shorten_what_they_issue(rig: Rig) -> None:
    rig.enrolled()
    found = look(rig, NOW)
    ends = [ca.not_after for ca in found.cas if ca.not_after is not None]
    assert ends == sorted(ends)
    assert len(found.cas) == len(list((rig.directory / "certificates").glob("*.pem")))
    issuers = [ca for ca in found.cas if ca.shortens_from is not None]
    (issuer,) = issuers
    assert issuer.not_after is not None
    assert issuer.shortens_from == issuer.not_after - 3 * YEAR
    (rig.directory / "certificates" / "zz.pem").write_text("no certificate")
    with pytest.raises(BadDirectory, match=r"zz\.pem"):
        look(rig, NOW)


def test_revocation_lists_grow_with_renewals_and_shrink_when_certificates_end(rig: Rig) -> None:
    for _ in range(4):
        rig.enrolled()
    rig.enrolled(device=rig.enrolled())
    (now,) = look(rig, NOW, days=30).lists
    assert (now.domain, now.entries, now.most) == (Domain.METERING, 1, 1)
    (later,) = look(rig, NOW, days=3 * 365).lists
    assert (later.entries, later.most) == (1, 6)
    assert 6 * 30 < later.most_bytes < 6 * 60 + 400
    # Once the first has ended, it is on no list.
    assert look(rig, NOW + 3 * YEAR + 3 * DAY, days=30).lists == ()


@pytest.mark.parametrize("days", [0, -1, MAX_DAYS + 1])
def test_a_forecast_has_a_day_at_least_and_ten_years_at_most(rig: Rig, days: int) -> None:
    with pytest.raises(ValueError, match="days"):
        look(rig, NOW, days=days)


def test_an_empty_store_has_a_calm_future(rig: Rig) -> None:
    found = look(rig, NOW, by=By.MONTH)
    assert (found.renewals, found.labels, found.lists, found.peak) == (0, (), (), None)
    assert found.times_mean(found.bars[0]) == 0
    assert found.bars[0].stretch.begins == midnight(NOW)
    assert datetime.fromtimestamp(found.bars[1].stretch.begins, UTC).day == 1


def test_a_fleet_of_thousands_is_forecast_in_a_moment(tmp_path: Path) -> None:
    """A million takes five seconds on one core; a fiftieth of it must not take a second."""
    size, life = 20_000, 3 * YEAR
    store = Store(tmp_path / "store.sqlite", create=True)
    try:
        with store.writing(NOW) as writing:
            _fill(writing.connection, size, life)
        (tmp_path / "certificates").mkdir()
        begin = time.process_time()
        found = forecast(store, tmp_path, NOW, days=3 * 365, by=By.WEEK)
        assert time.process_time() - begin < 1.0
    finally:
        store.close()
    assert found.renewals == size
    assert found.peak is not None
    # Enrolled in one hour; back over 110 days: no week has much more than its share of them.
    assert found.peak.load < 1.15 * size * 7 / 109.5


def _fill(connection: Connection, size: int, life: int) -> None:
    devices = [
        {
            **{column.name: "" for column in DEVICES.columns},
            "id": n,
            "name": f"54524C{n:010X}",
            "maker": bytes(32),
            "client_id": str(n),
            "epoch": 0,
            "registered_at": NOW,
        }
        for n in range(size)
    ]
    connection.execute(DEVICES.insert(), devices)
    rows: list[dict[str, object]] = [
        {
            "id": n,
            "authority": bytes(32),
            "serial": n.to_bytes(8),
            "label": "meter-ds",
            "device_id": n,
            "not_before": NOW + n * 3600 // size - 300,
            "not_after": NOW + n * 3600 // size + life,
        }
        for n in range(size)
    ]
    connection.execute(KEYS.insert(), [row | {"key_hash": n.to_bytes(32)} for n, row in enumerate(rows)])
    more = {"state": "current", "algorithm": -7, "public_key": b"", "encoded": b"", "issued_at": NOW}
    connection.execute(CERTIFICATES.insert(), [row | more | {"thumbprint": row["serial"]} for row in rows])
