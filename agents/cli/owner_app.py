"""What a person types when devices change hands."""

from pathlib import Path
from typing import Annotated

import typer

from agents.cli.options import Directory, Json, PassphraseFile, help_without_command

Devices = Annotated[
    list[str] | None, typer.Argument(metavar="[DEVICE]...", help="Names or client-ids.", show_default=False)
]
ListFile = Annotated[
    Path | None, typer.Option("--file", metavar="LIST", help="More of them, one in each line.")
]
ApprovedBy = Annotated[
    str | None,
    typer.Option(
        "--approved-by", metavar="NAME", help="Who answers for it, for the audit log.  [default: you]"
    ),
]
By = Annotated[
    str,
    typer.Option(
        "--by", metavar="authority|maker", help="Who signs the vouchers: our CA key, or our maker's own key."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(transfer)
    app.command("import-transfer")(import_transfer)
    app.command()(reset)
    app.command("replace-key")(replace_key)
    app.command()(voucher)
    app.add_typer(_owner, name="owner")


def transfer(  # noqa: PLR0913, PLR0917 (a command has as many options)
    directory: Directory,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="OWNER", help="Known by this name, or another authority's directory or card."
        ),
    ],
    devices: Devices = None,
    file: ListFile = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="URI", help="Where devices find the new owner.  [default: its card's]"),
    ] = None,
    by: By = "authority",
    approved_by: ApprovedBy = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="For the new owner.  [default: in DIR/transfers]"),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Give devices to another owner.

    What they were given ends, tier 1 stays, and a voucher names the new owner; a device that comes back after
    years is told so and goes there by itself. Also beside a running serve. For another authority, its people
    import the file that this writes. Asking again goes on where it stopped.
    """
    from agents.cli import transfer_command as command  # noqa: PLC0415 (commands are imported when they run)

    command.transfer(
        directory,
        command.words_from(devices or (), file),
        to,
        by=by,
        at=at,
        approved_by=command.approver(approved_by),
        out=out,
        passphrase_file=passphrase_file,
        as_json=as_json,
    )


def import_transfer(
    directory: Directory,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="As transfer wrote them.")],
    voucher_key: Annotated[
        list[Path] | None,
        typer.Option(
            "--voucher-key",
            metavar="FILE",
            help="Of a maker that signs vouchers and is unknown here; repeatable.",
        ),
    ] = None,
    approved_by: ApprovedBy = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Take over devices that another authority gives.

    It has to be known (trillium owner add). A bundle from before another one is refused, the same one again
    changes nothing. The passphrase is needed only for devices that come back.
    """
    from agents.cli import transfer_command as command  # noqa: PLC0415

    command.import_transfer(
        directory,
        files,
        voucher_keys=voucher_key or (),
        approved_by=command.approver(approved_by),
        passphrase_file=passphrase_file,
        as_json=as_json,
    )


def reset(
    directory: Directory,
    devices: Devices = None,
    file: ListFile = None,
    by: By = "authority",
    approved_by: ApprovedBy = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make devices as new: a car is sold.

    All contracts and certificates of tier 2 and 3 end, tier 1 and the owner stay, and a new epoch begins:
    nothing that was signed before is good any more.
    """
    from agents.cli import transfer_command as command  # noqa: PLC0415

    command.reset(
        directory,
        command.words_from(devices or (), file),
        by=by,
        approved_by=command.approver(approved_by),
        passphrase_file=passphrase_file,
        as_json=as_json,
    )


def replace_key(
    directory: Directory,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Its name or client-id.")],
    certificate: Annotated[Path, typer.Argument(metavar="CERT", help="PEM, DER or C509, by its maker.")],
    reason: Annotated[
        str, typer.Option("--reason", metavar="REASON", help="superseded or key-compromise.")
    ] = "superseded",
    approved_by: ApprovedBy = None,
    as_json: Json = False,
) -> None:
    """Give a device another tier 1 certificate.

    With another key, contracts that were wrapped to the old one end, and are made anew when the device asks;
    a stolen key takes along all that it had asked for. With the same key nothing else changes.
    """
    from agents.cli import transfer_command as command  # noqa: PLC0415

    command.replace_key(
        directory,
        device,
        certificate,
        reason=reason,
        approved_by=command.approver(approved_by),
        as_json=as_json,
    )


def voucher(
    directory: Directory,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to.")],
    devices: Devices = None,
    file: ListFile = None,
    transfer: Annotated[
        bool, typer.Option("--transfer", help="The whole bundle for the new owner's authority.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Write again what a transfer has made.

    A device's newest voucher, to be brought to it by hand (trillium device voucher); or with --transfer the
    file that the new owner's authority imports.
    """
    from agents.cli import transfer_command as command  # noqa: PLC0415

    command.voucher(
        directory,
        command.words_from(devices or (), file),
        out,
        bundle=transfer,
        passphrase_file=passphrase_file,
        as_json=as_json,
    )


_owner = typer.Typer(
    help="Look after the owners that are known here.", invoke_without_command=True, rich_markup_mode=None
)


@_owner.callback()
def owner_root(context: typer.Context) -> None:
    """Look after the owners that are known here."""
    help_without_command(context)


@_owner.command("export")
def owner_export(
    directory: Directory,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The card.")],
    at: Annotated[
        str | None, typer.Option("--at", metavar="URI", help="Where devices find this authority.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the card of this authority: its public certificates, for others to add."""
    from agents.cli import owner_command  # noqa: PLC0415

    owner_command.export(directory, file, at, as_json=as_json)


@_owner.command("add")
def owner_add(
    directory: Directory,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called here.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Its card; none for a tenant of this authority.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Get to know an owner: another authority under the same roots, or a tenant of this one."""
    from agents.cli import owner_command  # noqa: PLC0415

    owner_command.add(directory, name, file, as_json=as_json)


@_owner.command("list")
def owner_list(directory: Directory, as_json: Json = False) -> None:
    """List the owners that are known here."""
    from agents.cli import owner_command  # noqa: PLC0415

    owner_command.listing(directory, as_json=as_json)
