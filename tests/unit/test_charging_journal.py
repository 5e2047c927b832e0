"""What a station keeps for its operator, and how little of it."""

import json
from pathlib import Path
from typing import Any

from agents.charging.journal import IDLE, MAX_SESSIONS, MAX_WAITING, Journal, open_journal
from agents.keys import SoftwareSigner, generate
from protocol.errors import ProblemKind
from protocol.labels import Operation
from protocol.ports import Content, Inbound, Media, Pending, SignedRefusal
from protocol.problem import Problem
from protocol.signing import sign1


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def inbound(car: str = "coap:192.0.2.1:1", body: bytes = b"") -> Inbound:
    return Inbound("ev-contract", Operation.SKG, body, car)


async def test_each_question_says_who_where_what_and_how_it_went(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    thumbprint = bytes(range(8))
    body = sign1(SoftwareSigner(generate()), b"request", b"", thumbprint=thumbprint)
    problem = Problem(ProblemKind.NOT_ENTITLED)
    async with open_journal(file, evse="DE*TRL*E1", wall=Clock()) as journal:
        journal.certificates["ev-secc"] = "aabb"
        journal.proved("coap:192.0.2.1:1", "ev-secc")
        replies = (Content(b"", Media.CONTRACT_PACKAGE), Pending(2), SignedRefusal(b"", problem), problem)
        for reply in replies:
            journal.relayed(inbound(body=body), reply, 0.25)
        journal.relayed(inbound(body=b"no message"), Pending(1), 0.25)
    found = lines(file)
    assert [line["outcome"] for line in found] == [
        "shown", "answered", "pending", "refused", "not_entitled", "pending",
    ]  # fmt: skip
    assert {(line["station"], line["evse"], line["session"]) for line in found} == {
        ("aabb", "DE*TRL*E1", found[0]["session"])
    }
    assert [line.get("signer") for line in found] == [None, *[thumbprint.hex()] * 4, None]
    assert found[1]["seconds"] == 0.25


async def test_a_silent_car_s_address_is_another_session_afterwards(tmp_path: Path) -> None:
    clock = Clock()
    async with open_journal(tmp_path / "journal", wall=clock) as journal:
        for pause in (0.0, IDLE - 1, IDLE + 1):
            clock.now += pause
            journal.proved("car", "ev-secc")
    one, two, three = (line["session"] for line in lines(tmp_path / "journal"))
    assert one == two != three


async def test_sessions_lines_and_the_file_have_limits(tmp_path: Path) -> None:
    file = tmp_path / "journal"
    async with open_journal(file, wall=Clock(), max_bytes=2000) as journal:
        for number in range(MAX_SESSIONS + 10):
            journal.proved(f"car {number}", "ev-secc")
        assert len(journal._sessions) == MAX_SESSIONS
        for _ in range(3):
            await journal.flush(file, 2000)
            journal.proved("car", "ev-secc")
    assert sorted(names(tmp_path)) == ["journal", "journal.1"]
    lazy = Journal()
    for _ in range(MAX_WAITING + 10):
        lazy.proved("car", "ev-secc")
    assert len(lazy._lines) == MAX_WAITING


async def test_a_disk_that_fails_costs_lines_and_no_car(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "missing" / "journal", wall=Clock()) as journal:
        journal.proved("car", "ev-secc")
