"""What a device does unasked: renews what is due, and reports what it holds.

    upkeep = Upkeep(device)
    while True:
        async with open_some_transport(device.identity) as transport:
            await upkeep.round(transport)
        await anyio.sleep(...)      # an hour, a day: as the driver likes

How often is the driver's choice: a renewal's moment (`protocol.renewal`) says from when on, and a device that
is asked less often comes later, never earlier.
"""

from dataclasses import dataclass

import anyio

from agents.devices.agent import Device
from agents.devices.holding import REPORT_EVERY, report_held
from protocol.errors import RequestRejected
from protocol.ports import DeviceTransport


@dataclass(frozen=True, slots=True)
class Round:
    """What was done in one round."""

    renewed: tuple[str, ...]
    """Labels with a new key and certificate."""
    refused: tuple[tuple[str, str], ...]
    """(label, why) where the authority said no; the next round asks again."""
    has_reported: bool


class Upkeep:
    """Looks after one device.

    Args:
        device: Open as long as this is used.
        report_every: Seconds between two reports of what it holds, if nothing changes. They are counted on a
            clock that every device has, from its start on.
    """

    def __init__(self, device: Device, *, report_every: float = REPORT_EVERY) -> None:
        self._device = device
        self._report_every = report_every
        self._report_at = float("-inf")

    async def round(self, transport: DeviceTransport) -> Round:
        """Do what there is to do.

        Raises:
            DeviceError: No certificate that signs messages, so that nothing can be reported.
            OwnerChanged: Its new owner's authority is elsewhere; the next round goes on there.
            RequestRejected: The report is not taken.
            ExchangeTimeout: Out of time; the next round goes on.
        """
        renewed: list[str] = []
        refused: list[tuple[str, str]] = []
        for held in self._device.status().labels:
            if not held.is_rekey_due:
                continue  # not yet, or nobody can tell
            try:
                await self._device.rekey(held.label, transport)
            except RequestRejected as error:
                refused.append((held.label, str(error)))
            else:
                renewed.append(held.label)
        is_report_due = bool(renewed) or anyio.current_time() >= self._report_at
        if is_report_due:
            # Nobody signs the answer to a report, and over MQTT there is none.
            await self._device.check_in(transport)
            await report_held(self._device, transport)
            self._report_at = anyio.current_time() + self._report_every
        return Round(tuple(renewed), tuple(refused), is_report_due)
