"""The message syntax, against RFC 7252 and against aiocoap's codec."""

from collections.abc import Sequence

import pytest
from aiocoap import Message
from aiocoap.numbers.types import Type as LibraryType
from hypothesis import given
from hypothesis import strategies as st

from constrained.wire import (
    MAX_OPTIONS,
    Block,
    Code,
    Datagram,
    Option,
    Request,
    Type,
    decode,
    encode,
    encode_uint,
    szx_of,
)
from protocol.errors import MalformedMessage

PATH = [(Option.URI_PATH, part) for part in (b"e", b"meter-ds", b"sen")]


def post(options: Sequence[tuple[int, bytes]], payload: bytes = b"body") -> bytes:
    return encode(Type.CON, Code.POST, 0x1234, b"tok", options, payload)


def test_aiocoap_reads_what_is_written_here() -> None:
    datagram = post([*PATH, (Option.CONTENT_FORMAT, b"\x12"), (Option.BLOCK1, Block(3, True, 2).encode())])
    message = Message.decode(datagram)
    assert (message.mtype, message.code, message.mid, message.token) == (LibraryType.CON, 2, 0x1234, b"tok")
    assert message.opt.uri_path == ("e", "meter-ds", "sen")
    assert message.opt.content_format == 18
    assert tuple(message.opt.block1) == (3, True, 2)
    assert message.payload == b"body"


def test_what_aiocoap_writes_is_read_here() -> None:
    message = Message(code=Code.POST, payload=b"p" * 300)
    message.mtype, message.mid, message.token = LibraryType.NON, 7, b"12345678"
    message.opt.uri_path = ("x" * 255, "y" * 13, "")
    message.opt.request_tag = [b"12345678"]
    message.opt.size1 = 70000
    datagram = decode(message.encode())
    assert datagram[:4] == (Type.NON, Code.POST, 7, b"12345678")
    assert [value for number, value in datagram.options if number == Option.URI_PATH] == [
        b"x" * 255,
        b"y" * 13,
        b"",
    ]
    assert dict(datagram.options)[Option.SIZE1] == (70000).to_bytes(3)
    assert dict(datagram.options)[Option.REQUEST_TAG] == b"12345678"
    assert datagram.payload == b"p" * 300


@given(st.binary(max_size=80))
def test_any_bytes_decode_or_raise_malformed_message(data: bytes) -> None:
    try:
        datagram = decode(data)
    except MalformedMessage:
        return
    assert isinstance(Request.of(datagram, "coap:test:1"), Request)


OPTIONS = st.lists(
    st.sampled_from(
        [
            (Option.URI_PATH, b"sen"),
            (Option.URI_PATH, b""),
            (Option.URI_QUERY, b"rt=ace.est*"),
            (Option.ETAG, b"12345678"),
            (Option.REQUEST_TAG, b"x"),
        ]
    ),
    max_size=12,
)


@given(
    st.sampled_from(list(Type)),
    st.integers(1, 255),
    st.integers(0, 0xFFFF),
    st.binary(max_size=8),
    OPTIONS,
    st.binary(max_size=600),
)
def test_what_is_encoded_decodes_to_itself(
    kind: Type, code: int, mid: int, token: bytes, options: list[tuple[int, bytes]], payload: bytes
) -> None:
    expected = tuple(sorted(options, key=lambda option: option[0]))
    assert decode(encode(kind, code, mid, token, options, payload)) == Datagram(
        kind, code, mid, token, expected, payload
    )


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "nothing"),
        (b"\x40\x02\x00", "a header cut short"),
        (b"\x80\x02\x00\x01", "version 2"),
        (b"\x49\x02\x00\x01123456789", "a reserved token length"),
        (b"\x44\x02\x00\x01abc", "a token cut short"),
        (b"\x40\x00\x00\x01\xffx", "an empty message with a payload"),
        (b"\x40\x02\x00\x01\xb5sen", "an option cut short"),
        (b"\x40\x02\x00\x01\xd1", "an extended delta cut short"),
        (b"\x40\x02\x00\x01\xf1x", "a reserved delta"),
        (b"\x40\x02\x00\x01\x1fx", "a reserved length"),
        (b"\x40\x02\x00\x01\xe0\xff\xff", "an option number that does not exist"),
        (b"\x40\x02\x00\x01\xff", "a payload marker without payload"),
        (b"\x40\x02\x00\x01" + b"\xb0" + b"\x00" * MAX_OPTIONS, "too many options"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_message_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(MalformedMessage):
        decode(data)


def test_an_elective_option_that_is_not_known_is_passed_over() -> None:
    datagram = decode(post([*PATH, (Option.CONTENT_FORMAT, b"\x12"), (9998, b"whatever")]))
    assert datagram.refused is None
    assert 9998 not in dict(datagram.options)


@pytest.mark.parametrize(
    "option",
    [
        (1, b""),
        (9999, b"x"),
        (Option.ACCEPT, b"\x01\x02\x03"),
        (Option.BLOCK1, b"\x00\x00\x00\x01"),
        (9, b"oscore"),
    ],
    ids=["If-Match", "unknown", "Accept too long", "Block1 too long", "OSCORE"],
)
def test_a_critical_option_that_is_not_understood_is_reported(option: tuple[int, bytes]) -> None:
    assert decode(post([*PATH, option])).refused == option[0]


def test_a_critical_option_must_not_come_twice_and_an_elective_one_counts_once() -> None:
    assert decode(post([(Option.ACCEPT, b"\x01"), (Option.ACCEPT, b"\x02")])).refused == Option.ACCEPT
    twice = decode(post([(Option.CONTENT_FORMAT, b"\x12"), (Option.CONTENT_FORMAT, b"\x13")]))
    assert Request.of(twice, "").content_format == 18


def test_a_request_says_what_its_options_say() -> None:
    options = [
        *PATH,
        (Option.URI_HOST, b"authority.example"),
        (Option.CONTENT_FORMAT, b"\x12"),
        (Option.ACCEPT, b"\x01\x19"),
        (Option.BLOCK1, Block(1, True, 2).encode()),
        (Option.BLOCK2, Block(0, False, 6).encode()),
        (Option.SIZE1, b"\x02\x00"),
        (Option.URI_QUERY, b"a"),
        (Option.ETAG, b"e1"),
        (Option.ETAG, b"e2"),
        (Option.NO_RESPONSE, b"\x02"),
        (Option.REQUEST_TAG, b"t"),
    ]
    assert Request.of(decode(post(options)), "coap:192.0.2.1:5683") == Request(
        code=Code.POST,
        source="coap:192.0.2.1:5683",
        payload=b"body",
        path=(b"e", b"meter-ds", b"sen"),
        query=(b"a",),
        content_format=18,
        accept=281,
        etags=(b"e1", b"e2"),
        block1=Block(1, True, 2),
        block2=Block(0, False, 6),
        size1=512,
        no_response=2,
        tags=(b"t",),
    )


@given(st.integers(0, (1 << 20) - 1), st.booleans(), st.integers(0, 6))
def test_a_block_is_read_as_it_was_written(number: int, more: bool, szx: int) -> None:
    block = Block(number, more, szx)
    assert Block.decode(block.encode()) == block
    assert block.start == number * block.size


@given(st.integers(0, 1 << 32))
def test_numbers_take_no_more_bytes_than_they_need(value: int) -> None:
    encoded = encode_uint(value)
    assert int.from_bytes(encoded) == value
    assert not encoded.startswith(b"\0")


def test_only_the_seven_block_sizes_are_block_sizes() -> None:
    assert [szx_of(size) for size in (16, 32, 64, 128, 256, 512, 1024)] == list(range(7))
    for size in (0, 8, 17, 1000, 2048, -64):
        with pytest.raises(ValueError, match="a block has"):
            szx_of(size)
