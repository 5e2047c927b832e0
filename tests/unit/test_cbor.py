from enum import IntEnum, StrEnum
from types import MappingProxyType

import cbor2
import pytest

from protocol import cbor
from protocol.cbor import CBORTag, undefined
from protocol.errors import MalformedMessage

# RFC 8949 appendix A, as far as it has a place in this protocol.
EXAMPLES = [
    (0, "00"),
    (1, "01"),
    (10, "0a"),
    (23, "17"),
    (24, "1818"),
    (25, "1819"),
    (100, "1864"),
    (1000, "1903e8"),
    (1000000, "1a000f4240"),
    (1000000000000, "1b000000e8d4a51000"),
    (18446744073709551615, "1bffffffffffffffff"),
    (-18446744073709551616, "3bffffffffffffffff"),
    (-1, "20"),
    (-10, "29"),
    (-100, "3863"),
    (-1000, "3903e7"),
    (False, "f4"),
    (True, "f5"),
    (None, "f6"),
    (undefined, "f7"),
    (b"", "40"),
    (bytes.fromhex("01020304"), "4401020304"),
    ("", "60"),
    ("a", "6161"),
    ("IETF", "6449455446"),
    ('"\\', "62225c"),
    ("ü", "62c3bc"),
    ("水", "63e6b0b4"),
    ("𐅑", "64f0908591"),
    ([], "80"),
    ([1, 2, 3], "83010203"),
    ([1, [2, 3], [4, 5]], "8301820203820405"),
    (list(range(1, 26)), "98190102030405060708090a0b0c0d0e0f101112131415161718181819"),
    ({}, "a0"),
    ({1: 2, 3: 4}, "a201020304"),
    ({"a": 1, "b": [2, 3]}, "a26161016162820203"),
    (["a", {"b": "c"}], "826161a161626163"),
    ({"a": "A", "b": "B", "c": "C", "d": "D", "e": "E"}, "a56161614161626142616361436164614461656145"),
]


@pytest.mark.parametrize(("item", "encoded"), EXAMPLES, ids=[encoded for _, encoded in EXAMPLES])
def test_the_examples_of_rfc_8949_go_both_ways(item: object, encoded: str) -> None:
    data = bytes.fromhex(encoded)
    assert cbor.encode(item) == data
    assert cbor.decode(data) == item
    assert type(cbor.decode(data)) is type(item)


MALFORMED = {
    # RFC 8949 appendix A again: what it has and we have not.
    "0.0": "f90000",
    "-0.0": "f98000",
    "1.5": "f93e00",
    "NaN": "f97e00",
    "NaN with payload": "f97e01",
    "NaN in 32 bits": "fa7fc00000",
    "NaN in 64 bits": "fb7ff8000000000000",
    "infinity": "f97c00",
    "1.1": "fb3ff199999999999a",
    "simple 16": "f0",
    "simple 255": "f8ff",
    "simple 24, which is reserved": "f818",
    "false in two bytes": "f814",
    "2^64 as a bignum": "c249010000000000000000",
    "a date": "c074323031332d30332d32315432303a30343a30305a",
    "a time": "c11a514b67b0",
    "encoded CBOR": "d818456449455446",
    "a URI": "d82076687474703a2f2f7777772e6578616d706c652e636f6d",
    "indefinite bytes": "5f42010243030405ff",
    "indefinite text": "7f657374726561646d696e67ff",
    "indefinite array": "9fff",
    "indefinite array in an array": "83018202039f0405ff",
    "indefinite map": "bf61610161629f0203ffff",
    # Not the shortest head.
    "0 in two bytes": "1800",
    "23 in two bytes": "1817",
    "255 in three bytes": "1900ff",
    "65535 in five bytes": "1a0000ffff",
    "2^32-1 in nine bytes": "1b00000000ffffffff",
    "-1 in two bytes": "3800",
    "bytes with a long length": "580101",
    "text with a long length": "780161",
    "array with a long length": "980100",
    "map with a long length": "b8010000",
    "tag with a long number": "d80680",
    # Maps.
    "keys in the wrong order": "a203000100",
    "keys in the order of RFC 7049, by length first": "a22000186400",
    "the same key twice": "a201000100",
    "the same key twice, deeper": "81a201000100",
    "1 and true, which Python thinks equal": "a20100f500",
    "0 and false": "a20000f400",
    "an array as key": "a18000",
    "a map as key": "a1a000",
    "a float as key": "a1f9000000",
    # Not well-formed.
    "nothing": "",
    "break alone": "ff",
    "half an array": "8200",
    "half a map": "a101",
    "half a head": "19ff",
    "half a text": "6261",
    "reserved additional information": "1c",
    "more after the end": "0000",
    "text that is not UTF-8": "61ff",
    "text with a surrogate": "63eda080",
    "text with an overlong slash": "62c0af",
    # Lengths that nobody has.
    "2^64-1 bytes": "5bffffffffffffffff",
    "2^63 bytes": "5b8000000000000000",
    "2^64-1 characters": "7bffffffffffffffff",
    "2^64-1 members": "9bffffffffffffffff",
    "2^28 members": "9a10000000",
    "2^63-1 pairs": "bb7fffffffffffffff",
}


@pytest.mark.parametrize("encoded", MALFORMED.values(), ids=list(MALFORMED))
def test_what_is_not_deterministic_or_has_no_place_here_is_malformed(encoded: str) -> None:
    with pytest.raises(MalformedMessage):
        cbor.decode(bytes.fromhex(encoded))


def test_maps_are_in_bytewise_order_not_length_first() -> None:
    # RFC 8949 §4.2.1 has this very list.
    keys = ["0a", "1864", "20", "617a", "626161", "f4"]
    data = bytes.fromhex("a6" + "".join(key + "00" for key in keys))
    assert list(cbor.decode(data)) == [10, 100, -1, "z", "aa", False]
    assert cbor.encode({False: 0, "aa": 0, "z": 0, -1: 0, 100: 0, 10: 0}) == data


def test_every_tag_that_cbor2_has_a_decoder_for_is_known() -> None:
    # An unknown one would run cbor2's code on strangers' bytes; a new version may bring some.
    contents = ["00", "40", "60", "80", "a0", "820000", "6161", "8100", "4400000000", "f6", "f90000"]
    with_decoder = set()
    for tag in range(70_000):
        head = cbor2.dumps(CBORTag(tag, 0))[:-1]
        for content in contents:
            try:
                item = cbor2.loads(head + bytes.fromhex(content))
            except cbor2.CBORDecodeError:
                with_decoder.add(tag)
                break
            if type(item) is not CBORTag:
                with_decoder.add(tag)
                break
    assert with_decoder == cbor._BUILT_IN_TAGS


@pytest.mark.parametrize("tag", [*sorted(cbor._BUILT_IN_TAGS), 6, 24, 38, 63, 70_000, 2**32, 2**64 - 1])
def test_no_tag_is_taken_unless_asked_for(tag: int) -> None:
    data = cbor2.dumps(CBORTag(tag, 0))
    for wrapped in (data, b"\x81" + data, b"\xa1\x00" + data):
        with pytest.raises(MalformedMessage):
            cbor.decode(wrapped)
        with pytest.raises(MalformedMessage):
            cbor.decode(wrapped, tags=frozenset({39}))


def test_a_tag_that_is_asked_for_is_kept_as_it_is() -> None:
    data = bytes.fromhex("81d82683626465a16080f4")
    item = cbor.decode(data, tags=frozenset({38}))
    assert item == [CBORTag(38, ["de", {"": []}, False])]


def test_arrays_and_maps_in_a_tag_are_lists_and_dicts() -> None:
    data = cbor.encode(CBORTag(38, [["de"], {1: [2]}]))
    item = cbor.decode(data, tags=frozenset({38}))
    assert item == CBORTag(38, [["de"], {1: [2]}])
    assert type(item.value) is list
    assert type(item.value[0]) is list
    assert type(item.value[1]) is dict
    assert type(item.value[1][1]) is list
    assert cbor.encode(item) == data


@pytest.mark.parametrize(
    "encoded", ["d826f97e00", "d826a203000100", "d826a201000100", "d8268100ff", "d82681d90100"]
)
def test_what_is_in_a_tag_is_held_to_the_same_rules(encoded: str) -> None:
    with pytest.raises(MalformedMessage):
        cbor.decode(bytes.fromhex(encoded), tags=frozenset({38}))


@pytest.mark.parametrize("data", ["d81c80", "82d81c8000d81d00", "d9010082636162636361626300d81900"])
def test_shared_references_are_malformed(data: str) -> None:
    with pytest.raises(MalformedMessage):
        cbor.decode(bytes.fromhex(data), tags=frozenset({28, 29, 25, 256}))


@pytest.mark.parametrize("innermost", ["00", "80", "a0"])
@pytest.mark.parametrize("level", ["81", "a100", "d826"], ids=["array", "map", "tag"])
def test_nesting_ends_at_the_limit(level: str, innermost: str) -> None:
    tags = frozenset({38})
    depth_of_innermost = 0 if innermost == "00" else 1
    deepest = bytes.fromhex(level * (cbor.MAX_DEPTH - depth_of_innermost) + innermost)
    cbor.decode(deepest, tags=tags)
    for levels in (1, 2, 100, 1000):
        with pytest.raises(MalformedMessage):
            cbor.decode(bytes.fromhex(level) * levels + deepest, tags=tags)


def test_size_ends_at_the_limit() -> None:
    longest = cbor.encode(bytes(cbor.MAX_MESSAGE_BYTES - 3))
    assert len(longest) == cbor.MAX_MESSAGE_BYTES
    assert cbor.decode(longest) == bytes(cbor.MAX_MESSAGE_BYTES - 3)
    with pytest.raises(MalformedMessage, match="4097 bytes"):
        cbor.decode(cbor.encode(bytes(cbor.MAX_MESSAGE_BYTES - 2)))
    with pytest.raises(MalformedMessage, match="at most 2"):
        cbor.decode(b"\x82\x00\x00", max_bytes=2)


def test_a_map_whose_keys_all_collide_is_no_burden() -> None:
    # Python hashes integers modulo 2^61-1; the size limit keeps a table of collisions small.
    step = 2**61 - 1
    keys = sorted({n * step for n in range(8)} | {-n * step for n in range(1, 9)} | set(range(-200, 200)))
    data = cbor.encode(dict.fromkeys(keys, 0))
    assert len(data) <= cbor.MAX_MESSAGE_BYTES
    assert len(cbor.decode(data)) == len(keys)


def test_arrays_of_a_length_and_maps_are_what_they_say() -> None:
    assert cbor.decode_array(b"\x82\x01\x02", 2) == [1, 2]
    assert cbor.decode_map(b"\xa1\x01\x02") == {1: 2}
    for data in (b"\x81\x01", b"\x83\x01\x02\x03", b"\xa2\x01\x02\x03\x04", b"\x00", b"\x40"):
        with pytest.raises(MalformedMessage, match="array of 2"):
            cbor.decode_array(data, 2)
    for data in (b"\x80", b"\x00", b"\x40"):
        with pytest.raises(MalformedMessage, match="a map"):
            cbor.decode_map(data)


@pytest.mark.parametrize(
    "item",
    [
        1.5,
        float("nan"),
        2**64,
        -(2**64) - 1,
        object(),
        {1, 2},
        1j,
        [1.0],
        {1.0: 2},
        {1: 2.0},
        CBORTag(38, 0.5),
    ],
)
def test_what_has_no_place_here_is_not_written_either(item: object) -> None:
    with pytest.raises(TypeError):
        cbor.encode(item)


def test_whatever_is_like_a_number_text_array_or_map_is_written_as_one() -> None:
    class Number(IntEnum):
        ONE = 1

    class Word(StrEnum):
        A = "a"

    assert cbor.encode((Number.ONE, Word.A)) == bytes.fromhex("82016161")
    assert cbor.encode(MappingProxyType({2: 0, 1: 0})) == bytes.fromhex("a201000200")


def test_a_byte_string_or_text_alone_is_written_alike() -> None:
    for length in (0, 1, 23, 24, 255, 256, 70_000):
        assert cbor.encode_bytes(bytes(length)) == cbor.encode(bytes(length))
        assert cbor.encode_text("ü" * length) == cbor.encode("ü" * length)
