"""Programs that the lab starts: their lines, their logs, and their end.

Each child leads a process group of its own, so Ctrl-C in the terminal reaches the lab alone, and the lab
ends its children one by one, by their process ids. A child also ends when its standard input does, should
the lab be killed.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import Process, TaskGroup
from anyio.streams.text import TextReceiveStream

STOP_SECONDS: Final = 5.0
"""How long a child may take to end after SIGTERM before it is killed."""
LOG_LINES: Final = 12
"""Last lines of a log that are shown when its program failed."""

OnLine = Callable[[str], None]


class ChildFailed(Exception):
    """A program ended that should not have, or ended badly.

    Attributes:
        name: Which.
        log: Where it wrote what it had to say.
    """

    def __init__(self, name: str, why: str, log: Path) -> None:
        super().__init__(f"{name}: {why}")
        self.name = name
        self.log = log

    def last_words(self) -> list[str]:
        """Return the end of its log."""
        try:
            return self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        except OSError:
            return []


class Child:
    """A running program; made by `start`."""

    def __init__(self, name: str, process: Process, log: Path) -> None:
        self.name = name
        self.log = log
        self.ended = anyio.Event()
        self.is_stopping = False
        self._process = process

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    async def write(self, line: str) -> None:
        """Write one line to its standard input.

        Raises:
            ChildFailed: It does not read any more.
        """
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send(line.encode() + b"\n")
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise ChildFailed(self.name, "ended too early", self.log) from None

    async def read(self, on_line: OnLine, *, must_live: bool) -> None:
        """Hand its lines to `on_line` until it ends.

        Raises:
            ChildFailed: It ended although it `must_live` until it is stopped.
        """
        assert self._process.stdout is not None
        rest = ""
        async for text in TextReceiveStream(self._process.stdout, errors="replace"):
            *lines, rest = (rest + text).split("\n")
            for line in lines:
                on_line(line)
        if rest:
            on_line(rest)
        code = await self._process.wait()
        self.ended.set()
        if must_live and not self.is_stopping:
            raise ChildFailed(self.name, f"ended by itself, exit code {code}", self.log)

    async def stop(self) -> None:
        """End it: SIGTERM first, SIGKILL if that takes too long."""
        self.is_stopping = True
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        with anyio.move_on_after(STOP_SECONDS):
            await self._process.wait()
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def aclose(self) -> None:
        """Stop it and close its pipes."""
        await self.stop()
        await self._process.aclose()


@dataclass(frozen=True, slots=True)
class Nursery:
    """Where children live: their readers' owner, their logs, what they are told of the world."""

    tasks: TaskGroup
    logs: Path
    environment: Mapping[str, str] = field(repr=False)

    @asynccontextmanager
    async def start(
        self, name: str, arguments: Sequence[str], on_line: OnLine, *, must_live: bool = True
    ) -> AsyncGenerator[Child, None]:
        """Run `trillium` with `arguments` while the context is open.

        Args:
            name: For messages, and of its log file.
            arguments: What a person would type after `trillium`.
            on_line: Given each line that it prints, as it comes; must not raise.
            must_live: Whether it is a failure if it ends before the context does.

        Cancellation: at any point; the child is ended first, which takes at most `STOP_SECONDS`.
        """
        log = self.logs / f"{name}.log"
        with log.open("ab") as errors:
            process = await anyio.open_process(
                [sys.executable, "-m", "agents", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        child = Child(name, process, log)
        try:
            self.tasks.start_soon(partial(child.read, on_line, must_live=must_live))
            yield child
        finally:
            with anyio.CancelScope(shield=True):
                await child.aclose()

    async def run(self, name: str, *arguments: str) -> list[str]:
        """Run one command to its end and return the lines that it printed.

        Raises:
            ChildFailed: Its exit code is not 0.
        """
        lines: list[str] = []
        async with self.start(name, arguments, lines.append, must_live=False) as child:
            await child.ended.wait()
            if child.exit_code != 0:
                raise ChildFailed(name, f"exit code {child.exit_code}", child.log)
        return lines
