"""The key store on a real disk: what it keeps, what it refuses, and who may open it."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agents.devices import keystore
from agents.devices.keystore import COUNTER_BLOCK, KeyStore, StoreError, open_keystore
from agents.devices.record import TrustRecord
from agents.keys import write_atomically
from protocol.cose import Algorithm
from protocol.errors import LocalProtocolError
from protocol.exchange.device_effects import Discard, Done, Drop, Install, Learn, Promote, Save, Seen
from protocol.labels import Operation
from protocol.message import MAX_COUNTER
from protocol.profiles import profile_of
from protocol.signing import Signer
from protocol.voucher import Voucher
from tests.world import METER, NOW, World

LABEL = "meter-ds"
FIRST = TrustRecord(b"voucher", bytes(32), 0)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def fill(store: KeyStore, world: World, *, upto: str = "promote") -> tuple[Signer, bytes]:
    """Take one label through the steps of an exchange; return key and certificate."""
    key = store.begin(LABEL, Operation.SEN, Algorithm.ES256)
    certificate = world.leaf(profile_of(LABEL), METER, key).encoded
    store.apply(LABEL, Save(b"request"))
    if upto != "save":
        store.apply(LABEL, Install(certificate))
    if upto == "promote":
        store.apply(LABEL, Promote())
    return key, certificate


def test_every_step_is_there_after_opening_again(tmp_path: Path, world: World) -> None:
    folder = tmp_path / "state"
    with open_keystore(folder, None, FIRST) as store:
        key, _ = fill(store, world, upto="save")
    with open_keystore(folder, None, FIRST) as store:
        pending = store.pending(LABEL)
        assert pending is not None
        assert (pending.op, pending.request, pending.certificate) == (Operation.SEN, b"request", None)
        assert store.pending_key(LABEL).public_key == key.public_key
        assert store.current(LABEL) is None
        certificate = world.leaf(profile_of(LABEL), METER, key).encoded
        store.apply(LABEL, Install(certificate))
    with open_keystore(folder, None, FIRST) as store:
        pending = store.pending(LABEL)
        assert pending is not None
        assert pending.certificate == certificate
        store.apply(LABEL, Promote())
    with open_keystore(folder, None, FIRST) as store:
        current = store.current(LABEL)
        assert current is not None
        assert current.certificate == certificate == store.current_certificate(LABEL)
        assert current.signer.public_key == key.public_key
        assert store.pending(LABEL) is None


def test_the_old_key_stays_until_the_promotion(tmp_path: Path, world: World) -> None:
    with open_keystore(tmp_path / "state", None, FIRST) as store:
        old, _ = fill(store, world)
        new, certificate = fill(store, world, upto="install")
        current = store.current(LABEL)
        assert current is not None
        assert current.signer.public_key == old.public_key
        store.apply(LABEL, Promote())
        current = store.current(LABEL)
        assert current is not None
        assert (current.signer.public_key, current.certificate) == (new.public_key, certificate)


def test_a_promoted_key_leaves_nothing_of_the_old_one_on_the_disk(tmp_path: Path, world: World) -> None:
    with open_keystore(tmp_path / "state", None, FIRST) as store:
        fill(store, world)
        old = store._record(LABEL).current
        fill(store, world)
        assert old is not None
    for path in (tmp_path / "state").rglob("*"):
        assert old.key not in path.read_bytes()


def test_discarding_keeps_the_current_one(tmp_path: Path, world: World) -> None:
    with open_keystore(tmp_path / "state", None, FIRST) as store:
        _, certificate = fill(store, world)
        fill(store, world, upto="install")
        store.apply(LABEL, Discard())
        assert store.pending(LABEL) is None
        assert store.current_certificate(LABEL) == certificate


def test_what_was_given_back_is_gone(tmp_path: Path, world: World) -> None:
    with open_keystore(tmp_path / "state", None, FIRST) as store:
        fill(store, world)
        store.apply(LABEL, Drop())
        assert store.current(LABEL) is None
        assert store.labels() == (LABEL,)


def test_a_request_that_is_signed_again_keeps_its_key(tmp_path: Path, world: World) -> None:
    with open_keystore(tmp_path / "state", None, FIRST) as store:
        key, _ = fill(store, world, upto="save")
        store.apply(LABEL, Save(b"the same with a whole certificate"))
        pending = store.pending(LABEL)
        assert pending is not None
        assert pending.request == b"the same with a whole certificate"
        assert store.pending_key(LABEL).public_key == key.public_key


def test_private_keys_are_encrypted_if_there_is_a_passphrase(tmp_path: Path, world: World) -> None:
    folder = tmp_path / "state"
    with open_keystore(folder, b"secret", FIRST) as store:
        key, _ = fill(store, world)
        fill(store, world, upto="save")
    with open_keystore(folder, b"secret", FIRST) as store:
        current = store.current(LABEL)
        assert current is not None
        assert current.signer.public_key == key.public_key
    for passphrase in (b"wrong", None):
        with open_keystore(folder, passphrase, FIRST) as store:
            assert store.current_certificate(LABEL) is not None, "certificates are no secret"
            with pytest.raises(StoreError, match="passphrase"):
                store.current(LABEL)
            with pytest.raises(StoreError, match="passphrase"):
                store.pending_key(LABEL)


def test_files_with_keys_are_for_their_owner_only(tmp_path: Path, world: World) -> None:
    folder = tmp_path / "state"
    with open_keystore(folder, None, FIRST) as store:
        fill(store, world)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / f"{LABEL}.keys").stat().st_mode) == 0o600


def test_counters_go_up_by_one_and_skip_a_block_at_most_after_a_crash(tmp_path: Path, world: World) -> None:
    folder = tmp_path / "state"
    with open_keystore(folder, None, FIRST) as store:
        fill(store, world)
        assert [store.next_counter(LABEL) for _ in range(COUNTER_BLOCK + 3)] == list(range(COUNTER_BLOCK + 3))
    with open_keystore(folder, None, FIRST) as store:
        assert store.next_counter(LABEL) == 2 * COUNTER_BLOCK
        assert store.next_counter(LABEL) == 2 * COUNTER_BLOCK + 1


def test_a_block_of_counters_costs_one_write(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[Path] = []

    def counted(path: Path, data: bytes) -> None:
        writes.append(path)
        write_atomically(path, data)

    with open_keystore(tmp_path / "state", None, FIRST) as store:
        fill(store, world)
        monkeypatch.setattr(keystore, "write_atomically", counted)
        for _ in range(COUNTER_BLOCK):
            store.next_counter(LABEL)
    assert len(writes) == 1


def test_a_new_certificate_counts_from_the_beginning(tmp_path: Path, world: World) -> None:
    with open_keystore(tmp_path / "state", None, FIRST) as store:
        fill(store, world)
        store.next_counter(LABEL)
        fill(store, world)
        assert store.next_counter(LABEL) == 0


def test_a_certificate_whose_counters_are_used_up_signs_no_more(tmp_path: Path, world: World) -> None:
    with open_keystore(tmp_path / "state", None, FIRST) as store:
        fill(store, world)
        store._next[LABEL] = MAX_COUNTER
        assert store.next_counter(LABEL) == MAX_COUNTER
        with pytest.raises(StoreError, match="rekey"):
            store.next_counter(LABEL)


def test_a_failed_reservation_hands_out_nothing(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with open_keystore(tmp_path / "state", None, FIRST) as store:
        fill(store, world)
        with monkeypatch.context() as patch:
            patch.setattr(keystore, "write_atomically", full)
            with pytest.raises(OSError, match="No space"):
                store.next_counter(LABEL)
        assert store.next_counter(LABEL) == 0


def test_the_floor_is_the_latest_time_that_was_verified(tmp_path: Path, world: World) -> None:
    folder = tmp_path / "state"
    with open_keystore(folder, None, FIRST) as store:
        assert store.floor == 0
        store.apply(LABEL, Learn(b"chain", Seen(NOW - 1000, NOW)))
        assert store.floor == NOW - 1000
        fill(store, world, upto="install")
        store.apply(LABEL, Discard())
    with open_keystore(folder, None, FIRST) as store:
        assert store.floor == NOW - profile_of(LABEL).backdate
        assert store.trust.chain == b"chain"
        assert store.trust.seen == Seen(NOW - 1000, NOW)


def test_a_later_owner_ends_what_the_one_before_gave(tmp_path: Path, world: World) -> None:
    folder = tmp_path / "state"
    with open_keystore(folder, None, FIRST) as store:
        store.apply(LABEL, Learn(b"chain", Seen(NOW, NOW)))
        fill(store, world)
        fill(store, world, upto="save")
        store.take_voucher(Voucher(METER, b"\x01" * 32, 1, b"second voucher"))
        assert store.current(LABEL) is None
    with open_keystore(folder, None, FIRST) as store:
        assert store.current(LABEL) is None
        assert store.current_certificate(LABEL) is None
        assert store.pending(LABEL) is None
        trust = store.trust
        assert (trust.voucher, trust.authority, trust.epoch) == (b"second voucher", b"\x01" * 32, 1)
        assert (trust.chain, trust.seen) == (None, Seen())
        assert store.floor == 0, "whose clock was years ahead, keeps nobody from the next owner"
        assert trust.wanted == (LABEL,), "to be asked of the next owner"
        assert not list(folder.glob("*.keys")), "keys of the owner before are gone"
        store.settle(LABEL)
    with open_keystore(folder, None, FIRST) as store:
        assert store.trust.wanted == ()


def test_what_a_crash_left_of_the_owner_before_is_removed(tmp_path: Path, world: World) -> None:
    folder = tmp_path / "state"
    with open_keystore(folder, None, FIRST) as store:
        fill(store, world)
        left = (folder / f"{LABEL}.keys").read_bytes()
        store.take_voucher(Voucher(METER, b"\x01" * 32, 1, b"second voucher"), "coap://192.0.2.7:5683")
    (folder / f"{LABEL}.keys").write_bytes(left)
    with open_keystore(folder, None, FIRST) as store:
        assert not list(folder.glob("*.keys"))
        assert store.trust.at == "coap://192.0.2.7:5683"
        store.take_voucher(Voucher(METER, b"\x01" * 32, 2, b"third voucher"))
        assert store.trust.at == "coap://192.0.2.7:5683", "the same authority is where it was"
        store.take_voucher(Voucher(METER, b"\x02" * 32, 3, b"fourth voucher"))
        assert (store.trust.at, store.trust.wanted) == (None, (LABEL,))


def test_only_one_process_has_an_identity_open(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    script = (
        "import sys; from pathlib import Path; from agents.devices.keystore import *; "
        "from agents.devices.record import TrustRecord\n"
        "with open_keystore(Path(sys.argv[1]), None, TrustRecord(b'', bytes(32), 0)): print('mine')"
    )
    command = [sys.executable, "-c", script, str(folder)]
    with open_keystore(folder, None, FIRST):
        other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert "in use by another process" in other.stderr
        with pytest.raises(StoreError, match="in use"), open_keystore(folder, None, FIRST):
            pass
    other = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert other.stdout == "mine\n"


@pytest.mark.parametrize("name", ["trust", f"{LABEL}.keys"])
@pytest.mark.parametrize(
    "content", [b"", b"\x83", b"\x80", b"\x84\x01\x00\x01\xf6", b"garbage"], ids=bytes.hex
)
def test_a_damaged_file_is_told_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / name).write_bytes(content)
    with pytest.raises(StoreError, match=f"{name} is damaged"), open_keystore(folder, None, FIRST):
        pass


def test_unfinished_files_are_removed_they_may_hold_keys(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / ".meter-ds.keys.4711.new").write_bytes(b"half a key")
    with open_keystore(folder, None, FIRST):
        assert [path.name for path in folder.iterdir()] == ["lock"]


def test_steps_out_of_order_are_our_own_bug(tmp_path: Path) -> None:
    with open_keystore(tmp_path / "state", None, FIRST) as store:
        for effect in (Save(b""), Install(b""), Promote(), Done()):
            with pytest.raises(LocalProtocolError):
                store.apply(LABEL, effect)
        with pytest.raises(LocalProtocolError):
            store.next_counter(LABEL)
        with pytest.raises(LocalProtocolError):
            store.pending_key(LABEL)
