"""Delivers a signed message: the same bytes until the other side takes them.

The counter in the message makes repeats harmless, so a lost acknowledgement costs a repeat, no more.
"""

from collections.abc import Callable
from typing import Final

import anyio

from protocol.errors import ExchangeTimeout, ProblemKind, RequestRejected, Unreachable
from protocol.exchange.device_pace import Pace, Patience
from protocol.ports import DeviceTransport
from protocol.problem import Problem

MAX_ATTEMPTS: Final = 8
"""A reading is worth minutes, not hours: the next one is on its way."""


async def deliver(
    transport: DeviceTransport,
    stream: str,
    message: bytes,
    patience: Patience,
    jitter: Callable[[], float],
) -> None:
    """Send `message` until it is taken.

    Raises:
        RequestRejected: The other side does not want it, in its own unsigned words.
        ExchangeTimeout: `MAX_ATTEMPTS` times nothing, or not now.
    """
    pace = Pace(patience, anyio.current_time())
    for attempt in range(MAX_ATTEMPTS):
        if pace.is_over(anyio.current_time()):
            break
        pace.sent(anyio.current_time())
        retry_after: float | None = None
        with anyio.move_on_at(pace.deadline):
            try:
                problem = await transport.send_message(stream, message)
            except Unreachable:
                pass
            else:
                if problem is None or (attempt and problem.kind is ProblemKind.STALE_MESSAGE):
                    # Stale at a repeat: it was taken the time before, and the word of it was lost.
                    return
                if not problem.is_temporary:
                    raise _rejected(problem)
                retry_after = problem.retry_after
        if attempt < MAX_ATTEMPTS - 1:
            pace.pause(anyio.current_time(), jitter(), retry_after)
            await anyio.sleep_until(pace.deadline)
    raise ExchangeTimeout("the message could not be delivered")


def _rejected(problem: Problem) -> RequestRejected:
    return RequestRejected(problem.kind, problem.detail, problem.retry_after)
