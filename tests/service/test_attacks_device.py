"""A network attacker against a device: whatever comes instead of a revocation list is noise, and no fault.

What comes instead of certificates, chains, receipts and refusals is in `unit/test_device_wrong_answers.py`.
"""

import datetime as dt
import random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from protocol import c509
from protocol.errors import MalformedMessage, RequestRejected
from protocol.exchange.device_fetch import RevocationList, read_revocation_list
from protocol.path import Authority, verify_authority
from protocol.validity import Clock
from tests.world import NOW, World

CRL_NUMBER = bytes.fromhex("0603551d14")


@pytest.fixture(scope="module")
def authority() -> Authority:
    world = World()
    chain = c509.decode_chain(world.chain)
    return verify_authority(chain, root=world.root.certificate, authority=None, clock=Clock(NOW))


def when(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(NOW + seconds, dt.UTC)


def a_strangers_list() -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "TRL-M")])
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name)
        .last_update(when(0))
        .next_update(when(9999))
        .add_extension(x509.CRLNumber(3), critical=False)
        .add_extension(x509.IssuerAlternativeName([x509.DNSName("x.invalid")]), critical=False)
    )
    for serial in (5, 6):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when(0))
        reason = x509.CRLReason(x509.ReasonFlags.superseded)
        builder = builder.add_revoked_certificate(entry.add_extension(reason, critical=False).build())
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def read(data: bytes, authority: Authority) -> RevocationList:
    return read_revocation_list(data, authority, lowest_number=0, clock=Clock(NOW))


def test_a_list_with_any_byte_changed_raises_nothing_else(authority: Authority) -> None:
    whole, choose = a_strangers_list(), random.Random(7)
    for index in range(len(whole)):
        for value in {0, 1, 2, 0x7F, 0x80, 0xFF, *choose.sample(range(256), 6)}:
            changed = whole[:index] + bytes([value]) + whole[index + 1 :]
            with pytest.raises((MalformedMessage, RequestRejected)):
                read(changed, authority)


def test_a_list_cut_off_anywhere_raises_nothing_else(authority: Authority) -> None:
    whole = a_strangers_list()
    for size in range(len(whole)):
        with pytest.raises((MalformedMessage, RequestRejected)):
            read(whole[:size], authority)


def test_a_list_with_a_number_twice_raises_nothing_else(authority: Authority) -> None:
    """The other extension gets the number's name: three bytes of an identifier."""
    whole = a_strangers_list()
    doubled = whole.replace(bytes.fromhex("0603551d12"), CRL_NUMBER)
    assert doubled.count(CRL_NUMBER) == 2
    with pytest.raises((MalformedMessage, RequestRejected)):
        read(doubled, authority)
