"""Making an authority: roots, makers' and operators' CAs, an empty store; all of it or nothing.

    root ─ … ─┬─ manufacturer CA   may issue the domain's tier 1 labels
              └─ operator CA       may issue the domain's other labels
                  └─ registration  signs receipts and refusals (EKU cmcRA)

Which CAs there are for each domain is declared in `protocol.profiles.authorities`. Every CA certificate lists
the labels it may issue, one policy OID each; subordinates only narrow. A manufacturer CA also lists the
prefixes of the names it gives; the others do not, as they serve every maker.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agents.authority import pki
from agents.authority.audit import Entry, Event
from agents.authority.domain import read_line
from agents.authority.layout import COUNTRY, ORGANISATION, URL, BadDirectory, Layout, Settings
from agents.authority.pki import Ca
from agents.authority.store import Store
from agents.factory.names import DEFAULT_PREFIX
from agents.keys import generate, load_private_key, save_private_key
from agents.keys.files import sync_folder
from protocol import c509
from protocol.errors import EnrollmentError
from protocol.labels import Domain, Tier
from protocol.path import verify_authority
from protocol.profiles import PROFILES, Prefix, name_space, over_the_air, profile_of
from protocol.profiles.authorities import MAX_SUB_CAS, CaProfile
from protocol.validity import Clock
from protocol.voucher import key_identifier


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


def initialise(  # noqa: PLR0913 (what an authority is made of, each by its name)
    directory: Path,
    *,
    passphrase: bytes,
    now: int,
    roots: Path | None = None,
    under: Path | None = None,
    under_passphrase: bytes | None = None,
    domains: Sequence[Domain] = (Domain.METERING, Domain.ITS),
    organisation: str = "TRL",
    country: str = "ZZ",
    sub_cas: int = 2,
    url: str = "http://pki.invalid",
    prefixes: Sequence[Prefix] = (),
) -> None:
    """Make an authority's directory.

    Args:
        directory: Must not exist, or be empty.
        passphrase: Encrypts every private key; not empty.
        now: POSIX seconds.
        roots: Folder for the root keys; default `directory`/roots. Must not exist, or be empty.
        under: Folder with the root keys of another authority: then this one stands under the same roots, and
            makes none. Devices may change owners among all that do.
        under_passphrase: Of those keys; None is `passphrase`.
        domains: At least one; each gets its own maker and operator.
        organisation: 1 to 5 letters or digits; part of every issuer's name.
        country: Two letters, in the names of EV charging.
        sub_cas: CAs between root and end entity in EV charging, 0 to 3.
        url: http, without a slash at the end: where EV certificates say that revocation is published.
        prefixes: What the makers' names begin with, each in its name space; where none of a name space is
            given, `agents.factory.names.DEFAULT_PREFIX`; under the roots of another, whose maker may have
            that, none: such a maker names no devices.

    Raises:
        BadDirectory: Something is there already, or an argument will not do. Nothing was changed.
        OSError: The disk says no. Nothing is left behind.
    """
    if not passphrase:
        raise BadDirectory("the private keys need a passphrase")
    kept = roots or under
    where = "roots" if kept is None else str(kept.absolute())
    settings = Settings(organisation, tuple(domains), where, country, sub_cas, url)
    _check(settings)
    if under is not None:
        _check_under(settings, roots)
    for folder in (directory, roots):
        if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise BadDirectory(f"{folder}: is there already and not empty; nothing was changed")
    directory.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        layout = Layout(work)
        layout.settings.write_bytes(settings.encode())
        for folder in (layout.roots, layout.certificates, work / "crl"):
            folder.mkdir(mode=0o700 if folder == layout.roots else 0o755)
        works = _Works(layout, settings, prefixes, passphrase, now)
        if under is not None:
            works.take(under, under_passphrase or passphrase)
            layout.roots.rmdir()
        entries = [entry for domain in domains for entry in works.make(domain)]
        for domain in domains:
            _check_lines(layout, settings, domain, now)
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


def _check(settings: Settings) -> None:
    if not ORGANISATION.fullmatch(settings.organisation):
        raise BadDirectory(f"organisation {settings.organisation!r}: 1 to 5 letters or digits, please")
    if not settings.domains or len(set(settings.domains)) != len(settings.domains):
        raise BadDirectory("name at least one domain, and none twice")
    if not COUNTRY.fullmatch(settings.country):
        raise BadDirectory(f"country {settings.country!r}: two upper-case letters, please")
    if not 0 <= settings.sub_cas <= MAX_SUB_CAS:
        raise BadDirectory(f"sub-CAs {settings.sub_cas}: 0 to {MAX_SUB_CAS}, please")
    if not URL.fullmatch(settings.url) or settings.url.endswith("/"):
        raise BadDirectory(
            f"URL {settings.url!r}: http://HOST[:PORT][/PATH], short, without a slash at the end"
        )


def _check_under(settings: Settings, roots: Path | None) -> None:
    if roots is not None:
        raise BadDirectory("under roots of another no roots are made: name one folder of root keys, not two")
    for domain in settings.domains:
        if settings.lines(domain).root.name not in settings.offline:
            raise BadDirectory(
                f"{domain.value}: without sub-CAs the root itself issues, and nothing stands under another's"
            )


def _check_lines(layout: Layout, settings: Settings, domain: Domain, now: int) -> None:
    """Check that devices and authorities will believe what was made: the roots may be another's."""
    lines, labels = settings.lines(domain), Labels.of(domain)
    for line, wanted in ((lines.maker, labels.maker), (lines.operator, labels.operator)):
        name = line[-1].name
        root, path = read_line(layout, line)
        try:
            permitted = verify_authority(path, root=root, authority=None, clock=Clock(now)).labels
        except EnrollmentError as error:
            raise BadDirectory(f"{name}: the CAs above do not vouch for it: {error}") from None
        if not permitted.issuperset(wanted):
            missing = ", ".join(sorted(set(wanted) - permitted))
            raise BadDirectory(f"{name}: may not issue {missing} under these roots")


def _put_in_place(work: Path, directory: Path, roots: Path | None) -> None:
    try:
        if roots is not None:
            _take_away(Layout(work).roots, roots)
        sync_folder(work)
        work.chmod(0o755)
        work.replace(directory)  # an empty folder may be there
    except BaseException:
        if roots is not None:
            shutil.rmtree(roots, ignore_errors=True)
        raise
    sync_folder(directory.parent)


def _take_away(made: Path, roots: Path) -> None:
    # Another file system perhaps, so copied; first, so that without them there is no authority.
    # Nobody else's from the start: a copy is born with the permissions that the umask leaves.
    roots.mkdir(mode=0o700, parents=True, exist_ok=True)
    roots.chmod(0o700)
    shutil.copytree(made, roots, dirs_exist_ok=True)
    sync_folder(roots)
    shutil.rmtree(made)


class _Works:
    """Makes the CAs of all domains, each once."""

    def __init__(
        self, layout: Layout, settings: Settings, prefixes: Sequence[Prefix], passphrase: bytes, now: int
    ) -> None:
        self._layout = layout
        self._settings = settings
        self._prefixes = prefixes
        self._passphrase = passphrase
        self._now = now
        self._owner = pki.Owner(settings.organisation, settings.country)
        self._labels: dict[str, list[str]] = {}
        self._below: dict[str, int] = {}
        self._made: dict[str, Ca] = {}
        self._is_guest = False
        for domain in settings.domains:
            labels, lines = Labels.of(domain), settings.lines(domain)
            for line, listed in ((lines.maker, labels.maker), (lines.operator, labels.operator)):
                for depth, ca in enumerate(reversed(line)):
                    known = self._labels.setdefault(ca.name, [])
                    known += [label for label in listed if label not in known]
                    self._below[ca.name] = max(depth, self._below.get(ca.name, 0))

    def take(self, folder: Path, passphrase: bytes) -> None:
        """Take every CA that issues no end entities from where its key is kept."""
        self._is_guest = True
        for name, profile in self._settings.offline.items():
            try:
                key = load_private_key(folder / f"{name}.key", passphrase)
                certificate = x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())
            except (OSError, ValueError) as error:
                raise BadDirectory(f"{folder}: no CA called {name} can be used: {error}") from None
            if (
                not isinstance(key, ec.EllipticCurvePrivateKey)
                or key.public_key() != certificate.public_key()
            ):
                raise BadDirectory(f"{folder}: key and certificate of {name} do not match")
            if self._now >= certificate.not_valid_after_utc.timestamp():
                raise BadDirectory(f"{folder}: {name} has expired")
            self._made[name] = Ca(profile, key, certificate)
            publish(self._layout, name, certificate)

    def make(self, domain: Domain) -> list[Entry]:
        """Make one domain's authority and its maker; return what the audit log says of them."""
        lines = self._settings.lines(domain)
        entries: list[Entry] = []
        for line in (lines.maker, lines.operator):
            above: Ca | None = None
            for profile in line:
                ca = self._made.get(profile.name)
                if ca is None:
                    ca = self._made[profile.name] = self._make(profile, above, line)
                    if above is None:
                        entries.append(Entry(Event.INIT, detail=f"{profile.name} {_key_id(ca.key)}"))
                above = ca
        operator = self._made[lines.operator[-1].name]
        self._install_maker(domain, self._made[lines.maker[-1].name])
        install_operator(
            self._layout, self._settings, domain, operator, passphrase=self._passphrase, now=self._now
        )
        return [*entries, Entry(Event.INIT, detail=f"{domain.value} authority {_key_id(operator.key)}")]

    def _make(self, profile: CaProfile, above: Ca | None, line: Sequence[CaProfile]) -> Ca:
        is_issuing = profile is line[-1]
        labels = self._labels[profile.name]
        ca = pki.make_ca(
            profile,
            self._owner,
            above,
            labels=labels,
            prefixes=_prefixes_of(labels, self._prefixes, has_default=not self._is_guest)
            if is_issuing
            else (),
            path_length=self._below[profile.name],
            pointers=None if above is None else self._settings.pointers(above.profile.name),
            now=self._now,
        )
        publish(self._layout, profile.name, ca.certificate)
        if not is_issuing:
            self._save_key(self._layout.roots / f"{profile.name}.key", ca.key)
            _save_certificate(self._layout.roots / f"{profile.name}.pem", ca.certificate)
        return ca

    def _install_maker(self, domain: Domain, maker: Ca) -> None:
        folder = self._layout.maker(domain)
        folder.mkdir(parents=True, mode=0o700)
        self._save_key(folder / "ca.key", maker.key)
        voucher = generate()
        assert isinstance(voucher, ec.EllipticCurvePrivateKey)
        self._save_key(folder / "voucher.key", voucher)
        spki = voucher.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        (folder / "voucher-key.der").write_bytes(spki)

    def _save_key(self, path: Path, key: ec.EllipticCurvePrivateKey) -> None:
        save_private_key(path, key, self._passphrase)


def install_operator(
    layout: Layout, settings: Settings, domain: Domain, operator: Ca, *, passphrase: bytes, now: int
) -> None:
    """Put an operator CA and a new registration key of its in their places, over none."""
    folder = layout.operator(domain)
    folder.mkdir(parents=True, mode=0o700)
    save_private_key(folder / "ca.key", operator.key, passphrase)
    name = operator.profile.common_name.format(organisation=settings.organisation)
    registration = pki.make_registration(operator, name, now=now, life=operator.profile.validity)
    save_private_key(folder / "registration.key", registration.key, passphrase)
    publish(layout, f"{domain.value}-registration", registration.certificate)


def _prefixes_of(labels: Sequence[str], prefixes: Sequence[Prefix], *, has_default: bool) -> list[Prefix]:
    """Return the prefixes of a maker of these labels: of each name space those given, or the default.

    Operators give no names, and are not restricted.
    """
    found: list[Prefix] = []
    tier_1 = [profile_of(label) for label in labels if profile_of(label).tier is Tier.BOOTSTRAPPING]
    for naming in dict.fromkeys(profile.naming for profile in tier_1):
        space = name_space(naming)
        if space is not None:
            given = [prefix for prefix in prefixes if prefix.space is space]
            found += given or ([Prefix(space, DEFAULT_PREFIX[naming])] if has_default else [])
    return list(dict.fromkeys(found))


def _key_id(key: ec.EllipticCurvePrivateKey) -> str:
    return key_identifier(key.public_key()).hex()


def _save_certificate(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(Encoding.PEM))


def publish(layout: Layout, name: str, certificate: x509.Certificate) -> None:
    """Put a certificate where the public ones are, in both forms."""
    _save_certificate(layout.certificate(name), certificate)
    encoded = c509.from_der(certificate.public_bytes(Encoding.DER)).encoded
    (layout.certificates / f"{name}.c509").write_bytes(encoded)
