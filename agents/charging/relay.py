"""A station passes its cars' questions on to its back end, and the answers back, as they are.

It is trusted with delivery only: what it carries is protected from end to end (`protocol.exchange`,
`protocol.ev.package`), and no private key is ever in its hands. What it carries, how much and how long it
keeps anybody waiting is in `agents.charging.errands`.
"""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import anyio
from anyio.abc import TaskGroup

from agents.charging.errands import Bounds, Counts, Errand, Errands
from agents.charging.journal import Journal
from protocol.errors import ProblemKind, Unreachable
from protocol.labels import Operation
from protocol.ports import DeviceTransport, Inbound, Outbound, Pending, Reply
from protocol.problem import Problem

Back = Callable[[], AbstractAsyncContextManager[DeviceTransport]]
"""Opens a way to the back end, or lends the one that is open."""

OPERATIONS: Final = frozenset({Operation.CRTS, Operation.ATT, Operation.SKG, Operation.CONF, Operation.CRL})
"""What a car asks at a station; whatever else is not for a cable in public."""
LONGEST_ATTEMPT: Final = 64.0
"""Longest attempt at the back end, in seconds: a long answer on a bad line takes its time."""
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 8.0

_log: Final = logging.getLogger(__name__)


class Relay:
    """Made by `open_relay`.

    Args:
        backs: The way to the back end for each label that cars may ask for.
        lists: Labels of which only the revocation list is passed on: a station's own, which a car asks for to
            know whether the station is still one.
        bounds: How many cars, how long.
        journal: What was carried for whom.
        tasks: Runs the errands.
    """

    def __init__(
        self,
        backs: Mapping[str, Back],
        lists: frozenset[str],
        bounds: Bounds,
        journal: Journal,
        tasks: TaskGroup,
    ) -> None:
        self._backs = backs
        self._lists = lists
        self._errands = Errands(bounds)
        self._journal = journal
        self._tasks = tasks
        self._runners: dict[Errand, _Runner] = {}

    @property
    def counts(self) -> Counts:
        """What was done since the start."""
        return self._errands.counts

    @property
    def kept(self) -> int:
        """Answers that wait for their cars."""
        return self._errands.kept

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of which something is passed on."""
        return tuple(self._backs)

    async def handle(self, inbound: Inbound) -> Reply:
        """Answer a car: `protocol.ports.Handler`.

        Cancellation: anywhere; the errand goes on for a while, and the car finds the answer at its next try.
        """
        served = {Operation.CRL} if inbound.label in self._lists else OPERATIONS
        if inbound.label not in self._backs or inbound.op not in served:
            return Problem(ProblemKind.NOT_FOUND, "not at a charging station")
        started = anyio.current_time()
        question = Outbound(inbound.label, inbound.op, inbound.body, inbound.accept, inbound.base)
        errand = self._errands.ask(inbound.source, question, started)
        if isinstance(errand, Problem):
            return errand
        try:
            if errand.reply is None:
                changed = self._watch(errand)
                with anyio.move_on_at(self._errands.deadline(started)):
                    await changed.wait()
        except BaseException:
            self._errands.abandon(errand, inbound.source)
            raise
        now = anyio.current_time()
        reply = self._errands.left(errand, inbound.source, now)
        self._journal.relayed(inbound, reply, now - started)
        return reply

    def _watch(self, errand: Errand) -> anyio.Event:
        """Return what is set when the errand is answered; see that somebody does it."""
        runner = self._runners.get(errand)
        if runner is None:
            back = self._backs[errand.question.label]
            runner = self._runners[errand] = _Runner(self._errands, errand, back)
            errand.on_change = runner.change
            self._tasks.start_soon(self._do, runner)
        return runner.changed

    async def _do(self, runner: "_Runner") -> None:
        try:
            await runner.run()
        finally:
            del self._runners[runner.errand]


class _Runner:
    """Does one errand: asks the back end until there is an answer, or nobody wants it any more."""

    def __init__(self, errands: Errands, errand: Errand, back: Back) -> None:
        self.errand = errand
        self.changed = anyio.Event()
        self._errands = errands
        self._back = back
        self._scope = anyio.CancelScope()

    def change(self) -> None:
        """Take note that the errand was answered or dropped."""
        self.changed.set()
        if self.errand.is_gone:
            self._scope.cancel()

    async def run(self) -> None:
        """Do it."""
        pause, attempt = _FIRST_PAUSE, self._errands.bounds.ask_again
        with self._scope:
            while self._errands.is_wanted(self.errand, anyio.current_time()):
                started = anyio.current_time()
                reply = await self._try(attempt)
                now = anyio.current_time()
                match reply:
                    case None:
                        await anyio.sleep_until(started + pause)  # which silence may have taken already
                        pause = min(2 * pause, _LONGEST_PAUSE)
                        attempt = min(2 * attempt, LONGEST_ATTEMPT)
                    case Pending(seconds):
                        await anyio.sleep_until(self._errands.wait(self.errand, now, seconds))
                    case _:
                        self._errands.answered(self.errand, reply, now)

    async def _try(self, seconds: float) -> Reply | None:
        """Return the back end's reply; None where none came in time."""
        with anyio.move_on_after(seconds):
            try:
                async with self._back() as transport:
                    return await transport.exchange(self.errand.question)
            except Unreachable as error:
                _log.info("the back end cannot be reached: %s", error)
        return None


@asynccontextmanager
async def open_relay(
    backs: Mapping[str, Back],
    *,
    lists: frozenset[str] = frozenset(),
    bounds: Bounds | None = None,
    journal: Journal | None = None,
) -> AsyncGenerator[Relay]:
    """Open a relay; what it does for cars ends with the block.

    Args:
        backs: The way to the back end for each label that cars may ask for.
        lists: Those labels of which only the revocation list is passed on.
        bounds: How many cars, how long.
        journal: What was carried for whom; None: nowhere.
    """
    async with anyio.create_task_group() as tasks:
        try:
            yield Relay(backs, lists, bounds or Bounds(), journal or Journal(), tasks)
        finally:
            tasks.cancel_scope.cancel()
