"""Keys, certificates and packages of ISO 15118 for tests: a car, a contract, a provisioning service."""

import datetime as dt
import hashlib
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from agents.keys import SoftwareSigner
from protocol.ev import CpsPackage, Edition, Installation, WrappedKey, request_digest, wrap2, wrap20
from protocol.ev.agreement import encode_point

EMAID: Final = "DE83DUIEN83QGZD"
PCID: Final = "TRL000000000000012"
REQUEST: Final = request_digest(b"a signed request")
LABELS: Final = {Edition.PART_2: "ev-contract", Edition.PART_20: "ev20-contract"}
_BEGIN: Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def new_key(edition: Edition) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(edition.group.curve)


def key_identifier(key: ec.EllipticCurvePublicKey) -> bytes:
    return hashlib.sha256(encode_point(key)).digest()[:8]


def certificate(
    names: tuple[str, ...],
    key: ec.EllipticCurvePublicKey,
    issuer: ec.EllipticCurvePrivateKey,
    *,
    component: str | None = None,
    identifier: bytes | None = b"",
) -> bytes:
    """Return a DER certificate; `identifier` empty: 8 bytes made from the key, None: without."""
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names]
    attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Trillium"))
    if component is not None:
        attributes.append(x509.NameAttribute(NameOID.DOMAIN_COMPONENT, component))
    digest = hashes.SHA256() if issuer.curve.key_size == 256 else hashes.SHA512()
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sub-CA2")]))
        .public_key(key)
        .serial_number(0x1122334455667788)
        .not_valid_before(_BEGIN)
        .not_valid_after(_BEGIN + dt.timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if identifier is not None:
        ski = x509.SubjectKeyIdentifier(identifier or key_identifier(key))
        builder = builder.add_extension(ski, critical=False)
    return builder.sign(issuer, digest).public_bytes(Encoding.DER)


@dataclass(frozen=True)
class Contract:
    """One contract on its way to one car; override one thing with `replace`."""

    edition: Edition
    car: ec.EllipticCurvePrivateKey
    """The key of its provisioning certificate."""
    key: ec.EllipticCurvePrivateKey
    issuer: ec.EllipticCurvePrivateKey
    cps: ec.EllipticCurvePrivateKey
    chain: tuple[bytes, ...]
    cps_chain: tuple[bytes, ...]
    wrapped: WrappedKey

    @property
    def label(self) -> str:
        return LABELS[self.edition]

    @property
    def name(self) -> str:
        return EMAID if self.edition is Edition.PART_2 else PCID

    @property
    def pcid(self) -> str | None:
        return None if self.edition is Edition.PART_2 else PCID

    def installation(self) -> Installation:
        return Installation(self.edition, self.chain, self.wrapped, self.name)

    def package(self, installation: Installation | None = None) -> CpsPackage:
        return CpsPackage.sign(
            installation or self.installation(),
            request=REQUEST,
            label=self.label,
            signer=SoftwareSigner(self.cps),
            cps_chain=self.cps_chain,
        )

    def with_leaf(self, leaf: bytes) -> "Contract":
        return replace(self, chain=(leaf, *self.chain[1:]))


@cache
def contract(edition: Edition) -> Contract:
    """Return the contract that tests begin with; the same in a whole run."""
    car, key, issuer, cps, ephemeral = (new_key(edition) for _ in range(5))
    sub_ca = certificate(("Sub-CA2",), issuer.public_key(), issuer)
    leaf = certificate((EMAID,), key.public_key(), issuer)
    cps_leaf = certificate(("cps-1",), cps.public_key(), issuer, component="CPS")
    if edition is Edition.PART_2:
        wrapped = wrap2.wrap(key, car.public_key(), ephemeral=ephemeral, iv=bytes(range(16)))
    else:
        wrapped = wrap20.wrap(
            key,
            car.public_key(),
            ephemeral=ephemeral,
            iv=bytes(range(12)),
            pcid=PCID,
            key_identifier=key_identifier(key.public_key()),
        )
    return Contract(edition, car, key, issuer, cps, (leaf, sub_ca), (cps_leaf, sub_ca), wrapped)
