"""A store in memory, devices in it, and a broker that keeps what it is given: for tests of the verifier."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import anyio

from agents.keys import SoftwareSigner, generate
from agents.verifier import Verifier, open_verifier
from agents.verifier.memory import MemorySigners
from protocol import cbor
from protocol.cose import Algorithm
from protocol.errors import ProblemKind, ServiceError
from protocol.exchange.facts import CertificateRef, CertificateState, SignerRecord
from protocol.labels import Domain
from protocol.message import sign_message
from protocol.ports import InboundMessage
from protocol.problem import Problem

NOW = 1_800_000_000
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass
class Device:
    """A meter with one key, and what the store knows of its certificate."""

    signer: SoftwareSigner
    thumbprint: bytes
    record: SignerRecord

    def message(
        self, counter: int, *, body: bytes = b"reading", stream: str = "readings", time: int | None = None
    ) -> bytes:
        return sign_message(self.signer, self.thumbprint, stream, body, counter=counter, time=time)

    def inbound(
        self,
        counter: int,
        *,
        data: bytes | None = None,
        source: str = "coap:192.0.2.1:5683",
        client_id: str | None = None,
        stream: str = "readings",
    ) -> InboundMessage:
        return InboundMessage(stream, data or self.message(counter, stream=stream), source, client_id)


class World(MemorySigners):
    """A store in memory, a broker that keeps what it is given, and faults on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[tuple[str, list[object]]] = []
        self.is_down = False
        self.is_broker_down = False
        self.activations: list[CertificateRef] = []
        self.can_activate = True
        self.gate = anyio.Event()
        self.gate.set()
        self.save_was_tried = anyio.Event()

    def device(self, number: int = 1, *, algorithm: Algorithm = Algorithm.ES256, **fields: object) -> Device:
        signer = SoftwareSigner(generate(algorithm))
        record = SignerRecord(
            ref=CertificateRef(bytes(32), number.to_bytes(8, "big")),
            device=f"{number:016X}",
            client_id=f"client-{number}",
            domain=Domain.METERING,
            label="meter-ds",
            state=CertificateState.CURRENT,
            not_before=NOW - 1000,
            not_after=NOW + 1000,
            algorithm=algorithm,
            public_key=signer.public_key,
            certificate=b"",
        )
        device = Device(signer, os.urandom(8), replace(record, **fields))  # type: ignore[arg-type]  # test's own names
        self.add(device.thumbprint, device.record)
        return device

    def _check(self) -> None:
        if self.is_down:
            raise ServiceError("the store is down")

    async def lookup(self, thumbprints: Sequence[bytes]) -> Mapping[bytes, SignerRecord | None]:
        self._check()
        return await super().lookup(thumbprints)

    async def revision(self) -> int:
        self._check()
        return await super().revision()

    async def activate(self, ref: CertificateRef) -> bool:
        self._check()
        self.activations.append(ref)
        return self.can_activate and await super().activate(ref)

    async def save_counters(self, counters: Mapping[CertificateRef, int]) -> None:
        self.save_was_tried.set()
        self._check()
        await super().save_counters(counters)

    async def publish(self, stream: str, payload: bytes) -> None:
        await self.gate.wait()
        if self.is_broker_down:
            raise ServiceError("the broker is down")
        self.published.append((stream, cbor.decode_array(payload, 4)))

    @asynccontextmanager
    async def open(self, *, now: float = NOW, max_queued: int = 4096) -> AsyncIterator[Verifier]:
        async with open_verifier(
            self, self.publish, clock=lambda: now, threads=2, max_queued=max_queued
        ) as verifier:
            yield verifier


def forged(data: bytes) -> bytes:
    """The same message with one bit of its signature flipped."""
    return data[:-1] + bytes([data[-1] ^ 1])


def kind_of(verdict: object) -> ProblemKind:
    assert isinstance(verdict, Problem), verdict
    return verdict.kind
