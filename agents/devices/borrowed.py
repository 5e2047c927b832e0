"""A credential that an identity holds now, read beside whoever has its key store open.

A service's certificate is renewed by a process of its own (`trillium device rekey`), which has the lock.
Files are replaced as a whole, so reading them without it sees the one before or the one after.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_der_private_key

from agents.devices.bearer import first_owner
from agents.devices.identity import Identity, IdentityError
from agents.devices.keystore import TRUST, StoreError
from agents.devices.record import LabelRecord, TrustRecord
from agents.keys import SoftwareSigner
from protocol import c509
from protocol.errors import EnrollmentError, MalformedMessage
from protocol.path import BASIC_CONSTRAINTS, is_issued_by


@dataclass(frozen=True, slots=True)
class Loan:
    """Key and certificate in use, and the certificates above it."""

    signer: SoftwareSigner
    certificate: c509.Certificate
    above: tuple[c509.Certificate, ...]
    """The CA that issued it, then those above, without the root."""


class Borrowed:
    """One label of one identity.

    Args:
        folder: An identity folder.
        label: Whose current certificate it is about.
        passphrase: Of the private keys, if they are encrypted.

    Raises:
        IdentityError: Not an identity folder, or the passphrase is wrong.
    """

    def __init__(self, folder: Path, label: str, passphrase: bytes | None) -> None:
        self.identity: Final = Identity.load(folder)
        self.label: Final = label
        self.identity.bootstrap(passphrase)  # a wrong passphrase is told now, not when somebody needs it
        self._root = self.identity.root()
        self._first = first_owner(self.identity)
        self._passphrase = passphrase
        self._seen: tuple[object, ...] | None = None
        self._loan: Loan | None = None

    def look(self) -> Loan | None:
        """Return what is current; None where nothing is. Blocks on the disk, for as long as two stats take.

        Raises:
            StoreError: A file is damaged, or another passphrase opens its key.
            OSError: The disk failed.
        """
        seen = tuple(map(_stamp, (self._keys, self.identity.state / TRUST)))
        if seen != self._seen:
            self._loan = self._read()
            self._seen = seen
        return self._loan

    @property
    def _keys(self) -> Path:
        return self.identity.state / f"{self.label}.keys"

    def _read(self) -> Loan | None:
        trust = self._first
        try:
            if (self.identity.state / TRUST).exists():
                trust = TrustRecord.decode((self.identity.state / TRUST).read_bytes())
            current = LabelRecord.decode(self._keys.read_bytes()).current
        except FileNotFoundError:
            return None
        except MalformedMessage:
            raise StoreError(f"{self._keys} is damaged") from None
        if current is None or current.epoch != trust.epoch or trust.chain is None:
            return None
        try:
            key = load_der_private_key(current.key, self._passphrase)
        except (ValueError, TypeError):
            raise StoreError(f"{self._keys}: the passphrase is wrong or missing") from None
        if not isinstance(key, (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
            raise StoreError(f"{self._keys} is damaged")
        try:
            certificate = c509.decode_certificate(current.certificate)
            issuer, *above = _authorities(trust.chain)
            if not is_issued_by(certificate, issuer):
                return None  # its authority has another key by now: what it signs, nobody could follow up
        except (EnrollmentError, ValueError):
            raise StoreError(f"{self._keys} is damaged") from None
        path = tuple(one for one in (issuer, *above) if one.encoded != self._root.encoded)
        return Loan(SoftwareSigner(key, even_y=False), certificate, path)


def _authorities(chain: bytes) -> list[c509.Certificate]:
    return [one for one in c509.decode_chain(chain) if one.extension(BASIC_CONSTRAINTS) is not None]


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


__all__ = ["Borrowed", "IdentityError", "Loan", "StoreError"]
