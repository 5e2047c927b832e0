"""What a person types to make an authority, run it, and make devices for it."""

from pathlib import Path
from typing import Annotated

import typer

from agents.cli import factory_app, failure
from agents.cli.addresses import Address, parse_address
from agents.cli.logs import Format, Level
from agents.cli.options import Directory, Json, PassphraseFile


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(init)
    app.command()(serve)
    factory_app.register(app)


def init(  # noqa: PLR0913, PLR0917 (a command has as many options)
    directory: Directory,
    roots: Annotated[
        Path | None, typer.Option("--roots", metavar="FOLDER", help="For the root keys; default: DIR/roots.")
    ] = None,
    under: Annotated[
        Path | None,
        typer.Option(
            "--under", metavar="FOLDER", help="Root keys of another authority: stand under the same roots."
        ),
    ] = None,
    under_passphrase_file: Annotated[
        Path | None,
        typer.Option("--under-passphrase-file", metavar="FILE", help="Of those keys; default: the same."),
    ] = None,
    organisation: Annotated[
        str, typer.Option("--organisation", metavar="NAME", help="1 to 5 letters, in every issuer's name.")
    ] = "TRL",
    flag: Annotated[
        list[str] | None,
        typer.Option(
            "--flag", metavar="ABC", help="FLAG id of the meters' maker; repeatable.  [default: TRL]"
        ),
    ] = None,
    oui: Annotated[
        list[str] | None,
        typer.Option(
            "--oui", metavar="HH-HH-HH", help="OUI of the gateways' maker; repeatable.  [default: 02-54-52]"
        ),
    ] = None,
    wmi: Annotated[
        list[str] | None,
        typer.Option("--wmi", metavar="ABC", help="WMI of the cars' maker; repeatable.  [default: TRL]"),
    ] = None,
    domain: Annotated[
        list[str] | None,
        typer.Option(
            "--domain",
            metavar="NAME",
            help="metering, metering2, smki, its, ev-mo, ev-cpo, ev-cps, ev20-…; ev and all name several;"
            " repeatable.  [default: metering and its]",
        ),
    ] = None,
    country: Annotated[
        str, typer.Option("--country", metavar="XX", help="In the names of EV charging.")
    ] = "ZZ",
    sub_cas: Annotated[
        int, typer.Option("--sub-cas", metavar="0-3", help="CAs between root and end entity in EV charging.")
    ] = 2,
    url: Annotated[
        str,
        typer.Option("--url", metavar="URL", help="Where EV certificates say that revocation is published."),
    ] = "http://pki.invalid",
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make an authority: roots, makers, operators, an empty store.

    Refuses to touch anything that is there already. Move the root keys to a safe place afterwards, or have
    them made there with --roots: serve does not start while it can read them.
    """
    from agents.cli import init_command  # noqa: PLC0415

    init_command.run(
        directory,
        roots=roots,
        under=under,
        under_passphrase_file=under_passphrase_file,
        domains=domain or (),
        organisation=organisation,
        country=country,
        sub_cas=sub_cas,
        url=url,
        wmis=wmi or (),
        flags=flag or (),
        ouis=oui or (),
        passphrase_file=passphrase_file,
        as_json=as_json,
    )


NONE = "none"


def _address(text: str, option: str) -> Address | None:
    return None if text == NONE else parse_address(text, option)


def serve(  # noqa: PLR0913, PLR0917 (a command has as many options)
    directory: Directory,
    coap: Annotated[str, typer.Option("--coap", metavar="HOST:PORT", help="Or none.")] = "127.0.0.1:5683",
    mqtt: Annotated[
        str | None,
        typer.Option("--mqtt", metavar="HOST:PORT", help="Without TLS, or none.  [default: 127.0.0.1:1883]"),
    ] = None,
    mqtts: Annotated[
        str | None, typer.Option("--mqtts", metavar="HOST:PORT", help="MQTT over TLS.  [default: none]")
    ] = None,
    ocsp: Annotated[
        str,
        typer.Option("--ocsp", metavar="HOST:PORT", help="OCSP and revocation lists over HTTP, or none."),
    ] = NONE,
    broker: Annotated[
        str, typer.Option("--broker", metavar="embedded|mqtts://…", help="Whose broker carries MQTT.")
    ] = "embedded",
    broker_ca: Annotated[
        Path | None,
        typer.Option("--broker-ca", metavar="FILE", help="Who certifies it; default: the scheme root."),
    ] = None,
    tls_name: Annotated[
        list[str] | None,
        typer.Option("--tls-name", metavar="NAME", help="A name that devices reach --mqtts by."),
    ] = None,
    expose: Annotated[
        bool, typer.Option("--expose", help="Let the embedded broker listen beyond loopback.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    cps: Annotated[
        Path | None,
        typer.Option("--cps", metavar="FOLDER", help="Identity of the ev-service that signs contracts."),
    ] = None,
    cps20: Annotated[
        Path | None,
        typer.Option("--cps20", metavar="FOLDER", help="The same for ISO 15118-20: an ev20-service."),
    ] = None,
    engine: Annotated[
        str, typer.Option("--coap-engine", metavar="aiocoap|lean", help="What speaks CoAP.")
    ] = "aiocoap",
    stats: Annotated[
        float, typer.Option("--stats", min=0.0, metavar="SECONDS", help="Print counts this often; 0: never.")
    ] = 0.0,
    log_level: Annotated[Level, typer.Option("--log-level", help="How much goes to stderr.")] = Level.INFO,
    log_format: Annotated[Format, typer.Option("--log-format", help="How it looks.")] = Format.TEXT,
    until_eof: Annotated[
        bool, typer.Option("--until-eof", hidden=True, help="End with standard input.")
    ] = False,
) -> None:
    """Answer devices, until SIGTERM or Ctrl-C.

    Prints one line when everything is bound and subscribed: ready, and the real addresses. Port 0 takes any
    free one. Logs go to standard error.
    """
    from agents.cli import logs, serve_command  # noqa: PLC0415

    if engine not in ("aiocoap", "lean"):
        raise failure.Failure(f"--coap-engine {engine}: aiocoap or lean", failure.USAGE)
    if mqtt is None:
        mqtt = "127.0.0.1:1883" if broker == serve_command.EMBEDDED else NONE
    serve_command.run(
        serve_command.Options(
            directory=directory,
            coap=_address(coap, "--coap"),
            mqtt=_address(mqtt, "--mqtt"),
            mqtts=_address(mqtts or NONE, "--mqtts"),
            ocsp=_address(ocsp, "--ocsp"),
            broker=broker,
            broker_ca=broker_ca,
            tls_names=tuple(tls_name or ()),
            expose=expose,
            passphrase_file=passphrase_file,
            cps=cps,
            cps20=cps20,
            engine="lean" if engine == "lean" else "aiocoap",
            stats=stats,
            until_eof=until_eof,
        ),
        lambda: logs.configure(log_level, log_format),
    )
