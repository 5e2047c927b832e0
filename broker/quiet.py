"""What strangers cause in the log: seen, and never so much of it that nothing else is."""

import logging
import time
from collections.abc import Callable
from typing import Final

LINES_PER_SECOND: Final = 20
"""Lines that peers cause; the rest of a flood is counted and told with the next line."""


class QuietLog:
    """A logger for what any peer can bring about as often as it likes.

    Args:
        logger: Where the lines go.
        clock: Seconds; never goes back.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._since = -1.0
        self._lines = 0

    def info(self, message: str, *args: object) -> None:
        """Write a line about a peer, or count it."""
        self._write(logging.INFO, message, args, is_fault=False)

    def fault(self, message: str, *args: object) -> None:
        """Write a line about a fault of ours that a peer came upon, with its traceback, or count it."""
        self._write(logging.ERROR, message, args, is_fault=True)

    def _write(self, level: int, message: str, args: tuple[object, ...], *, is_fault: bool) -> None:
        now = self._clock()
        left_out = 0
        if now - self._since >= 1.0:
            left_out = max(0, self._lines - LINES_PER_SECOND)
            self._since, self._lines = now, 0
        self._lines += 1
        if self._lines <= LINES_PER_SECOND:
            if left_out:
                message, args = message + " (and %d more lines before)", (*args, left_out)
            self._logger.log(level, message, *args, exc_info=is_fault)
