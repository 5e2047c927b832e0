"""Whose a device was, epoch by epoch, and what somebody is told who still lives in an epoch that is over.

A device has rows in `owners` from its first change of owner on: one for each epoch that is known here, the
first one included. Whoever has none has had one owner only, this directory's authority.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import bindparam, select
from sqlalchemy.engine import Connection

from agents.authority.schema import OWNERS
from protocol.exchange.facts import DeviceFacts, FormerEpoch
from protocol.problem import Successor

MAX_FORMER: Final = 16
"""Epochs that are still answered, the newest: each is one more signature to verify for a request that is none
of the present owner's. Who slept through more owners than that is brought the newest voucher by hand."""
_PAGE: Final = 500
_O: Final = OWNERS.c
_OF_DEVICES = select(OWNERS).where(_O.device_id.in_(bindparam("devices", expanding=True))).order_by(_O.epoch)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One owner of one device."""

    number: int
    authority: bytes
    """Key identifier of the owner's CA, 32 bytes."""
    owner: str
    """What the owner is called here; empty where nobody said it."""
    voucher: bytes | None
    """None for an owner of whom the device knew when it was registered."""
    signed_by: bytes | None
    """Key identifier of the voucher's signer, 32 bytes."""
    is_by_maker: bool
    """Whether that is the maker's voucher key, which the device has pinned."""
    shortcut: bytes | None
    """Where a device came back: a second voucher, by the authority here, for a device that still believes
    that it never went."""
    at: str | None
    """Where the owner's authority is."""
    since: int
    """POSIX seconds."""
    approved_by: str

    def voucher_for(self, authority: bytes) -> bytes | None:
        """Return a voucher of this epoch that a device believes whose owner is `authority`."""
        if self.voucher is not None and (self.is_by_maker or self.signed_by == authority):
            return self.voucher
        return self.shortcut


def read_epochs(connection: Connection, devices: Iterable[int]) -> dict[int, list[Epoch]]:
    """Return the owners of each device that ever changed one, first to last."""
    wanted = list(devices)
    found: dict[int, list[Epoch]] = {}
    for start in range(0, len(wanted), _PAGE):
        rows = connection.execute(_OF_DEVICES, {"devices": wanted[start : start + _PAGE]})
        for row in rows:
            found.setdefault(row.device_id, []).append(_epoch(row))
    return found


def _epoch(row: Any) -> Epoch:  # noqa: ANN401 (a database row)
    return Epoch(
        row.epoch,
        row.authority,
        row.owner,
        row.voucher,
        row.signed_by,
        bool(row.is_by_maker),
        row.shortcut,
        row.at,
        row.since,
        row.approved_by,
    )


def with_epochs(
    connection: Connection, devices: Collection[tuple[DeviceFacts, bytes]]
) -> dict[tuple[int, bytes], DeviceFacts]:
    """Return devices as one authority sees them: whether they are its own now, and when they were.

    Args:
        connection: A read transaction.
        devices: Each with the authority that is asked.

    Returns:
        By number and authority those about whom there is something to say; most devices keep their owner.
    """
    moved = {(device.id, authority): device for device, authority in devices if device.epoch > 0}
    if not moved:
        return {}
    epochs = read_epochs(connection, {number for number, _ in moved})
    return {
        (number, authority): replace(
            device,
            is_ours=epochs[number][-1].authority == authority,
            former=former(epochs[number], authority),
        )
        for (number, authority), device in moved.items()
        if number in epochs
    }


def former(epochs: Sequence[Epoch], authority: bytes) -> tuple[FormerEpoch, ...]:
    """Return the epochs in which `authority` owned a device before, newest first."""
    found: list[FormerEpoch] = []
    for index in range(len(epochs) - 2, -1, -1):
        if epochs[index].authority != authority:
            continue
        successor = successor_of(epochs[index + 1 :], authority)
        if successor is not None:
            found.append(FormerEpoch(epochs[index].number, successor))
        if len(found) == MAX_FORMER:
            break
    return tuple(found)


def successor_of(later: Sequence[Epoch], authority: bytes) -> Successor | None:
    """Return the last of the owners after `authority` whom a device believes that knows no other.

    Owners in between are skipped where the maker or `authority` itself vouches for the last one: the device
    need not find each of them, and they need not exist any more.
    """
    for epoch in reversed(later):
        voucher = epoch.voucher_for(authority)
        if voucher is not None:
            return Successor(voucher, epoch.at)
    return None
