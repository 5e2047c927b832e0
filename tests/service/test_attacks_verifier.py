"""Attacks on signed messages: floods from many ports, stolen recordings, a store that fails meanwhile.

Complements `test_verifier.py`; here the verifier stands before the authority's real store where that matters.
"""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import pytest

from agents.authority import revoke
from agents.keys import SoftwareSigner, generate
from agents.verifier import VerifiedMessage, Verifier, open_verifier
from agents.verifier.memory import MemorySigners
from protocol import c509
from protocol.errors import ProblemKind
from protocol.exchange.request import RevocationReason
from protocol.labels import Operation
from protocol.message import sign_message
from protocol.ports import Content, InboundMessage
from protocol.problem import Problem
from tests.rig import NOW, Device, Rig, certificate_of, new_key, open_rig


@asynccontextmanager
async def standing(folder: Path) -> AsyncIterator[tuple[Rig, Verifier]]:
    async with open_rig(folder) as rig, open_verifier(rig.agent.signers, clock=rig.clock) as verifier:
        yield rig, verifier


def kind_of(verdict: object) -> ProblemKind:
    assert isinstance(verdict, Problem), verdict
    return verdict.kind


def message(
    device: Device,
    counter: int,
    *,
    label: str = "meter-ds",
    stream: str = "readings",
    source: str = "coap:192.0.2.1:5683",
    client_id: str | None = None,
) -> InboundMessage:
    """Return a message signed with the device's credential of `label`."""
    signer, certificate = device.credentials[label]
    body = sign_message(signer, c509.thumbprint(certificate), stream, b"x", counter=counter, time=None)
    return InboundMessage(stream, body, source, client_id)


# --- floods ---------------------------------------------------------------------------------------------


async def test_a_new_port_for_each_bad_message_is_no_new_source() -> None:
    stranger = SoftwareSigner(generate())
    data = sign_message(stranger, bytes(8), "readings", b"x", counter=1, time=None)
    signers = MemorySigners()
    async with open_verifier(signers, clock=lambda: NOW) as verifier:
        kinds = [
            kind_of(await verifier.handle(InboundMessage("readings", data, f"coap:203.0.113.9:{port}")))
            for port in range(1024, 1224)
        ]
        assert kinds[-1] is ProblemKind.OVERLOADED
        assert verifier.stats.shut_out == 1
        elsewhere = await verifier.handle(InboundMessage("readings", data, "coap:203.0.113.10:1024"))
        assert kind_of(elsewhere) is ProblemKind.UNKNOWN_SIGNER
        for client in ("mqtt:one", "mqtt:two"):
            assert kind_of(await verifier.handle(InboundMessage("readings", data, client))) is (
                ProblemKind.UNKNOWN_SIGNER
            )
    assert len(signers.questions) < 110


# --- a store that fails ---------------------------------------------------------------------------------


@contextmanager
def locked(rig: Rig) -> Iterator[None]:
    """Hold the store's only write lock, as a stopped `trillium` command would."""
    raw = rig.agent.store._writer.connection.dbapi_connection
    assert raw is not None
    raw.cursor().execute("PRAGMA busy_timeout = 20")
    other = sqlite3.connect(rig.agent.store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


async def test_a_store_that_is_locked_costs_messages_and_not_the_verifier(tmp_path: Path) -> None:
    """A certificate that waits for its activation is the one that needs to write."""
    async with standing(tmp_path) as (rig, verifier):
        current, pending = rig.enrolled(), rig.device()
        key = new_key()
        pending = pending.holding("meter-ds", key, certificate_of(rig.ask(pending.enroll(key))))
        with locked(rig):
            assert kind_of(await verifier.verify(message(pending, 1))) is ProblemKind.UNAVAILABLE
            assert isinstance(await verifier.verify(message(current, 1)), VerifiedMessage)
            await rig.agent.signers.revision()
        assert isinstance(await verifier.verify(message(pending, 2)), VerifiedMessage)
        assert rig.states(pending) == ["current"]


async def test_a_store_that_cannot_be_read_is_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with standing(tmp_path) as (rig, verifier):
        device = rig.enrolled()

        def fail(*_: object) -> None:
            raise OSError("the disk is gone")

        with monkeypatch.context() as patch:
            patch.setattr("agents.authority.directory.signer_records", fail)
            patch.setattr("agents.authority.store.Store.revision", fail)
            await verifier.refresh()
            assert kind_of(await verifier.verify(message(device, 1))) is ProblemKind.UNAVAILABLE
        assert isinstance(await verifier.verify(message(device, 1)), VerifiedMessage)


# --- recordings and stolen keys -------------------------------------------------------------------------


async def test_a_recording_is_worth_nothing_after_a_restart(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        device = rig.enrolled()
        recorded = [message(device, counter) for counter in (3, 7, 5)]
        async with open_verifier(rig.agent.signers, clock=rig.clock) as verifier:
            for one in recorded:
                assert isinstance(await verifier.verify(one), VerifiedMessage)
        async with open_verifier(rig.agent.signers, clock=rig.clock) as verifier:
            for one in [*recorded, message(device, 6)]:
                assert kind_of(await verifier.verify(one)) is ProblemKind.STALE_MESSAGE
            assert isinstance(await verifier.verify(message(device, 8)), VerifiedMessage)


async def test_a_message_over_the_other_transport_is_the_same_message(tmp_path: Path) -> None:
    async with standing(tmp_path) as (rig, verifier):
        device = rig.enrolled()
        over_coap = message(device, 1)
        over_mqtt = InboundMessage("readings", over_coap.body, "mqtt:x", device.client_id)
        verdicts: list[object] = []

        async def send(one: InboundMessage) -> None:
            verdicts.append(await verifier.verify(one))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, over_coap)
            tasks.start_soon(send, over_mqtt)
        assert sum(isinstance(verdict, VerifiedMessage) for verdict in verdicts) == 1
        assert verifier.stats.refused[ProblemKind.STALE_MESSAGE] == 1


async def test_a_meter_does_not_speak_on_another_meters_topic(tmp_path: Path) -> None:
    async with standing(tmp_path) as (rig, verifier):
        device, victim = rig.enrolled(), rig.enrolled()
        inbound = message(device, 1, client_id=victim.client_id, source=f"mqtt:{victim.client_id}")
        assert kind_of(await verifier.verify(inbound)) is ProblemKind.WRONG_CLIENT
        assert isinstance(await verifier.verify(message(device, 1)), VerifiedMessage), (
            "no counter was used up"
        )


async def test_factory_and_agreement_keys_sign_no_messages(tmp_path: Path) -> None:
    async with standing(tmp_path) as (rig, verifier):
        device = rig.enrolled()
        key = new_key()
        agreement = certificate_of(rig.ask(device.enroll(key, label="meter-ka")))
        device = device.holding("meter-ka", key, agreement)
        for label in ("meter-boot", "meter-ka"):
            assert kind_of(await verifier.verify(message(device, 1, label=label))) is ProblemKind.WRONG_SIGNER


async def test_a_dormant_certificate_is_not_woken_by_a_message_after_its_parent_was_revoked(
    tmp_path: Path,
) -> None:
    """Whoever stole the old key had it sign one `sren`, and kept the answer for later."""
    async with standing(tmp_path) as (rig, verifier):
        device = rig.enrolled()
        key = new_key()
        dormant = certificate_of(rig.ask(device.enroll(key, op=Operation.SREN)))
        thief = device.holding("meter-ds", key, dormant)
        serial = c509.decode_certificate(device.credentials["meter-ds"][1]).serial.hex()
        revoke(rig.agent.store, serial, RevocationReason.KEY_COMPROMISE, NOW)
        await verifier.refresh()
        verdict = await verifier.verify(message(thief, 1))
        assert kind_of(verdict) in (ProblemKind.SIGNER_REVOKED, ProblemKind.SIGNER_SUPERSEDED)
        assert not isinstance(rig.ask(thief.confirm(dormant)), Content)
        assert set(rig.states(device)) <= {"revoked", "void"}
