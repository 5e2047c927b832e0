"""Both ways to wrap a contract key, against a second implementation of the arithmetic and against attacks."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.ev import Edition, WrappedKey, wrap2, wrap20
from protocol.ev.agreement import P256, P521, Group, derive_key, encode_point, private_key_of
from tests.ev_samples import PCID, contract, key_identifier, new_key

PART_2 = contract(Edition.PART_2)
PART_20 = contract(Edition.PART_20)
SKI = key_identifier(PART_20.key.public_key())
AAD = b"TRL000000000000012" + SKI.hex().upper().encode()


def concat_kdf(algorithm: str, secret: bytes, length: int) -> bytes:
    """NIST SP 800-56A §5.8.1, written again from its text."""
    output = b""
    counter = 1
    while len(output) < length:
        output += hashlib.new(
            algorithm, counter.to_bytes(4, "big") + secret + bytes([1, 0x55, 0x56])
        ).digest()
        counter += 1
    return output[:length]


def scalar(key: ec.EllipticCurvePrivateKey, length: int) -> bytes:
    return key.private_numbers().private_value.to_bytes(length, "big")


def cbc(plaintext: bytes) -> WrappedKey:
    """Wrap any 32 bytes to the car as part 2 does, with nothing of ours."""
    ephemeral = new_key(Edition.PART_2)
    key = concat_kdf("sha256", ephemeral.exchange(ec.ECDH(), PART_2.car.public_key()), 16)
    encryptor = Cipher(algorithms.AES(key), modes.CBC(b"i" * 16)).encryptor()
    return WrappedKey(encode_point(ephemeral.public_key()), b"i" * 16 + encryptor.update(plaintext))


def gcm(plaintext: bytes, aad: bytes = AAD) -> WrappedKey:
    """Wrap any 66 bytes to the car as part 20 does, with nothing of ours."""
    ephemeral = new_key(Edition.PART_20)
    key = concat_kdf("sha512", ephemeral.exchange(ec.ECDH(), PART_20.car.public_key()), 32)
    encrypted = AESGCM(key).encrypt(b"i" * 12, plaintext, aad)
    return WrappedKey(encode_point(ephemeral.public_key()), b"i" * 12 + encrypted)


def unwrap2(wrapped: WrappedKey, **other: Any) -> ec.EllipticCurvePrivateKey:
    own = other.get("own", PART_2.car)
    return wrap2.unwrap(wrapped, own, other.get("certified", PART_2.key.public_key()))


def unwrap20(wrapped: WrappedKey, **other: Any) -> ec.EllipticCurvePrivateKey:
    own = other.get("own", PART_20.car)
    certified = other.get("certified", PART_20.key.public_key())
    pcid, ski = other.get("pcid", PCID), other.get("key_identifier", SKI)
    return wrap20.unwrap(wrapped, own, certified, pcid=pcid, key_identifier=ski)


UNWRAP: dict[Edition, Any] = {Edition.PART_2: unwrap2, Edition.PART_20: unwrap20}
FOREIGN: dict[Edition, Any] = {Edition.PART_2: cbc, Edition.PART_20: gcm}


def refusal(edition: Edition, wrapped: WrappedKey, **other: Any) -> ProblemKind:
    with pytest.raises(RequestRejected) as caught:
        UNWRAP[edition](wrapped, **other)
    return caught.value.reason


def test_part_2_is_16_bytes_of_vector_and_32_of_cbc_under_the_concatenation_kdf() -> None:
    wrapped = PART_2.wrapped
    assert len(wrapped.encrypted) == 48
    assert len(wrapped.dh_public_key) == 65
    assert wrapped.encrypted[:16] == bytes(range(16))
    peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), wrapped.dh_public_key)
    key = concat_kdf("sha256", PART_2.car.exchange(ec.ECDH(), peer), 16)
    decryptor = Cipher(algorithms.AES(key), modes.CBC(wrapped.encrypted[:16])).decryptor()
    assert decryptor.update(wrapped.encrypted[16:]) + decryptor.finalize() == scalar(PART_2.key, 32)


def test_part_20_is_12_bytes_of_vector_66_of_gcm_and_16_of_tag_bound_to_car_and_certificate() -> None:
    wrapped = PART_20.wrapped
    assert len(wrapped.encrypted) == 94
    assert len(wrapped.dh_public_key) == 133
    peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP521R1(), wrapped.dh_public_key)
    key = concat_kdf("sha512", PART_20.car.exchange(ec.ECDH(), peer), 32)
    assert AESGCM(key).decrypt(wrapped.encrypted[:12], wrapped.encrypted[12:], AAD) == scalar(PART_20.key, 66)
    assert wrap20.additional_data(PCID, SKI) == AAD
    assert len(AAD) == 34


@pytest.mark.parametrize(
    ("algorithm", "group", "length"), [("sha256", P256, 16), ("sha512", P521, 32), ("sha256", P256, 80)]
)
def test_the_kdf_agrees_with_one_written_from_the_text(algorithm: str, group: Group, length: int) -> None:
    from cryptography.hazmat.primitives import hashes

    one, other = ec.generate_private_key(group.curve), ec.generate_private_key(group.curve)
    digest = hashes.SHA256() if algorithm == "sha256" else hashes.SHA512()
    derived = derive_key(one, other.public_key(), digest, length)
    assert bytes(derived) == concat_kdf(algorithm, other.exchange(ec.ECDH(), one.public_key()), length)


def test_the_kdf_gives_what_it_gave_before() -> None:
    # Private values 1 and 2: the secret is the x-coordinate of 2G, which every table of the curve has.
    one = ec.derive_private_key(1, ec.SECP256R1())
    two = ec.derive_private_key(2, ec.SECP256R1())
    x = bytes.fromhex("7cf27b188d034f7e8a52380304b51ac3c08969e277f21b35a60b48fc47669978")
    assert one.exchange(ec.ECDH(), two.public_key()) == x
    from cryptography.hazmat.primitives import hashes

    expected = hashlib.sha256(b"\0\0\0\1" + x + b"\x01UV").digest()[:16]
    assert bytes(derive_key(one, two.public_key(), hashes.SHA256(), 16)) == expected


@pytest.mark.parametrize("edition", Edition)
def test_what_others_wrapped_is_unwrapped(edition: Edition) -> None:
    sample = contract(edition)
    plaintext = scalar(sample.key, edition.group.scalar_bytes)
    key = UNWRAP[edition](FOREIGN[edition](plaintext))
    assert key.private_numbers() == sample.key.private_numbers()


@pytest.mark.parametrize("edition", Edition)
def test_zero_and_whatever_is_not_below_the_order_is_no_key(edition: Edition) -> None:
    size = edition.group.scalar_bytes
    order = int.from_bytes(edition.group.order, "big")
    own = contract(edition).key.private_numbers().private_value
    for number in (0, order, order + 1, 2 ** (8 * size) - 1, order + own):
        if number < 2 ** (8 * size):
            assert refusal(edition, FOREIGN[edition](number.to_bytes(size, "big"))) is ProblemKind.BAD_KEY


def test_an_order_is_the_curves() -> None:
    # n - 1 is the last private key, and its public key is -G: the same x as G.
    for group in (P256, P521):
        order = int.from_bytes(group.order, "big")
        generator = ec.derive_private_key(1, group.curve).public_key()
        last = bytearray((order - 1).to_bytes(group.scalar_bytes, "big"))
        y = generator.public_numbers()
        negative = ec.derive_private_key(order - 1, group.curve).public_key()
        assert negative.public_numbers().x == y.x
        assert negative.public_numbers().y != y.y
        assert private_key_of(group, last, negative).public_key() == negative
        with pytest.raises(ValueError):
            ec.derive_private_key(order, group.curve)


def test_the_seven_leading_bits_of_part_20_are_zero() -> None:
    plaintext = scalar(PART_20.key, 66)
    for bit in range(1, 8):
        changed = bytes([plaintext[0] | 1 << bit]) + plaintext[1:]
        assert refusal(Edition.PART_20, gcm(changed)) is ProblemKind.BAD_KEY


@pytest.mark.parametrize("edition", Edition)
def test_the_key_of_another_certificate_is_refused(edition: Edition) -> None:
    other = new_key(edition)
    plaintext = scalar(other, edition.group.scalar_bytes)
    assert refusal(edition, FOREIGN[edition](plaintext)) is ProblemKind.BAD_KEY
    assert refusal(edition, contract(edition).wrapped, certified=other.public_key()) is ProblemKind.BAD_KEY


@pytest.mark.parametrize("edition", Edition)
def test_the_negative_of_the_key_is_another_key(edition: Edition) -> None:
    # Its public key has the same x: comparing that coordinate alone would take it.
    order = int.from_bytes(edition.group.order, "big")
    negative = order - contract(edition).key.private_numbers().private_value
    plaintext = negative.to_bytes(edition.group.scalar_bytes, "big")
    assert refusal(edition, FOREIGN[edition](plaintext)) is ProblemKind.BAD_KEY


@pytest.mark.parametrize("edition", Edition)
def test_another_car_gets_nothing(edition: Edition) -> None:
    kind = ProblemKind.BAD_KEY if edition is Edition.PART_2 else ProblemKind.BAD_SIGNATURE
    assert refusal(edition, contract(edition).wrapped, own=new_key(edition)) is kind


def test_part_2_refuses_each_flipped_bit_by_the_key_it_gives() -> None:
    encrypted = PART_2.wrapped.encrypted
    for bit in range(8 * len(encrypted)):
        changed = bytearray(encrypted)
        changed[bit // 8] ^= 1 << bit % 8
        wrapped = replace(PART_2.wrapped, encrypted=bytes(changed))
        assert refusal(Edition.PART_2, wrapped) is ProblemKind.BAD_KEY


def test_part_20_refuses_each_flipped_bit_by_its_tag() -> None:
    encrypted = PART_20.wrapped.encrypted
    for bit in range(8 * len(encrypted)):
        changed = bytearray(encrypted)
        changed[bit // 8] ^= 1 << bit % 8
        wrapped = replace(PART_20.wrapped, encrypted=bytes(changed))
        assert refusal(Edition.PART_20, wrapped) is ProblemKind.BAD_SIGNATURE


@pytest.mark.parametrize("edition", Edition)
def test_each_flipped_bit_of_the_ephemeral_key_is_refused(edition: Edition) -> None:
    point = contract(edition).wrapped.dh_public_key
    for bit in range(8 * len(point)):
        changed = bytearray(point)
        changed[bit // 8] ^= 1 << bit % 8
        wrapped = replace(contract(edition).wrapped, dh_public_key=bytes(changed))
        if bit < 8:
            with pytest.raises(MalformedMessage):
                UNWRAP[edition](wrapped)
        else:
            assert refusal(edition, wrapped) is ProblemKind.BAD_KEY


def test_the_negative_of_the_ephemeral_point_is_the_same_secret() -> None:
    # ECDH looks at x alone: the package's signature, not the wrapping, is what fixes y.
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), PART_2.wrapped.dh_public_key)
    numbers = point.public_numbers()
    prime = 2**256 - 2**224 + 2**192 + 2**96 - 1
    negative = ec.EllipticCurvePublicNumbers(numbers.x, prime - numbers.y, ec.SECP256R1()).public_key()
    wrapped = replace(PART_2.wrapped, dh_public_key=encode_point(negative))
    assert unwrap2(wrapped).private_numbers() == PART_2.key.private_numbers()


@pytest.mark.parametrize("edition", Edition)
def test_other_lengths_and_forms_are_malformed(edition: Edition) -> None:
    good = contract(edition).wrapped
    compressed = (
        bytes([2 + good.dh_public_key[-1] % 2]) + good.dh_public_key[1 : len(good.dh_public_key) // 2 + 1]
    )
    hybrid = bytes([6 + good.dh_public_key[-1] % 2]) + good.dh_public_key[1:]
    for wrapped in (
        *(replace(good, encrypted=e) for e in (b"", good.encrypted[:-1], good.encrypted + b"\0")),
        *(replace(good, encrypted=good.encrypted[:-16]), replace(good, encrypted=good.encrypted + bytes(16))),
        *(replace(good, dh_public_key=p) for p in (b"", b"\0", good.dh_public_key[:-1], compressed, hybrid)),
    ):
        with pytest.raises(MalformedMessage):
            UNWRAP[edition](wrapped)


@pytest.mark.parametrize("edition", Edition)
def test_the_point_at_infinity_and_points_off_the_curve_are_refused(edition: Edition) -> None:
    good = contract(edition).wrapped
    size = edition.group.scalar_bytes
    for point in (b"\4" + bytes(2 * size), b"\4" + b"\xff" * (2 * size), b"\4" + bytes(2 * size - 1) + b"\1"):
        assert refusal(edition, replace(good, dh_public_key=point)) is ProblemKind.BAD_KEY


@pytest.mark.parametrize("edition", Edition)
def test_keys_of_another_curve_are_refused(edition: Edition) -> None:
    p384 = ec.generate_private_key(ec.SECP384R1())
    good = contract(edition).wrapped
    assert refusal(edition, good, own=p384) is ProblemKind.BAD_KEY
    assert refusal(edition, good, certified=p384.public_key()) is ProblemKind.BAD_KEY


def test_part_20_is_bound_to_the_car_and_the_certificate() -> None:
    wrapped = PART_20.wrapped
    other = bytes([SKI[0] ^ 1]) + SKI[1:]
    assert refusal(Edition.PART_20, wrapped, pcid="TRL000000000000013") is ProblemKind.BAD_SIGNATURE
    assert refusal(Edition.PART_20, wrapped, key_identifier=other) is ProblemKind.BAD_SIGNATURE
    for pcid in ("trl000000000000012", "TRL00000000000001", "", "TRL-00000000000012"):
        assert refusal(Edition.PART_20, wrapped, pcid=pcid) is ProblemKind.WRONG_SUBJECT
    for identifier in (b"", SKI[:7], SKI + SKI + SKI[:4]):
        assert refusal(Edition.PART_20, wrapped, key_identifier=identifier) is ProblemKind.WRONG_SUBJECT


def test_part_20_in_lower_case_hexadecimal_is_not_ours() -> None:
    ski = bytes.fromhex("abcdefabcdefabcd")
    wrapped = gcm(scalar(PART_20.key, 66), PCID.encode() + ski.hex().encode())
    assert refusal(Edition.PART_20, wrapped, key_identifier=ski) is ProblemKind.BAD_SIGNATURE
    wrapped = gcm(scalar(PART_20.key, 66), PCID.encode() + ski.hex().upper().encode())
    assert unwrap20(wrapped, key_identifier=ski).public_key() == PART_20.key.public_key()


def test_whoever_wraps_is_told_of_wrong_arguments() -> None:
    p256, p521 = new_key(Edition.PART_2), new_key(Edition.PART_20)
    for contract_key, ephemeral, iv in ((p256, p256, 12), (p521, p256, 16), (p256, p521, 16)):
        with pytest.raises(ValueError, match=r"vector|secp256r1"):
            wrap2.wrap(contract_key, p256.public_key(), ephemeral=ephemeral, iv=bytes(iv))
    for contract_key, ephemeral, iv in ((p521, p521, 16), (p256, p521, 12), (p521, p256, 12)):
        with pytest.raises(ValueError, match=r"vector|secp521r1"):
            wrap20.wrap(
                contract_key,
                p521.public_key(),
                ephemeral=ephemeral,
                iv=bytes(iv),
                pcid=PCID,
                key_identifier=SKI,
            )


def test_a_recipient_of_another_curve_is_refused() -> None:
    p256, p521 = new_key(Edition.PART_2), new_key(Edition.PART_20)
    with pytest.raises(RequestRejected) as caught:
        wrap2.wrap(p256, p521.public_key(), ephemeral=p256, iv=bytes(16))
    assert caught.value.reason is ProblemKind.BAD_KEY
    with pytest.raises(RequestRejected) as caught:
        wrap20.wrap(p521, p256.public_key(), ephemeral=p521, iv=bytes(12), pcid=PCID, key_identifier=SKI)
    assert caught.value.reason is ProblemKind.BAD_KEY


@pytest.mark.parametrize("edition", Edition)
@pytest.mark.parametrize("is_good", [True, False])
def test_keys_in_buffers_are_overwritten_whatever_happens(
    edition: Edition, is_good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = wrap2 if edition is Edition.PART_2 else wrap20
    seen: list[bytearray] = []
    derive, check = module.derive_key, module.private_key_of

    def watched_derive(*arguments: Any) -> bytearray:
        seen.append(derive(*arguments))
        assert any(seen[-1])
        return seen[-1]

    def watched_check(group: Group, unwrapped: bytearray, certified: Any) -> Any:
        seen.append(unwrapped)
        assert any(unwrapped)
        return check(group, unwrapped, certified)

    monkeypatch.setattr(module, "derive_key", watched_derive)
    monkeypatch.setattr(module, "private_key_of", watched_check)
    sample = contract(edition)
    if is_good:
        assert UNWRAP[edition](sample.wrapped).public_key() == sample.key.public_key()
    else:
        plaintext = scalar(new_key(edition), edition.group.scalar_bytes)
        assert refusal(edition, FOREIGN[edition](plaintext)) is ProblemKind.BAD_KEY
    assert len(seen) == 2
    assert not any(any(buffer) for buffer in seen)


@pytest.mark.parametrize("edition", Edition)
def test_whoever_wraps_overwrites_its_buffers(edition: Edition, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = wrap2 if edition is Edition.PART_2 else wrap20
    seen: list[bytearray] = []

    def watched(name: str) -> Any:
        original = getattr(module, name)

        def call(*arguments: Any) -> bytearray:
            seen.append(original(*arguments))
            assert any(seen[-1])
            return seen[-1]

        return call

    for name in ("derive_key", "scalar_of"):
        monkeypatch.setattr(module, name, watched(name))
    sample = contract(edition)
    bound = {} if edition is Edition.PART_2 else {"pcid": PCID, "key_identifier": SKI}
    iv = bytes(module.IV_BYTES)
    module.wrap(sample.key, sample.car.public_key(), ephemeral=new_key(edition), iv=iv, **bound)
    assert len(seen) == 2
    assert not any(any(buffer) for buffer in seen)
