"""Run every benchmark, one after the other: `make bench`."""

import subprocess
import sys
import time
from pathlib import Path

from bench.measure import machine

ORDER = (
    "sizes",
    "c509",
    "validator",
    "authority",
    "contract",
    "factory",
    "labels",
    "transfer",
    "crl",
    "verify",
    "enroll",
    "memory",
)


def main() -> None:
    """Run each in a process of its own, so that none warms or fattens another."""
    print(machine())
    failed = []
    for name in ORDER:
        started = time.monotonic()
        print(f"\n== bench/{name}.py", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"bench.{name}"], cwd=Path(__file__).parents[1], check=False
        )
        print(f"   {time.monotonic() - started:.0f} s", flush=True)
        if done.returncode:
            failed.append(name)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
