"""One certificate as rules look at it: read once, asked often."""

from dataclasses import dataclass

from protocol import c509
from protocol.c509 import ExtensionId
from protocol.c509.der import BIT_STRING, SEQUENCE, Reader, whole
from protocol.errors import MalformedMessage
from protocol.validator.listed import Listed, attributes, listed

SAN = ExtensionId.SUBJECT_ALT_NAME


@dataclass(frozen=True, slots=True)
class View:
    """What rules read.

    Attributes:
        certificate: The one that is judged.
        der: Its DER; None for a native one, and where its point is not on its curve.
        has: Its extensions.
        names: Type and text of each of the subject's attributes.
        point: Octets of the key as X.509's BIT STRING has them; None where it is not on its curve, and for
            a native certificate, which has none.
        is_key_good: Whether the key can be loaded.
        issuer: The issuing CA's certificate, where it is known.
    """

    certificate: c509.Certificate
    der: bytes | None
    has: Listed
    names: tuple[tuple[int | bytes, str | None], ...]
    point: bytes | None
    is_key_good: bool
    issuer: c509.Certificate | None

    @classmethod
    def of(cls, certificate: c509.Certificate, der: bytes | None, issuer: c509.Certificate | None) -> "View":
        """Return a view; a certificate that names itself is its own issuer.

        Args:
            certificate: Any that decodes.
            der: As it was found; None where there was none but C509.
            issuer: What is at hand as its issuer; ignored if it is another's certificate.
        """
        point = _point(certificate)
        if der is None and point is not None:
            der = certificate.to_der()
        if certificate.issuer is None:
            issuer = certificate
        elif issuer is not None and issuer.subject != certificate.issuer_name:
            issuer = None
        return cls(
            certificate,
            der,
            listed(certificate),
            tuple(attributes(certificate.subject)),
            point,
            _is_good(certificate),
            issuer,
        )

    @property
    def is_self_issued(self) -> bool:
        """Whether it names itself as its issuer."""
        return self.certificate.issuer is None

    @property
    def alternative_names(self) -> tuple[c509.GeneralName, ...]:
        """The names of a subject alternative name that can be read."""
        return self.has.value(SAN) or ()


def _point(certificate: c509.Certificate) -> bytes | None:
    if certificate.type != c509.REENCODED:
        return None
    try:
        spki = certificate.spki_der
    except MalformedMessage:
        return None
    reader = Reader(whole(spki, SEQUENCE))
    reader.raw()
    return reader.take(BIT_STRING)[1:]


def _is_good(certificate: c509.Certificate) -> bool:
    try:
        certificate.load_public_key()
    except MalformedMessage:
        return False
    return True
