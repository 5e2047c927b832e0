"""What a person types about contracts: which car may have which, until when."""

from typing import Annotated

import typer

from agents.cli.options import Directory, Json, help_without_command


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.add_typer(_contract, name="contract")
    app.command()(contracts)


_contract = typer.Typer(
    help="Grant contracts to cars, and end them.", invoke_without_command=True, rich_markup_mode=None
)


@_contract.callback()
def contract_root(context: typer.Context) -> None:
    """Grant contracts to cars, and end them."""
    help_without_command(context)


@_contract.command("add")
def add(
    directory: Directory,
    car: Annotated[str, typer.Argument(metavar="PCID", help="The car's name or client-id.")],
    emaid: Annotated[str, typer.Argument(metavar="EMAID", help="The contract, with hyphens or without.")],
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="DATE", help="Its last day, YYYY-MM-DD (UTC); default: no end."),
    ] = None,
    tenant: Annotated[
        str | None,
        typer.Option("--tenant", metavar="NAME", help="Whose contract; default: the eMAID's provider."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label", metavar="LABEL", help="ev-contract or ev20-contract, for cars that have both."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Grant a contract: from now on the car gets certificates for it.

    A running serve prepares the first one at once. The same again changes nothing.
    """
    from agents.cli import contract_command  # noqa: PLC0415 (commands are imported when they run)

    contract_command.add(directory, car, emaid, until=until, tenant=tenant, label=label, as_json=as_json)


@_contract.command("end")
def end(
    directory: Directory,
    emaid: Annotated[str, typer.Argument(metavar="EMAID", help="The contract, with hyphens or without.")],
    as_json: Json = False,
) -> None:
    """End a contract: its certificate is revoked, and there is none until the contract is granted anew.

    Also beside a running serve, which refuses the certificate within a second.
    """
    from agents.cli import contract_command  # noqa: PLC0415

    contract_command.end(directory, emaid, as_json=as_json)


def contracts(
    directory: Directory,
    everything: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    as_json: Json = False,
) -> None:
    """List contracts, and how far each is."""
    from agents.cli import contract_command  # noqa: PLC0415

    contract_command.listing(directory, everything=everything, as_json=as_json)
