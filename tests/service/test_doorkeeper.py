"""Which device a TLS client certificate names: the authority's own store says so, and nobody waits for it."""

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from blockbuster import blockbuster_ctx
from sqlalchemy.exc import OperationalError

from agents.authority import open_store, revoke
from agents.cli.doorkeeper import MAX_ASKED, Doorkeeper
from broker.access import Identity
from protocol import c509
from protocol.exchange.request import RevocationReason
from protocol.labels import Tier
from tests.rig import NOW, Device, Rig, new_key, rig_in

PATIENCE = 5.0


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_in(tmp_path) as made:
        yield made


@pytest.fixture
def doorkeeper(rig: Rig) -> Iterator[Doorkeeper]:
    """Open one that may not block the event loop."""
    with Doorkeeper(rig.directory) as made, blockbuster_ctx("agents.cli"):
        yield made


def shown(device: Device) -> bytes:
    """Return the certificate that a device shows in TLS, as TLS has it."""
    return c509.decode_certificate(device.credentials[device.boot][1]).to_der()


def revoked(rig: Rig, word: str) -> None:
    """Revoke as `trillium revoke` does, on connections of its own."""
    with open_store(rig.directory) as store:
        revoke(store, word, RevocationReason.CESSATION_OF_OPERATION, NOW)


async def test_a_certificate_names_its_device_and_what_that_is_by_now(
    rig: Rig, doorkeeper: Doorkeeper
) -> None:
    device, other, stranger = rig.device(), rig.device(), rig.device(is_registered=False)
    wanted = [shown(device), b"no certificate", shown(stranger), shown(other), shown(device)]
    before = Identity(device.client_id, Tier.BOOTSTRAPPING)
    neighbour = Identity(other.client_id, Tier.BOOTSTRAPPING)
    assert await doorkeeper.identify(wanted) == [before, None, None, neighbour, before]
    rig.enrolled(device=device)
    after = Identity(device.client_id, Tier.PARTICIPATION)
    assert await doorkeeper.identify(wanted) == [after, None, None, neighbour, after]
    revoked(rig, device.name)
    assert await doorkeeper.identify(wanted) == [None, None, None, neighbour, None]


async def test_more_certificates_than_one_question_holds_are_answered_in_order(
    rig: Rig, doorkeeper: Doorkeeper
) -> None:
    device = rig.device()
    known = shown(device)
    # The same certificate with something behind it is none.
    wanted = [known + number.to_bytes(2) for number in range(MAX_ASKED)] + [known]
    found = await doorkeeper.identify(wanted)
    assert found == [None] * MAX_ASKED + [Identity(device.client_id, Tier.BOOTSTRAPPING)]


async def test_whoever_ends_a_certificate_has_the_connections_reviewed(
    rig: Rig, doorkeeper: Doorkeeper
) -> None:
    device = rig.enrolled()
    reviews = 0
    came = anyio.Event()

    async def review() -> None:
        nonlocal reviews, came
        reviews += 1
        came.set()
        came = anyio.Event()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(doorkeeper.watch, review)
        await came.wait()
        # A new certificate ends nothing.
        rig.ask(device.enroll(new_key(), label="meter-tls"))
        with anyio.move_on_after(0.6):
            await came.wait()
        assert reviews == 1
        revoked(rig, device.name)
        with anyio.fail_after(1):
            await came.wait()
        assert reviews == 2
        tasks.cancel_scope.cancel()


async def test_a_review_that_fails_is_done_again(doorkeeper: Doorkeeper) -> None:
    attempts = 0
    done = anyio.Event()

    async def review() -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise OperationalError("SELECT 1", {}, OSError("the disk is gone"))
        done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(doorkeeper.watch, review)
        with anyio.fail_after(PATIENCE):
            await done.wait()
        tasks.cancel_scope.cancel()
