"""Content-Format numbers: from what bytes are to what CoAP calls them, and back."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Final

from protocol.labels import Operation
from protocol.ports import Media

COSE_SIGN1: Final = 18
"""application/cose; cose-type=cose-sign1 (RFC 9052 §11.3.2): requests, receipts, signed refusals."""
LINK_FORMAT: Final = 40
"""application/link-format (RFC 6690)."""
CBOR: Final = 60
"""application/cbor (RFC 8949 §9.3)."""
PROBLEM_DETAILS: Final = 257
"""application/concise-problem-details+cbor (RFC 9290)."""
PKCS7_CERTS_ONLY: Final = 281
"""application/pkcs7-mime; smime-type=certs-only (RFC 9148 §8.1)."""
PKIX_CERT: Final = 287
"""application/pkix-cert (RFC 9148 §8.1)."""


@dataclass(frozen=True)
class ContentFormats:
    """The number of each `Media`.

    IANA has assigned none to C509 (draft-ietf-cose-cbor-encoded-cert-20), to CRLs or to contract packages
    (`protocol.ev.package`), so those are settings; both sides of a link need the same. The defaults are of
    the experimental range (RFC 7252 §12.3: 65000 to 65535).

    Raises:
        ValueError: A number is not 0 to 65535, or two media have the same.
    """

    c509_certificate: int = 65000
    cose_c509: int = 65001
    c509_template: int = 65002
    pkix_crl: int = 65003
    c509_crl: int = 65004
    contract_package: int = 65005
    _number_of: Mapping[Media, int] = field(init=False, repr=False, compare=False)
    _media_of: Mapping[int, Media] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        numbers = {
            Media.SIGN1: COSE_SIGN1,
            Media.C509_CERTIFICATE: self.c509_certificate,
            Media.COSE_C509: self.cose_c509,
            Media.C509_TEMPLATE: self.c509_template,
            Media.PKCS7_CERTS_ONLY: PKCS7_CERTS_ONLY,
            Media.PKIX_CERT: PKIX_CERT,
            Media.PKIX_CRL: self.pkix_crl,
            Media.C509_CRL: self.c509_crl,
            Media.CONTRACT_PACKAGE: self.contract_package,
            Media.CBOR: CBOR,
        }
        media = {number: media for media, number in numbers.items()}
        if len({*media, LINK_FORMAT, PROBLEM_DETAILS}) < len(numbers) + 2:
            msg = "every media type needs a Content-Format number of its own"
            raise ValueError(msg)
        for setting in fields(self):
            if setting.init and not 0 <= getattr(self, setting.name) <= 0xFFFF:
                msg = f"{setting.name}: a Content-Format number is 0 to 65535"
                raise ValueError(msg)
        # A frozen dataclass lets nobody assign, not even itself.
        object.__setattr__(self, "_number_of", MappingProxyType(numbers))
        object.__setattr__(self, "_media_of", MappingProxyType(media))

    def number(self, media: Media) -> int:
        """Return the Content-Format number of `media`."""
        return self._number_of[media]

    def media(self, number: int | None) -> Media | None:
        """Return what `number` stands for; None if it is none of ours."""
        return None if number is None else self._media_of.get(number)


DEFAULT_FORMATS: Final = ContentFormats()

_CERTIFICATE: Final = (Media.C509_CERTIFICATE, Media.PKCS7_CERTS_ONLY, Media.PKIX_CERT)

ANSWERS: Final[Mapping[Operation, tuple[Media, ...]]] = MappingProxyType(
    {
        Operation.CRTS: (Media.COSE_C509, Media.PKCS7_CERTS_ONLY, Media.PKIX_CERT),
        Operation.ATT: (Media.C509_TEMPLATE,),
        Operation.SEN: _CERTIFICATE,
        Operation.SREN: _CERTIFICATE,
        Operation.SKG: (Media.CONTRACT_PACKAGE,),
        Operation.CONF: (Media.SIGN1,),
        Operation.REV: (Media.SIGN1,),
        Operation.CRL: (Media.PKIX_CRL, Media.C509_CRL),
        Operation.MAIL: (Media.CBOR,),
    }
)
"""What each operation may answer with, the default first; anything else asked for is 4.06."""
