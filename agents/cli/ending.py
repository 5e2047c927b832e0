"""How long-running commands end: SIGTERM, SIGINT, or the end of their standard input if so asked."""

import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskStatus


@asynccontextmanager
async def stoppable(*, until_eof: bool = False) -> AsyncGenerator[anyio.Event, None]:
    """Yield an event that is set on SIGTERM or SIGINT, also if they come while the body still starts.

    Not a cancellation: the body ends in its own order, so that what was taken is finished.

    Args:
        until_eof: Also set it when standard input ends, so that no child outlives whoever started it.
    """
    stopped = anyio.Event()
    async with anyio.create_task_group() as tasks:
        await tasks.start(_on_signal, stopped)
        if until_eof:
            tasks.start_soon(_on_eof, stopped)
        try:
            yield stopped
        finally:
            tasks.cancel_scope.cancel()


async def _on_signal(stopped: anyio.Event, *, task_status: TaskStatus[None]) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            stopped.set()


async def _on_eof(stopped: anyio.Event) -> None:
    while not stopped.is_set():
        await anyio.wait_readable(sys.stdin)
        if not os.read(sys.stdin.fileno(), 4096):
            stopped.set()
