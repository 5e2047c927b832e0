"""gurux-dlms reads our meter certificates, verifies our requests and signatures, writes the same APDUs.

It is GPL, prints private keys and signs with a guessable nonce, so it lives in a virtual environment of its
own (`.ci/judges gurux`), is asked through a pipe, and gets nothing secret: certificates, signatures, public
text, and a key and its wrapping key that are plain numbers. As it comes it cannot read a certificate with a
critical extension; the shim below drops the criticality before it looks. P-384, GeneralizedTime and extended
key usages it cannot read at all: suite 2 is for OpenSSL to judge.
"""

import json
import os
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agents.keys import SoftwareSigner, generate
from protocol import c509
from protocol.metering import envelope, setup
from protocol.metering.agreement import sign_ephemeral
from protocol.metering.keys import KeyKind, wrap_key
from protocol.metering.setup import (
    ByEntity,
    CertificateType,
    Entity,
    ExportCertificate,
    GenerateCertificateRequest,
    GenerateKeyPair,
    ImportCertificate,
    KeyPair,
    KeyTransfer,
    RemoveCertificate,
)
from protocol.metering.suite import SUITE_1
from protocol.metering.title import SystemTitle
from protocol.path import verification_key
from tests.rig import Rig, certificate_of, rig_in

ROOT: Final = Path(__file__).parents[2]
PYTHON: Final = ROOT / os.environ.get("TRILLIUM_JUDGES", ".judges") / "gurux" / "bin" / "python"
pytestmark = [
    pytest.mark.outside,
    pytest.mark.skipif(not PYTHON.exists(), reason="gurux-dlms is not installed: run `.ci/judges gurux`"),
]

BEGIN: Final = """
import contextlib, json, sys
from gurux_dlms.asn.GXAsn1Converter import GXAsn1Converter
from gurux_dlms.asn.GXPkcs10 import GXPkcs10
from gurux_dlms.asn.GXx509Certificate import GXx509Certificate
from gurux_dlms.ecdsa.GXEcdsa import GXEcdsa
from gurux_dlms.ecdsa.GXPublicKey import GXPublicKey

def without_criticality(item):
    if isinstance(item, list):
        if len(item) == 3 and isinstance(item[1], bool):
            del item[1]
        for one in item:
            without_criticality(one)
    return item

read = GXAsn1Converter.fromByteArray
GXAsn1Converter.fromByteArray = classmethod(lambda cls, data: without_criticality(read(data)))

def is_good(point, signature, data):
    return GXEcdsa(GXPublicKey.fromRawBytes(point)).verify(signature, data)

asked = [
    {name: value if name == "pem" else bytes.fromhex(value) for name, value in one.items()}
    for one in json.load(sys.stdin)
]
told = []
"""
END: Final = """
print("told " + json.dumps(told))
"""
CERTIFICATES: Final = """
for one in asked:
    read_one = GXx509Certificate.fromPem(one["pem"])
    signed = is_good(one["issuer"], one["signature"], one["tbs"])
    octets = [read_one.getSystemTitle(), read_one.encoded, read_one.publicKey.rawValue]
    told.append([*(bytes(one).hex() for one in octets), int(read_one.keyUsage), signed])
"""
REQUESTS: Final = """
for one in asked:
    request = GXPkcs10.fromPem(one["pem"])
    told.append([str(request.subject), bytes(request.publicKey.rawValue).hex(),
                 is_good(bytes(request.publicKey.rawValue), one["signature"], one["tbs"])])
"""
SIGNATURES: Final = """
for one in asked:
    told.append(is_good(one["key"], one["signature"], one["data"]))
"""
APDUS: Final = """
from gurux_dlms.enums import Authentication, InterfaceType
from gurux_dlms.objects import GXDLMSSecuritySetup
from gurux_dlms.objects.enums import CertificateEntity, CertificateType, GlobalKeyType
from gurux_dlms.secure import GXDLMSSecureClient
for one in asked:
    client = GXDLMSSecureClient(True, 16, 1, Authentication.NONE, None, InterfaceType.WRAPPER)
    setup = GXDLMSSecuritySetup()
    title = bytearray(one["title"])
    own = (CertificateEntity.SERVER, CertificateType.DIGITAL_SIGNATURE, title)
    other = (CertificateEntity.CLIENT, CertificateType.KEY_AGREEMENT, title)

    class Imported:
        encoded = one["certificate"]

    made = [
        setup.globalKeyTransfer(client, one["master"], [(GlobalKeyType.UNICAST_ENCRYPTION, one["key"])]),
        setup.generateKeyPair(client, 1),
        setup.generateCertificate(client, 0),
        setup.importCertificate(client, Imported),
        setup.exportCertificateByEntity(client, *own),
        setup.removeCertificateByEntity(client, *other),
    ]
    told.append([b"".join(bytes(block)[8:] for block in blocks).hex() for blocks in made])
"""

TITLE: Final = SystemTitle.of_maker("TRL", 42)
DIGITAL_SIGNATURE: Final = 0x01
KEY_AGREEMENT: Final = 0x10
HEAD_END: Final = SystemTitle.of_maker("TRL", 1)


def ask(program: str, questions: list[dict[str, Any]], folder: Path) -> list[Any]:
    """Run `program` in the judge's Python, in `folder`, and return what it tells."""
    ready = [{k: v.hex() if isinstance(v, bytes) else v for k, v in one.items()} for one in questions]
    done = subprocess.run(
        [PYTHON, "-c", BEGIN + program + END],
        input=json.dumps(ready),
        capture_output=True,
        text=True,
        timeout=50,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("told "))
    told = json.loads(line.removeprefix("told "))
    assert len(told) == len(questions)
    return list(told)


def pem(kind: str, der: bytes) -> str:
    text = b64encode(der).decode()
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----\n"


def point_of(key: SoftwareSigner) -> bytes:
    """Return SEC 1's uncompressed form of a P-256 key."""
    return ec.EllipticCurvePublicKey.from_encoded_point(SUITE_1.curve, key.public_key).public_bytes(
        Encoding.X962, PublicFormat.UncompressedPoint
    )


def meters(rig: Rig, count: int) -> Iterator[tuple[str, SoftwareSigner, c509.Certificate]]:
    """Enroll meters at a real authority and yield name, key and certificate, for signature and agreement."""
    for _ in range(count):
        device = rig.enrolled()
        key, encoded = device.credentials["meter-ds"]
        yield device.name, key, c509.decode_certificate(encoded)
        key = SoftwareSigner(generate(), even_y=False)
        encoded = certificate_of(rig.ask(device.enroll(key, label="meter-ka")))
        yield device.name, key, c509.decode_certificate(encoded)


def test_gurux_reads_the_certificates_of_our_meters_and_their_issuers_signature(tmp_path: Path) -> None:
    with rig_in(tmp_path) as rig:
        made = list(meters(rig, 10))
        operator = next(a.chain[0] for a in rig.agent.authorities.values() if "meter-ds" in a.places)
    issuer = verification_key(operator)
    assert isinstance(issuer, ec.EllipticCurvePublicKey)
    issuer_point = issuer.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    questions, expected = [], []
    for number, (name, key, certificate) in enumerate(made):
        der = certificate.to_der()
        signed = {"signature": certificate.signature, "tbs": certificate.signed_bytes}
        questions.append({"pem": pem("CERTIFICATE", der), "issuer": issuer_point, **signed})
        usage = (DIGITAL_SIGNATURE, KEY_AGREEMENT)[number % 2]
        expected.append([name.lower(), der.hex(), point_of(key).hex(), usage, True])
    assert ask(CERTIFICATES, questions, tmp_path) == expected


def test_gurux_finds_a_changed_certificate_out(tmp_path: Path) -> None:
    signer = SoftwareSigner(generate())
    data = b"to be signed"
    good = signer.sign(data)
    questions = [
        {"key": point_of(signer), "signature": signature, "data": text}
        for signature, text in (
            (good, data),
            (good[:-1] + bytes([good[-1] ^ 1]), data),
            (bytes([good[0] ^ 1]) + good[1:], data),
            (good, data + b"\0"),
            (SoftwareSigner(generate()).sign(data), data),
        )
    ]
    assert ask(SIGNATURES, questions, tmp_path) == [True, False, False, False, False]


def test_gurux_verifies_our_envelopes_and_ephemeral_keys(tmp_path: Path) -> None:
    questions = []
    for number in range(10):
        signer = SoftwareSigner(generate(), even_y=bool(number % 2))
        sealed = envelope.sign(
            signer,
            transaction_id=bytes([number]) * 8,
            originator=HEAD_END,
            recipient=TITLE,
            content=bytes(number * 20),
        )
        questions.append(
            {"key": point_of(signer), "signature": sealed.signature, "data": sealed.signed_bytes}
        )
        key_data = sign_ephemeral(SUITE_1, signer, KeyKind.MASTER, generate_ec())
        # What gurux's own key_agreement signs: key_id in the place of SEC 1's 04, then x and y.
        data = bytes([KeyKind.MASTER]) + key_data[:64]
        questions.append({"key": point_of(signer), "signature": key_data[64:], "data": data})
    assert ask(SIGNATURES, questions, tmp_path) == [True] * 20


def generate_ec() -> ec.EllipticCurvePublicKey:
    return ec.generate_private_key(SUITE_1.curve).public_key()


def test_gurux_reads_our_requests_and_verifies_their_proof(tmp_path: Path) -> None:
    questions, expected = [], []
    for number in range(10):
        title = SystemTitle.of_maker("TRL", number)
        key = SoftwareSigner(generate(), even_y=False)
        request = c509.TbsRequest(
            c509.REENCODED, 0, c509.Name.common_name(title.name), 1, compressed_for_der(key)
        )
        signature = key.sign(request.info_der)
        while signature[0] == 0 or signature[32] == 0:  # it takes a short r or s for a wrong one
            signature = key.sign(request.info_der)
        der = request.with_signature(signature).to_der()
        questions.append(
            {"pem": pem("CERTIFICATE REQUEST", der), "signature": signature, "tbs": request.info_der}
        )
        expected.append([f"CN={title.name}", point_of(key).hex(), True])
    assert ask(REQUESTS, questions, tmp_path) == expected


def compressed_for_der(key: SoftwareSigner) -> bytes:
    """Return the field of a re-encoded request: a compressed point that stands for an uncompressed one."""
    return bytes((0x100 - key.public_key[0],)) + key.public_key[1:]


def test_gurux_writes_the_same_requests_to_the_security_setup_object(tmp_path: Path) -> None:
    master, key, certificate = bytes(range(16)), bytes(range(16, 32)), b"\x30\x03\x02\x01\x05"
    own = ByEntity(Entity.SERVER, CertificateType.DIGITAL_SIGNATURE, TITLE)
    client = ByEntity(Entity.CLIENT, CertificateType.KEY_AGREEMENT, TITLE)
    actions: list[setup.Action] = [
        KeyTransfer({KeyKind.UNICAST: wrap_key(SUITE_1, master, key)}),
        GenerateKeyPair(KeyPair.KEY_AGREEMENT),
        GenerateCertificateRequest(KeyPair.DIGITAL_SIGNATURE),
        ImportCertificate(certificate),
        ExportCertificate(own),
        RemoveCertificate(client),
    ]
    question = {"title": TITLE.octets, "master": master, "key": key, "certificate": certificate}
    assert ask(APDUS, [question], tmp_path) == [[setup.encode_request(action).hex() for action in actions]]
