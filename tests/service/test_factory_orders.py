"""Orders from CSV files and certification requests, and how a batch is handed over; with the real maker."""

import io
import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from agents.authority import MakerIssuer, initialise, list_devices, open_store
from agents.devices.agent import Device
from agents.factory import (
    Bundle,
    FactoryError,
    Order,
    Origin,
    WrongRows,
    check_inventory,
    counted,
    from_requests,
    from_sheet,
    make_order,
    numbering_of,
    read_manifest,
)
from agents.factory.bundle import zipped
from protocol import c509
from protocol.exchange.request import certification_request
from protocol.labels import Domain, Tier
from protocol.lint import lint
from protocol.path import verification_key
from protocol.profiles import PROFILES, Profile, profile_of
from tests.rig import new_key

NOW = 1_800_000_000
PASSPHRASE = b"maker's secret"
METER = profile_of("meter-boot")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("authority") / "dir"
    initialise(directory, passphrase=PASSPHRASE, now=NOW, domains=tuple(Domain))
    return directory


@pytest.fixture
def directory(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "authority"))


@pytest.fixture
def maker(directory: Path) -> Iterator[MakerIssuer]:
    with MakerIssuer(directory, Domain.METERING, PASSPHRASE, clock=lambda: NOW) as maker:
        yield maker


def count_of(maker: MakerIssuer, count: int = 2, *, label: str = "meter-boot", start: int = 1) -> Order:
    profile = profile_of(label)
    operator = "DETRL" if label.endswith("station") else None
    return counted(maker, label, count, numbering_of(maker, profile, None, operator), start=start)


@pytest.mark.parametrize("domain", Domain)
def test_every_domain_makes_what_its_profile_says(directory: Path, tmp_path: Path, domain: Domain) -> None:
    for label, profile in tier_1(domain):
        with MakerIssuer(directory, domain, PASSPHRASE, clock=lambda: NOW) as maker:
            order = count_of(maker, label=label)
            finished = make_order(maker, order, tmp_path / label)
            for name in finished.names():
                certificate = c509.decode_certificate(
                    (tmp_path / label / name / "bootstrap.c509").read_bytes()
                )
                issuer = maker.authority.certificate
                assert lint(certificate, certificate.to_der(), profile, issuer=issuer) == ()
                with Device.open(tmp_path / label / name, wall=lambda: NOW) as device:
                    assert device.status().device == name


def tier_1(domain: Domain) -> list[tuple[str, Profile]]:

    return [
        (label, one)
        for label, one in PROFILES.items()
        if one.domain is domain and one.tier is Tier.BOOTSTRAPPING
    ]


SHEET = b"""device,serial,client
54524C00000000AA,No. 1,Stadtwerke
54524C00000000AB,No. 2,
"""


def test_a_csv_file_names_the_devices_and_its_remarks_are_in_the_manifest(
    maker: MakerIssuer, tmp_path: Path
) -> None:
    out = tmp_path / "batch"
    order = from_sheet(maker, "meter-boot", SHEET, None)
    assert list(make_order(maker, order, out).names()) == ["54524C00000000AA", "54524C00000000AB"]
    entries = read_manifest((out / "manifest.cose").read_bytes(), maker.voucher_key).entries
    assert [(e.device, e.serial, e.client) for e in entries] == [
        ("54524C00000000AA", "No. 1", "Stadtwerke"),
        ("54524C00000000AB", "No. 2", ""),
    ]
    assert {e.origin for e in entries} == {Origin.FACTORY}


def test_serial_numbers_make_names_where_there_are_none(maker: MakerIssuer) -> None:
    numbering = numbering_of(maker, METER, None, None)
    order = from_sheet(maker, "meter-boot", b"serial\n7\n1e3\n-1\n99999999999999\n", numbering)
    assert [item.name for item in order.items] == ["54524C0000000007"]
    assert [(one.where, one.reason[:30]) for one in order.wrong] == [
        ("line 3", "serial '1e3' is no number"),
        ("line 4", "serial '-1' is no number"),
        ("line 5", "serial 99999999999999: a seria"),
    ]
    with pytest.raises(FactoryError, match="how they begin"):
        from_sheet(maker, "meter-boot", b"serial\n7\n", None)
    with pytest.raises(FactoryError, match="device or serial"):
        from_sheet(maker, "meter-boot", b"client\nx\n", numbering)


def test_every_wrong_row_is_told_and_nothing_is_made(maker: MakerIssuer, tmp_path: Path) -> None:
    make_order(maker, count_of(maker), tmp_path / "first")
    sheet = SHEET + b"54524C0000000001,,\n54524C00000000ZZ,,\n4142430000000001,,\n54524C00000000AA,,\n"
    order = from_sheet(maker, "meter-boot", sheet, None)
    with pytest.raises(WrongRows) as refused:
        make_order(maker, order, tmp_path / "batch")
    assert [(one.where, one.reason.split(":")[0]) for one in refused.value.order.wrong] == [
        ("line 4", "is registered already"),
        ("line 5", "'54524C00000000ZZ' is no system title"),
        ("line 6", "FLAG id ABC is not the CA's, whose are"),
        ("line 7", "the same name as line 2"),
    ]
    assert not (tmp_path / "batch").exists()
    finished = make_order(maker, order, tmp_path / "batch", only_good=True)
    assert list(finished.names()) == ["54524C00000000AA", "54524C00000000AB"]
    assert len(finished.wrong) == 4
    report = json.loads((tmp_path / "batch" / "report.json").read_text())
    assert [one["where"] for one in report["left_out"]] == ["line 4", "line 5", "line 6", "line 7"]


def test_the_same_file_again_changes_nothing_and_tells_the_same(maker: MakerIssuer, tmp_path: Path) -> None:
    out, sheet = tmp_path / "batch", SHEET + b"nonsense,,\n"
    first = make_order(maker, from_sheet(maker, "meter-boot", sheet, None), out, only_good=True)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in out.rglob("*") if p.is_file()}
    again = make_order(maker, from_sheet(maker, "meter-boot", sheet, None), out, only_good=True)
    assert (list(again.names()), again.wrong) == (list(first.names()), first.wrong)
    assert before == {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in out.rglob("*") if p.is_file()}
    with pytest.raises(FactoryError, match="another batch"):
        make_order(maker, from_sheet(maker, "meter-boot", SHEET, None), out)


def test_overlapping_orders_are_refused_device_by_device(maker: MakerIssuer, tmp_path: Path) -> None:
    make_order(maker, count_of(maker, 3), tmp_path / "first")
    order = check_inventory(maker, count_of(maker, 4, start=2))
    assert [(one.device, one.reason) for one in order.wrong] == [
        ("54524C0000000002", "is registered already"),
        ("54524C0000000003", "is registered already"),
    ]
    finished = make_order(maker, count_of(maker, 4, start=2), tmp_path / "second", only_good=True)
    assert list(finished.names()) == ["54524C0000000004", "54524C0000000005"]


def test_two_processes_do_not_make_one_batch(maker: MakerIssuer, tmp_path: Path) -> None:
    def meddle(done: int, count: int) -> None:
        with pytest.raises(FactoryError, match="another process"):
            make_order(maker, count_of(maker), tmp_path / "batch")

    make_order(maker, count_of(maker), tmp_path / "batch", progress=meddle)


def test_what_an_attempt_left_before_the_batch_began_is_no_other_content(
    maker: MakerIssuer, tmp_path: Path
) -> None:
    out = tmp_path / "batch"
    out.mkdir()
    (out / "order.cbor").write_bytes(b"half")
    make_order(maker, count_of(maker), out)
    assert not (out / "order.cbor").exists()


@pytest.mark.parametrize("file", ["order.cbor", "report.json", "batch.json", "certificates.cbor"])
def test_a_damaged_batch_is_told(
    maker: MakerIssuer, tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, sheet = tmp_path / "batch", SHEET + b"nonsense,,\n"
    make_order(maker, from_sheet(maker, "meter-boot", sheet, None), out, only_good=True)
    (out / "manifest.cose").unlink()
    (out / file).write_bytes((out / file).read_bytes()[:-9])
    with pytest.raises(FactoryError, match=r"damaged|other content"):
        make_order(maker, from_sheet(maker, "meter-boot", sheet, None), out, only_good=True)


def test_a_zip_is_the_folder_and_equal_identities_are_equal_files(maker: MakerIssuer, tmp_path: Path) -> None:
    make_order(maker, count_of(maker), tmp_path / "batch", bundle=Bundle.ZIP, device_passphrase=b"on board")
    path = tmp_path / "batch" / "54524C0000000001.zip"
    assert path.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(path) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        key = archive.getinfo("54524C0000000001/bootstrap.key")
        assert key.external_attr >> 16 & 0o777 == 0o600
        assert b"ENCRYPTED" in archive.read(key)
        archive.extractall(tmp_path / "unpacked")
    with Device.open(tmp_path / "unpacked" / "54524C0000000001", b"on board", wall=lambda: NOW):
        pass
    files = {"a": b"1", "b": b"2"}
    assert zipped("X", files) == zipped("X", dict(reversed(files.items())))


# --- certification requests


def pkcs10(
    name: str | None, key: ec.EllipticCurvePrivateKey, attributes: Sequence[x509.NameAttribute[str]] = ()
) -> x509.CertificateSigningRequest:
    listed = [*attributes] + ([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(listed))
    return builder.sign(key, hashes.SHA256())


def ec_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def folder_of(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def test_requests_in_every_form_bring_keys_that_never_leave_their_devices(
    maker: MakerIssuer, tmp_path: Path
) -> None:
    keys = [ec_key() for _ in range(3)]
    own = new_key()
    folder = folder_of(
        tmp_path / "requests",
        {
            "a.csr": pkcs10("54524C00000000A1", keys[0]).public_bytes(Encoding.PEM),
            "b.der": pkcs10("54524C00000000A2", keys[1]).public_bytes(Encoding.DER),
            "54524C00000000A3.csr": pkcs10(None, keys[2]).public_bytes(Encoding.PEM),
            "d.c509": certification_request(c509.Name.common_name("54524C00000000A4"), own),
            ".hidden": b"whatever",
        },
    )
    order = from_requests(maker, "meter-boot", folder)
    assert order.wrong == ()
    out = tmp_path / "batch"
    make_order(maker, order, out)
    entries = read_manifest((out / "manifest.cose").read_bytes(), maker.voucher_key).entries
    assert {entry.device[-2:] for entry in entries} == {"A1", "A2", "A3", "A4"}
    assert {entry.origin for entry in entries} == {Origin.DEVICE}
    for name, key in zip(("A1", "A2", "A3"), keys, strict=True):
        device = out / f"54524C00000000{name}"
        assert sorted(one.name for one in device.iterdir()) == [
            "bootstrap.c509", "bootstrap.pem", "identity.json", "root.c509", "root.pem", "state",
            "voucher-key.der", "voucher.cose",
        ]  # fmt: skip
        certificate = c509.decode_certificate((device / "bootstrap.c509").read_bytes())
        assert verification_key(certificate) == key.public_key()


def test_a_csv_file_names_what_requests_do_not(maker: MakerIssuer, tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path / "requests",
        {
            "1": pkcs10(None, ec_key()).public_bytes(Encoding.DER),
            "2": pkcs10("54524C00000000A9", ec_key()).public_bytes(Encoding.DER),
            "3": pkcs10(None, ec_key()).public_bytes(Encoding.DER),
        },
    )
    sheet = (
        b"request,device,serial\n1,54524C00000000A1,No. 1\n2,54524C00000000A2,\n4,54524C00000000A4,\n1,,\n"
    )
    order = from_requests(maker, "meter-boot", folder, sheet)
    assert [(item.name, item.serial) for item in order.items] == [("54524C00000000A1", "No. 1")]
    assert {(one.where, one.reason) for one in order.wrong} == {
        ("2", "the CSV file calls it '54524C00000000A2', its subject '54524C00000000A9'"),
        ("3", "no row of the CSV file names it"),
        ("line 4", "there is no file '4'"),
        ("line 5", "the same file as line 2"),
    }
    with pytest.raises(FactoryError, match="a column request"):
        from_requests(maker, "meter-boot", folder, b"device\nx\n")


def test_requests_that_prove_nothing_are_told(maker: MakerIssuer, directory: Path, tmp_path: Path) -> None:
    twin, used = ec_key(), ec_key()
    broken = bytearray(pkcs10("54524C00000000B1", ec_key()).public_bytes(Encoding.DER))
    broken[-1] ^= 1
    own = load_pem_private_key((directory / "makers" / "metering" / "ca.key").read_bytes(), PASSPHRASE)
    assert isinstance(own, ec.EllipticCurvePrivateKey)
    secret = ec_key()
    role = x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "CPO")
    first = folder_of(tmp_path / "first", {"54524C00000000C0": pkcs10(None, used).public_bytes(Encoding.DER)})
    make_order(maker, from_requests(maker, "meter-boot", first), tmp_path / "made")
    files = {
        "a-forged": bytes(broken),
        "b-curve": pkcs10("54524C00000000B2", ec_key(ec.SECP384R1())).public_bytes(Encoding.DER),
        "c-maker": pkcs10("54524C00000000B3", own).public_bytes(Encoding.DER),
        "d-twin": pkcs10("54524C00000000B4", twin).public_bytes(Encoding.DER),
        "e-twin": pkcs10("54524C00000000B5", twin).public_bytes(Encoding.DER),
        "f-role": pkcs10("54524C00000000B6", ec_key(), [role]).public_bytes(Encoding.DER),
        "g-used": pkcs10("54524C00000000B7", used).public_bytes(Encoding.DER),
        "h-key.pem": pkcs10("54524C00000000B8", secret).public_bytes(Encoding.PEM)
        + secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "i-prefix": pkcs10("41424300000000B9", ec_key()).public_bytes(Encoding.DER),
        "j-junk": b"\x00\x01",
        "k-long": bytes(20_000),
        "l-same": pkcs10("54524C00000000B4", ec_key()).public_bytes(Encoding.DER),
        "m-nameless": pkcs10(None, ec_key()).public_bytes(Encoding.DER),
    }
    order = check_inventory(maker, from_requests(maker, "meter-boot", folder_of(tmp_path / "r", files)))
    assert [item.name for item in order.items] == ["54524C00000000B4"]
    reasons = {one.where: one.reason for one in order.wrong}
    expected = {
        "a-forged": "nobody proves to hold it",
        "b-curve": "not for ES256",
        "c-maker": "the maker's own",
        "e-twin": "the same key as d-twin",
        "f-role": "its subject",
        "g-used": "was certified before",
        "h-key.pem": "a private key is in it",
        "i-prefix": "FLAG id ABC is not the CA's",
        "j-junk": "",
        "k-long": "longer than",
        "l-same": "the same name as d-twin",
        "m-nameless": "'m-nameless' is no system title",
    }
    assert reasons.keys() == expected.keys()
    for where, words in expected.items():
        assert words in reasons[where], where


def test_a_cars_request_may_have_the_subject_that_it_will_get(directory: Path, tmp_path: Path) -> None:
    role = [
        x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "OEM"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "TRL"),
    ]
    folder = folder_of(
        tmp_path / "requests",
        {"car": pkcs10("TRL000000000000010", ec_key(), role).public_bytes(Encoding.DER)},
    )
    with MakerIssuer(directory, Domain.EV_MO, PASSPHRASE, clock=lambda: NOW) as maker:
        order = from_requests(maker, "ev-oem", folder)
        assert [item.name for item in order.items] == ["TRL000000000000010"]
        make_order(maker, order, tmp_path / "batch", bundle=Bundle.ZIP)
    with zipfile.ZipFile(io.BytesIO((tmp_path / "batch" / "TRL000000000000010.zip").read_bytes())) as archive:
        assert not any(name.endswith(".key") for name in archive.namelist())
    with open_store(directory) as store:
        assert [device.name for device in list_devices(store)] == ["TRL000000000000010"]


def test_a_key_of_another_curve_may_be_proved_with_sha_256(directory: Path, tmp_path: Path) -> None:
    request = pkcs10("54524C0000000001", ec_key(ec.SECP384R1())).public_bytes(Encoding.DER)
    with MakerIssuer(directory, Domain.METERING2, PASSPHRASE, clock=lambda: NOW) as maker:
        order = from_requests(maker, "meter2-boot", folder_of(tmp_path / "requests", {"meter": request}))
        assert not order.wrong
        make_order(maker, order, tmp_path / "batch")


def test_a_folder_without_requests_is_no_order(maker: MakerIssuer, tmp_path: Path) -> None:
    with pytest.raises(FactoryError, match="has no requests"):
        from_requests(maker, "meter-boot", folder_of(tmp_path / "empty", {}))
    with pytest.raises(FactoryError, match="is no folder"):
        from_requests(maker, "meter-boot", tmp_path / "nowhere")
