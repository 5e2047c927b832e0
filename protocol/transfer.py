"""Transfer bundles: what the next owner's authority is told of the devices that it gets.

    COSE_Sign1({1: alg, 4: kid}, payload, aad = ["transfer"])
    payload  [1, domain, from (32 bytes), to (32 bytes), chain, makers, approved by, time, devices]
    chain    the old owner's certificates, as `crts` has them; the last one is the signer's
    makers   [the path of one manufacturer CA: it first, its root not included, …]
    devices  [[name, label, client-id, epoch, voucher, tier 1 certificate, number of its maker], …]

Signed by the registration key of the old owner, whose certificate is in the chain; kid is the first 8 bytes
of SHA-256 of its SubjectPublicKeyInfo. `from` and `to` are key identifiers of issuing CAs. Nothing in a
bundle is secret: it opens nothing to anybody but the authority that its vouchers name.
"""

from dataclasses import dataclass
from typing import Any, Final, cast

from protocol import cbor
from protocol.cose import PublicKey, Sign1, decode_sign1, is_signature_valid
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.identity import CLIENT_ID
from protocol.labels import Domain
from protocol.signing import Signer, sign1
from protocol.voucher import AUTHORITY_BYTES, key_identifier

MAX_DEVICES: Final = 10_000
"""Devices in one bundle: some eight megabytes, which a person can still mail."""
MAX_BYTES: Final = 32 << 20
"""Longest bundle in bytes: the longest names and certificates, on the longest curve."""
MAX_MAKERS: Final = 64
MAX_TEXT_CHARS: Final = 64
"""Of who approved."""
_AAD: Final = cbor.encode(["transfer"])
_VERSION: Final = 1
_MEMBERS: Final[list[type]] = [int, str, bytes, bytes, bytes, list, str, int, list]
_ROW: Final[list[type]] = [str, str, str, int, bytes, bytes, int]


@dataclass(frozen=True, slots=True)
class TransferredDevice:
    """One device on its way."""

    name: str
    label: str
    """Of its tier 1 certificate."""
    client_id: str
    epoch: int
    """In which the receiver owns it, > 0."""
    voucher: bytes
    """Names the receiver."""
    certificate: bytes
    """Tier 1, C509."""
    maker: int
    """Which of the bundle's makers issued it."""


@dataclass(frozen=True, slots=True)
class TransferBundle:
    """What is said of devices that change their owner; believed only after `verify`."""

    domain: Domain
    giver: bytes
    """Key identifier of the old owner's CA, 32 bytes."""
    receiver: bytes
    """Key identifier of the new owner's CA, 32 bytes."""
    chain: bytes
    """COSE_C509 of the old owner, registration certificate last."""
    makers: tuple[bytes, ...]
    """COSE_C509 each: a manufacturer CA and what is between it and its root."""
    approved_by: str
    time: int
    """POSIX seconds, by the giver's clock; for people only."""
    devices: tuple[TransferredDevice, ...]

    def sign(self, signer: Signer, key_id: bytes) -> bytes:
        """Return the bundle.

        Args:
            signer: The registration key of the old owner.
            key_id: Its key identifier, 32 bytes.
        """
        head = [_VERSION, self.domain.value, self.giver, self.receiver, self.chain, list(self.makers)]
        rows = [
            [one.name, one.label, one.client_id, one.epoch, one.voucher, one.certificate, one.maker]
            for one in self.devices
        ]
        payload = cbor.encode([*head, self.approved_by, self.time, rows])
        return sign1(signer, payload, _AAD, key_id=key_id[:8])


def decode_bundle(data: bytes) -> tuple[Sign1, TransferBundle]:
    """Return the signed object and what is in it; nothing of it is believed yet.

    Raises:
        MalformedMessage: Not a transfer bundle.
    """
    signed = decode_sign1(data, max_bytes=MAX_BYTES)
    members = cbor.decode_array(signed.payload, len(_MEMBERS), max_bytes=MAX_BYTES)
    version, domain, giver, receiver, chain, makers, approved_by, time, rows = members
    if (
        [type(member) for member in members] != _MEMBERS
        or version != _VERSION
        or domain not in set(Domain)
        or not len(giver) == len(receiver) == AUTHORITY_BYTES
        or len(makers) > MAX_MAKERS
        or any(type(maker) is not bytes for maker in makers)
        or len(approved_by) > MAX_TEXT_CHARS
        or len(rows) > MAX_DEVICES
    ):
        raise MalformedMessage("not a transfer bundle")
    devices = tuple(_device(row, len(makers)) for row in rows)
    bundle = TransferBundle(Domain(domain), giver, receiver, chain, tuple(makers), approved_by, time, devices)
    return signed, bundle


def _device(row: Any, makers: int) -> TransferredDevice:  # noqa: ANN401 (a decoded item)
    if type(row) is not list or [type(member) for member in cast("list[object]", row)] != _ROW:
        raise MalformedMessage("not a device of a transfer bundle")
    name, label, client_id, epoch, voucher, certificate, maker = cast("list[Any]", row)
    if epoch < 1 or not 0 <= maker < makers or not CLIENT_ID.fullmatch(client_id):
        raise MalformedMessage("not a device of a transfer bundle")
    return TransferredDevice(name, label, client_id, epoch, voucher, certificate, maker)


def verify_bundle(signed: Sign1, key: PublicKey) -> None:
    """Check that a registration key signed a bundle.

    Raises:
        RequestRejected: Another key did, or none.
    """
    if key_identifier(key)[:8] != signed.header.key_id or not is_signature_valid(
        key, signed.header.algorithm, signed.signature, signed.signed_bytes(_AAD)
    ):
        raise RequestRejected(ProblemKind.BAD_SIGNATURE, "the bundle is not signed by its giver")
