"""`trillium factory` as it is typed: orders, dry runs, and what people and scripts read."""

import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.integration.cli_world import as_json, done, refused, trillium


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("factory") / "authority"
    done("init", directory, "--domain", "metering", "--domain", "ev")
    return directory


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    path = tmp_path / "meters.csv"
    path.write_text("device,client\n54524C00000000AA,Stadtwerke\nnonsense,\x1b[2J\n54524C00000000AB,x\n")
    return path


def test_a_dry_run_says_what_is_wrong_and_makes_nothing(directory: Path, sheet: Path, tmp_path: Path) -> None:
    options = ("factory", directory, "--label", "meter-boot", "--csv", sheet, "--dry-run")
    said = trillium(*options)
    assert said.code == 1
    assert said.out.splitlines()[-1] == (
        "2 meter-boot can be made, 1 cannot; nothing was made (--only-good-rows makes the others)"
    )
    told = json.loads(trillium(*options, "--json").out)
    assert (told["good"], told["made"]) == (2, False)
    assert told["wrong"] == [
        {
            "where": "line 3",
            "device": "nonsense",
            "reason": "client has other characters than printable ASCII",
        }
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["meters.csv"]


def test_one_wrong_row_stops_a_batch_unless_it_is_asked_for(
    directory: Path, sheet: Path, tmp_path: Path
) -> None:
    options = ("factory", directory, "--label", "meter-boot", "--csv", sheet, "--out", tmp_path / "batch")
    assert trillium(*options).code == 1
    assert not (tmp_path / "batch").exists()
    said = done(*options, "--only-good-rows")
    assert said.splitlines()[-1].endswith("54524C00000000AA to 54524C00000000AB; 1 rows were wrong")
    again = as_json(*options, "--only-good-rows")
    assert (again["count"], len(again["wrong"])) == (2, 1)


def test_stations_and_services_are_counted_too(directory: Path, tmp_path: Path) -> None:
    options = ("--count", 2, "--operator", "DETRL", "--bundle", "zip", "--out", tmp_path / "stations")
    made = as_json("factory", directory, "--label", "ev-station", *options)
    assert made["devices"] == ["DETRLP0000000001", "DETRLP0000000002"]
    assert (tmp_path / "stations" / "DETRLP0000000001.zip").is_file()
    made = as_json("factory", directory, "--label", "ev20-service", "--count", 1, "--out", tmp_path / "s")
    assert made["devices"] == ["cps-1"]


def test_serial_numbers_of_a_csv_file_become_names(directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "cars.csv"
    path.write_text("serial\n77\n")
    made = as_json("factory", directory, "--label", "ev-oem", "--csv", path, "--out", tmp_path / "cars")
    assert made["devices"] == ["TRL000000000000770"]


def test_requests_are_an_order(directory: Path, tmp_path: Path) -> None:
    folder = tmp_path / "requests"
    folder.mkdir()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "54524C00000000D1")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    signed = request.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    (folder / "meter.csr").write_bytes(signed.public_bytes(Encoding.PEM))
    options = ("--requests", folder, "--out", tmp_path / "batch")
    made = as_json("factory", directory, "--label", "meter-boot", *options)
    assert made["devices"] == ["54524C00000000D1"]
    assert not (tmp_path / "batch" / "54524C00000000D1" / "bootstrap.key").exists()


@pytest.mark.parametrize(
    ("options", "words", "code"),
    [
        (("--count", 1), "--out is missing", 2),
        (("--out", "x"), "which devices?", 2),
        (("--out", "x", "--count", 1, "--csv", "x"), "which devices?", 2),
        (("--out", "x", "--count", 1, "--bundle", "tar"), "folder or zip", 2),
        (("--out", "x", "--csv", "nowhere.csv"), "No such file", 1),
        (("--out", "x", "--requests", "nowhere"), "is no folder", 1),
        (("--out", "x", "--count", 1, "--operator", "DETRL"), "have no operator", 1),
        (("--out", "x", "--count", 1, "--owner", "nobody"), "nobody knows the owner", 1),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    directory: Path, options: tuple[object, ...], words: str, code: int
) -> None:
    assert words in refused("factory", directory, "--label", "meter-boot", *options, code=code)


def test_a_station_without_an_operator_is_none(directory: Path, tmp_path: Path) -> None:
    said = refused("factory", directory, "--label", "ev-station", "--count", 1, "--out", tmp_path / "b")
    assert "begin with an operator, like DETRL" in said
