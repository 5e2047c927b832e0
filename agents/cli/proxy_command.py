"""`trillium proxy`, which nobody but the lab types: a bad network in front of a running `serve`."""

import sys
from contextlib import AsyncExitStack

import anyio

from agents.cli.addresses import Address, as_text
from agents.cli.ending import stoppable
from agents.proxy import Faults, serve_mqtt, serve_udp

LOOPBACK: Address = ("127.0.0.1", 0)


def run(coap: Address | None, mqtt: Address | None, *, loss: float, seed: int) -> None:
    """Carry datagrams and MQTT, badly, until stopped."""
    anyio.run(_carry, coap, mqtt, Faults.of_loss(loss), seed)


async def _carry(coap: Address | None, mqtt: Address | None, faults: Faults, seed: int) -> None:
    async with stoppable(until_eof=True) as stopped, AsyncExitStack() as stack:
        ready: list[str] = []
        if coap is not None:
            udp = await stack.enter_async_context(serve_udp(LOOPBACK, coap, faults, seed=seed))
            ready.append(f"coap://{as_text(udp.address)}")
        if mqtt is not None:
            tcp = await stack.enter_async_context(serve_mqtt(LOOPBACK, mqtt, faults, seed=seed))
            ready.append(f"mqtt://{as_text(tcp.address)}")
        sys.stdout.write(f"ready {' '.join(ready)}\n")
        sys.stdout.flush()
        await stopped.wait()
