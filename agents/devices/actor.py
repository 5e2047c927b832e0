"""What a kind of device does in its life: which certificates it holds, and what it reports."""

from collections.abc import Callable
from dataclasses import dataclass

from agents.devices.agent import Device
from agents.devices.driver import Progress
from protocol.ports import DeviceTransport


@dataclass(frozen=True, slots=True)
class Actor:
    """A kind of device."""

    bootstrap: str
    """Label of the tier 1 certificate that it comes with."""
    labels: tuple[str, ...]
    """What it enrolls, in this order; later ones may need earlier ones."""
    stream: str
    """Where its readings go."""
    body: Callable[[bytes, int], bytes]
    """Returns the reading with this number of the device with this name."""

    async def enroll(
        self, device: Device, transport: DeviceTransport, *, progress: Progress | None = None
    ) -> None:
        """Get every certificate that is not there yet."""
        held = {found.label for found in device.status().labels if found.serial is not None}
        for label in self.labels:
            if label not in held:
                await device.enroll(label, transport, progress=progress)

    async def report(self, device: Device, index: int, transport: DeviceTransport) -> None:
        """Send the reading with this number."""
        await device.send(self.stream, self.body(device.identity.device.encode(), index), transport)
