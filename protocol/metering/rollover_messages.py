"""What a rollover's envelopes contain: five messages, each one structure of COSEM data.

| step | message  | from     | after the step and the generation                                             |
|------|----------|----------|-------------------------------------------------------------------------------|
| 0    | Offer    | head-end | suite, scheme, array of {key_id, key_data}, array of key_id to be transferred |
| 1    | Answer   | meter    | array of {key_id, key_data}: empty under C(1e, 1s)                            |
| 2    | Switch   | head-end | array of {key_id, wrapped key}, confirmation under the new keys               |
| 3    | Switched | meter    | confirmation under the new keys                                               |
| 4    | Refusal  | meter    | step that is refused, reason, highest generation that the meter has seen      |

This content is Trillium's own: DLMS has methods for agreement and transfer, but none that says when to
switch. Its entries are those of the methods. `other-information` says what it is, so that no envelope made
for something else is ever taken for one of these.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from protocol.errors import MalformedMessage
from protocol.metering import axdr
from protocol.metering.agreement import Scheme
from protocol.metering.keys import KeyKind
from protocol.metering.setup import entries, read_entries

OTHER_INFORMATION: Final = b"trillium rollover 1"
"""other-information of every envelope of a rollover; the number is the version of these messages."""
NECESSARY: Final = frozenset({KeyKind.UNICAST, KeyKind.AUTHENTICATION})
"""Kinds that every rollover agrees on: the confirmation is made with them."""
MAX_CONFIRMATION_BYTES: Final = 60
"""Of suite 2: a hash and a tag."""


class Step(IntEnum):
    """Which message it is."""

    OFFER = 0
    ANSWER = 1
    SWITCH = 2
    SWITCHED = 3
    REFUSAL = 4


class Reason(IntEnum):
    """Why not. Numbers go on the wire and are never reused."""

    UNSUPPORTED = 1
    """A suite or scheme that the meter is not set up for, or no unicast or authentication key among them."""
    STALE = 2
    """A generation that the meter has seen, or left behind."""
    INCOMPLETE = 3
    """A kind of key that the meter has would be left as it is, and so serve two generations."""
    BAD_KEY = 4
    """An ephemeral key that is off its curve, not signed by its sender, or was used before."""
    KEYS_DIFFER = 5
    """The confirmation does not open: the two sides derived different keys (settings, a replaced
    key-agreement certificate), or a wrapped key does not unwrap."""
    UNKNOWN_GENERATION = 6
    """Nothing is pending under this number: the meter has lost what it stored, or gave it up."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Agree on these keys."""

    generation: int
    suite: int
    scheme: Scheme
    key_data: Mapping[KeyKind, bytes]
    transferred: tuple[KeyKind, ...] = ()
    """Kinds that the switch will bring, ascending."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The meter has the keys, as pending."""

    generation: int
    key_data: Mapping[KeyKind, bytes]


@dataclass(frozen=True, slots=True)
class Switch:
    """Use them now."""

    generation: int
    wrapped: Mapping[KeyKind, bytes]
    confirmation: bytes


@dataclass(frozen=True, slots=True)
class Switched:
    """The meter uses them; the old ones are gone there."""

    generation: int
    confirmation: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """The meter will not have this generation, now or later."""

    generation: int
    step: Step
    reason: Reason
    floor: int
    """Highest generation that the meter has seen: the next one must be above it."""


Message = Offer | Answer | Switch | Switched | Refusal


def encode(message: Message) -> bytes:
    """Return the content of the envelope."""
    number = axdr.unsigned32(message.generation)
    match message:
        case Offer():
            return axdr.structure(
                axdr.enum(Step.OFFER),
                number,
                axdr.enum(message.suite),
                axdr.enum(message.scheme),
                entries(message.key_data),
                axdr.array(axdr.enum(kind) for kind in message.transferred),
            )
        case Answer():
            return axdr.structure(axdr.enum(Step.ANSWER), number, entries(message.key_data))
        case Switch():
            wrapped, confirmation = entries(message.wrapped), axdr.octet_string(message.confirmation)
            return axdr.structure(axdr.enum(Step.SWITCH), number, wrapped, confirmation)
        case Switched():
            return axdr.structure(axdr.enum(Step.SWITCHED), number, axdr.octet_string(message.confirmation))
        case Refusal():
            step, reason = axdr.enum(message.step), axdr.enum(message.reason)
            return axdr.structure(
                axdr.enum(Step.REFUSAL), number, step, reason, axdr.unsigned32(message.floor)
            )


_ITEMS: Final = {Step.OFFER: 6, Step.ANSWER: 3, Step.SWITCH: 4, Step.SWITCHED: 3, Step.REFUSAL: 5}


def decode(content: bytes) -> Message:
    """Return the message in `content`.

    Returns:
        The message; `encode(decode(content)) == content` for all that is taken.

    Raises:
        MalformedMessage: It is something else. No other exception leaves this function.
    """
    try:
        message = _decode(content)
    except ValueError as error:  # a number that no enumeration has
        raise MalformedMessage(str(error)) from None
    if encode(message) != content:
        raise MalformedMessage("entries are in the order of their kinds")
    return message


def _decode(content: bytes) -> Message:
    # The step says how many items the structure has, and stands behind their number.
    step = Step(content[3]) if len(content) > 3 else Step.OFFER
    reader = axdr.Reader(content)
    reader.structure(_ITEMS[step])
    reader.enum()
    generation = reader.unsigned32()
    message: Message
    match step:
        case Step.OFFER:
            suite, scheme = reader.enum(), Scheme(reader.enum())
            key_data = read_entries(reader)
            kinds = tuple(KeyKind(reader.enum()) for _ in range(reader.array(len(KeyKind))))
            if list(kinds) != sorted(set(kinds)):
                raise MalformedMessage("kinds ascend")
            message = Offer(generation, suite, scheme, key_data, kinds)
        case Step.ANSWER:
            message = Answer(generation, read_entries(reader))
        case Step.SWITCH:
            wrapped = read_entries(reader)
            message = Switch(generation, wrapped, reader.octet_string(MAX_CONFIRMATION_BYTES))
        case Step.SWITCHED:
            message = Switched(generation, reader.octet_string(MAX_CONFIRMATION_BYTES))
        case Step.REFUSAL:
            refused, reason = Step(reader.enum()), Reason(reader.enum())
            message = Refusal(generation, refused, reason, reader.unsigned32())
    reader.end()
    return message
