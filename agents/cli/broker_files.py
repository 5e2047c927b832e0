"""Certificates that a broker needs beside the devices': its own, and our services'.

Kept in DIR/broker and made when they are first needed, or near their end:

| file                 | what                                                           |
|----------------------|----------------------------------------------------------------|
| server.pem, .key     | what the broker shows, with its chain: issued by the first       |
|                      | domain's operator, so that devices verify it by their root       |
| service-ca.pem, .key | certifies our services and nobody else; a broker trusts it on a  |
|                      | listener of its own                                            |
| service.pem, .key    | what `trillium serve` shows to an external broker                |

Keys are encrypted with the authority's passphrase.
"""

import datetime as dt
import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agents.authority import Layout, Settings
from agents.cli.failure import REFUSED, Failure
from agents.keys import load_private_key, save_private_key, write_atomically
from protocol.labels import Domain
from protocol.profiles.authorities import CaProfile

LIFE: Final = dt.timedelta(days=397)
"""What TLS clients put up with."""
CA_LIFE: Final = dt.timedelta(days=3650)
LEFT: Final = dt.timedelta(days=30)
"""Made anew when less than this is left."""
BACKDATE: Final = dt.timedelta(minutes=5)
SERVICE: Final = "authority"
"""Common name of our services' certificate."""
ALWAYS: Final = ("localhost", "127.0.0.1", "::1")
"""Names that the server's certificate has besides those that are asked for."""

_Key = ec.EllipticCurvePrivateKey


class BrokerFiles:
    """The files of one authority's broker.

    Args:
        directory: The authority's.
        settings: Its own.
    """

    def __init__(self, directory: Path, settings: Settings) -> None:
        self._layout = Layout(directory)
        self._settings = settings
        self._domains = settings.domains
        self._folder = directory / "broker"

    @property
    def root(self) -> Path:
        """The root above the certificate that a broker shows, PEM."""
        return self._layout.certificate(self._settings.lines(self._domains[0]).root.name)

    def device_cas(self) -> str:
        """Return the CAs that issue devices' certificates, PEM, without those above them."""
        return "".join(
            self._layout.certificate(f"{domain.value}-{who}").read_text()
            for domain in self._domains
            for who in ("maker", "operator")
        )

    def device_anchors(self) -> bytes:
        """Return the same with everything up to the root, for brokers that want whole chains."""
        names = {ca.name: None for domain in self._domains for ca in self._above(domain)}
        above = "".join(self._layout.certificate(name).read_text() for name in names)
        return (self.device_cas() + above).encode()

    def _above(self, domain: Domain) -> tuple[CaProfile, ...]:
        lines = self._settings.lines(domain)
        return (*reversed(lines.maker[:-1]), *reversed(lines.operator[:-1]))

    def server(self, names: Sequence[str], passphrase: bytes) -> tuple[Path, Path]:
        """Return certificate chain and key that the broker shows.

        Args:
            names: Host names and addresses by which devices reach it, besides `ALWAYS`.
            passphrase: Of the authority's keys.

        Raises:
            Failure: The passphrase is wrong, or a file cannot be read.
        """
        domain = self._domains[0]
        operator = self._layout.operator(domain)
        wanted = {*ALWAYS, *names, socket.gethostname()} - {"0.0.0.0", "::", ""}  # noqa: S104 (left out, not bound)
        chain, key = self._folder / "server.pem", self._folder / "server.key"
        issuer = _certificate(self._layout.certificate(f"{domain.value}-operator"))
        if not _is_good(chain, key, issuer, wanted):
            builder, own = _builder(min(wanted), issuer.subject, LIFE)
            builder = (
                builder.add_extension(_alternative_names(wanted), critical=False)
                .add_extension(_usage(signs=True), critical=True)
                .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            )
            certificate = _sign(builder, _key(operator / "ca.key", passphrase), issuer)
            line = self._settings.lines(domain).operator
            above = [self._layout.certificate(ca.name).read_bytes() for ca in reversed(line[1:-1])]
            self._save("server", own, passphrase, _pem(certificate) + _pem(issuer) + b"".join(above))
        return chain, key

    def service(self, passphrase: bytes) -> tuple[Path, Path]:
        """Return certificate and key that our services show to a broker; as `server`."""
        path, key = self._folder / "service.pem", self._folder / "service.key"
        ca = self.service_ca(passphrase)
        issuer = _certificate(ca)
        if not _is_good(path, key, issuer, set()):
            builder, own = _builder(SERVICE, issuer.subject, LIFE)
            builder = builder.add_extension(_usage(signs=True), critical=True).add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
            )
            certificate = _sign(builder, _key(ca.with_suffix(".key"), passphrase), issuer)
            self._save("service", own, passphrase, _pem(certificate))
        return path, key

    def service_ca(self, passphrase: bytes) -> Path:
        """Return the certificate of the CA that certifies our services and nobody else."""
        path = self._folder / "service-ca.pem"
        if not _is_good(path, path.with_suffix(".key"), None, set()):
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Trillium services")])
            builder, own = _builder("Trillium services", name, CA_LIFE)
            builder = builder.add_extension(
                x509.BasicConstraints(ca=True, path_length=0), critical=True
            ).add_extension(_usage(signs=False), critical=True)
            self._save("service-ca", own, passphrase, _pem(_sign(builder, own, None)))
        return path

    def _save(self, name: str, key: _Key, passphrase: bytes, certificates: bytes) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        save_private_key(self._folder / f"{name}.key", key, passphrase)
        write_atomically(self._folder / f"{name}.pem", certificates, mode=0o644)


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", REFUSED) from None
    except ValueError:
        raise Failure(f"{path}: no certificate", REFUSED) from None


def _key(path: Path, passphrase: bytes) -> _Key:
    try:
        key = load_private_key(path, passphrase)
    except (OSError, ValueError) as error:
        raise Failure(str(error), REFUSED) from None
    if not isinstance(key, _Key):
        raise Failure(f"{path}: a key of another kind than is used here", REFUSED)
    return key


def _is_good(path: Path, key: Path, issuer: x509.Certificate | None, names: set[str]) -> bool:
    """Return whether what is there can go on being used."""
    if not path.is_file() or not key.is_file():
        return False
    found = _certificate(path)
    if found.not_valid_after_utc < dt.datetime.now(dt.UTC) + LEFT:
        return False
    if issuer is not None:
        try:
            found.verify_directly_issued_by(issuer)
        except Exception:  # noqa: BLE001 (whatever does not fit is made anew)
            return False
    return not names or names <= _names_of(found)


def _names_of(certificate: x509.Certificate) -> set[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    addresses = found.get_values_for_type(x509.IPAddress)
    return {*found.get_values_for_type(x509.DNSName), *(str(address) for address in addresses)}


def _alternative_names(names: set[str]) -> x509.SubjectAlternativeName:
    found: list[x509.GeneralName] = []
    for name in sorted(names):
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return x509.SubjectAlternativeName(found)


def _builder(common_name: str, issuer: x509.Name, life: dt.timedelta) -> tuple[x509.CertificateBuilder, _Key]:
    key = ec.generate_private_key(ec.SECP256R1())
    start = dt.datetime.now(dt.UTC) - BACKDATE
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder, key


def _sign(builder: x509.CertificateBuilder, key: _Key, issuer: x509.Certificate | None) -> x509.Certificate:
    if issuer is not None:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    return builder.sign(key, hashes.SHA256())


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not signs,
        crl_sign=not signs,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
