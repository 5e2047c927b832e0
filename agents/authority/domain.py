"""One domain's authority as it is loaded from its directory: keys, certificates, places of its labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from agents.authority.issuer import Issuer
from agents.authority.layout import BadDirectory, Layout, read_settings
from agents.authority.makers import stated_makers
from agents.keys import SoftwareSigner, load_private_key
from protocol import c509, receipt
from protocol.cose import PublicKey
from protocol.errors import EnrollmentError
from protocol.exchange.authority_effects import Statement
from protocol.exchange.authority_judgement import Place
from protocol.labels import Domain
from protocol.path import Authority, verification_key, verify_authority
from protocol.profiles import PROFILES
from protocol.profiles.authorities import CaProfile
from protocol.signing import Signer
from protocol.validity import Clock
from protocol.voucher import key_identifier

Certificates = tuple[c509.Certificate, ...]


class Registrar:
    """The registration key: signs receipts and refusals, and the head of the audit log.

    Args:
        signer: The key.
        certificate: Its certificate, by the authority itself.
    """

    def __init__(self, signer: Signer, certificate: c509.Certificate) -> None:
        self.signer: Final = signer
        self.certificate: Final = certificate
        self.key_id: Final = key_identifier(verification_key(certificate))
        """Key identifier of the registration key, 32 bytes."""
        self._thumbprint = c509.thumbprint(certificate.encoded)

    def sign(self, statement: Statement) -> bytes:
        """Return the signed receipt or refusal."""
        ask = statement.ask
        return receipt.sign_verdict(
            statement.verdict,
            self.signer,
            thumbprint=self._thumbprint,
            request_digest=ask.digest,
            authority=ask.authority,
            label=ask.label,
            op=ask.op,
        )


@dataclass(frozen=True, slots=True)
class DomainAuthority:
    """Everything that one domain's authority is."""

    domain: Domain
    key_id: bytes
    """SHA-256 of the operator CA's SubjectPublicKeyInfo, 32 bytes: how vouchers name it."""
    issuer: Issuer
    registrar: Registrar
    root: c509.Certificate
    """The root that its devices pin."""
    chain: tuple[c509.Certificate, ...]
    """What `crts` gives: operator CA, the CAs above it without the root, registration certificate."""
    makers: tuple[Authority, ...]
    places: Mapping[str, Place]
    """By label."""


def load_domain(directory: Path, domain: Domain, passphrase: bytes, now: int) -> DomainAuthority:
    """Return the authority of one domain, after everything it will say of itself was verified.

    Raises:
        BadDirectory: Something is missing, wrong, expired, or the passphrase is.
    """
    layout, settings = Layout(directory), read_settings(directory)
    lines = settings.lines(domain)
    try:
        key = load_private_key(layout.operator(domain) / "ca.key", passphrase)
        registration_key = load_private_key(layout.operator(domain) / "registration.key", passphrase)
        root, path = read_line(layout, lines.operator)
        operator = path[0]
        registration = read_certificate(layout.certificate(f"{domain.value}-registration"))
        chain = (*path, registration)
        authority = verify_authority(chain, root=root, authority=None, clock=Clock(now))
        makers = read_makers(layout, lines.maker, domain, Clock(now))
    except (OSError, ValueError, EnrollmentError) as error:
        raise BadDirectory(f"{domain.value} authority: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadDirectory(f"{domain.value} authority: the CA key is of another kind than its certificate")
    issuer, registrar = (
        Issuer(key, operator, settings.pointers(lines.operator[-1].name)),
        Registrar(SoftwareSigner(registration_key, even_y=False), registration),
    )
    for name, certificate, public_key in (
        ("CA", operator, key.public_key()),
        ("registration", registration, registration_key.public_key()),
    ):
        if verification_key(certificate) != public_key:
            raise BadDirectory(f"{domain.value} authority: the {name} key and its certificate do not match")
    places = {
        label: Place(authority.key_id, profile, makers)
        for label, profile in PROFILES.items()
        if profile.domain is domain and profile.is_over_the_air and label in authority.labels
    }
    return DomainAuthority(domain, authority.key_id, issuer, registrar, root, chain, makers, places)


def read_line(layout: Layout, line: Sequence[CaProfile]) -> tuple[c509.Certificate, Certificates]:
    """Return a line's root, and the path below it: the issuing CA first, the root not included.

    Where the root issues by itself it is the path.

    Raises:
        OSError: A certificate cannot be read.
        ValueError: Not a certificate.
    """
    certificates = tuple(read_certificate(layout.certificate(ca.name)) for ca in reversed(line))
    return certificates[-1], certificates[:-1] or certificates


def read_makers(
    layout: Layout, line: Sequence[CaProfile], domain: Domain, clock: Clock
) -> tuple[Authority, ...]:
    """Return the makers whose devices a domain takes.

    Its own, any other whose certificate is there and under the same CA, and those that an operator has
    stated (`agents.authority.makers`), whoever is above them.

    Raises:
        OSError: A certificate cannot be read.
        ValueError: Not a certificate.
        EnrollmentError: One that its root does not vouch for, or a statement that was not made.
    """
    root, path = read_line(layout, line)
    above = path[1:]
    stated = stated_makers(layout.store, domain, clock)
    known = {maker.key_id for maker in stated}
    certificates = map(read_certificate, sorted(layout.certificates.glob(f"{domain.value}-maker*.pem")))
    return (
        *(
            verify_authority((certificate, *above), root=root, authority=None, clock=clock)
            for certificate in certificates
            if key_identifier(verification_key(certificate)) not in known
        ),
        *stated,
    )


def read_certificate(path: Path) -> c509.Certificate:
    """Return the X.509 certificate in a PEM file, re-encoded.

    Raises:
        OSError: It cannot be read.
        ValueError: Not a certificate.
    """
    return c509.from_der(x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER))


def registration_keys(directory: Path, domains: tuple[Domain, ...]) -> list[PublicKey]:
    """Return the public registration keys of an authority; no passphrase is needed.

    Raises:
        BadDirectory: They cannot be read.
    """
    certificates = Layout(directory).certificates
    try:
        return [
            verification_key(read_certificate(certificates / f"{domain.value}-registration.pem"))
            for domain in domains
        ]
    except (OSError, ValueError, EnrollmentError) as error:
        raise BadDirectory(f"{directory}: {error}") from None
