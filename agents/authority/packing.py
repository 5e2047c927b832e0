"""Making a contract: key pair, certificate, wrapped key; and the package that a service signs around them.

The private key lives here, for the length of one call, in a worker thread. What leaves is the certificate and
the key wrapped to its recipient. What Python and OpenSSL let us overwrite is overwritten (docs/ev.md says
what that is); nothing is written anywhere, and no copy is kept.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agents.authority.domain import DomainAuthority
from agents.authority.issuer import ToBeIssued
from agents.keys import generate
from protocol import c509, cbor
from protocol.end_entity import key_identifier
from protocol.ev import CpsPackage, Edition, Installation, WrappedKey, bound_exi, wrap2, wrap20
from protocol.profiles import Profile
from protocol.signing import Signer


@dataclass(frozen=True, slots=True)
class Vouching:
    """Who signs packages now."""

    signer: Signer
    chain: tuple[bytes, ...]
    """DER: the signer's certificate, then the CAs above it, without the root."""
    thumbprint: bytes
    """c5t of the signer's certificate, 8 bytes."""


Services = Mapping[str, Callable[[int], Vouching | None]]
"""By the label of their certificates: returns who signs at this POSIX second; None: nobody can."""
NO_SERVICES: Final[Services] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Draft:
    """What the certificate of a generated key will say, and to whose key that is wrapped."""

    profile: Profile
    name: str
    """Granted: the eMAID."""
    device: str
    """The device's own: the PCID."""
    serial: bytes
    not_before: int
    not_after: int | None
    recipient: bytes
    """SEC1 point of the key that the new one is wrapped to."""


@dataclass(frozen=True, slots=True)
class Made:
    """A certificate with its wrapped key; nothing in it is secret but what is encrypted."""

    certificate: bytes
    """C509, type 3."""
    installation: Installation

    @property
    def point(self) -> bytes:
        """The certified key, an uncompressed SEC1 point."""
        return self.installation.certified_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def encode_installation(installation: Installation) -> bytes:
    """Return the bytes that `decode_installation` reads."""
    return cbor.encode(installation.to_item())


def decode_installation(data: bytes) -> Installation:
    """Return an installation that this store wrote."""
    return Installation.decode(cbor.decode(data, max_bytes=_MAX_STORED))


_MAX_STORED: Final = 16 * 1024


def chain_of(authority: DomainAuthority) -> tuple[bytes, ...]:
    """Return the DER of the CAs that go with a leaf: the issuer and those above it, without the root."""
    return tuple(
        certificate.to_der()
        for certificate in authority.chain
        if certificate.is_ca and certificate.encoded != authority.root.encoded
    )


def make(authority: DomainAuthority, draft: Draft) -> Made:
    """Return a new certificate with its key, wrapped to the recipient.

    Raises:
        RequestRejected: The recipient's key, or the device's name, is none that keys can be wrapped to.
        ValueError: The certificate would be longer than relying parties read.
    """
    profile = draft.profile
    algorithm = profile.algorithms[0]
    edition = Edition.of(algorithm)
    curve = edition.group.curve
    recipient = ec.EllipticCurvePublicKey.from_encoded_point(curve, draft.recipient)
    key = generate(algorithm)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    encoded = authority.issuer.issue(
        ToBeIssued(profile, draft.serial, draft.name, draft.not_before, draft.not_after, algorithm, point)
    )
    ephemeral = ec.generate_private_key(curve)
    wrapped: WrappedKey
    if edition is Edition.PART_2:
        iv = secrets.token_bytes(wrap2.IV_BYTES)
        wrapped = wrap2.wrap(key, recipient, ephemeral=ephemeral, iv=iv)
        name = draft.name
    else:
        identifier = key_identifier(point, profile.key_identifier_bytes)
        iv = secrets.token_bytes(wrap20.IV_BYTES)
        wrapped = wrap20.wrap(
            key, recipient, ephemeral=ephemeral, iv=iv, pcid=draft.device, key_identifier=identifier
        )
        name = draft.device
    del key, ephemeral
    leaf = c509.decode_certificate(encoded).to_der()
    return Made(encoded, Installation(edition, (leaf, *chain_of(authority)), wrapped, name))


def characters_of(installation: Installation, vouching: Vouching | None) -> int | None:
    """Return how long the package can be as EXI in base64; None where that is not known."""
    if vouching is None or installation.edition is not Edition.PART_2:
        return None
    return bound_exi(installation, vouching.chain).base64_characters


def pack(installation: Installation, vouching: Vouching, *, request: bytes, label: str) -> bytes:
    """Return the package that answers one request, signed.

    Args:
        installation: As it was made.
        vouching: Who signs.
        request: SHA-256 of the request, 32 bytes.
        label: That was asked for.
    """
    package = CpsPackage.sign(
        installation, request=request, label=label, signer=vouching.signer, cps_chain=vouching.chain
    )
    return package.encode()
