"""A device tells its authority what it holds (`protocol.held`)."""

from typing import Final

from anyio import to_thread

from agents.devices.agent import Device
from agents.devices.identity import BOOTSTRAP, Identity
from agents.devices.status import DeviceStatus
from protocol import c509
from protocol.held import MAX_CERTIFICATES, STREAM, HeldCertificate, HeldReport, HeldState
from protocol.ports import DeviceTransport

REPORT_EVERY: Final = 24 * 3600.0
"""Seconds after which a device reports again, though nothing changed: it may have been restored from a copy,
and the report before may be lost."""


async def report_held(device: Device, transport: DeviceTransport) -> HeldReport:
    """Send a signed report of what the device holds; return it.

    Raises:
        DeviceError: No certificate that signs messages.
        IdentityError, OSError: The identity folder cannot be read.
        RequestRejected: The other side does not take it.
        ExchangeTimeout: It could not be delivered.
    """
    report = await to_thread.run_sync(held_report, device.identity, device.status())
    await device.send(STREAM, report.encode(), transport)
    return report


def held_report(identity: Identity, status: DeviceStatus) -> HeldReport:
    """Return everything that a device holds; reads the identity folder.

    Raises:
        IdentityError, OSError: It cannot be read.
    """
    bootstrap = c509.thumbprint((identity.folder / BOOTSTRAP).read_bytes())
    held = [HeldCertificate(identity.label, bootstrap, HeldState.CURRENT)]
    for label in status.labels:
        if label.thumbprint is not None:
            held.append(HeldCertificate(label.label, label.thumbprint, HeldState.CURRENT))
        if label.pending is not None and label.pending.thumbprint is not None:
            held.append(HeldCertificate(label.label, label.pending.thumbprint, HeldState.PENDING))
    return HeldReport(
        status.authority,
        status.epoch,
        (c509.thumbprint(identity.root().encoded),),
        status.chain,
        status.crl_number,
        tuple(held[:MAX_CERTIFICATES]),
    )
