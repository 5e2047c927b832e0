"""`trillium device check-in` and `voucher`: a device finds out whose it is, or is told."""

from pathlib import Path

import anyio

from agents.cli.device_command import Target, in_words
from agents.cli.failure import USAGE, Failure
from agents.cli.output import console, print_json
from agents.devices.agent import Device
from protocol.ports import DeviceTransport


def check_in(target: Target, *, as_json: bool) -> None:
    """Ask whether the authority still knows the device; go with a new owner if there is one."""
    anyio.run(_check_in, target, as_json)


async def _check_in(target: Target, as_json: bool) -> None:
    before: list[int] = []

    async def act(device: Device, transport: DeviceTransport) -> tuple[str, bool, int]:
        before.append(device.status().epoch)
        with in_words(target, device):
            is_known = await device.check_in(transport)
        return device.identity.device, is_known, device.status().epoch

    name, is_known, epoch = await target.at_home(act)
    has_moved = epoch != before[0]
    if as_json:
        print_json({"device": name, "known": is_known, "epoch": epoch, "moved": has_moved})
    elif has_moved:
        console().print(f"{name}: has another owner, epoch {epoch}, and is enrolled there")
    else:
        console().print(f"{name}: {'known' if is_known else 'nobody said that it is known'}")


def take_voucher(target: Target, file: Path, *, as_json: bool) -> None:
    """Give a device the voucher of its new owner by hand.

    Raises:
        Failure: The file cannot be read.
        RequestRejected: It is not for this device, or not of a later owner.
        MalformedMessage: It is no voucher.
    """
    try:
        voucher = file.read_bytes()
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}", USAGE) from None
    with target.open() as (device, _):
        device.take_voucher(voucher)
        held = device.status()
    if as_json:
        print_json({"device": held.device, "authority": held.authority.hex(), "epoch": held.epoch})
        return
    console().print(f"{held.device}: belongs to authority {held.authority.hex()[:16]}…, epoch {held.epoch}")
