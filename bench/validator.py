"""What a validated path costs beside its bare signature checks: P-256, with one sub-CA and with two.

The bare checks are `cryptography` verifying the same signatures over the same bytes with keys that are loaded
already: one for the leaf and one for each sub-CA. Against them stands the validator, under the policy that
`ev-secc` has by its profile, with certificates that are decoded already; then with leaf and sub-CAs decoded
anew each time, from C509 as our devices send them and from DER as others do. The root is pinned and was read
once. Each turn takes another leaf of many, so that nothing of a leaf is remembered; issuers' keys are, as in
service. Contenders take turns round by round in one process, and a ratio is of one round.

What profiling said: of decoded certificates the leaf's own key (a compressed point, 20 µs) is the largest
part after the signatures; then come extensions and names by rule, some 20 µs a certificate. From C509 the
DER that the signature is over is written again (60 µs a certificate). From DER it is `c509.from_der`, which
reads, writes C509, reads that and writes DER again to see that every byte comes back (260 µs a certificate
of this kind): whoever meets the same CAs often reads them once.

    python bench/validator.py [--rounds 15] [--json FILE]
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import cycle, pairwise
from pathlib import Path

if not __package__:  # run as a script: the project is one folder up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from bench.measure import Spread, report, rounds
from protocol import c509
from protocol.profiles import profile_of
from protocol.validator import Policy, policy_of, validate
from protocol.validity import Clock
from tests.ev_world import NOW, EvWorld, Party

LEAVES = 200
"""Different leaves, more than anything remembers; a round validates each once."""


def microseconds(work: Callable[[int], object]) -> Callable[[], float]:
    """Return a contender: one round over all leaves, in microseconds of this process each."""

    def one_round() -> float:
        started = time.process_time()
        for number in range(LEAVES):
            work(number)
        return (time.process_time() - started) / LEAVES * 1e6

    return one_round


def bare_checks(paths: Sequence[Sequence[Party]]) -> Callable[[int], object]:
    """Return the signature checks of each path and nothing else."""
    algorithm = ec.ECDSA(SHA256())
    prepared = [
        [
            (upper.key.public_key(), lower.certificate.signature_der, lower.certificate.signed_bytes)
            for lower, upper in pairwise(path)
        ]
        for path in paths
    ]

    def work(number: int) -> None:
        for key, signature, signed in prepared[number]:
            key.verify(signature, signed, algorithm)

    return work


def validations(paths: Sequence[Sequence[Party]], policy: Policy) -> dict[str, Callable[[int], object]]:
    """Return the validator with decoded certificates, and with decoding them."""
    clock = Clock(NOW)
    roots = [paths[0][-1].certificate]
    decoded = [[party.certificate for party in path[:-1]] for path in paths]
    encoded = [[party.certificate.encoded for party in path[:-1]] for path in paths]
    ders = [[party.der for party in path[:-1]] for path in paths]

    def from_decoded(number: int) -> None:
        leaf, *between = decoded[number]
        validate(leaf, between, roots, policy=policy, clock=clock)

    def from_c509(number: int) -> None:
        leaf, *between = map(c509.decode_certificate, encoded[number])
        validate(leaf, between, roots, policy=policy, clock=clock)

    def from_der(number: int) -> None:
        leaf, *between = map(c509.from_der, ders[number])
        validate(leaf, between, roots, policy=policy, clock=clock)

    return {"validated": from_decoded, "validated from C509": from_c509, "validated from DER": from_der}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=15)
    arguments.add_argument("--json", type=Path, help="where the results go (bench/results/validator.json)")
    count: int = arguments.parse_args().rounds

    world = EvWorld()
    profile = policy_of(profile_of("ev-secc"), is_ours=False)
    only = world.v2g.ca("CPO Sub2", 0, role="V2G", country="DE")
    names = cycle([f"DETRLS{number:032X}" for number in range(LEAVES)])
    chains: dict[int, list[tuple[Party, ...]]] = {
        3: [(world.secc(only, cn=next(names)), only, world.v2g) for _ in range(LEAVES)],
        4: [(world.secc(cn=next(names)), world.cpo2, world.cpo1, world.v2g) for _ in range(LEAVES)],
    }
    policy = replace(profile, max_intermediates=2)
    figures: dict[str, Spread | float | int | str] = {}
    wanted: dict[str, str] = {}
    contenders: dict[str, Callable[[], float]] = {}
    for size, paths in chains.items():
        contenders[f"{size} certificates, bare checks"] = microseconds(bare_checks(paths))
        for name, work in validations(paths, policy).items():
            contenders[f"{size} certificates, {name}"] = microseconds(work)
    taken = dict(zip(contenders, rounds(count, *contenders.values()), strict=True))
    for size in chains:
        bare = taken[f"{size} certificates, bare checks"]
        for name in ("validated", "validated from C509", "validated from DER"):
            costs = taken[f"{size} certificates, {name}"]
            ratio = f"{size} certificates, {name} / bare checks"
            figures[ratio] = Spread.of([a / b for a, b in zip(costs, bare, strict=True)])
            if name == "validated":
                wanted[ratio] = "<= 3.0"
    figures.update({f"{name}, µs": Spread.of(values) for name, values in taken.items()})
    report("validator", figures, targets=wanted)


if __name__ == "__main__":
    main()
