"""What an attacker can have shown: names, topics and files full of control codes."""

import datetime as dt
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agents.cli import app, logs
from agents.cli.output import print_json
from agents.cli.printable import printable
from protocol import cbor

NASTY = "a\x1b[2Jb\x07 [red]c[/red] \u202e\x9b d"
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def is_harmless(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


@pytest.fixture
def _logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for room in ("agents", "broker", "constrained", "trillium"):
        logging.getLogger(room).setLevel(logging.NOTSET)


@pytest.mark.usefixtures("_logging")
def test_a_log_line_is_one_line_without_control_codes(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logs.Level.INFO)
    logging.getLogger("broker.router").info("%s may not publish on %s", "x", NASTY + "\r\nlevel=error")
    logging.getLogger("trillium.authority").warning("refused", extra={"detail": NASTY, "number": 7})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(map(is_harmless, lines))
    assert "\\x1b[2J" in lines[0]


def certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NASTY)])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(NOW)
        .not_valid_after(NOW + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier("x:\x1b]0;t\x07")]), critical=False
        )
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def voucher() -> bytes:
    return cbor.encode(
        [cbor.encode({1: -7, 4: b"key"}), {}, cbor.encode([NASTY, bytes(32), 1]), b"\x01" * 64]
    )


@pytest.mark.parametrize("make", [certificate, voucher])
def test_a_file_that_is_inspected_does_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: object
) -> None:
    assert callable(make)
    (tmp_path / "file").write_bytes(make())
    assert app.run(["inspect", str(tmp_path / "file")]) == 0
    told = capsys.readouterr().out
    assert is_harmless(told)
    assert "\\x1b[2J" in told
    assert "[red]" in told, "nor is it markup"


@pytest.mark.parametrize("command", [["inspect", "--json"], ["lint", "--label", "ev-secc", "--json"]])
def test_json_does_not_reach_it_and_says_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    (tmp_path / "file").write_bytes(certificate())
    app.run([command[0], str(tmp_path / "file"), *command[1:]])
    told = capsys.readouterr().out
    assert is_harmless(told)
    assert json.loads(told)


def test_any_text_is_the_same_in_json_and_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    text = NASTY + "\x7f\u2028\ufeff\U000e0041 Zähler 東京 😀"
    print_json({"name": text})
    told = capsys.readouterr().out
    assert is_harmless(told)
    assert json.loads(told) == {"name": text}
    assert "Zähler 東京 😀" in told, "what can be read is not escaped"


def test_an_error_does_not_reach_it_either(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["show", "no\x1b[2Jwhere", "x"]) == 1
    told = capsys.readouterr().err
    assert is_harmless(told)
    assert "\\x1b[2J" in told


def test_what_is_plain_stays_as_it_is() -> None:
    assert printable("Zähler 7, 東京\n") == "Zähler 7, 東京\n"
