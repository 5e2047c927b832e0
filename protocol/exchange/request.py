"""The signed requests of `sen`, `sren`, `skg`, `conf` and `rev`, for both sides.

    COSE_Sign1({1: alg, 22: c5t} or {1: alg, 25: c5c}, payload, aad = ["est", authority, label, op, epoch])

Authority and epoch are not transmitted: a request works at one authority, for one owner, at one door.

| op        | payload                                                                   |
|-----------|---------------------------------------------------------------------------|
| sen, sren | C509CertificationRequest of type 2, signed by the new key, no attributes    |
| skg       | [nonce (16 bytes), name that the signing certificate proves]                |
| conf      | [SHA-256 of the certificate, status], 0 = installed, or a `ProblemKind`    |
| rev       | [issuer key id (32 bytes), serial, reason (RFC 5280 §5.3.1)]               |
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from protocol import c509, cbor
from protocol.cose import Algorithm, Sign1, decode_sign1
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.labels import Operation
from protocol.signing import Signer, sign1
from protocol.voucher import AUTHORITY_BYTES

DIGEST_BYTES: Final = 32
NONCE_BYTES: Final = 16
MAX_NAME_BYTES: Final = 64
INSTALLED: Final = 0
"""Status of a confirmation: verified and stored."""

SIGNATURE_ALGORITHMS: Final = {
    Algorithm.ES256: 0,
    Algorithm.ES384: 1,
    Algorithm.ES512: 2,
    Algorithm.EDDSA: 12,
}
"""Registered C509 signature algorithm of each COSE algorithm."""
KEY_ALGORITHMS: Final = {Algorithm.ES256: 1, Algorithm.ES384: 2, Algorithm.ES512: 3, Algorithm.EDDSA: 12}
"""Registered C509 public key algorithm of each COSE algorithm."""


class RevocationReason(IntEnum):
    """CRLReason (RFC 5280 §5.3.1)."""

    UNSPECIFIED = 0
    KEY_COMPROMISE = 1
    CA_COMPROMISE = 2
    AFFILIATION_CHANGED = 3
    SUPERSEDED = 4
    CESSATION_OF_OPERATION = 5
    CERTIFICATE_HOLD = 6
    PRIVILEGE_WITHDRAWN = 9


@dataclass(frozen=True, slots=True)
class Door:
    """Where a request is good: part of what is signed, hardly any of it transmitted."""

    authority: bytes
    """Key identifier of the issuing CA, 32 bytes."""
    label: str
    op: Operation
    epoch: int
    """Owner number of the device's voucher."""

    @property
    def aad(self) -> bytes:
        """The external_aad of a request at this door."""
        return cbor.encode(["est", self.authority, self.label, self.op.value, self.epoch])


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """Payload of `skg`: the authority is to make a key pair.

    There is no key to know the request by, so a random number takes its place: one nonce of one signer at
    one door is one key pair, whatever bytes ask for it.
    """

    nonce: bytes
    """16 bytes, from the signer's own randomness; a new one for each key pair."""
    name: str
    """What the signing certificate proves, whatever name the new one will have."""

    def encode(self) -> bytes:
        """Return the payload."""
        return cbor.encode([self.nonce, self.name])

    @classmethod
    def decode(cls, data: bytes) -> "KeyRequest":
        """Return the request in `data`, or raise MalformedMessage."""
        nonce, name = cbor.decode_array(data, 2)
        if (
            type(nonce) is not bytes
            or len(nonce) != NONCE_BYTES
            or type(name) is not str
            or not 0 < len(name.encode()) <= MAX_NAME_BYTES
        ):
            raise MalformedMessage("a key is asked for by [nonce of 16 bytes, name]")
        return cls(nonce, name)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Payload of `conf`."""

    certificate_digest: bytes
    """SHA-256 of the whole C509 certificate, 32 bytes."""
    status: int
    """`INSTALLED`, or what is wrong with the certificate, < 256: a `ProblemKind`, or a number of the
    device's own."""

    def encode(self) -> bytes:
        """Return the payload."""
        return cbor.encode([self.certificate_digest, int(self.status)])

    @classmethod
    def decode(cls, data: bytes) -> "Confirmation":
        """Return the confirmation in `data`, or raise MalformedMessage."""
        digest, status = cbor.decode_array(data, 2)
        if (
            type(digest) is not bytes
            or len(digest) != DIGEST_BYTES
            or type(status) is not int
            or not 0 <= status < 256
        ):
            raise MalformedMessage("a confirmation is [SHA-256 of the certificate, status]")
        return cls(digest, status)


@dataclass(frozen=True, slots=True)
class Revocation:
    """Payload of `rev`."""

    issuer: bytes
    """Key identifier of the issuing CA, 32 bytes."""
    serial: bytes
    reason: RevocationReason

    def encode(self) -> bytes:
        """Return the payload."""
        return cbor.encode([self.issuer, self.serial, int(self.reason)])

    @classmethod
    def decode(cls, data: bytes) -> "Revocation":
        """Return the revocation in `data`, or raise MalformedMessage."""
        issuer, serial, reason = cbor.decode_array(data, 3)
        if type(issuer) is not bytes or len(issuer) != AUTHORITY_BYTES:
            raise MalformedMessage("an issuer is named by 32 bytes")
        if type(serial) is not bytes or not 1 <= len(serial) <= 20 or serial[0] == 0:
            raise MalformedMessage("a serial number is 1 to 20 bytes without leading zero")
        try:
            return cls(issuer, serial, RevocationReason(reason))
        except ValueError:
            raise MalformedMessage("unknown revocation reason") from None


Payload = c509.CertificationRequest | KeyRequest | Confirmation | Revocation


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as the authority read it; no signature is verified yet."""

    signed: Sign1
    payload: Payload


def decode_request(op: Operation, data: bytes) -> SignedRequest:
    """Return the request for `op` in `data`.

    Raises:
        MalformedMessage: Not a request of this operation.
        RequestRejected: A certification request that asks for what no profile offers (attributes,
            an algorithm that is not registered or not ours, a key without a point).
    """
    signed = decode_sign1(data)
    if signed.header.key_id is not None:
        raise MalformedMessage("a request names its signer by c5t or c5c")
    match op:
        case Operation.SEN | Operation.SREN:
            return SignedRequest(signed, _certification_request(signed.payload))
        case Operation.SKG:
            return SignedRequest(signed, KeyRequest.decode(signed.payload))
        case Operation.CONF:
            return SignedRequest(signed, Confirmation.decode(signed.payload))
        case Operation.REV:
            return SignedRequest(signed, Revocation.decode(signed.payload))
        case _:
            raise MalformedMessage(f"{op.value} has no signed request")


def algorithm_of_request(request: c509.CertificationRequest) -> Algorithm:
    """Return the COSE algorithm of a request's key and proof, which are one and the same.

    Raises:
        RequestRejected: They differ, or are none of ours; BAD_KEY.
    """
    for algorithm, number in KEY_ALGORITHMS.items():
        if (
            request.public_key_algorithm == number
            and request.signature_algorithm == SIGNATURE_ALGORITHMS[algorithm]
        ):
            return algorithm
    raise RequestRejected(ProblemKind.BAD_KEY, "unknown key or signature algorithm")


def _certification_request(payload: bytes) -> c509.CertificationRequest:
    request = c509.decode_request(payload)
    if request.type != 2:
        raise MalformedMessage("certification requests are of type 2 here")
    if request.attributes:
        raise RequestRejected(ProblemKind.NOT_ENTITLED, "no profile takes attributes")
    return request


def certification_request(subject: c509.Name, new_key: Signer) -> bytes:
    """Return a type 2 certification request for `new_key`, which signs it as proof of possession."""
    tbs = c509.TbsRequest(
        type=2,
        signature_algorithm=SIGNATURE_ALGORITHMS[new_key.algorithm],
        subject=subject,
        public_key_algorithm=KEY_ALGORITHMS[new_key.algorithm],
        public_key=new_key.public_key,
        attributes=(),
    )
    return tbs.with_signature(new_key.sign(tbs.to_be_signed())).encoded


def sign_request(
    signer: Signer, certificate: bytes, door: Door, payload: bytes, *, by_value: bool = False
) -> bytes:
    """Return the signed request.

    Args:
        signer: Key of the signing certificate.
        certificate: That certificate, encoded.
        door: Where it is to be good.
        payload: As in the table above.
        by_value: Send the whole certificate (c5c), after an authority did not know its thumbprint.
    """
    if by_value:
        return sign1(signer, payload, door.aad, certificate=certificate)
    return sign1(signer, payload, door.aad, thumbprint=c509.thumbprint(certificate))
