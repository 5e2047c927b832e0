"""Making an authority: roots, makers' and operators' CAs, an empty store; all of it or nothing.

    scheme root ─ domain root ─┬─ manufacturer CA   may issue the domain's tier 1 labels
                               └─ operator CA       may issue the domain's other labels
                                   └─ registration  signs receipts and refusals (EKU cmcRA)

Every CA certificate lists the labels it may issue, one policy OID each; subordinates only narrow. A
manufacturer CA also lists the prefixes of the names it gives; the others do not, as they serve every maker.
"""

import datetime as dt
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from agents.authority.audit import Entry, Event
from agents.authority.intents import new_serial
from agents.authority.layout import ORGANISATION, BadDirectory, Layout, Settings, operator_name
from agents.authority.store import Store
from agents.factory.names import DEFAULT_PREFIX
from agents.keys import generate, save_private_key
from agents.keys.files import sync_folder
from protocol import c509
from protocol.labels import Domain, Tier
from protocol.profiles import PROFILES, Prefix, name_space, over_the_air, policy_oid, profile_of
from protocol.voucher import key_identifier

DAY: Final = 24 * 3600
_YEARS: Final = 365 * DAY
ROOT_LIFE: Final = 40 * _YEARS
"""Seconds; meters stay in the wall for twenty years and more."""
DOMAIN_ROOT_LIFE: Final = 35 * _YEARS
CA_LIFE: Final = 30 * _YEARS
BACKDATE: Final = DAY
"""Seconds by which a CA's notBefore lies before it was made, for devices whose clock is behind."""
CMC_RA: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.28")
"""id-kp-cmcRA (RFC 6402): a registration authority's key."""


@dataclass(frozen=True, slots=True)
class _Ca:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of one domain, by who issues them."""

    maker: tuple[str, ...]
    operator: tuple[str, ...]

    @classmethod
    def of(cls, domain: Domain) -> "Labels":
        """Return the labels of `domain`."""
        tier_1 = tuple(
            label
            for label, profile in PROFILES.items()
            if profile.domain is domain and profile.tier is Tier.BOOTSTRAPPING
        )
        return cls(tier_1, over_the_air(domain))


def initialise(
    directory: Path,
    *,
    passphrase: bytes,
    now: int,
    roots: Path | None = None,
    domains: Sequence[Domain] = (Domain.METERING, Domain.ITS),
    organisation: str = "TRL",
    prefixes: Sequence[Prefix] = (),
) -> None:
    """Make an authority's directory.

    Args:
        directory: Must not exist, or be empty.
        passphrase: Encrypts every private key; not empty.
        now: POSIX seconds.
        roots: Folder for the root keys; default `directory`/roots. Must not exist, or be empty.
        domains: At least one; each gets its own roots, makers and operators.
        organisation: 1 to 5 letters or digits; part of every issuer's name.
        prefixes: What the makers' names begin with, each in its name space; where none of a name space is
            given, `agents.factory.names.DEFAULT_PREFIX`.

    Raises:
        BadDirectory: Something is there already, or an argument will not do. Nothing was changed.
        OSError: The disk says no. Nothing is left behind.
    """
    if not passphrase:
        raise BadDirectory("the private keys need a passphrase")
    if not ORGANISATION.fullmatch(organisation):
        raise BadDirectory(f"organisation {organisation!r}: 1 to 5 letters or digits, please")
    if not domains:
        raise BadDirectory("name at least one domain")
    for folder in (directory, roots):
        if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise BadDirectory(f"{folder}: is there already and not empty; nothing was changed")
    directory.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        layout = Layout(work)
        settings = Settings(organisation, tuple(domains), "roots" if roots is None else str(roots.absolute()))
        layout.settings.write_bytes(settings.encode())
        for folder in (layout.roots, layout.certificates, work / "crl"):
            folder.mkdir(mode=0o700 if folder == layout.roots else 0o755)
        entries = _build(layout, settings, prefixes, passphrase, now)
        store = Store(layout.store, create=True)
        try:
            with store.writing(now) as writing:
                for entry in entries:
                    writing.note(entry)
        finally:
            store.close()
        _put_in_place(work, directory, roots)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _put_in_place(work: Path, directory: Path, roots: Path | None) -> None:
    if roots is not None:
        # Another file system perhaps, so copied; first, so that without them there is no authority.
        # Nobody else's from the start: a copy is born with the permissions that the umask leaves.
        roots.mkdir(mode=0o700, parents=True, exist_ok=True)
        roots.chmod(0o700)
        shutil.copytree(Layout(work).roots, roots, dirs_exist_ok=True)
        sync_folder(roots)
        shutil.rmtree(Layout(work).roots)
    sync_folder(work)
    work.chmod(0o755)
    try:
        work.replace(directory)  # an empty folder may be there
    except BaseException:
        if roots is not None:
            shutil.rmtree(roots, ignore_errors=True)
        raise
    sync_folder(directory.parent)


def _build(
    layout: Layout, settings: Settings, prefixes: Sequence[Prefix], passphrase: bytes, now: int
) -> list[Entry]:
    """Make all keys and certificates; return what the audit log says of them."""
    organisation = settings.organisation
    all_labels = {domain: Labels.of(domain) for domain in settings.domains}
    every = tuple(label for labels in all_labels.values() for label in labels.maker + labels.operator)
    root = _ca(f"{organisation} root", None, every, 2, now, ROOT_LIFE)
    _save_key(layout.roots / "root.key", root.key, passphrase)
    _publish(layout, "root", root.certificate)
    entries = [Entry(Event.INIT, detail=f"scheme root {_key_id(root.key)}")]
    for domain, labels in all_labels.items():
        both = labels.maker + labels.operator
        domain_root = _ca(f"{organisation} {domain.value} root", root, both, 1, now, DOMAIN_ROOT_LIFE)
        _save_key(layout.roots / f"{domain.value}.key", domain_root.key, passphrase)
        _publish(layout, f"{domain.value}-root", domain_root.certificate)
        _make_maker(layout, settings, domain, domain_root, prefixes, passphrase, now)
        operator = _make_operator(layout, settings, domain, domain_root, passphrase, now)
        entries.append(Entry(Event.INIT, detail=f"{domain.value} authority {_key_id(operator.key)}"))
    return entries


def _make_maker(
    layout: Layout,
    settings: Settings,
    domain: Domain,
    issuer: _Ca,
    prefixes: Sequence[Prefix],
    passphrase: bytes,
    now: int,
) -> None:
    name = f"{operator_name(settings.organisation, domain)} maker"
    labels = Labels.of(domain).maker
    maker = _ca(name, issuer, labels, 0, now, CA_LIFE, _prefixes_of(labels, prefixes))
    folder = layout.maker(domain)
    folder.mkdir(parents=True, mode=0o700)
    _save_key(folder / "ca.key", maker.key, passphrase)
    _save_certificate(folder / "ca.pem", maker.certificate)
    _publish(layout, f"{domain.value}-maker", maker.certificate)
    voucher = generate()
    assert isinstance(voucher, ec.EllipticCurvePrivateKey)
    _save_key(folder / "voucher.key", voucher, passphrase)
    spki = voucher.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    (folder / "voucher-key.der").write_bytes(spki)


def _prefixes_of(labels: Sequence[str], prefixes: Sequence[Prefix]) -> list[Prefix]:
    """Return the prefixes of a maker of these labels: of each name space those given, or the default."""
    found: list[Prefix] = []
    for naming in dict.fromkeys(profile_of(label).naming for label in labels):
        space = name_space(naming)
        if space is not None:
            given = [prefix for prefix in prefixes if prefix.space is space]
            found += given or [Prefix(space, DEFAULT_PREFIX[naming])]
    return list(dict.fromkeys(found))


def _make_operator(
    layout: Layout, settings: Settings, domain: Domain, issuer: _Ca, passphrase: bytes, now: int
) -> _Ca:
    name = operator_name(settings.organisation, domain)
    operator = _ca(name, issuer, Labels.of(domain).operator, 0, now, CA_LIFE)
    folder = layout.operator(domain)
    folder.mkdir(parents=True, mode=0o700)
    _save_key(folder / "ca.key", operator.key, passphrase)
    _save_certificate(folder / "ca.pem", operator.certificate)
    _publish(layout, f"{domain.value}-operator", operator.certificate)
    key = ec.generate_private_key(ec.SECP256R1())
    registration = (
        _builder(f"{name} registration", operator, key.public_key(), now, CA_LIFE)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([CMC_RA]), critical=False)
        .sign(operator.key, hashes.SHA256())
    )
    _save_key(folder / "registration.key", key, passphrase)
    _save_certificate(folder / "registration.pem", registration)
    _publish(layout, f"{domain.value}-registration", registration)
    return operator


def _ca(
    name: str,
    issuer: _Ca | None,
    labels: Sequence[str],
    path_length: int,
    now: int,
    life: int,
    prefixes: Sequence[Prefix] = (),
) -> _Ca:
    key = ec.generate_private_key(ec.SECP256R1())
    listed = [policy_oid(label) for label in labels] + [prefix.policy_oid for prefix in prefixes]
    policies = [x509.PolicyInformation(x509.ObjectIdentifier(oid), None) for oid in listed]
    certificate = (
        _builder(name, issuer, key.public_key(), now, life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.CertificatePolicies(policies), critical=False)
        .sign(key if issuer is None else issuer.key, hashes.SHA256())
    )
    return _Ca(key, certificate)


def _builder(
    name: str, issuer: _Ca | None, key: ec.EllipticCurvePublicKey, now: int, life: int
) -> x509.CertificateBuilder:
    subject = _name(name)
    start = dt.datetime.fromtimestamp(now - BACKDATE, dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key)
        .serial_number(int.from_bytes(new_serial(), "big"))
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(seconds=life))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
    if issuer is None:
        return builder
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    return builder.add_extension(authority, critical=False)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _key_id(key: ec.EllipticCurvePrivateKey) -> str:
    return key_identifier(key.public_key()).hex()


def _save_key(path: Path, key: ec.EllipticCurvePrivateKey, passphrase: bytes) -> None:
    save_private_key(path, key, passphrase)


def _save_certificate(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(Encoding.PEM))


def _publish(layout: Layout, name: str, certificate: x509.Certificate) -> None:
    _save_certificate(layout.certificates / f"{name}.pem", certificate)
    encoded = c509.from_der(certificate.public_bytes(Encoding.DER)).encoded
    (layout.certificates / f"{name}.c509").write_bytes(encoded)
