"""The installation package: a contract with its wrapped key, signed by a provisioning service (CPS).

    package  = [COSE_Sign1 as bstr, [CPS leaf DER, sub-CA DER, …]]
    payload  = [SHA-256(request), contents]                          contents: see `installation`
    header   = {1: ES256 (part 2) or ES512 (part 20), 22: [-15, c5t of the CPS leaf]}
    aad      = ["ev-package", label]

The CPS chain stands beside, unsigned, as it does in ISO 15118; c5t (over the leaf's C509 form, type 3)
ties the signature to the leaf and not to its key alone. A package answers the one request whose SHA-256 it
has. Making the key, the certificate and the contents is what takes long and can be done ahead; the
signature over them, when the request has come, is one ECDSA operation.

Whoever takes a package: decode it; let the path validator judge `cps_chain` (role CPS, V2G root) and the
contract chain (MO root); `check` it with the key that came out of the first; `unwrap`.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from protocol import c509, cbor
from protocol.cose import PublicKey, Sign1, decode_sign1, is_signature_valid
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.ev.agreement import encode_point
from protocol.ev.installation import (
    Edition,
    Installation,
    certificates_of,
    load_certificate,
    public_key_of,
)
from protocol.signing import Signer, sign1

MAX_PACKAGE_BYTES: Final = 16 * 1024
"""Longest package: eight certificates of 1600 bytes, the wrapped key, a signature and heads are 13.3 KiB."""
REQUEST_BYTES: Final = 32


def request_digest(request: bytes) -> bytes:
    """Return what names the request that a package answers: SHA-256 of the whole message, 32 bytes."""
    return hashlib.sha256(request).digest()


def _aad(label: str) -> bytes:
    return cbor.encode(["ev-package", label])


@dataclass(frozen=True, slots=True)
class CpsPackage:
    """A package, read and not yet believed."""

    signed: Sign1
    cps_chain: tuple[bytes, ...]
    """DER: the leaf that signed, then the sub-CAs above it."""
    request: bytes
    """SHA-256 of the request that it answers."""
    installation: Installation

    @classmethod
    def sign(
        cls,
        installation: Installation,
        *,
        request: bytes,
        label: str,
        signer: Signer,
        cps_chain: tuple[bytes, ...],
    ) -> "CpsPackage":
        """Return a new package.

        Args:
            installation: What was prepared.
            request: `request_digest` of the request that it answers.
            label: The contract's label.
            signer: The CPS leaf's key, of the edition's curve.
            cps_chain: DER; the signer's certificate first.

        Raises:
            ValueError: The signer's algorithm is not the edition's, the certificate has no C509 form, or
                the package would not be one that `decode` takes.
        """
        if signer.algorithm is not installation.edition.algorithm:
            raise ValueError(
                f"a package of this edition is signed with {installation.edition.algorithm.name}"
            )
        payload = cbor.encode([request, installation.to_item()])
        try:
            signed = sign1(signer, payload, _aad(label), thumbprint=_thumbprint(cps_chain[0]))
            return cls.decode(_encode(signed, cps_chain))
        except (MalformedMessage, c509.NotConvertible) as error:
            raise ValueError(f"no package: {error}") from error

    @classmethod
    def decode(cls, data: bytes) -> "CpsPackage":
        """Return the package in `data`.

        Raises:
            MalformedMessage: It is none. No other exception leaves this function.
        """
        signed_bytes, chain = cbor.decode_array(data, 2, max_bytes=MAX_PACKAGE_BYTES)
        if type(signed_bytes) is not bytes:
            raise MalformedMessage("a package is [signed object, CPS chain]")
        signed = decode_sign1(signed_bytes, max_bytes=MAX_PACKAGE_BYTES)
        if signed.header.thumbprint is None:
            raise MalformedMessage("a package names its signer by c5t")
        request, contents = cbor.decode_array(signed.payload, 2, max_bytes=MAX_PACKAGE_BYTES)
        if type(request) is not bytes or len(request) != REQUEST_BYTES:
            raise MalformedMessage("a package answers a request, named by its SHA-256")
        installation = Installation.decode(contents)
        if signed.header.algorithm is not installation.edition.algorithm:
            raise MalformedMessage("the signature algorithm is not the edition's")
        return cls(signed, certificates_of(chain, installation.edition), request, installation)

    def encode(self) -> bytes:
        """Return the bytes that `decode` reads."""
        return _encode(self.signed.encode(), self.cps_chain)

    def signed_bytes(self, label: str) -> bytes:
        """Return what the signature is over, if the package is for `label`."""
        return self.signed.signed_bytes(_aad(label))


def check(
    package: CpsPackage, cps_key: PublicKey, *, label: str, request: bytes, name: str | None = None
) -> Installation:
    """Return what a package installs, if the service signed it for this request.

    Args:
        package: As decoded.
        cps_key: The key of `cps_chain[0]`, after a path validator found that chain to be a provisioning
            service's under the pinned V2G root. A valid chain with another role is not enough.
        label: Of the contract that was asked for.
        request: `request_digest` of the request that was sent.
        name: Whom it must be for: the eMAID (part 2), or the car's own PCID (part 20). None takes any that
            the service signed; a car that asks for its first contract may not know the eMAID.

    Raises:
        MalformedMessage: A certificate is none, or the CPS leaf has no C509 form.
        RequestRejected: It answers another request (WRONG_SUBJECT) or is for another name (WRONG_SUBJECT);
            its signer is not the CPS leaf (UNKNOWN_SIGNER); the signature is wrong, also if it was made for
            another label (BAD_SIGNATURE); the contract certificate's key is of another curve (BAD_KEY) or
            its common name is not the eMAID (WRONG_SUBJECT).
    """
    installation = package.installation
    if package.request != request:
        raise RequestRejected(ProblemKind.WRONG_SUBJECT, "the package answers another request")
    if name is not None and installation.name != name:
        raise RequestRejected(ProblemKind.WRONG_SUBJECT, "the package is for somebody else")
    _check_signer(package, cps_key)
    signed = package.signed
    if not is_signature_valid(
        cps_key, signed.header.algorithm, signed.signature, package.signed_bytes(label)
    ):
        raise RequestRejected(ProblemKind.BAD_SIGNATURE, "the package's signature is wrong")
    installation.certified_key()
    emaid = installation.emaid()
    if installation.edition is Edition.PART_2 and emaid != installation.name:
        raise RequestRejected(ProblemKind.WRONG_SUBJECT, "the certificate is for another eMAID")
    return installation


def _check_signer(package: CpsPackage, cps_key: PublicKey) -> None:
    leaf = package.cps_chain[0]
    leaf_key = public_key_of(load_certificate(leaf))
    if not isinstance(cps_key, ec.EllipticCurvePublicKey) or encode_point(leaf_key) != encode_point(cps_key):
        raise RequestRejected(ProblemKind.UNKNOWN_SIGNER, "the key is not the one of the CPS leaf")
    try:
        thumbprint = _thumbprint(leaf)
    except c509.NotConvertible as error:
        raise MalformedMessage(f"the CPS leaf: {error}") from None
    if package.signed.header.thumbprint != thumbprint:
        raise RequestRejected(ProblemKind.UNKNOWN_SIGNER, "the package is signed by another certificate")


# A service signs many packages with one certificate, and the conversion takes as long as a signature.
@lru_cache(maxsize=16)
def _thumbprint(der: bytes) -> bytes:
    return c509.thumbprint(c509.from_der(der).encoded)


def _encode(signed: bytes, cps_chain: tuple[bytes, ...]) -> bytes:
    return cbor.encode([signed, list(cps_chain)])
