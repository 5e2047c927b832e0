"""What a person types to look after an authority: its devices, its audit log, another broker."""

from pathlib import Path
from typing import Annotated

import typer

from agents.cli import contract_app
from agents.cli.addresses import parse_address
from agents.cli.options import Directory, Json, PassphraseFile, help_without_command


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(devices)
    app.command()(show)
    app.command()(revoke)
    contract_app.register(app)
    app.add_typer(_audit, name="audit")
    app.add_typer(_broker, name="broker")


def devices(directory: Directory, as_json: Json = False) -> None:
    """List every device and how many certificates it has."""
    from agents.cli import inventory_command  # noqa: PLC0415

    inventory_command.devices(directory, as_json=as_json)


Word = Annotated[str, typer.Argument(metavar="DEVICE", help="Its name or client-id.")]


def show(directory: Directory, device: Word, as_json: Json = False) -> None:
    """Show one device with all its certificates."""
    from agents.cli import inventory_command  # noqa: PLC0415

    inventory_command.show(directory, device, as_json=as_json)


def revoke(
    directory: Directory,
    word: Annotated[
        str,
        typer.Argument(
            metavar="DEVICE|SERIAL", help="A name or client-id, or a certificate's serial in hex."
        ),
    ],
    reason: Annotated[
        str,
        typer.Option(
            "--reason", metavar="REASON", help="RFC 5280: key-compromise, cessation-of-operation, …"
        ),
    ],
    as_json: Json = False,
) -> None:
    """Revoke a device, or one certificate.

    Also beside a running serve, which refuses it within a second. A device loses everything it has.
    """
    from agents.cli import inventory_command  # noqa: PLC0415

    inventory_command.revoke_word(directory, word, reason, as_json=as_json)


_audit = typer.Typer(help="Look after the audit log.", invoke_without_command=True, rich_markup_mode=None)


@_audit.callback()
def audit_root(context: typer.Context) -> None:
    """Look after the audit log."""
    help_without_command(context)


@_audit.command("verify")
def audit_verify(
    directory: Directory,
    head: Annotated[
        Path | None, typer.Option("--head", metavar="FILE", help="A published head that was kept elsewhere.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find out whether the log was changed or cut off.

    Every record is looked at, and the chain must go through the published head: DIR/audit-head.cose, or
    better a copy of it that was kept elsewhere.
    """
    from agents.cli import audit_command  # noqa: PLC0415

    audit_command.verify(directory, head, as_json=as_json)


_broker = typer.Typer(help="Use another broker.", invoke_without_command=True, rich_markup_mode=None)
_export = typer.Typer(
    help="Write a broker's configuration.", invoke_without_command=True, rich_markup_mode=None
)
_broker.add_typer(_export, name="export")


@_broker.callback()
def broker_root(context: typer.Context) -> None:
    """Use another broker than the embedded one."""
    help_without_command(context)


@_export.callback()
def export_root(context: typer.Context) -> None:
    """Write a configuration for another broker."""
    help_without_command(context)


@_export.command("mosquitto")
def export_mosquitto(
    directory: Directory,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Default: DIR/mosquitto.")
    ] = None,
    devices_at: Annotated[
        str, typer.Option("--devices", metavar="HOST:PORT", help="Where devices connect.")
    ] = "0.0.0.0:8883",
    services_at: Annotated[
        str, typer.Option("--services", metavar="HOST:PORT", help="Where serve connects.")
    ] = "127.0.0.1:8884",
    tls_name: Annotated[
        list[str] | None, typer.Option("--tls-name", metavar="NAME", help="A name that devices reach it by.")
    ] = None,
    run_as: Annotated[
        str | None,
        typer.Option("--run-as", metavar="USER", help="Account for mosquitto when root starts it."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Write a configuration for mosquitto 2.

    Mutual TLS, one access rule per device, revocation lists. Export again after changes and send mosquitto
    SIGHUP: it reads access rules and revocation lists anew.
    """
    from agents.cli import export_command  # noqa: PLC0415

    export_command.mosquitto(
        directory,
        out or directory / "mosquitto",
        devices_at=parse_address(devices_at, "--devices"),
        services_at=parse_address(services_at, "--services"),
        tls_names=tuple(tls_name or ()),
        run_as=run_as,
        passphrase_file=passphrase_file,
        as_json=as_json,
    )
