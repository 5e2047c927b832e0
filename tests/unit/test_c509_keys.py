"""Public keys, signatures and algorithms in C509 and in X.509."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from protocol import c509
from protocol.c509 import algorithms, der, keys
from protocol.errors import MalformedMessage
from tests import c509_samples
from tests.c509_samples import COMPRESSED, ISSUER, POINT

SM2_GENERATOR = bytes.fromhex(
    "0432c4ae2c1f1981195f9904466a39c9948fe30bbff2660be1715a4589334c74c7"
    "bc3736a2f4f6779c59bdcee36b692153d0a9877cc62a474002df32e52139f0a0"
)
FRP256V1_GENERATOR = bytes.fromhex(
    "04b6b3d4c356c139eb31183d4749d423958c27d2dcaf98b70164c97a2dd98f5cff"
    "6142e0f7c8b204911f9271f0f3ecef8c2701c307e8e4c9e183115a1554062cfb"
)
CURVES = {1: ec.SECP256R1(), 2: ec.SECP384R1(), 3: ec.SECP521R1(), 24: ec.BrainpoolP256R1()}


def travelling(point: bytes) -> bytes:
    """Return an uncompressed point's compressed form in a re-encoded certificate."""
    size = len(point) // 2
    return (b"\xfd" if point[-1] & 1 else b"\xfe") + point[1 : 1 + size]


def certificate(kind: int, algorithm: int, key: bytes) -> c509.TbsCertificate:
    return c509.TbsCertificate(kind, b"\x01", 0, None, 0, None, ISSUER, algorithm, key, ())


@pytest.mark.parametrize(
    ("algorithm", "generator"), [(6, SM2_GENERATOR), (27, FRP256V1_GENERATOR)], ids=["sm2p256v1", "FRP256v1"]
)
def test_points_on_curves_that_cryptography_lacks_are_decompressed(algorithm: int, generator: bytes) -> None:
    mirrored = bytearray(generator)
    p = keys._UNSUPPORTED_CURVES[algorithm].p
    mirrored[33:] = (p - int.from_bytes(generator[33:], "big")).to_bytes(32, "big")
    for point in (generator, bytes(mirrored)):
        assert certificate(3, algorithm, travelling(point)).spki_der.endswith(b"\0" + point)
    with pytest.raises(MalformedMessage):
        certificate(2, algorithm, generator).load_public_key()
    missing = next(
        x.to_bytes(32, "big")
        for x in range(1, 99)
        if pow(x**3 - 3 * x + keys._UNSUPPORTED_CURVES[algorithm].b, (p - 1) // 2, p) == p - 1
    )
    with pytest.raises(MalformedMessage):
        assert certificate(3, algorithm, b"\xfe" + missing).spki_der


@pytest.mark.parametrize("number", CURVES)
@pytest.mark.parametrize("secret", [3, 4, 5])
def test_a_point_means_the_same_in_each_of_its_forms(number: int, secret: int) -> None:
    public = ec.derive_private_key(secret, CURVES[number]).public_key()
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    short = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    moving = certificate(3, number, travelling(point))
    assert moving.spki_der == spki
    assert moving.public_key_bytes == short
    assert certificate(3, number, point).spki_der == spki
    for key in (point, short, travelling(point)):
        assert certificate(3, number, key).load_public_key() == public
        assert certificate(2, number, key).load_public_key() == public
        assert load_der_public_key(certificate(2, number, key).spki_der) == public


@pytest.mark.parametrize("first", [0x02, 0x03, 0x04, 0xFD, 0xFE])
def test_a_point_off_its_curve_is_malformed_when_it_is_used(first: int) -> None:
    x = next(x for x in range(1, 99) if not _is_x_of_p256(x))  # no point has this x
    key = bytes((first,)) + x.to_bytes(32, "big") + (bytes(32) if first == 4 else b"")
    decoded = c509.decode_certificate(certificate(3, 1, key).with_signature(bytes(64)).encoded)
    with pytest.raises(MalformedMessage):
        decoded.load_public_key()
    if first >= 0xFD:
        for late in ("spki_der", "tbs_der", "signed_bytes"):
            with pytest.raises(MalformedMessage):
                getattr(decoded, late)
        with pytest.raises(MalformedMessage):
            decoded.to_der()


def _is_x_of_p256(x: int) -> bool:
    p = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    return pow(x**3 - 3 * x + b, (p - 1) // 2, p) == 1


def test_an_off_curve_point_in_x509_keeps_its_uncompressed_form() -> None:
    bad = b"\x04" + bytes(31) + b"\x05" + bytes(32)
    data = certificate(3, 1, bad).with_signature(bytes(range(64))).to_der()
    converted = c509.from_der(data)
    assert converted.public_key == bad
    assert converted.to_der() == data


def test_rsa_keys_leave_out_the_usual_exponent() -> None:
    for exponent, size in [(65537, 130), (3, 133), (2**33 + 1, 137)]:
        key = der.sequence(der.integer(2**1023 + 1), der.integer(exponent))
        made = certificate(2, 0, key).with_signature(bytes(64))
        decoded = c509.decode_certificate(made.encoded)
        assert decoded.public_key == key == decoded.public_key_bytes
        assert (
            len(made.encoded) - len(certificate(2, 12, bytes(32)).with_signature(bytes(64)).encoded)
            == size - 34
        )


@pytest.mark.parametrize("algorithm", list(c509.SignatureAlgorithm))
def test_every_registered_signature_algorithm_comes_back_from_x509(
    algorithm: c509.SignatureAlgorithm,
) -> None:
    size = algorithms._FIXED_SIZES.get(algorithm, 64)
    signature = bytes(range(100, 100 + size)) if size else b""
    tbs = c509.build_certificate(
        type=3,
        serial=1,
        issuer=ISSUER,
        subject=c509.Name(),
        not_before=0,
        not_after=1,
        public_key=POINT,
        signature_algorithm=algorithm,
    )
    made = tbs.with_signature(signature)
    assert c509.from_der(made.to_der()) == made
    assert c509.decode_certificate(made.encoded).signature_algorithm == algorithm


KEY_SAMPLES = {
    0: der.sequence(der.integer(2**512 + 1), der.integer(65537)),
    6: SM2_GENERATOR,
    27: FRP256V1_GENERATOR,
}
RAW_SIZES = {8: 32, 9: 56, 12: 32, 13: 57}


@pytest.mark.parametrize("algorithm", list(c509.PublicKeyAlgorithm))
def test_every_registered_key_algorithm_comes_back_from_x509(algorithm: c509.PublicKeyAlgorithm) -> None:
    if algorithm in keys._CURVES:
        public = ec.derive_private_key(7, keys._CURVES[algorithm]).public_key()
        key = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    else:
        key = KEY_SAMPLES.get(algorithm) or bytes(range(RAW_SIZES[algorithm]))
    tbs = c509.build_certificate(
        type=3,
        serial=1,
        issuer=ISSUER,
        subject=ISSUER,
        not_before=0,
        not_after=1,
        public_key=key,
        public_key_algorithm=algorithm,
        signature_algorithm=c509.SignatureAlgorithm.UNSIGNED,
    )
    made = tbs.with_signature(b"")
    assert c509.from_der(made.to_der()) == made
    assert made.issuer is None


def test_algorithms_without_a_number_travel_whole() -> None:
    odd = c509.Algorithm(c509_samples.PRIVATE_OID, b"\x05\x00")
    bare = c509.Algorithm(c509_samples.PRIVATE_OID)
    tbs = c509.TbsCertificate(3, b"\x01", odd, None, 0, 1, ISSUER, bare, b"any key", ())
    made = tbs.with_signature(b"any signature")
    decoded = c509.decode_certificate(made.encoded)
    assert (decoded.signature_algorithm, decoded.public_key_algorithm) == (odd, bare)
    assert c509.from_der(made.to_der()) == made
    assert decoded.signature_der == b"any signature"


def test_a_point_on_an_unknown_curve_cannot_travel_compressed() -> None:
    unknown = c509.Algorithm(algorithms.EC_PUBLIC_KEY, der.tlv(der.OID, c509_samples.PRIVATE_OID))
    tbs = c509.TbsCertificate(3, b"\x01", 0, None, 0, 1, ISSUER, unknown, b"\xfe" + bytes(32), ())
    with pytest.raises(MalformedMessage):
        c509.decode_certificate(tbs.with_signature(bytes(64)).encoded)


@pytest.mark.parametrize("size", [32, 48, 64, 66])
def test_r_and_s_have_the_length_of_the_group_order(size: int) -> None:
    r, s = (1 << 8 * size - 1), 1
    data = der.sequence(der.integer(r), der.integer(s))
    assert algorithms.signature_from_der(0, data, None) == r.to_bytes(size, "big") + s.to_bytes(size, "big")
    assert algorithms.signature_to_der(0, algorithms.signature_from_der(0, data, size)) == data
    with_room = algorithms.signature_from_der(0, der.sequence(der.integer(1), der.integer(0)), size)
    assert with_room == (1).to_bytes(size, "big") + bytes(size)


def test_private_keys_travel_with_their_chain() -> None:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    structure = c509.C509PrivateKey.from_private_key(key)
    assert structure.algorithm == c509.PublicKeyAlgorithm.ED25519
    assert "key=" not in repr(structure)
    assert str(bytes(range(32))) not in repr(structure)
    chain = (c509_samples.certificate(), c509_samples.certificate(3))
    for certificates in ((), chain[:1], chain):
        bundle = c509.C509Pem(structure, certificates)
        assert c509.decode_pem(bundle.encode()) == bundle
    loaded = c509.decode_private_key(structure.encode()).load()
    assert isinstance(loaded, ed25519.Ed25519PrivateKey)
    assert loaded.public_key() == key.public_key()
    for unusable in (c509.C509PrivateKey(0, 1, b"not a key"), c509.C509PrivateKey(1, 1, b"\xa1\x01\x02")):
        with pytest.raises(MalformedMessage):
            unusable.load()


def test_key_identifiers_are_twenty_bytes_of_sha_256() -> None:
    native, reencoded = c509.key_identifier(2, COMPRESSED), c509.key_identifier(3, POINT)
    assert len(native) == len(reencoded) == 20
    assert native != c509.key_identifier(3, COMPRESSED)


def test_a_certificate_can_be_built_from_any_form_of_its_point() -> None:
    made = {
        (kind, key): c509.build_certificate(
            type=kind,
            serial=b"\x01",
            issuer=ISSUER,
            subject=c509_samples.SUBJECT,
            not_before=0,
            not_after=1,
            public_key=key,
        )
        for kind in (2, 3)
        for key in (POINT, COMPRESSED, travelling(POINT))
    }
    for kind in (2, 3):
        encoded = {tbs.tbs for (built, _), tbs in made.items() if built == kind}
        signed = {tbs.to_be_signed() for (built, _), tbs in made.items() if built == kind}
        assert len(encoded) == len(signed) == 1
    x509_form = made[3, POINT].with_signature(c509_samples.sign(made[3, POINT].to_be_signed())).to_der()
    assert x509.load_der_x509_certificate(x509_form).public_key() == c509_samples.KEY.public_key()


@pytest.mark.parametrize(
    "wrong",
    [
        {"serial": 0},
        {"serial": b""},
        {"serial": b"\0\x01"},
        {"not_before": -1},
        {"not_after": 1 << 40},
        {"public_key": COMPRESSED[:-1]},
        {"public_key": b""},
        {"public_key_algorithm": 12},
    ],
)
def test_a_certificate_with_a_wrong_field_is_not_built(wrong: dict[str, object]) -> None:
    fields: dict[str, object] = {
        "type": 2,
        "serial": 1,
        "issuer": ISSUER,
        "subject": ISSUER,
        "not_before": 0,
        "not_after": None,
        "public_key": COMPRESSED,
    }
    with pytest.raises(ValueError):
        c509.build_certificate(**(fields | wrong))  # type: ignore[arg-type]  # wrong on purpose


def test_native_objects_have_no_der() -> None:
    with pytest.raises(ValueError, match="no DER form"):
        c509_samples.certificate().to_der()
    with pytest.raises(ValueError, match="no DER form"):
        c509_samples.request().to_der()
