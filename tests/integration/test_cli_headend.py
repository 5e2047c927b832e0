"""Metering keys as a person agrees on them: `device keys` and `headend` against a running `serve`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli_world import FREE, Serving, as_json, done, refused, serving

HEAD_ENDS_START = 1_000_001


@dataclass(frozen=True)
class Estate:
    directory: Path
    meters: list[Path]
    head_end: Path
    serve: Serving


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    folder = tmp_path_factory.mktemp("estate")
    directory = folder / "authority"
    done("init", directory, "--roots", folder / "roots")
    (folder / "roots").rename(folder / "far-away")
    made = as_json("factory", directory, "--label", "meter-boot", "--count", 3, "--out", folder / "meters")
    (client,) = as_json(
        "factory", directory, "--label", "client-boot", "--count", 1,
        "--start", HEAD_ENDS_START, "--out", folder / "clients",
    )["devices"]  # fmt: skip
    meters = [folder / "meters" / name for name in made["devices"]]
    head_end = folder / "clients" / client
    with serving(directory, "--coap", FREE, "--mqtt", FREE) as serve:
        for identity, holder in [(head_end, "client"), *((meter, "meter") for meter in meters)]:
            for label in (f"{holder}-ds", f"{holder}-ka"):
                via = serve.uri("coap")
                done("device", "enroll", "--identity", identity, "--via", via, "--label", label)
        yield Estate(directory, meters, head_end, serve)


def rollover(estate: Estate, scheme: str, *more: object) -> dict[str, list[str]]:
    told = as_json(
        "headend", "rollover", "--identity", estate.head_end, "--via", estate.serve.uri(scheme),
        "--timeout", 1, *more,
    )  # fmt: skip
    assert isinstance(told, dict)
    return told


def poll(estate: Estate, meter: Path, scheme: str, *more: object) -> dict[str, object]:
    via = estate.serve.uri(scheme)
    told = as_json("device", "keys", "--identity", meter, "--via", via, "--timeout", 20, *more)
    assert isinstance(told, dict)
    return told


@pytest.mark.parametrize(("meters", "head_end"), [("coap", "mqtt"), ("mqtt", "coap")])
def test_meters_and_head_end_on_different_transports_come_to_new_keys(
    estate: Estate, meters: str, head_end: str
) -> None:
    chosen = estate.meters[:2]
    for meter in chosen:
        poll(estate, meter, meters, "--head-end", estate.head_end.name)
    before = {one["meter"]: one["generation"] for one in status(estate)}
    names = [meter.name for meter in chosen]
    wish = [word for name in names for word in ("--meter", name)]
    assert rollover(estate, head_end, *wish)["waiting"] == names  # nobody has fetched the offers yet
    for meter in chosen:
        poll(estate, meter, meters)
    assert rollover(estate, head_end, *wish)["waiting"] == names  # the switches are on their way
    generations = [poll(estate, meter, meters)["generation"] for meter in chosen]
    assert rollover(estate, head_end, *wish)["done"] == names
    after = {one["meter"]: (one["generation"], one["stage"]) for one in status(estate)}
    assert [after[name] for name in names] == [(generation, "settled") for generation in generations]
    assert all(after[name][0] == before.get(name, 0) + 1 for name in names)


def status(estate: Estate) -> list[dict[str, Any]]:
    found = as_json("headend", "status", "--identity", estate.head_end)
    assert isinstance(found, list)
    return found


def test_words_for_people(estate: Estate) -> None:
    meter, via = estate.meters[2], estate.serve.uri("coap")
    arguments = ("device", "keys", "--identity", meter, "--via", via)
    assert "no head-end yet: name its system title: --head-end TITLE" in refused(*arguments)
    words = done(*arguments, "--head-end", estate.head_end.name)
    assert words == f"{meter.name}: no keys yet; head-end {estate.head_end.name}\n"
    wish = ("headend", "rollover", "--identity", estate.head_end, "--via", via, "--timeout", 1)
    words = done(*wish, "--meter", meter.name)
    assert words.startswith("0 of 1 meters have new keys\n1 have not answered yet")
    told = done("headend", "status", "--identity", estate.head_end)
    assert re.search(rf"{meter.name} +0 +offered 1", told)


def test_wrong_wishes_are_one_clear_line(estate: Estate) -> None:
    via = estate.serve.uri("coap")
    base = ("headend", "rollover", "--identity", estate.head_end, "--via", via)
    assert "--meter TITLE, or --all" in refused(*base, code=2)
    assert "--meter TITLE, or --all" in refused(*base, "--all", "--meter", "54524C0000000001", code=2)
    assert "16 upper-case hex digits" in refused(*base, "--meter", "nobody", code=2)
    assert "2e0s or 1e1s" in refused(*base, "--all", "--scheme", "0e2s", code=2)
    assert "--every DAYS" in refused(*base, "--all", "--every", "-1", code=2)
    assert "no letter has come from 54524C00000000FF" in refused(*base, "--meter", "54524C00000000FF")
    keys = ("device", "keys", "--identity", estate.head_end, "--via", via)
    assert "is no meter" in refused(*keys, "--head-end", estate.head_end.name)
    meter = estate.meters[0]
    assert "is no head-end" in refused("headend", "status", "--identity", meter)
