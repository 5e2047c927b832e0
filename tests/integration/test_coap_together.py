"""One device that asks several things at a time on one path, in blocks."""

import anyio
import pytest

from constrained.client import connect
from constrained.server import Engine
from protocol.labels import Operation
from protocol.ports import Content, Media, Outbound, Reply
from tests.integration.coap_world import ENGINES, PATIENCE, Authority


@pytest.mark.parametrize("engine", ENGINES)
async def test_bodies_that_are_sent_at_the_same_time_are_not_mixed(engine: Engine) -> None:
    authority = Authority(delay=0.005)  # it says what it was told
    bodies = [bytes([number]) * 3000 for number in range(8)]
    replies: list[Reply] = []
    async with authority.serve(engine) as server, connect(server.uris[0]) as device:

        async def ask(body: bytes) -> None:
            replies.append(await device.exchange(Outbound("meter-ds", Operation.SEN, body)))

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                for body in bodies:
                    tasks.start_soon(ask, body)
    assert sorted(one.body for one in authority.heard) == bodies
    assert [one for one in replies if isinstance(one, Content)] == replies
    assert {reply.body for reply in replies if isinstance(reply, Content)} == set(bodies)
    assert {reply.media for reply in replies if isinstance(reply, Content)} == {Media.C509_CERTIFICATE}
