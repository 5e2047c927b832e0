"""A charging station whose back end is reached through a broker."""

from pathlib import Path

import anyio
import pytest

from agents.charging.encounter import meet
from agents.charging.errands import Bounds
from protocol.labels import Operation
from protocol.ports import Content, Outbound, Pending
from tests.charging_world import body_of, make_template, open_street
from tests.integration.coap_world import until


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("charging"))


async def test_a_station_behind_a_broker_carries_the_same(template: Path, tmp_path: Path) -> None:
    async with open_street(template, tmp_path) as street:
        standing = await street.station(back=await street.back_over_mqtt(await street.broker()))
        way, direct = await street.way(standing.uri), await street.way(street.uri)
        await meet(await street.car(), way, address=standing.uri, needs_status=True)
        for op in (Operation.CRTS, Operation.ATT, Operation.CRL):
            question = Outbound("ev-contract", op)
            assert body_of(await way.exchange(question)) == body_of(await direct.exchange(question))


async def test_cars_do_not_wait_for_each_other_at_the_broker(template: Path, tmp_path: Path) -> None:
    async with open_street(template, tmp_path) as street:
        standing = await street.station(back=await street.back_over_mqtt(await street.broker()))
        street.wire.delay = 0.5
        ways = [await street.way(standing.uri) for _ in range(3)]
        started = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for way, op in zip(ways, (Operation.CRTS, Operation.ATT, Operation.CRL), strict=True):
                tasks.start_soon(way.exchange, Outbound("ev-contract", op))
        assert anyio.current_time() - started < 1.3


async def test_a_slow_authority_behind_a_broker_makes_a_car_come_again(
    template: Path, tmp_path: Path
) -> None:
    async with open_street(template, tmp_path) as street:
        back = await street.back_over_mqtt(await street.broker())
        standing = await street.station(back=back, bounds=Bounds(answer_within=0.2, come_back=1.0))
        street.wire.delay = 0.6
        way, question = await street.way(standing.uri), Outbound("ev-contract", Operation.ATT)
        assert await way.exchange(question) == Pending(1.0)
        await until(lambda: standing.station.kept)
        assert isinstance(await way.exchange(question), Content)
