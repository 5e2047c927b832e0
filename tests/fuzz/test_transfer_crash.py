"""Whoever transfers devices is killed at random moments, again and again: each device is given, or is not.

TRILLIUM_CRASHES sets how often (a quarter of it, 15 at least); TRILLIUM_SEED repeats a run's moments.
"""

import multiprocessing
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from agents.authority import Layout, MakerIssuer, Store, verify_audit
from agents.authority.audit import Event, read_record
from agents.authority.owners import own_card
from agents.authority.schema import CERTIFICATES, KEYS
from agents.factory import make_batch
from protocol import c509, cbor
from protocol.cose import decode_sign1
from protocol.labels import Domain
from protocol.path import verification_key
from protocol.transfer import decode_bundle
from protocol.voucher import key_identifier
from tests.fuzz.transfer_child import DONE, READY, run
from tests.owners_world import NOW, PASSPHRASE, make_template

CRASHES = max(15, int(os.environ.get("TRILLIUM_CRASHES", "0")) // 4)
SEED = int(os.environ.get("TRILLIUM_SEED", str(random.SystemRandom().randrange(2**32))))
DEVICES = 60
PATIENCE = 20.0


def enroll(directory: Path, chance: random.Random) -> None:
    """Give every device that is here a current certificate, without asking anybody."""
    store = Store(Layout(directory).store)
    with store.writing(NOW) as writing:
        connection = writing.connection
        number = connection.exec_driver_sql("SELECT max(id) FROM keys").scalar_one()
        sql = (
            "SELECT d.id, c.id FROM devices d JOIN certificates c ON c.device_id = d.id"
            " WHERE c.parent_id IS NULL AND d.entitled != '' AND NOT EXISTS (SELECT 1 FROM certificates o"
            " WHERE o.device_id = d.id AND o.parent_id IS NOT NULL AND o.state = 'current')"
        )
        for device, parent in connection.exec_driver_sql(sql).all():
            number += 1
            both: dict[str, Any] = {"id": number, "authority": bytes(32), "label": "meter-ds"}
            both |= {"device_id": device, "serial": b"\x40" + chance.randbytes(7), "not_before": NOW}
            key = {"key_hash": chance.randbytes(32), "signer_id": parent}
            certificate = {"parent_id": parent, "state": "current", "algorithm": -7, "public_key": b""}
            certificate |= {"thumbprint": chance.randbytes(8), "encoded": b"", "issued_at": NOW}
            connection.execute(insert(KEYS), [both | key])
            connection.execute(insert(CERTIFICATES), [both | certificate])
    store.close()


def check(directory: Path, here: bytes) -> dict[str, int]:
    """Look at everything that is on disk; return the epoch of each device that belongs here."""
    verify_audit(directory)
    store = Store(Layout(directory).store)
    try:
        with store.reading() as connection:
            devices = connection.exec_driver_sql("SELECT * FROM devices").all()
            owners = connection.exec_driver_sql("SELECT * FROM owners ORDER BY device_id, epoch").all()
            sql = "SELECT device_id FROM certificates WHERE parent_id IS NOT NULL AND state = 'current'"
            alive = set(connection.exec_driver_sql(sql).scalars())
            records = connection.exec_driver_sql("SELECT record FROM audit").scalars().all()
    finally:
        store.close()
    told = [entry for entry in (read_record(one).entry for one in records) if entry.event is Event.TRANSFER]
    with_voucher = [row for row in owners if row.voucher is not None]
    assert len(told) == len(with_voucher), "each change is on record, and no other"
    ours: dict[str, int] = {}
    for device in devices:
        rows = [row for row in owners if row.device_id == device.id]
        if rows:
            assert [row.epoch for row in rows] == sorted({row.epoch for row in rows})
            assert rows[-1].epoch == device.epoch
        for row in rows:
            if row.voucher is not None:
                payload = cbor.decode(decode_sign1(row.voucher).payload)
                assert payload == [device.name, row.authority, row.epoch]
        if rows and rows[-1].authority != here:
            assert device.id not in alive, "what the owner before gave has ended"
            assert device.entitled == ""
        else:
            assert device.entitled != ""
            ours[device.name] = device.epoch
    return ours


@pytest.mark.timeout(120 + 2 * CRASHES)
@pytest.mark.parametrize("seed", [SEED])  # so that a failure says how to repeat it
def test_a_transfer_is_done_or_not_done(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    folder = make_template(tmp_path)
    with MakerIssuer(folder / "north", Domain.METERING, PASSPHRASE, clock=lambda: NOW) as maker:
        batch = make_batch(maker, "meter-boot", DEVICES, folder / "more", start=100)
    words = list(batch.names())
    houses = [folder / "north", folder / "south"]
    keys = {
        house: key_identifier(verification_key(c509.decode_chain(own_card(house).chains[Domain.METERING])[0]))
        for house in houses
    }
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.fuzz.transfer_child"])
    crashes = epoch = 0
    usual = 1e9
    """Seconds that it takes when nobody disturbs it; the first time nobody does."""
    paper = tmp_path / "paper"
    while crashes < CRASHES or epoch < 3:
        giver, receiver = houses[epoch % 2], houses[1 - epoch % 2]
        enroll(giver, chance)
        is_done = False
        while not is_done:
            ours, theirs = context.Pipe()
            arguments = (giver, receiver, words, paper, theirs)
            child = context.Process(target=run, args=arguments, daemon=True)
            child.start()
            theirs.close()
            assert ours.poll(PATIENCE)
            assert ours.recv_bytes() == READY
            # The moment of death is the random input, not a wait for something.
            started = time.monotonic()
            is_last = crashes >= CRASHES or epoch == 0
            life = PATIENCE if is_last else min(PATIENCE, chance.uniform(0, usual))
            is_done = ours.poll(life) and _hears(ours)
            assert is_done or not is_last, "it does not end by itself"
            usual = min(usual, time.monotonic() - started) if is_last else usual
            child.kill()
            child.join()
            ours.close()
            crashes += not is_done
            check(receiver, keys[receiver])
            check(giver, keys[giver])
            if paper.exists():
                decode_bundle(paper.read_bytes())  # whole, whenever it is there
        epoch += 1
        paper.unlink()
        found = check(receiver, keys[receiver])
        assert {name: found[name] for name in words} == dict.fromkeys(words, epoch)
        assert not set(words) & set(check(giver, keys[giver]))


def _hears(pipe: Any) -> bool:
    try:
        return bool(pipe.recv_bytes() == DONE)
    except EOFError:
        pytest.fail("the child ended by itself, and badly")
