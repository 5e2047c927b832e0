"""A device's identity folder: what the factory put into the device, read-only ever after.

| file            | what                                                                    |
|-----------------|-------------------------------------------------------------------------|
| identity.json   | device, label, domain, client_id, maker (hex)                           |
| bootstrap.key   | tier 1 private key, PEM PKCS#8, encrypted if the factory had a passphrase |
| bootstrap.c509  | tier 1 certificate, type 3; bootstrap.pem is the same as X.509          |
| root.c509       | the root above its authority; root.pem: what its TLS trusts, that first |
| v2g-root.c509   | cars: the root above the provisioning services that sign contract packages |
| voucher-key.der | the maker's public voucher key, SubjectPublicKeyInfo                    |
| voucher.cose    | the first voucher, epoch 0                                              |
| state/          | the key store (`agents.devices.keystore`)                               |
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_der_public_key

from agents.keys import SoftwareSigner, load_private_key
from protocol import c509
from protocol.cose import PublicKey
from protocol.errors import EnrollmentError
from protocol.exchange.device_effects import Credential
from protocol.identity import CLIENT_ID
from protocol.labels import Domain, Tier
from protocol.profiles import profile_of

IDENTITY: Final = "identity.json"
BOOTSTRAP_KEY: Final = "bootstrap.key"
BOOTSTRAP: Final = "bootstrap.c509"
BOOTSTRAP_PEM: Final = "bootstrap.pem"
ROOT: Final = "root.c509"
ROOT_PEM: Final = "root.pem"
VOUCHING_ROOT: Final = "v2g-root"
"""Stem of the file with the root above the services that vouch for contracts (.c509)."""
VOUCHER_KEY: Final = "voucher-key.der"
VOUCHER: Final = "voucher.cose"
STATE: Final = "state"


class IdentityError(ValueError):
    """The folder is no identity folder, or it cannot be used; the text is for people."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a device knows of itself before it has met anyone."""

    folder: Path
    device: str
    """The name that its tier 1 certificate proves."""
    label: str
    """Of the tier 1 certificate."""
    domain: Domain
    client_id: str
    """What it is called on topics."""
    maker: bytes
    """Key identifier of the CA that issued the tier 1 certificate, 32 bytes."""

    @classmethod
    def load(cls, folder: Path) -> "Identity":
        """Return the identity in `folder`.

        Raises:
            IdentityError: There is none.
        """
        try:
            record = json.loads((folder / IDENTITY).read_bytes())
            identity = cls(
                folder,
                record["device"],
                record["label"],
                Domain(record["domain"]),
                record["client_id"],
                bytes.fromhex(record["maker"]),
            )
            profile = profile_of(identity.label)
        except OSError as error:
            raise IdentityError(f"{folder} is no identity folder: {error.strerror or error}") from None
        except (ValueError, KeyError, TypeError, EnrollmentError):
            raise IdentityError(f"{folder / IDENTITY} is damaged") from None
        if profile.tier is not Tier.BOOTSTRAPPING or not CLIENT_ID.fullmatch(identity.client_id):
            raise IdentityError(f"{folder / IDENTITY} names no tier 1 identity")
        return identity

    @property
    def state(self) -> Path:
        """Where the key store is."""
        return self.folder / STATE

    def root(self) -> c509.Certificate:
        """Return the pinned root certificate; IdentityError if it cannot be read."""
        return self._certificate(ROOT)

    def vouching_root(self) -> c509.Certificate:
        """Return the pinned root of those who vouch for packages; IdentityError if it cannot be read."""
        return self._certificate(f"{VOUCHING_ROOT}.c509")

    def voucher_key(self) -> PublicKey:
        """Return the maker's pinned voucher key; IdentityError if it cannot be read."""
        try:
            key = load_der_public_key(self._read(VOUCHER_KEY))
        except ValueError:
            raise IdentityError(f"{self.folder / VOUCHER_KEY} is no public key") from None
        if not isinstance(key, (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)):
            raise IdentityError(f"{self.folder / VOUCHER_KEY} is a key that is not used here")
        return key

    def voucher(self) -> bytes:
        """Return the first voucher; IdentityError if it cannot be read."""
        return self._read(VOUCHER)

    def bootstrap(self, passphrase: bytes | None) -> Credential:
        """Return the tier 1 key and certificate.

        Raises:
            IdentityError: They cannot be read, or the passphrase is wrong.
        """
        certificate = self._certificate(BOOTSTRAP).encoded
        try:
            key = load_private_key(self.folder / BOOTSTRAP_KEY, passphrase)
        except (OSError, ValueError) as error:
            raise IdentityError(str(error)) from None
        return Credential(SoftwareSigner(key), certificate)

    def _certificate(self, name: str) -> c509.Certificate:
        try:
            return c509.decode_certificate(self._read(name))
        except EnrollmentError as error:
            raise IdentityError(f"{self.folder / name} is no certificate: {error}") from None

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise IdentityError(f"{self.folder / name}: {error.strerror or error}") from None
