"""How fast one process makes identities, against the bare cost of their cryptography.

    python -m bench.factory [--count N] [--folder DIR] [--json FILE]

Keys are made here. The bare cost is a key pair, a certificate's signature and a voucher's signature,
measured in the same run by turns. Everything else is ours: certificates, files, disk flushes, and the
inventory, which verifies each certificate again.
"""

import argparse
import resource
import shutil
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from agents.authority import MakerIssuer, initialise
from agents.factory import Bundle, counted, make_order, numbering_of
from bench.measure import Spread, report, rounds
from protocol.labels import Domain
from protocol.profiles import profile_of

PASSPHRASE = b"bench"
CONTENDERS = (
    ("meter-boot", Bundle.FOLDER),
    ("meter-boot", Bundle.ZIP),
    ("its-boot", Bundle.FOLDER),
    ("smki-boot", Bundle.FOLDER),
    ("ev-oem", Bundle.FOLDER),
)
DOMAINS = (Domain.METERING, Domain.ITS, Domain.SMKI, Domain.EV_MO)


def bare(count: int) -> float:
    """Return identities/s if they cost nothing but cryptography."""
    key = ec.generate_private_key(ec.SECP256R1())
    algorithm, message = ec.ECDSA(hashes.SHA256()), bytes(300)
    started = time.perf_counter()
    for _ in range(count):
        ec.generate_private_key(ec.SECP256R1())
        key.sign(message, algorithm)
        key.sign(message, algorithm)
    return count / (time.perf_counter() - started)


class Factory:
    """Makes one batch after the other."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._count = count
        self._made: dict[str, int] = {}
        self._batches = 0
        initialise(folder / "authority", passphrase=PASSPHRASE, now=int(time.time()), domains=DOMAINS)

    def run(self, label: str, bundle: Bundle) -> float:
        """Return identities/s of one batch, from the order to the signed manifest."""
        profile = profile_of(label)
        start = self._made.setdefault(label, 1)
        self._made[label] += self._count
        self._batches += 1
        out = self._folder / str(self._batches)
        with MakerIssuer(self._folder / "authority", profile.domain, PASSPHRASE) as maker:
            started = time.perf_counter()
            numbering = numbering_of(maker, profile, None, None)
            make_order(maker, counted(maker, label, self._count, numbering, start=start), out, bundle=bundle)
            return self._count / (time.perf_counter() - started)


def main() -> None:
    """Measure and report."""
    arguments = argparse.ArgumentParser(add_help=False)
    arguments.add_argument("--count", type=int, default=1024)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--folder", type=Path, default=None)
    options = arguments.parse_known_args()[0]
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        factory = Factory(folder, options.count)
        measured = rounds(
            options.rounds,
            lambda: bare(options.count),
            *(lambda one=one: factory.run(*one) for one in CONTENDERS),
        )
    finally:
        shutil.rmtree(folder)
    bare_rate = Spread.of(measured[0])
    figures: dict[str, Spread | float | int | str] = {"bare crypto/s": bare_rate}
    targets = {}
    for (label, bundle), rates in zip(CONTENDERS, measured[1:], strict=True):
        name = f"{label} {bundle.value}s/s"
        figures[name] = Spread.of(rates)
        figures[f"{label} {bundle.value}: bare / ours"] = bare_rate.median / Spread.of(rates).median
        targets[name] = ">= 500"
    figures["peak memory, MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    report("factory", figures, targets=targets)


if __name__ == "__main__":
    main()
