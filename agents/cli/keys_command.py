"""`trillium device keys` and `trillium headend`: metering keys, from either side."""

from dataclasses import dataclass
from typing import Any, Final

import anyio

from agents.cli.device_command import Target, in_words
from agents.cli.failure import REFUSED, USAGE, Failure
from agents.cli.output import console, print_json, progress, table, waiting
from agents.devices.agent import DeviceError
from agents.inspect.words import moment
from agents.metering.head_end import Register
from agents.metering.meter import MeterKeys
from agents.metering.rollover import HeadEndKeys, Order, Outcome
from protocol.errors import RequestRejected
from protocol.metering.agreement import Scheme
from protocol.metering.rollover import Offered, Refused, Settled
from protocol.metering.title import SystemTitle

SCHEMES: Final = {"2e0s": Scheme.EPHEMERAL, "1e1s": Scheme.ONE_PASS}
MAX_TOLD: Final = 20
"""Meters that are named one by one; JSON names all."""
_DAY: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What was typed after `headend rollover`."""

    meters: tuple[str, ...]
    everybody: bool
    every: float | None
    """Days."""
    scheme: str
    parallel: int

    def order(self, timeout: float) -> Order:
        """Return what it means; Failure if it means nothing."""
        if bool(self.meters) == self.everybody:
            raise Failure("new keys for whom: --meter TITLE, or --all", USAGE)
        if self.every is not None and (not self.everybody or not 0 < self.every <= 36_500):
            raise Failure("--every DAYS is more than 0, and goes with --all", USAGE)
        if self.scheme not in SCHEMES:
            raise Failure(f"--scheme {self.scheme}: {' or '.join(SCHEMES)}", USAGE)
        return Order(
            meters=None if self.everybody else frozenset(_title(name, "--meter") for name in self.meters),
            scheme=SCHEMES[self.scheme],
            every=None if self.every is None else self.every * _DAY,
            parallel=self.parallel,
            give_up=timeout,
        )


def _title(name: str, option: str) -> SystemTitle:
    try:
        return SystemTitle.of_name(name)
    except RequestRejected:
        raise Failure(f"{option} {name}: a system title is 16 upper-case hex digits", USAGE) from None


def poll(target: Target, head_end: str | None, *, as_json: bool) -> None:
    """Ask for a meter's letters, once."""
    anyio.run(_poll, target, None if head_end is None else _title(head_end, "--head-end"), as_json)


async def _poll(target: Target, head_end: SystemTitle | None, as_json: bool) -> None:
    async with target.connected() as (device, transport):
        name = device.identity.device
        with waiting(f"{name} asks for letters") as say, in_words(target, device):
            try:
                keys = await MeterKeys.open(device, head_end)
            except DeviceError as error:
                raise Failure(f"{error}: --head-end TITLE" if head_end is None else str(error)) from None
            say(f"those of {keys.head_end}")
            result = await keys.poll(transport)
    if as_json:
        print_json(
            {
                "device": name,
                "head_end": keys.head_end.name,
                "generation": result.generation,
                "new_keys": result.has_new_keys,
                "refused": [_refusal(one) for one in result.refused],
            }
        )
        return
    words = f"{name}: keys of generation {result.generation}" if result.generation else f"{name}: no keys yet"
    words += ", new" if result.has_new_keys else ""
    for one in result.refused:
        words += f"; refused generation {one.generation}: {_reason(one)}"
    console().print(f"{words}; head-end {keys.head_end}")


def _refusal(refused: Refused) -> dict[str, Any]:
    return {"generation": refused.generation, "reason": _reason(refused)}


def _reason(refused: Refused) -> str:
    return refused.reason.name.lower().replace("_", " ")


def rollover(target: Target, wish: Wish, *, as_json: bool) -> int:
    """Give meters new keys; return the exit code."""
    return anyio.run(_rollover, target, wish.order(target.timeout), as_json)


async def _rollover(target: Target, order: Order, as_json: bool) -> int:
    async with target.connected() as (device, transport):
        with progress("meters with new keys", None) as advance, in_words(target, device):
            keys = await HeadEndKeys.open(device)

            def tell(outcome: Outcome) -> None:
                advance(len(outcome.done), len(outcome.wanted))

            outcome = await keys.rollover(order, transport, progress=tell)
    if as_json:
        print_json(
            {
                "head_end": device.identity.device,
                "done": [title.name for title in sorted(outcome.done)],
                "waiting": [title.name for title in sorted(outcome.waiting)],
                "failed": {title.name: outcome.failed[title] for title in sorted(outcome.failed)},
            }
        )
    else:
        _print_outcome(outcome)
    return REFUSED if outcome.failed else 0


def _print_outcome(outcome: Outcome) -> None:
    out = console()
    if not outcome.wanted:
        out.print("nothing to do: no meter has written yet, or no keys are old enough")
        return
    out.print(f"{len(outcome.done)} of {len(outcome.wanted)} meters have new keys")
    if outcome.waiting:
        out.print(f"{len(outcome.waiting)} have not answered yet; calling again goes on from here")
    failed = sorted(outcome.failed.items())
    out.print(*(f"{title}: {why}" for title, why in failed[:MAX_TOLD]), sep="\n", end="\n" if failed else "")
    if len(failed) > MAX_TOLD:
        out.print(f"and {len(failed) - MAX_TOLD} more; --json names them")


def status(target: Target, *, as_json: bool) -> None:
    """List a head-end's meters."""
    with target.open() as (device, _):
        try:
            register = anyio.run(HeadEndKeys.open, device).register
        except DeviceError as error:
            raise Failure(str(error)) from None
    rows = [(title, *_stage(register, title)) for title in register.titles()]
    if as_json:
        print_json(
            [
                {"meter": title.name, "generation": generation, "since": since, "stage": stage}
                for title, generation, since, stage in rows
            ]
        )
        return
    out = console()
    if not rows:
        out.print("no meter has written yet")
        return
    out.print(
        table(
            ("meter", "generation", "since", "now"),
            [
                (title.name, str(generation), "" if since is None else moment(since), stage)
                for title, generation, since, stage in rows
            ],
            right=(1,),
        )
    )


def _stage(register: Register, title: SystemTitle) -> tuple[int, int | None, str]:
    known = register[title]
    match known.state:
        case Settled(keys):
            stage = "settled" if keys.generation else "no keys yet"
        case Offered(keys, counter):
            stage = f"offered {counter}"
        case switching:
            keys, stage = switching.keys, f"switching to {switching.counter}"
    return keys.generation, int(known.since) or None, stage
