"""What a batch contains, signed by its maker.

    COSE_Sign1({1: alg, 4: kid}, payload = [[device name, client-id, SHA-256 of the certificate], …],
               aad = ["manifest", label])

kid is the first 8 bytes of the voucher key's identifier. `manifest.json` beside it says the same for people;
nothing reads it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from protocol import cbor
from protocol.cose import PublicKey, decode_sign1, is_signature_valid
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.signing import Signer, sign1
from protocol.voucher import key_identifier

MAX_MANIFEST_BYTES: Final = 1 << 27
"""A million devices."""


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One device of a batch."""

    device: str
    client_id: str
    digest: bytes
    """SHA-256 of the tier 1 certificate in its C509 form, 32 bytes."""


def write_manifest(signer: Signer, key: PublicKey, label: str, entries: Sequence[ManifestEntry]) -> bytes:
    """Return the signed manifest of a batch."""
    payload = cbor.encode([[entry.device, entry.client_id, entry.digest] for entry in entries])
    return sign1(signer, payload, _aad(label), key_id=key_identifier(key)[:8])


def read_manifest(data: bytes, key: PublicKey, label: str) -> tuple[ManifestEntry, ...]:
    """Return what is in a manifest that the voucher key signed.

    Raises:
        MalformedMessage: Not a manifest.
        RequestRejected: Signed by another key, or of another label.
    """
    signed = decode_sign1(data, max_bytes=MAX_MANIFEST_BYTES)
    if signed.header.key_id != key_identifier(key)[:8] or not is_signature_valid(
        key, signed.header.algorithm, signed.signature, signed.signed_bytes(_aad(label))
    ):
        raise RequestRejected(ProblemKind.BAD_SIGNATURE, "the manifest is not signed by this maker")
    items = cbor.decode(signed.payload, max_bytes=MAX_MANIFEST_BYTES)
    if type(items) is not list:
        raise MalformedMessage("a manifest is a list")
    return tuple(_entry(item) for item in cast("list[Any]", items))


def _entry(item: Any) -> ManifestEntry:  # noqa: ANN401 (a decoded item)
    match item:
        case [str(device), str(client_id), bytes(digest)] if len(digest) == 32:
            return ManifestEntry(device, client_id, digest)
        case _:
            raise MalformedMessage("a manifest's entry is [device name, client-id, digest]")


def _aad(label: str) -> bytes:
    return cbor.encode(["manifest", label])
