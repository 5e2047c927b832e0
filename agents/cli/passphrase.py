"""Where passphrases come from: a file, the environment or a hidden prompt; never the command line."""

import getpass
import os
import sys
from pathlib import Path
from typing import Final

from agents.cli.failure import USAGE, Failure, say

VARIABLE: Final = "TRILLIUM_PASSPHRASE"


def passphrase_from(
    file: Path | None, *, variable: str = VARIABLE, what: str = "the authority's keys", twice: bool = False
) -> bytes:
    """Return a passphrase, asking for it only where nothing else has it.

    Args:
        file: What `--passphrase-file` named; its first line counts.
        variable: Environment variable that may hold it.
        what: Whose passphrase; the prompt says it.
        twice: Ask twice, because what is made with it cannot be opened without it.

    Raises:
        Failure: None was given and nobody can be asked, it is empty, or two answers differ.
    """
    given = given_passphrase(file, variable=variable)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise Failure(f"a passphrase is needed: --passphrase-file, {variable}, or a terminal", USAGE)
    typed = getpass.getpass(f"Passphrase of {what}: ")
    if not typed:
        raise Failure("an empty passphrase protects nothing", USAGE)
    if twice and getpass.getpass("Once more: ") != typed:
        raise Failure("the two passphrases differ", USAGE)
    return typed.encode()


def given_passphrase(file: Path | None, *, variable: str | None = VARIABLE) -> bytes | None:
    """Return the passphrase that a file or the environment has; None where neither was given.

    Raises:
        Failure: The file cannot be read, or what it holds is empty.
    """
    if file is not None:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise Failure(f"--passphrase-file {file}: {error.strerror}", USAGE) from None
        if file.is_file() and file.stat().st_mode & 0o077:
            say(f"warning: {file} can be read by others; chmod 600 keeps it to you")
        passphrase = content.split(b"\n", 1)[0].rstrip(b"\r")
        if not passphrase:
            raise Failure(f"--passphrase-file {file}: its first line is empty", USAGE)
        return passphrase
    from_environment = os.environ.get(variable) if variable else None
    return from_environment.encode() if from_environment else None
