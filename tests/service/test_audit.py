"""The audit log: every decision is in it, and no change of it goes unseen."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection

from agents.authority import AuditBroken, BadDirectory, Head, Store, revoke, verify_audit
from agents.authority.audit import read_head, read_record, sign_head
from agents.authority.tally import Tally
from protocol import cbor
from protocol.errors import ProblemKind
from protocol.exchange.request import RevocationReason
from protocol.labels import Domain, Operation
from protocol.ports import Inbound
from tests.rig import NOW, Rig, certificate_of, new_key, open_rig, rig_in

RECORDS = 9


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_in(tmp_path) as opened:
        yield opened


def busy(rig: Rig) -> bytes:
    """Make a few records and return the head, signed."""
    device = rig.enrolled()
    rig.enrolled(Domain.ITS)
    rig.ask(device.enroll(new_key(), name="54524C00000000FF"))
    return publish(rig)


def publish(rig: Rig) -> bytes:
    registrar = rig.agent.authorities[Domain.METERING].registrar
    with rig.agent.store.reading() as connection:
        return sign_head(read_head(connection), registrar.signer, registrar.key_id, NOW)


def test_every_decision_leaves_a_record(rig: Rig) -> None:
    device = rig.enrolled()
    key = new_key()
    second = certificate_of(rig.ask(device.enroll(key, op=Operation.SREN)))
    rig.ask(device.holding("meter-ds", key, second).confirm(second))
    rig.ask(device.enroll(new_key(), op=Operation.SREN))  # the old key
    revoke(rig.agent.store, device.name, RevocationReason.KEY_COMPROMISE, NOW)
    events = [entry.event.value for entry in rig.events()]
    assert events[:3] == ["init"] * 3
    assert events[3:] == [
        "register", "issue", "confirm", "issue", "supersede", "confirm", "refuse", "alarm",
        "revoke", "revoke", "revoke",
    ]  # fmt: skip
    assert {entry.device for entry in rig.events()[3:]} == {device.name}
    assert {entry.client_id for entry in rig.events()[3:]} == {device.client_id}


def test_an_untouched_log_is_good(rig: Rig) -> None:
    head = busy(rig)
    end = verify_audit(rig.directory, head)
    assert end.sequence == len(rig.events())
    assert verify_audit(rig.directory) == end


def test_a_log_that_went_on_after_its_head_was_published_is_good(rig: Rig) -> None:
    head = busy(rig)
    rig.enrolled()
    assert verify_audit(rig.directory, head).sequence > RECORDS


def tamper(rig: Rig, statement: str) -> None:
    with rig.agent.store.writing(NOW) as writing:
        writing.connection.execute(text(statement))


def put(rig: Rig, sequence: int, record: bytes) -> None:
    """Put other bytes in a record's place, and change nothing else."""
    with rig.agent.store.writing(NOW) as writing:
        writing.connection.execute(
            text("UPDATE audit SET record = :r WHERE sequence = :s"), {"r": record, "s": sequence}
        )


def test_a_changed_record_is_found(rig: Rig) -> None:
    head = busy(rig)
    for sequence in (1, 4, RECORDS):
        for field in range(8):
            with rig.agent.store.reading() as connection:
                row = connection.execute(
                    text("SELECT record FROM audit WHERE sequence = :s"), {"s": sequence}
                ).scalar_one()
            items = cbor.decode_array(row, 8)
            items[field] = 77 if field in (0, 1) else "void" if field == 2 else "changed"
            put(rig, sequence, cbor.encode(items))
            with pytest.raises(AuditBroken) as broken:
                verify_audit(rig.directory, head)
            assert broken.value.sequence == sequence
            put(rig, sequence, row)
    verify_audit(rig.directory, head)


@pytest.mark.parametrize("sequence", [1, 4, RECORDS - 1])
def test_a_removed_record_is_found(rig: Rig, sequence: int) -> None:
    head = busy(rig)
    tamper(rig, f"DELETE FROM audit WHERE sequence = {sequence}")
    with pytest.raises(AuditBroken, match="missing") as broken:
        verify_audit(rig.directory, head)
    assert broken.value.sequence == sequence


def test_a_removed_record_whose_followers_moved_up_is_found(rig: Rig) -> None:
    head = busy(rig)
    tamper(rig, "DELETE FROM audit WHERE sequence = 4")
    tamper(rig, "UPDATE audit SET sequence = sequence - 1 WHERE sequence > 4")
    with pytest.raises(AuditBroken) as broken:
        verify_audit(rig.directory, head)
    assert broken.value.sequence == 4


def test_two_records_that_changed_places_are_found(rig: Rig) -> None:
    head = busy(rig)
    for old, new in ((5, -1), (6, 5), (-1, 6)):
        tamper(rig, f"UPDATE audit SET sequence = {new} WHERE sequence = {old}")
    with pytest.raises(AuditBroken) as broken:
        verify_audit(rig.directory, head)
    assert broken.value.sequence == 5


@pytest.mark.parametrize("kept", [0, 1, RECORDS - 1])
def test_a_log_that_was_cut_off_is_found_by_its_head(rig: Rig, kept: int) -> None:
    head = busy(rig)
    tamper(rig, f"DELETE FROM audit WHERE sequence > {kept}")
    with pytest.raises(AuditBroken, match="cut off") as broken:
        verify_audit(rig.directory, head)
    assert broken.value.sequence == kept + 1


def rewrite(connection: Connection) -> None:
    """Write a whole new chain in which the last record never happened."""
    from hashlib import sha256

    rows = connection.execute(text("SELECT sequence, record FROM audit ORDER BY sequence")).all()
    connection.execute(text("DELETE FROM audit"))
    previous = bytes(32)
    for sequence, record in rows:
        items = cbor.decode_array(record, 8)
        items[7] = "rewritten"
        encoded = cbor.encode(items)
        previous = sha256(previous + encoded).digest()
        connection.execute(
            text("INSERT INTO audit VALUES (:s, :r, :h)"), {"s": sequence, "r": encoded, "h": previous}
        )


def test_a_chain_written_anew_is_found_by_its_head(rig: Rig) -> None:
    head = busy(rig)
    with rig.agent.store.writing(NOW) as writing:
        rewrite(writing.connection)
    with pytest.raises(AuditBroken, match="head was published"):
        verify_audit(rig.directory, head)


def test_a_head_by_somebody_else_is_no_head(rig: Rig) -> None:
    busy(rig)
    forged = sign_head(Head(1, bytes(32)), new_key(), bytes(32), NOW)
    registrar = rig.agent.authorities[Domain.METERING].registrar
    disguised = sign_head(Head(1, bytes(32)), new_key(), registrar.key_id, NOW)
    for head in (forged, disguised, b"", b"\xff" * 40):
        with pytest.raises(BadDirectory, match="audit head"):
            verify_audit(rig.directory, head)


def test_two_processes_write_one_chain(rig: Rig) -> None:
    other = Store(rig.directory / "store.sqlite")
    try:
        for _ in range(5):
            device = rig.enrolled()
            revoke(other, device.name, RevocationReason.SUPERSEDED, NOW)
    finally:
        other.close()
    assert verify_audit(rig.directory, publish(rig)).sequence == len(rig.events())


def test_an_undone_transaction_leaves_no_record(rig: Rig) -> None:
    before = rig.events()

    def write() -> None:
        with rig.agent.store.writing(NOW) as writing:
            writing.note(before[0])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert rig.events() == before


async def test_the_head_is_published_as_it_serves_and_when_it_ends(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        published: list[str] = []

        async def listener(name: str, body: bytes) -> None:
            published.append(name)

        rig.agent.add_listener(listener)
        directory, device = rig.directory, rig.device()
        first = (directory / "audit-head.cose").read_bytes()
        await rig.agent.publish()
        assert published == ["audit-head"]
        await rig.agent.publish()
        assert published == ["audit-head"], "nothing has changed"
        certificate_of(await rig.agent.handle(device.enroll(new_key())))
        end = len(rig.events())
    assert (directory / "audit-head.cose").read_bytes() != first
    assert verify_audit(directory).sequence == end


async def test_junk_is_counted_in_one_record(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        directory, clock = rig.directory, rig.clock
        for number in range(50):
            await rig.agent.handle(Inbound("meter-ds", Operation.SEN, bytes([number]), "coap:192.0.2.1:1"))
    with rig_in(tmp_path, directory=directory, clock=clock) as rig:
        assert [entry.detail for entry in rig.events() if entry.event == "junk"] == ["malformed 50"]


def test_a_flood_of_junk_writes_few_log_lines() -> None:
    tally = Tally()
    assert sum(tally.hinted(ProblemKind.MALFORMED, NOW) for _ in range(1000)) == 20
    assert sum(tally.hinted(ProblemKind.MALFORMED, NOW + 1) for _ in range(1000)) == 20
    assert tally.hints[ProblemKind.MALFORMED] == 2000


def test_a_record_reads_back(rig: Rig) -> None:
    device = rig.enrolled()
    with rig.agent.store.reading() as connection:
        row = connection.execute(text("SELECT record FROM audit WHERE sequence = 5")).scalar_one()
    record = read_record(row)
    assert (record.sequence, record.time) == (5, NOW)
    assert (record.entry.device, record.entry.label) == (device.name, "meter-ds")
