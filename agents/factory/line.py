"""The assembly line: one device's key, certificate, voucher and files; what all have alike is made once."""

import json
from dataclasses import dataclass
from ssl import DER_cert_to_PEM_cert

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from agents.devices.identity import (
    BOOTSTRAP,
    BOOTSTRAP_KEY,
    BOOTSTRAP_PEM,
    IDENTITY,
    ROOT,
    ROOT_PEM,
    VOUCHER,
    VOUCHER_KEY,
)
from agents.factory.ledger import Record
from agents.factory.maker import MadeDevice, Maker
from agents.factory.manifest import Origin
from agents.factory.order import Item
from agents.factory.requests import point_of
from agents.keys import generate
from protocol import c509
from protocol.identity import client_id
from protocol.profiles import Profile
from protocol.voucher import Voucher, key_identifier


@dataclass(frozen=True, slots=True)
class Made:
    """A device, and the files that go with it."""

    record: Record
    device: MadeDevice
    files: dict[str, bytes]


class Line:
    """Makes devices of one label for one maker.

    Args:
        maker: Open for work.
        profile: Of the label.
        passphrase: Encrypts the devices' keys; None leaves them as they are.
    """

    def __init__(self, maker: Maker, profile: Profile, passphrase: bytes | None) -> None:
        self._maker = maker
        self._maker_id = maker.authority.key_id
        self._profile = profile
        self._encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        self._voucher_key_id = key_identifier(maker.voucher_key)
        self._path_pem = b"".join(_pem(certificate) for certificate in maker.path)
        self._common = {
            ROOT: maker.root.encoded,
            ROOT_PEM: b"".join(_pem(anchor) for anchor in maker.anchors),
            VOUCHER_KEY: maker.voucher_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        } | {f"{stem}.c509": anchor.encoded for stem, anchor in maker.more_anchors.items()}

    def make(self, item: Item) -> Made:
        """Make one device; its key too, unless it has one of its own."""
        name, profile = item.name, self._profile
        files: dict[str, bytes] = {}
        point = item.key
        if point is None:
            key = generate(profile.algorithms[0])
            point = point_of(key.public_key())
            files[BOOTSTRAP_KEY] = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, self._encryption)
        certificate = self._maker.issue(profile, name, point)
        voucher = Voucher.issue(
            self._maker.voucher_signer, self._voucher_key_id, name, self._maker.owner, epoch=0
        )
        identifier = client_id(self._maker_id, name)
        identity = {
            "device": name,
            "label": profile.label,
            "domain": profile.domain.value,
            "client_id": identifier,
            "maker": self._maker_id.hex(),
        }
        files |= {
            BOOTSTRAP: certificate.encoded,
            # With the CAs above it, as TLS wants to show it.
            BOOTSTRAP_PEM: _pem(certificate) + self._path_pem,
            **self._common,
            VOUCHER: voucher.encoded,
            IDENTITY: json.dumps(identity, indent=1).encode(),
        }
        origin = Origin.FACTORY if item.key is None else Origin.DEVICE
        return Made(
            Record(name, identifier, origin, item.serial, item.client, certificate.encoded),
            MadeDevice(name, profile.label, certificate, identifier),
            files,
        )


def _pem(certificate: c509.Certificate) -> bytes:
    return DER_cert_to_PEM_cert(certificate.to_der()).encode()
