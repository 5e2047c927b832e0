"""Key agreement of DLMS/COSEM: ECDH, then the concatenation KDF of NIST SP 800-56A.

| scheme    | U, who begins     | V, who answers    | used by                                              |
|-----------|-------------------|-------------------|------------------------------------------------------|
| C(1e, 1s) | ephemeral, signed | static            | general-ciphering, its default                       |
| C(2e, 0s) | ephemeral, signed | ephemeral, signed | key_agreement of the security setup object           |
| C(0e, 2s) | static            | static            | general-ciphering; the transaction-id makes it fresh |

Every key is derived from an ephemeral key of its own: nothing else tells the keys of two kinds apart.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from protocol.cose import is_signature_valid
from protocol.errors import ProblemKind, RequestRejected
from protocol.metering import axdr
from protocol.metering.keys import KeyKind
from protocol.metering.suite import Suite, encode_point, load_point
from protocol.metering.title import SystemTitle
from protocol.signing import Signer

MAX_TRANSACTION_ID_BYTES: Final = 16
"""Longest transaction-id taken here; 8 octets are usual."""


class Scheme(IntEnum):
    """Who brings which keys."""

    EPHEMERAL = 0
    """C(2e, 0s): forward secrecy on both sides."""
    ONE_PASS = 1
    """C(1e, 1s): one message is enough; whoever gets V's static key later can read it all."""
    STATIC = 2
    """C(0e, 2s): no forward secrecy; U's transaction-id is part of OtherInfo."""


@dataclass(frozen=True, slots=True)
class KdfSettings:
    """Octets of the key derivation that the printed tables leave in doubt. Both sides must agree on them.

    A wrong guess does no harm that goes unseen: the keys differ, and a rollover's confirmation says so
    before either side has switched.
    """

    arc: bytes = bytes.fromhex("608574050803")
    """AlgorithmID without its last octet: the BER contents of 2.16.756.5.8.3 with the tag octet 60 before
    them, as DLMS writes its other object identifiers (the application contexts are 60 85 74 05 08 01 …). The
    default is what every open implementation that we found writes, and the worked example of the Green Book
    (one-pass Diffie-Hellman, suite 1) comes out right with it. The other reading has 06 for the 05."""
    is_wrap_for_master: bool = False
    """Whether a master key is derived under the AES key wrap's AlgorithmID (last octet 02 or 03), not under
    that of AES-GCM (00 or 01). SP 800-56A would have it so; every implementation that we found derives all
    kinds under AES-GCM's, and so does the default."""
    has_transaction_length: bool = True
    """Whether the transaction-id in OtherInfo has its length octet before it (C(0e, 2s) only). So it is in
    every implementation that we found."""
    is_kind_signed: bool = True
    """Whether an ephemeral key is signed with key_id before it. So do the implementations that we found; it
    also keeps a key that was sent for one kind from being taken for another."""

    def algorithm_id(self, suite: Suite, kind: KeyKind) -> bytes:
        """Return the AlgorithmID of a derivation, 7 octets."""
        is_wrap = self.is_wrap_for_master and kind is KeyKind.MASTER
        return self.arc + bytes((2 * is_wrap + suite.number - 1,))


GREEN_BOOK: Final = KdfSettings()
"""What we judge to be right; see each field."""
GREAT_BRITAIN: Final = KdfSettings(arc=bytes.fromhex("608574060803"))
"""The GBCS family's reading of the arc."""


def other_info(
    suite: Suite,
    kind: KeyKind,
    u: SystemTitle,
    v: SystemTitle,
    *,
    transaction_id: bytes | None = None,
    settings: KdfSettings = GREEN_BOOK,
) -> bytes:
    """Return OtherInfo: AlgorithmID ‖ U's title [‖ transaction-id] ‖ V's title.

    Args:
        suite: Whose AES key is derived.
        kind: What the key is for.
        u: Who began.
        v: Who answers.
        transaction_id: For C(0e, 2s), and only there.
        settings: What is not certain about it.
    """
    party_u = u.octets
    if transaction_id is not None:
        party_u += axdr.octets(transaction_id) if settings.has_transaction_length else transaction_id
    return settings.algorithm_id(suite, kind) + party_u + v.octets


def derive_key(suite: Suite, shared_secret: bytes, other_info: bytes) -> bytes:
    """Return an AES key: as many of the leftmost octets as the suite's keys have.

    Source:
        NIST SP 800-56A rev. 2 §5.8.1, hash of the suite.
    """
    return ConcatKDFHash(suite.hash, suite.key_bytes, other_info).derive(shared_secret)


def agree(
    suite: Suite, private_key: ec.EllipticCurvePrivateKey, public_key: ec.EllipticCurvePublicKey, info: bytes
) -> bytes:
    """Return the AES key that the two keys agree on under `info` (`other_info`).

    The shared secret does not leave this function; Python cannot wipe it.

    Raises:
        RequestRejected: BAD_KEY: a public key of another curve.
        ValueError: A private key of another curve.
    """
    if private_key.curve.name != suite.curve.name:
        raise ValueError(f"a key of {suite.curve.name} is needed")
    if public_key.curve.name != suite.curve.name:
        raise RequestRejected(ProblemKind.BAD_KEY, f"not a key of {suite.curve.name}")
    return derive_key(suite, private_key.exchange(ec.ECDH(), public_key), info)


def sign_ephemeral(
    suite: Suite,
    signer: Signer,
    kind: KeyKind,
    key: ec.EllipticCurvePublicKey,
    settings: KdfSettings = GREEN_BOOK,
) -> bytes:
    """Return key_data: the ephemeral key (x ‖ y) and the DataSign key's signature (r ‖ s), 128 or 192 octets.

    Raises:
        ValueError: The signer is of another suite.
    """
    if signer.algorithm is not suite.algorithm:
        raise ValueError(f"a signer of {suite.algorithm.name} is needed")
    point = encode_point(key)
    return point + signer.sign(_signed(kind, point, settings))


def open_ephemeral(
    suite: Suite,
    signing_key: ec.EllipticCurvePublicKey,
    kind: KeyKind,
    key_data: bytes,
    settings: KdfSettings = GREEN_BOOK,
) -> ec.EllipticCurvePublicKey:
    """Return the ephemeral key in `key_data`, which the other side's DataSign key has signed.

    Raises:
        RequestRejected: BAD_KEY: of another length, or not on the curve. BAD_SIGNATURE: not signed by
            `signing_key`, or for another kind.
    """
    point, signature = key_data[: suite.point_bytes], key_data[suite.point_bytes :]
    if not is_signature_valid(signing_key, suite.algorithm, signature, _signed(kind, point, settings)):
        raise RequestRejected(ProblemKind.BAD_SIGNATURE, "the ephemeral key is not signed by its sender")
    return load_point(suite, point)


def _signed(kind: KeyKind, point: bytes, settings: KdfSettings) -> bytes:
    return bytes((kind,)) + point if settings.is_kind_signed else point
