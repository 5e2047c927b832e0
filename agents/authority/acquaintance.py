"""Which maker certificates are of: one that is known here, or one that is to be trusted now."""

import re
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from agents.authority.domain import read_certificate, read_line
from agents.authority.intake import Trusted
from agents.authority.layout import BadDirectory, Layout, Settings, read_settings
from agents.authority.maker import FirstOwner
from agents.authority.makers import Statement, merged, order_chain, read_statements, voucher_key_of
from agents.authority.owners import find_owner
from agents.authority.store import Store
from agents.keys import write_atomically
from protocol import c509
from protocol.errors import EnrollmentError, MalformedMessage, ProblemKind, RequestRejected
from protocol.labels import Domain
from protocol.path import is_issued_by, verification_key, verify_authority
from protocol.profiles import profile_of, services_of
from protocol.validity import Clock
from protocol.voucher import key_identifier

MAX_CHAIN_BYTES: Final = 64 * 1024
_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


class Acquaintances:
    """The makers whose devices one domain takes.

    Args:
        directory: Of the authority.
        settings: Its own.
        domain: Which of its domains.
        store: Open.
        clock: What is known of the time.

    Raises:
        BadDirectory: A certificate is damaged, or a statement was not made.
    """

    def __init__(
        self, directory: Path, settings: Settings, domain: Domain, store: Store, clock: Clock
    ) -> None:
        self._makers: Final[dict[bytes, Trusted]] = {}
        self.voucher_keys: Final[list[bytes]] = []
        """Of those makers that have one, SubjectPublicKeyInfo."""
        self._stem: Final = f"{domain.value}-maker-"
        self._files: Final[dict[str, bytes]] = {}
        layout, line = Layout(directory), settings.lines(domain).maker
        try:
            root, path = read_line(layout, line)
            above = () if path[0] == root else (*path[1:], root)
            with store.reading() as connection:
                statements = read_statements(connection, domain)
            self._stated: Final = {statement.key_id: statement.name for statement in statements}
            for file in sorted(layout.certificates.glob(f"{domain.value}-maker*.pem")):
                certificate = read_certificate(file)
                self._files[file.stem] = key_id_of(certificate)
                if key_id_of(certificate) in self._stated:
                    continue
                chain = (certificate, *above)
                authority = verify_authority(chain[:-1] or chain, root=root, authority=None, clock=clock)
                self._makers[authority.key_id] = Trusted(authority, chain)
            for statement in statements:
                self._add(statement, clock)
            own = layout.maker(domain) / "voucher-key.der"
            if own.is_file():
                self.voucher_keys.append(own.read_bytes())
        except (OSError, ValueError, EnrollmentError) as error:
            raise BadDirectory(f"{domain.value} makers: {error}") from None

    def _add(self, statement: Statement, clock: Clock) -> None:
        known = self._makers.get(statement.key_id)
        authority = statement.authority(clock)
        if known is not None:
            authority = merged((authority, known.authority))[0]
        self._makers[statement.key_id] = Trusted(authority, statement.chain)
        if statement.voucher_key is not None:
            self.voucher_keys.append(statement.voucher_key)

    def of_key(self, key_id: bytes) -> Trusted | None:
        """Return the maker whose CA has this key identifier, if it is known."""
        return self._makers.get(key_id)

    def check_new(self, key_id: bytes, name: str) -> None:
        """Check that a maker can be stated under this name.

        Raises:
            RequestRejected: It is known without a statement, or the name is another maker's.
        """
        if key_id in self._makers and key_id not in self._stated:
            raise RequestRejected(ProblemKind.WRONG_SIGNER, "this maker is known already")
        names = {stem.removeprefix(self._stem): key for stem, key in self._files.items()}
        if names.get(name, key_id) != key_id:
            raise RequestRejected(ProblemKind.WRONG_SIGNER, f"another maker is called {name}")

    def of_certificate(self, certificate: c509.Certificate) -> Trusted | None:
        """Return the maker that issued a certificate, if it is known."""
        for known in self._makers.values():
            if is_issued_by(certificate, known.authority.certificate):
                return known
        return None


def key_id_of(certificate: c509.Certificate) -> bytes:
    """Return the key identifier of a CA, 32 bytes; EnrollmentError for a key that is not used here."""
    return key_identifier(verification_key(certificate))


def operator_of(layout: Layout, settings: Settings, domain: Domain) -> bytes:
    """Return the key identifier of a domain's operator CA, 32 bytes; BadDirectory if it cannot be read."""
    try:
        return key_id_of(read_line(layout, settings.lines(domain).operator)[1][0])
    except (OSError, ValueError, EnrollmentError) as error:
        raise BadDirectory(f"{domain.value} authority: {error}") from None


def read_chain(file: Path, layout: Layout) -> tuple[c509.Certificate, ...]:
    """Return a maker's CA and those above it, from a PEM file; those of this directory need not be in it.

    Raises:
        OSError: It cannot be read.
        MalformedMessage: Something in it is no certificate.
        RequestRejected: It is no one chain that ends at a root.
    """
    with file.open("rb") as opened:
        data = opened.read(MAX_CHAIN_BYTES + 1)
    if len(data) > MAX_CHAIN_BYTES:
        raise MalformedMessage(f"longer than {MAX_CHAIN_BYTES} bytes")
    given = [_certificate(found.group()) for found in _PEM.finditer(data)]
    if not given:
        raise MalformedMessage("no certificates in PEM")
    own = [read_certificate(path) for path in sorted(layout.certificates.glob("*.pem"))]
    return order_chain(given, [certificate for certificate in own if certificate.is_ca])


def _certificate(pem: bytes) -> c509.Certificate:
    try:
        return c509.from_der(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER))
    except (ValueError, x509.InvalidVersion) as error:  # NotConvertible is a ValueError
        raise MalformedMessage(f"not a certificate: {error}") from None


def read_owner(word: str, directory: Path, label: str) -> FirstOwner:
    """Return the operator for whom devices are made.

    Args:
        word: A PEM file with its CA and those above it, up to a root of its own; or, of one under our own
            roots, its card, directory, or the name that it is known by.
        directory: Of the maker's authority.
        label: Tier 1, of the devices.

    Raises:
        BadDirectory: There is none, or it gives nothing to such devices.
        OSError: A file cannot be read.
    """
    profile, layout = profile_of(label), Layout(directory)
    try:
        file = Path(word)
        if file.is_file() and b"-----BEGIN" in file.read_bytes()[:MAX_CHAIN_BYTES]:
            chain = read_chain(file, layout)
            root = chain[-1]
            found = verify_authority(chain[:-1] or chain, root=root, authority=None, clock=Clock(None))
        else:
            known = find_owner(directory, word).authorities.get(profile.domain)
            if known is None:
                raise BadDirectory(f"{word}: has no authority of {profile.domain.value}")
            found = known
            root = read_line(layout, read_settings(directory).lines(profile.domain).operator)[0]
    except EnrollmentError as error:
        raise BadDirectory(f"{word}: {error}") from None
    if not found.labels & set(services_of(label)):
        raise BadDirectory(f"{word}: its CA issues nothing that {label} opens")
    return FirstOwner(found.key_id, root)


def read_voucher_key(file: Path) -> bytes:
    """Return a maker's voucher key in a file (PEM or DER) as SubjectPublicKeyInfo.

    Raises:
        OSError: It cannot be read.
        MalformedMessage: It has none.
    """
    with file.open("rb") as opened:
        data = opened.read(MAX_CHAIN_BYTES)
    try:
        load = load_pem_public_key if data.startswith(b"-----") else load_der_public_key
        spki = load(data).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except ValueError:
        raise MalformedMessage(f"{file}: not a public key") from None
    voucher_key_of(spki)
    return spki


def publish_maker(layout: Layout, domain: Domain, statement: Statement) -> None:
    """Put a trusted maker's CA where the public certificates are, for people and for other programs."""
    pem = b"".join(
        x509.load_der_x509_certificate(one.to_der()).public_bytes(Encoding.PEM) for one in statement.chain
    )
    path = layout.certificates / f"{domain.value}-maker-{statement.name}.pem"
    write_atomically(path, pem, mode=0o644)
