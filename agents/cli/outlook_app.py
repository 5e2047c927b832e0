"""What a person types to see what is coming, and whether devices hold what they should."""

from pathlib import Path
from typing import Annotated

import typer

from agents.cli.options import Directory, Json


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command()(forecast)
    app.command()(reconcile)


def forecast(
    directory: Directory,
    days: Annotated[
        int, typer.Option("--days", metavar="N", min=1, max=3660, help="How far to look ahead.")
    ] = 365,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="day|week|month", help="What one bar stands for; default: what fits."),
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="FILE", help="Write a picture; needs Pillow.")
    ] = None,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write a picture.")] = None,
    as_json: Json = False,
) -> None:
    """Show what is coming: renewals, certificates that nobody renews, ends of CAs.

    Renewals are computed as the devices themselves do it, so the load is what they will make; those of later
    generations are expected values. Also beside a running serve.
    """
    from agents.cli import forecast_command  # noqa: PLC0415 (commands are imported when they run)

    forecast_command.run(directory, days=days, by=by, png=png, svg=svg, as_json=as_json)


def reconcile(
    directory: Directory,
    max_age: Annotated[
        float, typer.Option("--max-age", metavar="DAYS", min=0.01, help="An older report is too old.")
    ] = 3.0,
    is_all: Annotated[bool, typer.Option("--all", help="Show every difference.")] = False,
    as_json: Json = False,
) -> None:
    """Compare what devices report that they hold with what the store expects.

    Devices report after every change and once a day (trillium device report). Says what to do about each
    difference. Also beside a running serve.
    """
    from agents.cli import reconcile_command  # noqa: PLC0415

    reconcile_command.run(directory, max_age=max_age, is_all=is_all, as_json=as_json)
