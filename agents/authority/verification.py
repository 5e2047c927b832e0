"""Verifying a group's signatures: public data in, results out, no exception for anything a peer may send."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol.cose import Algorithm, PublicKey, is_signature_valid
from protocol.exchange.authority import Proof
from protocol.exchange.authority_effects import Check, Verify

LEAST_SHARE: Final = 16
"""Requests for which another thread is worth its hand-over: 16 take about 2 ms."""

_CURVES: Final = {
    Algorithm.ES256: ec.SECP256R1(),
    Algorithm.ES384: ec.SECP384R1(),
    Algorithm.ES512: ec.SECP521R1(),
}


@dataclass(frozen=True, slots=True)
class Verified:
    """What the signatures of one request turned out to be."""

    is_outer_good: bool
    is_signer_good: bool = True
    proof: Proof = Proof.GOOD
    new_key: bytes = b""
    """The new key as an uncompressed point (or as it came, where it is none), if the proof is good."""
    former: int | None = None
    """Which of `Verify.former` is good, where the outer signature is not."""


_BAD: Final = Verified(is_outer_good=False)


def load_key(algorithm: Algorithm, key: bytes) -> PublicKey | None:
    """Return the key for use with `cryptography`, or None if it is none: not on its curve, another length."""
    try:
        if algorithm is Algorithm.EDDSA:
            return ed25519.Ed25519PublicKey.from_public_bytes(key)
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[algorithm], key)
    except (ValueError, UnsupportedAlgorithm):
        return None


# Signers come again, for `conf` and the next label; 4096 keys take about 2 MiB.
_load_signer = lru_cache(maxsize=4096)(load_key)


def _is_good(check: Check, key: PublicKey | None) -> bool:
    return key is not None and is_signature_valid(key, check.algorithm, check.signature, check.signed_bytes)


def verify(checks: Sequence[Verify]) -> list[Verified]:
    """Return what became of each, in order; what cannot matter any more is not verified."""
    return [_verify(check) for check in checks]


class Verifier:
    """Verifies on all cores: `cryptography` releases the interpreter while it verifies.

    Owns threads; close it. Threads: any may call it.
    """

    def __init__(self) -> None:
        self._helpers = (os.cpu_count() or 1) - 1
        self._pool = ThreadPoolExecutor(max(1, self._helpers), thread_name_prefix="verify")

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def verify(self, checks: Sequence[Verify]) -> list[Verified]:
        """Return what became of each, in order."""
        # One share per core; the caller's thread takes one itself.
        shares = min(self._helpers + 1, len(checks) // LEAST_SHARE)
        if shares < 2:
            return verify(checks)
        size = -(-len(checks) // shares)
        others = [
            self._pool.submit(verify, checks[start : start + size])
            for start in range(size, len(checks), size)
        ]
        results = verify(checks[:size])
        for other in others:
            results += other.result()
        return results


def _former(effect: Verify) -> Verified:
    for index, check in enumerate(effect.former):
        if _is_good(check, _load_signer(check.algorithm, check.public_key)):
            return Verified(is_outer_good=False, former=index)
    return _BAD


def _verify(effect: Verify) -> Verified:
    for check in (effect.signer, effect.outer):
        if check is not None and not _is_good(check, _load_signer(check.algorithm, check.public_key)):
            return _BAD if check is effect.signer else _former(effect)
    check = effect.proof
    if check is None:
        return Verified(is_outer_good=True)
    key = load_key(check.algorithm, check.public_key)
    if key is None:
        return Verified(is_outer_good=True, proof=Proof.NO_KEY)
    if not _is_good(check, key):
        return Verified(is_outer_good=True, proof=Proof.BAD)
    new_key = check.public_key
    if isinstance(key, ec.EllipticCurvePublicKey):
        new_key = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return Verified(is_outer_good=True, new_key=new_key)
