"""`trillium lab`: a whole fleet on this machine, from the factory to a refused message."""

import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

import anyio

from agents.cli.failure import REFUSED, USAGE, Failure, say
from agents.cli.output import console, facts, table
from agents.lab.children import ChildFailed
from agents.lab.failure import LabFailed
from agents.lab.scenario import Lab, Plan
from agents.lab.screen import Screen, ledger_table, open_screen, summary_rows
from agents.lab.tally import FleetTally, Summary
from agents.lab.tour import TOURS, Tour

T_co = TypeVar("T_co", covariant=True)

FAILURES_SHOWN: Final = 5
"""Devices of a kind that are named when they fail; the others fail for the same reason."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for."""

    meters: int
    gateways: int
    messages: int
    loss: float
    seed: int
    json_file: Path | None
    keep: Path | None
    domain: str | None = None
    """An industry whose tour is to be played, or all; None plays a fleet."""


def run(options: Options) -> None:
    """Play the lab, and tell how it went.

    Raises:
        Failure: It did not end well.
    """
    if options.domain is not None:
        _run_tour(options.domain, options)
        return
    if options.meters + options.gateways == 0:
        raise Failure("a lab needs at least one device: --meters or --gateways", USAGE)
    with _folder(options.keep) as folder:
        plan = Plan(options.meters, options.gateways, options.loss, options.seed, options.messages, folder)
        with open_screen(console(stderr=True)) as screen:
            lab = Lab(plan, screen)
            outcome = anyio.run(_play, lab, screen)
        if isinstance(outcome, (ChildFailed, LabFailed)):
            _tell_failures(lab.fleets)
            _tell_last_words(outcome)
            raise Failure(f"{outcome}; {_where_the_logs_are(lab.logs, options.keep)}", REFUSED)
        summary = outcome
        _tell(summary, lab.fleets, options.json_file)
        if not summary.is_good:
            _tell_failures(lab.fleets)
            raise Failure(
                f"{_what_is_wrong(summary)}; {_where_the_logs_are(lab.logs, options.keep)}", REFUSED
            )


def _run_tour(word: str, options: Options) -> None:
    wanted = tuple(TOURS) if word == "all" else tuple(one for one in TOURS if one.value == word)
    if not wanted:
        raise Failure(f"--domain {word}: one of {', '.join(TOURS)} or all", USAGE)
    with _folder(options.keep) as folder:
        with open_screen(console(stderr=True)) as screen:
            tour = Tour(wanted, folder, screen)
            outcome = anyio.run(_play, tour, screen)
        if isinstance(outcome, (ChildFailed, LabFailed)):
            _tell_last_words(outcome)
            raise Failure(f"{outcome}; {_where_the_logs_are(tour.logs, options.keep)}", REFUSED)
        if not _write_json(outcome.to_json(), options.json_file):
            console().print(ledger_table(outcome.ledger))
            console().print(f"\n{outcome.seconds:.1f} s")
        for row in outcome.ledger.rows.values():
            for deviation in row.deviations:
                say(f"{row.label}: {deviation}")
        if not outcome.is_good:
            raise Failure("a certificate is not as its profile says", REFUSED)


@contextmanager
def _folder(keep: Path | None) -> Generator[Path, None, None]:
    if keep is not None:
        if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
            raise Failure(f"--keep {keep}: is there already and not empty", USAGE)
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    folder = Path(tempfile.mkdtemp(prefix="trillium-lab-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Play(Protocol[T_co]):
    """A fleet, or a tour."""

    async def run(self) -> T_co:
        """Play."""
        ...


async def _play(play: _Play[T_co], screen: Screen) -> T_co | ChildFailed | LabFailed:
    """Run it until it is done or somebody stops it; either way its programs are ended."""
    # Returned, not raised: a task group would wrap it.
    outcomes: list[T_co | ChildFailed | LabFailed] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_stop_on_signal, tasks.cancel_scope, screen)
        try:
            outcomes.append(await play.run())
        except (ChildFailed, LabFailed) as error:
            outcomes.append(error)
        tasks.cancel_scope.cancel()
    if not outcomes:
        raise KeyboardInterrupt
    return outcomes[0]


async def _stop_on_signal(scope: anyio.CancelScope, screen: Screen) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            screen.step("stopping")
            scope.cancel()


def _tell(summary: Summary, fleets: Mapping[str, FleetTally], json_file: Path | None) -> None:
    if _write_json(summary.to_json(), json_file):
        return
    out = console()
    headings = ("", "devices", "enrolled", "rekeyed", "sent", "failed")
    out.print(table(headings, summary_rows(fleets), right=range(1, 6)))
    out.print()
    out.print(facts(_rows(summary)))


def _write_json(document: Mapping[str, object], file: Path | None) -> bool:
    """Write the result where it is wanted; return whether that is standard output."""
    if file is None:
        return False
    text = json.dumps(document, indent=2) + "\n"
    if str(file) == "-":
        sys.stdout.write(text)
        return True
    try:
        file.write_text(text)
    except OSError as error:
        raise Failure(f"--json {file}: {error.strerror}", REFUSED) from None
    return False


def _rows(summary: Summary) -> Sequence[tuple[str, str]]:
    sizes = f"request {summary.request_bytes_median} bytes, answer {summary.answer_bytes_median} bytes"
    whose = " (of the revoked device)" if summary.refused == 1 else ""
    return (
        ("messages", f"{summary.messages_sent} sent, {summary.messages_verified} verified"),
        ("refused", f"{summary.refused}{whose}"),
        ("duplicates", f"{summary.duplicate_certificates} certificates"),
        ("time", f"{summary.seconds:.1f} s, {summary.enrollments_per_second:.1f} certificates a second"),
        ("medians", sizes),
    )


def _what_is_wrong(summary: Summary) -> str:
    wrong: list[str] = []
    if summary.failed:
        wrong.append(f"{summary.failed} of {summary.devices} devices failed")
    elif summary.enrolled < summary.devices:
        wrong.append(f"only {summary.enrolled} of {summary.devices} devices enrolled")
    if summary.duplicate_certificates:
        wrong.append(f"{summary.duplicate_certificates} certificates were issued twice")
    return " and ".join(wrong)


def _tell_failures(fleets: Mapping[str, FleetTally]) -> None:
    for name, fleet in fleets.items():
        for device, why in fleet.failures[:FAILURES_SHOWN]:
            say(f"{name}: {device}: {why}")
        if len(fleet.failures) > FAILURES_SHOWN:
            say(f"{name}: and {fleet.failed - FAILURES_SHOWN} more")


def _tell_last_words(error: Exception) -> None:
    if isinstance(error, ChildFailed):
        for line in error.last_words():
            say(f"{error.name}: {line.removeprefix('trillium: ')}")


def _where_the_logs_are(logs: Path, keep: Path | None) -> str:
    if keep is not None:
        return f"logs are in {logs}"
    return "--keep DIR keeps the logs"
