"""Closed worlds: what one domain's maker or authority made opens nothing in another, whatever the name."""

import shutil
from collections.abc import Iterator
from itertools import permutations

import pytest

from agents.authority import NewDevice, initialise, register_devices
from agents.authority.hierarchy import Labels
from agents.keys import SoftwareSigner, generate
from protocol import c509
from protocol.cose import Algorithm
from protocol.errors import RequestRejected
from protocol.exchange.request import Door, certification_request, sign_request
from protocol.identity import client_id
from protocol.labels import Domain, Operation
from protocol.path import check_registration, verify_authority, verify_leaf
from protocol.ports import Content, Inbound, Reply
from protocol.profiles import Naming, Profile, profile_of, services_of
from protocol.validity import Clock
from tests.rig import NOW, PASSPHRASE, Rig, rig_in

NAMES = {
    Naming.SYSTEM_TITLE: "54524C0000000001",
    Naming.EUI64: "02-54-52-FF-FE-00-00-01",
    Naming.PCID: "TRL000000000000012",
    Naming.SECCID: "DETRLS" + "0" * 32,
    Naming.SERVICE: "service-1",
}
Made = tuple[SoftwareSigner, bytes, str]
"""A device: its key, its bootstrap certificate, its name."""
PAIRS = list(permutations(Domain, 2))


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("domains")
    initialise(folder / "all", passphrase=PASSPHRASE, now=NOW, roots=folder / "roots", domains=tuple(Domain))
    shutil.move(folder / "roots", folder / "far")
    with rig_in(folder, directory=folder / "all") as opened:
        yield opened


def boot_of(domain: Domain) -> Profile:
    """Return the first tier 1 profile of a domain."""
    return profile_of(Labels.of(domain).maker[0])


def signer_of(algorithm: Algorithm) -> SoftwareSigner:
    return SoftwareSigner(generate(algorithm), even_y=False)


def made(rig: Rig, domain: Domain) -> Made:
    """Make a device; return its key, its bootstrap certificate and its name, which is that of every other."""
    profile = boot_of(domain)
    key, name = signer_of(profile.algorithms[0]), NAMES[profile.naming]
    return key, rig.makers[domain].issue(profile, name, key.public_key).encoded, name


@pytest.fixture(scope="module")
def devices(rig: Rig) -> dict[Domain, Made]:
    """One device in every domain, all with one name where the grammars are one; all are registered."""
    found = {domain: made(rig, domain) for domain in Domain}
    for domain, (_, certificate, name) in found.items():
        maker, label = rig.makers[domain], boot_of(domain).label
        device = NewDevice(
            name, label, maker.key_id, client_id(maker.key_id, name), services_of(label), certificate
        )
        register_devices(rig.agent.store, [device], NOW, (maker.authority,))
    return found


def ask(
    rig: Rig, device: tuple[SoftwareSigner, bytes, str], domain: Domain, *, by_value: bool
) -> list[Reply]:
    """Ask the authority of `domain` for a first certificate of each of its labels; return the replies."""
    key, certificate, name = device
    authority = rig.agent.authorities[domain]
    replies: list[Reply] = []
    for label in authority.places:
        payload = certification_request(
            c509.Name.common_name(name), signer_of(profile_of(label).algorithms[0])
        )
        door = Door(authority.key_id, label, Operation.SEN, 0)
        body = sign_request(key, certificate, door, payload, by_value=by_value)
        replies.append(rig.ask(Inbound(label, Operation.SEN, body, "test:1")))
    return replies


@pytest.mark.parametrize("by_value", [False, True])
@pytest.mark.parametrize(("domain", "other"), PAIRS)
def test_a_device_of_one_domain_is_nobody_in_another(
    rig: Rig,
    devices: dict[Domain, Made],
    domain: Domain,
    other: Domain,
    by_value: bool,
) -> None:
    before = rig.snapshot()
    replies = ask(rig, devices[domain], other, by_value=by_value)
    assert not any(isinstance(reply, Content) for reply in replies), replies
    assert rig.snapshot() == before


@pytest.mark.parametrize(("domain", "other"), PAIRS)
def test_a_certificate_proves_nothing_to_another_domain(
    rig: Rig, devices: dict[Domain, Made], domain: Domain, other: Domain
) -> None:
    certificate = c509.decode_certificate(devices[domain][1])
    for profile in (boot_of(domain), boot_of(other)):
        with pytest.raises(RequestRejected):
            verify_leaf(certificate, rig.makers[other].authority, profile, Clock(NOW))


@pytest.mark.parametrize(("domain", "other"), PAIRS)
def test_a_registration_key_speaks_for_its_own_authority(rig: Rig, domain: Domain, other: Domain) -> None:
    ours, theirs = rig.agent.authorities[domain], rig.agent.authorities[other]
    with pytest.raises(RequestRejected):
        check_registration(theirs.registrar.certificate, ours.issuer.certificate, Clock(NOW))
    chain = (*ours.chain[:-1], theirs.registrar.certificate)
    with pytest.raises(RequestRejected):
        verify_authority(chain, root=ours.root, authority=ours.key_id, clock=Clock(NOW))
    with pytest.raises(RequestRejected):
        verify_authority(theirs.chain, root=ours.root, authority=ours.key_id, clock=Clock(NOW))


@pytest.mark.parametrize("domain", Domain)
def test_a_maker_is_no_operator_and_an_operator_no_maker(rig: Rig, domain: Domain) -> None:
    labels = Labels.of(domain)
    ours = rig.agent.authorities[domain]
    operator = verify_authority(ours.chain, root=ours.root, authority=ours.key_id, clock=Clock(NOW))
    maker = rig.makers[domain].authority
    assert operator.labels == set(labels.operator)
    assert maker.labels == set(labels.maker)
    assert operator.labels.isdisjoint(maker.labels)
    assert maker.registration is None


WITH_REQUESTS = [one for one in Domain if one not in (Domain.EV_MO, Domain.EV20_MO)]
"""Domains whose devices ask for certificates of keys of their own; contracts come with a key."""


@pytest.mark.parametrize("domain", WITH_REQUESTS)
def test_at_home_the_same_requests_are_answered(rig: Rig, domain: Domain) -> None:
    profile = boot_of(domain)
    key, name = signer_of(profile.algorithms[0]), NAMES[profile.naming][:-1] + "3"
    maker = rig.makers[domain]
    certificate = maker.issue(profile, name, key.public_key).encoded
    device = NewDevice(
        name,
        profile.label,
        maker.key_id,
        client_id(maker.key_id, name),
        services_of(profile.label),
        certificate,
    )
    register_devices(rig.agent.store, [device], NOW, (maker.authority,))
    replies = ask(rig, (key, certificate, name), domain, by_value=False)
    assert any(isinstance(reply, Content) for reply in replies), replies
