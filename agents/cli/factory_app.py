"""What a person types to make devices, and to take over devices that others made."""

from pathlib import Path
from typing import Annotated

import typer

from agents.cli.options import Directory, Json, PassphraseFile

OnlyGood = Annotated[
    bool, typer.Option("--only-good-rows", help="Go on with the others where some are wrong.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Look at every row, say what is wrong, change nothing.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(factory)
    app.command("import")(import_)


def factory(  # noqa: PLR0913, PLR0917 (a command has as many options)
    directory: Directory,
    label: Annotated[str, typer.Option("--label", metavar="LABEL", help="Tier 1: meter-boot, ev-oem, …")],
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", min=1, max=1_000_000, help="How many devices.")
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Which devices: columns device or serial, and client."),
    ] = None,
    requests: Annotated[
        Path | None,
        typer.Option(
            "--requests",
            metavar="FOLDER",
            help="Certification requests of devices that made their keys; --csv then may name them.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="BATCH", help="Folder to make; one folder per device in it."),
    ] = None,
    start: Annotated[
        int, typer.Option("--start", metavar="N", min=0, help="Serial number of the first.")
    ] = 1,
    prefix: Annotated[
        str | None,
        typer.Option("--prefix", metavar="ABC|HH-HH-HH", help="FLAG id, OUI or WMI, if there are several."),
    ] = None,
    operator: Annotated[
        str | None,
        typer.Option("--operator", metavar="DETRL", help="Of stations: country and operator."),
    ] = None,
    owner: Annotated[
        str | None,
        typer.Option(
            "--owner",
            metavar="OWNER|FILE",
            help="For another operator: known by this name, its card, or PEM of its CA and those above it.",
        ),
    ] = None,
    bundle: Annotated[
        str, typer.Option("--bundle", metavar="folder|zip", help="How each device is handed over.")
    ] = "folder",
    only_good: OnlyGood = False,
    dry_run: DryRun = False,
    passphrase_file: PassphraseFile = None,
    device_passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--device-passphrase-file",
            metavar="FILE",
            help="Encrypt the devices' keys; default: they are not.",
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Make device identities by the batch.

    From a count, a CSV file, or certification requests for keys that never leave their devices. Each device
    is a folder with key, bootstrap certificate, root, its maker's voucher key and first voucher; the batch
    has a signed manifest, and the authority's inventory gets to know it. An interrupted batch goes on when it
    is asked for again. If a row is wrong nothing is made, and the exit code is 1.
    """
    from agents.cli import factory_command  # noqa: PLC0415

    return factory_command.run(
        directory,
        factory_command.Wish(label, count, sheet, requests, start, prefix, operator, owner),
        out,
        bundle=bundle,
        only_good=only_good,
        dry_run=dry_run,
        passphrase_file=passphrase_file,
        device_passphrase_file=device_passphrase_file,
        as_json=as_json,
    )


def import_(  # noqa: PLR0913, PLR0917 (a command has as many options)
    directory: Directory,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A manifest; or certificates: a folder, a PEM, DER or CSV file."),
    ],
    label: Annotated[
        str | None, typer.Option("--label", metavar="LABEL", help="Tier 1; a manifest says it itself.")
    ] = None,
    certificates: Annotated[
        Path | None,
        typer.Option(
            "--certificates",
            metavar="FILE|FOLDER",
            help="Of a manifest; default: beside it.",
        ),
    ] = None,
    maker_ca: Annotated[
        Path | None,
        typer.Option("--maker-ca", metavar="FILE", help="PEM with the maker's CA and those above it."),
    ] = None,
    voucher_key: Annotated[
        Path | None,
        typer.Option("--voucher-key", metavar="FILE", help="The maker's, which signed the manifest."),
    ] = None,
    trust_maker: Annotated[
        str | None,
        typer.Option("--trust-maker", metavar="NAME", help="Take this maker's devices from now on."),
    ] = None,
    prefix: Annotated[
        list[str] | None,
        typer.Option(
            "--prefix",
            metavar="ABC|HH-HH-HH",
            help="That maker's FLAG id, OUI or WMI; repeatable.  [default: those that its CA lists]",
        ),
    ] = None,
    approved_by: Annotated[
        str | None,
        typer.Option("--approved-by", metavar="WHO", help="For the audit log.  [default: who is logged in]"),
    ] = None,
    only_good: OnlyGood = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    """Take devices of another maker into the inventory.

    From a manifest of Trillium's factory, or from a foreign manufacturer's certificates. Every certificate is
    judged by its label's profile and by the path to its maker's root. If one is wrong nothing is entered, and
    the exit code is 1. A maker that is not known is trusted only with --trust-maker: a statement in the store
    and in the audit log, which names the label and the prefixes of the names that the maker gives.
    """
    from agents.cli import import_command  # noqa: PLC0415

    return import_command.run(
        directory,
        import_command.Wish(
            file, label, certificates, maker_ca, voucher_key, trust_maker, prefix or (), approved_by
        ),
        only_good=only_good,
        dry_run=dry_run,
        as_json=as_json,
    )
