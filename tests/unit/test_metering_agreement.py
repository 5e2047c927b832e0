"""System titles, suites, key agreement and key wrap, against published numbers where there are any."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from agents.keys import SoftwareSigner
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.metering.agreement import (
    GREAT_BRITAIN,
    GREEN_BOOK,
    KdfSettings,
    agree,
    derive_key,
    open_ephemeral,
    other_info,
    sign_ephemeral,
)
from protocol.metering.keys import KeyKind, KeySet, unwrap_key, wrap_key
from protocol.metering.suite import SUITE_1, SUITE_2, SUITES, Suite, encode_point, load_point
from protocol.metering.title import SystemTitle

CLIENT = SystemTitle(bytes.fromhex("4d4d4d0000bc614e"))
SERVER = SystemTitle(bytes.fromhex("4d4d4d0000000001"))
both_suites = pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: f"suite {suite.number}")


def new(suite: Suite) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(suite.curve)


def test_a_system_title_is_a_flag_id_and_a_number() -> None:
    title = SystemTitle.of_maker("TRL", 1)
    assert title.octets == b"TRL\0\0\0\0\1"
    assert title.name == str(title) == "54524C0000000001"
    assert SystemTitle.of_name(title.name) == title
    assert title.flag_id == "TRL"


def test_an_eui_64_for_a_title_has_no_flag_id() -> None:
    assert SystemTitle(bytes.fromhex("90b3d51f30000002")).flag_id is None


@pytest.mark.parametrize("octets", [b"", b"TRL\0\0\0\0", b"TRL\0\0\0\0\0\1"])
def test_a_title_of_another_length_is_malformed(octets: bytes) -> None:
    with pytest.raises(MalformedMessage):
        SystemTitle(octets)


@pytest.mark.parametrize(
    ("flag_id", "number"), [("TR", 1), ("trl", 1), ("TRÜ", 1), ("TRL", -1), ("TRL", 2**40)]
)
def test_no_title_is_made_of_a_wrong_flag_id_or_number(flag_id: str, number: int) -> None:
    with pytest.raises(RequestRejected):
        SystemTitle.of_maker(flag_id, number)


def test_a_name_that_is_not_sixteen_upper_case_digits_is_no_title() -> None:
    with pytest.raises(RequestRejected):
        SystemTitle.of_name("54524c0000000001")


@pytest.mark.parametrize(
    ("secret", "u", "v", "key"),
    [
        (
            "0D4385BA0DD756CBCAB9887EB538396EE8F090A14C1079B4359F115B977F4615",
            CLIENT,
            SERVER,
            "59A71FD81C929A86A99438DA17A66C05",
        ),
        (
            "2B4302DC49790E2E78D990CFB52ED6E2F273DECE441A2D95E4301B93812A9FAC",
            SERVER,
            CLIENT,
            "F0184BDA9466BFA4601A64A7EF46504A",
        ),
    ],
)
def test_the_green_books_one_pass_example_comes_out_right(
    secret: str, u: SystemTitle, v: SystemTitle, key: str
) -> None:
    # Suite 1, annex on key agreement schemes, one-pass Diffie-Hellman; the numbers as open peers test them.
    info = other_info(SUITE_1, KeyKind.UNICAST, u, v)
    assert derive_key(SUITE_1, bytes.fromhex(secret), info) == bytes.fromhex(key)


def test_other_info_has_the_octets_that_the_docs_say() -> None:
    titles = "4d4d4d0000bc614e", "4d4d4d0000000001"
    unicast, master = KeyKind.UNICAST, KeyKind.MASTER
    for suite, kind, settings, algorithm in (
        (SUITE_1, unicast, GREEN_BOOK, "60857405080300"),
        (SUITE_2, unicast, GREEN_BOOK, "60857405080301"),
        (SUITE_1, master, GREEN_BOOK, "60857405080300"),
        (SUITE_1, master, KdfSettings(is_wrap_for_master=True), "60857405080302"),
        (SUITE_2, master, KdfSettings(is_wrap_for_master=True), "60857405080303"),
        (SUITE_1, unicast, KdfSettings(is_wrap_for_master=True), "60857405080300"),
        (SUITE_1, unicast, GREAT_BRITAIN, "60857406080300"),
    ):
        info = other_info(suite, kind, CLIENT, SERVER, settings=settings)
        assert info.hex() == algorithm + titles[0] + titles[1]


def test_the_transaction_id_follows_the_first_title_with_its_length_or_without() -> None:
    kind, transaction_id = KeyKind.UNICAST, bytes.fromhex("0102030405060708")
    with_length = other_info(SUITE_1, kind, CLIENT, SERVER, transaction_id=transaction_id)
    assert with_length.hex() == "608574050803004d4d4d0000bc614e0801020304050607084d4d4d0000000001"
    bare = KdfSettings(has_transaction_length=False)
    without = other_info(SUITE_1, kind, CLIENT, SERVER, transaction_id=transaction_id, settings=bare)
    assert without.hex() == "608574050803004d4d4d0000bc614e01020304050607084d4d4d0000000001"


@both_suites
def test_under_every_scheme_both_sides_agree_on_a_key_of_the_suites_length(suite: Suite) -> None:
    ephemeral_u, ephemeral_v, static_u, static_v = (new(suite) for _ in range(4))
    info = other_info(suite, KeyKind.UNICAST, CLIENT, SERVER)
    static = other_info(suite, KeyKind.UNICAST, CLIENT, SERVER, transaction_id=b"12345678")
    found = set()
    for u, v, text in (
        (ephemeral_u, static_v, info),
        (ephemeral_u, ephemeral_v, info),
        (static_u, static_v, static),
    ):
        key = agree(suite, u, v.public_key(), text)
        assert key == agree(suite, v, u.public_key(), text)
        assert len(key) == suite.key_bytes
        found.add(key)
    assert len(found) == 3


def test_who_begins_is_part_of_the_key() -> None:
    u, v = new(SUITE_1), new(SUITE_1)
    infos = (other_info(SUITE_1, KeyKind.UNICAST, *titles) for titles in ((CLIENT, SERVER), (SERVER, CLIENT)))
    assert len({agree(SUITE_1, u, v.public_key(), info) for info in infos}) == 2


def test_a_key_of_the_other_suite_is_refused() -> None:
    info = other_info(SUITE_1, KeyKind.UNICAST, CLIENT, SERVER)
    with pytest.raises(RequestRejected) as caught:
        agree(SUITE_1, new(SUITE_1), new(SUITE_2).public_key(), info)
    assert caught.value.reason is ProblemKind.BAD_KEY
    with pytest.raises(ValueError, match="secp256r1"):
        agree(SUITE_1, new(SUITE_2), new(SUITE_1).public_key(), info)


@both_suites
def test_a_point_off_the_curve_or_of_another_length_is_a_bad_key(suite: Suite) -> None:
    point = encode_point(new(suite).public_key())
    assert len(point) == suite.point_bytes
    assert encode_point(load_point(suite, point)) == point
    for bad in (point[:-1] + bytes([point[-1] ^ 1]), bytes(len(point)), point[:-1], b"\x04" + point, b""):
        with pytest.raises(RequestRejected) as caught:
            load_point(suite, bad)
        assert caught.value.reason is ProblemKind.BAD_KEY


@both_suites
def test_an_ephemeral_key_is_taken_from_its_signer_for_its_kind_alone(suite: Suite) -> None:
    signer, other = new(suite), new(suite)
    key = new(suite).public_key()
    data = sign_ephemeral(suite, SoftwareSigner(signer), KeyKind.UNICAST, key)
    assert len(data) == suite.point_bytes + suite.signature_bytes
    opened = open_ephemeral(suite, signer.public_key(), KeyKind.UNICAST, data)
    assert encode_point(opened) == encode_point(key)
    for who, kind, bad in (
        (other, KeyKind.UNICAST, data),
        (signer, KeyKind.MASTER, data),
        (signer, KeyKind.UNICAST, data[:-1]),
        (signer, KeyKind.UNICAST, data + b"\0"),
        (signer, KeyKind.UNICAST, bytes([data[0] ^ 1]) + data[1:]),
        (signer, KeyKind.UNICAST, b""),
    ):
        with pytest.raises(RequestRejected):
            open_ephemeral(suite, who.public_key(), kind, bad)


def test_without_the_kind_in_it_one_signature_serves_for_all() -> None:
    settings = KdfSettings(is_kind_signed=False)
    signer = new(SUITE_1)
    data = sign_ephemeral(
        SUITE_1, SoftwareSigner(signer), KeyKind.UNICAST, new(SUITE_1).public_key(), settings
    )
    open_ephemeral(SUITE_1, signer.public_key(), KeyKind.MASTER, data, settings)


def test_a_signed_point_that_is_off_the_curve_is_refused_all_the_same() -> None:
    signer = SoftwareSigner(new(SUITE_1))
    point = bytes(64)
    data = point + signer.sign(bytes([KeyKind.UNICAST]) + point)
    key = ec.EllipticCurvePublicKey.from_encoded_point(SUITE_1.curve, signer.public_key)
    with pytest.raises(RequestRejected) as caught:
        open_ephemeral(SUITE_1, key, KeyKind.UNICAST, data)
    assert caught.value.reason is ProblemKind.BAD_KEY


def test_a_signer_of_the_other_suite_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="ES256"):
        sign_ephemeral(SUITE_1, SoftwareSigner(new(SUITE_2)), KeyKind.UNICAST, new(SUITE_1).public_key())


@pytest.mark.parametrize(
    ("suite", "master", "key", "wrapped"),
    [
        (
            SUITE_1,
            "000102030405060708090A0B0C0D0E0F",
            "00112233445566778899AABBCCDDEEFF",
            "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5",
        ),
        (
            SUITE_2,
            "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F",
            "00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F",
            "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21",
        ),
    ],
)
def test_the_key_wrap_is_rfc_3394s(suite: Suite, master: str, key: str, wrapped: str) -> None:
    # RFC 3394 §4.1 and §4.6.
    assert wrap_key(suite, bytes.fromhex(master), bytes.fromhex(key)).hex().upper() == wrapped
    assert unwrap_key(suite, bytes.fromhex(master), bytes.fromhex(wrapped)).hex().upper() == key


@both_suites
@given(data=st.data())
def test_a_wrapped_key_with_any_bit_changed_does_not_open(suite: Suite, data: st.DataObject) -> None:
    master, key = bytes(range(suite.key_bytes)), bytes(suite.key_bytes)
    wrapped = bytearray(wrap_key(suite, master, key))
    bit = data.draw(st.integers(0, len(wrapped) * 8 - 1))
    wrapped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RequestRejected) as caught:
        unwrap_key(suite, master, bytes(wrapped))
    assert caught.value.reason is ProblemKind.BAD_KEY


@both_suites
def test_keys_of_other_lengths_are_neither_wrapped_nor_unwrapped(suite: Suite) -> None:
    good = bytes(suite.key_bytes)
    for master, key in ((good, good[:-8]), (good[:-8], good)):
        with pytest.raises(ValueError, match="octets"):
            wrap_key(suite, master, key)
    with pytest.raises(ValueError, match="octets"):
        unwrap_key(suite, good[:-8], wrap_key(suite, good, good))
    for length in (0, 16, suite.key_bytes, suite.key_bytes + 16):
        with pytest.raises(RequestRejected):
            unwrap_key(suite, good, bytes(length))


def test_a_key_is_found_in_another_set_whatever_it_is_for_there() -> None:
    old = KeySet(1, {KeyKind.UNICAST: b"a" * 16, KeyKind.MASTER: b"b" * 16})
    assert old.has_key_of(KeySet(2, {KeyKind.AUTHENTICATION: b"b" * 16}))
    assert not old.has_key_of(KeySet(2, {KeyKind.AUTHENTICATION: b"c" * 16}))
    assert not old.has_twins
    assert KeySet(2, {KeyKind.UNICAST: b"a" * 16, KeyKind.MASTER: b"a" * 16}).has_twins


def test_a_set_of_keys_does_not_show_them() -> None:
    assert "aaaa" not in repr(KeySet(3, {KeyKind.UNICAST: b"a" * 16}))
