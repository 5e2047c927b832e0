"""What was found in a file, in words for people and as JSON for scripts."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that a file says."""

    name: str
    """In words, lower case: "valid until"."""
    text: str
    """In words."""
    value: Any = None
    """For JSON, where words are not enough: str, int, bool, list or dict."""

    @property
    def key(self) -> str:
        """The name as a JSON key."""
        return self.name.replace(" ", "_").replace("-", "_").lower()


@dataclass(frozen=True, slots=True)
class Finding:
    """One recognised object."""

    kind: str
    """For scripts: "c509-certificate", "signed-request"; never changes its meaning."""
    title: str
    """For people."""
    fields: tuple[Field, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences about what is unusual."""
    parts: tuple["Finding", ...] = ()
    """What it holds: certificates of a chain, the request in an envelope."""

    def with_note(self, note: str) -> "Finding":
        """Return the same finding with one more sentence, before the others."""
        return Finding(self.kind, self.title, self.fields, (note, *self.notes), self.parts)

    def to_json(self) -> dict[str, Any]:
        """Return what `json.dumps` takes."""
        found: dict[str, Any] = {"kind": self.kind, "title": self.title}
        for field in self.fields:
            found[field.key] = field.text if field.value is None else field.value
        if self.notes:
            found["notes"] = list(self.notes)
        if self.parts:
            found["parts"] = [part.to_json() for part in self.parts]
        return found


class NotRecognised(Exception):
    """Nothing that can be explained; the text says what it looked like."""
