"""A charging station shows its certificate to a car, and proves that it holds the key.

    question  a nonce that the car draws
    proof     COSE_Sign1
    header    {1: ES256 (part 2) or ES512 (part 20), 22: [-15, c5t of the station's certificate]}
    payload   [address, EVSEID, COSE_C509: the station's certificate, then the CAs above it, no root]
    aad       ["ev-station", label, nonce]

ISO 15118 does this with TLS; here there is none. A nonce keeps recordings out. The address, a URI, is where
the station believes to be reached: a rogue that passes the car's nonce on to an honest station elsewhere gets
a proof with that station's address, which is not where the car has connected to. Whoever passes on whole
datagrams under the honest station's own address is not noticed, and learns nothing but lengths and times that
it could not read on the line as well: contracts are protected from end to end.
"""

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from protocol import c509, cbor
from protocol.challenge import MAX_NONCE_BYTES, MIN_NONCE_BYTES
from protocol.cose import Sign1, decode_sign1, is_signature_valid
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.signing import Signer, sign1

MAX_PROOF_BYTES: Final = 8 * 1024
"""Longest proof: four certificates of 1600 bytes (part 20), a signature, addresses and heads are 7 KiB."""
MAX_ADDRESS_CHARS: Final = 120
MAX_EVSE_CHARS: Final = 64
MAX_CHAIN: Final = 4
"""The station's certificate and three sub-CAs."""


def _aad(label: str, nonce: bytes) -> bytes:
    return cbor.encode(["ev-station", label, nonce])


@dataclass(frozen=True, slots=True)
class StationProof:
    """A proof, read and not yet believed."""

    signed: Sign1
    address: str
    """Where the station says that it is: a URI without a path."""
    evse: str
    """Its EVSEID or whatever its operator calls the place; empty where nobody gave it a name."""
    chain: tuple[c509.Certificate, ...]
    """The station's certificate first; 1 to `MAX_CHAIN`."""

    @classmethod
    def decode(cls, data: bytes) -> "StationProof":
        """Return the proof in `data`.

        Raises:
            MalformedMessage: It is none. No other exception leaves this function.
        """
        signed = decode_sign1(data, max_bytes=MAX_PROOF_BYTES)
        if signed.header.thumbprint is None:
            raise MalformedMessage("a proof names its signer by c5t")
        address, evse, chain = cbor.decode_array(signed.payload, 3, max_bytes=MAX_PROOF_BYTES)
        if type(address) is not str or not 0 < len(address) <= MAX_ADDRESS_CHARS:
            raise MalformedMessage("a proof says where its station is")
        if type(evse) is not str or len(evse) > MAX_EVSE_CHARS or type(chain) is not bytes:
            raise MalformedMessage("a proof is [address, EVSEID, chain]")
        certificates = c509.decode_chain(chain, max_bytes=MAX_PROOF_BYTES)
        if len(certificates) > MAX_CHAIN:
            raise MalformedMessage(f"a station has at most {MAX_CHAIN - 1} CAs below its root")
        return cls(signed, address, evse, certificates)

    def check(self, *, label: str, nonce: bytes, address: str) -> c509.Certificate:
        """Return the station's certificate, if its key has signed this proof for this nonce and address.

        Whether the certificate is to be believed is for `protocol.validator` to say, with the role of a
        station under the pinned V2G root.

        Args:
            label: Of the station's certificate.
            nonce: What was asked.
            address: Where the car has connected to.

        Raises:
            MalformedMessage: The certificate's key is none.
            RequestRejected: Signed by another key or for another nonce or label (BAD_SIGNATURE), by another
                certificate (UNKNOWN_SIGNER), for another place (WRONG_CLIENT).
        """
        leaf = self.chain[0]
        if self.signed.header.thumbprint != c509.thumbprint(leaf.encoded):
            raise RequestRejected(
                ProblemKind.UNKNOWN_SIGNER, "the proof is signed by another certificate than it shows"
            )
        key = leaf.load_public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not is_signature_valid(
            key,
            self.signed.header.algorithm,
            self.signed.signature,
            self.signed.signed_bytes(_aad(label, nonce)),
        ):
            raise RequestRejected(
                ProblemKind.BAD_SIGNATURE, "whoever answers does not hold the key of the certificate it shows"
            )
        if self.address != address:
            raise RequestRejected(
                ProblemKind.WRONG_CLIENT, f"the proof is of a station at {self.address}, not at {address}"
            )
        return leaf


def prove(
    signer: Signer,
    chain: tuple[c509.Certificate, ...],
    *,
    label: str,
    nonce: bytes,
    address: str,
    evse: str,
) -> bytes:
    """Return a proof.

    Args:
        signer: The key of `chain[0]`.
        chain: The station's certificate, then the CAs above it, without the root.
        label: Of the station's certificate.
        nonce: The car's.
        address: Where the station is reached.
        evse: What its operator calls the place.

    Raises:
        MalformedMessage: The nonce has another length than nonces have.
    """
    if not MIN_NONCE_BYTES <= len(nonce) <= MAX_NONCE_BYTES:
        raise MalformedMessage(f"a nonce has {MIN_NONCE_BYTES} to {MAX_NONCE_BYTES} bytes")
    payload = cbor.encode([address, evse, c509.encode_chain(chain)])
    return sign1(signer, payload, _aad(label, nonce), thumbprint=c509.thumbprint(chain[0].encoded))
