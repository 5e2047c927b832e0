"""`trillium reconcile`: what devices report against what the store expects."""

import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

from agents.authority.differences import NEXT, Difference, Kind
from agents.authority.layout import BadDirectory
from agents.authority.reconcile import expectations, reconcile
from agents.cli.failure import REFUSED, Failure
from agents.cli.inventory_command import opened
from agents.cli.output import console, print_json, table

DAY: Final = 24 * 3600
MAX_SHOWN: Final = 50
"""Differences in the table, unless all are asked for: the counts above it say how many there are."""


def run(directory: Path, *, max_age: float, is_all: bool, as_json: bool) -> None:
    """Compare, and tell the differences.

    Args:
        directory: The authority's.
        max_age: Days after which a report is too old.
        is_all: Show every difference, not the first `MAX_SHOWN` of each kind.
        as_json: Write one JSON document instead of words.

    Raises:
        Failure: Not an authority's directory.
    """
    now = int(time.time())
    compared, counts = 0, Counter[Kind]()
    found: list[Difference] = []
    with opened(directory) as store:
        try:
            expected = expectations(directory)
        except BadDirectory as error:
            raise Failure(str(error), REFUSED) from None
        for several in reconcile(store, expected, now, max_age=round(max_age * DAY)):
            compared += 1
            for one in several:
                counts[one.kind] += 1
                if as_json or is_all or counts[one.kind] <= MAX_SHOWN:
                    found.append(one)
    if as_json:
        print_json(_as_dict(compared, counts, found))
        return
    _show(compared, counts, found)


def _as_dict(compared: int, counts: Counter[Kind], found: list[Difference]) -> dict[str, Any]:
    return {
        "devices": compared,
        "counts": {kind.name.lower(): counts[kind] for kind in Kind if counts[kind]},
        "next": {kind.name.lower(): NEXT[kind] for kind in Kind if counts[kind]},
        "differences": [
            {
                "device": one.device,
                "client_id": one.client_id,
                "domain": one.domain.value,
                "kind": one.kind.name.lower(),
                "label": one.label,
                "thumbprint": None if one.thumbprint is None else one.thumbprint.hex(),
                "detail": one.detail,
            }
            for one in found
        ],
    }


def _show(compared: int, counts: Counter[Kind], found: list[Difference]) -> None:
    out = console()
    devices = f"{compared:,} device{'' if compared == 1 else 's'}"
    if not counts:
        said = (
            f"{devices} compared: they hold what they should"
            if compared
            else "no device has anything to report"
        )
        out.print(said)
        return
    out.print(f"{devices} compared, {counts.total():,} difference{'' if counts.total() == 1 else 's'}")
    out.print()
    for kind in Kind:
        if counts[kind]:
            out.print(f"{counts[kind]:>7,}  {kind.value}: {NEXT[kind]}", soft_wrap=True)
    out.print()
    order = list(Kind)
    rows = [
        (
            one.device,
            one.kind.value,
            one.label or "",
            "" if one.thumbprint is None else one.thumbprint.hex(),
            one.detail,
        )
        for one in sorted(found, key=lambda one: order.index(one.kind))
    ]
    out.print(table(("device", "difference", "label", "certificate", ""), rows))
    left = counts.total() - len(found)
    if left:
        out.print(f"and {left:,} more; --all or --json shows them")
