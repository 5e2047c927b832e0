"""Counters that were used: what makes a message good once.

A window of the last 128 counters per certificate, so that messages which overtake each other on the way
are all taken, and a high-water mark on disk. A mark is written on a period, so after a crash (never after
an orderly end) messages of the last period could be taken a second time, and no other ones: what lies at
or below a mark that was read from disk is used.
"""

import logging
from collections.abc import Mapping
from typing import Final

from protocol.errors import ServiceError
from protocol.exchange.facts import CertificateRef, Signers

WINDOW: Final = 128
"""How far a message may be overtaken by later ones of the same certificate and still be taken."""
_ALL: Final = (1 << WINDOW) - 1
_log: Final = logging.getLogger(__name__)


class ReplayWindow:
    """Which counters of one certificate were used.

    Args:
        mark: Highest counter used before; everything up to it is used. None: none is.
    """

    __slots__ = ("_bits", "highest", "is_saved")

    def __init__(self, mark: int | None = None) -> None:
        self.highest = -1 if mark is None else mark
        """Highest counter used, -1 for none."""
        self._bits = _ALL
        """Bit i: whether counter `highest - i` was used; there are none below 0."""
        self.is_saved = True
        """Whether `Counters` need not write it."""

    def was_used(self, counter: int) -> bool:
        """Return whether `counter` was used, or is too old to tell."""
        age = self.highest - counter
        return age >= 0 and (age >= WINDOW or bool(self._bits >> age & 1))

    def use(self, counter: int) -> bool:
        """Use `counter` up, and return whether it was not used before."""
        age = self.highest - counter
        if age < 0:
            self._bits = (self._bits << min(-age, WINDOW) | 1) & _ALL
            self.highest = counter
            return True
        if age >= WINDOW or self._bits >> age & 1:
            return False
        self._bits |= 1 << age
        return True


class Counters:
    """The windows of all certificates that were named in messages.

    At most one for each certificate in the store, about 300 bytes: no stranger can make it grow further.

    Args:
        marks: High-water marks as they were saved.
    """

    def __init__(self, marks: Mapping[CertificateRef, int]) -> None:
        self._windows = {ref: ReplayWindow(mark) for ref, mark in marks.items()}
        self._unsaved: dict[CertificateRef, ReplayWindow] = {}

    def window(self, ref: CertificateRef) -> ReplayWindow:
        """Return the one window of a certificate."""
        window = self._windows.get(ref)
        if window is None:
            window = self._windows[ref] = ReplayWindow()
        return window

    def use(self, ref: CertificateRef, window: ReplayWindow, counter: int) -> bool:
        """Use up `counter` of the certificate that `window` belongs to; return whether it was unused."""
        if not window.use(counter):
            return False
        if window.is_saved:
            window.is_saved = False
            self._unsaved[ref] = window
        return True

    async def save(self, signers: Signers) -> None:
        """Write the marks that are not on disk; those that cannot be written are kept for the next time.

        Cancellation: what was not written is not counted as saved.
        """
        unsaved, self._unsaved = self._unsaved, {}
        if not unsaved:
            return
        for window in unsaved.values():
            window.is_saved = True
        try:
            await signers.save_counters({ref: window.highest for ref, window in unsaved.items()})
        except BaseException as error:
            for window in unsaved.values():
                window.is_saved = False
            self._unsaved |= unsaved
            if not isinstance(error, ServiceError):
                raise
            _log.error("counters were not saved", extra={"why": str(error)})
