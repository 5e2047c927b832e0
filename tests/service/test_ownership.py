"""Devices change hands among real authorities; the devices are real, too."""

from pathlib import Path

import pytest

from agents.authority.audit import Event, read_record
from agents.devices.meter import FULL_METER
from protocol.errors import ProblemKind
from protocol.ports import SignedRefusal
from tests.owners_world import House, Way, country, make_template, opened

SERVICES = FULL_METER.labels


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("country"))


def told(way: Way) -> list[ProblemKind]:
    """Return why requests were refused, signed."""
    return [reply.problem.kind for reply in way.replies if isinstance(reply, SignedRefusal)]


def audit_of(house: House, event: Event) -> list[str]:
    with house.agent.store.reading() as connection:
        rows = connection.exec_driver_sql("SELECT record FROM audit ORDER BY sequence")
        entries = [read_record(row[0]).entry for row in rows]
    return [entry.detail for entry in entries if entry.event is event]


@pytest.mark.parametrize("by_maker", [False, True], ids=["by the authority", "by the maker"])
async def test_a_meter_that_slept_through_it_goes_with_its_new_tenant_by_itself(
    template: Path, tmp_path: Path, by_maker: bool
) -> None:
    async with country(template, tmp_path) as land, opened(land.meters[0]) as device:
        north, way = land["north"], Way(land["north"])
        await FULL_METER.enroll(device, way)
        (handed,) = north.transfer([device.identity.device], "Tenant", by_maker=by_maker)
        assert (handed.epoch, handed.is_new, handed.ended) == (1, True, 3)
        for label in SERVICES:
            assert north.states(device.identity.client_id, label) == ["revoked"]
        assert north.states(device.identity.client_id, "meter-boot") == ["current"]
        await device.rekey("meter-ds", way)
        assert told(way) == [ProblemKind.OWNER_CHANGED]
        assert device.status().epoch == 1
        for label in SERVICES:
            assert north.states(device.identity.client_id, label) == ["revoked", "current"], label
        (said,) = audit_of(north, Event.TRANSFER)
        assert "epoch 1: 'Tenant'" in said
        assert "approved by 'alice'" in said
        assert ("by the maker" in said) is by_maker
