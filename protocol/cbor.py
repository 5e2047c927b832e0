"""Strict deterministic CBOR (RFC 8949 §4.2.1) on cbor2.

Why not cbor2's own switches alone: its decoder accepts non-shortest heads and runs code for the tags
it knows (regular expressions, dates, e-mail, shared references), and its `canonical=True` sorts maps
length-first (RFC 7049), not bytewise. So no tag is ever run here (the decoder keeps `CBORTag` for an
allowed tag and refuses every other), and determinism is shown by encoding again and comparing: what
was accepted is exactly what `encode` writes.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NoReturn, cast

import cbor2
from cbor2 import CBORTag, undefined

from protocol.errors import MalformedMessage

__all__ = [
    "MAX_DEPTH",
    "MAX_MESSAGE_BYTES",
    "CBORTag",
    "decode",
    "decode_array",
    "decode_map",
    "encode",
    "encode_bytes",
    "encode_text",
    "undefined",
]

MAX_MESSAGE_BYTES: Final = 4096
"""Longest protocol message in bytes: a chain of four certificates fits, a flood of memory does not."""
MAX_DEPTH: Final = 8
"""Deepest nesting of arrays, maps and tags."""


_BUILT_IN_TAGS: Final = frozenset(
    {*range(6), 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799}
)
"""Every tag that cbor2 6 has a decoder for (a test probes for others)."""


def _refuse(*_: object) -> NoReturn:
    msg = "tag is not allowed here"
    raise ValueError(msg)


_NO_DECODERS: Final[dict[int, Callable[..., Any]]] = dict.fromkeys(_BUILT_IN_TAGS, _refuse)


def decode(
    data: bytes,
    *,
    max_bytes: int = MAX_MESSAGE_BYTES,
    max_depth: int = MAX_DEPTH,
    tags: frozenset[int] = frozenset(),
) -> Any:  # noqa: ANN401 (a data item is any of CBOR's types)
    """Return the data item that `data` encodes.

    Args:
        data: One whole data item, any bytes at all.
        max_bytes: Longest accepted input.
        max_depth: Deepest accepted nesting, the outermost container being 1.
        tags: Tag numbers to keep, as `CBORTag`; any other tag is malformed.

    Returns:
        int, bytes, str, bool, None, `undefined`, list, dict or `CBORTag`; no floats, no other simple
        values. `encode(decode(data)) == data` holds for every accepted `data`.

    Raises:
        MalformedMessage: `data` is too long or too deep, is not well-formed, has trailing bytes,
            indefinite lengths, repeated keys or a tag that is not in `tags`, or is not in the
            deterministic encoding. No other exception leaves this function.

    Source:
        RFC 8949 §4.2.1, §5.3.1.
    """
    if len(data) > max_bytes:
        msg = f"{len(data)} bytes, at most {max_bytes} are taken"
        raise MalformedMessage(msg)
    try:
        item = cbor2.loads(
            data,
            semantic_decoders=_NO_DECODERS,
            max_depth=max_depth,
            allow_indefinite=False,
            allow_duplicate_keys=False,
        )
        again = cbor2.dumps(item)
    # cbor2 wraps what it notices; lengths near 2^64 and unhashable keys come out raw.
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, MemoryError, RecursionError) as error:
        msg = f"not well-formed CBOR: {error}"
        raise MalformedMessage(msg) from None
    # Heads that are not the shortest, trailing bytes and wide floats all differ here; map order and
    # types do not, so they are looked at one by one.
    if again != data:
        msg = "not in deterministic encoding, or followed by more bytes"
        raise MalformedMessage(msg)
    has_tags = _check(item, tags, max_depth)
    return _thawed(item) if has_tags else item


_PLAIN: Final = frozenset({int, bytes, str, bool, type(None), type(undefined)})


def _check(item: Any, tags: frozenset[int], depth: int) -> bool:  # noqa: ANN401
    """Refuse what is not deterministic or has no place here; return whether a tag in it has to thaw."""
    kind = cast("type[object]", type(item))
    if kind in _PLAIN:
        return False
    if depth == 0:  # cbor2 does not count an empty container
        msg = "nested too deep"
        raise MalformedMessage(msg)
    has_tags = False
    if kind is list or kind is tuple:
        for member in item:
            if type(member) not in _PLAIN:
                has_tags |= _check(member, tags, depth - 1)
    elif kind is CBORTag:
        if item.tag not in tags:
            msg = f"tag {item.tag} is not allowed here"
            raise MalformedMessage(msg)
        _check(item.value, tags, depth - 1)
        has_tags = type(item.value) not in _PLAIN  # only containers inside a tag are frozen
    elif issubclass(kind, Mapping):
        previous = b""
        for key, value in item.items():
            if type(key) not in _PLAIN:
                msg = "map keys are neither containers nor tags"
                raise MalformedMessage(msg)
            encoded = cbor2.dumps(key)
            if encoded <= previous:
                msg = "map keys are not in bytewise order"
                raise MalformedMessage(msg)
            previous = encoded
            has_tags |= _check(value, tags, depth - 1)
    else:
        msg = f"{kind.__name__} has no place in this protocol"
        raise MalformedMessage(msg)
    return has_tags


def _thawed(item: Any) -> Any:  # noqa: ANN401
    """Return `item` with lists and dicts inside its tags, where cbor2 freezes them to be hashable."""
    if isinstance(item, CBORTag):
        return CBORTag(item.tag, _thawed(item.value))
    if isinstance(item, (list, tuple)):
        return [_thawed(member) for member in cast("Sequence[Any]", item)]
    if isinstance(item, Mapping):
        return {key: _thawed(value) for key, value in cast("Mapping[Any, Any]", item).items()}
    return item


def decode_array(
    data: bytes, length: int, *, max_bytes: int = MAX_MESSAGE_BYTES, tags: frozenset[int] = frozenset()
) -> list[Any]:
    """Return the members of the array that `data` encodes; anything but `length` members is malformed."""
    item = decode(data, max_bytes=max_bytes, tags=tags)
    if type(item) is not list or len(members := cast("list[Any]", item)) != length:
        msg = f"expected an array of {length}"
        raise MalformedMessage(msg)
    return members


def decode_map(
    data: bytes, *, max_bytes: int = MAX_MESSAGE_BYTES, tags: frozenset[int] = frozenset()
) -> dict[Any, Any]:
    """Return the map that `data` encodes; anything but a map is malformed."""
    item = decode(data, max_bytes=max_bytes, tags=tags)
    if type(item) is not dict:
        msg = "expected a map"
        raise MalformedMessage(msg)
    return cast("dict[Any, Any]", item)


def encode(item: object) -> bytes:
    """Return the one deterministic encoding of `item`.

    Args:
        item: Built from int (-2^64 to 2^64-1), bytes, str, bool, None, `undefined`, list or tuple,
            Mapping and `CBORTag`.

    Raises:
        TypeError: `item` holds anything else; floats have no place in this protocol.

    Source:
        RFC 8949 §4.2.1.
    """
    return cbor2.dumps(_ordered(item))


def encode_text(text: str) -> bytes:
    """Return `encode(text)`, without looking into it."""
    return cbor2.dumps(text)


def encode_bytes(data: bytes) -> bytes:
    """Return `encode(data)` of one byte string, without looking into it: it is what signatures are over."""
    return cbor2.dumps(data)


_AS_IS: Final = _PLAIN - {int}
_LIMIT: Final = 1 << 64


def _ordered(item: object) -> object:
    kind: type[object] = type(item)
    if kind in _AS_IS:
        return item
    if kind is int:
        if -_LIMIT <= cast("int", item) < _LIMIT:
            return item
        msg = "integers beyond 64 bits are written as bytes"
        raise TypeError(msg)
    if isinstance(item, CBORTag):
        return CBORTag(item.tag, _ordered(item.value))
    if isinstance(item, (list, tuple)):
        return [
            member if type(member) in _AS_IS else _ordered(member)
            for member in cast("Sequence[object]", item)
        ]
    if isinstance(item, Mapping):
        pairs = [
            (cbor2.dumps(_ordered(key)), key, value)
            for key, value in cast("Mapping[Any, object]", item).items()
        ]
        pairs.sort(key=lambda pair: pair[0])
        return {key: _ordered(value) for _, key, value in pairs}
    if isinstance(item, (bool, int, bytes, str)):  # an IntEnum, a StrEnum
        return item.value if isinstance(item, Enum) else item
    msg = f"{kind.__name__} has no place in this protocol"
    raise TypeError(msg)
