"""Options that several commands share."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from agents.cli import failure

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The authority's directory.")]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON document instead of words.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file", metavar="FILE", help="Whose first line opens the keys; or TRILLIUM_PASSPHRASE."
    ),
]
IdentityFolder = Annotated[
    Path, typer.Option("--identity", metavar="FOLDER", help="As the factory made it, one device each.")
]
Via = Annotated[str, typer.Option("--via", metavar="URI", help="coap://…, mqtt://… or mqtts://…")]
Label = Annotated[
    str | None,
    typer.Option("--label", metavar="LABEL", help="Which certificate; default: the one that signs messages."),
]
Timeout = Annotated[
    float,
    typer.Option(
        "--timeout", min=1, max=86400, metavar="SECONDS", help="Give up after so long; a repeat goes on."
    ),
]


def help_without_command(context: typer.Context) -> None:
    """Show the help where a command is missing; that is a usage error, too."""
    if context.invoked_subcommand is None:
        sys.stderr.write(context.get_help() + "\n")
        raise typer.Exit(failure.USAGE)
