"""The verifier before the authority's own store: life and death of real certificates."""

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import pytest

from agents.authority import revoke
from agents.authority.agent import open_store
from agents.authority.audit import Event
from agents.verifier import Verdict, VerifiedMessage, Verifier, open_verifier
from protocol import c509, cbor
from protocol.errors import ProblemKind
from protocol.exchange.request import RevocationReason
from protocol.labels import Operation
from protocol.message import sign_message
from protocol.ports import InboundMessage
from protocol.problem import Problem
from tests.rig import Device, Rig, certificate_of, new_key, rig_in


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_in(tmp_path) as opened:
        yield opened


def message(device: Device, counter: int, label: str | None = None) -> InboundMessage:
    signer, certificate = device.credentials[label or device.label]
    data = sign_message(
        signer, c509.thumbprint(certificate), "readings", b"42 kWh", counter=counter, time=None
    )
    return InboundMessage("readings", data, f"mqtt:{device.client_id}", device.client_id)


def verifier_of(rig: Rig) -> AbstractAsyncContextManager[Verifier]:
    return open_verifier(rig.agent.signers, clock=rig.clock)


def kind_of(verdict: Verdict) -> ProblemKind:
    assert isinstance(verdict, Problem), verdict
    return verdict.kind


async def test_an_enrolled_device_is_heard(rig: Rig) -> None:
    device = rig.enrolled()
    published: list[list[object]] = []

    async def publish(_stream: str, payload: bytes) -> None:
        published.append(cbor.decode_array(payload, 4))

    async with open_verifier(rig.agent.signers, publish, clock=rig.clock) as verifier:
        verdict = await verifier.verify(message(device, 1))
    assert isinstance(verdict, VerifiedMessage)
    assert verdict.device == device.name
    assert published == [[device.name, 1, None, b"42 kWh"]]


async def test_a_bootstrap_certificate_signs_no_messages(rig: Rig) -> None:
    device = rig.device()
    async with verifier_of(rig) as verifier:
        verdict = await verifier.verify(message(device, 1, device.boot))
    assert kind_of(verdict) is ProblemKind.WRONG_SIGNER


async def test_a_rekeyed_device_is_heard_and_its_old_key_raises_an_alarm(rig: Rig) -> None:
    old = rig.enrolled()
    async with verifier_of(rig) as verifier:
        assert isinstance(await verifier.verify(message(old, 1)), VerifiedMessage)
        key = new_key()
        new = old.holding(old.label, key, certificate_of(rig.ask(old.enroll(key, op=Operation.SREN))))
        assert rig.states(old) == ["current", "pending"]
        # The first message is as good as a confirmation.
        assert isinstance(await verifier.verify(message(new, 1)), VerifiedMessage)
        assert rig.states(old) == ["superseded", "current"]
        await verifier.refresh()
        assert kind_of(await verifier.verify(message(old, 2))) is ProblemKind.SIGNER_SUPERSEDED
        assert isinstance(await verifier.verify(message(new, 2)), VerifiedMessage)
    assert verifier.stats.activated == 1
    assert verifier.stats.alarms == 1
    assert [entry for entry in rig.events() if entry.event is Event.ALARM]


async def test_a_pending_certificate_dies_with_its_parent(rig: Rig) -> None:
    device, key = rig.enrolled(), new_key()
    dormant = device.holding(
        device.label, key, certificate_of(rig.ask(device.enroll(key, op=Operation.SREN)))
    )
    revoke(rig.agent.store, device.name, RevocationReason.KEY_COMPROMISE, int(rig.clock()))
    async with verifier_of(rig) as verifier:
        for credential in (device, dormant):
            verdict = await verifier.verify(message(credential, 1))
            assert kind_of(verdict) in (ProblemKind.SIGNER_REVOKED, ProblemKind.SIGNER_SUPERSEDED)
    assert "current" not in rig.states(device)


async def test_a_revocation_beside_a_running_verifier_counts_within_a_second(rig: Rig) -> None:
    device, other = rig.enrolled(), rig.enrolled()
    async with verifier_of(rig) as verifier:
        assert isinstance(await verifier.verify(message(device, 1)), VerifiedMessage)
        with open_store(rig.directory) as beside:  # as `trillium revoke` does
            revoke(beside, device.name, RevocationReason.UNSPECIFIED, int(rig.clock()))
        with anyio.fail_after(1):
            counter = 2
            while isinstance(verdict := await verifier.verify(message(device, counter)), VerifiedMessage):
                counter += 1
                await anyio.sleep(0.02)
        assert kind_of(verdict) is ProblemKind.SIGNER_REVOKED
        assert isinstance(await verifier.verify(message(other, 1)), VerifiedMessage)


async def test_counters_are_kept_in_the_store(rig: Rig) -> None:
    device = rig.enrolled()
    async with verifier_of(rig) as verifier:
        assert isinstance(await verifier.verify(message(device, 7)), VerifiedMessage)
    async with verifier_of(rig) as verifier:
        assert kind_of(await verifier.verify(message(device, 7))) is ProblemKind.STALE_MESSAGE
        assert isinstance(await verifier.verify(message(device, 8)), VerifiedMessage)


async def test_an_expired_certificate_is_not_heard(rig: Rig) -> None:
    device = rig.enrolled()
    rig.clock.now += 4 * 365 * 24 * 3600
    async with verifier_of(rig) as verifier:
        assert kind_of(await verifier.verify(message(device, 1))) is ProblemKind.SIGNER_EXPIRED
