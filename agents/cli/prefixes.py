"""Makers' prefixes as people write them: --flag TRL, --oui 02-54-52, --prefix TRL."""

from agents.cli.failure import USAGE, Failure
from protocol.profiles import NameSpace, Prefix


def parse_prefix(space: NameSpace, text: str, option: str) -> Prefix:
    """Return the prefix that `text` is.

    Raises:
        Failure: It is none of this name space.
    """
    try:
        return Prefix.parse(space, text)
    except ValueError as error:
        raise Failure(f"{option} {error}", USAGE) from None
