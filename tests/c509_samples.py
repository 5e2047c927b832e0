"""C509 objects with something of everything in them, made without vectors: for tests that break things."""

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol import c509, cbor
from protocol.c509.der import oid_from_text

KEY = ec.derive_private_key(0xC509, ec.SECP256R1())
POINT = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
COMPRESSED = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
ISSUER = c509.Name.common_name("Op CA")
SUBJECT = c509.Name.common_name("01-23-45-FF-FE-67-89-AB")
PRIVATE_OID = oid_from_text("1.3.6.1.4.1.32473.6")

_NAMES = (
    c509.GeneralName(-3, bytes(range(8))),
    c509.GeneralName(-2, "jörg@example.org"),
    c509.GeneralName(-1, (PRIVATE_OID, b"\x01\x02")),
    c509.GeneralName(0, (PRIVATE_OID, b"\x0c\x01x")),
    c509.GeneralName(1, "a@example.org"),
    c509.GeneralName(2, "example.org"),
    c509.GeneralName(4, ISSUER),
    c509.GeneralName(6, "coap://example.org"),
    c509.GeneralName(7, b"\xc0\x00\x02\x01"),
    c509.GeneralName(8, PRIVATE_OID),
)
_PREFIXES = (b"\x00\xc0\x00\x02", b"\x04\xc6\x33\x64\x00", (b"\x00\xcb\x00", b"\x01\xcb\x00\x70"))
_LONG = (b"\x00" + bytes(range(10)), (b"\x00\x3f\xff", b"\x00\x3f\xff\x0f"))
_AS_NUMBERS = (2, (3, 6), 64512)
_POINTS = (
    c509.DistributionPoint(("http://a.example/crl", "http://b.example/crl"), 0x102, ISSUER),
    c509.DistributionPoint(("http://c.example/crl",)),
)
_ACCESS = ((1, "http://ocsp.example"), (PRIVATE_OID, "http://other.example"))

EXTENSIONS = (
    c509.Extension(1, False, bytes(20)),
    c509.Extension(2, True, 0x105),
    c509.Extension(3, True, _NAMES),
    c509.Extension(4, True, 3),
    c509.Extension(5, False, _POINTS),
    c509.Extension(
        6,
        False,
        (
            c509.PolicyInformation(0, ((1, "http://cps.example"), (2, "noted: é"))),
            c509.PolicyInformation(PRIVATE_OID),
        ),
    ),
    c509.Extension(7, False, c509.AuthorityKeyIdentifier(b"id", _NAMES[4:6], b"\x80\x01")),
    c509.Extension(8, True, (0, 20, PRIVATE_OID)),
    c509.Extension(9, False, _ACCESS),
    c509.Extension(24, False, ((4, ("DE", "SE")), (PRIVATE_OID, (b"\x05\x00",)))),
    c509.Extension(25, False, (c509.GeneralName(2, "issuer.example"),)),
    c509.Extension(
        26,
        True,
        c509.NameConstraints((c509.GeneralName(7, b"\xc0\x00\x02\x00\x18"),), (_NAMES[5], _NAMES[6])),
    ),
    c509.Extension(27, True, ((2, 1), (PRIVATE_OID, 0))),
    c509.Extension(28, True, c509.PolicyConstraints(None, 1)),
    c509.Extension(29, False, (c509.DistributionPoint(("http://d.example/delta",)),)),
    c509.Extension(30, True, 7),
    c509.Extension(31, False, _ACCESS[:1]),
    c509.Extension(32, True, (c509.AddressFamily(1, None, _PREFIXES), c509.AddressFamily(2, 1, _LONG))),
    c509.Extension(33, True, _AS_NUMBERS),
    c509.Extension(34, False, (c509.AddressFamily(1, 1, None),)),
    c509.Extension(35, False, None),
    c509.Extension(36, False, None),
    c509.Extension(38, False, (5, 17)),
    c509.Extension(PRIVATE_OID, True, b"anything"),
)
"""One of each."""

RICH_NAME = c509.Name(
    (
        (0, "ca@example.org"),
        (4, "DE"),
        (8, "Stadtwerke Überall"),
        (22, "example"),
        (3, "00ff"),
        (1, "0123456789abcdef"),
        (PRIVATE_OID, b"\x0c\x02hi"),
    )
)
PRINTABLE_NAME = c509.Name(((-4, "DE"), (-8, "Stadtwerke"), (-1, "1234567890ABCDEF")))


def sign(data: bytes) -> bytes:
    """Return r and s of `KEY`'s signature."""
    r, s = decode_dss_signature(KEY.sign(data, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def certificate(
    kind: int = c509.NATIVE, extensions: tuple[c509.Extension, ...] = EXTENSIONS
) -> c509.Certificate:
    """Return a certificate of `KEY`, signed by itself."""
    unsigned = c509.build_certificate(
        type=kind,
        serial=0x7F01,
        issuer=ISSUER if kind == c509.NATIVE else PRINTABLE_NAME,
        subject=RICH_NAME,
        not_before=1_700_000_000,
        not_after=None,
        public_key=POINT,
        extensions=extensions,
    )
    return unsigned.with_signature(sign(unsigned.to_be_signed()))


def request(kind: int = c509.NATIVE) -> c509.CertificationRequest:
    """Return a request of `KEY` with one attribute of each kind."""
    statement = c509.PossessionStatement(ISSUER, b"\x01", certificate(kind, EXTENSIONS[:2]))
    unsigned = c509.TbsRequest(
        kind,
        c509.SignatureAlgorithm.ECDSA_SHA256,
        SUBJECT,
        c509.PublicKeyAlgorithm.P256,
        COMPRESSED,
        (
            c509.RequestAttribute(0, EXTENSIONS[:3]),
            c509.RequestAttribute(1, c509.ChallengePassword("secret", printable=kind == c509.REENCODED)),
            c509.RequestAttribute(2, statement),
            c509.RequestAttribute(PRIVATE_OID, b"\x05\x00"),
        ),
    )
    return unsigned.with_signature(sign(unsigned.to_be_signed()))


TEMPLATE = c509.RequestTemplate(
    request_types=(2, 3),
    signature_algorithms=(0, 1, c509.Algorithm(PRIVATE_OID, b"\x05\x00")),
    subject=(
        c509.NameAttributeTemplate(1, 1, 2),
        c509.NameAttributeTemplate(4, 0, 1, "DE"),
        c509.NameAttributeTemplate(PRIVATE_OID, 0, 1, b"\x0c\x01x"),
    ),
    public_key_algorithms=(1, 12),
    extensions=(
        c509.ExtensionTemplate(2, False, 1),
        c509.ExtensionTemplate(8, True, c509.ANY),
        c509.ExtensionTemplate(3, False, c509.UnfinishedValue([7, b""])),
        c509.ExtensionTemplate(PRIVATE_OID, True, b"value"),
    ),
)


def everything() -> dict[str, bytes]:
    """Return one encoding of each object, by the name of its decoder."""
    native = certificate()
    key = c509.C509PrivateKey.from_private_key(KEY)
    return {
        "decode_certificate": native.encoded,
        "decode_certificate (re-encoded)": certificate(c509.REENCODED).encoded,
        "decode_certificate (short)": certificate(extensions=EXTENSIONS[1:2]).encoded,
        "decode_request": request().encoded,
        "decode_request (re-encoded)": request(c509.REENCODED).encoded,
        "decode_template": TEMPLATE.encode(),
        "decode_chain": c509.encode_chain([native, native]),
        "decode_private_key": key.encode(),
        "decode_private_key (COSE_Key)": c509.C509PrivateKey(1, 1, cbor.encode({1: 2, -1: 1})).encode(),
        "decode_pem": c509.C509Pem(key, (native,)).encode(),
    }
