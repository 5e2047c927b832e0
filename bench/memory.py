"""Resident memory of `trillium serve`: 10,000 known devices, 1,000 exchanges in flight, then a soak.

What grows in a soak and why: aiocoap remembers each exchange for 247 s (RFC 7252 EXCHANGE_LIFETIME), about
2.5 KiB a request; the store's page cache and the caches of signers and answers grow to their bounds.
After the load ends the figure is taken once more, when that memory has been given back to the allocator.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench.fleet import address_in, make_world, serving, write_requests
from bench.measure import Spread, report


def resident(pid: int) -> float:
    """Return the resident set in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("no VmRSS: this benchmark needs Linux")


def sample(pid: int, into: list[float], stop: threading.Event) -> None:
    while not stop.wait(0.05):
        into.append(resident(pid))


def send(address: tuple[str, int], requests: Path, window: int) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "bench.load",
        "coap",
        address[0],
        str(address[1]),
        str(requests),
        str(window),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1800)
    outcome: dict[str, float] = json.loads(done.stdout)
    return outcome


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--devices", type=int, default=10_000)
    arguments.add_argument("--in-flight", type=int, default=1000)
    arguments.add_argument("--soak", type=float, default=600, help="seconds; 0: none")
    arguments.add_argument("--json", type=Path)
    options = arguments.parse_args()
    figures: dict[str, Spread | float | int | str] = {"devices known": options.devices}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        directory, batch = make_world(folder, label="its-boot", count=options.devices)
        requests = folder / "requests.jsonl"
        write_requests(batch, requests, boot="its-boot", label="its-enroll")
        lines = requests.read_text().splitlines()
        burst = folder / "burst.jsonl"
        burst.write_text("\n".join(lines[: 2 * options.in_flight]) + "\n")
        with serving(directory, "--coap", "127.0.0.1:0", "--mqtt", "127.0.0.1:0") as (pid, ready):
            address = address_in(ready, "coap")
            figures["MiB at rest"] = resident(pid)
            seen: list[float] = []
            stop = threading.Event()
            watcher = threading.Thread(target=sample, args=(pid, seen, stop))
            watcher.start()
            outcome = send(address, burst, options.in_flight)
            stop.set()
            watcher.join()
            figures[f"MiB with {options.in_flight} exchanges in flight"] = Spread.of(seen)
            figures["answered"] = int(outcome["answered"])
            figures["refused (come back later)"] = int(outcome["refused"])
            if options.soak:
                soak(pid, address, requests, options.soak, figures)
    report(
        "memory", figures, targets={f"MiB with {options.in_flight} exchanges in flight": "< 200 (highest)"}
    )


def soak(
    pid: int,
    address: tuple[str, int],
    requests: Path,
    seconds: float,
    figures: dict[str, Spread | float | int | str],
) -> None:
    """Send the fleet's requests over and over: new ones first, then repeats (known answers)."""
    marks: list[float] = []
    ends = time.monotonic() + seconds
    total = 0
    while time.monotonic() < ends:
        outcome = send(address, requests, 64)
        total += int(outcome["answered"])
        marks.append(resident(pid))
        print(f"   {ends - time.monotonic():5.0f} s left, {total} answered, {marks[-1]:.0f} MiB", flush=True)
    figures["soak: answered"] = total
    figures["soak: MiB"] = Spread.of(marks)
    figures["soak: MiB at its end"] = marks[-1]
    time.sleep(260)  # aiocoap's memory of exchanges ends 247 s after each
    figures["soak: MiB 260 s later"] = resident(pid)


if __name__ == "__main__":
    main()
