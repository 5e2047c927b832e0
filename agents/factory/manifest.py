"""What a batch contains, signed by its maker.

    COSE_Sign1({1: alg, 4: kid}, payload, aad = ["manifest"])
    payload = [2, label, maker (32 bytes), owner (32 bytes),
               [[device name, client-id, SHA-256 of the certificate, origin of the key, serial, client], …]]

kid is the first 8 bytes of the voucher key's identifier; maker is the key identifier of the CA that issued
the certificates, owner that of the authority which the devices' first vouchers name. `manifest.json` beside
it says the same for people; nothing reads it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, cast

from protocol import cbor
from protocol.cose import PublicKey, decode_sign1, is_signature_valid
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.identity import client_id
from protocol.labels import Tier
from protocol.profiles import PROFILES
from protocol.signing import Signer, sign1
from protocol.voucher import AUTHORITY_BYTES, key_identifier

MAX_MANIFEST_BYTES: Final = 1 << 28
"""A million devices."""
VERSION: Final = 2
_AAD: Final = cbor.encode(["manifest"])
_DIGEST_BYTES: Final = 32


class Origin(IntEnum):
    """Where a device's key was made."""

    FACTORY = 0
    """Here, and put into the device."""
    DEVICE = 1
    """In the device, which proved to hold it by a request."""


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One device of a batch."""

    device: str
    client_id: str
    digest: bytes
    """SHA-256 of the tier 1 certificate in its C509 form, 32 bytes."""
    origin: Origin = Origin.FACTORY
    serial: str = ""
    """What the maker calls it besides; a remark."""
    client: str = ""
    """For whom it was made; a remark."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A batch as its maker signed it."""

    label: str
    maker: bytes
    """Key identifier of the CA that issued the certificates, 32 bytes."""
    owner: bytes
    """Key identifier of the authority that the first vouchers name, 32 bytes."""
    entries: tuple[ManifestEntry, ...]


def write_manifest(
    signer: Signer, key: PublicKey, label: str, maker: bytes, owner: bytes, entries: Iterable[ManifestEntry]
) -> bytes:
    """Return the signed manifest of a batch.

    Args:
        signer: The maker's voucher key.
        key: Its public half.
        label: Of the tier 1 certificates.
        maker: As `Manifest.maker`.
        owner: As `Manifest.owner`.
        entries: In any order, no device twice.
    """
    # Joined, not nested: as objects a hundred thousand devices would take ten times the room.
    listed = [
        cbor.encode([e.device, e.client_id, e.digest, int(e.origin), e.serial, e.client]) for e in entries
    ]
    head = [_array_of(5), *map(cbor.encode, (VERSION, label, maker, owner)), _array_of(len(listed))]
    return sign1(signer, b"".join((*head, *listed)), _AAD, key_id=key_identifier(key)[:8])


def _array_of(count: int) -> bytes:
    """Return the head of an array: that of a number, with major type 4 (RFC 8949 §3.1)."""
    first, *rest = cbor.encode(count)
    return bytes((first | 0x80, *rest))


def read_manifest(data: bytes, key: PublicKey) -> Manifest:
    """Return what is in a manifest that the voucher key signed.

    Raises:
        MalformedMessage: Not a manifest.
        RequestRejected: Signed by another key; or it is no more what was signed.
    """
    signed = decode_sign1(data, max_bytes=MAX_MANIFEST_BYTES)
    if signed.header.key_id != key_identifier(key)[:8] or not is_signature_valid(
        key, signed.header.algorithm, signed.signature, signed.signed_bytes(_AAD)
    ):
        raise RequestRejected(ProblemKind.BAD_SIGNATURE, "the manifest is not what this maker signed")
    return manifest_of(cbor.decode(signed.payload, max_bytes=MAX_MANIFEST_BYTES))


def manifest_of(item: object) -> Manifest:
    """Return the manifest that a decoded payload is.

    Raises:
        MalformedMessage: It is none.
    """
    match item:
        case [int(version), str(label), bytes(maker), bytes(owner), list()] if (
            version == VERSION and len(maker) == len(owner) == AUTHORITY_BYTES
        ):
            profile = PROFILES.get(label)
            if profile is None or profile.tier is not Tier.BOOTSTRAPPING:
                raise MalformedMessage("a manifest of a label that no factory makes")
            entries = tuple(_entry(one, maker) for one in cast("list[Any]", item)[4])
        case _:
            raise MalformedMessage(f"not a manifest of version {VERSION}")
    if len({entry.device for entry in entries}) != len(entries):
        raise MalformedMessage("a manifest names a device twice")
    return Manifest(label, maker, owner, entries)


def _entry(item: Any, maker: bytes) -> ManifestEntry:  # noqa: ANN401 (a decoded item)
    match item:
        case [str(device), str(identifier), bytes(digest), int(origin), str(serial), str(client)] if (
            len(digest) == _DIGEST_BYTES and origin in set(Origin) and identifier == client_id(maker, device)
        ):
            return ManifestEntry(device, identifier, digest, Origin(origin), serial, client)
        case _:
            raise MalformedMessage(
                "a manifest's entry is [device name, client-id, digest, origin, serial, client]"
            )
