"""The command line's small parts: what is read, and what is said when something goes wrong."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.cli import app, failure, inventory_command, logs, output
from agents.cli.addresses import as_text, is_loopback, parse_address, parse_uri
from agents.cli.failure import REFUSED, USAGE, Failure, explain
from agents.cli.passphrase import VARIABLE, given_passphrase, passphrase_from
from protocol.errors import ExchangeTimeout, ProblemKind, RequestRejected, Unreachable
from protocol.exchange.request import RevocationReason


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:5683", ("127.0.0.1", 5683)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:5683", ("::1", 5683)),
    ],
)
def test_an_address_is_read_and_written_the_same(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text, "--coap") == address
    assert as_text(address) == text


@pytest.mark.parametrize(
    "text", ["", "5683", "host", "host:", ":5683", "host:port", "host:65536", "::1:5683", "h:-1"]
)
def test_what_is_no_address_is_a_usage_error_that_names_the_option(text: str) -> None:
    with pytest.raises(Failure) as refusal:
        parse_address(text, "--coap")
    assert refusal.value.code == USAGE
    assert str(refusal.value).startswith(f"--coap {text}")


def test_a_missing_port_is_the_schemes_own() -> None:
    schemes = ("coap", "mqtt", "mqtts")
    assert parse_uri("coap://h", "--via", schemes) == ("coap", ("h", 5683))
    assert parse_uri("mqtts://h/", "--via", schemes) == ("mqtts", ("h", 8883))
    assert parse_uri("mqtt://[::1]:1", "--via", schemes) == ("mqtt", ("::1", 1))


@pytest.mark.parametrize(
    "text", ["", "h:1", "http://h", "coap://", "coap://h/x", "coap://h:x", "mqtt://u@h", "coap://[h"]
)
def test_what_is_no_uri_of_ours_is_a_usage_error(text: str) -> None:
    with pytest.raises(Failure, match="--via"):
        parse_uri(text, "--via", ("coap", "mqtt"))


@pytest.mark.parametrize(
    ("host", "only_here"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("h", False)],
)
def test_loopback_is_told_from_everywhere_else(host: str, only_here: bool) -> None:
    assert is_loopback(host) is only_here


def test_a_passphrase_comes_from_the_file_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "passphrase"
    file.write_bytes(b"from file\r\nsecond line\n")
    file.chmod(0o600)
    monkeypatch.setenv(VARIABLE, "from environment")
    assert passphrase_from(file) == b"from file"
    assert passphrase_from(None) == b"from environment"
    assert given_passphrase(None, variable=None) is None


def test_a_passphrase_file_that_others_can_read_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "passphrase"
    file.write_bytes(b"x\n")
    file.chmod(0o644)
    assert passphrase_from(file) == b"x"
    assert "can be read by others" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"\nsecond"])
def test_no_passphrase_in_the_file_is_a_usage_error(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "passphrase"
    if content is not None:
        file.write_bytes(content)
        file.chmod(0o600)
    with pytest.raises(Failure, match="--passphrase-file"):
        passphrase_from(file)


def test_nobody_is_asked_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO("typed\n"))
    with pytest.raises(Failure, match="a passphrase is needed"):
        passphrase_from(None)


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (Failure("no", USAGE), "no", USAGE),
        (ExceptionGroup("", [ExceptionGroup("", [Failure("inside")])]), "inside", REFUSED),
        (RequestRejected(ProblemKind.NOT_ENTITLED, "quota"), "refused: not entitled: quota", REFUSED),
        (RequestRejected(ProblemKind.KEY_USED), "refused: key used before", REFUSED),
        (ExchangeTimeout("out of time"), "out of time", REFUSED),
        (
            Unreachable("mqtt://h: [Errno 111] Connect call failed ('h', 1)"),
            "mqtt://h: Connection refused",
            REFUSED,
        ),
        (FileNotFoundError(2, "No such file or directory", "x"), "x: No such file or directory", REFUSED),
        (ValueError("wrong"), "wrong", REFUSED),
    ],
)
def test_each_error_is_one_line_and_an_exit_code(error: BaseException, line: str, code: int) -> None:
    assert explain(error) == (line, code)


def test_a_fault_of_ours_says_so_and_how_to_see_more() -> None:
    line, code = explain(ZeroDivisionError("division by zero"))
    assert line == "a fault of ours: ZeroDivisionError: division by zero (TRILLIUM_DEBUG=1 shows where)"
    assert code == REFUSED


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["inspect"], "missing argument 'FILE|-'; see trillium inspect --help"),
        (["nothing"], "no such command 'nothing'; see trillium --help"),
        (["inspect", "--loud", "x"], "no such option: --loud; see trillium inspect --help"),
        (["lab", "--loss", "2"], "see trillium lab --help"),
        (["lab", "--meters", "0", "--gateways", "0"], "a lab needs at least one device"),
        (["serve", "x", "--coap", "none", "--mqtt", "none"], "nothing to listen on"),
        (["serve", "x", "--mqtt", "0.0.0.0:1883"], "--expose"),
        (["serve", "x", "--mqtts", "192.0.2.1:8883"], "--expose"),
        (["serve", "x", "--broker", "mqtt://192.0.2.1"], "--expose"),
        (["serve", "x", "--broker", "http://h"], "expected mqtts://HOST:PORT"),
        (["serve", "x", "--broker", "mqtts://h", "--mqtt", "127.0.0.1:0"], "of the embedded broker"),
        (["serve", "x", "--coap-engine", "steam"], "aiocoap or lean"),
        (
            ["factory", "x", "--label", "meter-ds", "--count", "1", "--out", "y"],
            "a factory makes meter-boot, client-boot, ",
        ),
        (["init", "x", "--flag", "trl"], "--flag 'trl' is no FLAG id: three upper-case letters"),
        (["init", "x", "--flag", "ABC", "--oui", "025452"], "--oui '025452' is no OUI: HH-HH-HH"),
        (
            ["factory", "x", "--label", "its-boot", "--count", "1", "--out", "y", "--prefix", "TRL"],
            "--prefix 'TRL' is no OUI: HH-HH-HH, upper-case hex digits",
        ),
        (["revoke", "x", "y", "--reason", "dislike"], "one of unspecified, key-compromise"),
        (["inspect", "."], "is a folder"),
    ],
)
def test_usage_errors_are_one_line_and_exit_code_two(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(arguments) == USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("trillium: ")
    assert said.err.count("\n") == 1
    assert line in said.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "no-such-file"],
        ["serve", "no-such-folder"],
        ["devices", "no-such-folder"],
        ["show", "no-such-folder", "x"],
        ["revoke", "no-such-folder", "x", "--reason", "unspecified"],
        ["audit", "verify", "no-such-folder"],
        ["broker", "export", "mosquitto", "no-such-folder"],
        ["factory", "no-such-folder", "--label", "its-boot", "--count", "1", "--out", "x"],
        ["device", "status", "--identity", "no-such-folder"],
        ["device", "enroll", "--identity", "no-such-folder", "--via", "coap://127.0.0.1"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_what_is_not_there_is_one_line_and_exit_code_one(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert app.run(arguments) == REFUSED
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "no-such-" in said.err


@pytest.mark.parametrize("arguments", [[], ["device"], ["audit"], ["broker"], ["broker", "export"]])
def test_a_missing_command_shows_the_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(arguments) == USAGE
    assert "Commands:" in capsys.readouterr().err


def test_help_names_the_commands_and_hides_those_nobody_types(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert app.run(["--help"]) == 0
    said = capsys.readouterr().out
    for command in (
        "init",
        "serve",
        "factory",
        "device",
        "devices",
        "show",
        "revoke",
        "audit",
        "inspect",
        "broker",
        "lab",
    ):
        assert f"\n  {command} " in said
    assert "proxy" not in said
    assert "fleet" not in said.lower().replace("fleets", "").replace("whole fleet", "")


def test_a_developer_can_ask_for_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(failure.DEBUG_VARIABLE, "1")
    with pytest.raises(Failure):
        app.run(["inspect", "no-such-file"])


def test_the_help_does_not_wait_for_the_rooms() -> None:
    heavy = ["aiocoap", "amqtt", "anyio", "cbor2", "cryptography", "gmqtt", "protocol", "rich", "sqlalchemy"]
    code = f"import agents.cli.app, sys; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_pipe_gets_plain_lines_without_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stdout", pipe)
    output.console().print(
        output.table(("name", "number"), [("one", "1"), ("a longer one", "22")], right=(1,))
    )
    assert pipe.getvalue() == "name          number\none                1\na longer one      22\n"


def test_a_pipe_that_nobody_reads_any_more_is_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("30" * 10)
    command = f"{sys.executable} -m agents --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


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
@pytest.mark.parametrize("form", list(logs.Format))
def test_a_log_record_is_one_line_with_its_fields(
    form: logs.Format, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(logs.Level.INFO, form)
    logging.getLogger("agents.somewhere").info("refused", extra={"device": "D1", "why": "no such\nlabel"})
    logging.getLogger("agents.somewhere").debug("not this")
    logging.getLogger("elsewhere").info("nor this")
    (line,) = capsys.readouterr().err.splitlines()
    if form is logs.Format.JSON:
        record = json.loads(line)
        assert (record["event"], record["device"], record["level"]) == ("refused", "D1", "info")
    else:
        assert "level=info event=refused" in line
        assert "device=D1" in line


def test_the_passphrase_is_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["serve", "--help"]) == 0
    assert "--passphrase-file" in capsys.readouterr().out
    assert app.run(["serve", "x", "--passphrase", "secret"]) == USAGE
    assert os.environ.get(VARIABLE) != "secret"


@pytest.mark.parametrize("text", ["key-compromise", "keyCompromise", "KEYCOMPROMISE"])
def test_reasons_are_taken_as_rfc_5280_spells_them_too(text: str) -> None:
    assert inventory_command.reason_of(text) is RevocationReason.KEY_COMPROMISE


def test_a_reason_that_is_none_is_told_which_there_are() -> None:
    with pytest.raises(Failure, match="superseded"):
        inventory_command.reason_of("tired")
