"""Devices of the inventory, and whose they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, or_, select

from agents.authority.epochs import Epoch, read_epochs
from agents.authority.inventory import InventoryError
from agents.authority.schema import DEVICES
from agents.authority.store import Store
from protocol.labels import Domain

_PAGE: Final = 500
_D: Final = DEVICES.c
_BY_WORD = select(DEVICES).where(
    or_(_D.name.in_(bindparam("words", expanding=True)), _D.client_id.in_(bindparam("words", expanding=True)))
)


@dataclass(frozen=True, slots=True)
class Held:
    """One device of the inventory, and whose it is."""

    id: int
    name: str
    client_id: str
    domain: Domain
    label: str
    maker: bytes
    epoch: int
    owner: str
    entitled: str
    registered_at: int
    epochs: tuple[Epoch, ...]
    """Empty where it never changed its owner."""

    def authority(self, here: bytes) -> bytes:
        """Return whose it is now, a key identifier."""
        return self.epochs[-1].authority if self.epochs else here


def find_devices(store: Store, words: Sequence[str]) -> list[Held]:
    """Return the devices of these names or client-ids, in order, each once.

    A name may be that of several identities: a car for both parts of ISO 15118 has one in each of two
    domains, and goes as a whole.

    Raises:
        InventoryError: One is not there, or several makers of one domain have one of that name.
    """
    found: dict[int, Any] = {}
    with store.reading() as connection:
        for start in range(0, len(words), _PAGE):
            page = list(words[start : start + _PAGE])
            found |= {row.id: row for row in connection.execute(_BY_WORD, {"words": page})}
        epochs = read_epochs(connection, [number for number, row in found.items() if row.epoch > 0])
    by_word: dict[str, dict[int, Any]] = {}
    for row in found.values():
        for word in (row.name, row.client_id):
            by_word.setdefault(word, {})[row.id] = row
    unknown = [word for word in words if word not in by_word]
    if unknown:
        others = f" (nor {len(unknown) - 1} others)" if unknown[1:] else ""
        raise InventoryError(f"no device is called {unknown[0]!r}{others}")
    chosen: dict[int, Any] = {}
    for word in words:
        rows = by_word[word]
        if len({row.domain for row in rows.values()}) < len(rows):
            ids = ", ".join(row.client_id for row in rows.values())
            raise InventoryError(f"several makers have a device {word!r}; say which by client-id: {ids}")
        chosen |= rows
    return [_held(row, epochs.get(row.id, [])) for row in chosen.values()]


def _held(row: Any, epochs: Sequence[Epoch]) -> Held:  # noqa: ANN401 (a database row)
    return Held(
        row.id,
        row.name,
        row.client_id,
        Domain(row.domain),
        row.label,
        row.maker,
        row.epoch,
        row.owner or "",
        row.entitled,
        row.registered_at,
        tuple(epochs),
    )
