"""Where things are in an authority's directory, and its settings file.

trillium.toml            settings
roots/                   keys of the CAs that issue no end entities; not here while the authority serves
makers/<domain>/         key of the manufacturer CA (ca.key), voucher key (voucher.key, voucher-key.der)
operators/<domain>/      keys of the operator CA (ca.key) and of registration (registration.key)
certificates/            public certificates, each as .pem and .c509
store.sqlite             the store
audit-head.cose          the signed head of the audit log
crl/<domain>.crl         revocation lists, DER
lock                     held by the one `serve`
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from protocol.end_entity import Pointers
from protocol.labels import Domain
from protocol.profiles.authorities import MAX_SUB_CAS, CaProfile, Lines, lines_of

FORMAT: Final = 2
"""Version of this layout."""
ORGANISATION: Final = re.compile(r"[0-9A-Za-z]{1,5}")
"""Short, because every certificate carries it: an issuer's name has at most 7 characters."""
COUNTRY: Final = re.compile(r"[A-Z]{2}")
URL: Final = re.compile(r"http://[0-9A-Za-z.:\[\]-]{1,60}(/[0-9A-Za-z._~/-]{0,60})?")
"""Where revocation is published; part of EV certificates, whose size is limited."""


class BadDirectory(Exception):
    """Not an authority's directory, or not in a state to do this; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one authority's directory."""

    directory: Path

    @property
    def settings(self) -> Path:
        """The settings file."""
        return self.directory / "trillium.toml"

    @property
    def roots(self) -> Path:
        """Where `init` puts the root keys unless told otherwise."""
        return self.directory / "roots"

    @property
    def certificates(self) -> Path:
        """Public certificates."""
        return self.directory / "certificates"

    @property
    def store(self) -> Path:
        """The database."""
        return self.directory / "store.sqlite"

    @property
    def audit_head(self) -> Path:
        """The signed head of the audit log."""
        return self.directory / "audit-head.cose"

    @property
    def lock(self) -> Path:
        """Held while an authority serves."""
        return self.directory / "lock"

    def maker(self, domain: Domain) -> Path:
        """Folder of the domain's manufacturer CA."""
        return self.directory / "makers" / domain.value

    def certificate(self, ca: str) -> Path:
        """Public certificate of the CA of this name, PEM."""
        return self.certificates / f"{ca}.pem"

    def operator(self, domain: Domain) -> Path:
        """Folder of the domain's operator CA."""
        return self.directory / "operators" / domain.value

    def crl(self, domain: Domain) -> Path:
        """The domain's revocation list."""
        return self.directory / "crl" / f"{domain.value}.crl"


@dataclass(frozen=True, slots=True)
class Settings:
    """What `trillium.toml` says."""

    organisation: str
    domains: tuple[Domain, ...]
    roots: str
    """Where the root keys were put; relative to the directory, or absolute."""
    country: str = "ZZ"
    """Two letters in subjects that have a country; ZZ is nobody's."""
    sub_cas: int = 2
    """CAs between root and end entity in EV charging, 0 to 3."""
    url: str = "http://pki.invalid"
    """Where certificates say that revocation is published, without a slash at the end."""

    def lines(self, domain: Domain) -> Lines:
        """Return the CAs of a domain."""
        return lines_of(domain, self.sub_cas)

    def pointers(self, ca: str) -> Pointers:
        """Return where the revocations of the CA of this name are published."""
        return Pointers(f"{self.url}/ocsp", f"{self.url}/crl/{ca}.crl")

    @property
    def offline(self) -> Mapping[str, CaProfile]:
        """The CAs whose keys are kept away, by name: all that issue no end entities."""
        return {
            ca.name: ca
            for domain in self.domains
            for line in (self.lines(domain).maker, self.lines(domain).operator)
            for ca in line[:-1]
        }

    def encode(self) -> bytes:
        """Return the file."""
        lines = [
            "# An authority of Trillium; made by `trillium init`.",
            f"format = {FORMAT}",
            f"organisation = {json.dumps(self.organisation)}",
            f"domains = {json.dumps([domain.value for domain in self.domains])}",
            "# The root keys were put here. `trillium serve` refuses to start while it can read them.",
            f"roots = {json.dumps(self.roots)}",
            f"country = {json.dumps(self.country)}",
            "# CAs between root and end entity in EV charging.",
            f"sub_cas = {self.sub_cas}",
            "# Certificates say that revocation is published here.",
            f"url = {json.dumps(self.url)}",
            "",
        ]
        return "\n".join(lines).encode()


def read_settings(directory: Path) -> Settings:
    """Return the settings of the authority in `directory`.

    Raises:
        BadDirectory: There is none, or of another version.
    """
    path = Layout(directory).settings
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadDirectory(f"{directory}: not an authority's directory; `trillium init` makes one") from None
    except (OSError, ValueError) as error:
        raise BadDirectory(f"{path}: {error}") from None
    match table:
        case {
            "format": format_version,
            "organisation": str(organisation),
            "domains": list(names),
            "roots": str(roots),
            "country": str(country),
            "sub_cas": int(sub_cas),
            "url": str(url),
        } if format_version == FORMAT and set(names) <= set(Domain) and 0 <= sub_cas <= MAX_SUB_CAS:
            domains = tuple(Domain(name) for name in names)
            return Settings(organisation, domains, roots, country, sub_cas, url)
        case _:
            raise BadDirectory(f"{path}: not the settings of this version")


def readable_roots(directory: Path, settings: Settings) -> Path | None:
    """Return a folder with root keys that this process can read, if there is one."""
    folders: Sequence[Path] = (Layout(directory).roots, directory / settings.roots)
    for folder in folders:
        # By name too: a folder that cannot be listed may still let files be opened.
        keys = {folder / f"{name}.key" for name in settings.offline}
        with suppress(OSError):
            keys |= set(folder.glob("*.key"))
        for key in keys:
            try:
                with key.open("rb"):
                    return folder
            except OSError:
                continue
    return None
