"""What a provisioning service vouches for: a contract's certificates, and its key wrapped to a car.

    contents = [edition, [leaf DER, sub-CA DER, …], encrypted key, DH public key, name]

The same parts that ISO 15118's own signature covers. `name` is the eMAID (part 2), or the PCID of the car
(part 20, where the key is bound to it and the eMAID stands in the certificate). A chain has the leaf and up
to three sub-CAs, never the root.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from protocol.cose import Algorithm
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.ev import wrap2, wrap20
from protocol.ev.agreement import P256, P521, Agreement, Group, WrappedKey
from protocol.ev.names import Emaid, Pcid

MAX_SUB_CAS: Final = 3
"""Sub-CAs in a chain (the schema of part 20); part 2 speaks of two, its schema of four."""


class Edition(IntEnum):
    """Which part of ISO 15118 a contract is for; the number goes on the wire."""

    PART_2 = 2
    PART_20 = 20

    @classmethod
    def of(cls, algorithm: Algorithm) -> "Edition":
        """Return the part whose contract keys are used with `algorithm`.

        Raises:
            ValueError: None's are.
        """
        for edition in cls:
            if edition.algorithm is algorithm:
                return edition
        raise ValueError(f"no part of ISO 15118 uses {algorithm.name}")

    @property
    def algorithm(self) -> Algorithm:
        """What its keys are used with."""
        return Algorithm.ES256 if self is Edition.PART_2 else Algorithm.ES512

    @property
    def group(self) -> Group:
        """The one curve of its keys here (Ed448 and X448 are out of scope, docs/ev.md)."""
        return P256 if self is Edition.PART_2 else P521

    @property
    def max_certificate_bytes(self) -> int:
        """Longest DER certificate that its schema has room for."""
        return 800 if self is Edition.PART_2 else 1600

    @property
    def encrypted_bytes(self) -> int:
        """Length of an encrypted private key."""
        return wrap2.ENCRYPTED_BYTES if self is Edition.PART_2 else wrap20.ENCRYPTED_BYTES


@dataclass(frozen=True, slots=True)
class Installation:
    """One contract for one car; holds nothing secret but what is encrypted."""

    edition: Edition
    contract_chain: tuple[bytes, ...]
    """DER: the contract certificate, then the sub-CAs above it."""
    wrapped: WrappedKey
    name: str
    """eMAID (part 2) or PCID (part 20), canonical."""

    @classmethod
    def decode(cls, item: Any) -> "Installation":  # noqa: ANN401 (checked here)
        """Return the installation that a decoded CBOR item is.

        Lengths, counts and the grammar of the name are checked; no certificate is opened yet.

        Raises:
            MalformedMessage: It is none.
        """
        match item:
            case [int(number), chain, bytes(encrypted), bytes(dh_public_key), str(name)]:
                pass
            case _:
                raise MalformedMessage("an installation is [edition, chain, encrypted key, DH key, name]")
        try:
            edition = Edition(number)
        except ValueError:
            raise MalformedMessage("an installation is for part 2 or part 20") from None
        if len(encrypted) != edition.encrypted_bytes or len(dh_public_key) != edition.group.point_bytes:
            raise MalformedMessage("the encrypted key or the DH public key has another length")
        try:
            if edition is Edition.PART_2:
                Emaid.parse(name, verify=False)  # whose check character it is to judge is the issuer's
            else:
                Pcid.parse(name)
        except RequestRejected as error:
            raise MalformedMessage(error.detail) from None
        certificates = certificates_of(chain, edition)
        return cls(edition, certificates, WrappedKey(dh_public_key, encrypted), name)

    def to_item(self) -> list[object]:
        """Return the CBOR item, ready to encode; `decode` gives it back."""
        return [
            int(self.edition),
            list(self.contract_chain),
            self.wrapped.encrypted,
            self.wrapped.dh_public_key,
            self.name,
        ]

    def certificate(self) -> x509.Certificate:
        """Return the contract certificate, parsed and nothing more: its path is not validated.

        Raises:
            MalformedMessage: Not a certificate.
        """
        return load_certificate(self.contract_chain[0])

    def certified_key(self) -> ec.EllipticCurvePublicKey:
        """Return the public key in the contract certificate.

        Raises:
            MalformedMessage: Not a certificate.
            RequestRejected: Its key is of another curve than the edition's; BAD_KEY.
        """
        key = public_key_of(self.certificate())
        if key.curve.name != self.edition.group.curve.name:
            raise RequestRejected(ProblemKind.BAD_KEY, "the contract's key is of another curve")
        return key

    def emaid(self) -> str:
        """Return the common name of the contract certificate, if it is an eMAID in canonical spelling.

        Raises:
            MalformedMessage: Not a certificate.
            RequestRejected: It has no common name, several, or one that is no eMAID; WRONG_SUBJECT.
        """
        names = self.certificate().subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if len(names) != 1 or not isinstance(name := names[0].value, str):
            raise RequestRejected(ProblemKind.WRONG_SUBJECT, "a contract certificate has one common name")
        return str(Emaid.parse(name, verify=False))

    def key_identifier(self) -> bytes:
        """Return the subject key identifier of the contract certificate.

        Raises:
            MalformedMessage: Not a certificate, or it has none.
        """
        try:
            extension = self.certificate().extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
            raise MalformedMessage("the contract certificate has no subject key identifier") from None
        return extension.value.digest

    def unwrap(self, own: Agreement, *, pcid: str | None = None) -> ec.EllipticCurvePrivateKey:
        """Return the contract key; `check` the package first, nothing here says who made it.

        Args:
            own: The private key it was wrapped to: the car's provisioning key, or (part 2) that of the
                contract which this one replaces.
            pcid: The car's own; part 20 needs it.

        Raises:
            MalformedMessage: A certificate is none.
            RequestRejected: See `wrap2.unwrap` and `wrap20.unwrap`.
            ValueError: Part 20 without a PCID.
        """
        certified = self.certified_key()
        if self.edition is Edition.PART_2:
            return wrap2.unwrap(self.wrapped, own, certified)
        if pcid is None:
            raise ValueError("part 20 binds the key to the car's PCID")
        return wrap20.unwrap(self.wrapped, own, certified, pcid=pcid, key_identifier=self.key_identifier())


def certificates_of(item: object, edition: Edition) -> tuple[bytes, ...]:
    """Return the DER certificates of a decoded chain: a leaf and up to three sub-CAs, none too long.

    Raises:
        MalformedMessage: Anything else.
    """
    members = cast("list[Any]", item) if type(item) is list else []
    if not 1 <= len(members) <= 1 + MAX_SUB_CAS:
        raise MalformedMessage(f"a chain is a leaf and up to {MAX_SUB_CAS} sub-CAs")
    for der in members:
        if type(der) is not bytes or not 1 <= len(der) <= edition.max_certificate_bytes:
            raise MalformedMessage(f"a certificate is 1 to {edition.max_certificate_bytes} bytes of DER")
    return tuple(members)


def load_certificate(der: bytes) -> x509.Certificate:
    """Return the certificate in `der`, or raise MalformedMessage."""
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion):
        raise MalformedMessage("not an X.509 certificate") from None


def public_key_of(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """Return the elliptic-curve key of a certificate.

    Raises:
        RequestRejected: A key of another kind, or a point that is not on its curve; BAD_KEY.
    """
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise RequestRejected(ProblemKind.BAD_KEY, "the certificate's key cannot be read") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise RequestRejected(ProblemKind.BAD_KEY, "the certificate's key is of another kind")
    return key
