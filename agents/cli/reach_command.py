"""`trillium reach` and `removed`: whom a revocation can have reached, and what has still to be removed."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

from agents.authority import Fetches, Reached, Removal, confirm_removal, reach
from agents.cli.failure import USAGE, Failure
from agents.cli.inventory_command import opened
from agents.cli.output import console, print_json, table
from agents.inspect.words import moment

_NOTES = (
    "The broker and the verifier of this authority refuse a revoked certificate within a second.",
    "Another broker (mosquitto) knows what was exported to it, and not before SIGHUP.",
    "Counts are lower bounds. What relying parties did with what they fetched is not known here.",
    "Neither is who heard an announcement, nor what a cache or a proxy handed on.",
)


def run(directory: Path, *, as_json: bool) -> None:
    """Report on every revoked certificate."""
    with opened(directory) as store:
        found = reach(store)
    if as_json:
        print_json({"revoked": [_json(one) for one in found], "notes": list(_NOTES)})
        return
    out = console()
    if not found:
        out.print("nothing is revoked")
        return
    rows = [
        (
            one.device,
            one.label,
            one.serial.hex(),
            moment(one.revoked_at),
            _listed(one),
            _fetched(one),
            "-" if one.ocsp is None else str(one.ocsp.count),
            str(one.devices) if one.devices else "-",
            one.removal.value,
        )
        for one in found
    ]
    headings = (
        "device",
        "label",
        "serial",
        "revoked",
        "first list",
        "given out",
        "ocsp",
        "devices",
        "removal",
    )
    out.print(table(headings, rows, right=(6, 7), gap=1))
    out.print()
    counted = Counter(one.removal for one in found)
    if any(removal is not Removal.NOT_NEEDED for removal in counted):
        told = ", ".join(
            f"{count} {removal.value}"
            for removal, count in counted.items()
            if removal is not Removal.NOT_NEEDED
        )
        out.print(
            "Meters check no revocation: what is revoked has to be removed from them."
            f" Removal: {told}. Say what was done with trillium removed.",
            soft_wrap=True,
        )
    for note in _NOTES:
        out.print(note, soft_wrap=True)


def _listed(one: Reached) -> str:
    if not one.is_published:
        return "its issuer's are not published here"
    if one.listed is None:
        return "none yet"
    return f"{'' if one.listed.is_exact else 'at latest '}{one.listed.number}, {moment(one.listed.at)}"


def _fetched(one: Reached) -> str:
    return ", ".join(f"{channel} {found.count}" for channel, found in one.fetches.items()) or "-"


def _json(one: Reached) -> dict[str, Any]:
    listed = one.listed
    return {
        "device": one.device,
        "client_id": one.client_id,
        "label": one.label,
        "serial": one.serial.hex(),
        "authority": one.authority.hex(),
        "revoked_at": one.revoked_at,
        "reason": one.reason.name.lower(),
        "published": one.is_published,
        "first_list": None
        if listed is None
        else {"number": listed.number, "at": listed.at, "exact": listed.is_exact},
        "given_out": {channel: _fetches_json(found) for channel, found in one.fetches.items()},
        "ocsp": None if one.ocsp is None else _fetches_json(one.ocsp),
        "devices": one.devices,
        "removal": one.removal.value,
        "removal_needed": one.removal.is_open,
    }


def _fetches_json(found: Fetches) -> dict[str, int]:
    return {"count": found.count, "last_at": found.last_at}


def removed(directory: Path, device: str, serial: str, *, as_json: bool) -> None:
    """Take the operator's word that a device no longer holds a certificate."""
    try:
        number = bytes.fromhex(serial.replace(":", "")).lstrip(b"\0")
    except ValueError:
        raise Failure(f"{serial}: a serial number is written in hex", USAGE) from None
    with opened(directory) as store:
        is_new = confirm_removal(store, device, number, int(time.time()))
    if as_json:
        print_json({"device": device, "serial": number.hex(), "news": is_new})
        return
    word = "is recorded as removed" if is_new else "was recorded as removed before; nothing changed"
    console().print(f"{device}: {number.hex()} {word}", soft_wrap=True)
