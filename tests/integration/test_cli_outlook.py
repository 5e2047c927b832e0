"""`trillium forecast`, `reconcile` and `device report`, typed, beside a serve that really runs."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.integration.cli_world import Town, as_json, done, refused, town, until

DAY = 24 * 3600


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with town(tmp_path_factory.mktemp("outlook")) as made:
        for scheme, devices in (("coap", made.meters[:3]), ("mqtt", made.gateways[:2])):
            for folder in devices:
                done("device", "enroll", "--identity", folder, "--via", made.via(scheme))
        yield made


def reports(directory: Path) -> int:
    """Return how many devices' reports are stored."""
    with sqlite3.connect(directory / "store.sqlite") as store:
        (count,) = store.execute("SELECT count(*) FROM reports").fetchone()
    store.close()
    return int(count)


def test_a_device_reports_over_coap_and_over_mqtt_and_nothing_differs(place: Town) -> None:
    for scheme, folder in (("coap", place.meters[0]), ("mqtt", place.meters[1]), ("mqtt", place.gateways[0])):
        said = as_json("device", "report", "--identity", folder, "--via", place.via(scheme))
        assert [one["state"] for one in said["certificates"]] == ["current", "current"]
        assert len(said["chain"]) >= 3
    until(lambda: reports(place.directory) == 3, 10)
    told = as_json("reconcile", place.directory)
    assert told == {"devices": 3, "counts": {}, "next": {}, "differences": []}
    assert done("reconcile", place.directory) == "3 devices compared: they hold what they should\n"


def test_what_a_device_lost_is_found_and_what_to_do_is_said(place: Town) -> None:
    folder = place.meters[2]
    via = ("--identity", folder, "--via", place.via("coap"))
    done("device", "enroll", *via, "--label", "meter-ka")
    (folder / "state" / "meter-ka.keys").unlink()  # the device forgets a key
    before = reports(place.directory)
    assert "reported 2 certificates: meter-boot, meter-ds" in done("device", "report", *via)
    until(lambda: reports(place.directory) == before + 1, 10)
    told = as_json("reconcile", place.directory)
    # Reported within the second in which it was issued, it may have crossed it: then it is asked again.
    if not told["differences"]:
        until(lambda: _again(place, via), 10)
        told = as_json("reconcile", place.directory)
    (missing,) = told["differences"]
    assert (missing["device"], missing["kind"], missing["label"]) == (folder.name, "missing", "meter-ka")
    words = done("reconcile", place.directory)
    assert "1  missing on device: have it enroll again under that label" in words
    assert f"{folder.name}  missing on device  meter-ka" in words
    done("device", "enroll", *via, "--label", "meter-ka")
    done("device", "report", *via)
    until(lambda: not as_json("reconcile", place.directory)["differences"], 10)


def _again(place: Town, via: tuple[object, ...]) -> bool:
    done("device", "report", *via)
    return bool(as_json("reconcile", place.directory)["differences"])


def test_a_report_survives_the_end_of_serve(place: Town, tmp_path: Path) -> None:
    with town(tmp_path) as other:
        folder = other.meters[0]
        done("device", "enroll", "--identity", folder, "--via", other.via("coap"))
        done("device", "report", "--identity", folder, "--via", other.via("coap"))
        assert other.serve.stop() == 0
        assert reports(other.directory) == 1


def test_a_report_by_a_device_without_certificates_is_an_error_in_one_line(place: Town) -> None:
    line = refused("device", "report", "--identity", place.meters[5], "--via", place.via("coap"))
    assert "enroll first" in line


def test_the_forecast_is_of_the_devices_that_enrolled(place: Town, tmp_path: Path) -> None:
    told = as_json("forecast", place.directory, "--days", 1095, "--by", "month")
    assert told["renewals"] >= 5
    assert {one["label"]: one["current"] for one in told["labels"]}["meter-ds"] == 3
    assert {one["name"] for one in told["authorities"]} >= {"metering-registration", "its-registration"}
    svg, png = tmp_path / "f.svg", tmp_path / "f.png"
    words = done("forecast", place.directory, "--days", 1095, "--svg", svg)
    assert words.startswith("Renewals per month, ")
    assert "peak: " in words
    assert ET.fromstring(svg.read_text()).tag.endswith("svg")
    pytest.importorskip("PIL", reason="Pillow (extra: plot) is not installed")
    done("forecast", place.directory, "--days", 1095, "--png", png)
    assert png.read_bytes().startswith(b"\x89PNG")


def test_a_near_future_is_calm_and_says_so(place: Town) -> None:
    words = done("forecast", place.directory, "--days", 7)
    assert "no renewals in the next 7 days" in words
    assert len([line for line in words.splitlines() if line.startswith("20")]) == 7


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (("--by", "year"), "--by year: day, week, month", 2),
        (("--days", "0"), "--days", 2),
        (("--svg", "/no/such/folder/f.svg"), "/no/such/folder/f.svg: No such file", 1),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    place: Town, arguments: tuple[str, ...], said: str, code: int
) -> None:
    assert said in refused("forecast", place.directory, *arguments, code=code)


def test_a_folder_that_is_no_authority_is_refused(tmp_path: Path) -> None:
    for command in ("forecast", "reconcile"):
        assert "not an authority's directory" in refused(command, tmp_path)
