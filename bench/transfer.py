"""Transfers per second: devices with three certificates each change their owner, in group commits.

A transfer is one voucher (a P-256 signature), three revocations, four audit records and the device's new
epoch, durable on disk. Held against the machine's own P-256 signatures on one core: a transfer takes at least
one. To another authority, a bundle is made and imported beyond that, each counted by itself.

    python -m bench.transfer [--rounds 5] [--devices 2000] [--json FILE]
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from secrets import token_bytes

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import insert

from agents.authority import (
    Layout,
    MakerIssuer,
    NewDevice,
    Store,
    initialise,
    list_devices,
    register_devices,
)
from agents.authority.acceptance import accept_bundle
from agents.authority.bundles import make_bundles, open_giver
from agents.authority.owners import add_owner, find_owner, own_card
from agents.authority.ownership import transfer_devices
from agents.authority.schema import CERTIFICATES, KEYS
from agents.keys import SoftwareSigner, generate
from bench.measure import Spread, report
from protocol.identity import client_id
from protocol.labels import Domain
from protocol.profiles import profile_of, services_of

PASSPHRASE = b"bench"
SERVICES = ("meter-ds", "meter-ka", "meter-tls")


def signatures_per_second(seconds: float = 0.5) -> float:
    """Return how many P-256 signatures one core makes."""
    key = ec.generate_private_key(ec.SECP256R1())
    algorithm, message = ec.ECDSA(hashes.SHA256()), bytes(120)
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(50):
            key.sign(message, algorithm)
        done += 50
    return done / (time.perf_counter() - started)


def prepare(folder: Path, devices: int) -> list[str]:
    """Make two authorities under one root, the first with meters; return their client-ids."""
    now = int(time.time())
    only = (Domain.METERING,)
    initialise(folder / "north", passphrase=PASSPHRASE, now=now, roots=folder / "roots", domains=only)
    initialise(
        folder / "south",
        passphrase=PASSPHRASE,
        now=now,
        under=folder / "roots",
        organisation="SOUTH",
        domains=only,
    )
    shutil.rmtree(folder / "roots")
    for here, there in (("north", "south"), ("south", "north")):
        add_owner(folder / here, there, own_card(folder / there))
    add_owner(folder / "north", "Tenant", None)
    with MakerIssuer(folder / "north", Domain.METERING, PASSPHRASE) as maker:
        new: list[NewDevice] = []
        for number in range(devices):
            name = f"54524C{number:010X}"
            key = SoftwareSigner(generate(), even_y=False)
            certificate = maker.issue(profile_of("meter-boot"), name, key.public_key).encoded
            identifier = client_id(maker.key_id, name)
            labels = services_of("meter-boot")
            new.append(NewDevice(name, "meter-boot", maker.key_id, identifier, labels, certificate))
        register_devices(maker._store, new, now, (maker.authority,))
    store = Store(Layout(folder / "north").store)
    enroll(store, devices, now)
    store.close()
    return [device.client_id for device in new]


def enroll(store: Store, devices: int, now: int) -> None:
    """Give each device a current certificate of each service, without asking anybody."""
    keys: list[dict[str, object]] = []
    certificates: list[dict[str, object]] = []
    for number in range(devices * len(SERVICES)):
        device, label = number // len(SERVICES) + 1, SERVICES[number % len(SERVICES)]
        both: dict[str, object] = {
            "id": devices + number + 1,
            "authority": bytes(32),
            "serial": b"\x40" + token_bytes(7),
            "label": label,
            "device_id": device,
            "not_before": now,
            "not_after": now + 10**8,
        }
        keys.append(both | {"key_hash": token_bytes(32), "signer_id": device})
        certificates.append(
            both
            | {
                "parent_id": device,
                "state": "current",
                "algorithm": -7,
                "public_key": bytes(65),
                "thumbprint": token_bytes(8),
                "encoded": bytes(200),
                "issued_at": now,
            }
        )
    with store.writing(now) as writing:
        writing.connection.execute(insert(KEYS), keys)
        writing.connection.execute(insert(CERTIFICATES), certificates)


def one_round(template: Path, devices: list[str]) -> dict[str, float]:
    """Return rates, each in devices a second."""
    now = int(time.time())
    rates = {"signatures": signatures_per_second()}
    bundles: list[bytes] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for owner in ("Tenant", "south"):
            north = Path(folder) / owner
            shutil.copytree(template / "north", north)
            store = Store(Layout(north).store)
            receiver = find_owner(north, owner).receiver()
            givers = {Domain.METERING: open_giver(north, Domain.METERING, PASSPHRASE)}
            started = time.perf_counter()
            done = transfer_devices(store, devices, receiver, givers, now=now, approved_by="bench")
            rates[f"to {'a tenant' if owner == 'Tenant' else 'another authority'}"] = len(devices) / (
                time.perf_counter() - started
            )
            assert sum(one.ended for one in done) == len(devices) * len(SERVICES)
            if owner == "south":
                started = time.perf_counter()
                bundles = make_bundles(north, store, devices, PASSPHRASE)
                rates["bundled"] = len(devices) / (time.perf_counter() - started)
            store.close()
        south = Path(folder) / "accepting"
        shutil.copytree(template / "south", south)
        store = Store(Layout(south).store)
        started = time.perf_counter()
        for bundle in bundles:
            accept_bundle(store, south, bundle, now=now, approved_by="bench")
        rates["imported"] = len(devices) / (time.perf_counter() - started)
        assert len(list_devices(store)) == len(devices)
        store.close()
    return rates


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--devices", type=int, default=2000)
    arguments, _ = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        devices = prepare(Path(folder), arguments.devices)
        rounds = [one_round(Path(folder), devices) for _ in range(arguments.rounds)]
    figures: dict[str, Spread | float | int | str] = {
        f"{what} per second": Spread.of([one[what] for one in rounds]) for what in rounds[0]
    }
    figures["share of the signature rate"] = Spread.of(
        [one["to another authority"] / one["signatures"] for one in rounds]
    )
    figures["devices"] = arguments.devices
    report(
        "transfer",
        figures,
        targets={
            "to a tenant per second": ">= 1000",
            "to another authority per second": ">= 1000",
        },
    )


if __name__ == "__main__":
    main()
