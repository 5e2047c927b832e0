"""`trillium`: what a person types. Each command's work is in a module beside this one."""

import os
import sys
from typing import Annotated

import typer

from agents.cli import failure

app = typer.Typer(
    name="trillium",
    help="Certificates for IoT fleets: enroll, rekey, revoke, verify, over CoAP and MQTT.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Json = Annotated[bool, typer.Option("--json", help="Write one JSON document instead of words.")]


@app.callback()
def root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", hidden=True, help="Show tracebacks.")] = False,
) -> None:
    """Certificates for IoT fleets: enroll, rekey, revoke, verify, over CoAP and MQTT."""
    if debug:
        os.environ[failure.DEBUG_VARIABLE] = "1"
    _help_without_command(context)


def _help_without_command(context: typer.Context) -> None:
    """Show the help where a command is missing; that is a usage error, too."""
    if context.invoked_subcommand is None:
        sys.stderr.write(context.get_help() + "\n")
        raise typer.Exit(failure.USAGE)


@app.command()
def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="What to explain; - reads standard input.")],
    as_json: Json = False,
) -> None:
    """Say in words what a file is.

    Certificates, requests, revocation lists, signed objects and templates, as DER, PEM, C509 or COSE, and hex
    or base64 of them. Private keys are recognised and not shown.
    """
    from agents.cli import inspect_command  # noqa: PLC0415 (commands are imported when they run)

    inspect_command.run(file, as_json=as_json)


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command.

    Returns:
        0 done; 1 refused or failed; 2 asked in a way that cannot work; 130 interrupted.
    """
    try:
        outcome = app(arguments, prog_name="trillium", standalone_mode=False)
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return failure.REFUSED
    except (KeyboardInterrupt, typer.Abort):
        failure.say("interrupted")
        return failure.INTERRUPTED
    except BaseException as error:  # the edge of the program: one line, never a traceback
        if isinstance(error, SystemExit):
            raise
        if failure.wants_traceback():
            raise
        message, code = failure.explain(error)
        failure.say(message)
        return code
    return outcome if isinstance(outcome, int) else 0
