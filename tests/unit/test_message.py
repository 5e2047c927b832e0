import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agents.keys import SoftwareSigner, generate
from protocol import cbor
from protocol.cose import Algorithm, Header, is_signature_valid
from protocol.errors import MalformedMessage
from protocol.message import (
    MAX_COUNTER,
    SignedMessage,
    decode_any,
    decode_message,
    decode_usual,
    sign_message,
    stream_aad,
)

THUMBPRINT = bytes.fromhex("0102030405060708")
PROTECTED = Header(Algorithm.ES256, thumbprint=THUMBPRINT).encode()


def unsigned(counter: object = 1, time: object = None, body: object = b"body", **fields: object) -> bytes:
    """A message with a signature of zeros: enough for decoders."""
    payload = fields.get("payload", cbor.encode([counter, time, body]))
    return cbor.encode([fields.get("protected", PROTECTED), {}, payload, fields.get("signature", bytes(64))])


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("time", [None, 0, 1_800_000_000])
def test_a_message_says_what_was_signed(algorithm: Algorithm, time: int | None) -> None:
    key = generate(algorithm)
    data = sign_message(SoftwareSigner(key), THUMBPRINT, "readings", b"42 kWh", counter=7, time=time)
    message = decode_message(data)
    assert (message.counter, message.time, message.body) == (7, time, b"42 kWh")
    assert message.thumbprint == THUMBPRINT
    assert is_signature_valid(
        key.public_key(),
        algorithm,
        message.signed.signature,
        message.signed.signed_bytes(stream_aad("readings")),
    )
    assert message.signed.signed_bytes(stream_aad("readings")) != message.signed.signed_bytes(
        stream_aad("alarms")
    )


def test_the_payload_is_an_array_of_three() -> None:
    data = sign_message(SoftwareSigner(generate()), THUMBPRINT, "m", b"\x01", counter=24, time=None)
    assert decode_message(data).signed.payload.hex() == "831818f64101"
    assert stream_aad("m").hex() == "82636d7367616d", '["msg", "m"]'


@pytest.mark.parametrize("stream", ["", "A", "a b", "a/b", "ü", "#", "+", "a" * 33, "a\n", "m\x00"])
def test_what_is_no_stream_is_malformed(stream: str) -> None:
    with pytest.raises(MalformedMessage, match="a stream is"):
        stream_aad(stream)


@pytest.mark.parametrize("stream", ["a", "0", "a_b-c", "z" * 32])
def test_streams_have_a_small_alphabet(stream: str) -> None:
    assert cbor.decode(stream_aad(stream)) == ["msg", stream]


WRONG: dict[str, dict[str, object]] = {
    "a negative counter": {"counter": -1},
    "a counter beyond a database's integer": {"counter": MAX_COUNTER + 1},
    "a counter of 64 bits": {"counter": 2**64 - 1},
    "a counter that is true": {"counter": True},
    "a counter in text": {"counter": "1"},
    "no counter": {"counter": None},
    "a negative time": {"time": -1},
    "a time beyond 48 bits": {"time": 2**48},
    "a time that is false": {"time": False},
    "a time in text": {"time": "now"},
    "a body in text": {"body": "body"},
    "no body": {"body": None},
    "a payload of two": {"payload": cbor.encode([1, b""])},
    "a payload of four": {"payload": cbor.encode([1, None, b"", 0])},
    "a payload that is a map": {"payload": cbor.encode({0: 1, 1: 2, 2: b""})},
    "an empty payload": {"payload": b""},
    "more after the payload": {"payload": cbor.encode([1, None, b"body"]) + b"\x00"},
    "a counter that is not the shortest": {"payload": bytes.fromhex("831801f640")},
    "a counter of 2 bytes in 4": {"payload": bytes.fromhex("831a0000fffff640")},
    "a counter of 4 bytes in 8": {"payload": bytes.fromhex("831b00000000fffffffff640")},
    "a body length that is not the shortest": {"payload": bytes.fromhex("8301f65801aa")},
    "a body of indefinite length": {"payload": bytes.fromhex("8301f65f41aaff")},
    "a body longer than there is": {"payload": bytes.fromhex("8301f64561")},
    "a kid": {"protected": cbor.encode({1: -7, 4: b"kid"})},
    "a certificate": {"protected": cbor.encode({1: -7, 25: b"\x8b"})},
    "an unknown algorithm": {"protected": cbor.encode({1: -257, 22: [-15, THUMBPRINT]})},
    "a short signature": {"signature": bytes(63)},
    "a long signature": {"signature": bytes(65)},
}


@pytest.mark.parametrize("fields", WRONG.values(), ids=list(WRONG))
def test_no_other_message_is_taken(fields: dict[str, object]) -> None:
    decode_message(unsigned())
    with pytest.raises(MalformedMessage):
        decode_message(unsigned(**fields))


def test_truncation_at_every_byte_is_malformed() -> None:
    data = unsigned(body=bytes(30))
    for end in range(len(data)):
        with pytest.raises(MalformedMessage):
            decode_message(data[:end])
    with pytest.raises(MalformedMessage):
        decode_message(data + b"\x00")


@pytest.mark.parametrize("counter", [0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, MAX_COUNTER])
@pytest.mark.parametrize("time", [None, 0, 24, 2**16, 2**32, 2**48 - 1])
@pytest.mark.parametrize("length", [0, 23, 24, 255, 256, 3000])
def test_the_quick_decoder_reads_what_the_general_one_reads(
    counter: int, time: int | None, length: int
) -> None:
    data = unsigned(counter, time, bytes(length))
    assert (
        decode_usual(data)
        == decode_any(data)
        == SignedMessage(decode_any(data).signed, counter, time, bytes(length))
    )


def test_the_longest_message_is_as_long_as_any() -> None:
    longest = unsigned(body=bytes(cbor.MAX_MESSAGE_BYTES - len(unsigned(body=bytes(3000))) + 3000))
    assert len(longest) == cbor.MAX_MESSAGE_BYTES
    assert decode_usual(longest) == decode_any(longest)
    longer = unsigned(body=bytes(cbor.MAX_MESSAGE_BYTES - len(unsigned(body=bytes(3000))) + 3001))
    assert decode_usual(longer) is None
    with pytest.raises(MalformedMessage):
        decode_message(longer)


@pytest.mark.parametrize("time", [None, 0, 2**40])
@pytest.mark.parametrize("length", [0, 24, 300])
def test_a_message_is_passed_on_with_its_device(time: int | None, length: int) -> None:
    message = decode_message(unsigned(70_000, time, bytes(length)))
    assert message.attributed_to("54524C0000000001") == cbor.encode(
        ["54524C0000000001", 70_000, time, bytes(length)]
    )


def agree(data: bytes) -> None:
    """The quick decoder may leave a message to the general one, but never reads one that it would not."""
    quick = decode_usual(data)
    try:
        general = decode_any(data)
    except MalformedMessage:
        assert quick is None
        return
    assert quick in (None, general)


@given(
    st.builds(
        unsigned,
        st.integers(-2, 2**64 - 1) | st.booleans(),
        st.none() | st.integers(-2, 2**50) | st.booleans(),
        st.binary(max_size=300) | st.text(max_size=9),
    )
)
def test_both_decoders_agree_on_messages(data: bytes) -> None:
    agree(data)


@given(st.binary(max_size=60), st.integers(0, 300), st.integers(0, 400), st.integers(0, 255))
def test_both_decoders_agree_on_damaged_messages(body: bytes, counter: int, at: int, byte: int) -> None:
    data = bytearray(unsigned(counter, None, body))
    at %= len(data)
    data[at] = byte
    agree(bytes(data))
    agree(bytes(data[:at]))
    agree(bytes(data[:at] + data[at + 1 :]))
    agree(bytes(data[:at] + bytes([byte]) + data[at:]))


@given(
    st.binary(max_size=200).map(lambda tail: bytes.fromhex("844fa2012616822e48") + tail)
    | st.binary(max_size=99)
)
@example(b"")
@example(bytes.fromhex("844fa2012616822e48"))
@example(bytes.fromhex("844fa2012616822e48") + bytes(8) + b"\xa0\x58\x40" + bytes(64))
@example(bytes.fromhex("844fa2012616822e48") + bytes(8) + b"\xa0\x40\x58\x40" + bytes(64))
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    agree(data)
    try:
        decode_message(data)
    except MalformedMessage:
        return
