"""What a stranger finds at `/.well-known/core` (RFC 6690)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from constrained.formats import ANSWERS, ContentFormats
from protocol.labels import Operation
from protocol.profiles import PROFILES

ROOTS: Final = (".well-known/est", "e")
"""Where the tree of operations starts: RFC 9148 §4.1's default, and a short one."""


@dataclass(frozen=True, slots=True)
class Link:
    """One entry of the listing."""

    href: str
    rt: str
    ct: str
    """Content-Format numbers, separated by spaces."""

    def __str__(self) -> str:
        ct = f'"{self.ct}"' if " " in self.ct else self.ct
        return f'<{self.href}>;rt="{self.rt}";ct={ct}'

    def matches(self, query: str) -> bool:
        """Return whether `query` ("name=value", a trailing * standing for anything) lets this link through.

        Source:
            RFC 6690 §4.1. Names other than ours match nothing; a query without "=" is no filter.
        """
        name, equals, value = query.partition("=")
        if not equals:
            return True
        values = {"href": (self.href,), "rt": (self.rt,), "ct": tuple(self.ct.split(" "))}.get(name, ())
        if value.endswith("*"):
            return any(candidate.startswith(value[:-1]) for candidate in values)
        return value in values


def _operations(label: str) -> Sequence[Operation]:
    """Return what can be asked under a label; everything where nothing is declared."""
    profile = PROFILES.get(label)
    return tuple(Operation) if profile is None else profile.operations


class Listing:
    """The resources of a server; what queries select from it is remembered, 32 at most."""

    def __init__(self, labels: Sequence[str], formats: ContentFormats) -> None:
        self.links = [
            Link(
                f"/{root}/{label}/{op}",
                f"ace.est.{op}",
                " ".join(str(formats.number(media)) for media in ANSWERS[op]),
            )
            for root in ROOTS
            for label in labels
            for op in _operations(label)
        ]
        self.select = lru_cache(maxsize=32)(self._select)

    def _select(self, query: tuple[bytes, ...]) -> bytes:
        """Return the link-format document of the links that every one of `query` lets through."""
        queries = [part.decode("utf-8", "replace") for part in query]
        return ",".join(
            str(link) for link in self.links if all(link.matches(part) for part in queries)
        ).encode()
