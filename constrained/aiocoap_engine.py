"""The server on aiocoap."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from aiocoap import Context, Message
from aiocoap.interfaces import Resource
from aiocoap.pipe import Pipe
from aiocoap.tokenmanager import TokenManager

from constrained.crew import Crew
from constrained.door import BUSY, Call, Door, Limits
from constrained.quiet import QuietLog
from constrained.sockets import network_of
from constrained.transport import Messages, Transport, datagram_of, fill
from constrained.wire import Option, Request, Response, encode_uint

_SHUTDOWN_SECONDS: Final = 5.0
"""More than the 3 s that aiocoap gives its own transports."""


class _Site(Resource):  # type: ignore[misc]  # aiocoap is untyped
    """All resources at once: the copies that aiocoap's own `Site` makes are a third of its cost."""

    def __init__(self, door: Door) -> None:
        super().__init__()
        self._door = door

    async def render_to_pipe(self, pipe: Pipe) -> None:
        message = pipe.request
        request = Request.of(datagram_of(message), message.remote.source)
        outcome = self._door.enter(request)
        response = await self._door.answer(outcome) if isinstance(outcome, Call) else outcome
        pipe.add_response(_message(response, request.no_response), is_last=True)

    async def render(self, request: Any) -> Any:  # noqa: ANN401
        raise NotImplementedError  # part of the interface, not called where render_to_pipe is there

    async def needs_blockwise_assembly(self, request: Any) -> bool:  # noqa: ANN401
        return False


def _message(response: Response, no_response: int = 0) -> Any:  # noqa: ANN401
    message = fill(Message(code=response.code, payload=response.payload), response.options)
    if not response.is_wanted(no_response):
        fill(message, [(Option.NO_RESPONSE, encode_uint(no_response))])  # for `Messages.send_message`
    return message


class _Context(Context):  # type: ignore[misc]  # aiocoap is untyped
    """A context whose tasks have an owner, and no names made of whole messages."""

    def __init__(self, site: _Site, crew: Crew, log: QuietLog) -> None:
        super().__init__(serversite=site)
        self.log = log
        self._crew = crew

    def render_to_pipe(self, pipe: Pipe) -> None:
        network = network_of(pipe.request.remote.sockaddr)
        if self._crew.is_full(network):
            pipe.add_response(_message(BUSY), is_last=True)
            return
        task = self._crew.start(self.serversite.render_to_pipe(pipe), network)
        # A peer that uses its token again has given the earlier request up.
        pipe.on_interest_end(task.cancel)


@asynccontextmanager
async def listen(bound: socket.socket, door: Door, limits: Limits, log: QuietLog) -> AsyncIterator[None]:
    """Serve `door` on `bound` as long as the block is open; closes `bound`."""
    async with Crew(limits.in_work, limits.in_work_of_source) as crew:
        context = _Context(_Site(door), crew, log)
        tokens = TokenManager(context)
        messages = Messages(tokens, limits.exchanges, limits.unacknowledged)
        transport = await Transport.open(bound, messages, log)
        messages.message_interface = transport
        tokens.token_interface = messages
        context.request_interfaces.append(tokens)
        try:
            yield
        finally:
            with anyio.move_on_after(_SHUTDOWN_SECONDS, shield=True):
                await context.shutdown()
