"""Answers that are the same for everybody: CA certificates and request templates."""

from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from agents.authority.domain import DomainAuthority
from protocol import c509
from protocol.exchange.request import KEY_ALGORITHMS, SIGNATURE_ALGORITHMS
from protocol.ports import Content, Media
from protocol.profiles import Profile

_COMMON_NAME: Final = 1
_NATIVE_REQUEST: Final = 2


def etag(body: bytes) -> bytes:
    """Return an entity tag: 8 bytes, equal as long as the body is."""
    return sha256(body).digest()[:8]


def certificates(authority: DomainAuthority) -> Content:
    """Return `crts`: issuer first, the root not included, the registration certificate last."""
    body = c509.encode_chain(authority.chain)
    return Content(body, Media.COSE_C509, etag(body))


def certificates_der(authority: DomainAuthority) -> Content:
    """Return `crts` as RFC 9148 §4.2 has it: a certs-only PKCS#7."""
    body = to_pkcs7(*(certificate.to_der() for certificate in authority.chain))
    return Content(body, Media.PKCS7_CERTS_ONLY, etag(body))


def template(profile: Profile) -> Content:
    """Return `att`: what a request under this label holds, which is no more than the profile takes."""
    algorithms = profile.algorithms
    body = c509.RequestTemplate(
        request_types=(_NATIVE_REQUEST,),
        signature_algorithms=tuple(SIGNATURE_ALGORITHMS[algorithm] for algorithm in algorithms),
        subject=(c509.NameAttributeTemplate(_COMMON_NAME),),
        public_key_algorithms=tuple(KEY_ALGORITHMS[algorithm] for algorithm in algorithms),
    ).encode()
    return Content(body, Media.C509_TEMPLATE, etag(body))


def to_pkcs7(*certificates: bytes) -> bytes:
    """Return DER certificates as a certs-only PKCS#7."""
    loaded = [x509.load_der_x509_certificate(der) for der in certificates]
    return pkcs7.serialize_certificates(loaded, Encoding.DER)


def as_asked(content: Content, accept: Media | None) -> Content:
    """Return a certificate in the form that the peer asked for, where it has one."""
    if content.media is not Media.C509_CERTIFICATE or accept not in DER_FORMS:
        return content
    der = c509.decode_certificate(content.body).to_der()
    if accept is Media.PKIX_CERT:
        return Content(der, Media.PKIX_CERT)
    return Content(to_pkcs7(der), Media.PKCS7_CERTS_ONLY)


DER_FORMS: Final = frozenset({Media.PKIX_CERT, Media.PKCS7_CERTS_ONLY})
"""Forms that only an X.509 certificate has."""
