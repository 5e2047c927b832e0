"""What is known of signers: records and loaded keys, kept until some certificate ends.

A record is read once and kept; a change of `Signers.revision` drops them all, so a revocation counts at
most `POLL_SECONDS` after it is on disk, whichever process made it. Who asks for the same or other unknown
signers at the same time waits for one shared question to the store.
"""

import logging
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Final

import anyio
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from agents.verifier.replay import Counters, ReplayWindow
from protocol.cose import Algorithm, PublicKey
from protocol.errors import Overloaded, ServiceError
from protocol.exchange.facts import CertificateState, SignerRecord, Signers
from protocol.profiles import PROFILES

POLL_SECONDS: Final = 0.2
"""How often the store is asked whether a certificate ended: five cheap questions a second."""
MAX_KNOWN: Final = 20_000
"""Records kept, about 1 KiB each with the certificate; the one not used for longest is forgotten first."""
MAX_KEYS: Final = 20_000
"""Loaded keys kept, about 2 KiB each; they outlive a dropped record, because a key does not change."""
MAX_ASKED: Final = 512
"""Thumbprints in one question to the store: it fits SQLite's limit of parameters."""
MAX_WAITING: Final = 2048
"""Unknown thumbprints waiting for the store; beyond it the front door refuses."""

_CURVES: Final = {
    Algorithm.ES256: ec.SECP256R1(),
    Algorithm.ES384: ec.SECP384R1(),
    Algorithm.ES512: ec.SECP521R1(),
}
_log: Final = logging.getLogger(__name__)


@lru_cache(maxsize=MAX_KEYS)
def _load(algorithm: Algorithm, public_key: bytes) -> PublicKey:
    if algorithm is Algorithm.EDDSA:
        return ed25519.Ed25519PublicKey.from_public_bytes(public_key)
    return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[algorithm], public_key)


@dataclass(frozen=True, slots=True)
class KnownSigner:
    """A record, ready for use."""

    record: SignerRecord
    key: PublicKey
    window: ReplayWindow
    may_sign: bool
    """Whether the label signs messages at all, whatever its state."""
    generation: int
    """Of the cache that holds it: an older one has to be asked for again before it is trusted."""


class _Question:
    """One thumbprint that the store is to be asked for."""

    __slots__ = ("answer", "answered", "failure")

    def __init__(self) -> None:
        self.answered = anyio.Event()
        self.answer: KnownSigner | None = None
        self.failure: str | None = None


class SignerCache:
    """An LRU cache of signers before `Signers`; one task (`run`) asks for what is missing.

    Args:
        signers: The store.
        counters: Where the signers' replay windows are.
    """

    def __init__(self, signers: Signers, counters: Counters) -> None:
        self._signers = signers
        self._counters = counters
        self._known: OrderedDict[bytes, KnownSigner] = OrderedDict()
        self._waiting: dict[bytes, _Question] = {}
        self._is_waiting = anyio.Event()
        self._revision: int | None = None
        self._is_closed = False
        self.generation = 0
        """Grows whenever everything known was dropped."""
        self.questions = 0
        """How often the store was asked for records."""

    def get(self, thumbprint: bytes) -> KnownSigner | None:
        """Return the signer behind a c5t (8 bytes) if it is at hand."""
        known = self._known.get(thumbprint)
        if known is not None:
            self._known.move_to_end(thumbprint)
        return known

    async def find(self, *thumbprints: bytes) -> tuple[KnownSigner | None, ...]:
        """Return the signer behind each c5t, asking the store where none is at hand; None: unknown there.

        Raises:
            Overloaded: Too many are waiting for the store.
            ServiceError: The store cannot answer now.

        Cancellation: the question goes on for whoever else waits for it.
        """
        questions = [self.get(thumbprint) or self._ask(thumbprint) for thumbprint in thumbprints]
        answers: list[KnownSigner | None] = []
        for question in questions:
            if isinstance(question, _Question):
                await question.answered.wait()
                if question.failure is not None:
                    raise ServiceError(question.failure)
                answers.append(question.answer)
            else:
                answers.append(question)
        return tuple(answers)

    def _ask(self, thumbprint: bytes) -> _Question:
        # Only questions not yet put are shared: an answer under way may be older than a certificate that
        # its device has just been given.
        question = self._waiting.get(thumbprint)
        if question is None:
            if self._is_closed:
                raise ServiceError("the verifier is closed")
            if len(self._waiting) >= MAX_WAITING:
                raise Overloaded
            question = self._waiting[thumbprint] = _Question()
            self._is_waiting.set()
        return question

    async def run(self) -> None:
        """Put questions to the store for as long as the verifier is open; who waits at its end is told so."""
        asked: dict[bytes, _Question] = {}
        try:
            while True:
                await self._is_waiting.wait()
                asked = {key: self._waiting.pop(key) for key in list(islice(self._waiting, MAX_ASKED))}
                if not self._waiting:
                    self._is_waiting = anyio.Event()
                await self._put(asked)
        finally:
            self._is_closed = True
            for question in (*asked.values(), *self._waiting.values()):
                if not question.answered.is_set():
                    question.failure = "the verifier is closed"
                    question.answered.set()

    async def _put(self, asked: dict[bytes, _Question]) -> None:
        generation = self.generation
        self.questions += 1
        try:
            records = await self._signers.lookup(list(asked))
        except ServiceError as error:
            _log.error("signers cannot be looked up", extra={"why": str(error)})
            for question in asked.values():
                question.failure = str(error)
                question.answered.set()
            return
        for thumbprint, question in asked.items():
            record = records[thumbprint]
            if record is not None:
                question.answer = self._remember(thumbprint, record, generation)
            question.answered.set()

    def _remember(self, thumbprint: bytes, record: SignerRecord, generation: int) -> KnownSigner | None:
        try:
            key = _load(record.algorithm, record.public_key)
        except ValueError:
            # No authority of ours certifies such a key; one bad record must not end everybody's service.
            _log.error("a key in the store is none", extra={"serial": record.ref.serial.hex()})
            return None
        profile = PROFILES.get(record.label)
        known = KnownSigner(
            record,
            key,
            self._counters.window(record.ref),
            profile is not None and profile.signs_messages,
            generation,
        )
        # An answer that a revocation overtook is for those who asked before it, and they ask again.
        if generation == self.generation:
            self._known[thumbprint] = known
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        return known

    def became_current(self, thumbprint: bytes) -> None:
        """Note that a pending certificate was activated."""
        known = self._known.get(thumbprint)
        if known is not None:
            current = replace(known.record, state=CertificateState.CURRENT)
            self._known[thumbprint] = replace(known, record=current)

    async def watch(self) -> None:
        """Refresh every `POLL_SECONDS` for as long as the verifier is open."""
        while True:
            await anyio.sleep(POLL_SECONDS)
            await self.refresh()

    async def refresh(self) -> None:
        """Ask whether some certificate ended; if so, or if nobody can tell, forget everything known."""
        try:
            revision = await self._signers.revision()
        except ServiceError as error:
            if self._revision is not None:
                _log.error("no word of revocations", extra={"why": str(error)})
            self._revision = None
            self._drop()
            return
        if revision != self._revision:
            self._revision = revision
            self._drop()

    def _drop(self) -> None:
        self._known.clear()
        self.generation += 1
