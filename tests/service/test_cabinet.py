"""The folder for secrets beside a device's keys."""

from pathlib import Path

import pytest

from agents.devices.cabinet import Cabinet, CabinetError
from protocol.errors import LocalProtocolError


@pytest.mark.parametrize("passphrase", [None, b"secret"])
def test_what_is_written_is_read_by_the_next_process(tmp_path: Path, passphrase: bytes | None) -> None:
    cabinet = Cabinet(tmp_path / "more", passphrase)
    assert (list(cabinet.names()), cabinet.read("one")) == ([], None)
    cabinet.write("one", b"first")
    cabinet.write("one", b"second")
    cabinet.write("two", b"other")
    again = Cabinet(tmp_path / "more", passphrase)
    assert sorted(again.names()) == ["one", "two"]
    assert (again.read("one"), again.read("two")) == (b"second", b"other")
    assert (tmp_path / "more").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "more" / "one").stat().st_mode & 0o777 == 0o600


def test_what_is_encrypted_says_nothing_and_cannot_be_swapped(tmp_path: Path) -> None:
    cabinet = Cabinet(tmp_path / "more", b"secret")
    cabinet.write("one", b"the key of the house")
    cabinet.write("two", b"the key of the house")
    one, two = tmp_path / "more" / "one", tmp_path / "more" / "two"
    assert b"house" not in one.read_bytes()
    assert one.read_bytes() != two.read_bytes()
    one.write_bytes(two.read_bytes())
    with pytest.raises(CabinetError, match="one is damaged"):
        cabinet.read("one")


@pytest.mark.parametrize(("written", "read"), [(b"secret", b"other"), (b"secret", None), (None, b"secret")])
def test_another_passphrase_opens_nothing(tmp_path: Path, written: bytes | None, read: bytes | None) -> None:
    Cabinet(tmp_path / "more", written).write("one", b"content")
    with pytest.raises(CabinetError, match="another passphrase"):
        Cabinet(tmp_path / "more", read).read("one")


def test_leftovers_of_a_crash_and_strange_files_are_no_content(tmp_path: Path) -> None:
    Cabinet(tmp_path / "more", None).write("one", b"content")
    (tmp_path / "more" / ".one.1.new").write_bytes(b"half")
    cabinet = Cabinet(tmp_path / "more", None)
    assert list(cabinet.names()) == ["one"]
    assert not (tmp_path / "more" / ".one.1.new").exists()
    (tmp_path / "more" / "one").write_bytes(b"not CBOR")
    with pytest.raises(CabinetError, match="damaged"):
        cabinet.read("one")
    with pytest.raises(LocalProtocolError):
        cabinet.write("../out", b"")
