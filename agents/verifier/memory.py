"""Signers in memory: for tests, benchmarks, and whoever verifies against a fixed set of certificates."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from protocol.exchange.facts import CertificateRef, CertificateState, SignerRecord


class MemorySigners:
    """Implements `protocol.exchange.facts.Signers`; nothing survives the process."""

    def __init__(self) -> None:
        self._records: dict[CertificateRef, tuple[bytes, SignerRecord]] = {}
        self._by_thumbprint: dict[bytes, CertificateRef] = {}
        self._revision = 0
        self.counters: dict[CertificateRef, int] = {}
        """High-water marks, as saved."""
        self.alarms: list[tuple[CertificateRef, str]] = []
        self.questions: list[tuple[bytes, ...]] = []
        """Thumbprints of every lookup so far."""

    def add(self, thumbprint: bytes, record: SignerRecord) -> None:
        """Know one more certificate."""
        self._records[record.ref] = (thumbprint, record)
        self._by_thumbprint[thumbprint] = record.ref

    def state(self, ref: CertificateRef) -> CertificateState:
        """Return the state of a certificate."""
        return self._records[ref][1].state

    def end(self, ref: CertificateRef, state: CertificateState) -> None:
        """Put an end to a certificate."""
        thumbprint, record = self._records[ref]
        self._records[ref] = (thumbprint, replace(record, state=state))
        self._revision += 1

    async def lookup(self, thumbprints: Sequence[bytes]) -> Mapping[bytes, SignerRecord | None]:
        """As the protocol says."""
        self.questions.append(tuple(thumbprints))
        refs = {thumbprint: self._by_thumbprint.get(thumbprint) for thumbprint in thumbprints}
        return {key: None if ref is None else self._records[ref][1] for key, ref in refs.items()}

    async def revision(self) -> int:
        """As the protocol says."""
        return self._revision

    async def activate(self, ref: CertificateRef) -> bool:
        """As the protocol says; certificates have no parents here."""
        thumbprint, record = self._records[ref]
        if record.state.is_alive:
            self._records[ref] = (thumbprint, replace(record, state=CertificateState.CURRENT))
        return record.state.is_alive

    async def alarm(self, ref: CertificateRef, what: str) -> None:
        """As the protocol says; all are kept."""
        self.alarms.append((ref, what))

    async def load_counters(self) -> Mapping[CertificateRef, int]:
        """As the protocol says."""
        return dict(self.counters)

    async def save_counters(self, counters: Mapping[CertificateRef, int]) -> None:
        """As the protocol says."""
        for ref, mark in counters.items():
            self.counters[ref] = max(mark, self.counters.get(ref, -1))
