"""`trillium import`: manifests of other factories and foreign manufacturers' certificates, row by row."""

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import delete, update

from agents.authority import BadDirectory, MakerIssuer, Store, initialise, list_devices, open_store
from agents.authority.acquaintance import read_owner
from agents.authority.audit import read_record
from agents.authority.domain import load_domain
from agents.authority.makers import MAKERS, Statement, order_chain
from agents.authority.schema import AUDIT
from agents.cli import import_command
from agents.devices.agent import Device as DeviceAgent
from agents.devices.identity import Identity
from agents.factory import make_batch
from protocol.errors import RequestRejected
from protocol.labels import Domain
from protocol.path import verify_leaf
from protocol.profiles import NameSpace, Prefix, profile_of
from protocol.validity import Clock as Time
from tests.ev_world import NOW, YEAR, Party, Wish, root
from tests.integration.cli_world import as_json, done, refused, trillium
from tests.rig import Clock, Device, rig_in

PASSPHRASE = b"correct horse"
KEY = Path("makers", "metering", "voucher-key.der")


@pytest.fixture(autouse=True)
def _at_the_worlds_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_command, "time", SimpleNamespace(time=lambda: NOW))


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authorities")
    for name, organisation in (("maker", "FAB"), ("operator", "OPR")):
        initialise(
            folder / name,
            passphrase=PASSPHRASE,
            now=NOW - YEAR,
            domains=(Domain.METERING, Domain.EV_MO),
            organisation=organisation,
        )
    return folder


@pytest.fixture
def operator(templates: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(templates / "operator", tmp_path / "operator"))


class Factory:
    """Another scheme's factory with a batch of meters for an operator."""

    def __init__(self, directory: Path, folder: Path, operator: Path) -> None:
        self.directory, self.batch = directory, folder / "batch"
        line = (
            operator / "certificates" / f"{name}.pem"
            for name in ("metering-operator", "metering-root", "root")
        )
        self.owner = folder / "owner.pem"
        self.owner.write_bytes(b"".join(file.read_bytes() for file in line))
        owner = read_owner(str(self.owner), directory, "meter-boot")
        with MakerIssuer(
            directory, Domain.METERING, PASSPHRASE, clock=lambda: NOW - 10, owner=owner
        ) as maker:
            self.names = list(make_batch(maker, "meter-boot", 3, self.batch).names())
        self.manifest = self.batch / "manifest.cose"
        self.key = directory / "makers" / "metering" / "voucher-key.der"
        self.chain = folder / "chain.pem"
        certificates = directory / "certificates"
        self.chain.write_bytes(
            b"".join(
                (certificates / f"{name}.pem").read_bytes()
                for name in ("root", "metering-maker", "metering-root")
            )
        )

    def options(self, *more: object) -> tuple[object, ...]:
        return (self.manifest, "--voucher-key", self.key, "--maker-ca", self.chain, *more)


@pytest.fixture
def factory(templates: Path, tmp_path: Path, operator: Path) -> Factory:
    return Factory(Path(shutil.copytree(templates / "maker", tmp_path / "maker")), tmp_path, operator)


class Oem:
    """A car maker with a hierarchy of its own, which knows nothing of Trillium."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = root("Foreign OEM root", role="OEM", country="DE")
        self.sub1 = self.root.ca("Foreign OEM sub 1", 1, role="OEM", country="DE")
        self.sub2 = self.sub1.ca("Foreign OEM sub 2", 0, role="OEM", country="DE")
        self.chain = folder / "oem.pem"
        self.chain.write_bytes(self.sub2.pem + self.root.pem + self.sub1.pem)

    def car(self, number: int, **changes: Any) -> Party:
        wish = Wish(
            cn=f"WVW{number:014}0",
            role="OEM",
            organisation="Test Co",
            usages=("digital_signature", "key_agreement"),
            not_after=NOW + YEAR,
        )
        return self.sub2.issue(replace(wish, **changes))

    def file(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def trusted(self, *more: object) -> tuple[object, ...]:
        label = ("--label", "ev-oem", "--maker-ca", self.chain)
        return (*label, "--trust-maker", "foreign", "--prefix", "WVW", *more)


@pytest.fixture
def oem(tmp_path: Path) -> Oem:
    return Oem(tmp_path)


def inventory(directory: Path) -> list[str]:
    with open_store(directory) as store:
        return [device.name for device in list_devices(store)]


def events(directory: Path) -> list[str]:
    with open_store(directory) as store, store.reading() as connection:
        rows = connection.exec_driver_sql("SELECT record FROM audit ORDER BY sequence").scalars()
        entries = [read_record(row).entry for row in rows]
    return [entry.detail for entry in entries if entry.event.value == "trust"]


# --- manifests of our factories


def test_another_factorys_manifest_is_taken_when_its_maker_is_trusted(
    operator: Path, factory: Factory
) -> None:
    assert "not trusted here; --trust-maker" in refused("import", operator, *factory.options())
    assert inventory(operator) == []
    told = as_json("import", operator, *factory.options("--trust-maker", "fab", "--approved-by", "Ada"))
    assert (told["good"], told["known"], told["wrong"], told["entered"]) == (3, 0, [], True)
    assert told["notes"] == []
    assert inventory(operator) == factory.names
    (detail,) = events(operator)
    assert detail.startswith("maker fab (TRL) by Ada: ")
    again = as_json("import", operator, factory.manifest)
    assert (again["good"], again["known"]) == (0, 3)


def test_what_was_made_for_another_operator_enrolls_there_and_gets_nothing_here(
    operator: Path, factory: Factory, tmp_path: Path
) -> None:
    done("import", operator, *factory.options("--trust-maker", "fab"))
    shutil.move(operator / "roots", tmp_path / "far-away")
    folder = factory.batch / factory.names[0]
    with DeviceAgent.open(folder, wall=lambda: NOW) as agent:
        owner = agent.status().authority
    with rig_in(tmp_path, directory=operator, clock=Clock(NOW)) as rig:
        assert owner == rig.makers[Domain.METERING].owner
        identity = Identity.load(folder)
        credential = identity.bootstrap(None)
        device = Device(
            identity.device,
            identity.domain,
            owner,
            identity.client_id,
            {"meter-boot": (credential.signer, credential.certificate)},  # type: ignore[dict-item]
        )
        rig.enrolled(device=device)
        assert rig.states(device) == ["current"]
    with open_store(factory.directory) as store:
        assert {one.entitled for one in list_devices(store)} == {()}
    batch = ("--label", "meter-boot", "--count", 3, "--out", tmp_path / "again")
    assert trillium("factory", factory.directory, *batch).code == 1, "the maker knows what it made"


def test_an_owner_under_the_same_roots_is_named_by_its_directory(tmp_path: Path) -> None:
    north, south, roots = tmp_path / "north", tmp_path / "south", tmp_path / "roots"
    only = (Domain.METERING,)
    initialise(north, passphrase=PASSPHRASE, now=NOW - YEAR, roots=roots, domains=only)
    initialise(south, passphrase=PASSPHRASE, now=NOW - YEAR, under=roots, organisation="SOUTH", domains=only)
    options = ("--label", "meter-boot", "--count", 2, "--out", tmp_path / "meters")
    made = as_json("factory", north, *options, "--owner", south)["devices"]
    manifest = tmp_path / "meters" / "manifest.cose"
    assert "nobody knows" in refused("import", south, manifest, "--voucher-key", north / KEY)
    chain = tmp_path / "chain.pem"
    chain.write_bytes((north / "certificates" / "metering-maker.pem").read_bytes())
    maker = ("--maker-ca", chain, "--trust-maker", "north")
    done("import", south, manifest, "--voucher-key", north / KEY, *maker)
    assert inventory(south) == made


def test_a_manifest_whose_vouchers_name_another_owner_is_refused(
    operator: Path, factory: Factory, tmp_path: Path
) -> None:
    with MakerIssuer(factory.directory, Domain.METERING, PASSPHRASE, clock=lambda: NOW - 10) as maker:
        make_batch(maker, "meter-boot", 1, tmp_path / "own", start=100)
    factory.manifest = tmp_path / "own" / "manifest.cose"
    assert "name another owner" in refused("import", operator, *factory.options("--trust-maker", "fab"))
    assert inventory(operator) == []


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        ("nobody", "nobody knows the owner"),
        ("MAKER", "issues nothing that meter-boot opens"),
        ("LONE", "the CA above"),
        ("SELF", "is this authority itself"),
    ],
)
def test_an_owner_that_cannot_be_one_is_told(
    operator: Path, factory: Factory, tmp_path: Path, owner: str, words: str
) -> None:
    lone = tmp_path / "lone.pem"
    lone.write_bytes((operator / "certificates" / "metering-operator.pem").read_bytes())
    places = {"MAKER": str(factory.chain), "LONE": str(lone), "SELF": str(factory.directory)}
    with pytest.raises(BadDirectory, match=words):
        read_owner(places.get(owner, owner), factory.directory, "meter-boot")


def test_cars_pin_more_roots_than_another_owners_one(
    factory: Factory, operator: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "cars"
    initialise(directory, passphrase=PASSPHRASE, now=NOW - YEAR, domains=(Domain.EV_MO, Domain.EV_CPS))
    pem = tmp_path / "mo.pem"
    certificates = operator / "certificates"
    names = ("ev-mo-operator", "ev-mo-sub1-operator", "mo-root")
    pem.write_bytes(b"".join((certificates / f"{name}.pem").read_bytes() for name in names))
    owner = read_owner(str(pem), directory, "ev-oem")
    with pytest.raises(BadDirectory, match="pin more roots"):
        MakerIssuer(directory, Domain.EV_MO, PASSPHRASE, owner=owner)


def test_a_dry_run_looks_at_everything_and_changes_nothing(operator: Path, factory: Factory) -> None:
    before = (operator / "store.sqlite").read_bytes()
    told = as_json("import", operator, *factory.options("--dry-run"))
    assert (told["good"], told["entered"]) == (3, False)
    assert "its maker is not trusted yet: --trust-maker NAME" in told["notes"]
    assert (operator / "store.sqlite").read_bytes() == before
    assert not list((operator / "certificates").glob("*-maker-*"))


def test_a_manifest_with_one_flipped_bit_is_refused(operator: Path, factory: Factory) -> None:
    data = bytearray(factory.manifest.read_bytes())
    for position in (1, len(data) // 3, len(data) // 2, len(data) - 1):
        data[position] ^= 4
        factory.manifest.write_bytes(data)
        trillium_said = refused("import", operator, *factory.options("--trust-maker", "fab"))
        assert "manifest" in trillium_said
        data[position] ^= 4
    assert inventory(operator) == []
    assert events(operator) == []


def test_a_certificate_that_is_not_the_manifests_is_told(operator: Path, factory: Factory) -> None:
    ledger = factory.batch / "certificates.cbor"
    data = bytearray(ledger.read_bytes())
    data[-1] ^= 1
    ledger.write_bytes(data)
    result = trillium("import", operator, *factory.options("--trust-maker", "fab", "--json"))
    assert result.code == 1
    told = json.loads(result.out)
    assert told["wrong"] == [
        {
            "where": "entry 3",
            "device": factory.names[2],
            "reason": "the certificate that the manifest names is not here",
        }
    ]
    assert not told["entered"]
    assert inventory(operator) == []
    assert events(operator) == []
    done("import", operator, *factory.options("--trust-maker", "fab", "--only-good-rows"))
    assert inventory(operator) == factory.names[:2]


@pytest.mark.parametrize("where", ["batch", "folder"])
def test_certificates_may_be_elsewhere(operator: Path, factory: Factory, tmp_path: Path, where: str) -> None:
    moved = tmp_path / "manifest.cose"
    shutil.move(factory.manifest, moved)
    factory.manifest = moved
    assert "certificates.cbor: is not there" in refused("import", operator, *factory.options(), code=2)
    place = factory.batch
    if where == "folder":
        place = tmp_path / "certificates"
        place.mkdir()
        for name in factory.names:
            shutil.copy(factory.batch / name / "bootstrap.pem", place / f"{name}.pem")
    done("import", operator, *factory.options("--trust-maker", "fab", "--certificates", place))
    assert inventory(operator) == factory.names


def test_a_manifest_of_nobody_known_is_refused(operator: Path, factory: Factory, oem: Oem) -> None:
    assert "not a manifest that a known maker signed" in refused("import", operator, factory.manifest)
    other = refused(
        "import", operator, factory.manifest, "--voucher-key", factory.key, "--maker-ca", oem.chain,
        "--prefix", "WVW", "--trust-maker", "x",
    )  # fmt: skip
    assert "FLAG id" in other or "another maker's CA" in other
    label = refused("import", operator, *factory.options("--label", "ev-oem"))
    assert "the manifest is of meter-boot" in label


def test_a_makers_statement_goes_not_beyond_what_its_ca_lists(operator: Path, factory: Factory) -> None:
    told = refused("import", operator, *factory.options("--trust-maker", "fab", "--prefix", "ABC"))
    assert "its CA does not list FLAG id ABC" in told


# --- foreign manufacturers


FORMS: dict[str, Callable[[list[Party]], bytes]] = {
    "cars.pem": lambda cars: b"".join(car.pem for car in cars),
    "cars.csv": lambda cars: (
        b"pcid,certificate\n"
        + b"".join(
            f'{car.certificate.subject.cn},"{car.pem.decode()}"\n'.encode()
            if index % 2
            else f"{car.certificate.subject.cn},{base64.b64encode(car.der).decode()}\n".encode()
            for index, car in enumerate(cars)
        )
    ),
}


@pytest.mark.parametrize("form", [*FORMS, "folder"])
def test_foreign_cars_come_in_by_pem_csv_and_folder(operator: Path, oem: Oem, form: str) -> None:
    cars = [oem.car(number) for number in (1, 2, 3)]
    if form == "folder":
        file = oem.folder / "cars"
        file.mkdir()
        (file / "1.pem").write_bytes(cars[0].pem)
        (file / "2.der").write_bytes(cars[1].der)
        (file / "3.c509").write_bytes(cars[2].certificate.encoded)
    else:
        file = oem.file(form, FORMS[form](cars))
    told = as_json("import", operator, file, *oem.trusted())
    assert (told["good"], told["wrong"]) == (3, [])
    assert inventory(operator) == [car.certificate.subject.cn for car in cars]
    assert as_json("import", operator, file, "--label", "ev-oem")["known"] == 3
    pem = (operator / "certificates" / "ev-mo-maker-foreign.pem").read_text()
    assert pem.count("BEGIN CERTIFICATE") == 3


def test_the_authority_takes_a_stated_maker_for_its_label_and_prefixes_only(operator: Path, oem: Oem) -> None:
    done("import", operator, oem.file("1.pem", oem.car(1).pem), *oem.trusted())
    authority = load_domain(operator, Domain.EV_MO, PASSPHRASE, NOW)
    (maker,) = (one for one in authority.makers if one.public_key == oem.sub2.key.public_key())
    profile, clock = profile_of("ev-oem"), Time(NOW)
    assert verify_leaf(oem.car(2).certificate, maker, profile, clock) == oem.car(2).certificate.subject.cn
    stolen = oem.car(3, cn="TRL000000000000010")
    with pytest.raises(RequestRejected, match="WMI TRL is not the CA's"):
        verify_leaf(stolen.certificate, maker, profile, clock)
    assert maker.labels == {"ev-oem"}


def test_every_fault_of_a_foreign_certificate_is_told_with_its_requirement(operator: Path, oem: Oem) -> None:
    stranger = root("Foreign OEM sub 2", role="OEM", country="DE")
    shared = oem.car(1)
    rows = {
        "good": shared.der,
        "usage": oem.car(2, usages=("digital_signature",)).der,
        "role": oem.car(3, role="CPO").der,
        "constraints": oem.car(4, constraints=None).der,
        "expired": oem.car(5, not_before=NOW - 900, not_after=NOW - 800).der,
        "stranger": stranger.issue(Wish(cn="WVW000000000000060", role="OEM")).der,
        "prefix": oem.car(7, cn="TRL000000000000070").der,
        "name": oem.car(8, cn="WVW-8").der,
        "ca": oem.sub1.der,
        "broken": oem.car(9).der[:-3],
        "twice": oem.car(1, key=oem.car(10).key).der,
        "same-key": oem.car(11, key=shared.key).der,
    }
    encoded = [base64.b64encode(der).decode() for der in rows.values()]
    text = "\n".join(("certificate", *encoded, "nonsense!", ""))
    result = trillium("import", operator, oem.file("cars.csv", text.encode()), *oem.trusted("--json"))
    assert result.code == 1, result.err
    told = json.loads(result.out)
    assert (told["good"], told["entered"]) == (1, False)
    where = {f"line {number}": name for number, name in enumerate([*rows, "base64"], start=2)}
    reasons = {where[one["where"]]: one["reason"] for one in told["wrong"]}
    expected = {
        "usage": "[V2G2-822]",
        "role": "expected DC=OEM",
        "constraints": "basic-constraints",
        "expired": "expired",
        "stranger": "signature",
        "prefix": "WMI TRL is not the CA's",
        "name": "[V2G2-108]",
        "ca": "basic-constraints",
        "broken": "encoding",
        "twice": "the same name as line 2",
        "same-key": "the same key as line 2",
        "base64": "base64",
    }
    assert reasons.keys() == expected.keys(), reasons
    for name, words in expected.items():
        assert words.lower() in reasons[name].lower(), (name, reasons[name])
    assert inventory(operator) == []
    assert events(operator) == [], "a maker is not trusted by a run that enters nothing"


def test_a_list_that_calls_a_car_by_another_name_is_told(operator: Path, oem: Oem) -> None:
    row = f"pcid,certificate\nWVW000000000000020,{base64.b64encode(oem.car(1).der).decode()}\n"
    result = trillium("import", operator, oem.file("cars.csv", row.encode()), *oem.trusted())
    assert result.code == 1
    assert "another device's than the list says" in " ".join(result.out.split())


def test_a_car_with_a_new_certificate_or_a_used_key_is_told(operator: Path, oem: Oem) -> None:
    first = oem.car(1)
    done("import", operator, oem.file("1.pem", first.pem), *oem.trusted())
    again = trillium("import", operator, oem.file("2.pem", oem.car(1).pem), "--label", "ev-oem")
    assert "is registered already, with another certificate" in " ".join(again.out.split())
    used = trillium("import", operator, oem.file("3.pem", oem.car(2, key=first.key).pem), "--label", "ev-oem")
    assert "its key was certified before" in " ".join(used.out.split())
    assert (again.code, used.code) == (1, 1)


def test_private_keys_are_refused_wherever_they_are(operator: Path, oem: Oem) -> None:
    car = oem.car(1)
    secret = car.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert "a private key is in it" in refused(
        "import", operator, oem.file("1.pem", car.pem + secret), *oem.trusted()
    )
    row = b'pcid,certificate\nx,"' + secret + b'"\n'
    assert "a private key" in refused("import", operator, oem.file("1.csv", row), *oem.trusted())


@pytest.mark.parametrize(
    ("options", "words", "code"),
    [
        ((), "--label is missing", 2),
        (("--label", "ev-contract"), "makers issue", 2),
        (("--label", "its-boot"), "has no domain its", 1),
        (("--label", "ev-oem"), "no known maker issued these certificates", 1),
        (("--label", "ev-oem", "--maker-ca", "CHAIN", "--trust-maker", "x"), "say which WMI", 1),
        (("--label", "ev-oem", "--maker-ca", "CHAIN", "--prefix", "WVW"), "is not trusted here", 1),
        (("--label", "ev-oem", "--maker-ca", "CHAIN", "--prefix", "W"), "three upper-case", 2),
        (("--label", "ev-oem", "--maker-ca", "FILE"), "one CA that issues", 1),
        (("--label", "ev-oem", "--maker-ca", "SUBS", "--prefix", "WVW"), "the CA above", 1),
        (("--label", "ev-oem", "--trust-maker", "x"), "--maker-ca has its certificates", 2),
        (("--label", "ev-oem", "--maker-ca", "CHAIN", "--trust-maker", "../x"), "lower-case letters", 2),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    operator: Path, oem: Oem, options: tuple[str, ...], words: str, code: int
) -> None:
    file = oem.file("1.pem", oem.car(1).pem)
    places = {
        "CHAIN": str(oem.chain),
        "FILE": str(file),
        "SUBS": str(oem.file("subs.pem", oem.sub1.pem + oem.sub2.pem)),
    }
    given = [places.get(option, option) for option in options]
    assert words in refused("import", operator, file, *given, code=code)
    assert inventory(operator) == []


def test_a_name_is_one_makers_and_an_own_maker_needs_no_statement(
    operator: Path, oem: Oem, tmp_path: Path
) -> None:
    done("import", operator, oem.file("1.pem", oem.car(1).pem), *oem.trusted())
    (tmp_path / "other").mkdir()
    other = Oem(tmp_path / "other")
    file = other.file("1.pem", other.car(2).pem)
    assert "another maker is called foreign" in refused("import", operator, file, *other.trusted())
    certificates = operator / "certificates"
    own = b"".join((certificates / f"{name}.pem").read_bytes() for name in ("ev-mo-maker",))
    chain = oem.file("own.pem", own)
    options = ("--label", "ev-oem", "--maker-ca", chain, "--trust-maker", "own")
    assert "is known already" in refused("import", operator, file, *options)


def test_the_last_statement_of_a_maker_counts(operator: Path, oem: Oem) -> None:
    done("import", operator, oem.file("1.pem", oem.car(1).pem), *oem.trusted())
    done("import", operator, oem.file("2.pem", oem.car(2).pem), *oem.trusted("--prefix", "WAU"))
    assert len(events(operator)) == 2
    done("import", operator, oem.file("3.pem", oem.car(3, cn="WAU000000000000030").pem), "--label", "ev-oem")
    assert len(inventory(operator)) == 3


@pytest.fixture
def stated(operator: Path, oem: Oem) -> Iterator[Store]:
    done("import", operator, oem.file("1.pem", oem.car(1).pem), *oem.trusted())
    with open_store(operator) as store:
        yield store


@pytest.mark.parametrize("how", ["statement", "sequence", "record", "label"])
def test_a_statement_that_the_audit_log_does_not_bear_out_is_none(
    operator: Path, oem: Oem, stated: Store, how: str
) -> None:
    with stated.reading() as connection:
        row = connection.execute(MAKERS.select()).one()
    statement = Statement.decode(row.statement)
    wider = replace(statement, prefixes=(*statement.prefixes, Prefix.parse(NameSpace.WMI, "TRL")))
    with stated.writing(NOW) as writing:
        match how:
            case "statement":
                writing.connection.execute(update(MAKERS).values(statement=wider.encode()))
            case "sequence":
                writing.connection.execute(update(MAKERS).values(audit_sequence=row.audit_sequence + 1))
            case "label":
                writing.connection.execute(update(MAKERS).values(label="meter-boot"))
            case _:
                writing.connection.execute(delete(AUDIT).where(AUDIT.c.sequence == row.audit_sequence))
    domain = Domain.METERING if how == "label" else Domain.EV_MO
    with pytest.raises(BadDirectory, match="the audit log says nothing of this statement"):
        load_domain(operator, domain, PASSPHRASE, NOW)
    label = "meter-boot" if how == "label" else "ev-oem"
    assert "audit log" in refused("import", operator, oem.file("2.pem", oem.car(2).pem), "--label", label)


def test_a_chain_may_come_in_any_order(oem: Oem) -> None:
    parties = (oem.sub2, oem.sub1, oem.root)
    certificates = [party.certificate for party in parties]
    for turned in (certificates, certificates[::-1], [*certificates[1:], certificates[0], certificates[0]]):
        assert order_chain(turned) == tuple(certificates)
    with pytest.raises(RequestRejected, match="found: none"):
        order_chain([oem.car(1).certificate])


def test_what_people_see_fits(operator: Path, oem: Oem) -> None:
    out = done("import", operator, oem.file("1.pem", oem.car(1).pem), *oem.trusted())
    assert out == "1 new ev-oem, 0 known already, 0 wrong; entered 1\n"
