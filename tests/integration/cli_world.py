"""A small world made by typing: an authority, a few devices, a `serve` that really runs."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from agents.cli import app

PASSPHRASE: Final = "correct horse"
ENVIRONMENT: Final = {**os.environ, "TRILLIUM_PASSPHRASE": PASSPHRASE, "PYTHONUNBUFFERED": "1"}
READY_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


def typed(*arguments: object) -> Outcome:
    """Run a command in a process of its own, as a shell would without a terminal."""
    ended = subprocess.run(
        [sys.executable, "-m", "agents", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        stdin=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )
    return Outcome(ended.returncode, ended.stdout, ended.stderr)


def trillium(*arguments: object, env: dict[str, str] | None = None) -> Outcome:
    """Run the same in this process, which spares it a second of imports."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, {"TRILLIUM_PASSPHRASE": PASSPHRASE, **(env or {})}),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        code = app.run([str(argument) for argument in arguments])
    return Outcome(code, out.getvalue(), err.getvalue())


def done(*arguments: object) -> str:
    """Run a command that must succeed; return what it printed."""
    result = trillium(*arguments)
    assert result.code == 0, result.err
    return result.out


def as_json(*arguments: object) -> Any:
    """Run a command that must succeed with `--json`; return the document."""
    return json.loads(done(*arguments, "--json"))


def refused(*arguments: object, code: int = 1, env: dict[str, str] | None = None) -> str:
    """Run a command that must fail with `code`; return its one line on stderr."""
    result = trillium(*arguments, env=env)
    assert result.code == code, result.out + result.err
    assert result.err.startswith("trillium: ")
    assert result.err.count("\n") == 1, result.err
    return result.err


@dataclass
class Serving:
    """A `serve` that is ready."""

    process: subprocess.Popen[str]
    line: str

    def uri(self, scheme: str) -> str:
        """Return where it listens."""
        return next(uri for uri in self.line.split() if uri.startswith(f"{scheme}://"))

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit code."""
        self.process.send_signal(how)
        return self.process.wait(timeout=20)


@contextmanager
def serving(directory: Path, *options: object) -> Iterator[Serving]:
    """Run `serve` on free ports while the context is open."""
    with (directory.parent / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "agents", "serve", str(directory), *map(str, options)],
            stdout=subprocess.PIPE,
            stderr=log,
            stdin=subprocess.DEVNULL,
            text=True,
            env=ENVIRONMENT,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("ready "), (directory.parent / "serve.log").read_text()
        yield Serving(process, line)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=20)
        process.stdout.close()


def until(condition: Any, seconds: float) -> float:
    """Wait until `condition()` holds; return how long that took, or fail."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - start


@dataclass(frozen=True)
class Town:
    """An authority with devices, and a `serve` on CoAP, MQTT and MQTT over TLS."""

    directory: Path
    meters: list[Path]
    gateways: list[Path]
    serve: Serving

    def via(self, scheme: str) -> str:
        return self.serve.uri(scheme)


FREE: Final = "127.0.0.1:0"


@contextmanager
def town(folder: Path) -> Iterator[Town]:
    """Make one."""
    directory = folder / "authority"
    done("init", directory, "--roots", folder / "roots")
    (folder / "roots").rename(folder / "far-away")
    batches = {}
    for kind, label, count in (("meters", "meter-boot", 6), ("gateways", "its-boot", 3)):
        made = as_json("factory", directory, "--label", label, "--count", count, "--out", folder / kind)
        batches[kind] = [folder / kind / name for name in made["devices"]]
    with serving(directory, "--coap", FREE, "--mqtt", FREE, "--mqtts", FREE) as serve:
        yield Town(
            directory,
            batches["meters"],
            batches["gateways"],
            serve,
        )
