"""`trillium headend …`: what a person types to act as the head-end of meters."""

from typing import Annotated

import typer

from agents.cli.options import IdentityFolder, Json, PassphraseFile, Timeout, Via, help_without_command

app = typer.Typer(help="Act as the head-end of meters.", invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def root(context: typer.Context) -> None:
    """Act as the head-end of meters: agree with them on the keys of every day."""
    help_without_command(context)


@app.command("rollover")
def rollover(  # noqa: PLR0913, PLR0917 (a command has as many options)
    identity: IdentityFolder,
    via: Via,
    meter: Annotated[
        list[str] | None,
        typer.Option("--meter", metavar="TITLE", help="New keys for this one; may be repeated."),
    ] = None,
    everybody: Annotated[
        bool, typer.Option("--all", help="New keys for all meters that have written.")
    ] = False,
    every: Annotated[
        float | None,
        typer.Option("--every", metavar="DAYS", help="With --all: for those whose keys are nearly so old."),
    ] = None,
    scheme: Annotated[
        str, typer.Option("--scheme", metavar="2e0s|1e1s", help="Who brings ephemeral keys.")
    ] = "2e0s",
    parallel: Annotated[
        int, typer.Option("--parallel", metavar="N", min=1, max=10_000, help="Under way at a time.")
    ] = 1000,
    passphrase_file: PassphraseFile = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> int:
    """Give meters new keys.

    Ends when all have them, or after --timeout; what is under way then goes on with the next call, when the
    meters have asked for their letters (trillium device keys). Exit code 1 if a meter has refused.
    """
    from agents.cli import device_command, keys_command  # noqa: PLC0415

    wish = keys_command.Wish(tuple(meter or ()), everybody, every, scheme, parallel)
    target = device_command.Target(identity, via, passphrase_file, timeout)
    return keys_command.rollover(target, wish, as_json=as_json)


@app.command("status")
def status(identity: IdentityFolder, passphrase_file: PassphraseFile = None, as_json: Json = False) -> None:
    """List the meters that have written, and how far each is."""
    from agents.cli import device_command, keys_command  # noqa: PLC0415

    keys_command.status(device_command.Target(identity, "", passphrase_file, 10.0), as_json=as_json)
