"""The lab's tour of an industry: a few devices of every kind, for their whole life."""

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio

from agents.lab import tour_ev, tour_metering
from agents.lab.children import Nursery
from agents.lab.failure import first_failure
from agents.lab.ledger import Ledger
from agents.lab.screen import Screen
from agents.lab.stage import Stage
from protocol.labels import Industry

TOURS: Final[Mapping[Industry, Callable[[Stage, AsyncExitStack], Awaitable[None]]]] = {
    Industry.METERING: tour_metering.play,
    Industry.EV: tour_ev.play,
}


@dataclass(frozen=True, slots=True)
class TourSummary:
    """What came of a tour."""

    ledger: Ledger
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether every certificate is as its profile says; that everything happened, the tour saw to."""
        return not any(row.deviations for row in self.ledger.rows.values())

    def to_json(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {"labels": self.ledger.to_json(), "seconds": round(self.seconds, 3)}


class Tour:
    """One tour. `run` it once; `ledger` can be looked at afterwards, also when it failed.

    Args:
        industries: Played one after the other.
        folder: Everything is made there; exists.
        screen: Told each step.
    """

    def __init__(self, industries: tuple[Industry, ...], folder: Path, screen: Screen) -> None:
        self._industries = industries
        self._folder = folder
        self._screen = screen
        self.ledger: Final = Ledger()
        self.logs: Final = folder / "logs"
        """What the programs wrote to stderr, a file for each."""

    async def run(self) -> TourSummary:
        """Play.

        Raises:
            ChildFailed: A program failed.
            LabFailed: Something was refused that should not be, or not refused that should.

        Cancellation: at any point; every program is ended first.
        """
        start = time.monotonic()
        self.logs.mkdir(parents=True, exist_ok=True)
        # For this run's keys only; nobody has to remember it.
        environment = {"TRILLIUM_PASSPHRASE": secrets.token_urlsafe(24)}
        try:
            async with anyio.create_task_group() as tasks:
                nursery = Nursery(tasks, self.logs, environment)
                for industry in self._industries:
                    folder = self._folder / industry.value
                    await anyio.Path(folder).mkdir()
                    stage = Stage(nursery, folder, self._screen, self.ledger)
                    async with stage.open(), AsyncExitStack() as stack:
                        await TOURS[industry](stage, stack)
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise first_failure(group) from None
        return TourSummary(self.ledger, time.monotonic() - start)
