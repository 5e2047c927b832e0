"""`trillium hands`, which nobody types: the process in which the lab's tour works single devices.

Orders come as JSON lines on standard input, each gets one JSON line on standard output, in order:

    {"do": "enroll"|"rekey"|"send"|"give-back", "identity": FOLDER, "via": URI, "label": LABEL}
    {"ok": {…}, "moved": false}  or  {"refused": KIND, "detail": why}

`moved`: the device heard of a new owner, and did it there.

It ends when its input does.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

import anyio

from agents.cli.transports import connect
from agents.devices.agent import Device, open_device
from agents.devices.bearer import DeviceError
from protocol import c509
from protocol.errors import EnrollmentError, OwnerChanged, RequestRejected, ServiceError
from protocol.exchange.device_pace import Patience
from protocol.exchange.request import RevocationReason
from protocol.ports import DeviceTransport

PATIENCE: Final = Patience(answer=2.0, longest_answer=10.0, pause=0.3, longest_pause=2.0, give_up=30.0)
"""A person watches."""


def run() -> None:
    """Obey until standard input ends."""
    anyio.run(_obey)


async def _obey() -> None:
    async for line in anyio.wrap_file(sys.stdin):
        sys.stdout.write(json.dumps(await _do(json.loads(line))) + "\n")
        sys.stdout.flush()


async def _do(order: dict[str, Any]) -> dict[str, Any]:
    try:
        async with open_device(Path(order["identity"]), patience=PATIENCE) as device:
            epoch = device.status().epoch
            try:
                done = await _at_home(device, order)
            except OwnerChanged:
                done = await _at_home(device, order)  # where the new owner's voucher said
            return {"ok": done, "moved": device.status().epoch != epoch}
    except RequestRejected as error:
        return {"refused": error.reason.name.lower(), "detail": error.detail}
    except (DeviceError, EnrollmentError, ServiceError) as error:
        return {"refused": type(error).__name__, "detail": str(error)}


async def _at_home(device: Device, order: dict[str, Any]) -> dict[str, Any]:
    via: str = device.status().at or order["via"]
    async with connect(via, device.identity, None) as transport:
        return await _work(device, transport, order)


async def _work(device: Device, transport: DeviceTransport, order: dict[str, Any]) -> dict[str, Any]:
    label: str = order.get("label", "")
    match order["do"]:
        case "enroll":
            return _told(await device.enroll(label, transport))
        case "rekey":
            return _told(await device.rekey(label, transport))
        case "give-back":
            await device.give_back(label, transport, RevocationReason.CESSATION_OF_OPERATION)
            return {}
        case "send":
            stream: str = order["stream"]
            return {"bytes": await device.send(stream, b"as the tour goes", transport)}
        case other:
            raise DeviceError(f"hands cannot {other}")


def _told(certificate: c509.Certificate) -> dict[str, Any]:
    return {"serial": certificate.serial.hex(), "certificate": certificate.encoded.hex()}
