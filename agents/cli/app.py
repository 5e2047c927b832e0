"""`trillium`: what a person types. Each command's work is in a module beside this one."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from agents.cli import (
    authority_app,
    charging_app,
    device_app,
    failure,
    headend_app,
    outlook_app,
    owner_app,
    reach_app,
    upkeep_app,
)
from agents.cli.options import Json, help_without_command

app = typer.Typer(
    name="trillium",
    help="Certificates for IoT fleets: enroll, rekey, revoke, verify, over CoAP and MQTT.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

authority_app.register(app)
upkeep_app.register(app)
reach_app.register(app)
outlook_app.register(app)
owner_app.register(app)
app.add_typer(device_app.app, name="device")
app.add_typer(headend_app.app, name="headend")
app.add_typer(charging_app.station, name="station")
app.add_typer(charging_app.car, name="car")


@app.callback()
def root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", hidden=True, help="Show tracebacks.")] = False,
) -> None:
    """Certificates for IoT fleets: enroll, rekey, revoke, verify, over CoAP and MQTT."""
    if debug:
        os.environ[failure.DEBUG_VARIABLE] = "1"
    help_without_command(context)


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


@app.command()
def lint(
    certificate: Annotated[
        str, typer.Argument(metavar="CERT|-", help="What to judge; - reads standard input.")
    ],
    label: Annotated[
        str, typer.Option("--label", metavar="LABEL", help="Against which profile; a CA's name works, too.")
    ],
    issuer: Annotated[
        str | None,
        typer.Option("--issuer", metavar="FILE", help="Who issued it; not needed if CERT is its chain."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Judge a certificate, ours or foreign, against a profile.

    Each deviation is named with the requirement that asks for it. Takes X.509 as PEM or DER, C509, and hex or
    base64 of them; of a chain the first certificate is judged. Exit code 1 if it deviates.
    """
    from agents.cli import lint_command  # noqa: PLC0415

    return lint_command.run(certificate, label=label, issuer=issuer, as_json=as_json)


@app.command()
def lab(
    meters: Annotated[
        int, typer.Option("--meters", metavar="N", min=0, max=100_000, help="Smart meters, on CoAP.")
    ] = 12,
    gateways: Annotated[
        int, typer.Option("--gateways", metavar="N", min=0, max=100_000, help="Vehicle gateways, on MQTT.")
    ] = 6,
    loss: Annotated[
        float,
        typer.Option(
            "--loss",
            metavar="P",
            min=0.0,
            max=0.6,
            help="Lose, repeat and reorder this share of all messages.",
        ),
    ] = 0.0,
    seed: Annotated[
        int, typer.Option("--seed", metavar="S", help="Makes losses and choices repeatable.")
    ] = 1,
    messages: Annotated[
        int, typer.Option("--messages", metavar="N", min=0, max=1000, help="Signed messages per device.")
    ] = 3,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the result there; - is standard output."),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="DIR", help="Make everything there, and leave it there.")
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(
            "--domain",
            metavar="metering|ev|all",
            help="Instead of a fleet: every tier of an industry for its whole life, refusals included.",
        ),
    ] = None,
) -> None:
    """Run a whole fleet on this machine.

    Factory, authorities, broker and devices are separate programs on real sockets. Each device enrolls,
    confirms, rekeys, confirms and sends signed messages; one is revoked, and its next message is refused.
    """
    from agents.cli import lab_command  # noqa: PLC0415

    lab_command.run(lab_command.Options(meters, gateways, messages, loss, seed, json_file, keep, domain))


@app.command(hidden=True)
def fleet(label: Annotated[str, typer.Argument(help="Tier 1 label of the devices.")]) -> None:
    """Run one kind of device for the lab."""
    from agents.cli import fleet_command  # noqa: PLC0415

    fleet_command.run(label)


@app.command(hidden=True)
def hands() -> None:
    """Work single devices for the lab's tour."""
    from agents.cli import hands_command  # noqa: PLC0415

    hands_command.run()


@app.command(hidden=True)
def proxy(
    coap: Annotated[str | None, typer.Option("--coap", help="Address of the CoAP endpoint.")] = None,
    mqtt: Annotated[str | None, typer.Option("--mqtt", help="Address of the broker.")] = None,
    loss: Annotated[float, typer.Option("--loss", min=0.0, max=1.0)] = 0.0,
    seed: Annotated[int, typer.Option("--seed")] = 0,
) -> None:
    """Put a bad network in front of a running serve."""
    from agents.cli import proxy_command  # noqa: PLC0415
    from agents.cli.addresses import parse_address  # noqa: PLC0415

    proxy_command.run(
        parse_address(coap, "--coap") if coap else None,
        parse_address(mqtt, "--mqtt") if mqtt else None,
        loss=loss,
        seed=seed,
    )


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
