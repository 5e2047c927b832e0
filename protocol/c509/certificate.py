"""C509 certificates (draft-ietf-cose-cbor-encoded-cert §3.1), native and re-encoded X.509."""

from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from protocol import cbor
from protocol.c509 import keys, x509_writer
from protocol.c509.algorithms import (
    PUBLIC_KEY_DER,
    SIGNATURE_DER,
    Algorithm,
    algorithm_from_item,
    algorithm_item,
    check_signature,
    signature_to_der,
)
from protocol.c509.checks import malformed, members, positive_magnitude
from protocol.c509.encoding import byte_string, head_size
from protocol.c509.extensions import Extension, extensions_from_item, extensions_item
from protocol.c509.name import Name
from protocol.c509.x509_writer import NO_EXPIRY

NATIVE: Final = 2
"""Type of an object whose signature is over its CBOR."""
REENCODED: Final = 3
"""Type of an object whose signature is over the DER that it was made from."""
MAX_CERTIFICATE_BYTES: Final = 32768
"""Longest accepted certificate in bytes: resource certificates reach 12 KiB, post-quantum ones 8 KiB."""
TAGS: Final = frozenset({48})


class SubjectKey:
    """What certificates and requests share: a public key, for a type of object."""

    # Room for what is worked out once; nobody pays for it before.
    __slots__ = ("_items", "_tbs_der")

    _items: bytes
    _tbs_der: bytes

    type: int
    public_key_algorithm: int | Algorithm
    public_key: bytes

    @property
    def public_key_bytes(self) -> bytes:
        """The key itself: a SEC1 point (02, 03 or 04) on curves, else as in `public_key`."""
        return keys.native_key(self.public_key_algorithm, self.public_key)

    @property
    def spki_der(self) -> bytes:
        """X.509's SubjectPublicKeyInfo.

        Raises:
            MalformedMessage: A point that has to be decompressed is not on the curve.
        """
        return keys.spki(self.public_key_algorithm, self.public_key)

    def load_public_key(self) -> PublicKeyTypes:
        """Return the key for use with `cryptography`.

        Raises:
            MalformedMessage: Not on the curve, or an algorithm that cannot be loaded.
        """
        return keys.load(self.public_key_algorithm, self.public_key)


@dataclass(frozen=True, slots=True)
class TbsCertificate(SubjectKey):
    """Everything of a certificate but its signature.

    Attributes:
        type: `NATIVE` (2) or `REENCODED` (3).
        serial: Serial number, big-endian without leading zero.
        signature_algorithm: A `SignatureAlgorithm`, or the `Algorithm` itself where it has no number.
        issuer: None where it equals the subject.
        not_before: POSIX seconds.
        not_after: POSIX seconds, or None for no end.
        subject: May be empty in X.509.
        public_key_algorithm: A `PublicKeyAlgorithm`, or the `Algorithm` itself.
        public_key: The field as `protocol.c509.keys` describes it.
        extensions: In order.
    """

    type: int
    serial: bytes
    signature_algorithm: int | Algorithm
    issuer: Name | None
    not_before: int
    not_after: int | None
    subject: Name
    public_key_algorithm: int | Algorithm
    public_key: bytes
    extensions: tuple[Extension, ...]

    @property
    def serial_number(self) -> int:
        """The serial number."""
        return int.from_bytes(self.serial, "big")

    @property
    def issuer_name(self) -> Name:
        """The issuer's name, also where it equals the subject."""
        return self.subject if self.issuer is None else self.issuer

    def find_extension(self, number: int | bytes) -> Extension | None:
        """Return the extension with this `ExtensionId` or object identifier, if any."""
        for extension in self.extensions:
            if extension.id == number:
                return extension
        return None

    def extension(self, number: int | bytes) -> Any:  # noqa: ANN401 (typed by the number, see Extension)
        """Return that extension's value, or None where it is absent."""
        found = self.find_extension(number)
        return None if found is None else found.value

    @property
    def key_usage(self) -> int | None:
        """The sum of `KeyUsage` bits, or None where nothing is said."""
        for extension in self.extensions:
            if extension.id == 2:
                return int(extension.value)
        return None

    @property
    def is_ca(self) -> bool:
        """Whether basic constraints say that this is a CA's certificate."""
        constraints = self.extension(4)
        return constraints is not None and constraints >= -1

    @property
    def tbs(self) -> bytes:
        """The ten items before the signature, one after the other: what a native signature is over."""
        if not hasattr(self, "_items"):
            native = self.type == NATIVE
            algorithm, key = self.public_key_algorithm, self.public_key
            items = cbor.encode(
                [
                    self.type,
                    self.serial,
                    algorithm_item(self.signature_algorithm),
                    None if self.issuer is None or self.issuer == self.subject else self.issuer.to_item(),
                    self.not_before,
                    None if self.not_after == NO_EXPIRY else self.not_after,
                    self.subject.to_item(),
                    algorithm_item(algorithm),
                    keys.key_item(algorithm, keys.native_key(algorithm, key) if native else key),
                    extensions_item(self.extensions),
                ]
            )[1:]
            object.__setattr__(self, "_items", items)
        return self._items

    @property
    def tbs_der(self) -> bytes:
        """X.509's TBSCertificate: what a re-encoded certificate's signature is over.

        Raises:
            MalformedMessage: The public key has to be decompressed and is not on the curve.
        """
        return self._tbs_der if hasattr(self, "_tbs_der") else self.keep_tbs_der(self.spki_der)

    def keep_tbs_der(self, spki: bytes) -> bytes:
        """Return `tbs_der` for this SubjectPublicKeyInfo and remember it.

        For an issuer, who has the uncompressed point at hand: nobody has to compute it again.
        """
        encoded = x509_writer.tbs_certificate(
            serial=self.serial,
            signature_algorithm=self.signature_algorithm,
            issuer=self.issuer_name,
            not_before=self.not_before,
            not_after=self.not_after,
            subject=self.subject,
            spki=spki,
            extensions=self.extensions,
        )
        object.__setattr__(self, "_tbs_der", encoded)
        return encoded

    @property
    def signed_bytes(self) -> bytes:
        """What the signature is over: `tbs` or `tbs_der` by type.

        Raises:
            MalformedMessage: As `tbs_der`.
        """
        return self.tbs if self.type == NATIVE else self.tbs_der

    def to_be_signed(self) -> bytes:
        """Return `signed_bytes`, for a signer."""
        return self.signed_bytes

    def with_signature(self, signature: bytes) -> "Certificate":
        """Return the certificate with this signature: r‖s for ECDSA, otherwise as it is made."""
        items = self.tbs
        certificate = Certificate(
            self.type,
            self.serial,
            self.signature_algorithm,
            self.issuer,
            self.not_before,
            self.not_after,
            self.subject,
            self.public_key_algorithm,
            self.public_key,
            self.extensions,
            signature,
            b"\x8b" + items + byte_string(signature),
        )
        if hasattr(self, "_tbs_der"):
            object.__setattr__(certificate, "_tbs_der", self._tbs_der)
        return certificate


@dataclass(frozen=True, slots=True, eq=False)
class Certificate(TbsCertificate):
    """A certificate; equal to another where the encodings are.

    Attributes:
        signature: r‖s for ECDSA, otherwise as X.509 has it.
        encoded: The whole deterministic encoding, `8b…`.
    """

    signature: bytes
    encoded: bytes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificate) and self.encoded == other.encoded

    def __hash__(self) -> int:
        return hash(self.encoded)

    @property
    def tbs(self) -> bytes:
        """The ten items before the signature, one after the other: what a native signature is over."""
        size = len(self.signature)
        return self.encoded[1 : -size - head_size(size)]

    @property
    def signature_der(self) -> bytes:
        """The signature as `cryptography` takes it: ECDSA-Sig-Value in DER for ECDSA, others as they are."""
        return signature_to_der(self.signature_algorithm, self.signature)

    def to_der(self) -> bytes:
        """Return the X.509 certificate that this one was made from, byte for byte.

        Raises:
            MalformedMessage: The public key has to be decompressed and is not on the curve.
            ValueError: A native certificate has no DER.
        """
        if self.type != REENCODED:
            msg = "a native certificate has no DER form"
            raise ValueError(msg)
        return x509_writer.signed(self.tbs_der, self.signature_algorithm, self.signature)


def _time(item: Any) -> int:  # noqa: ANN401 (checked here)
    if type(item) is not int or not 0 <= item <= NO_EXPIRY:
        malformed("time out of range")
    return item


def certificate_from_item(item: Any, encoded: bytes) -> Certificate:  # noqa: ANN401 (checked here)
    """Return the certificate that a decoded CBOR item holds; `encoded` is its encoding.

    Raises:
        MalformedMessage: Not a certificate.
    """
    kind, serial, algorithm, issuer, not_before, not_after, subject, key_algorithm, key, listed, signature = (
        members(item, 11, "a certificate")
    )
    if type(kind) is not int or kind not in (NATIVE, REENCODED):
        malformed("certificate type is 2 or 3")
    native = kind == NATIVE
    algorithm = algorithm_from_item(algorithm, SIGNATURE_DER, native=native)
    key_algorithm = algorithm_from_item(key_algorithm, PUBLIC_KEY_DER, native=native)
    name = Name.from_item(subject, native=native)
    issuer_name = None if issuer is None else Name.from_item(issuer, native=native)
    if issuer_name == name:
        malformed("an issuer that equals the subject is null")
    if type(signature) is not bytes:
        malformed("signature is a byte string")
    check_signature(algorithm, signature)
    if not_after is not None and _time(not_after) == NO_EXPIRY:
        malformed("no expiry is null")
    return Certificate(
        kind,
        positive_magnitude(serial),
        algorithm,
        issuer_name,
        _time(not_before),
        not_after,
        name,
        key_algorithm,
        keys.key_from_item(key_algorithm, key),
        extensions_from_item(listed, native=native),
        signature,
        encoded,
    )


def decode_certificate(
    data: bytes, *, max_bytes: int = MAX_CERTIFICATE_BYTES, sequence: bool = False
) -> Certificate:
    """Return the certificate that `data` encodes.

    Args:
        data: Any bytes.
        max_bytes: Longest accepted input.
        sequence: Take the form before revision 20 of the draft: the eleven items without their array.

    Raises:
        MalformedMessage: Not a certificate in deterministic encoding; no other exception.
    """
    data = b"\x8b" + data if sequence else bytes(data)
    return certificate_from_item(cbor.decode(data, max_bytes=max_bytes, tags=TAGS), data)


def decode_certificate_sequence(data: bytes) -> Certificate:
    """Return `decode_certificate(data, sequence=True)`; its `encoded` is the array form."""
    return decode_certificate(data, sequence=True)
