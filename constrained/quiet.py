"""A log that strangers cannot flood."""

import logging
import time
from collections.abc import Callable
from enum import Enum
from typing import Final

INTERVAL: Final = 1.0
"""Seconds between two lines that bad input caused: a flood stays readable, one fault stays visible."""


class _Kind(Enum):
    PEER = "a peer's doing"
    FAULT = "a fault of our own"
    TURNED_AWAY = "a request that was turned away"


class QuietLog:
    """What the CoAP side, aiocoap within it, logs through.

    aiocoap 0.4.17 logs several lines for one bad datagram, tracebacks among them. Here its debug and
    info lines are debug, and of everything above at most one line per `INTERVAL` is written, without
    traceback, with a count of those left out. Faults of our own come with their traceback, as often
    as that; so do requests that are turned away, as ordinary events.

    Args:
        logger: Where the lines go.
        clock: Seconds; never goes back.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._next = dict.fromkeys(_Kind, 0.0)
        self._left_out = dict.fromkeys(_Kind, 0)
        self._debug = logger.isEnabledFor(logging.DEBUG)

    def debug(self, message: str, *args: object, **_: object) -> None:
        """Write a line if debugging was on when this log was made."""
        if self._debug:
            self._logger.debug(message, *args)

    info = debug

    def warning(self, message: str, *args: object, **_: object) -> None:
        """Write a line about a peer, or count it."""
        if self._is_due(_Kind.PEER):
            text = message if args else message.replace("%", "%%")
            self._logger.warning(text + "%s", *args, self._count(_Kind.PEER))  # noqa: G003 (formatted there)

    error = warning

    def fault(self, message: str, error: BaseException) -> None:
        """Write a line about a fault of our own, with its traceback, or count it."""
        if self._is_due(_Kind.FAULT):
            self._logger.error("%s%s", message, self._count(_Kind.FAULT), exc_info=error)

    def turned_away(self, source: str, path: tuple[bytes, ...], code: int) -> None:
        """Write a line about a request that no handler was asked for, or count it."""
        if self._is_due(_Kind.TURNED_AWAY):
            self._logger.info(
                "turned %s away from /%.80s: %d.%02d%s",
                source,
                b"/".join(path).decode("ascii", "backslashreplace"),
                code >> 5,
                code & 31,
                self._count(_Kind.TURNED_AWAY),
            )

    def getChild(self, _: str) -> "QuietLog":  # noqa: N802 (logging.Logger's own name)
        """Return this log; aiocoap asks for one per purpose."""
        return self

    def _is_due(self, kind: _Kind) -> bool:
        now = self._clock()
        if now < self._next[kind]:
            self._left_out[kind] += 1
            return False
        self._next[kind] = now + INTERVAL
        return True

    def _count(self, kind: _Kind) -> str:
        left_out, self._left_out[kind] = self._left_out[kind], 0
        return f" (and {left_out} more since the last line)" if left_out else ""
