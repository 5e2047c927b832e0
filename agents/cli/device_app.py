"""`trillium device …`: what a person types to act as one device."""

from pathlib import Path
from typing import Annotated

import typer

from agents.cli.options import IdentityFolder, Json, Label, PassphraseFile, Timeout, Via, help_without_command

app = typer.Typer(help="Act as one device.", invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def root(context: typer.Context) -> None:
    """Act as one device: enroll, rekey, send, tell what it holds."""
    help_without_command(context)


@app.command("enroll")
def enroll(
    identity: IdentityFolder,
    via: Via,
    label: Label = None,
    passphrase_file: PassphraseFile = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Get a first certificate, or recover.

    Ends when the authority has confirmed that the certificate is the current one.
    """
    from agents.cli import device_command  # noqa: PLC0415

    target = device_command.Target(identity, via, passphrase_file, timeout)
    device_command.enroll(target, label, as_json=as_json)


@app.command("rekey")
def rekey(
    identity: IdentityFolder,
    via: Via,
    label: Label = None,
    passphrase_file: PassphraseFile = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Replace a key and its certificate."""
    from agents.cli import device_command  # noqa: PLC0415

    target = device_command.Target(identity, via, passphrase_file, timeout)
    device_command.rekey(target, label, as_json=as_json)


@app.command("send")
def send(
    identity: IdentityFolder,
    via: Via,
    stream: Annotated[
        str | None,
        typer.Option("--stream", metavar="NAME", help="Default: readings (meters), telemetry (vehicles)."),
    ] = None,
    message: Annotated[str, typer.Option("--message", metavar="TEXT", help="What to say.")] = "hello",
    count: Annotated[int, typer.Option("--count", min=1, max=100_000, help="How often.")] = 1,
    passphrase_file: PassphraseFile = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Send signed messages."""
    from agents.cli import device_command  # noqa: PLC0415

    target = device_command.Target(identity, via, passphrase_file, timeout)
    device_command.send(target, stream, message.encode(), count, as_json=as_json)


@app.command("check-in")
def check_in(
    identity: IdentityFolder,
    via: Via,
    passphrase_file: PassphraseFile = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Ask whether the authority still knows the device.

    If it belongs to somebody else by now, it is told so, goes there and enrolls.
    """
    from agents.cli import belonging_command, device_command  # noqa: PLC0415

    target = device_command.Target(identity, via, passphrase_file, timeout)
    belonging_command.check_in(target, as_json=as_json)


@app.command("voucher")
def voucher(
    identity: IdentityFolder,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="As trillium voucher wrote it.")],
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Bring the device the voucher of its new owner by hand.

    What it was given before is forgotten, keys and all; it enrolls for its new owner then.
    """
    from agents.cli import belonging_command, device_command  # noqa: PLC0415

    target = device_command.Target(identity, "", passphrase_file, 60.0)
    belonging_command.take_voucher(target, file, as_json=as_json)


@app.command("status")
def status(
    identity: IdentityFolder,
    via: Annotated[
        str, typer.Option("--via", metavar="URI", help="Also ask whether the authority answers there.")
    ] = "",
    passphrase_file: PassphraseFile = None,
    timeout: Timeout = 10.0,
    as_json: Json = False,
) -> None:
    """Tell what the device holds."""
    from agents.cli import device_command  # noqa: PLC0415

    target = device_command.Target(identity, via, passphrase_file, timeout)
    device_command.status(target, as_json=as_json)


@app.command("report")
def report(
    identity: IdentityFolder,
    via: Via,
    passphrase_file: PassphraseFile = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Tell the authority what the device holds.

    A signed message on the stream "held": certificates, trust anchors, chain, owner. trillium reconcile
    compares it with the store.
    """
    from agents.cli import device_command  # noqa: PLC0415

    target = device_command.Target(identity, via, passphrase_file, timeout)
    device_command.report(target, as_json=as_json)


@app.command("keys")
def keys(
    identity: IdentityFolder,
    via: Via,
    head_end: Annotated[
        str | None,
        typer.Option(
            "--head-end", metavar="TITLE", help="Whose letters a meter follows from now on; first time."
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """Ask once for the head-end's letters, and agree on metering keys.

    For meters. Nobody has to wait: letters stay at the authority until the other side asks (trillium headend
    rollover). Ask now and then, as from a timer.
    """
    from agents.cli import device_command, keys_command  # noqa: PLC0415

    target = device_command.Target(identity, via, passphrase_file, timeout)
    keys_command.poll(target, head_end, as_json=as_json)
