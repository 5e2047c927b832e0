"""Readings are made up, plausible, and the same for the same device."""

from agents.devices.readings import GatewayReadings, MeterReadings
from protocol import cbor

DAY = 96  # quarter-hours


def test_the_same_device_makes_the_same_readings() -> None:
    assert MeterReadings(b"a").body(7) == MeterReadings(b"a").body(7)
    assert MeterReadings(b"a").body(7) != MeterReadings(b"b").body(7)
    assert GatewayReadings(b"a").body(7) == GatewayReadings(b"a").body(7)
    assert GatewayReadings(b"a").body(7) != GatewayReadings(b"b").body(7)


def test_a_household_draws_more_in_the_evening_and_its_voltage_is_in_order() -> None:
    for name in (b"a", b"b", b"c"):
        meter = MeterReadings(name)
        night = sum(meter.power(index) for index in range(8, 16))
        evening = sum(meter.power(index) for index in range(74, 82))
        assert evening > night
        for index in range(DAY):
            reading = cbor.decode(meter.body(index))
            assert 2070 <= reading[3] <= 2530, "EN 50160: 230 V within a tenth"
            assert 0 < reading[2] < 5000


def test_a_vehicle_moves_on_and_its_battery_empties() -> None:
    readings = [cbor.decode(GatewayReadings(b"v").body(index)) for index in range(0, 3600, 60)]
    odometer, charge = [r[1] for r in readings], [r[3] for r in readings]
    assert odometer == sorted(odometer)
    assert charge == sorted(charge, reverse=True)
    assert all(0 < r[2] < 5000 for r in readings)


def test_a_reading_fits_a_small_datagram() -> None:
    assert len(MeterReadings(b"a").body(10**6)) < 30
    assert len(GatewayReadings(b"a").body(10**4)) < 30
