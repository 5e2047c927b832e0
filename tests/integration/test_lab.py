"""The lab, as a person starts it: real programs, real sockets, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.cli_world import until

KEYS = {
    "devices", "enrolled", "rekeyed", "messages_sent", "messages_verified", "refused", "failed",
    "duplicate_certificates", "seconds", "enrollments_per_second",
    "request_bytes_median", "answer_bytes_median",
}  # fmt: skip


@contextmanager
def lab(*options: object, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Start a lab; end it if the test does not."""
    with subprocess.Popen(
        [sys.executable, "-m", "agents", "lab", *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=env,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def ended(*options: object, env: dict[str, str]) -> tuple[int, str, str]:
    """Run a lab to its end; return its exit code and what it wrote."""
    with lab(*options, env=env) as process:
        out, err = process.communicate(timeout=58)
        return process.returncode, out, err


def until_it_serves(process: subprocess.Popen[str]) -> list[int]:
    """Wait until a lab is in the middle; return the process ids of its programs."""
    assert process.stderr is not None
    for line in process.stderr:
        if "devices enroll" in line:
            break
    return children(process.pid)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Where temporary files of a lab can be seen."""
    (tmp_path / "tmp").mkdir()
    return {**os.environ, "TMPDIR": str(tmp_path / "tmp")}


def test_a_small_fleet_lives_and_the_revoked_device_is_refused(tmp_path: Path, env: dict[str, str]) -> None:
    result = tmp_path / "result.json"
    code, out, err = ended("--meters", 3, "--gateways", 2, "--messages", 2, "--json", result, env=env)
    assert code == 0, err
    told = json.loads(result.read_text())
    assert set(told) == KEYS
    assert (told["devices"], told["enrolled"], told["rekeyed"]) == (5, 5, 5)
    assert (told["messages_sent"], told["messages_verified"], told["refused"]) == (10, 10, 1)
    assert (told["failed"], told["duplicate_certificates"]) == (0, 0)
    assert told["request_bytes_median"] <= 210
    assert told["answer_bytes_median"] <= 200
    assert "\x1b" not in out + err
    for line in (
        "meters          3         3        3     6       0",
        "refused     1 (of the revoked device)",
    ):
        assert line in out
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_bad_network_costs_time_and_nothing_else(tmp_path: Path, env: dict[str, str]) -> None:
    fleet = ("--meters", 4, "--gateways", 3, "--loss", 0.3, "--seed", 7)
    code, out, err = ended(*fleet, "--json", "-", "--keep", tmp_path / "kept", env=env)
    assert code == 0, err
    told = json.loads(out)
    assert (told["enrolled"], told["rekeyed"], told["failed"], told["duplicate_certificates"]) == (7, 7, 0, 0)
    assert told["refused"] == 1
    assert told["messages_verified"] <= told["messages_sent"] == 21
    kept = {path.name for path in (tmp_path / "kept").iterdir()}
    assert {"authority", "meters", "gateways", "logs"} <= kept


def test_gateways_alone_are_refused_too_though_nobody_tells_them(env: dict[str, str]) -> None:
    code, out, err = ended("--meters", 0, "--gateways", 1, "--messages", 1, "--json", "-", env=env)
    assert code == 0, err
    assert json.loads(out)["refused"] == 1


def children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are counted in /proc")


@needs_proc
@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_whoever_stops_the_lab_stops_its_programs(
    how: signal.Signals, code: int, tmp_path: Path, env: dict[str, str]
) -> None:
    with lab("--meters", 100, "--gateways", 50, env=env) as process:
        programs = until_it_serves(process)
        assert len(programs) == 3
        process.send_signal(how)
        assert process.wait(timeout=20) == code
        until(lambda: not any(is_alive(pid) for pid in programs), seconds=10)
    if how is not signal.SIGKILL:
        assert list((tmp_path / "tmp").iterdir()) == []


@needs_proc
def test_a_program_that_dies_is_named_with_its_last_words(env: dict[str, str]) -> None:
    with lab("--meters", 100, "--gateways", 1, env=env) as process:
        programs = until_it_serves(process)
        serve = [pid for pid in programs if b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(serve[0], signal.SIGKILL)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "trillium: serve: ended by itself, exit code -9; --keep DIR keeps the logs" in err


def test_a_folder_that_is_not_empty_is_not_used(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "mine").write_text("x")
    code, _, err = ended("--keep", tmp_path, env=env)
    assert code == 2
    assert "is there already and not empty" in err


@pytest.mark.slow
@pytest.mark.timeout(170)
@pytest.mark.parametrize(
    ("domain", "moved"),
    [
        ("metering", {"meter-ds", "meter-session", "meter2-ds", "smki-ds"}),
        ("ev", {"ev-contract", "ev20-contract"}),
    ],
)
def test_a_tour_sees_every_tier_issued_rekeyed_moved_revoked_and_refused(
    domain: str, moved: set[str], env: dict[str, str]
) -> None:
    with lab("--domain", domain, "--json", "-", env=env) as process:
        out, err = process.communicate(timeout=160)
    assert process.returncode == 0, err
    rows = {row["label"]: row for row in json.loads(out)["labels"]}
    assert {row["tier"] for row in rows.values()} == {1, 2, 3}
    assert all(row["issued"] and not row["deviations"] for row in rows.values())
    for label in moved:
        for what in (
            "rekeyed",
            "transferred",
            "revoked",
            "refused" if label.endswith(("-ds", "t")) else "issued",
        ):
            assert rows[label][what], (label, what)


def test_a_tour_of_no_industry_is_a_usage_error(env: dict[str, str]) -> None:
    code, _, err = ended("--domain", "shipping", env=env)
    assert code == 2
    assert "metering, ev or all" in err
