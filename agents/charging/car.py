"""A car is plugged in: it looks at the station, and gets or renews its contract through it.

The station is trusted with delivery only. What makes a contract good is in the package itself: the service
that signed it under the pinned V2G root, the authority that the car's voucher names, and a key that is that
of the certificate (`protocol.ev.package`). So a station that is no good costs the car nothing but time; it is
refused all the same, because it would charge for what it delivers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from agents.charging.encounter import StationSeen, meet
from agents.devices.agent import Device
from agents.devices.bearer import Bearer
from agents.devices.driver import Progress
from protocol import c509
from protocol.challenge import ProvingTransport
from protocol.end_entity import holder_of
from protocol.profiles import profile_of, services_of
from protocol.validity import Verdict


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract that the car holds."""

    label: str
    emaid: str
    certificate: c509.Certificate
    verdict: Verdict
    is_new: bool
    """Whether it came with this visit."""


@dataclass(frozen=True, slots=True)
class Visit:
    """What came of plugging in."""

    station: StationSeen
    contracts: tuple[Contract, ...]


async def plug_in(
    device: Device,
    transport: ProvingTransport,
    *,
    address: str,
    roots: Sequence[c509.Certificate] = (),
    needs_status: bool = False,
    renews: bool = False,
    progress: Progress | None = None,
) -> Visit:
    """Verify a station, then get what contracts the car lacks and renew those that are due.

    Args:
        device: The car.
        transport: To the station.
        address: Where that is, as the station calls it.
        roots: V2G roots for stations, instead of the one that was pinned in the factory.
        needs_status: Whether a station is refused of which nobody says that it is not revoked.
        renews: Renew what is not due, too.
        progress: Told each state of each exchange.

    Raises:
        DeviceError, IdentityError, RequestRejected, MalformedMessage, ExchangeTimeout: As `meet`; nothing was
            asked of the authority then.
        RequestRejected: The authority's signed no: no contract for this car.
        CertificateUnusable: The package is not as it should be; the authority was told why.
        ExchangeTimeout: Out of time; plugging in again goes on.
    """
    station = await meet(device, transport, address=address, roots=roots, needs_status=needs_status)
    new: list[str] = []
    for label in services_of(device.identity.label):
        held = next((one for one in device.status().labels if one.label == label), None)
        if held is None or held.serial is None or held.validity is Verdict.EXPIRED:
            await device.enroll(label, transport, progress=progress)
        elif renews or held.pending is not None or held.is_rekey_due:
            await device.rekey(label, transport, progress=progress)
        else:
            continue
        new.append(label)
    return Visit(station, await contracts_of(device, new=new))


async def contracts_of(device: Device, *, new: Sequence[str] = ()) -> tuple[Contract, ...]:
    """Return the contracts that a car holds; those under `new` are said to be new."""
    found: list[Contract] = []
    for status in device.status().labels:
        if status.serial is None or not profile_of(status.label).is_key_generated:
            continue
        label = status.label
        certificate = await device.lend(partial(Bearer.certificate, label=label))
        assert status.validity is not None
        emaid = holder_of(certificate, profile_of(label))
        found.append(Contract(label, emaid, certificate, status.validity, label in new))
    return tuple(found)
