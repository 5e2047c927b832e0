"""Rounds, medians and spreads, and the machine's own crypto limit to hold figures against."""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from protocol.cose import Algorithm

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Spread:
    """Several rounds of one figure."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


_CURVES: Final = {
    Algorithm.ES256: (ec.SECP256R1(), hashes.SHA256()),
    Algorithm.ES384: (ec.SECP384R1(), hashes.SHA384()),
    Algorithm.ES512: (ec.SECP521R1(), hashes.SHA512()),
}


def crypto_limit(seconds: float = 1.0, algorithm: Algorithm = Algorithm.ES256) -> float:
    """Return enrollments/s if they cost nothing but two verifications and one signature, on all cores.

    `cryptography` releases the GIL in both, so one thread per core in chunks reaches the machine's limit.
    """
    curve, digest = _CURVES[algorithm]
    key = ec.generate_private_key(curve)
    public = key.public_key()
    scheme = ec.ECDSA(digest)
    message = bytes(200)
    signature = key.sign(message, scheme)
    cores = os.cpu_count() or 1
    deadline = time.perf_counter() + seconds

    def work(_: int) -> int:
        done = 0
        while time.perf_counter() < deadline:
            for _ in range(16):
                public.verify(signature, message, scheme)
                public.verify(signature, message, scheme)
                key.sign(message, scheme)
            done += 16
        return done

    started = time.perf_counter()
    with ThreadPoolExecutor(cores) as pool:
        total = sum(pool.map(work, range(cores)))
    return total / (time.perf_counter() - started)


def machine() -> dict[str, object]:
    """Return what the figures were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def report(
    name: str, figures: dict[str, Spread | float | int | str], *, targets: dict[str, str] | None = None
) -> None:
    """Print a table and write bench/results/<name>.json (or --json FILE)."""
    arguments = argparse.ArgumentParser(add_help=False)
    arguments.add_argument("--json", type=Path, default=RESULTS / f"{name}.json")
    target_file: Path = arguments.parse_known_args()[0].json
    width = max(map(len, figures))
    print(f"\n{name}: {machine()['cpu']}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for key, value in figures.items():
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        wanted = f"   wanted {targets[key]}" if targets and key in targets else ""
        print(f"  {key:<{width}}  {shown}{wanted}")
    target_file.parent.mkdir(parents=True, exist_ok=True)
    plain = {key: asdict(value) if isinstance(value, Spread) else value for key, value in figures.items()}
    target_file.write_text(
        json.dumps({"name": name, "machine": machine(), "figures": plain}, indent=1) + "\n"
    )


def rounds(count: int, *contenders: Callable[[], float]) -> list[list[float]]:
    """Return each contender's figure per round; they take turns, so a drifting machine hits all alike."""
    results: list[list[float]] = [[] for _ in contenders]
    for _ in range(count):
        for index, contender in enumerate(contenders):
            results[index].append(contender())
    return results
