"""What either side of a rollover has on disk, and its bytes.

A driver stores a state before it sends what came with it; a machine that is made from a stored state goes on
from there. The bytes hold keys in clear: whoever stores them encrypts them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, cast

from cryptography.hazmat.primitives.asymmetric import ec

from protocol import cbor
from protocol.errors import MalformedMessage
from protocol.metering.keys import MAX_GENERATION, KeyKind, KeySet
from protocol.metering.suite import encode_point

MAX_STATE_BYTES: Final = 16 * 1024
"""Four times the largest that the machines make."""
MAX_SPENT: Final = 64
"""Ephemeral keys that are remembered: sixteen rollovers of four keys. A random number generator that repeats
itself after a restart, or always, is caught with fewer; more would be for ever in a meter's memory."""

FINGERPRINT_BYTES: Final = 16
_KINDS: Final = frozenset(int(kind) for kind in KeyKind)

Secrets = Mapping[KeyKind, bytes]
Spent = tuple[bytes, ...]
"""Fingerprints of ephemeral keys, the newest last."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Head-end: nothing is under way."""

    keys: KeySet
    """What both sides use."""
    counter: int = 0
    """Highest generation that was ever offered."""
    spent: Spent = ()

    def __post_init__(self) -> None:
        if self.counter < self.keys.generation:
            raise ValueError("the counter is behind the keys")


@dataclass(frozen=True, slots=True)
class Offered:
    """Head-end: the offer may be anywhere. The meter uses `keys`."""

    keys: KeySet
    counter: int
    """Generation that is offered."""
    spent: Spent
    transaction_id: bytes
    message: bytes
    """The offer, to be repeated as it is."""
    agreed: Secrets = field(repr=False)
    """C(1e, 1s): the new keys; nothing has to come from the meter to derive them."""
    ephemerals: Secrets = field(repr=False)
    """C(2e, 0s): the private keys, DER PKCS#8."""
    transferred: Secrets = field(repr=False)
    """New keys that the switch will bring."""


@dataclass(frozen=True, slots=True)
class Switching:
    """Head-end: the meter uses `keys` or `next`, nobody knows which; both are kept until it says so."""

    keys: KeySet
    next: KeySet
    counter: int
    spent: Spent
    transaction_id: bytes
    message: bytes
    """The switch, to be repeated as it is."""


HeadEndState = Settled | Offered | Switching


@dataclass(frozen=True, slots=True)
class Pending:
    """Keys that the meter has and does not use yet."""

    keys: KeySet
    transferred: tuple[KeyKind, ...] = ()
    """Kinds that are still to come with the switch."""


@dataclass(frozen=True, slots=True)
class MeterState:
    """Meter: what it uses, what is pending, and what it last said."""

    keys: KeySet
    """What it uses for everything, until the switch."""
    floor: int = 0
    """Highest generation that it has seen; nothing up to it is ever begun again."""
    pending: Pending | None = None
    heard: bytes = b""
    """SHA-256 of the message that `reply` answers."""
    reply: bytes = b""
    """Its last word about generation `floor`, to be repeated as it is."""
    spent: Spent = ()

    def __post_init__(self) -> None:
        if self.floor < self.keys.generation:
            raise ValueError("the floor is below the keys")


def fingerprint(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return by what a spent ephemeral key is remembered, 16 octets."""
    return sha256(encode_point(key)).digest()[:FINGERPRINT_BYTES]


def remember(spent: Spent, new: Spent) -> Spent:
    """Return `spent` with `new` at its end, the oldest forgotten."""
    return (spent + new)[-MAX_SPENT:]


def encode_head_end(state: HeadEndState) -> bytes:
    """Return the bytes of a head-end's state."""
    common = [_keys(state.keys), state.counter, list(state.spent)]
    match state:
        case Settled():
            return cbor.encode(["settled", *common])
        case Offered():
            secrets = [dict(state.agreed), dict(state.ephemerals), dict(state.transferred)]
            return cbor.encode(["offered", *common, state.transaction_id, state.message, *secrets])
        case Switching():
            return cbor.encode(["switching", *common, state.transaction_id, state.message, _keys(state.next)])


def decode_head_end(data: bytes) -> HeadEndState:
    """Return the state that `data` is.

    Raises:
        MalformedMessage: Not bytes of `encode_head_end`; the text says nothing of what is in them.
    """
    try:
        return _decode_head_end(cbor.decode(data, max_bytes=MAX_STATE_BYTES))
    except ValueError as error:  # numbers that contradict each other
        raise MalformedMessage(str(error)) from None


def _decode_head_end(item: Any) -> HeadEndState:  # noqa: ANN401 (what CBOR gave)
    match item:
        case ["settled", keys, int(counter), spent]:
            return Settled(_read_keys(keys), counter, _read_spent(spent))
        case [
            "offered",
            keys,
            int(counter),
            spent,
            bytes(transaction_id),
            bytes(message),
            agreed,
            ephemerals,
            transferred,
        ]:
            return Offered(
                _read_keys(keys),
                counter,
                _read_spent(spent),
                transaction_id,
                message,
                _read_secrets(agreed),
                _read_secrets(ephemerals),
                _read_secrets(transferred),
            )
        case [
            "switching",
            keys,
            int(counter),
            spent,
            bytes(transaction_id),
            bytes(message),
            following,
        ]:
            return Switching(
                _read_keys(keys), _read_keys(following), counter, _read_spent(spent), transaction_id, message
            )
        case _:
            raise MalformedMessage("not a head-end's state")


def encode_meter(state: MeterState) -> bytes:
    """Return the bytes of a meter's state."""
    pending = None
    if state.pending is not None:
        pending = [_keys(state.pending.keys), [int(kind) for kind in state.pending.transferred]]
    return cbor.encode([_keys(state.keys), state.floor, pending, state.heard, state.reply, list(state.spent)])


def decode_meter(data: bytes) -> MeterState:
    """Return the state that `data` is.

    Raises:
        MalformedMessage: Not bytes of `encode_meter`; the text says nothing of what is in them.
    """
    try:
        return _decode_meter(cbor.decode(data, max_bytes=MAX_STATE_BYTES))
    except ValueError as error:  # numbers that contradict each other
        raise MalformedMessage(str(error)) from None


def _decode_meter(item: Any) -> MeterState:  # noqa: ANN401 (what CBOR gave)
    match item:
        case [keys, int(floor), waiting, bytes(heard), bytes(reply), spent]:
            pending = None
            match waiting:
                case None:
                    pass
                case [pending_keys, kinds]:
                    pending = Pending(_read_keys(pending_keys), _read_kinds(kinds))
                case _:
                    raise MalformedMessage("not a meter's pending keys")
            return MeterState(_read_keys(keys), floor, pending, heard, reply, _read_spent(spent))
        case _:
            raise MalformedMessage("not a meter's state")


def _keys(keys: KeySet) -> list[object]:
    return [keys.generation, dict(keys.keys)]


def _read_keys(item: Any) -> KeySet:  # noqa: ANN401 (what CBOR gave)
    match item:
        case [int(generation), secrets] if 0 <= generation <= MAX_GENERATION:
            return KeySet(generation, _read_secrets(secrets))
        case _:
            raise MalformedMessage("not a set of keys")


def _read_secrets(item: Any) -> dict[KeyKind, bytes]:  # noqa: ANN401
    if type(item) is not dict:
        raise MalformedMessage("not a map of keys")
    read: dict[KeyKind, bytes] = {}
    for kind, value in cast("dict[object, object]", item).items():
        read[_kind(kind)] = _octets(value)
    return read


def _read_spent(item: object) -> Spent:
    return tuple(_octets(one) for one in _items(item))


def _read_kinds(item: object) -> tuple[KeyKind, ...]:
    return tuple(_kind(one) for one in _items(item))


def _items(item: Any) -> list[object]:  # noqa: ANN401
    if type(item) is not list:
        raise MalformedMessage("not a list")
    return cast("list[object]", item)


def _octets(item: object) -> bytes:
    if not isinstance(item, bytes):
        raise MalformedMessage("not octets")
    return item


def _kind(number: object) -> KeyKind:
    if type(number) is int and number in _KINDS:
        return KeyKind(number)
    raise MalformedMessage("not a kind of key")
