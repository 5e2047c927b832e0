"""Durable enrollments per second for each label, behind the authority's port, against `meter-ds`.

Each label has an authority of its own; they take turns. Labels on P-256 are held against `meter-ds`; those on
larger curves against what their own curve's signatures allow, as `meter-ds` is against P-256's: at least 80 %
is wanted of both.

    python -m bench.labels [--rounds 3] [--count 600] [--json FILE]
"""

import argparse
import tempfile
from pathlib import Path

import anyio

from agents.authority import Limits
from bench.authority import IN_FLIGHT, enrollments_per_second, prepare
from bench.measure import Spread, crypto_limit, report, rounds
from protocol.cose import Algorithm
from protocol.profiles import profile_of

LABELS = (
    "meter-ds", "client-ds", "smki-ds", "ev-secc", "ev-cps", "its-enroll", "meter2-ds", "ev20-secc",
    "ev20-cps",
)  # fmt: skip
"""Labels that a tier 1 certificate opens and whose keys devices make, `meter-ds` first."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=600)
    arguments, _ = parser.parse_known_args()
    curves = sorted({profile_of(label).algorithms[0] for label in LABELS}, reverse=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        contenders = []
        for label in LABELS:
            template = Path(folder) / label / "template"
            template.parent.mkdir()
            requests = prepare(template, arguments.count, label)
            contenders.append(
                lambda template=template, requests=requests: anyio.run(
                    enrollments_per_second, template, requests, Limits(), IN_FLIGHT
                )
            )
        limits = [lambda curve=curve: crypto_limit(0.5, curve) for curve in curves]
        found = rounds(arguments.rounds, *contenders, *limits)
    rates = dict(zip(LABELS, found, strict=False))
    limit = dict(zip(curves, found[len(LABELS) :], strict=True))
    figures: dict[str, Spread | float | int | str] = {}
    for label, rate in rates.items():
        curve = profile_of(label).algorithms[0]
        figures[f"{label}: enrollments per second"] = Spread.of(rate)
        if label == "meter-ds":
            continue
        if curve is Algorithm.ES256:
            figures[f"{label} over meter-ds"] = Spread.of(
                [a / b for a, b in zip(rate, rates["meter-ds"], strict=True)]
            )
            continue
        own = [a / b for a, b in zip(rate, limit[curve], strict=True)]
        base = [a / b for a, b in zip(rates["meter-ds"], limit[Algorithm.ES256], strict=True)]
        figures[f"{label}, share of its curve's limit over meter-ds's of P-256"] = Spread.of(
            [a / b for a, b in zip(own, base, strict=True)]
        )
    report("labels", figures, targets={name: ">= 0.8" for name in figures if "over" in name})


if __name__ == "__main__":
    main()
