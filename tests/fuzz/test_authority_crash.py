"""The authority is killed at random moments under load, again and again, and nothing is lost or done twice.

TRILLIUM_CRASHES sets how often (default 15); TRILLIUM_SEED repeats a run's moments.
"""

import multiprocessing
import os
import random
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from agents.authority import Store, show_device, verify_audit
from agents.keys import SoftwareSigner
from protocol import cbor
from protocol.labels import Domain, Operation
from protocol.ports import Inbound, Media
from tests.fuzz.authority_child import READY, run
from tests.rig import Device, Rig, fresh_directory, new_key, rig_in

CRASHES = int(os.environ.get("TRILLIUM_CRASHES", "15"))
SEED = int(os.environ.get("TRILLIUM_SEED", str(random.SystemRandom().randrange(2**32))))
AT_ONCE = 24
"""Devices that ask at a time."""
STEPS = (Operation.SEN, Operation.CONF, Operation.SREN, Operation.CONF)
PATIENCE = 20.0
"""Seconds without an answer from a living authority before the test gives up."""


@dataclass
class Client:
    """A device that repeats its request until it is answered, and then goes on to the next."""

    device: Device
    step: int = 0
    key: SoftwareSigner | None = None
    certificate: bytes = b""
    request: Inbound | None = None
    answers: dict[bytes, set[bytes]] = field(default_factory=dict)
    """Certificates by key, of all answers that ever came."""

    @property
    def is_done(self) -> bool:
        return self.step == len(STEPS)

    def next_request(self) -> Inbound:
        """Return the same bytes until they are answered; now and then it forgot them, and signs again."""
        op = STEPS[self.step]
        if self.request is None:
            if op is Operation.CONF:
                assert self.key is not None
                holding = self.device.holding(self.device.label, self.key, self.certificate)
                self.request = holding.confirm(self.certificate)
            else:
                self.key = self.key or new_key()
                self.request = self.device.enroll(self.key, op=op)
        return self.request

    def crashed(self, rng: random.Random) -> None:
        if rng.random() < 0.3:
            self.request = None

    def hears(self, media: str, body: bytes) -> None:
        assert self.key is not None
        if STEPS[self.step] is Operation.CONF:
            assert media == Media.SIGN1.name, media
            self.device = self.device.holding(self.device.label, self.key, self.certificate)
            self.key = None
        else:
            assert media == Media.C509_CERTIFICATE.name, media
            self.answers.setdefault(self.key.public_key, set()).add(body)
            self.certificate = body
        self.request = None
        self.step += 1


class Fleet:
    """More and more devices, some of which are asking."""

    def __init__(self, rig: Rig, rng: random.Random) -> None:
        self.rig = rig
        self.rng = rng
        self.clients: list[Client] = []
        self.waiting: dict[int, Client] = {}
        self.resting: deque[Client] = deque()
        self.number = 0

    def grow(self) -> None:
        domain = self.rng.choice([Domain.METERING, Domain.ITS])
        client = Client(self.rig.device(domain))
        self.clients.append(client)
        self.resting.append(client)

    def send(self, pipe: Connection, *, may_grow: bool) -> None:
        while len(self.waiting) < AT_ONCE:
            if not self.resting:
                if not may_grow:
                    return
                self.grow()
            client = self.resting.popleft()
            request = client.next_request()
            for _ in range(self.rng.choice([1, 1, 2])):  # some arrive twice
                self.number += 1
                self.waiting[self.number] = client
                words = [self.number, request.label, request.op.value, request.body]
                pipe.send_bytes(cbor.encode(words))

    def receive(self, frame: bytes) -> None:
        number, media, body = cbor.decode_array(frame, 3)
        client = self.waiting.pop(number)
        if media == "UNAVAILABLE":
            self.resting.append(client)
            return
        if client in self.waiting.values():
            return  # its twin will be answered too; the last answer counts
        client.hears(media, body)
        if not client.is_done:
            self.resting.append(client)

    def authority_died(self) -> None:
        for client in dict.fromkeys(map(id, self.waiting.values())):
            found = next(one for one in self.clients if id(one) == client)
            found.crashed(self.rng)
            self.resting.append(found)
        self.waiting.clear()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    directory = fresh_directory(tmp_path / "authority")
    # The devices are made beside the serving process, as a factory would.
    with rig_in(tmp_path, directory=directory, is_beside=True) as rig:
        yield Fleet(rig, random.Random())


@pytest.mark.timeout(120 + 2 * CRASHES)
@pytest.mark.parametrize("seed", [SEED])  # so that a failure says how to repeat it
def test_nothing_is_lost_or_done_twice(fleet: Fleet, seed: int) -> None:
    fleet.rng.seed(seed)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.fuzz.authority_child"])
    for crash in range(CRASHES + 1):
        ours, theirs = context.Pipe()
        child = context.Process(target=run, args=(fleet.rig.directory, theirs), daemon=True)
        child.start()
        theirs.close()
        assert ours.poll(PATIENCE)
        assert ours.recv_bytes() == READY
        is_last = crash == CRASHES
        # The moment of death is the random input, not a wait for something.
        death = time.monotonic() + (1e9 if is_last else fleet.rng.uniform(0, 0.25))
        while (left := death - time.monotonic()) > 0:
            fleet.send(ours, may_grow=not is_last)
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
    check(fleet)


def check(fleet: Fleet) -> None:
    """Look at everything that was answered, and at everything that is on disk."""
    directory = fleet.rig.directory
    assert len(fleet.clients) >= CRASHES
    assert all(client.is_done for client in fleet.clients)
    store = Store(directory / "store.sqlite")
    try:
        for client in fleet.clients:
            shown = show_device(store, client.device.client_id).certificates
            issued = [one for one in shown if one.label == client.device.label]
            assert all(len(answers) == 1 for answers in client.answers.values()), "two for one key"
            on_disk = {one.encoded for one in issued}
            assert on_disk == {a for answers in client.answers.values() for a in answers}, "lost or unasked"
            assert Counter(one.state.value for one in issued) == Counter(current=1, superseded=1)
            held = client.device.credentials[client.device.label][1]
            assert next(one.encoded for one in issued if one.state.value == "current") == held
    finally:
        store.close()
    verify_audit(directory)
