"""Names of MQTT topics: built and taken apart in one place (wire.md §2, §7).

est/<client-id>/<label>/<op>                                a device's request
est/<client-id>/<label>/<op>/accepted|pending|rejected      its replies
m/<client-id>/<stream>                                      a signed message
verified/<stream>                                           the same, verified
pub/<name>                                                  what everybody may read
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from protocol.errors import MalformedMessage, UnexpectedMessage
from protocol.identity import CLIENT_ID
from protocol.labels import Operation
from protocol.message import STREAM

MAX_TOPIC_CHARS: Final = 160
"""The longest of our own topics has 136; a foreign response topic may be a little longer."""

_LABEL: Final = re.compile(r"[0-9a-z-]{1,32}")
_WORD: Final = re.compile(r"[0-9a-z-]{1,16}")
_PLAIN: Final = re.compile(rf"[!-~]{{1,{MAX_TOPIC_CHARS}}}")
_OPERATIONS: Final = {op.value: op for op in Operation}


class Outcome(StrEnum):
    """Last level of a reply topic."""

    ACCEPTED = "accepted"
    PENDING = "pending"
    REJECTED = "rejected"


_OUTCOMES: Final = {outcome.value: outcome for outcome in Outcome}


@dataclass(frozen=True, slots=True)
class RequestTopic:
    """Where a device asks."""

    client_id: str
    label: str
    op: Operation

    def __str__(self) -> str:
        return f"est/{self.client_id}/{self.label}/{self.op.value}"

    def reply(self, outcome: Outcome) -> str:
        """Return the topic on which the device hears of it."""
        return f"{self}/{outcome.value}"


def check_client_id(client_id: str) -> str:
    """Return `client_id`.

    Raises:
        MalformedMessage: It is not 1 to 64 of the characters 0-9, A-Z, a-z, `_` and `-`.
    """
    if not CLIENT_ID.fullmatch(client_id):
        msg = "client-id is not 1 to 64 letters, digits, underscores and hyphens"
        raise MalformedMessage(msg)
    return client_id


def check_label(label: str) -> str:
    """Return `label`.

    Raises:
        MalformedMessage: It is not 1 to 32 of the characters 0-9, a-z and `-`.
    """
    if not _LABEL.fullmatch(label):
        msg = "label is not 1 to 32 lower-case letters, digits and hyphens"
        raise MalformedMessage(msg)
    return label


def check_stream(stream: str) -> str:
    """Return `stream`.

    Raises:
        MalformedMessage: It is not 1 to 32 of the characters 0-9, a-z, `_` and `-`.
    """
    if not STREAM.fullmatch(stream):
        msg = "stream is not 1 to 32 lower-case letters, digits, underscores and hyphens"
        raise MalformedMessage(msg)
    return stream


def parse_request(topic: str) -> RequestTopic:
    """Return what `topic` asks for.

    Raises:
        MalformedMessage: Not `est/<client-id>/<label>/<word>`: nobody can be answered.
        UnexpectedMessage: It is, but the word is no operation: `refusal_topic` names who waits.
    """
    client_id, label, word = _request_levels(topic)
    op = _OPERATIONS.get(word)
    if op is None:
        msg = f"no operation {word}"
        raise UnexpectedMessage(msg)
    return RequestTopic(client_id, label, op)


def refusal_topic(topic: str) -> str:
    """Return where a request on `topic` is refused, whatever its operation.

    Raises:
        MalformedMessage: As `parse_request`.
    """
    _request_levels(topic)
    return f"{topic}/{Outcome.REJECTED.value}"


def _request_levels(topic: str) -> tuple[str, str, str]:
    levels = topic.split("/")
    if len(levels) != 4 or levels[0] != "est" or not _WORD.fullmatch(levels[3]):
        msg = "not a request topic"
        raise MalformedMessage(msg)
    return check_client_id(levels[1]), check_label(levels[2]), levels[3]


def parse_reply(topic: str, client_id: str) -> tuple[RequestTopic, Outcome]:
    """Return which request of `client_id` `topic` answers, and how.

    Raises:
        MalformedMessage: Not a reply topic.
        UnexpectedMessage: A reply to another client, or to no operation.
    """
    request, _, word = topic.rpartition("/")
    outcome = _OUTCOMES.get(word)
    if outcome is None:
        msg = "not a reply topic"
        raise MalformedMessage(msg)
    asked = parse_request(request)
    if asked.client_id != client_id:
        msg = "a reply to another client"
        raise UnexpectedMessage(msg)
    return asked, outcome


def message_topic(client_id: str, stream: str) -> str:
    """Return where `client_id` sends signed messages of `stream`.

    Raises:
        MalformedMessage: Either is not made of the right characters.
    """
    return f"m/{check_client_id(client_id)}/{check_stream(stream)}"


def parse_message(topic: str) -> tuple[str, str]:
    """Return client-id and stream of a signed message's topic.

    Raises:
        MalformedMessage: Not such a topic.
    """
    levels = topic.split("/")
    if len(levels) != 3 or levels[0] != "m":
        msg = "not a message topic"
        raise MalformedMessage(msg)
    return check_client_id(levels[1]), check_stream(levels[2])


def verified_topic(stream: str) -> str:
    """Return where verified messages of `stream` are published.

    Raises:
        MalformedMessage: `stream` is not made of the right characters.
    """
    return f"verified/{check_stream(stream)}"


def is_response_topic(topic: str, client_id: str) -> bool:
    """Return whether `client_id` may have its reply on `topic`, an MQTT 5 Response Topic.

    It must lie below the requester's own prefix, or anyone could make us publish anywhere; and it must
    not be a request topic itself, or our answer would come back as a question.
    """
    return (
        topic.startswith(f"est/{client_id}/")
        and _PLAIN.fullmatch(topic) is not None
        and "+" not in topic
        and "#" not in topic
        and topic.count("/") != 3
    )
