"""ISO 15118-20: critical key identifiers, closed extension sets, P-521."""

from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocol.c509 import der
from protocol.validator import PathRejected, Reason
from tests.ev_policies import CONTRACT_20, CPS_20, SECC_2, SECC_20, accept, reasons
from tests.ev_world import PART_20, EvWorld, Party


@pytest.fixture(scope="module")
def world() -> EvWorld:
    return EvWorld(PART_20)


def test_conforming_paths_are_taken_that_openssl_and_cryptography_refuse(world: EvWorld) -> None:
    assert len(accept(world, world.secc(), SECC_20).certificates) == 4
    assert accept(world, world.cps(), CPS_20)
    assert accept(world, world.contract(), CONTRACT_20)


def test_no_to_three_sub_cas_are_a_matter_of_policy(world: EvWorld) -> None:
    subs: list[Party] = [world.v2g]
    for length in (2, 1, 0):
        subs.append(subs[-1].ca(f"Deep {length}", length))
    pool = [sub.certificate for sub in subs[1:]]
    assert len(accept(world, world.secc(subs[3]), SECC_20, pool=pool).certificates) == 5
    alone = replace(SECC_20, min_intermediates=0, max_intermediates=0)
    assert len(accept(world, world.secc(world.v2g), alone, pool=pool).certificates) == 2


def test_one_station_needs_two_leaves(world: EvWorld) -> None:
    part_2 = EvWorld()
    both = {"pool": [*world.cas, *part_2.cas], "roots": [*world.roots, *part_2.roots]}
    assert accept(world, world.secc(), SECC_20, **dict(both))
    assert accept(world, part_2.secc(), SECC_2, **dict(both))
    assert Reason.ROLE in reasons(world, world.secc(), SECC_2, **dict(both))
    assert Reason.ROLE in reasons(world, part_2.secc(), SECC_20, **dict(both))


P521_ORDER = int(
    "1fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa"
    "51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
    16,
)
OWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.32473.1"), b"\x05\x00")


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"is_critical": False}, Reason.CRITICALITY),
        ({"extra": ((OWN, False),)}, Reason.EXTENSION_FORBIDDEN),
        ({"extra": ((OWN, True),)}, Reason.EXTENSION_FORBIDDEN),
        (
            {"without": frozenset({x509.CRLDistributionPoints, x509.AuthorityInformationAccess})},
            Reason.EXTENSION_MISSING,
        ),
        ({"without": frozenset({x509.SubjectKeyIdentifier})}, Reason.EXTENSION_MISSING),
        ({"without": frozenset({x509.AuthorityKeyIdentifier})}, Reason.EXTENSION_MISSING),
        ({"identifier": bytes(range(20))}, Reason.KEY_IDENTIFIER),
        ({"usages": ("digital_signature", "data_encipherment")}, Reason.KEY_USAGE),
        ({"usages": ("key_agreement",)}, Reason.KEY_USAGE),
        ({"usages": ("digital_signature", "crl_sign")}, Reason.KEY_USAGE),
        ({"more_names": (x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "X"),)}, Reason.SUBJECT),
        ({"more_names": (x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Y"),)}, Reason.SUBJECT),
        ({"organisation": None}, Reason.SUBJECT),
        ({"role": "MO"}, Reason.SUBJECT),
        ({"pointer_path": "x" * 1100}, Reason.TOO_LARGE),
    ],
)
def test_a_contract_has_the_form_of_its_table(world: EvWorld, wish: dict[str, Any], reason: Reason) -> None:
    assert reasons(world, world.contract(**wish), CONTRACT_20) == {reason}


def test_a_contract_has_no_extended_key_usage(world: EvWorld) -> None:
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    found = reasons(world, world.contract(extra=((purpose, False),)), CONTRACT_20)
    assert found == {Reason.EXTENSION_FORBIDDEN, Reason.EXTENDED_KEY_USAGE}


def test_either_place_of_revocation_data_will_do(world: EvWorld) -> None:
    for kind in (x509.CRLDistributionPoints, x509.AuthorityInformationAccess):
        assert accept(world, world.contract(without=frozenset({kind})), CONTRACT_20)


def test_the_role_of_part_2_is_not_the_role_of_part_20(world: EvWorld) -> None:
    assert reasons(world, world.secc(role="CPO"), SECC_20) == {Reason.ROLE}


def test_a_sub_ca_with_an_extension_too_many_is_refused(world: EvWorld) -> None:
    sub = world.v2g.ca("Odd", 0, extra=((OWN, False),))
    with pytest.raises(PathRejected, match="V2G20-2686") as caught:
        accept(world, world.secc(sub), SECC_20, pool=[sub.certificate])
    assert caught.value.reasons == {Reason.EXTENSION_FORBIDDEN}
    assert "CA 1 above the leaf (CN=Odd" in str(caught.value)


def test_everything_that_is_wrong_with_a_leaf_is_said_at_once(world: EvWorld) -> None:
    leaf = world.contract(cn="x", identifier=bytes(20), usages=("crl_sign",), is_critical=False)
    assert reasons(world, leaf, CONTRACT_20) == {
        Reason.SUBJECT,
        Reason.KEY_IDENTIFIER,
        Reason.KEY_USAGE,
        Reason.CRITICALITY,
    }


def test_a_p521_signature_of_short_numbers_is_as_good_as_another(world: EvWorld) -> None:
    """X.509 has no fixed length of r and s, so C509 may hold both in fewer octets than the curve's order."""
    nonce = 1
    while True:  # one nonce in 512 has an r of 64 octets
        nonce += 1
        x = ec.derive_private_key(nonce, ec.SECP521R1()).public_key().public_numbers().x
        if x.bit_length() <= 511:
            break
    unsigned = world.secc()
    tbs = unsigned.x509.tbs_certificate_bytes
    digest = hashes.Hash(hashes.SHA512())
    digest.update(tbs)
    s = 0x1234567
    # With r, s and the nonce chosen, the key that made them follows.
    secret = (s * nonce - int.from_bytes(digest.finalize(), "big")) * pow(x, -1, P521_ORDER) % P521_ORDER
    signer = ec.derive_private_key(secret, ec.SECP521R1())
    signature = encode_dss_signature(x, s)
    ca = world.cpo1.ca("CPO Sub2", 0, role="V2G", country="DE", key=signer, identifier=world.cpo2.identifier)
    signed = der.sequence(
        tbs,
        der.sequence(der.tlv(6, der.oid_from_text("1.2.840.10045.4.3.4"))),
        der.bit_string(signature),
    )
    leaf = Party(unsigned.key, x509.load_der_x509_certificate(signed), unsigned.identifier, world.style)
    assert len(leaf.certificate.signature) == 128
    pool = [ca.certificate, world.cpo1.certificate]
    assert accept(world, leaf, SECC_20, pool=pool)
