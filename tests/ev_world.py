"""A small real charging world: V2G, MO and OEM roots with their CAs and leaves, in the forms of both parts.

Certificates are made with `cryptography`'s builder, so that what the validator reads was not written by it.
Working defaults, so that a test overrides the one thing that it is about:

    world.secc(key_usage=("key_agreement",))       a station's leaf with another key usage
    world.cpo2.issue(Wish(role="CPS"))             a leaf of a CA, from nothing
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from protocol import c509

NOW: Final = 1_800_000_000
"""POSIX seconds: what time it is in the world."""
DAY: Final = 24 * 3600
YEAR: Final = 365 * DAY

USAGES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
CA_USAGES: Final = ("key_cert_sign", "crl_sign")
CA_TRUE: Final = "CA:TRUE"
CA_FALSE: Final = "CA:FALSE"


@dataclass(frozen=True)
class Style:
    """What the two parts of the standard, and metering, do differently."""

    curve: type[ec.EllipticCurve] = ec.SECP256R1
    digest: type[hashes.HashAlgorithm] = hashes.SHA256
    is_critical: bool = False
    """Whether AKI, SKI, AIA and CRLDP are critical (ISO 15118-20)."""
    identifier_bytes: int = 20
    station_role: str = "CPO"
    has_pointers: bool = True


PART_2: Final = Style()
PART_20: Final = Style(ec.SECP521R1, hashes.SHA512, True, 8, "CSO")


@dataclass(frozen=True)
class Wish:
    """What a certificate shall be. None leaves a thing out."""

    cn: str | None = "DE*ICE*S*0123456789ABCDEF0123456789ABCDEF"
    role: str | None = None
    organisation: str | None = "Test Co"
    country: str | None = None
    more_names: tuple[x509.NameAttribute[str], ...] = ()
    usages: tuple[str, ...] | None = ("digital_signature",)
    usage_critical: bool = True
    constraints: str | None = CA_FALSE
    """CA_TRUE, CA_FALSE, or None for no basic constraints."""
    path_length: int | None = None
    not_before: int = NOW - DAY
    not_after: int = NOW + 60 * DAY
    key: Any = None
    """Private key; None makes one of the style's curve."""
    digest: Any = None
    """Hash of the issuer's signature; None is the style's. Edwards keys have none."""
    issuer_name: x509.Name | None = None
    """A name other than the issuer's own."""
    identifier: bytes | None = None
    """Subject key identifier; None derives it from the key."""
    authority: bytes | None = None
    """Authority key identifier; None is the issuer's."""
    without: frozenset[type[x509.ExtensionType]] = frozenset()
    """Extensions that are left out."""
    extra: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    """Extensions with their criticality."""
    is_critical: bool | None = None
    """Criticality of AKI, SKI, AIA and CRLDP; None is the style's."""
    pointer_path: str = "o"
    serial: int | None = None


def name_of(wish: Wish) -> x509.Name:
    """Return the subject."""
    attributes = [
        x509.NameAttribute(kind, value)
        for kind, value in (
            (NameOID.DOMAIN_COMPONENT, wish.role),
            (NameOID.COUNTRY_NAME, wish.country),
            (NameOID.ORGANIZATION_NAME, wish.organisation),
            (NameOID.COMMON_NAME, wish.cn),
        )
        if value is not None
    ]
    return x509.Name([*attributes, *wish.more_names])


def identifier_of(key: Any, size: int) -> bytes:
    """Return a subject key identifier: method 1 of RFC 5280, or method 2, which has 8 bytes."""
    digest = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest
    return digest if size == 20 else bytes([0x40 | digest[-8] & 15]) + digest[-7:]


def moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds)


@dataclass(frozen=True)
class Party:
    """Somebody with a key and a certificate."""

    key: Any
    x509: x509.Certificate
    identifier: bytes
    style: Style
    certificate: c509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "certificate", c509.from_der(self.der))

    @property
    def der(self) -> bytes:
        return self.x509.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.x509.public_bytes(Encoding.PEM)

    def issue(self, wish: Wish) -> "Party":
        """Return a new party whose certificate this one signed."""
        return issue(self, wish, self.style)

    def ca(self, cn: str, path_length: int | None = None, **named: Any) -> "Party":
        """Return a new CA below this one."""
        return self.issue(ca_wish(cn, path_length, **named))


def ca_wish(cn: str, path_length: int | None = None, **named: Any) -> Wish:
    """Return what a CA's certificate is."""
    wish = Wish(
        cn=cn,
        usages=CA_USAGES,
        constraints=CA_TRUE,
        path_length=path_length,
        not_before=NOW - YEAR,
        not_after=NOW + 3 * YEAR,
    )
    return replace(wish, **named)


def root(cn: str, style: Style = PART_2, **named: Any) -> Party:
    """Return a new root."""
    return issue(None, ca_wish(cn, **{"not_after": NOW + 39 * YEAR, **named}), style)


def issue(issuer: Party | None, wish: Wish, style: Style) -> Party:
    """Return a party with a certificate of `issuer`; None signs with its own key."""
    key = wish.key or ec.generate_private_key(style.curve())
    identifier = wish.identifier or identifier_of(key, style.identifier_bytes)
    subject = name_of(wish)
    signer = key if issuer is None else issuer.key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(wish.issuer_name or (subject if issuer is None else issuer.x509.subject))
        .public_key(key.public_key())
        .serial_number(wish.serial or x509.random_serial_number())
        .not_valid_before(moment(wish.not_before))
        .not_valid_after(moment(wish.not_after))
    )
    for extension, critical in extensions_of(issuer, wish, style, identifier):
        if type(extension) not in wish.without:
            builder = builder.add_extension(extension, critical=critical)
    digest: Any = wish.digest or style.digest
    is_edwards = not isinstance(signer, ec.EllipticCurvePrivateKey) and not hasattr(signer, "private_numbers")
    return Party(key, builder.sign(signer, None if is_edwards else digest()), identifier, style)


def extensions_of(
    issuer: Party | None, wish: Wish, style: Style, identifier: bytes
) -> list[tuple[x509.ExtensionType, bool]]:
    """Return the extensions with their criticality."""
    critical = style.is_critical if wish.is_critical is None else wish.is_critical
    found: list[tuple[x509.ExtensionType, bool]] = []
    if wish.constraints is not None:
        constraints = x509.BasicConstraints(wish.constraints == CA_TRUE, wish.path_length)
        found.append((constraints, True))
    if wish.usages is not None:
        usage = x509.KeyUsage(**{name: name in wish.usages for name in USAGES})
        found.append((usage, wish.usage_critical))
    found.append((x509.SubjectKeyIdentifier(identifier), critical))
    if issuer is not None:
        authority = wish.authority or issuer.identifier
        found.append((x509.AuthorityKeyIdentifier(authority, None, None), critical))
        if style.has_pointers:
            ocsp = x509.UniformResourceIdentifier(f"http://ocsp.test/{wish.pointer_path}")
            crl = x509.UniformResourceIdentifier("http://crl.test/c")
            access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, ocsp)
            point = x509.DistributionPoint([crl], None, None, None)
            found.append((x509.AuthorityInformationAccess([access]), critical))
            found.append((x509.CRLDistributionPoints([point]), critical))
    return found + list(wish.extra)


class EvWorld:
    """Roots, sub-CAs and leaves of one part of ISO 15118."""

    def __init__(self, style: Style = PART_2) -> None:
        self.style = style
        self.v2g = root("V2G Root", style, role="V2G")
        self.cpo1 = self.v2g.ca("CPO Sub1", 1, role="V2G", country="DE")
        self.cpo2 = self.cpo1.ca("CPO Sub2", 0, role="V2G", country="DE")
        self.cps1 = self.v2g.ca("CPS Sub1", 1, role="CPS")
        self.cps2 = self.cps1.ca("CPS Sub2", 0, role="CPS")
        self.mo = root("MO Root", style, role="MO")
        self.mo1 = self.mo.ca("MO Sub1", 1, role="MO")
        self.mo2 = self.mo1.ca("MO Sub2", 0, role="MO")
        self.oem = root("OEM Root", style, role="OEM")
        self.oem1 = self.oem.ca("OEM Sub1", 1, role="OEM")
        self.oem2 = self.oem1.ca("OEM Sub2", 0, role="OEM")

    @property
    def cas(self) -> list[c509.Certificate]:
        """Every sub-CA, in no useful order."""
        pool = (self.oem1, self.cps2, self.cpo1, self.mo2, self.cpo2, self.mo1, self.oem2, self.cps1)
        return [party.certificate for party in pool]

    @property
    def roots(self) -> list[c509.Certificate]:
        return [self.mo.certificate, self.v2g.certificate, self.oem.certificate]

    def secc_wish(self, **named: Any) -> Wish:
        return replace(Wish(role=self.style.station_role, country="DE"), **named)

    def secc(self, issuer: Party | None = None, **named: Any) -> Party:
        """Return a charging station's leaf."""
        return (issuer or self.cpo2).issue(self.secc_wish(**named))

    def cps(self, issuer: Party | None = None, **named: Any) -> Party:
        """Return a provisioning service's leaf."""
        return (issuer or self.cps2).issue(replace(Wish(cn="CPS Leaf", role="CPS"), **named))

    def contract(self, issuer: Party | None = None, **named: Any) -> Party:
        """Return a contract's leaf."""
        part_2 = ("digital_signature", "content_commitment", "key_encipherment", "key_agreement")
        usages = ("digital_signature", "key_agreement") if self.style.is_critical else part_2
        wish = Wish(cn="DEABCC01234567", usages=usages, not_after=NOW + YEAR)
        return (issuer or self.mo2).issue(replace(wish, **named))

    def provisioning(self, issuer: Party | None = None, **named: Any) -> Party:
        """Return a car's provisioning leaf."""
        usages = ("digital_signature", "key_agreement")
        wish = Wish(cn="WMIV1234567890ABCD", role="OEM", usages=usages, not_after=NOW + 20 * YEAR)
        return (issuer or self.oem2).issue(replace(wish, **named))
