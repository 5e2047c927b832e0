"""`trillium station …` and `trillium car …`: what a person types to charge a car."""

from pathlib import Path
from typing import Annotated

import typer

from agents.cli.addresses import parse_address
from agents.cli.logs import Format, Level
from agents.cli.options import IdentityFolder, Json, PassphraseFile, Timeout, Via, help_without_command

station = typer.Typer(help="Run a charging station.", invoke_without_command=True, rich_markup_mode=None)
car = typer.Typer(help="Act as a car.", invoke_without_command=True, rich_markup_mode=None)


@station.callback()
def station_root(context: typer.Context) -> None:
    """Run a charging station."""
    help_without_command(context)


@car.callback()
def car_root(context: typer.Context) -> None:
    """Act as a car."""
    help_without_command(context)


@station.command("serve")
def serve(  # noqa: PLR0913, PLR0917 (a command has as many options)
    identity: Annotated[
        list[Path],
        typer.Option(
            "--identity",
            metavar="FOLDER",
            help="As the factory made it: ev-station or ev20-station; one of each serves both.",
        ),
    ],
    via: Via,
    coap: Annotated[
        str, typer.Option("--coap", metavar="HOST:PORT", help="Where cars find it.")
    ] = "127.0.0.1:5684",
    evse: Annotated[
        str, typer.Option("--evse", metavar="EVSEID", help="What the place is called, for cars and journal.")
    ] = "",
    known_as: Annotated[
        str | None,
        typer.Option(
            "--known-as",
            metavar="URI",
            help="Where cars reach it, if not at --coap; they compare it with where they are.",
        ),
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(
            "--journal", metavar="FILE", help="Which car, which place, which certificate; a JSON line each."
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    log_level: Annotated[Level, typer.Option("--log-level", help="How much goes to stderr.")] = Level.INFO,
    log_format: Annotated[Format, typer.Option("--log-format", help="How it looks.")] = Format.TEXT,
    until_eof: Annotated[
        bool, typer.Option("--until-eof", hidden=True, help="End with standard input.")
    ] = False,
) -> None:
    """Be a car's way to its authority, until SIGTERM or Ctrl-C.

    Enrolls and renews the station's own certificate by the way, and shows it to cars. Prints one line when it
    listens: ready, and the real address.
    """
    from agents.cli import logs, station_command  # noqa: PLC0415

    station_command.run(
        station_command.Options(
            identities=tuple(identity),
            via=via,
            coap=parse_address(coap, "--coap"),
            evse=evse,
            known_as=known_as,
            journal=journal,
            passphrase_file=passphrase_file,
            until_eof=until_eof,
        ),
        lambda: logs.configure(log_level, log_format),
    )


@car.command("plug")
def plug(  # noqa: PLR0913, PLR0917 (a command has as many options)
    identity: IdentityFolder,
    at: Annotated[str, typer.Option("--at", metavar="URI", help="The station: coap://HOST:PORT.")],
    known_as: Annotated[
        str | None,
        typer.Option("--known-as", metavar="URI", help="What the station calls that, if a proxy is between."),
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(
            "--root", metavar="FILE", help="V2G root to trust, instead of the factory's; repeatable."
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Refuse a station of which nobody says that it is not revoked."),
    ] = False,
    renew: Annotated[
        bool, typer.Option("--renew", help="Get the next contract now, though it is not due.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Plug a car in: verify the station, get or renew the contract, show what the car holds."""
    from agents.cli import car_command  # noqa: PLC0415
    from agents.cli.device_command import Target  # noqa: PLC0415

    car_command.plug(
        Target(identity, at, passphrase_file, timeout),
        car_command.Wishes(known_as=known_as, roots=tuple(root or ()), strict=strict, renew=renew),
        as_json=as_json,
    )
