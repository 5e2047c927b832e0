"""The mosquitto export as text; that mosquitto obeys it is tested with mosquitto."""

import stat
from pathlib import Path
from typing import Any

import pytest

from broker.mosquitto import ExportDevice, ExportListener, ExportServer, export, write_crl
from protocol.errors import MalformedMessage
from protocol.labels import Tier

DEVICES = ExportListener("0.0.0.0", 8883, b"device ca")
SERVICES = ExportListener("127.0.0.1", 8884, b"service ca")


def written(folder: Path, *devices: ExportDevice, **options: Any) -> Path:
    arguments: dict[str, Any] = {
        "devices": devices,
        "device_listener": DEVICES,
        "service_listener": SERVICES,
        "services": ["authority"],
        "server": ExportServer(b"certificate", b"key"),
    }
    return export(folder, **{**arguments, **options})


def test_a_device_gets_the_topics_of_its_client_id_under_its_certificates_name(tmp_path: Path) -> None:
    written(tmp_path, ExportDevice("54524C0000000001", "mK3-_x", Tier.PARTICIPATION))
    assert (tmp_path / "devices.acl").read_text().splitlines() == [
        "user 54524C0000000001",
        "topic write est/mK3-_x/+/+",
        "topic write m/mK3-_x/+",
        "topic read est/mK3-_x/#",
        "topic read pub/#",
    ]


def test_a_newcomer_gets_est_alone(tmp_path: Path) -> None:
    written(tmp_path, ExportDevice("meter 1", "id1", Tier.BOOTSTRAPPING))
    rules = (tmp_path / "devices.acl").read_text().splitlines()[1:]
    assert rules == ["topic write est/id1/+/+", "topic read est/id1/#"]


def test_a_device_with_certificates_of_two_tiers_is_listed_once_with_the_higher(tmp_path: Path) -> None:
    both = [
        ExportDevice("meter", "id1", Tier.PARTICIPATION),
        ExportDevice("meter", "id1", Tier.BOOTSTRAPPING),
    ]
    written(tmp_path, *both)
    text = (tmp_path / "devices.acl").read_text()
    assert text.count("user meter") == 1
    assert "m/id1/+" in text


def test_two_makers_equal_names_are_refused_by_both_client_ids(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"id-of-one and id-of-other are both named 'meter'"):
        written(
            tmp_path,
            ExportDevice("meter", "id-of-one", Tier.PARTICIPATION),
            ExportDevice("meter", "id-of-other", Tier.PARTICIPATION),
        )


def test_two_names_for_one_client_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'one' and 'other' share the client-id id1"):
        written(
            tmp_path,
            ExportDevice("one", "id1", Tier.PARTICIPATION),
            ExportDevice("other", "id1", Tier.PARTICIPATION),
        )


@pytest.mark.parametrize(
    "name", ["", "meter\ntopic readwrite #", "a+b", "#comment", "a/b", " meter", "m" * 65, "tab\t"]
)
def test_a_name_that_would_write_rules_of_its_own_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a mosquitto user"):
        written(tmp_path, ExportDevice(name, "id1", Tier.PARTICIPATION))


def test_a_client_id_with_wildcards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MalformedMessage):
        written(tmp_path, ExportDevice("meter", "+", Tier.PARTICIPATION))


def test_nobody_is_service_and_reader_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="as a service and as a reader"):
        written(tmp_path, readers=["authority"])


def test_services_and_readers_have_stanzas_of_their_own(tmp_path: Path) -> None:
    written(tmp_path, readers=["head-end"])
    text = (tmp_path / "services.acl").read_text()
    assert "user authority\ntopic write est/+/#\ntopic write verified/+\n" in text
    assert "topic read m/+/+" in text
    assert text.endswith("user head-end\ntopic read verified/#\ntopic read pub/#\n")


def test_no_other_account_can_read_what_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    written(folder, ExportDevice("meter", "id1", Tier.PARTICIPATION), device_crl=b"crl")
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert {file.name for file in folder.iterdir()} == {
        "mosquitto.conf",
        "devices.acl",
        "services.acl",
        "device-ca.pem",
        "service-ca.pem",
        "server.pem",
        "server.key",
        "crl.pem",
    }


def test_paths_are_absolute_and_an_existing_key_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    key = tmp_path / "kept.key"
    text = written(Path("out"), server=ExportServer(b"certificate", Path("kept.key"))).read_text()
    assert f"keyfile {key}" in text
    assert f"acl_file {tmp_path / 'out' / 'devices.acl'}" in text
    assert not (tmp_path / "out" / "server.key").exists()


def test_a_crl_is_named_only_where_there_is_one_and_can_be_replaced(tmp_path: Path) -> None:
    assert "crlfile" not in written(tmp_path).read_text()
    assert "crlfile" in written(tmp_path, device_crl=b"one").read_text()
    write_crl(tmp_path, b"two")
    assert (tmp_path / "crl.pem").read_bytes() == b"two"


def test_a_host_cannot_add_lines(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        written(tmp_path, device_listener=ExportListener("::\nallow_anonymous true", 1, b""))


def test_the_settings_that_were_measured_or_attacked_are_there(tmp_path: Path) -> None:
    lines = written(tmp_path, run_as="mosquitto").read_text().splitlines()
    for setting in (
        "user mosquitto",
        "set_tcp_nodelay true",
        "retain_available false",
        "per_listener_settings true",
        "use_username_as_clientid true",
    ):
        assert lines.count(setting) == 1
    for setting in ("require_certificate true", "use_identity_as_username true", "allow_anonymous false"):
        assert lines.count(setting) == 2
