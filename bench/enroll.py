"""Durable enrollments per second, from a device's bytes to the certificate's; server in its own process.

Four roads: CoAP on aiocoap's server, CoAP on the lean endpoint, MQTT with mosquitto, MQTT with the embedded
broker. Each round serves a new authority, so that every request makes a certificate; load comes from raw
sockets in a third process. The figure is the share of the machine's own crypto limit, measured in the same
run just before and after each round.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.fleet import address_in, make_world, mosquitto, serving, write_requests
from bench.measure import Spread, crypto_limit, report

ROADS = ("aiocoap", "lean", "mosquitto", "embedded")


def loaded(transport: str, address: tuple[str, int], requests: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.load", transport, address[0], str(address[1]), str(requests)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    outcome: dict[str, float] = json.loads(done.stdout)
    return outcome


def one_round(road: str, count: int) -> tuple[float, float]:
    """Return (enrollments/s, share of the crypto limit)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        directory, batch = make_world(folder, label="its-boot", count=count)
        requests = folder / "requests.jsonl"
        made = write_requests(batch, requests, boot="its-boot", label="its-enroll")
        before = crypto_limit()
        if road in ("aiocoap", "lean"):
            with serving(directory, "--coap", "127.0.0.1:0", "--mqtt", "none", "--coap-engine", road) as (
                _,
                ready,
            ):
                outcome = loaded("coap", address_in(ready, "coap"), requests)
        elif road == "embedded":
            with serving(directory, "--coap", "127.0.0.1:0", "--mqtt", "127.0.0.1:0") as (_, ready):
                outcome = loaded("mqtt", address_in(ready, "mqtt"), requests)
        else:
            with (
                mosquitto(folder) as broker,
                serving(directory, "--coap", "127.0.0.1:0", "--broker", f"mqtt://{broker[0]}:{broker[1]}"),
            ):
                outcome = loaded("mqtt", broker, requests)
        after = crypto_limit()
    if outcome["answered"] != made:
        raise SystemExit(f"{road}: {outcome} of {made}")
    rate = outcome["answered"] / outcome["seconds"]
    return rate, 100 * rate / ((before + after) / 2)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--count", type=int, default=1500)
    arguments.add_argument("--json", type=Path)
    arguments.add_argument("--only", choices=ROADS)
    options = arguments.parse_args()
    roads = [options.only] if options.only else list(ROADS)
    rates: dict[str, list[tuple[float, float]]] = {road: [] for road in roads}
    for _ in range(options.rounds):
        for road in roads:
            rates[road].append(one_round(road, options.count))
    figures: dict[str, Spread | float | int | str] = {}
    for road in roads:
        figures[f"{road}: enrollments/s"] = Spread.of([rate for rate, _ in rates[road]])
        figures[f"{road}: % of crypto limit"] = Spread.of([share for _, share in rates[road]])
    report(
        "enroll",
        figures,
        targets={
            "aiocoap: % of crypto limit": ">= 7",
            "mosquitto: % of crypto limit": ">= 10",
            "embedded: % of crypto limit": ">= 4",
        },
    )


if __name__ == "__main__":
    main()
