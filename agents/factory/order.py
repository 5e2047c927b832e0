"""What is to be made: a list of names, counted, from a CSV file or from requests, each looked at beforehand.

An order is known by its digest: the same order given again goes on with its batch, another one does not.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, overload

from agents.factory.maker import Maker
from agents.factory.names import Numbering
from agents.factory.sheet import Column, Row, SheetError, Wrong, read_sheet
from protocol import cbor
from protocol.errors import EnrollmentError, RequestRejected
from protocol.identity import client_id
from protocol.labels import Tier
from protocol.path import check_name, check_prefix
from protocol.profiles import Prefix, Profile, name_space, profile_of

MAX_BATCH: Final = 1_000_000
"""Devices of one batch: its manifest is signed, and read, in one piece."""
MAX_NAME: Final = 64
MAX_REMARK: Final = 40
"""Characters of a remark; shorter than any key."""
COLUMNS: Final = {
    "device": Column(MAX_NAME),
    "serial": Column(MAX_REMARK),
    "client": Column(MAX_REMARK),
}
"""What a CSV file for the factory may have."""
_PAGE: Final = 500


class FactoryError(ValueError):
    """The batch cannot be made as asked; the text is for people."""


@dataclass(frozen=True, slots=True)
class Item:
    """One device to be made."""

    name: str
    key: bytes | None = None
    """Its public key (uncompressed SEC1 point), if it made the key itself; None: the factory makes one."""
    serial: str = ""
    """What the maker calls it, a remark."""
    client: str = ""
    """For whom it is made, a remark."""


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for."""

    label: str
    source: str
    """In words."""
    digest: bytes
    """SHA-256 of everything that decides what is made."""
    items: Sequence[Item]
    """Those that can be made."""
    wrong: tuple[Wrong, ...] = ()
    where: Sequence[str] = ()
    """Where each item stands, for reports; empty if they are counted."""

    def without(self, taken: Iterable[tuple[int, str]]) -> "Order":
        """Return the order without items that cannot be made after all: (index, reason) each."""
        reasons = dict(taken)
        if not reasons:
            return self
        wrong = tuple(
            Wrong(self.where[index] if self.where else "", self.items[index].name, reason)
            for index, reason in reasons.items()
        )
        kept = [index for index in range(len(self.items)) if index not in reasons]
        return replace(
            self,
            items=[self.items[index] for index in kept],
            where=[self.where[index] for index in kept] if self.where else (),
            wrong=tuple(sorted((*self.wrong, *wrong), key=_place)),
        )


def _place(wrong: Wrong) -> tuple[str, int]:
    """Return where a wrong row stands: lines by their number, files by their name."""
    word, _, number = wrong.where.partition(" ")
    return (word, int(number)) if number.isdigit() else (wrong.where, 0)


class _Counted(Sequence[Item]):
    """Items that are made up when they are asked for."""

    def __init__(self, numbering: Numbering, start: int, count: int) -> None:
        self._numbering = numbering
        self._serials = range(start, start + count)

    def __len__(self) -> int:
        return len(self._serials)

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [Item(self._numbering.name(serial)) for serial in self._serials[index]]
        return Item(self._numbering.name(self._serials[index]))


def tier_one(label: str) -> Profile:
    """Return the profile of a tier 1 label, or raise FactoryError."""
    try:
        profile = profile_of(label)
    except EnrollmentError as error:
        raise FactoryError(str(error)) from None
    if profile.tier is not Tier.BOOTSTRAPPING:
        raise FactoryError(f"{label} certificates are enrolled over the air; a factory makes tier 1")
    return profile


def numbering_of(maker: Maker, profile: Profile, prefix: bytes | None, operator: str | None) -> Numbering:
    """Return how a maker counts devices, or raise FactoryError: a prefix that is not its own, or missing."""
    space = name_space(profile.naming)
    try:
        if space is None:
            return Numbering(profile, prefix or b"", operator or "")
        own = sorted(maker.authority.prefixes.get(space, ()))
        if not own:
            raise FactoryError(f"the maker's CA lists no {space.title}, so it names no devices")
        if prefix is None and len(own) > 1:
            raise FactoryError(f"say which {space.title} the names begin with: {', '.join(map(str, own))}")
        chosen = own[0] if prefix is None else Prefix(space, prefix)
        check_prefix(chosen, maker.authority, profile)
        return Numbering(profile, chosen.octets, operator or "")
    except (ValueError, RequestRejected) as error:
        raise FactoryError(str(error)) from None


def counted(maker: Maker, label: str, count: int, numbering: Numbering, *, start: int = 1) -> Order:
    """Return the order for `count` devices whose serial numbers begin with `start`.

    Raises:
        FactoryError: There are not as many serial numbers.
    """
    if not 1 <= count <= MAX_BATCH:
        raise FactoryError(f"a batch has 1 to {MAX_BATCH} devices")
    if start < 0 or start + count - 1 > numbering.last:
        raise FactoryError(f"serial numbers of {label} are 0 to {numbering.last}")
    digest = digest_of(maker, label, "count", count, start, numbering.prefix, numbering.operator)
    return Order(label, f"{count} from {start} on", digest, _Counted(numbering, start, count))


def from_sheet(maker: Maker, label: str, data: bytes, numbering: Numbering | None) -> Order:
    """Return the order in a CSV file, with what is wrong in it.

    Args:
        maker: Whose devices.
        label: Tier 1.
        data: The file: columns `device`, `serial`, `client`. Without `device`, `serial` is a number that
            makes the name.
        numbering: How it does; None if the file has names.

    Raises:
        FactoryError: The file as a whole cannot be used.
    """
    profile = tier_one(label)
    seen: dict[str, str] = {}
    items: list[Item] = []
    where: list[str] = []
    wrong: list[Wrong] = []
    try:
        for row in read_sheet(data, COLUMNS):
            found = row if isinstance(row, Wrong) else _item(maker, profile, row, numbering, seen)
            if isinstance(found, Wrong):
                wrong.append(found)
            else:
                items.append(found)
                where.append(row.where)
            if len(items) + len(wrong) > MAX_BATCH:
                raise SheetError(f"more than {MAX_BATCH} rows; split it")  # noqa: TRY301 (one way out)
    except SheetError as error:
        raise FactoryError(f"CSV: {error}") from None
    prefix = b"" if numbering is None else numbering.prefix
    digest = digest_of(maker, label, "csv", hashlib.sha256(data).digest(), prefix)
    return Order(label, "a CSV file", digest, items, tuple(wrong), where)


def _item(
    maker: Maker, profile: Profile, row: Row, numbering: Numbering | None, seen: dict[str, str]
) -> Item | Wrong:
    name, serial = row.cells.get("device", ""), row.cells.get("serial", "")
    if "device" not in row.cells:
        if "serial" not in row.cells:
            raise SheetError("a column device or serial says which devices")
        if not serial.isdigit():
            return Wrong(row.where, "", f"serial {serial!r} is no number")
        if numbering is None:
            raise SheetError("names are made of serial numbers, so it must be known how they begin")
        try:
            name = numbering.name(int(serial))
        except (ValueError, RequestRejected) as error:
            return Wrong(row.where, "", f"serial {serial}: {error}")
    reason = wrong_name(maker, profile, name) or repeated(name, row.where, seen)
    return Wrong(row.where, name, reason) if reason else Item(name, None, serial, row.cells.get("client", ""))


def wrong_name(maker: Maker, profile: Profile, name: str) -> str | None:
    """Return why this maker gives nobody this name; None if it may."""
    try:
        check_name(profile.naming.check(name), maker.authority, profile)
    except RequestRejected as error:
        return error.detail or str(error)
    return None


def repeated(name: str, where: str, seen: dict[str, str]) -> str | None:
    """Return why a name is not to be made a second time, and remember it if it is the first time."""
    first = seen.setdefault(name, where)
    return None if first == where else f"the same name as {first}"


def check_inventory(maker: Maker, order: Order) -> Order:
    """Return the order without devices or keys that the inventory knows already."""
    return order.without(_taken(maker, order.items))


def _taken(maker: Maker, items: Sequence[Item]) -> Iterator[tuple[int, str]]:
    maker_id = maker.authority.key_id
    for start in range(0, len(items), _PAGE):
        page = items[start : start + _PAGE]
        ids = [client_id(maker_id, item.name) for item in page]
        known = maker.known_devices(ids)
        keys = maker.known_keys([item.key for item in page if item.key is not None])
        for offset, (item, identifier) in enumerate(zip(page, ids, strict=True)):
            if identifier in known:
                yield start + offset, "is registered already"
            elif item.key in keys:
                yield start + offset, "its key was certified before"


def digest_of(maker: Maker, *parts: object) -> bytes:
    """Return what an order is known by: whose devices, for whom, and which."""
    return hashlib.sha256(cbor.encode([maker.authority.key_id, maker.owner, *parts])).digest()
