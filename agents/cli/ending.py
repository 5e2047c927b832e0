"""How long-running commands end: SIGTERM, SIGINT, or the end of their standard input if so asked."""

import os
import signal
import sys

import anyio


async def until_stopped(*, until_eof: bool = False) -> None:
    """Return on SIGTERM or SIGINT.

    Args:
        until_eof: Also return when standard input ends, so that no child outlives whoever started it.
    """
    async with anyio.create_task_group() as tasks:
        if until_eof:
            tasks.start_soon(_read_to_end, tasks.cancel_scope)
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                break
        tasks.cancel_scope.cancel()


async def _read_to_end(scope: anyio.CancelScope) -> None:
    while True:
        await anyio.wait_readable(sys.stdin)
        if not os.read(sys.stdin.fileno(), 4096):
            scope.cancel()
            return
