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
from collections.abc import Sequence
from pathlib import Path

import anyio

from agents.authority import Limits, MakerIssuer, NewDevice, initialise, open_authority, register_devices
from agents.keys import SoftwareSigner, generate
from bench.measure import Spread, crypto_limit, report, rounds
from protocol import c509
from protocol.exchange.request import Door, certification_request, sign_request
from protocol.identity import client_id
from protocol.labels import Domain, Operation
from protocol.ports import Content, Inbound
from protocol.profiles import profile_of, services_of

PASSPHRASE = b"bench"
IN_FLIGHT = 512
"""Requests that wait at a time: what 512 devices on slow links look like from here."""


def prepare(directory: Path, count: int) -> list[Inbound]:
    """Make an authority with `count` registered devices, and return one enroll request of each."""
    initialise(directory, passphrase=PASSPHRASE, now=int(time.time()))
    shutil.rmtree(directory / "roots")
    requests: list[Inbound] = []
    devices: list[NewDevice] = []
    with MakerIssuer(directory, Domain.METERING, PASSPHRASE) as maker:
        door = Door(maker.owner, "meter-ds", Operation.SEN, 0)
        for number in range(count):
            name = f"54524C{number:010X}"
            key, new_key = (SoftwareSigner(generate(), even_y=False) for _ in range(2))
            certificate = maker.issue(profile_of("meter-boot"), name, key.public_key).encoded
            entitled = services_of("meter-boot")
            identifier = client_id(maker.key_id, name)
            devices.append(NewDevice(name, "meter-boot", maker.key_id, identifier, entitled, certificate))
            payload = certification_request(c509.Name.common_name(name), new_key)
            body = sign_request(key, certificate, door, payload)
            requests.append(Inbound("meter-ds", Operation.SEN, body, f"coap:192.0.2.1:{number}"))
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
