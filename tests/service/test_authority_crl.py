"""Revocation lists: what is on them, how they are numbered, and that others can read them."""

import datetime as dt
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from agents.authority import Store, revoke
from agents.authority.crl import encode_entry, encode_list
from agents.keys import generate
from protocol import c509
from protocol.cose import Algorithm
from protocol.exchange.request import RevocationReason
from protocol.labels import Domain, Operation
from protocol.ports import Content, Inbound, Media
from tests.rig import NOW, Device, Rig, certificate_of, new_key, open_rig, rig_in

DAY = 24 * 3600
HASHES: dict[Algorithm, hashes.SHA256 | hashes.SHA384 | hashes.SHA512] = {
    Algorithm.ES256: hashes.SHA256(),
    Algorithm.ES384: hashes.SHA384(),
    Algorithm.ES512: hashes.SHA512(),
}
YEAR = 365 * DAY
REASONS = {reason: x509.ReasonFlags(value) for reason, value in {
    1: "keyCompromise", 2: "cACompromise", 3: "affiliationChanged", 4: "superseded",
    5: "cessationOfOperation", 6: "certificateHold", 9: "privilegeWithdrawn",
}.items()}  # fmt: skip


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with rig_in(tmp_path) as opened:
        yield opened


def current(rig: Rig, domain: Domain = Domain.METERING) -> x509.CertificateRevocationList:
    revocations = rig.agent._revocations[domain]
    revocations._not_again_before = 0.0  # in tests things happen faster than lists may be built
    found = x509.load_der_x509_crl(revocations.current(int(rig.clock())).encoded)
    assert found.is_signature_valid(
        rig.agent.authorities[domain].issuer.certificate.load_public_key()  # type: ignore[arg-type]
    )
    return found


def number(found: x509.CertificateRevocationList) -> int:
    return found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def reasons(found: x509.CertificateRevocationList) -> dict[int, str]:
    """Return why, by serial number."""
    listed: dict[int, str] = {}
    for entry in found:
        why = [e.value.reason.name for e in entry.extensions if isinstance(e.value, x509.CRLReason)]
        listed[entry.serial_number] = why[0] if why else "unspecified"
    return listed


def serial(certificate: bytes) -> int:
    return c509.decode_certificate(certificate).serial_number


def held(device: Device) -> bytes:
    return device.credentials[device.label][1]


@given(
    st.lists(
        st.tuples(st.integers(1, 2**63 - 1), st.integers(0, 4102444800), st.sampled_from([0, *REASONS])),
        max_size=20,
        unique_by=lambda entry: entry[0],
    ),
    st.integers(1, 2**64),
    st.none() | st.integers(0, 2**64),
    st.sampled_from(list(HASHES)),
)
def test_a_list_is_what_cryptography_would_have_made(
    entries: list[tuple[int, int, int]], crl_number: int, base: int | None, algorithm: Algorithm
) -> None:
    key = generate(algorithm)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest
    made = encode_list(
        key,
        c509.Name.common_name("TRL-M"),
        identifier,
        number=crl_number,
        this_update=NOW,
        next_update=NOW + DAY,
        entries=[
            encode_entry(serial.to_bytes((serial.bit_length() + 7) // 8, "big"), at, reason)
            for serial, at, reason in entries
        ],
        base=base,
    )
    start = dt.datetime.fromtimestamp(NOW, dt.UTC)
    listed = []
    for serial_number, at, reason in entries:
        entry = x509.RevokedCertificateBuilder(serial_number, dt.datetime.fromtimestamp(at, dt.UTC))
        if reason:
            entry = entry.add_extension(x509.CRLReason(REASONS[reason]), critical=False)
        listed.append(entry.build())
    builder = (
        x509.CertificateRevocationListBuilder(
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "TRL-M")]),
            start,
            start + dt.timedelta(days=1),
            revoked_certificates=listed,
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.CRLNumber(crl_number), critical=False)
    )
    if base is not None:
        builder = builder.add_extension(x509.DeltaCRLIndicator(base), critical=True)
    expected = builder.sign(key, HASHES[algorithm])
    loaded = x509.load_der_x509_crl(made)
    assert loaded.tbs_certlist_bytes == expected.tbs_certlist_bytes
    assert loaded.is_signature_valid(key.public_key())


def test_whatever_ended_is_listed_with_its_reason(rig: Rig) -> None:
    device, other = rig.enrolled(), rig.enrolled()
    assert reasons(current(rig)) == {}
    old = held(device)
    void = certificate_of(rig.ask(device.enroll(new_key(), op=Operation.SREN)))
    key = new_key()
    new = certificate_of(rig.ask(device.enroll(key, op=Operation.SREN)))
    rig.ask(device.holding("meter-ds", key, new).confirm(new))
    revoke(rig.agent.store, other.name, RevocationReason.KEY_COMPROMISE, NOW)
    assert reasons(current(rig)) == {
        serial(old): "superseded",
        serial(void): "superseded",
        serial(held(other)): "key_compromise",
    }
    assert reasons(current(rig, Domain.ITS)) == {}, "another authority's list"


def test_a_retired_certificate_whose_key_turns_out_stolen_is_listed_anew(rig: Rig) -> None:
    device = rig.enrolled()
    old, key = held(device), new_key()
    new = certificate_of(rig.ask(device.enroll(key, op=Operation.SREN)))
    rig.ask(device.holding("meter-ds", key, new).confirm(new))
    assert reasons(current(rig)) == {serial(old): "superseded"}
    word = c509.decode_certificate(old).serial.hex()
    revoke(rig.agent.store, word, RevocationReason.KEY_COMPROMISE, NOW)
    assert reasons(current(rig)) == {serial(old): "key_compromise", serial(new): "key_compromise"}


def test_the_number_only_grows_and_only_with_a_new_list(tmp_path: Path) -> None:
    with rig_in(tmp_path) as rig:
        directory, clock = rig.directory, rig.clock
        first = current(rig)
        rig.enrolled()
        assert current(rig) == first, "nothing ended"
        revoke(rig.agent.store, rig.enrolled().name, RevocationReason.UNSPECIFIED, NOW)
        second = current(rig)
        assert number(second) == number(first) + 1
    with rig_in(tmp_path, directory=directory, clock=clock) as rig:
        assert current(rig) == second, "kept over a restart"
        clock.now += DAY
        third = current(rig)
        assert number(third) == number(second) + 1, "a list is made anew before it grows old"
        assert reasons(third) == reasons(second)


def test_an_expired_certificate_leaves_the_list_a_day_later(rig: Rig) -> None:
    device = rig.enrolled()
    revoke(rig.agent.store, device.name, RevocationReason.UNSPECIFIED, NOW)
    end = c509.decode_certificate(held(device)).not_after
    assert end is not None
    rig.clock.now = end + 3600
    assert serial(held(device)) in reasons(current(rig))
    rig.clock.now = end + 2 * DAY
    assert reasons(current(rig)) == {}


def test_building_takes_no_more_than_its_share_of_the_time(rig: Rig) -> None:
    revocations = rig.agent._revocations[Domain.METERING]
    first = revocations.current(NOW)
    revocations._not_again_before = float("inf")  # a long build ended just now
    revoke(rig.agent.store, rig.enrolled().name, RevocationReason.UNSPECIFIED, NOW)
    assert revocations.current(NOW) == first
    assert number(current(rig)) == first.number + 1


async def test_the_list_is_served_and_published_also_when_another_process_revokes(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        inbound = Inbound("meter-ds", Operation.CRL, b"", "test:1")
        before = await rig.agent.handle(inbound)
        device = rig.device()
        certificate_of(await rig.agent.handle(device.enroll(new_key())))
        store = Store(rig.directory / "store.sqlite")
        revoke(store, device.name, RevocationReason.KEY_COMPROMISE, NOW)
        store.close()
        rig.agent._crl_seen.clear()
        rig.agent._revocations[Domain.METERING]._not_again_before = 0.0
        after = await rig.agent.handle(inbound)
        assert isinstance(before, Content)
        assert isinstance(after, Content)
        assert after.media is Media.PKIX_CRL
        assert after.etag != before.etag
        assert len(reasons(x509.load_der_x509_crl(after.body))) == 1
        assert (rig.directory / "crl/metering.crl").read_bytes() == after.body


@pytest.mark.outside
def test_openssl_reads_and_verifies_the_list(rig: Rig) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    revoke(rig.agent.store, rig.enrolled().name, RevocationReason.KEY_COMPROMISE, NOW)
    current(rig)
    folder = rig.directory / "certificates"
    command = ["openssl", "crl", "-inform", "DER", "-in", str(rig.directory / "crl/metering.crl")]
    command += ["-noout", "-text", "-CAfile", str(folder / "metering-operator.pem")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "verify OK" in done.stderr
    assert "Key Compromise" in done.stdout
