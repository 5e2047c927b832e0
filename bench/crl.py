"""A revocation list of 100,000 certificates: made from nothing, made anew, given out.

From nothing: a process that has just started reads the store, encodes every entry and signs. Anew: one more
certificate has ended. Both end with the list in the database and in its file. Given out: `crl` requests at
the authority's port, one list for all of them.

    python -m bench.crl [--rounds 5] [--entries 100000] [--json FILE]
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes

import anyio
from sqlalchemy import insert

from agents.authority import Layout, Store, initialise, open_authority
from agents.authority.domain import DomainAuthority, load_domain
from agents.authority.revocation import Revocations
from agents.authority.schema import CERTIFICATES, DEVICES, KEYS
from bench.measure import Spread, report
from protocol.labels import Domain, Operation
from protocol.ports import Content, Inbound, Media

PASSPHRASE = b"bench"
REQUESTS = 5000


@dataclass
class Bench:
    """An authority's directory with `entries` revoked certificates."""

    directory: Path
    store: Store
    authority: DomainAuthority
    entries: int

    def end(self, count: int) -> None:
        """Put `count` more revoked certificates into the store."""
        now = int(time.time())
        with self.store.writing(now) as writing:
            revision = writing.revision
            rows = [
                (self.entries + number, b"\x40" + token_bytes(7), token_bytes(32)) for number in range(count)
            ]
            keys = [
                {
                    "id": number,
                    "key_hash": digest,
                    "authority": self.authority.key_id,
                    "label": "meter-ds",
                    "device_id": 1,
                    "serial": serial,
                    "not_before": now,
                }
                for number, serial, digest in rows
            ]
            certificates = [
                {
                    "id": number,
                    "authority": self.authority.key_id,
                    "serial": serial,
                    "label": "meter-ds",
                    "device_id": 1,
                    "state": "revoked",
                    "not_before": now,
                    "not_after": now + 10**8,
                    "algorithm": -7,
                    "public_key": bytes(33),
                    "thumbprint": digest[:8],
                    "encoded": b"",
                    "issued_at": now,
                    "ended_at": now,
                    "ended_revision": revision,
                    "reason": 1,
                }
                for number, serial, digest in rows
            ]
            writing.connection.execute(insert(KEYS), keys)
            writing.connection.execute(insert(CERTIFICATES), certificates)
        self.entries += count

    def revocations(self) -> Revocations:
        """Return the lists as a process has them that has just started."""
        return Revocations(self.store, self.authority, Layout(self.directory).crl(Domain.METERING))


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def one_round(bench: Bench) -> dict[str, float]:
    """Return what one round took, in seconds."""
    now = int(time.time())
    revocations = bench.revocations()
    bench.end(1)  # or the list of the round before would do
    figures = {"from nothing": seconds(lambda: revocations.current(now))}
    before = revocations.current(now).number
    bench.end(1)
    revocations._not_again_before = 0.0
    figures["anew"] = seconds(lambda: revocations.current(now))
    figures["in C509 form"] = seconds(lambda: revocations.get(now, Media.C509_CRL))
    figures["a delta of one"] = seconds(lambda: revocations.get(now, Media.C509_CRL, before))
    return figures


async def served(directory: Path) -> float:
    """Return how many requests a second get the list."""
    inbound = Inbound("meter-ds", Operation.CRL, b"", "coap:192.0.2.1:1")
    async with open_authority(directory, PASSPHRASE) as authority:
        first = await authority.handle(inbound)
        assert isinstance(first, Content)
        started = time.perf_counter()
        for _ in range(REQUESTS):
            reply = await authority.handle(inbound)
            assert isinstance(reply, Content)
            assert reply.body is first.body or reply.etag == first.etag
        return REQUESTS / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--entries", type=int, default=100_000)
    arguments, _ = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        directory = Path(folder) / "authority"
        now = int(time.time())
        initialise(directory, passphrase=PASSPHRASE, now=now)
        shutil.rmtree(directory / "roots")
        store = Store(Layout(directory).store)
        authority = load_domain(directory, Domain.METERING, PASSPHRASE, now)
        bench = Bench(directory, store, authority, 1)
        with store.writing(now) as writing:
            device: dict[str, object] = dict.fromkeys((column.name for column in DEVICES.columns), "x")
            device |= {"id": 1, "maker": bytes(32), "epoch": 0, "registered_at": now}
            writing.connection.execute(insert(DEVICES), device)
        for _ in range(arguments.entries // 10_000):
            bench.end(10_000)
        rounds = [one_round(bench) for _ in range(arguments.rounds)]
        revocations = bench.revocations()
        sizes = {
            media: len(revocations.get(now, media).encoded) for media in (Media.PKIX_CRL, Media.C509_CRL)
        }
        store.close()
        rates = [anyio.run(served, directory) for _ in range(arguments.rounds)]
    report(
        "crl",
        {
            **{f"seconds {key}": Spread.of([one[key] for one in rounds]) for key in rounds[0]},
            "given out per second": Spread.of(rates),
            "anew over given out": Spread.of(
                [one["anew"] * rate for one, rate in zip(rounds, rates, strict=True)]
            ),
            "bytes as DER": sizes[Media.PKIX_CRL],
            "bytes in C509 form": sizes[Media.C509_CRL],
            "entries": bench.entries - 1,
        },
        targets={"seconds from nothing": "< 2", "seconds anew": "< 2"},
    )


if __name__ == "__main__":
    main()
