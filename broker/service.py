"""An authority's or verifier's side of a broker: requests in, replies and verified messages out."""

import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup, TaskStatus

from broker import parts, replies, topics
from broker.access import Action, Role, is_allowed
from broker.address import BrokerAddress
from broker.connection import Connection, open_connection
from protocol import cbor
from protocol.errors import MalformedMessage, ProblemKind, ServiceError, UnexpectedMessage, Unreachable
from protocol.labels import Operation
from protocol.ports import Content, Handler, Inbound, InboundMessage, MessageHandler, Reply
from protocol.problem import Problem

MAX_IN_WORK: Final = 256
"""Requests in work per service: a second's worth of enrollments; whatever is beyond would only wait."""
MAX_IN_WORK_PER_CLIENT: Final = MAX_IN_WORK // 4
"""Of these, how many may be one client's: a device asks one thing at a time, a few at most."""
MAX_WAITING_MESSAGES: Final = 4096
"""Signed messages that the verifier has not taken yet: a fifth of a second of its work, 2 MiB."""
RETRY_AFTER: Final = 2.0
"""Seconds that a device is asked to wait when there is no room, or when we failed."""
MAX_MESSAGE_BYTES: Final = 16384
"""Longest signed message that is looked at."""
MAX_CORRELATION_BYTES: Final = 256
"""Longest MQTT 5 Correlation Data that comes back. With more, a requester could make our reply longer than
its broker takes, which ends our connection and not the requester's."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
"""Seconds between attempts to reach a broker that is gone."""

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Counters:
    """What a service saw since it started."""

    requests: int = 0
    messages: int = 0
    overloaded: int = 0
    """Requests refused at once because too many were in work."""
    dropped: int = 0
    """Messages and replies given up: no room, or no connection. Their senders repeat."""
    ignored: int = 0
    """Deliveries on topics that nobody can be answered on."""
    connections: int = 0
    """Connections to the broker so far; above 1 it was lost and found again."""
    faults: int = 0
    """Exceptions out of a handler: our own bugs."""


class _Way:
    """Where and how the reply to one request goes."""

    __slots__ = ("asked", "part", "payload", "properties", "topic")

    def __init__(self, asked: topics.RequestTopic, payload: bytes, properties: dict[str, Any]) -> None:
        self.asked = asked
        self.payload = payload
        self.part: parts.Ask | None = None
        """Which part of which revocation list is asked for."""
        self.topic: str | None = None
        self.properties: dict[str, object] = {}
        wanted = properties.get("response_topic")
        if wanted and topics.is_response_topic(wanted[0], asked.client_id):
            self.topic = wanted[0]
        correlation = properties.get("correlation_data")
        if correlation and len(correlation[0]) <= MAX_CORRELATION_BYTES:
            self.properties["correlation_data"] = correlation[0]

    def inbound(self) -> Inbound:
        """Return what the authority is asked."""
        asked, part = self.asked, self.part
        source = f"mqtt:{asked.client_id}"
        if part is None:
            return Inbound(asked.label, asked.op, self.payload, source)
        return Inbound(asked.label, asked.op, b"", source, part.media, part.base)

    def render(self, reply: Reply) -> tuple[str, bytes, dict[str, object]]:
        """Return topic, payload and MQTT 5 properties of the message that carries `reply`."""
        if self.part is not None and isinstance(reply, Content):
            reply = self.part.cut(reply)
        outcome, payload = replies.encode_reply(reply, self.payload)
        if self.topic is None:
            return self.asked.reply(outcome), payload, self.properties
        # The topic cannot say how it went, so a user property does.
        return self.topic, payload, {**self.properties, "user_property": [("outcome", outcome.value)]}


class Service:
    """Made by `serve_authority`."""

    def __init__(
        self,
        handler: Handler | None,
        messages: MessageHandler | None,
        tasks: TaskGroup,
        max_in_work: int,
        max_waiting_messages: int,
    ) -> None:
        self.counters = Counters()
        self._handler = handler
        self._messages = messages
        self._tasks = tasks
        self._room = max_in_work
        self._in_work: Counter[str] = Counter()
        """Requests in work by client-id; no more entries than requests."""
        self._inbox, self._outlet = anyio.create_memory_object_stream[InboundMessage](max_waiting_messages)
        self._connection: Connection | None = None

    @property
    def is_connected(self) -> bool:
        """Whether requests can arrive just now."""
        return self._connection is not None

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish a verified message or a public one; return once the broker has acknowledged it.

        Args:
            topic: `verified/<stream>` or `pub/...`.
            payload: At most 64 KiB: brokers end the connection over more.

        Raises:
            Unreachable: No connection just now; nothing is kept for later.
            ServiceError: `payload` is longer.
            ValueError: Not a topic of ours to publish on.
        """
        if not is_allowed(Role.SERVICE, Action.PUBLISH, "", topic):
            msg = f"{topic} is not ours to publish on"
            raise ValueError(msg)
        if self._connection is None:
            msg = "no connection to the broker"
            raise Unreachable(msg)
        if len(payload) > replies.MAX_REPLY_BYTES:
            self.counters.dropped += 1
            msg = f"{len(payload)} bytes for {topic} are more than a broker takes"
            raise ServiceError(msg)
        await self._connection.publish(topic, payload)

    async def run(
        self,
        address: BrokerAddress,
        client_id: str,
        filters: Collection[str],
        *,
        task_status: TaskStatus[None],
    ) -> None:
        """Stay connected and subscribed; the first failure is raised, later ones are repaired."""
        pause, is_ready = _FIRST_PAUSE, False
        while True:
            try:
                async with open_connection(address, client_id, self._received) as connection:
                    # A request may come with the SUBACK, and its reply must find a way out.
                    self._connection = connection
                    await connection.subscribe(*filters)
                    self.counters.connections += 1
                    pause = _FIRST_PAUSE
                    if not is_ready:
                        is_ready = True
                        task_status.started()
                    await connection.lost.wait()
                    _log.warning("connection to %s lost", address.uri)
            except Unreachable as error:
                if not is_ready:
                    raise
                _log.warning("%s", error)
            finally:
                self._connection = None
            # Many services must not come back in step.
            await anyio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 (jitter is no secret)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _received(self, topic: str, payload: bytes, properties: dict[str, Any]) -> None:
        try:
            if topic.startswith("m/"):
                self._received_message(topic, payload)
            else:
                self._received_request(topic, payload, properties)
        except MalformedMessage:
            self.counters.ignored += 1

    def _received_request(self, topic: str, payload: bytes, properties: dict[str, Any]) -> None:
        self.counters.requests += 1
        try:
            asked = topics.parse_request(topic)
        except UnexpectedMessage:
            refusal = replies.encode_reply(Problem(ProblemKind.NOT_FOUND), payload)[1]
            self._send_now(topics.refusal_topic(topic), refusal, {})
            return
        way = _Way(asked, payload, properties)
        problem = self._problem_at_the_door(asked, payload)
        if problem is None and payload and asked.op is Operation.CRL:
            try:
                way.part = parts.Ask.decode(payload)
            except MalformedMessage as error:
                problem = Problem(ProblemKind.MALFORMED, str(error))
        if problem is not None:
            self._send_now(*way.render(problem))
            return
        self._room -= 1
        self._in_work[asked.client_id] += 1
        self._tasks.start_soon(self._answer, way)

    def _problem_at_the_door(self, asked: topics.RequestTopic, payload: bytes) -> Problem | None:
        if len(payload) > cbor.MAX_MESSAGE_BYTES:
            return Problem(ProblemKind.TOO_LARGE, f"at most {cbor.MAX_MESSAGE_BYTES} bytes")
        if payload and not asked.op.has_body and asked.op is not Operation.CRL:
            return Problem(ProblemKind.MALFORMED, f"{asked.op.value} has no body")
        if self._room <= 0 or self._in_work[asked.client_id] >= MAX_IN_WORK_PER_CLIENT:
            self.counters.overloaded += 1
            return Problem(ProblemKind.OVERLOADED, retry_after=RETRY_AFTER)
        return None

    def _send_now(self, topic: str, payload: bytes, properties: dict[str, object]) -> None:
        if self._connection is None or not self._connection.send_nowait(topic, payload, **properties):
            self.counters.dropped += 1

    async def _answer(self, way: _Way) -> None:
        asked = way.asked
        try:
            reply = await self._ask(way.inbound())
            topic, payload, properties = way.render(reply)
            if self._connection is None:
                self.counters.dropped += 1
                return
            await self._connection.send(topic, payload, **properties)
        except Unreachable:
            self.counters.dropped += 1
        finally:
            self._room += 1
            self._in_work[asked.client_id] -= 1
            if not self._in_work[asked.client_id]:
                del self._in_work[asked.client_id]

    async def _ask(self, inbound: Inbound) -> Reply:
        assert self._handler is not None
        try:
            return await self._handler(inbound)
        except Exception:  # noqa: BLE001 (one request that trips over a bug of ours must not end the service)
            self.counters.faults += 1
            _log.exception("handler failed on %s/%s from %s", inbound.label, inbound.op, inbound.source)
            return Problem(ProblemKind.UNAVAILABLE, retry_after=RETRY_AFTER)

    def _received_message(self, topic: str, payload: bytes) -> None:
        self.counters.messages += 1
        client_id, stream = topics.parse_message(topic)
        if len(payload) > MAX_MESSAGE_BYTES:
            self.counters.ignored += 1
            return
        try:
            self._inbox.send_nowait(InboundMessage(stream, payload, f"mqtt:{client_id}", client_id))
        except anyio.WouldBlock:
            # The broker has acknowledged it, so nobody can be slowed or told.
            self.counters.dropped += 1

    async def hand_over_messages(self) -> None:
        """Give messages to the verifier in the order in which they came."""
        async with self._inbox, self._outlet:
            async for message in self._outlet:
                assert self._messages is not None
                try:
                    await self._messages(message)
                except Exception:  # noqa: BLE001 (as above)
                    self.counters.faults += 1
                    _log.exception("message handler failed on %s from %s", message.stream, message.source)


@asynccontextmanager
async def serve_authority(
    handler: Handler | None,
    *,
    broker: BrokerAddress,
    client_id: str | None = None,
    labels: Collection[str] | None = None,
    messages: MessageHandler | None = None,
    share: str | None = None,
    max_in_work: int = MAX_IN_WORK,
    max_waiting_messages: int = MAX_WAITING_MESSAGES,
) -> AsyncIterator[Service]:
    """Answer requests and take signed messages that come over a broker.

    The body runs once the broker has acknowledged the subscriptions. A lost connection is opened and
    subscribed again until the body ends; requests that arrive meanwhile are lost, and devices repeat.

    Args:
        handler: The authority's door; None for a verifier alone.
        broker: Which broker, and how it knows us.
        client_id: Differs between services of one broker. None makes one up that nobody can guess, and
            so nobody can take: on many brokers the second client with an id ends the first.
        labels: What this authority answers; None means every label. Others' requests are not even
            delivered, so several authorities can share one broker.
        messages: The verifier's door, which takes a message quickly and verifies it later; None leaves
            signed messages to others.
        share: Name of an MQTT 5 shared subscription: services with the same name share the work. The
            embedded broker has none.
        max_in_work: Requests in work; more are refused at once with OVERLOADED and a retry-after.
        max_waiting_messages: Messages that `messages`, awaited for one after the other, has not taken yet;
            more are dropped and counted.

    Raises:
        Unreachable: The broker cannot be reached, or refuses us, at the start.
        MalformedMessage: A label that cannot be one.

    Cancellation: at any point; requests in work are cancelled with it.
    """
    filters: list[str] = []
    if handler is not None:
        wanted = ["+"] if labels is None else [topics.check_label(label) for label in labels]
        filters += [f"est/+/{label}/+" for label in wanted]
    if messages is not None:
        filters.append("m/+/+")
    if share is not None:
        filters = [f"$share/{share}/{each}" for each in filters]
    try:
        async with anyio.create_task_group() as tasks:
            service = Service(handler, messages, tasks, max_in_work, max_waiting_messages)
            tasks.start_soon(service.hand_over_messages)
            await tasks.start(service.run, broker, client_id or f"service-{token_hex(8)}", filters)
            yield service
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # One failure, of the start or of the body, is told as itself; tasks raise nothing else.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise
