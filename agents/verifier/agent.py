"""The verifier: signed messages in, verified ones out, and none that its certificate did not cover.

    adapters -> handle --> queue --> chunks --> worker threads --> in order --> publish
                  |                                                   |
                  refused at once, with the reason                    counted, and charged to the source

`handle` does what is cheap (decode, signer, state, time, client, counter) and says no at once, or takes the
message. The queue is the batch: a free thread takes all that waits, up to a chunk, so an idle verifier adds
no delay and a busy one loses nothing on thread hops. Verdicts are acted on in the order in which messages
came, whichever thread was first. A counter is used up by a good message only.
"""

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import anyio

from agents.verifier import refusals
from agents.verifier.ledger import Ledger, VerifierStats
from agents.verifier.outlet import Listen, Outlet, Publish
from agents.verifier.pipeline import MAX_QUEUED, Pipeline
from agents.verifier.replay import Counters
from agents.verifier.settlement import Settlement
from agents.verifier.signers import KnownSigner, SignerCache
from agents.verifier.ticket import Ticket, Verdict
from protocol.errors import MalformedMessage, Overloaded, ProblemKind, ServiceError
from protocol.exchange.facts import CertificateState, Signers
from protocol.message import decode_message, stream_aad
from protocol.ports import InboundMessage
from protocol.problem import Problem

SAVE_SECONDS: Final = 1.0
"""How often counters are written: the longest past that a crash forgets."""
CLOSE_SECONDS: Final = 5.0
"""How long the end waits for what was taken, and again for the counters; a full queue needs a tenth."""


class Verifier:
    """Takes signed messages; opened by `open_verifier`.

    Everything here runs on the event loop; only signatures are verified elsewhere.
    """

    def __init__(
        self, cache: SignerCache, pipeline: Pipeline, ledger: Ledger, clock: Callable[[], float]
    ) -> None:
        self._cache = cache
        self._pipeline = pipeline
        self._ledger = ledger
        self._clock = clock

    @property
    def stats(self) -> VerifierStats:
        """The counts."""
        stats = self._ledger.stats
        stats.batches = self._pipeline.batches
        return stats

    async def handle(self, inbound: InboundMessage) -> Problem | None:
        """Take one message; this is a `protocol.ports.MessageHandler`.

        Returns:
            None once it is taken for verification; else why not, at once. OVERLOADED says that the queue
            is full, or that its source delivered too many bad ones lately: CoAP tells the sender; on MQTT,
            where nobody can be told, the message is dropped and counted.
        """
        problem = await self._take(inbound, None)
        return None if problem is None else self._ledger.refuse(inbound, problem)

    async def verify(self, inbound: InboundMessage) -> Verdict:
        """Take one message and wait for its verdict; a good one is published like any other.

        Cancellation: a message that was taken is verified, used up and published all the same.
        """
        verdicts: list[Verdict] = []
        is_settled = anyio.Event()

        def on_verdict(verdict: Verdict) -> None:
            verdicts.append(verdict)
            is_settled.set()

        problem = await self._take(inbound, on_verdict)
        if problem is not None:
            return self._ledger.refuse(inbound, problem)
        await is_settled.wait()
        return verdicts[0]

    async def refresh(self) -> None:
        """Ask now, not at the next poll, whether some certificate ended."""
        await self._cache.refresh()

    async def _take(
        self, inbound: InboundMessage, on_verdict: Callable[[Verdict], None] | None
    ) -> Problem | None:
        problem = self._ledger.shut_out(inbound.source) or self._pipeline.refusal
        if problem is not None:
            return problem
        try:
            message = decode_message(inbound.body)
            aad = stream_aad(inbound.stream)
        except MalformedMessage as error:
            return Problem(ProblemKind.MALFORMED, str(error))
        known = self._cache.get(message.thumbprint) or await self._find(message.thumbprint)
        if isinstance(known, Problem):
            if known is refusals.UNKNOWN_SIGNER:
                # Asking the store costs about as much as a signature, so it is charged like one.
                self._ledger.charge(inbound.source)
            return known
        problem = refusals.judge(known, message, inbound.client_id, self._clock())
        ticket = Ticket(inbound, message, aad, known, on_verdict)
        if problem is None:
            self._ledger.stats.accepted += 1
            self._pipeline.put(ticket)
        elif problem is refusals.BAD_SIGNATURE:
            self._ledger.charge(inbound.source)
        elif known.record.state is CertificateState.SUPERSEDED and not self._pipeline.is_busy:
            # Refused either way. Whether this is the holder of the retired key, or somebody who saw its
            # thumbprint, only the signature can tell, and an alarm needs to know.
            ticket.is_retired, ticket.on_verdict = True, None
            self._pipeline.put(ticket)
        return problem

    async def _find(self, thumbprint: bytes) -> KnownSigner | Problem:
        try:
            (known,) = await self._cache.find(thumbprint)
        except Overloaded:
            return refusals.OVERLOADED
        except ServiceError:
            return refusals.UNAVAILABLE
        # The queue may have filled, and the verifier closed, in the meantime.
        return refusals.UNKNOWN_SIGNER if known is None else self._pipeline.refusal or known


@asynccontextmanager
async def open_verifier(
    signers: Signers,
    publish: Publish | None = None,
    *,
    clock: Callable[[], float] = time.time,
    threads: int | None = None,
    max_queued: int = MAX_QUEUED,
    listeners: Mapping[str, Listen] | None = None,
) -> AsyncIterator[Verifier]:
    """Run a verifier for as long as the body runs; wire its `handle` to the adapters.

    At the end it takes nothing more, settles what it has taken and saves the counters, at most
    `CLOSE_SECONDS` each, also when the body was cancelled.

    Args:
        signers: The store.
        publish: Where good messages go, if anywhere.
        clock: POSIX seconds.
        threads: Worker threads; None: one per core.
        max_queued: Messages that may wait for them.
        listeners: Who in this process is told good messages too, by stream.

    Raises:
        ServiceError: The counters cannot be read.
        Exception: Whatever the body raises, not in a group unless something of ours failed as well.
    """
    counters = Counters(await signers.load_counters())
    ledger = Ledger()
    cache = SignerCache(signers, counters)
    outlet = Outlet(publish, ledger, listeners)
    settlement = Settlement(signers, cache, counters, ledger, outlet, clock)
    pipeline = Pipeline(settlement, threads=threads or os.cpu_count() or 1, max_queued=max_queued)
    await cache.refresh()
    # A cancelled body must find its helpers alive when it settles what was taken: they are shielded from
    # what cancels it, and ended by name.
    helpers = anyio.CancelScope(shield=True)

    async def help_out() -> None:
        with helpers:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(cache.run)
                tasks.start_soon(cache.watch)
                tasks.start_soon(pipeline.run)
                tasks.start_soon(outlet.run)
                tasks.start_soon(_save_on_a_period, counters, signers)

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(help_out)
            try:
                yield Verifier(cache, pipeline, ledger, clock)
            finally:
                with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                    await pipeline.close()
                    await outlet.drain()
                helpers.cancel()
    except BaseExceptionGroup as group:
        raise _only(group) from None
    finally:
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            await counters.save(signers)


def _only(error: BaseException) -> BaseException:
    """Return the one exception in a group of groups, or the group if there are several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _save_on_a_period(counters: Counters, signers: Signers) -> None:
    while True:
        await anyio.sleep(SAVE_SECONDS)
        await counters.save(signers)
