"""Other owners that an authority knows: who may get devices from it, and from whom it takes some.

    DIR/owners/NAME.owner    a card: CBOR of [1, organisation, at/null, [[domain, chain], …]]

A card holds the public certificates of another authority, one chain (COSE_C509) for each domain: its issuing
CA, those above it without the root, and its registration certificate. It is believed as far as its chains
lead up to our own roots; whose it is, people have to know (the fingerprints are there to be compared). A card
without chains is a tenant's: another owner who shares this authority.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agents.authority.domain import Certificates, read_certificate, read_line
from agents.authority.layout import BadDirectory, Layout, read_settings
from agents.authority.ownership import Receiver
from agents.keys import write_atomically
from protocol import c509, cbor
from protocol.errors import EnrollmentError, MalformedMessage
from protocol.labels import Domain
from protocol.path import Authority, verification_key, verify_authority
from protocol.problem import ADDRESS
from protocol.validity import Clock
from protocol.voucher import key_identifier

NAME: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z ._-]{0,63}")
"""Of an owner; it is also a file's name."""
MAX_CARD_BYTES: Final = 1 << 18
SUFFIX: Final = ".owner"
_ENDLESS: Final = Clock(None)
"""Of their time, those judge who are shown the certificates."""


@dataclass(frozen=True, slots=True)
class Card:
    """Another authority as it presents itself; nothing of it is verified."""

    organisation: str
    at: str | None
    """Where it is reached, a URI."""
    chains: Mapping[Domain, bytes]
    """COSE_C509 by domain; empty for a tenant."""

    def encode(self) -> bytes:
        """Return the card."""
        chains = [[domain.value, chain] for domain, chain in self.chains.items()]
        return cbor.encode([1, self.organisation, self.at, chains])

    @classmethod
    def decode(cls, data: bytes) -> "Card":
        """Return the card in `data`; MalformedMessage if there is none."""
        match cbor.decode(data, max_bytes=MAX_CARD_BYTES):
            case [1, str(organisation), (str() | None) as at, list(rows)] if NAME.fullmatch(
                organisation
            ) and (at is None or ADDRESS.fullmatch(at)):
                return cls(organisation, at, dict(_chain(row) for row in rows))
            case _:
                raise MalformedMessage("not an owner's card")


def _chain(row: Any) -> tuple[Domain, bytes]:  # noqa: ANN401 (a decoded item)
    match row:
        case [str(domain), bytes(chain)] if domain in set(Domain):
            return Domain(domain), chain
        case _:
            raise MalformedMessage("not an owner's card")


@dataclass(frozen=True, slots=True)
class KnownOwner:
    """Another owner, verified under our roots."""

    name: str
    organisation: str
    at: str | None
    authorities: Mapping[Domain, Authority]
    """Of the domains that both have; empty for a tenant."""

    @property
    def is_tenant(self) -> bool:
        """Whether it shares our authority."""
        return not self.authorities

    def receiver(self, at: str | None = None) -> Receiver:
        """Return it as the next owner of devices; `at` goes before what its card says."""
        keys = {domain: authority.key_id for domain, authority in self.authorities.items()}
        return Receiver(self.name, keys, at or self.at)


def own_card(directory: Path, at: str | None = None) -> Card:
    """Return the card of the authority in `directory`; no passphrase is needed.

    Args:
        directory: Of an authority.
        at: Where it is reached, as `protocol.problem.ADDRESS`.

    Raises:
        BadDirectory: Not an authority's directory, or not such a URI.
    """
    if at is not None and not ADDRESS.fullmatch(at):
        raise BadDirectory(f"{at}: an address is coap://HOST:PORT, mqtt://HOST:PORT or mqtts://HOST:PORT")
    settings = read_settings(directory)
    layout = Layout(directory)
    chains: dict[Domain, bytes] = {}
    try:
        for domain in settings.domains:
            _, path = read_line(layout, settings.lines(domain).operator)
            registration = read_certificate(layout.certificate(f"{domain.value}-registration"))
            chains[domain] = c509.encode_chain([*path, registration])
    except (OSError, ValueError, EnrollmentError) as error:
        raise BadDirectory(f"{directory}: {error}") from None
    return Card(settings.organisation, at, chains)


def add_owner(directory: Path, name: str, card: Card | None) -> KnownOwner:
    """Keep another owner in an authority's directory; the same again changes nothing.

    Args:
        directory: Of our authority.
        name: What it is called here.
        card: Its own; None for a tenant of ours.

    Raises:
        BadDirectory: Not such a name, one that somebody else has, or no card that our roots vouch for.
    """
    if not NAME.fullmatch(name):
        raise BadDirectory(f"owner {name!r}: letters, digits, blanks, dots and dashes, please; at most 64")
    kept = Card(name, None, {}) if card is None else card
    owner = verify_card(directory, name, kept)
    if card is not None and owner.is_tenant:
        raise BadDirectory(f"{name}: the card names no authority of a domain that is ours, too")
    path = _path(directory, name)
    if path.exists():
        before = verify_card(directory, name, _read(path))
        if {d: a.key_id for d, a in before.authorities.items()} != {
            d: a.key_id for d, a in owner.authorities.items()
        }:
            raise BadDirectory(f"{name}: somebody else is called that here; choose another name")
    path.parent.mkdir(mode=0o755, exist_ok=True)
    write_atomically(path, kept.encode(), mode=0o644)
    return owner


def known_owners(directory: Path) -> list[KnownOwner]:
    """Return all other owners that are known, by name.

    Raises:
        BadDirectory: Not an authority's directory, or one of them cannot be read.
    """
    read_settings(directory)
    files = sorted(_folder(directory).glob(f"*{SUFFIX}"))
    return [verify_card(directory, file.stem, _read(file)) for file in files]


def find_owner(directory: Path, word: str) -> KnownOwner:
    """Return the owner whom `word` means.

    Args:
        directory: Of our authority.
        word: A name that is known here, another authority's directory, or a card's file.

    Raises:
        BadDirectory: There is none.
    """
    if NAME.fullmatch(word) and _path(directory, word).is_file():
        return verify_card(directory, word, _read(_path(directory, word)))
    place = Path(word)
    if Layout(place).settings.is_file():
        card = own_card(place)
    elif place.is_file():
        card = _read(place)
    else:
        names = ", ".join(one.name for one in known_owners(directory))
        raise BadDirectory(
            f"nobody knows the owner {word!r}; known are: {names or 'none'}; `trillium owner add` adds one"
        )
    owner = verify_card(directory, card.organisation, card)
    if owner.is_tenant:
        raise BadDirectory(f"{word}: names no authority of a domain that is ours, too")
    return owner


def verify_card(directory: Path, name: str, card: Card) -> KnownOwner:
    """Return whose a card is, if our roots vouch for each of its authorities that is of a domain of ours.

    Raises:
        BadDirectory: They do not, or it is we ourselves.
    """
    settings = read_settings(directory)
    layout = Layout(directory)
    authorities: dict[Domain, Authority] = {}
    try:
        for domain in settings.domains:
            chain = card.chains.get(domain)
            if chain is None:
                continue
            root, path = read_line(layout, settings.lines(domain).operator)
            authority = verify_chain(chain, root)
            if authority.key_id == key_identifier(verification_key(path[0])):
                raise BadDirectory(f"{name}: is this authority itself; another owner here is a tenant")
            authorities[domain] = authority
    except (OSError, ValueError, EnrollmentError) as error:
        raise BadDirectory(f"{name}: {error}") from None
    return KnownOwner(name, card.organisation, card.at, authorities)


def verify_chain(chain: bytes | Certificates, root: c509.Certificate) -> Authority:
    """Return the authority at the bottom of a chain whose registration certificate is last.

    Raises:
        MalformedMessage: Not a chain.
        RequestRejected: `root` does not vouch for it.
    """
    certificates = c509.decode_chain(chain) if isinstance(chain, bytes) else chain
    return verify_authority(certificates, root=root, authority=None, clock=_ENDLESS)


def _folder(directory: Path) -> Path:
    return directory / "owners"


def _path(directory: Path, name: str) -> Path:
    return _folder(directory) / f"{name}{SUFFIX}"


def _read(path: Path) -> Card:
    try:
        return Card.decode(path.read_bytes())
    except (OSError, MalformedMessage) as error:
        raise BadDirectory(f"{path}: {error}") from None
