"""What a person types to find out whom a revocation has reached."""

from typing import Annotated

import typer

from agents.cli.options import Directory, Json


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(reach)
    app.command()(removed)


def reach(directory: Directory, as_json: Json = False) -> None:
    """Tell whom each revocation can have reached.

    For every revoked certificate: the list that first carried it, how often lists that carry it were given
    out and over what, OCSP answers, devices that report to have such a list, and whether a meter that held
    it still needs a removal command.
    """
    from agents.cli import reach_command  # noqa: PLC0415

    reach_command.run(directory, as_json=as_json)


def removed(
    directory: Directory,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Its name or client-id.")],
    serial: Annotated[str, typer.Argument(metavar="SERIAL", help="Of the certificate, in hex.")],
    as_json: Json = False,
) -> None:
    """Say that a device no longer holds a certificate that ended."""
    from agents.cli import reach_command  # noqa: PLC0415

    reach_command.removed(directory, device, serial, as_json=as_json)
