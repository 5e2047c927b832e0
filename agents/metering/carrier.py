"""Carries one's mail to the authority and back, whatever the transport loses.

Each attempt is signed anew, with a counter of its own: a copy of an older one opens nothing. Leaving the same
letter twice, or taking one twice, changes nothing.
"""

import random
from collections.abc import Callable
from typing import Final, TypeVar

import anyio

from agents.devices.agent import Device
from protocol.errors import ExchangeTimeout, MalformedMessage, ProblemKind, RequestRejected, Unreachable
from protocol.exchange.device_pace import Pace
from protocol.labels import Operation
from protocol.metering.mail import (
    STREAM,
    Delivery,
    Request,
    Visit,
    WhoWrote,
    Writers,
    decode_delivery,
    decode_writers,
)
from protocol.ports import Content, DeviceTransport, Media, Outbound, Pending, Reply
from protocol.problem import Problem

_RANDOM: Final = random.SystemRandom()
_Answer = TypeVar("_Answer")


async def visit(device: Device, transport: DeviceTransport, request: Visit) -> Delivery:
    """Leave, take and fetch letters.

    Raises:
        DeviceError: No certificate to sign with.
        RequestRejected: The other side does not want it, in its own unsigned words.
        ExchangeTimeout: No answer within the device's patience.
    """
    return await _ask(device, transport, request, decode_delivery)


async def who_wrote(device: Device, transport: DeviceTransport) -> Writers:
    """Return whose letters wait; raises as `visit`."""
    return await _ask(device, transport, WhoWrote(), decode_writers)


async def _ask(
    device: Device, transport: DeviceTransport, request: Request, read: Callable[[bytes], _Answer]
) -> _Answer:
    body = request.encode()
    pace = Pace(device.patience, anyio.current_time())
    while not pace.is_over(anyio.current_time()):
        signed = await device.sign(STREAM, body, transport)
        pace.sent(anyio.current_time())
        retry_after: float | None = None
        match await _reply(transport, Outbound(device.message_label, Operation.MAIL, signed), pace.deadline):
            case Content(content, Media.CBOR):
                try:
                    return read(content)
                except MalformedMessage:
                    pass  # nobody vouches for an answer: noise is as good as silence
            case Problem() as problem if problem.is_temporary or problem.kind is ProblemKind.STALE_MESSAGE:
                retry_after = problem.retry_after
            case Problem() as problem:
                raise RequestRejected(problem.kind, problem.detail, problem.retry_after)
            case Pending(seconds):
                retry_after = seconds
            case _:
                pass
        pace.pause(anyio.current_time(), _RANDOM.random(), retry_after)
        await anyio.sleep_until(pace.deadline)
    raise ExchangeTimeout("the mail could not be carried")


async def _reply(transport: DeviceTransport, request: Outbound, deadline: float) -> Reply | None:
    with anyio.move_on_at(deadline):
        try:
            return await transport.exchange(request)
        except Unreachable:
            return None
    return None
