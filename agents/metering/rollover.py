"""The head-end's side at work: new keys for one meter, for all of them, or for those whose keys are old.

    head_end = await HeadEndKeys.open(device)
    outcome = await head_end.rollover(Order(), transport)

Round after round: begin with as many as there are places for, leave their letters, ask who has written,
answer those. Neither side waits for the other to be online; whatever ends a run, the next one goes on from
what is on disk.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio import to_thread

from agents.devices.agent import Device, DeviceError
from agents.metering import carrier
from agents.metering.head_end import Heard, Register
from agents.metering.parties import Own, party_of
from protocol.errors import EnrollmentError, RequestRejected
from protocol.metering.agreement import Scheme
from protocol.metering.keys import KeySet
from protocol.metering.mail import Visit, name_of
from protocol.metering.rollover import Offered, Reason, Refused
from protocol.metering.schedule import MeterRecord, Policy, choose
from protocol.metering.title import SystemTitle
from protocol.ports import DeviceTransport

AT_ONCE: Final = 16
"""Meters whose letters are carried at a time; far below the verifier's window for counters."""
MAX_TURNS: Final = 8
"""Letters of one meter in one round."""
MAX_TRIES: Final = 3
"""Beginnings with one meter in one run, where the one before was refused for what the next one may mend."""
ABANDON_SECONDS: Final = 7 * 24 * 3600.0
"""After this an offer that nobody has answered makes room for others; the mailbox keeps it no longer."""
POSTPONE_SECONDS: Final = 3600.0
"""Until a scheduled run tries again with a meter that has refused."""
_SHORTEST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
"""Seconds between two rounds: shorter as long as somebody writes."""
_MENDED_BY_NEXT: Final = frozenset({Reason.STALE, Reason.KEYS_DIFFER, Reason.UNKNOWN_GENERATION})

_RANDOM: Final = random.SystemRandom()
Letters = dict[SystemTitle, bytes]
Act = Callable[[SystemTitle, float], Heard]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a run does."""

    meters: frozenset[SystemTitle] | None = None
    """Which; None: all that have written."""
    scheme: Scheme = Scheme.EPHEMERAL
    every: float | None = None
    """Only those whose keys are nearly so old, in seconds (`protocol.metering.schedule`); None: all, now."""
    parallel: int = 1000
    """Rollovers under way at a time. An offer that a meter has not fetched yet counts, too."""
    give_up: float = 60.0
    """Seconds until the run ends; what is under way then goes on with the next one."""


@dataclass(slots=True)
class Outcome:
    """What came of a run, so far."""

    wanted: set[SystemTitle] = field(default_factory=set)
    """Meters that it is about."""
    done: set[SystemTitle] = field(default_factory=set)
    """Of these, who use new keys."""
    failed: dict[SystemTitle, str] = field(default_factory=dict)
    """Of these, who do not, and why."""

    @property
    def waiting(self) -> set[SystemTitle]:
        """Of these, whose word is still to come."""
        return self.wanted - self.done - self.failed.keys()


Progress = Callable[[Outcome], None]


class HeadEndKeys:
    """A head-end and the keys that it shares with its meters. Use `open`.

    Args:
        device: Open as long as this is used.
        register: Its meters.
    """

    def __init__(self, device: Device, register: Register) -> None:
        self._device = device
        self.register: Final = register

    @classmethod
    async def open(cls, device: Device) -> "HeadEndKeys":
        """Read what a head-end has.

        Raises:
            DeviceError: No head-end.
            CabinetError: What is stored cannot be read.
        """
        party = party_of(device.identity, is_meter=False)
        return cls(device, await device.lend(lambda bearer: Register.of(party, bearer)))

    def keys(self, meter: SystemTitle) -> tuple[KeySet, ...]:
        """Return what the meter may be using: send under the first, take under any; KeyError if unknown."""
        return self.register.keys(meter)

    async def rollover(
        self, order: Order, transport: DeviceTransport, *, progress: Progress | None = None
    ) -> Outcome:
        """Give meters new keys.

        Args:
            order: Which meters, and how.
            transport: Connected.
            progress: Told the outcome, which goes on changing, whenever it has.

        Returns:
            What came of it until everything was done or time was over.

        Raises:
            DeviceError: A certificate is missing, or no such meter has written yet.
            RequestRejected: The mailbox does not know the head-end.
            ExchangeTimeout: Nobody answers; the next run goes on.

        Cancellation: anywhere; the next run goes on.
        """
        end = anyio.current_time() + order.give_up
        party = party_of(self._device.identity, is_meter=False)
        name = self._device.identity.device
        own = await self._device.lend(lambda bearer: Own.of(bearer, party, name))
        revoked = (await self._device.fetch_revocations(transport)).serials
        self.register.believe(own, revoked)
        run = _Run(self._device, self.register, order, transport, progress)
        await run.carry({})
        run.choose_meters()
        pause = _SHORTEST_PAUSE
        while True:
            letters = await to_thread.run_sync(run.letters_to_leave, anyio.current_time())
            was_active = await run.carry(letters)
            run.tell()
            if run.is_over or anyio.current_time() >= end:
                return run.outcome
            pause = _SHORTEST_PAUSE if was_active else min(2 * pause, _LONGEST_PAUSE)
            await anyio.sleep(max(0.0, min(pause, end - anyio.current_time())))


class _Run:
    """One run of `HeadEndKeys.rollover`."""

    def __init__(
        self,
        device: Device,
        register: Register,
        order: Order,
        transport: DeviceTransport,
        progress: Progress | None,
    ) -> None:
        self.outcome: Final = Outcome()
        self._device = device
        self._register = register
        self._order = order
        self._transport = transport
        self._progress = progress
        self._tries: Counter[SystemTitle] = Counter()
        self._mailbox: bytes | None = None
        self._must_repeat = True
        """Whether what is under way may be in nobody's hands: at the start, or with another mailbox."""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to wait for."""
        return not self.outcome.waiting

    def tell(self) -> None:
        """Tell how far it is."""
        if self._progress is not None:
            self._progress(self.outcome)

    def choose_meters(self) -> None:
        """Decide once which meters the run is about."""
        known = self._register.titles()
        if self._order.meters is not None:
            unknown = sorted(self._order.meters - set(known))
            if unknown:
                names = ", ".join(map(str, unknown[:3])) + (", …" if len(unknown) > 3 else "")
                raise DeviceError(f"no letter has come from {names}: a meter is known by its first one")
            self.outcome.wanted = set(self._order.meters)
        elif self._order.every is None:
            self.outcome.wanted = set(known)
        else:
            under_way = {title for title in known if self._register[title].is_under_way}
            self.outcome.wanted = {*self._due(known, len(known)), *under_way}

    def letters_to_leave(self, now: float) -> Letters:
        """Begin where there is a place, and say again what has to be; blocks."""
        letters: Letters = {}
        under_way = [title for title in self._register.titles() if self._register[title].is_under_way]
        must_repeat, self._must_repeat = self._must_repeat, False
        for title in under_way:
            self._note(title, self._again if must_repeat else self._remind, now, letters)
        free = max(0, self._order.parallel - sum(self._register[title].is_under_way for title in under_way))
        waiting = [title for title in self.outcome.waiting if not self._register[title].is_under_way]
        for title in self._due(waiting, free):
            self._note(title, self._begin, now, letters)
        return letters

    def _due(self, titles: Iterable[SystemTitle], places: int) -> tuple[SystemTitle, ...]:
        every = self._order.every
        policy = Policy(interval=every or 1.0, parallel=places)
        records = (
            MeterRecord(title, known.state.keys.generation, known.since, not_before=known.not_before)
            if every is not None
            else MeterRecord(title, known.state.keys.generation, 0.0)
            for title, known in ((title, self._register[title]) for title in sorted(titles))
            if not known.is_under_way
        )
        return choose(records, self._register.wall(), policy).start

    def _note(self, title: SystemTitle, act: Act, now: float, letters: Letters) -> None:
        try:
            heard = act(title, now)
        except RequestRejected as error:
            self.outcome.failed[title] = str(error)
            return
        if heard.answer is not None:
            letters[title] = heard.answer

    def _begin(self, title: SystemTitle, now: float) -> Heard:
        self._tries[title] += 1
        return self._register.begin(title, self._order.scheme, now)

    def _again(self, title: SystemTitle, now: float) -> Heard:
        known = self._register[title]
        if isinstance(known.state, Offered) and self._register.wall() >= known.began + ABANDON_SECONDS:
            self._register.abandon(title)
            return Heard()
        return self._register.repeat(title, now)

    def _remind(self, title: SystemTitle, now: float) -> Heard:
        return self._register.remind(title, now, _RANDOM.random())

    async def carry(self, letters: Mapping[SystemTitle, bytes]) -> bool:
        """Leave letters, and answer all that have come; return whether there was anything to do."""
        writers = await carrier.who_wrote(self._device, self._transport)
        self._note_mailbox(writers.mailbox)
        titles = iter(dict.fromkeys((*writers.titles, *letters)))
        failures: list[EnrollmentError | DeviceError] = []

        async def work(scope: anyio.CancelScope) -> None:
            for title in titles:
                try:
                    await self._visit(title, letters.get(title))
                except (
                    EnrollmentError,
                    DeviceError,
                ) as error:  # who waits for the run is told, without a group
                    failures.append(error)
                    scope.cancel()

        async with anyio.create_task_group() as tasks:
            for _ in range(AT_ONCE):
                tasks.start_soon(work, tasks.cancel_scope)
        if failures:
            raise failures[0]
        return bool(writers.titles or letters)

    async def _visit(self, title: SystemTitle, letter: bytes | None) -> None:
        taken: bytes | None = None
        for _ in range(MAX_TURNS):
            delivery = await carrier.visit(self._device, self._transport, Visit(title, letter, taken))
            self._note_mailbox(delivery.mailbox)
            letter = taken = None
            if delivery.letter is None:
                return
            taken = name_of(delivery.letter)
            now = anyio.current_time()
            heard = await to_thread.run_sync(self._register.receive, title, delivery.letter, now)
            letter = heard.answer
            if heard.done is not None:
                self.outcome.done.add(title)
                self.tell()
            if heard.refused is not None:
                await to_thread.run_sync(self._refused, title, heard.refused)

    def _refused(self, title: SystemTitle, refused: Refused) -> None:
        if refused.reason in _MENDED_BY_NEXT and self._tries[title] < MAX_TRIES:
            return
        reason = refused.reason.name.lower().replace("_", " ")
        self.outcome.failed[title] = f"generation {refused.generation} was refused: {reason}"
        self._register.postpone(title, self._register.wall() + POSTPONE_SECONDS)

    def _note_mailbox(self, mailbox: bytes) -> None:
        if self._mailbox not in (None, mailbox):
            self._must_repeat = True
        self._mailbox = mailbox
