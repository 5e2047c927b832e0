from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from protocol import cbor
from protocol.cbor import CBORTag, undefined
from protocol.errors import MalformedMessage

TAGS = frozenset({38})

keys = st.one_of(
    st.integers(-(2**64), 2**64 - 1),
    st.binary(max_size=40),
    st.text(max_size=20),
    st.none(),
    st.just(undefined),
)
plain = keys | st.booleans()
items = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(keys, inner, max_size=5)
        | inner.map(lambda value: CBORTag(38, value))
    ),
    max_leaves=8,
)


def depth(item: Any) -> int:
    if isinstance(item, CBORTag):
        return 1 + depth(item.value)
    if isinstance(item, list):
        return 1 + max(map(depth, item), default=0)
    if isinstance(item, dict):
        return 1 + max(map(depth, item.values()), default=0)
    return 0


@given(items.filter(lambda item: depth(item) <= cbor.MAX_DEPTH))
def test_what_is_written_is_read_back(item: object) -> None:
    data = cbor.encode(item)
    again = cbor.decode(data, tags=TAGS)
    assert again == item
    assert cbor.encode(again) == data


@given(st.binary(max_size=200))
@example(b"\x5b" + b"\xff" * 8)
@example(b"\xc2\x40")
@example(b"\xa1\x80\x00")
def test_any_bytes_decode_to_what_encodes_to_them_or_are_malformed(data: bytes) -> None:
    try:
        item = cbor.decode(data, tags=TAGS)
    except MalformedMessage:
        return
    assert cbor.encode(item) == data


@given(items, st.data())
def test_one_wrong_byte_gives_another_item_or_is_malformed(item: object, data: st.DataObject) -> None:
    good = cbor.encode(item)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[at] ^= data.draw(st.integers(1, 255))
    try:
        other = cbor.decode(bytes(bad), tags=TAGS)
    except MalformedMessage:
        return
    assert cbor.encode(other) == bytes(bad)


@given(items, st.binary(min_size=1, max_size=3))
def test_nothing_may_follow_and_nothing_may_be_missing(item: object, more: bytes) -> None:
    data = cbor.encode(item)
    for broken in (data + more, *(data[:end] for end in range(len(data)))):
        try:
            cbor.decode(broken, tags=TAGS)
        except MalformedMessage:
            continue
        raise AssertionError(broken.hex())
