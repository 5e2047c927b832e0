"""The authority is killed while it prepares and gives contracts, and none is lost, doubled or leaked.

TRILLIUM_CRASHES sets how often (a quarter of it, 15 at least); TRILLIUM_SEED repeats a run's moments.
"""

import hashlib
import multiprocessing
import os
import random
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from sqlalchemy import text

from agents.authority import MakerIssuer, Store, show_device, verify_audit
from agents.authority.audit import Event, read_record
from agents.authority.contracts import add_contract
from agents.devices.identity import Identity
from agents.factory import make_batch
from agents.keys import SoftwareSigner
from protocol import c509, cbor
from protocol.ev import CpsPackage
from protocol.exchange.device_effects import Credential
from protocol.exchange.request import Confirmation, Door, KeyRequest, sign_request
from protocol.labels import Domain, Operation
from protocol.ports import Media
from tests.contract_world import NOW, PASSPHRASE, enrolled_service, scene
from tests.fuzz.contract_child import MAX_FRAME, READY, run

CRASHES = max(15, int(os.environ.get("TRILLIUM_CRASHES", "0")) // 4)
SEED = int(os.environ.get("TRILLIUM_SEED", str(random.SystemRandom().randrange(2**32))))
LABEL = "ev-contract"
AT_ONCE = 8
"""Cars that ask at a time."""
AHEAD = 4
"""Contracts that are granted before their cars ask: some are ready then, some are not."""
_AUDIT = text("SELECT record FROM audit ORDER BY sequence")
STEPS = (Operation.SKG, Operation.CONF, Operation.SKG, Operation.CONF)
PATIENCE = 20.0
"""Seconds without an answer from a living authority before the test gives up."""


@dataclass
class Driver:
    """A car that repeats its request until it is answered, and then goes on to the next."""

    identity: Identity
    authority: bytes
    held: Credential
    name: str
    rng: random.Random
    step: int = 0
    nonce: bytes = b""
    request: bytes | None = None
    fresh: Credential | None = None
    answers: dict[bytes, set[bytes]] = field(default_factory=dict)
    """Contract certificates by nonce, of all answers that ever came."""
    packages: dict[bytes, set[bytes]] = field(default_factory=dict)
    """Packages by request."""

    @property
    def is_done(self) -> bool:
        return self.step == len(STEPS)

    def next_request(self) -> bytes:
        """Return the same bytes until they are answered; now and then it forgot them, and signs again."""
        if self.request is None:
            if STEPS[self.step] is Operation.SKG:
                self.nonce = self.nonce or self.rng.randbytes(16)
                payload, signer = KeyRequest(self.nonce, self.name).encode(), self.held
            else:
                assert self.fresh is not None
                digest = hashlib.sha256(self.fresh.certificate).digest()
                payload, signer = Confirmation(digest, 0).encode(), self.fresh
            door = Door(self.authority, LABEL, STEPS[self.step], 0)
            self.request = sign_request(signer.signer, signer.certificate, door, payload)
        return self.request

    def crashed(self) -> None:
        if self.rng.random() < 0.3:
            self.request = None

    def hears(self, media: str, body: bytes) -> None:
        assert self.request is not None
        if STEPS[self.step] is Operation.CONF:
            assert media == Media.SIGN1.name, media
            assert self.fresh is not None
            self.held, self.fresh, self.nonce = self.fresh, None, b""
        else:
            assert media == Media.CONTRACT_PACKAGE.name, media
            package = CpsPackage.decode(body)
            assert package.request == hashlib.sha256(self.request).digest()
            assert isinstance(self.held.signer, SoftwareSigner)
            key = package.installation.unwrap(self.held.signer)
            certificate = c509.from_der(package.installation.contract_chain[0]).encoded
            self.answers.setdefault(self.nonce, set()).add(certificate)
            self.packages.setdefault(self.request, set()).add(body)
            self.fresh, self.name = Credential(SoftwareSigner(key), certificate), package.installation.name
        self.request = None
        self.step += 1


class Fleet:
    """More and more cars, some of which are asking."""

    def __init__(self, directory: Path, folders: list[Path], rng: random.Random) -> None:
        self.directory = directory
        self.rng = rng
        self.parked = deque(folders)
        self.granted: deque[Driver] = deque()
        self.drivers: list[Driver] = []
        self.waiting: dict[int, Driver] = {}
        self.resting: deque[Driver] = deque()
        self.number = 0
        with MakerIssuer(directory, Domain.EV_MO, PASSPHRASE, clock=lambda: NOW) as maker:
            self.authority = maker.owner

    def grow(self, store: Store) -> None:
        while len(self.granted) < AHEAD and self.parked:
            identity = Identity.load(self.parked.popleft())
            emaid = f"DE83D{len(self.drivers) + len(self.granted):09d}"
            add_contract(store, identity.client_id, emaid, NOW)
            held = identity.bootstrap(None)
            self.granted.append(Driver(identity, self.authority, held, identity.device, self.rng))
        driver = self.granted.popleft()
        self.drivers.append(driver)
        self.resting.append(driver)

    def send(self, store: Store, pipe: Connection, *, may_grow: bool) -> None:
        while len(self.waiting) < AT_ONCE:
            if not self.resting:
                if not may_grow or not (self.granted or self.parked):
                    return
                self.grow(store)
            driver = self.resting.popleft()
            request = driver.next_request()
            for _ in range(self.rng.choice([1, 1, 2])):  # some arrive twice
                self.number += 1
                self.waiting[self.number] = driver
                pipe.send_bytes(cbor.encode([self.number, LABEL, STEPS[driver.step].value, request]))

    def receive(self, frame: bytes) -> None:
        number, media, body = cbor.decode_array(frame, 3, max_bytes=MAX_FRAME)
        driver = self.waiting.pop(number)
        if any(driver is other for other in self.waiting.values()):
            return  # its twin will be answered too; the last answer counts
        if media == "UNAVAILABLE":
            self.resting.append(driver)
            return
        driver.hears(media, body)
        if not driver.is_done:
            self.resting.append(driver)

    def authority_died(self) -> None:
        for driver in {id(driver): driver for driver in self.waiting.values()}.values():
            driver.crashed()
            self.resting.append(driver)
        self.waiting.clear()


@pytest.mark.timeout(120 + 2 * CRASHES)
@pytest.mark.parametrize("seed", [SEED])  # so that a failure says how to repeat it
async def test_no_contract_is_lost_or_made_twice(tmp_path: Path, seed: int) -> None:
    with scene(tmp_path) as found:
        service = await enrolled_service(found)
    directory, cars = tmp_path / "authority", tmp_path / "more"
    with MakerIssuer(directory, Domain.EV_MO, PASSPHRASE, clock=lambda: NOW) as maker:
        make_batch(maker, "ev-oem", 40 * CRASHES, cars, start=100)
    folders = sorted(path.parent for path in cars.glob("*/identity.json"))
    fleet = Fleet(directory, folders, random.Random(seed))
    store = Store(directory / "store.sqlite")
    try:
        for crash in range(CRASHES + 1):
            _life(fleet, store, service, is_last=crash == CRASHES)
        _check(fleet, store)
    finally:
        store.close()
    verify_audit(directory)


def _life(fleet: Fleet, store: Store, service: Path, *, is_last: bool) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.fuzz.contract_child"])
    ours, theirs = context.Pipe()
    child = context.Process(target=run, args=(fleet.directory, service, theirs), daemon=True)
    child.start()
    theirs.close()
    assert ours.poll(PATIENCE)
    assert ours.recv_bytes() == READY
    # The moment of death is the random input, not a wait for something.
    death = time.monotonic() + (1e9 if is_last else fleet.rng.uniform(0, 0.3))
    while (left := death - time.monotonic()) > 0:
        fleet.send(store, ours, may_grow=not is_last)
        if not fleet.waiting:
            break
        if ours.poll(min(left, PATIENCE)):
            fleet.receive(ours.recv_bytes())
        else:
            assert not is_last, "no answer"
    child.kill()
    child.join()
    ours.close()
    fleet.authority_died()


def _check(fleet: Fleet, store: Store) -> None:
    """Look at everything that was answered, and at everything that is on disk."""
    assert len(fleet.drivers) >= CRASHES
    assert all(driver.is_done for driver in fleet.drivers)
    for driver in fleet.drivers:
        shown = show_device(store, driver.identity.client_id).certificates
        issued = [one for one in shown if one.label == LABEL]
        assert all(len(answers) == 1 for answers in driver.answers.values()), "two for one nonce"
        assert all(len(answers) == 1 for answers in driver.packages.values()), "two for the same bytes"
        given = {answer for answers in driver.answers.values() for answer in answers}
        assert {one.encoded for one in issued} == given, "lost or unasked"
        assert Counter(one.state.value for one in issued) == Counter(current=1, superseded=1)
        assert next(one.encoded for one in issued if one.state.value == "current") == driver.held.certificate
    with store.reading() as connection:
        ready = connection.exec_driver_sql(
            "SELECT grant_id, count(*) FROM installations WHERE stage != 'claimed' GROUP BY grant_id"
        ).all()
        records = [read_record(row[0]).entry for row in connection.execute(_AUDIT)]
    assert all(count == 1 for _, count in ready), "prepared twice"
    serials = {event: [e.serial for e in records if e.event is event and e.label == LABEL] for event in Event}
    assert len(serials[Event.ISSUE]) == len(set(serials[Event.ISSUE])) == 2 * len(fleet.drivers)
    assert len(serials[Event.PREPARE]) == len(set(serials[Event.PREPARE]))
    assert set(serials[Event.PREPARE]) & set(serials[Event.ISSUE]), "none came from the ready store"
