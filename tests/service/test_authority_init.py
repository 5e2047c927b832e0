"""Making an authority, and its maker's side."""

import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from agents.authority import (
    BadDirectory,
    MakerIssuer,
    hierarchy,
    initialise,
    list_devices,
    open_store,
    read_settings,
)
from agents.authority.domain import load_domain
from agents.authority.hierarchy import Labels
from agents.authority.layout import readable_roots
from agents.factory.maker import MadeDevice
from agents.keys import save_private_key
from protocol import c509
from protocol.errors import RequestRejected
from protocol.identity import client_id
from protocol.labels import Domain
from protocol.path import verify_authority, verify_leaf
from protocol.profiles import labels_of_policies, over_the_air, prefixes_of_policies, profile_of, services_of
from protocol.validity import Clock
from protocol.voucher import read_voucher
from tests.rig import NOW, PASSPHRASE, fresh_directory, new_key


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_new_authority_has_roots_makers_operators_and_a_store(tmp_path: Path) -> None:
    directory = tmp_path / "deep" / "authority"
    initialise(directory, passphrase=PASSPHRASE, now=NOW, organisation="ACME")
    names = set(tree(directory))
    roots = {f"roots/{name}.key" for name in ("root", "metering-root", "its-root")}
    assert {"trillium.toml", "store.sqlite", *roots} <= names
    for domain in ("metering", "its"):
        assert {f"makers/{domain}/{file}" for file in ("ca.key", "voucher.key", "voucher-key.der")} <= names
        assert {f"operators/{domain}/{file}" for file in ("ca.key", "registration.key")} <= names
    settings = read_settings(directory)
    assert settings.organisation == "ACME"
    assert settings.domains == (Domain.METERING, Domain.ITS)
    assert [p.name for p in directory.parent.iterdir()] == ["authority"], "nothing is left beside it"


def test_private_keys_are_encrypted_and_for_their_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "authority"
    initialise(directory, passphrase=PASSPHRASE, now=NOW)
    keys = list(directory.rglob("*.key"))
    assert len(keys) == 3 + 2 * 4
    for key in keys:
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        with pytest.raises(TypeError):
            load_pem_private_key(key.read_bytes(), None)
        load_pem_private_key(key.read_bytes(), PASSPHRASE)
    assert stat.S_IMODE((directory / "roots").stat().st_mode) == 0o700


def test_every_ca_lists_its_labels_and_subordinates_only_narrow(tmp_path: Path) -> None:
    directory = fresh_directory(tmp_path / "authority")
    certificates = {
        path.stem: x509.load_pem_x509_certificate(path.read_bytes())
        for path in (directory / "certificates").glob("*.pem")
    }

    def labels(name: str) -> frozenset[str]:
        policies = certificates[name].extensions.get_extension_for_class(x509.CertificatePolicies).value
        return labels_of_policies(policy.policy_identifier.dotted_string for policy in policies)

    def prefixes(name: str) -> set[str]:
        policies = certificates[name].extensions.get_extension_for_class(x509.CertificatePolicies).value
        listed = prefixes_of_policies(policy.policy_identifier.dotted_string for policy in policies)
        return {f"{prefix.space.title} {prefix}" for found in listed.values() for prefix in found}

    listing = ("metering-maker", "its-maker", "metering-operator", "metering-root", "root")
    assert [prefixes(name) for name in listing] == [{"FLAG id TRL"}, {"OUI 02-54-52"}, set(), set(), set()]
    assert labels("metering-maker") == {"meter-boot", "client-boot"}
    assert labels("metering-operator") == set(over_the_air(Domain.METERING))
    assert labels("its-maker") | labels("its-operator") == labels("its-root")
    assert labels("metering-root") | labels("its-root") == labels("root")
    for name in ("metering-operator", "its-operator"):
        (common_name,) = certificates[name].subject
        assert len(str(common_name.value)) <= 7
    usage = certificates["its-registration"].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [oid.dotted_string for oid in usage] == ["1.3.6.1.5.5.7.3.28"]
    for name, certificate in certificates.items():
        encoded = (directory / "certificates" / f"{name}.c509").read_bytes()
        assert x509.load_der_x509_certificate(c509.decode_certificate(encoded).to_der()) == certificate


def test_one_domain_alone(tmp_path: Path) -> None:
    directory = tmp_path / "authority"
    initialise(directory, passphrase=PASSPHRASE, now=NOW, domains=[Domain.ITS])
    assert not (directory / "makers" / "metering").exists()
    with pytest.raises(BadDirectory, match="no domain metering"):
        MakerIssuer(directory, Domain.METERING, PASSPHRASE)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    directory, roots = tmp_path / "authority", tmp_path / "roots"
    initialise(directory, passphrase=PASSPHRASE, now=NOW, roots=roots)
    before = tree(tmp_path)
    for elsewhere in (None, tmp_path / "others"):
        with pytest.raises(BadDirectory, match="nothing was changed"):
            initialise(directory, passphrase=PASSPHRASE, now=NOW, roots=elsewhere)
    with pytest.raises(BadDirectory, match="nothing was changed"):
        initialise(tmp_path / "second", passphrase=PASSPHRASE, now=NOW, roots=roots)
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(BadDirectory):
        initialise(file, passphrase=PASSPHRASE, now=NOW)
    file.unlink()
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "arguments",
    [
        {"passphrase": b""},
        {"organisation": "six-66"},
        {"organisation": ""},
        {"organisation": "A\nB"},
        {"domains": []},
    ],
)
def test_what_will_not_do_is_refused(tmp_path: Path, arguments: dict[str, object]) -> None:
    merged: dict[str, object] = {"passphrase": PASSPHRASE} | arguments
    with pytest.raises(BadDirectory):
        initialise(tmp_path / "authority", now=NOW, **merged)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", range(0, 11, 2))
def test_a_failure_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    left = [place]

    def fail_later(path: Path, key: object, passphrase: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError("no space left on device")
        save_private_key(path, key, passphrase)  # type: ignore[arg-type]

    monkeypatch.setattr(hierarchy, "save_private_key", fail_later)
    with pytest.raises(OSError, match="no space"):
        initialise(tmp_path / "authority", passphrase=PASSPHRASE, now=NOW, roots=tmp_path / "roots")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "authority").mkdir()
    (tmp_path / "roots").mkdir()
    initialise(tmp_path / "authority", passphrase=PASSPHRASE, now=NOW, roots=tmp_path / "roots")
    assert (tmp_path / "roots" / "root.key").is_file()


# --- the maker ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "name"), [(Domain.METERING, "54524C0000000001"), (Domain.ITS, "02-54-52-FF-FE-00-00-01")]
)
def test_a_maker_issues_vouches_and_registers(tmp_path: Path, domain: Domain, name: str) -> None:
    directory = fresh_directory(tmp_path / "authority")
    label = "meter-boot" if domain is Domain.METERING else "its-boot"
    with MakerIssuer(directory, domain, PASSPHRASE, clock=lambda: NOW) as maker:
        key = new_key()
        certificate = maker.issue(profile_of(label), name, key.public_key)
        path = verify_authority(maker.path, root=maker.root, authority=maker.key_id, clock=Clock(NOW))
        assert verify_leaf(certificate, path, profile_of(label), Clock(NOW)) == name
        voucher = read_voucher(maker.voucher(name), (maker.voucher_key,), device=name)
        assert (voucher.authority, voucher.epoch) == (maker.owner, 0)
        made = MadeDevice(name, label, certificate, client_id(maker.key_id, name))
        maker.register([made])
        maker.register([made])
    with open_store(directory) as store:
        (listed,) = list_devices(store)
    assert (listed.name, listed.current, listed.entitled) == (name, 1, services_of(label))


def test_a_maker_refuses_a_name_that_its_profile_does_not_take(tmp_path: Path) -> None:
    directory = fresh_directory(tmp_path / "authority")
    with MakerIssuer(directory, Domain.METERING, PASSPHRASE) as maker, pytest.raises(RequestRejected):
        maker.issue(profile_of("meter-boot"), "my meter", new_key().public_key)


def test_a_maker_needs_its_passphrase(tmp_path: Path) -> None:
    directory = fresh_directory(tmp_path / "authority")
    with pytest.raises(BadDirectory, match="passphrase"):
        MakerIssuer(directory, Domain.METERING, b"wrong")


def test_a_second_authority_may_stand_under_the_roots_of_the_first(tmp_path: Path) -> None:
    first, second, roots = tmp_path / "first", tmp_path / "second", tmp_path / "roots"
    initialise(first, passphrase=PASSPHRASE, now=NOW, roots=roots, organisation="AAA")
    initialise(
        second, passphrase=b"other", now=NOW, under=roots, under_passphrase=PASSPHRASE, organisation="BBB"
    )
    ours, theirs = (
        load_domain(directory, Domain.METERING, passphrase, NOW)
        for directory, passphrase in ((first, PASSPHRASE), (second, b"other"))
    )
    assert theirs.root == ours.root
    assert theirs.chain[1] == ours.chain[1], "one domain root"
    assert theirs.key_id != ours.key_id
    assert theirs.issuer.certificate.subject.cn == "BBB-M"
    assert not (second / "roots").exists()
    with MakerIssuer(second, Domain.METERING, b"other", clock=lambda: NOW) as maker:
        assert not maker.authority.gives, "the first maker's names are its own"
    assert readable_roots(second, read_settings(second)) == roots


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda roots: (roots / "its-root.key").unlink(), "no CA called its-root"),
        (lambda roots: shutil.copy(roots / "root.pem", roots / "its-root.pem"), "do not match"),
    ],
)
def test_roots_that_cannot_be_used_make_nothing(
    tmp_path: Path, change: Callable[[Path], object], says: str
) -> None:
    initialise(tmp_path / "first", passphrase=PASSPHRASE, now=NOW, roots=tmp_path / "roots")
    change(tmp_path / "roots")
    with pytest.raises(BadDirectory, match=says):
        initialise(tmp_path / "second", passphrase=PASSPHRASE, now=NOW, under=tmp_path / "roots")
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("sub_cas", [0, 1, 2, 3])
def test_every_domain_has_an_authority_whatever_the_number_of_sub_cas(tmp_path: Path, sub_cas: int) -> None:
    directory = tmp_path / "authority"
    initialise(
        directory,
        passphrase=PASSPHRASE,
        now=NOW,
        roots=tmp_path / "roots",
        domains=tuple(Domain),
        sub_cas=sub_cas,
    )
    for domain in Domain:
        authority = load_domain(directory, domain, PASSPHRASE, NOW)
        assert set(authority.places) == set(over_the_air(domain))
        lines = read_settings(directory).lines(domain)
        assert len(authority.chain) == max(len(lines.operator), 2)
        with MakerIssuer(directory, domain, PASSPHRASE, clock=lambda: NOW) as maker:
            assert maker.authority.labels == set(Labels.of(domain).maker)
