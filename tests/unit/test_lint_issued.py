"""What a real authority and a real maker issue fits its profile, and its issuer's certificate."""

from collections.abc import Iterator

import pytest

from protocol import c509
from protocol.labels import Domain
from protocol.lint import lint, notes
from protocol.profiles import PROFILES, profile_of
from tests.rig import Rig, certificate_of, new_key, rig_in


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with rig_in(tmp_path_factory.mktemp("lint")) as opened:
        yield opened


def check(encoded: bytes, label: str, rig: Rig) -> None:
    made = c509.decode_certificate(encoded)
    folder = rig.directory / "certificates"
    issuers = [c509.decode_certificate(file.read_bytes()) for file in folder.glob("*.c509")]
    (issuer,) = (one for one in issuers if one.subject == made.issuer_name and one.is_ca)
    der = None if made.type == c509.NATIVE else made.to_der()
    assert lint(made, der, profile_of(label), issuer=issuer) == ()
    assert notes(made) == ()


@pytest.mark.parametrize("domain", [Domain.METERING, Domain.ITS])
def test_bootstrap_and_first_certificates_fit(rig: Rig, domain: Domain) -> None:
    device = rig.enrolled(domain)
    assert len(device.credentials) == 2
    for label, (_, certificate) in device.credentials.items():
        check(certificate, label, rig)


@pytest.mark.parametrize("label", [one for one in PROFILES if PROFILES[one].opened_by == ("meter-ds",)])
def test_what_the_first_certificate_opens_fits(rig: Rig, label: str) -> None:
    device = rig.enrolled(Domain.METERING)
    check(certificate_of(rig.ask(device.enroll(new_key(), label=label))), label, rig)
