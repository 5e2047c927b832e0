"""`trillium contract add`, `contract end` and `contracts`."""

import datetime as dt
import time
from pathlib import Path
from typing import Any

from agents.authority.contracts import Contract, add_contract, end_contract, list_contracts
from agents.cli.failure import USAGE, Failure
from agents.cli.inventory_command import opened
from agents.cli.output import console, print_json, table
from agents.inspect.words import day


def add(
    directory: Path,
    car: str,
    emaid: str,
    *,
    until: str | None,
    tenant: str | None,
    label: str | None,
    as_json: bool,
) -> None:
    """Grant a contract to a car."""
    end = None if until is None else _last_second(until)
    with opened(directory) as store:
        made = add_contract(store, car, emaid, int(time.time()), tenant=tenant, until=end, label=label)
    if as_json:
        print_json(_json(made))
        return
    console().print(
        f"{made.name} of {made.tenant} for {made.device} ({made.label}), "
        f"{'without an end' if made.not_after is None else 'until ' + day(made.not_after)}: {made.state}",
        soft_wrap=True,
    )


def _last_second(text: str) -> int:
    try:
        date = dt.date.fromisoformat(text)
    except ValueError:
        raise Failure(f"--until {text}: a date is written YYYY-MM-DD", USAGE) from None
    return int(dt.datetime.combine(date, dt.time(23, 59, 59), dt.UTC).timestamp())


def end(directory: Path, emaid: str, *, as_json: bool) -> None:
    """End a contract."""
    with opened(directory) as store:
        revoked = end_contract(store, emaid, int(time.time()))
    if as_json:
        print_json({"contract": emaid, "revoked": revoked})
        return
    certificates = {0: "no certificate was out", 1: "its certificate is revoked"}
    told = certificates.get(revoked, f"its {revoked} certificates are revoked")
    console().print(f"{emaid} has ended: {told}", soft_wrap=True)


def listing(directory: Path, *, everything: bool, as_json: bool) -> None:
    """List contracts."""
    with opened(directory) as store:
        found = [one for one in list_contracts(store) if everything or one.ended_at is None]
    if as_json:
        print_json([_json(one) for one in found])
        return
    if not found:
        console().print("no contracts; trillium contract add grants some")
        return
    rows = [
        (
            one.name,
            one.device,
            one.label,
            one.tenant,
            one.state,
            "" if one.certified_until is None else day(one.certified_until),
            "no end" if one.not_after is None else day(one.not_after),
        )
        for one in found
    ]
    head = ("contract", "car", "label", "tenant", "state", "certified until", "ends")
    console().print(table(head, rows))


def _json(contract: Contract) -> dict[str, Any]:
    return {
        "contract": contract.name,
        "device": contract.device,
        "client_id": contract.client_id,
        "label": contract.label,
        "tenant": contract.tenant,
        "not_after": contract.not_after,
        "granted_at": contract.granted_at,
        "ended_at": contract.ended_at,
        "state": contract.state,
        "serial": None if contract.serial is None else contract.serial.hex(),
        "certified_until": contract.certified_until,
        "prepared": contract.is_ready,
        "exi_base64_characters": contract.characters,
    }
