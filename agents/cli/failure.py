"""How a command says no: one clear line on stderr and an exit code, never a traceback."""

import os
import re
import sys
from typing import Final

import typer

from agents.cli.printable import printable

REFUSED: Final = 1
"""Exit code: it was understood and did not work."""
USAGE: Final = 2
"""Exit code: it was asked in a way that cannot work."""
INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as shells have it."""
DEBUG_VARIABLE: Final = "TRILLIUM_DEBUG"
_ERRNO: Final = re.compile(r"\[Errno (\d+)\].*")
"""How asyncio says it, with addresses that the line has already."""


class Failure(Exception):
    """Ends a command with one line.

    Args:
        message: The line, without "trillium:" and without a full stop.
        code: `REFUSED` or `USAGE`.
    """

    def __init__(self, message: str, code: int = REFUSED) -> None:
        super().__init__(message)
        self.code = code


def wants_traceback() -> bool:
    """Return whether a developer asked to see tracebacks."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def explain(error: BaseException) -> tuple[str, int]:
    """Return the line and the exit code for whatever ended a command."""
    if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        return explain(error.exceptions[0])
    if isinstance(error, Failure):
        return str(error), error.code
    if isinstance(error, typer.TyperException):
        return _usage(error), error.exit_code
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}", REFUSED
    return _of_ours(error), REFUSED


def _usage(error: typer.TyperException) -> str:
    message = " ".join(error.format_message().split())
    if not message:
        return "this needs a command; see trillium --help"
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "trillium")
    return f"{message[:1].lower()}{message[1:].rstrip('.')}; see {path} --help"


def _of_ours(error: BaseException) -> str:
    # Imported late: a usage error must not wait for it.
    from protocol.errors import EnrollmentError, RequestRejected  # noqa: PLC0415
    from protocol.problem import TITLES  # noqa: PLC0415

    if isinstance(error, RequestRejected):
        title = TITLES[error.reason]
        return f"refused: {title}: {error.detail}" if error.detail else f"refused: {title}"
    if isinstance(error, (EnrollmentError, ValueError)) and str(error):
        return _ERRNO.sub(lambda found: os.strerror(int(found[1])), str(error))
    return (
        f"a fault of ours: {type(error).__name__}: {error}".rstrip(": ")
        + f" ({DEBUG_VARIABLE}=1 shows where)"
    )


def say(message: str) -> None:
    """Write one line to stderr."""
    line = printable(" ".join(message.split()))
    sys.stderr.write(f"trillium: {line}\n")
    sys.stderr.flush()
