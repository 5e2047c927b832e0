"""C509 certification requests (draft-ietf-cose-cbor-encoded-cert §4), native and re-encoded PKCS#10."""

from dataclasses import dataclass
from typing import Any, Final

from protocol import cbor
from protocol.c509 import der, keys, x509_writer
from protocol.c509.algorithms import (
    DH_POP,
    ECDSA_LIKE,
    PUBLIC_KEY_DER,
    SIGNATURE_DER,
    Algorithm,
    algorithm_from_der,
    algorithm_from_item,
    algorithm_item,
    algorithm_to_der,
    check_signature,
    signature_from_der,
    signature_to_der,
)
from protocol.c509.certificate import NATIVE, REENCODED, SubjectKey
from protocol.c509.checks import NotConvertible, byte_string, malformed, members, positive_magnitude
from protocol.c509.encoding import head_size
from protocol.c509.extensions import Extension
from protocol.c509.name import Name
from protocol.c509.request_attributes import (
    RequestAttribute,
    attributes_from_der,
    attributes_from_item,
    attributes_item,
    attributes_to_der,
)
from protocol.c509.x509 import public_key_from_der, whole_octets
from protocol.errors import MalformedMessage

MAX_REQUEST_BYTES: Final = 16384
"""Longest accepted request in bytes: a post-quantum key and a certificate in an attribute fit."""
_TAGS: Final = frozenset({48, 121})

Recipient = tuple[Name, bytes]
"""Issuer and serial number of the certificate whose Diffie-Hellman key a proof was made for (RFC 6955)."""


@dataclass(frozen=True, slots=True)
class TbsRequest(SubjectKey):
    """Everything of a certification request but its signature.

    Attributes:
        type: `NATIVE` (2) or `REENCODED` (3).
        signature_algorithm: As in a certificate.
        subject: The name asked for.
        public_key_algorithm: As in a certificate.
        public_key: The field as `protocol.c509.keys` describes it.
        attributes: In order.
    """

    type: int
    signature_algorithm: int | Algorithm
    subject: Name
    public_key_algorithm: int | Algorithm
    public_key: bytes
    attributes: tuple[RequestAttribute, ...] = ()

    def attribute(self, number: int | bytes) -> Any:  # noqa: ANN401 (typed by the number)
        """Return the value of the attribute with this number or object identifier, or None."""
        for attribute in self.attributes:
            if attribute.id == number:
                return attribute.value
        return None

    @property
    def requested_extensions(self) -> tuple[Extension, ...]:
        """The extensions that the request asks for."""
        found: tuple[Extension, ...] | None = self.attribute(0)
        return found or ()

    @property
    def tbs(self) -> bytes:
        """The six items before the signature, one after the other: what a native signature is over."""
        if not hasattr(self, "_items"):
            algorithm, key = self.public_key_algorithm, self.public_key
            items = cbor.encode(
                [
                    self.type,
                    algorithm_item(self.signature_algorithm),
                    self.subject.to_item(),
                    algorithm_item(algorithm),
                    keys.key_item(algorithm, keys.native_key(algorithm, key) if self.type == NATIVE else key),
                    attributes_item(self.attributes),
                ]
            )[1:]
            object.__setattr__(self, "_items", items)
        return self._items

    @property
    def info_der(self) -> bytes:
        """PKCS#10's CertificationRequestInfo: what a re-encoded request's signature is over.

        Raises:
            MalformedMessage: The public key has to be decompressed and is not on the curve.
        """
        if not hasattr(self, "_tbs_der"):
            info = x509_writer.request_info(self.subject, self.spki_der, attributes_to_der(self.attributes))
            object.__setattr__(self, "_tbs_der", info)
        return self._tbs_der

    @property
    def signed_bytes(self) -> bytes:
        """What the signature is over: `tbs` or `info_der` by type."""
        return self.tbs if self.type == NATIVE else self.info_der

    def to_be_signed(self) -> bytes:
        """Return `signed_bytes`, for a signer."""
        return self.signed_bytes

    def with_signature(self, signature: bytes, recipient: Recipient | None = None) -> "CertificationRequest":
        """Return the request with this signature: r‖s for ECDSA, otherwise as it is made.

        Args:
            signature: Signature, or proof of possession.
            recipient: For proofs of RFC 6955 that name the certificate they were made for.
        """
        item = signature if recipient is None else [recipient[0].to_item(), recipient[1], signature]
        return CertificationRequest(
            self.type,
            self.signature_algorithm,
            self.subject,
            self.public_key_algorithm,
            self.public_key,
            self.attributes,
            signature,
            b"\x87" + self.tbs + cbor.encode(item),
            recipient,
        )


@dataclass(frozen=True, slots=True, eq=False)
class CertificationRequest(TbsRequest):
    """A certification request; equal to another where the encodings are.

    Attributes:
        signature: r‖s for ECDSA, otherwise as PKCS#10 has it; for proofs of RFC 6955 the digest.
        encoded: The whole deterministic encoding, `87…`.
        recipient: Only for those proofs.
    """

    # The base class ends with a default, so these need one too; every maker passes them.
    signature: bytes = b""
    encoded: bytes = b""
    recipient: Recipient | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CertificationRequest) and self.encoded == other.encoded

    def __hash__(self) -> int:
        return hash(self.encoded)

    @property
    def tbs(self) -> bytes:
        """The six items before the signature, one after the other: what a native signature is over."""
        size = len(self.signature)
        if self.recipient is None:
            return self.encoded[1 : -size - head_size(size)]
        issuer, serial = self.recipient
        return self.encoded[1 : -len(cbor.encode([issuer.to_item(), serial, self.signature]))]

    @property
    def signature_der(self) -> bytes:
        """The octets of PKCS#10's signature BIT STRING; what `cryptography` takes for ECDSA."""
        if self.signature_algorithm in DH_POP:
            issuer = b""
            if self.recipient is not None:
                issuer = der.sequence(self.recipient[0].to_der(), der.unsigned(self.recipient[1]))
            return der.sequence(issuer, der.tlv(der.OCTET_STRING, self.signature))
        return signature_to_der(self.signature_algorithm, self.signature)

    def to_der(self) -> bytes:
        """Return the PKCS#10 request that this one was made from, byte for byte.

        Raises:
            MalformedMessage: The public key has to be decompressed and is not on the curve.
            ValueError: A native request has no DER.
        """
        if self.type != REENCODED:
            msg = "a native request has no DER form"
            raise ValueError(msg)
        identifier = algorithm_to_der(self.signature_algorithm, SIGNATURE_DER)
        return der.sequence(self.info_der, identifier, der.bit_string(self.signature_der))


def decode_request(
    data: bytes, *, max_bytes: int = MAX_REQUEST_BYTES, sequence: bool = False
) -> CertificationRequest:
    """Return the certification request that `data` encodes.

    Args:
        data: Any bytes.
        max_bytes: Longest accepted input.
        sequence: Take the form before revision 20 of the draft: the seven items without their array.

    Raises:
        MalformedMessage: Not a request in deterministic encoding; no other exception.
    """
    data = b"\x87" + data if sequence else bytes(data)
    item = cbor.decode(data, max_bytes=max_bytes, tags=_TAGS)
    kind, algorithm, subject, key_algorithm, key, listed, proof = members(item, 7, "a certification request")
    if type(kind) is not int or kind not in (NATIVE, REENCODED):
        malformed("certification request type is 2 or 3")
    native = kind == NATIVE
    algorithm = algorithm_from_item(algorithm, SIGNATURE_DER, native=native)
    key_algorithm = algorithm_from_item(key_algorithm, PUBLIC_KEY_DER, native=native)
    signature, recipient = _proof(algorithm, proof, native=native)
    return CertificationRequest(
        kind,
        algorithm,
        Name.from_item(subject, native=native),
        key_algorithm,
        keys.key_from_item(key_algorithm, key),
        attributes_from_item(listed, native=native),
        signature,
        data,
        recipient,
    )


def _proof(algorithm: int | Algorithm, item: Any, *, native: bool) -> tuple[bytes, Recipient | None]:  # noqa: ANN401
    recipient: Recipient | None = None
    if type(item) is list and algorithm in DH_POP:
        issuer, serial, item = members(item, 3, "a static Diffie-Hellman proof")
        recipient = Name.from_item(issuer, native=native), positive_magnitude(serial)
    signature = byte_string(item)
    check_signature(algorithm, signature)
    return signature, recipient


def request_from_der(data: bytes, *, compress: bool = True) -> CertificationRequest:
    """Return the C509 form (type 3) of a PKCS#10 request.

    Args:
        data: One DER certification request.
        compress: Let uncompressed points travel compressed (FE, FD).

    Returns:
        A request whose `to_der()` is `data`.

    Raises:
        NotConvertible: It has no C509 form, or none that gives every byte back.
    """
    try:
        request = decode_request(_parse(data, compress=compress).encoded)
        same = request.to_der() == data
    except (ValueError, KeyError, OverflowError, MalformedMessage) as error:
        msg = f"no C509 form: {error}"
        raise NotConvertible(msg) from None
    if not same:
        msg = "its C509 form would not give every byte back: not DER, or a choice that C509 does not keep"
        raise NotConvertible(msg)
    return request


def _parse(data: bytes, *, compress: bool) -> CertificationRequest:
    frame = der.Reader(der.whole(data, der.SEQUENCE))
    info = frame.inner(der.SEQUENCE)
    algorithm = algorithm_from_der(frame.raw(), SIGNATURE_DER)
    octets = whole_octets(frame.take(der.BIT_STRING))
    frame.finish()
    if info.take(der.INTEGER) != b"\0":
        msg = "not version 1"
        raise der.DerError(msg)
    subject = Name.from_der(info.raw())
    key_algorithm, key = public_key_from_der(info.raw(), compress=compress)
    attributes = attributes_from_der(info.take(0xA0))
    info.finish()
    tbs = TbsRequest(REENCODED, algorithm, subject, key_algorithm, key, attributes)
    if algorithm in DH_POP:
        return tbs.with_signature(*_proof_from_der(octets))
    size = keys.POINT_SIZES.get(key_algorithm) if isinstance(key_algorithm, int) else None
    if algorithm in ECDSA_LIKE and any(attribute.id == 2 for attribute in attributes):
        size = None  # another key signed (RFC 9883)
    return tbs.with_signature(signature_from_der(algorithm, octets, size))


def _proof_from_der(octets: bytes) -> tuple[bytes, Recipient | None]:
    reader = der.Reader(der.whole(octets, der.SEQUENCE))
    recipient: Recipient | None = None
    if reader.peek() == der.SEQUENCE:
        issuer = reader.inner(der.SEQUENCE)
        recipient = Name.from_der(issuer.raw()), der.read_unsigned(issuer.take(der.INTEGER))
    digest = reader.take(der.OCTET_STRING)
    reader.finish()
    return digest, recipient
