"""One whole rollover over every broker with its access rules, and over CoAP on a network that loses a lot."""

from pathlib import Path

import anyio
import pytest

from agents.metering.rollover import Order
from agents.proxy import Faults, serve_udp
from constrained.client import Retransmission
from constrained.client import connect as connect_coap
from constrained.server import serve as serve_coap
from protocol.labels import Operation
from protocol.metering.agreement import Scheme
from protocol.ports import Handler, Inbound, Reply
from tests.integration.mqtt_world import Certificates, certificates, never_blocking
from tests.integration.test_mqtt_exchange import OpenWorld, every_broker, scene
from tests.mail_world import Estate, make_estate, open_estate, roll_while_polling, understand_each_other

__all__ = ["certificates", "never_blocking"]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_estate(tmp_path_factory.mktemp("estate"), meters=1, head_ends=1)


def handler_of(estate: Estate) -> Handler:
    async def handle(inbound: Inbound) -> Reply:
        is_mail = inbound.op is Operation.MAIL
        return await (estate.office.handle(inbound) if is_mail else estate.agent.handle(inbound))

    return handle


@every_broker
async def test_over_every_broker_with_nothing_but_the_rights_of_devices(
    open_world: OpenWorld, certificates: Certificates, template: Path, tmp_path: Path
) -> None:
    async with (
        open_estate(template, tmp_path / "estate") as estate,
        scene(open_world, certificates, handler_of(estate)) as (world, _, _),
        world.device("54524C0000000001") as to_head_end,
        world.device("54524C0000000002") as to_meter,
    ):
        meter, head_end = await estate.meter(), await estate.head_end()
        with anyio.fail_after(20):
            await meter.poll(to_meter)
            for _ in range(2):
                assert not (await head_end.rollover(Order(give_up=0), to_head_end)).done
                await meter.poll(to_meter)
            outcome = await head_end.rollover(Order(give_up=0), to_head_end)
        title = estate.title(estate.folders("meter-boot")[0])
        assert outcome.done == {title}
        assert understand_each_other(meter, title, head_end.keys(title)[0])


async def test_over_coap_where_a_fifth_of_all_datagrams_is_lost(template: Path, tmp_path: Path) -> None:
    hasty = Retransmission(ack_timeout=0.05)
    async with open_estate(template, tmp_path / "estate") as estate:
        server = serve_coap(handler_of(estate), estate.agent.labels, bind=("127.0.0.1", 0), engine="lean")
        async with (
            server as opened,
            serve_udp(("127.0.0.1", 0), opened.addresses[0], Faults.of_loss(0.2), seed=5) as proxy,
            connect_coap(f"coap://127.0.0.1:{proxy.address[1]}", retransmission=hasty) as transport,
        ):
            head_end, meters = await estate.head_end(), [await estate.meter()]
            for meter in meters:
                await meter.poll(transport)
            order = Order(scheme=Scheme.ONE_PASS, give_up=30)
            outcome = await roll_while_polling(head_end, meters, order, transport)
            assert proxy.counts.dropped > 0
        assert len(outcome.done) == 1
        for meter, folder in zip(meters, estate.folders("meter-boot"), strict=True):
            assert head_end.keys(estate.title(folder)) == (meter.keys,)
