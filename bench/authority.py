"""Durable enrollments per second behind the authority's port, without a transport.

Grouped: as it serves, with many requests in work. One by one: the same code, one request in work, each with
its own transactions. Both against the machine's crypto limit, measured in the same run.

    python -m bench.authority [--rounds 5] [--count 2000] [--json FILE]
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import anyio

from agents.authority import Limits, MakerIssuer, NewDevice, initialise, open_authority, register_devices
from agents.keys import SoftwareSigner, generate
from bench.measure import Spread, crypto_limit, report, rounds
from protocol import c509
from protocol.exchange.request import Door, certification_request, sign_request
from protocol.identity import client_id
from protocol.labels import Operation
from protocol.ports import Content, Inbound
from protocol.profiles import Naming, profile_of, services_of

PASSPHRASE = b"bench"
IN_FLIGHT = 512
"""Requests that wait at a time: what 512 devices on slow links look like from here."""


_NAMES: Final[Mapping[Naming, Callable[[int], str]]] = {
    Naming.SYSTEM_TITLE: lambda number: f"54524C{number:010X}",
    Naming.EUI64: lambda number: "02-54-52-" + number.to_bytes(5, "big").hex("-").upper(),
    Naming.SECCID: lambda number: f"DETRLS{number:032}",
    Naming.SERVICE: lambda number: f"cps-{number}",
}


def prepare(directory: Path, count: int, label: str = "meter-ds") -> list[Inbound]:
    """Make an authority with `count` registered devices, and return one enroll request of each.

    Args:
        directory: Of the authority; is made.
        count: Devices.
        label: One that a tier 1 certificate opens.
    """
    profile = profile_of(label)
    (bootstrap,) = profile.opened_by
    initialise(directory, passphrase=PASSPHRASE, now=int(time.time()), domains=[profile.domain])
    shutil.rmtree(directory / "roots")
    requests: list[Inbound] = []
    devices: list[NewDevice] = []
    with MakerIssuer(directory, profile.domain, PASSPHRASE) as maker:
        door = Door(maker.owner, label, Operation.SEN, 0)
        for number in range(count):
            name = _NAMES[profile.naming](number)
            key, new_key = (SoftwareSigner(generate(profile.algorithms[0]), even_y=False) for _ in range(2))
            certificate = maker.issue(profile_of(bootstrap), name, key.public_key).encoded
            identifier = client_id(maker.key_id, name)
            devices.append(
                NewDevice(name, bootstrap, maker.key_id, identifier, services_of(bootstrap), certificate)
            )
            payload = certification_request(c509.Name.common_name(name), new_key)
            body = sign_request(key, certificate, door, payload)
            requests.append(Inbound(label, Operation.SEN, body, f"coap:192.0.2.1:{number}"))
        register_devices(maker._store, devices, int(time.time()), (maker.authority,))
    return requests


async def enrollments_per_second(
    template: Path, requests: Sequence[Inbound], limits: Limits, in_flight: int
) -> float:
    """Return the rate at which a copy of `template` answers `requests` with certificates."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=template.parent) as folder:
        directory = Path(folder) / "authority"
        shutil.copytree(template, directory)
        waiting = iter(requests)
        async with open_authority(directory, PASSPHRASE, limits=limits) as authority:

            async def client() -> None:
                for request in waiting:
                    reply = await authority.handle(request)
                    if not isinstance(reply, Content):
                        sys.exit(f"refused: {reply}")

            started = time.perf_counter()
            async with anyio.create_task_group() as tasks:
                for _ in range(in_flight):
                    tasks.start_soon(client)
            return len(requests) / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=2000)
    arguments, _ = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        template = Path(folder) / "template"
        requests = prepare(template, arguments.count)
        few = requests[: max(50, arguments.count // 8)]
        grouped, single, limit = rounds(
            arguments.rounds,
            lambda: anyio.run(enrollments_per_second, template, requests, Limits(), IN_FLIGHT),
            lambda: anyio.run(enrollments_per_second, template, few, Limits(groups=1, group=1), 1),
            crypto_limit,
        )
    report(
        "authority",
        {
            "enrollments per second, grouped": Spread.of(grouped),
            "enrollments per second, one by one": Spread.of(single),
            "grouped over one by one": Spread.of([g / s for g, s in zip(grouped, single, strict=True)]),
            "crypto limit per second": Spread.of(limit),
            "grouped, share of the limit": Spread.of([g / c for g, c in zip(grouped, limit, strict=True)]),
        },
        targets={"grouped over one by one": ">= 3"},
    )


if __name__ == "__main__":
    main()
