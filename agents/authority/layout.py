"""Where things are in an authority's directory, and its settings file.

trillium.toml            settings
roots/                   scheme root and domain roots; not here while the authority serves
makers/<domain>/         manufacturer CA (ca.key, ca.pem), voucher key (voucher.key, voucher-key.der)
operators/<domain>/      operator CA (ca.key, ca.pem), registration key (registration.key, registration.pem)
certificates/            public certificates, each as .pem and .c509
store.sqlite             the store
audit-head.cose          the signed head of the audit log
crl/<domain>.crl         revocation lists, DER
lock                     held by the one `serve`
"""

import json
import re
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from protocol.labels import Domain

FORMAT: Final = 1
"""Version of this layout."""
ORGANISATION: Final = re.compile(r"[0-9A-Za-z]{1,5}")
"""Short, because every certificate carries it: an issuer's name has at most 7 characters."""
_LETTERS: Final = {
    Domain.METERING: "M",
    Domain.METERING2: "M2",
    Domain.SMKI: "S",
    Domain.EV_MO: "MO",
    Domain.EV_CPO: "CPO",
    Domain.EV_CPS: "CPS",
    Domain.EV20_MO: "MO20",
    Domain.EV20_CPO: "CPO20",
    Domain.EV20_CPS: "CPS20",
    Domain.ITS: "I",
}


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

    def operator(self, domain: Domain) -> Path:
        """Folder of the domain's operator CA."""
        return self.directory / "operators" / domain.value

    def crl(self, domain: Domain) -> Path:
        """The domain's revocation list."""
        return self.directory / "crl" / f"{domain.value}.crl"


def operator_name(organisation: str, domain: Domain) -> str:
    """Return the common name of a domain's operator CA, at most 7 characters."""
    return f"{organisation}-{_LETTERS[domain]}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What `trillium.toml` says."""

    organisation: str
    domains: tuple[Domain, ...]
    roots: str
    """Where the root keys were put; relative to the directory, or absolute."""

    def encode(self) -> bytes:
        """Return the file."""
        lines = [
            "# An authority of Trillium; made by `trillium init`.",
            f"format = {FORMAT}",
            f"organisation = {json.dumps(self.organisation)}",
            f"domains = {json.dumps([domain.value for domain in self.domains])}",
            "# The root keys were put here. `trillium serve` refuses to start while it can read them.",
            f"roots = {json.dumps(self.roots)}",
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
        } if format_version == FORMAT and set(names) <= set(Domain):
            return Settings(organisation, tuple(Domain(name) for name in names), roots)
        case _:
            raise BadDirectory(f"{path}: not the settings of this version")


def readable_roots(directory: Path, settings: Settings) -> Path | None:
    """Return a folder with root keys that this process can read, if there is one."""
    folders: Sequence[Path] = (Layout(directory).roots, directory / settings.roots)
    for folder in folders:
        # By name too: a folder that cannot be listed may still let files be opened.
        keys = {folder / "root.key", *(folder / f"{domain.value}.key" for domain in settings.domains)}
        with suppress(OSError):
            keys |= set(folder.glob("*.key"))
        for key in keys:
            try:
                with key.open("rb"):
                    return folder
            except OSError:
                continue
    return None
