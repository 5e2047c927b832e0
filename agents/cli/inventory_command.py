"""`trillium devices`, `show` and `revoke`: what an authority knows of its devices."""

import hashlib
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agents import authority
from agents.authority import (
    BadDirectory,
    CertificateSummary,
    DeviceDetail,
    InventoryError,
    Store,
    WrongStore,
    list_devices,
    revoke,
    show_device,
)
from agents.cli.failure import REFUSED, USAGE, Failure
from agents.cli.output import console, facts, print_json, progress, table
from agents.inspect.words import day, moment
from protocol import c509
from protocol.exchange.request import RevocationReason

REASONS = {reason.name.lower().replace("_", "-"): reason for reason in RevocationReason}
"""RFC 5280 reasons as they are typed."""


def reason_of(text: str) -> RevocationReason:
    """Return the reason that `text` names, as we spell it or as RFC 5280 does (keyCompromise).

    Raises:
        Failure: There is no such reason.
    """
    for spelling, reason in REASONS.items():
        if text.lower().replace("-", "") == spelling.replace("-", ""):
            return reason
    raise Failure(f"--reason {text}: one of {', '.join(REASONS)}", USAGE)


@contextmanager
def opened(directory: Path) -> Generator[Store, None, None]:
    """Open an authority's store, also beside a running `serve`.

    Raises:
        Failure: There is none, or what is asked of it is not there.
    """
    try:
        with authority.open_store(directory) as store:
            yield store
    except (BadDirectory, WrongStore, InventoryError) as error:
        raise Failure(str(error), REFUSED) from None


def devices(directory: Path, *, as_json: bool) -> None:
    """List every device."""
    with opened(directory) as store:
        found = list_devices(store)
        if as_json:
            told: list[dict[str, Any]] = []
            with progress("reading the inventory", len(found)) as advance:
                for device in found:
                    told.append(device_json(show_device(store, device.client_id)))
                    advance(len(told))
            print_json(told)
            return
    if not found:
        console().print("no devices yet; trillium factory makes some")
        return
    rows = [
        (
            device.name,
            device.domain.value,
            device.client_id,
            *map(_count, (device.current, device.pending, device.revoked)),
        )
        for device in found
    ]
    console().print(
        table(
            ("device", "domain", "client-id", "current", "pending", "revoked"), rows, right=(3, 4, 5), gap=1
        )
    )


def _count(number: int) -> str:
    return str(number) if number else "-"


def show(directory: Path, word: str, *, as_json: bool) -> None:
    """Show one device with everything it has or had."""
    with opened(directory) as store:
        device = show_device(store, word)
    if as_json:
        print_json(device_json(device))
        return
    out = console()
    out.print(
        facts(
            [
                ("device", device.name),
                ("domain", device.domain.value),
                ("client-id", device.client_id),
                ("maker", device.maker.hex()),
                ("owner", f"{device.owner + ', ' if device.owner else ''}epoch {device.epoch}"),
                ("may have", ", ".join(device.entitled)),
                ("registered", moment(device.registered_at)),
            ]
        )
    )
    out.print()
    rows = [
        (one.label, one.serial.hex(), _state(one), day(one.issued_at), day(one.not_after))
        for one in device.certificates
    ]
    out.print(table(("label", "serial", "state", "issued", "valid until"), rows))


def _state(certificate: CertificateSummary) -> str:
    if certificate.reason is None or certificate.state.value != "revoked":
        return certificate.state.value
    return f"revoked ({certificate.reason.name.lower().replace('_', ' ')})"


def device_json(device: DeviceDetail) -> dict[str, Any]:
    """Return a device as JSON has it."""
    return {
        "device": device.name,
        "domain": device.domain.value,
        "client_id": device.client_id,
        "maker": device.maker.hex(),
        "epoch": device.epoch,
        "owner": device.owner,
        "entitled": list(device.entitled),
        "registered_at": device.registered_at,
        "certificates": [certificate_json(one) for one in device.certificates],
    }


def certificate_json(held: CertificateSummary) -> dict[str, Any]:
    """Return a certificate as JSON has it; `key` is SHA-256 of its public key."""
    certificate = c509.decode_certificate(held.encoded)
    return {
        "label": held.label,
        "state": held.state.value,
        "serial": held.serial.hex(),
        "authority": held.authority.hex(),
        "thumbprint": c509.thumbprint(held.encoded).hex(),
        "key": hashlib.sha256(certificate.spki_der).hexdigest(),
        "not_before": held.not_before,
        "not_after": held.not_after,
        "issued_at": held.issued_at,
        "ended_at": held.ended_at,
        "reason": None if held.reason is None else held.reason.name.lower(),
    }


def revoke_word(directory: Path, word: str, reason: str, *, as_json: bool) -> None:
    """Revoke a device with everything it has, or one certificate by its serial number."""
    why = reason_of(reason)
    with opened(directory) as store:
        revoked = revoke(store, word, why, int(time.time()))
    if as_json:
        print_json({"revoked": [certificate_json(one) for one in revoked]})
        return
    if not revoked:
        console().print(f"{word}: was revoked before; nothing changed")
        return
    labels = ", ".join(f"{one.label} {one.serial.hex()}" for one in revoked)
    console().print(f"revoked {word}: {labels}", soft_wrap=True)
