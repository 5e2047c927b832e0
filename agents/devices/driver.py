"""Drives a device's machine over a transport; it does not know CoAP from MQTT.

The machine says what to store, what to send and until when to wait; whatever the transport brings, or
that it brought nothing, goes back into the machine.
"""

from collections.abc import Callable
from typing import Protocol

import anyio
from anyio import to_thread

from protocol.errors import Unreachable
from protocol.exchange.device import State
from protocol.exchange.device_effects import Done, Effect, Effects, Fail, Send
from protocol.ports import DeviceTransport, Outbound, Reply

Progress = Callable[[str, State], None]
"""Told (label, state) each time an exchange comes to another state."""


class Machine(Protocol):
    """`protocol.exchange.device.Enrollment`, or `device_return.GiveBack`."""

    @property
    def state(self) -> State: ...  # noqa: D102
    @property
    def deadline(self) -> float: ...  # noqa: D102
    def start(self, now: float) -> Effects: ...  # noqa: D102
    def receive(self, reply: Reply, now: float, jitter: float) -> Effects: ...  # noqa: D102
    def timeout(self, now: float, jitter: float) -> Effects: ...  # noqa: D102


async def run_exchange(
    machine: Machine,
    transport: DeviceTransport,
    store: Callable[[Effect], None],
    *,
    jitter: Callable[[], float],
    on_state: Callable[[State], None],
) -> None:
    """Run one exchange to its end.

    Args:
        machine: Not started.
        transport: Connected.
        store: Does one effect durably; called in a worker thread.
        jitter: Draws a random number, >= 0 and < 1.
        on_state: Told each state once.

    Raises:
        RequestRejected: The authority's signed no.
        CertificateUnusable: The authority's certificate is not as it should be, and the authority was told.
        ExchangeTimeout: Out of time; what is stored goes on at the next start.
        OSError: The disk failed.

    Cancellation: anywhere but inside a write; what is stored goes on at the next start.
    """
    effects = machine.start(anyio.current_time())
    state = State.IDLE
    while True:
        outgoing: Outbound | None = None
        for effect in effects:
            match effect:
                case Send(request):
                    outgoing = request
                case Done():
                    on_state(machine.state)
                    return
                case Fail(error):
                    on_state(machine.state)
                    raise error
                case _:
                    await to_thread.run_sync(store, effect)
        if machine.state is not state:
            state = machine.state
            on_state(state)
        reply = await _reply(transport, outgoing, machine.deadline)
        now = anyio.current_time()
        effects = machine.timeout(now, jitter()) if reply is None else machine.receive(reply, now, jitter())


async def _reply(transport: DeviceTransport, outgoing: Outbound | None, deadline: float) -> Reply | None:
    """Return what comes until the deadline; None at once where nothing can come."""
    with anyio.move_on_at(deadline):
        if outgoing is None:
            await anyio.sleep_forever()
        else:
            try:
                return await transport.exchange(outgoing)
            except Unreachable:
                return None
    return None
