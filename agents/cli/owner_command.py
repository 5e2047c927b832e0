"""`trillium owner`: the other owners that an authority knows."""

from pathlib import Path
from typing import Any

from agents.authority import BadDirectory
from agents.authority.owners import Card, KnownOwner, add_owner, known_owners, own_card
from agents.cli.failure import REFUSED, USAGE, Failure
from agents.cli.output import console, print_json, table
from agents.keys import write_atomically
from protocol.errors import MalformedMessage


def export(directory: Path, file: Path, at: str | None, *, as_json: bool) -> None:
    """Write the card of this authority, for others to add.

    Raises:
        Failure: Not an authority's directory, or not an address.
    """
    try:
        card = own_card(directory, at)
    except BadDirectory as error:
        raise Failure(str(error), REFUSED) from None
    write_atomically(file, card.encode(), mode=0o644)
    domains = [domain.value for domain in card.chains]
    if as_json:
        print_json({"file": str(file), "organisation": card.organisation, "domains": domains, "at": card.at})
        return
    console().print(f"wrote {file}: {card.organisation}, {', '.join(domains)}", soft_wrap=True)


def add(directory: Path, name: str, file: Path | None, *, as_json: bool) -> None:
    """Keep another owner: another authority by its card, or a tenant.

    Raises:
        Failure: Not a card, or one that our roots do not vouch for.
    """
    card: Card | None = None
    if file is not None:
        try:
            card = Card.decode(file.read_bytes())
        except OSError as error:
            raise Failure(f"{file}: {error.strerror}", USAGE) from None
        except MalformedMessage as error:
            raise Failure(f"{file}: {error}", REFUSED) from None
    try:
        owner = add_owner(directory, name, card)
    except BadDirectory as error:
        raise Failure(str(error), REFUSED) from None
    if as_json:
        print_json(_json(owner))
        return
    if owner.is_tenant:
        console().print(f"{name} is a tenant of this authority")
        return
    console().print(f"{name} is known; compare with its people before you give it anything:")
    for domain, authority in owner.authorities.items():
        console().print(f"  {domain.value}: {authority.key_id.hex()}", soft_wrap=True)


def listing(directory: Path, *, as_json: bool) -> None:
    """List the owners that are known."""
    try:
        owners = known_owners(directory)
    except BadDirectory as error:
        raise Failure(str(error), REFUSED) from None
    if as_json:
        print_json([_json(owner) for owner in owners])
        return
    if not owners:
        console().print("no other owners yet; trillium owner add adds one")
        return
    rows = [
        (
            owner.name,
            "tenant" if owner.is_tenant else owner.organisation,
            ", ".join(f"{domain.value} {one.key_id.hex()[:16]}" for domain, one in owner.authorities.items()),
            owner.at or "",
        )
        for owner in owners
    ]
    console().print(table(("owner", "who", "authorities", "at"), rows))


def _json(owner: KnownOwner) -> dict[str, Any]:
    return {
        "owner": owner.name,
        "organisation": owner.organisation,
        "tenant": owner.is_tenant,
        "at": owner.at,
        "authorities": {domain.value: one.key_id.hex() for domain, one in owner.authorities.items()},
    }
