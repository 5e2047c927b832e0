"""Signed messages verified per second, from bytes to verdict: the agent with its threads, and inline.

Both do the same work with the same code: decode, look the signer up, judge, verify, use the counter up,
publish (into a counter). "Inline" verifies each message in the event loop as it comes; the agent verifies
chunks in worker threads. Load is full: messages are handed in as fast as they are taken, 32 per turn of
the loop. Lag is how late a task runs that asks to be woken every two milliseconds.

What all cores together are worth just now is measured as well: where one is busy with others, or is the
other half of a core, nobody gets twice the speed.
"""

import logging
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.lowlevel

from agents.keys import SoftwareSigner, generate
from agents.verifier import Verifier, open_verifier
from agents.verifier.batch import MAX_CHUNK, Check, verify_batch
from agents.verifier.ledger import Ledger
from agents.verifier.memory import MemorySigners
from agents.verifier.outlet import Outlet
from agents.verifier.pipeline import Pipeline
from agents.verifier.replay import Counters
from agents.verifier.settlement import Settlement
from agents.verifier.signers import SignerCache
from agents.verifier.ticket import Ticket
from bench.measure import Spread, report
from protocol.cose import PublicKey
from protocol.exchange.facts import CertificateRef, CertificateState, SignerRecord
from protocol.labels import Domain
from protocol.message import decode_message, sign_message, stream_aad
from protocol.ports import InboundMessage

SIGNERS = 256
MESSAGES = 16_384
"""Per round: a second of one core; four times what fits the queue."""
ROUNDS = 7
PER_TURN = 32
"""A quarter of what one read of a broker's connection may hold (64 KiB); a datagram socket gives one."""
TICK = 0.002
BODY = os.urandom(64)
NOW = 1_800_000_000
CORES = os.cpu_count() or 1


class Fleet:
    """Devices, their messages signed beforehand, and the store that knows them."""

    def __init__(self) -> None:
        self.signers = MemorySigners()
        self.messages: list[InboundMessage] = []
        self.checks: list[Check] = []
        devices = [self._device(number) for number in range(SIGNERS)]
        for number in range(MESSAGES):
            signer, key, thumbprint, client_id = devices[number % SIGNERS]
            data = sign_message(signer, thumbprint, "readings", BODY, counter=number // SIGNERS, time=NOW)
            self.messages.append(InboundMessage("readings", data, f"mqtt:{client_id}", client_id))
            self.checks.append((key, decode_message(data), stream_aad("readings")))

    def _device(self, number: int) -> tuple[SoftwareSigner, PublicKey, bytes, str]:
        key = generate()
        signer = SoftwareSigner(key, even_y=False)
        thumbprint = number.to_bytes(8, "big")
        record = SignerRecord(
            ref=CertificateRef(bytes(32), thumbprint),
            device=f"{number:016X}",
            client_id=f"device-{number}",
            domain=Domain.METERING,
            label="meter-ds",
            state=CertificateState.CURRENT,
            not_before=0,
            not_after=None,
            algorithm=signer.algorithm,
            public_key=signer.public_key,
            certificate=b"",
        )
        self.signers.add(thumbprint, record)
        return signer, key.public_key(), thumbprint, record.client_id


class InlinePipeline(Pipeline):
    """Verifies in the event loop what it is given; the caller settles it."""

    def __init__(self, settlement: Settlement) -> None:
        super().__init__(settlement, threads=1)
        self._checked: tuple[Sequence[Ticket], Sequence[bool]] = ((), ())

    def put(self, ticket: Ticket) -> None:
        self._checked = ([ticket], verify_batch([(ticket.known.key, ticket.message, ticket.aad)]))

    async def settle(self) -> None:
        await self._settlement.settle(*self._checked)


class Sink:
    """Where good messages go; says when the last one is there."""

    def __init__(self, expected: int) -> None:
        self.count = 0
        self._expected = expected
        self.is_full = anyio.Event()

    async def publish(self, _stream: str, _payload: bytes) -> None:
        self.count += 1
        if self.count == self._expected:
            self.is_full.set()


class Lag:
    """How late the loop is, in seconds."""

    def __init__(self) -> None:
        self.samples: list[float] = []

    async def watch(self) -> None:
        while True:
            before = time.perf_counter()
            await anyio.sleep(TICK)
            self.samples.append(time.perf_counter() - before - TICK)

    def p99(self) -> float:
        return statistics.quantiles(self.samples, n=100)[98] if len(self.samples) > 1 else 0.0


async def threaded(fleet: Fleet) -> tuple[float, float]:
    """Return messages/s and the loop's p99 lag in milliseconds, for the agent."""
    fleet.signers.counters.clear()
    sink, lag = Sink(MESSAGES), Lag()
    async with (
        open_verifier(fleet.signers, sink.publish, clock=lambda: NOW, threads=CORES) as verifier,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(lag.watch)
        started = time.perf_counter()
        await feed(verifier, fleet.messages)
        await sink.is_full.wait()
        seconds = time.perf_counter() - started
        tasks.cancel_scope.cancel()
    return MESSAGES / seconds, 1000 * lag.p99()


async def feed(verifier: Verifier, messages: Sequence[InboundMessage]) -> None:
    for number, message in enumerate(messages):
        # A full queue has no event to wait for, on purpose: the message is offered again, as devices do.
        while await verifier.handle(message) is not None:  # noqa: ASYNC110
            await anyio.sleep(TICK)
        if number % PER_TURN == 0:
            await anyio.lowlevel.checkpoint()


async def inline(fleet: Fleet) -> tuple[float, float]:
    """As `threaded`, with every message verified in the loop."""
    fleet.signers.counters.clear()
    sink, lag = Sink(MESSAGES), Lag()
    counters, ledger = Counters({}), Ledger()
    cache = SignerCache(fleet.signers, counters)
    await cache.refresh()
    outlet = Outlet(sink.publish, ledger)
    settlement = Settlement(fleet.signers, cache, counters, ledger, outlet, lambda: NOW)
    pipeline = InlinePipeline(settlement)
    verifier = Verifier(cache, pipeline, ledger, lambda: NOW)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cache.run)
        tasks.start_soon(outlet.run)
        tasks.start_soon(lag.watch)
        started = time.perf_counter()
        for message in fleet.messages:
            await verifier.handle(message)
            await pipeline.settle()
            await anyio.lowlevel.checkpoint()
        await sink.is_full.wait()
        seconds = time.perf_counter() - started
        tasks.cancel_scope.cancel()
    return MESSAGES / seconds, 1000 * lag.p99()


def verification_alone(fleet: Fleet, threads: int) -> float:
    """Return verifications/s in chunks, with nothing else to do: the machine's limit."""
    chunks = [fleet.checks[at : at + MAX_CHUNK] for at in range(0, MESSAGES, MAX_CHUNK)]
    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        assert all(all(verdicts) for verdicts in pool.map(verify_batch, chunks))
    return MESSAGES / (time.perf_counter() - started)


def main() -> None:
    """Take turns for some rounds, and report ratios of the same round."""
    logging.disable(logging.WARNING)  # a full queue says so
    fleet = Fleet()
    threads, inlines, limits, singles = [], [], [], []
    for _ in range(ROUNDS):
        threads.append(anyio.run(threaded, fleet))
        inlines.append(anyio.run(inline, fleet))
        limits.append(verification_alone(fleet, CORES))
        singles.append(verification_alone(fleet, 1))
    report(
        "verify",
        {
            "agent: messages/s": Spread.of([rate for rate, _ in threads]),
            "inline: messages/s": Spread.of([rate for rate, _ in inlines]),
            "agent / inline": Spread.of([a[0] / b[0] for a, b in zip(threads, inlines, strict=True)]),
            "agent: lag p99, ms": Spread.of([lag for _, lag in threads]),
            "inline: lag p99, ms": Spread.of([lag for _, lag in inlines]),
            "verification alone, all cores: /s": Spread.of(limits),
            "verification alone, all cores / one": Spread.of(
                [both / one for both, one in zip(limits, singles, strict=True)]
            ),
            "agent / verification alone": Spread.of([a[0] / b for a, b in zip(threads, limits, strict=True)]),
            "messages per round": MESSAGES,
            "signers": SIGNERS,
        },
        targets={"agent / inline": ">= 1.5 on two free cores", "agent: lag p99, ms": "< 10"},
    )


if __name__ == "__main__":
    main()
