"""The `iso15118` package unwraps what we wrapped and the other way round, and measures our EXI estimate.

It pins an old `cryptography`, so it has a virtual environment of its own, made by `.ci/judges iso15118` and
found in `$TRILLIUM_JUDGES/iso15118`, by default `.judges/iso15118`. It is asked in JSON through a pipe.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from protocol.errors import ProblemKind, RequestRejected
from protocol.ev import Edition, Installation, WrappedKey, bound_exi, wrap2
from tests.ev_samples import certificate, new_key

ROOT: Final = Path(__file__).parents[2]
PYTHON: Final = ROOT / os.environ.get("TRILLIUM_JUDGES", ".judges") / "iso15118" / "bin" / "python"
pytestmark = [
    pytest.mark.outside,
    pytest.mark.skipif(
        not PYTHON.exists(), reason="the iso15118 package is not installed: run `.ci/judges iso15118`"
    ),
]

BEGIN: Final = """
import json, os, sys
from cryptography.hazmat.primitives.serialization import load_der_private_key
from iso15118.shared.settings import load_shared_settings
load_shared_settings()
from iso15118.shared import security as S
asked = [
    {name: bytes.fromhex(value) if isinstance(value, str) else value for name, value in one.items()}
    for one in json.load(sys.stdin)
]
told = []
"""
END: Final = """
print("told " + json.dumps(told))
"""
UNWRAP: Final = """
for one in asked:
    own = load_der_private_key(one["own"], None)
    told.append(S.decrypt_priv_key(one["encrypted"], own, S.to_ec_pub_key(one["dh"])).hex())
"""
WRAP: Final = """
for one in asked:
    dh, encrypted = S.encrypt_priv_key(one["certificate"], load_der_private_key(one["key"], None))
    told.append([dh.hex(), encrypted.hex()])
"""
MEASURE: Final = """
from cryptography.hazmat.primitives.asymmetric import ec
from iso15118.shared.exi_codec import EXI
from iso15118.shared.exificient_exi_codec import ExificientEXICodec
from iso15118.shared.messages.enums import Namespace
from iso15118.shared.messages.iso15118_2.body import Body, CertificateInstallationRes
from iso15118.shared.messages.iso15118_2.datatypes import (
    EMAID, CertificateChain, DHPublicKey, EncryptedPrivateKey, SubCertificates,
)
from iso15118.shared.messages.iso15118_2.header import MessageHeader
from iso15118.shared.messages.iso15118_2.msgdef import V2GMessage
codec = EXI()
codec.set_exi_codec(ExificientEXICodec())
key = ec.generate_private_key(ec.SECP256R1())

def chain(lengths, name=None):
    leaf, *above = (os.urandom(length) for length in lengths)
    above = SubCertificates(certificates=above) if above else None
    return CertificateChain(id=name, certificate=leaf, sub_certificates=above)

for one in asked:
    answer = CertificateInstallationRes(
        response_code="OK",
        cps_cert_chain=chain(one["cps"]),
        contract_cert_chain=chain(one["contract"], "id1"),
        encrypted_private_key=EncryptedPrivateKey(id="id2", value=os.urandom(48)),
        dh_public_key=DHPublicKey(id="id3", value=os.urandom(65)),
        emaid=EMAID(id="id4", value=one["emaid"].decode()),
    )
    parts = (answer.contract_cert_chain, answer.encrypted_private_key, answer.dh_public_key, answer.emaid)
    signature = S.create_signature(
        [(part.id, codec.to_exi(part, Namespace.ISO_V2_MSG_DEF)) for part in parts], key
    )
    header = MessageHeader(session_id="FF" * 8, signature=signature)
    message = V2GMessage(header=header, body=Body(CertificateInstallationRes=answer))
    told.append(len(codec.to_exi(message, Namespace.ISO_V2_MSG_DEF)))
"""


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


def pkcs8(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def contract_keys() -> list[ec.EllipticCurvePrivateKey]:
    """Return keys whose scalars are short, long and usual."""
    order = int.from_bytes(Edition.PART_2.group.order, "big")
    edges = (1, 255, 2**128, order - 1)
    return [ec.derive_private_key(number, ec.SECP256R1()) for number in edges] + [
        new_key(Edition.PART_2) for _ in range(4)
    ]


def test_iso15118_unwraps_what_we_wrapped(tmp_path: Path) -> None:
    keys, cars = contract_keys(), [new_key(Edition.PART_2) for _ in range(8)]
    questions = []
    for number, (key, car) in enumerate(zip(keys, cars, strict=True)):
        ephemeral = new_key(Edition.PART_2)
        wrapped = wrap2.wrap(key, car.public_key(), ephemeral=ephemeral, iv=bytes([number]) * 16)
        questions.append({"own": pkcs8(car), "encrypted": wrapped.encrypted, "dh": wrapped.dh_public_key})
    expected = [key.private_numbers().private_value.to_bytes(32, "big").hex() for key in keys]
    assert ask(UNWRAP, questions, tmp_path) == expected


def test_we_unwrap_what_iso15118_wrapped(tmp_path: Path) -> None:
    keys, cars = contract_keys(), [new_key(Edition.PART_2) for _ in range(8)]
    provisioning = [certificate(("TRL000000000000012",), car.public_key(), car) for car in cars]
    told = ask(
        WRAP,
        [{"certificate": der, "key": pkcs8(key)} for der, key in zip(provisioning, keys, strict=True)],
        tmp_path,
    )
    for (dh_public_key, encrypted), key, car in zip(told, keys, cars, strict=True):
        wrapped = WrappedKey(bytes.fromhex(dh_public_key), bytes.fromhex(encrypted))
        assert wrap2.unwrap(wrapped, car, key.public_key()).private_numbers() == key.private_numbers()


def test_we_refuse_the_changed_vector_that_iso15118_takes(tmp_path: Path) -> None:
    key, car = new_key(Edition.PART_2), new_key(Edition.PART_2)
    wrapped = wrap2.wrap(key, car.public_key(), ephemeral=new_key(Edition.PART_2), iv=bytes(16))
    changed = WrappedKey(wrapped.dh_public_key, b"\1" + wrapped.encrypted[1:])
    (taken,) = ask(
        UNWRAP, [{"own": pkcs8(car), "encrypted": changed.encrypted, "dh": changed.dh_public_key}], tmp_path
    )
    assert int(taken, 16) == key.private_numbers().private_value ^ 1 << 248
    with pytest.raises(RequestRejected) as caught:
        wrap2.unwrap(changed, car, key.public_key())
    assert caught.value.reason is ProblemKind.BAD_KEY


@pytest.mark.skipif(shutil.which("java") is None, reason="its EXI codec needs java")
def test_our_bound_is_just_above_what_its_codec_writes(tmp_path: Path) -> None:
    shapes = [
        ([599, 550, 550], [551, 550, 550], "DE83DUIEN83QGZD"),
        ([599, 550], [551, 550, 550], "DE83DUIEN83QGZ"),
        ([599], [551], "DE83DUIEN83QGZ"),
        ([800, 800, 800], [800, 800, 800], "DE83DUIEN83QGZD"),
        ([127, 128], [126], "DE83DUIEN83QGZD"),
    ]
    questions = [
        {"contract": contract, "cps": cps, "emaid": emaid.encode()} for contract, cps, emaid in shapes
    ]
    measured = ask(MEASURE, questions, tmp_path)
    for (contract, cps, emaid), length in zip(shapes, measured, strict=True):
        installation = Installation(
            Edition.PART_2, tuple(map(bytes, contract)), WrappedKey(bytes(65), bytes(48)), emaid
        )
        bound = bound_exi(installation, tuple(map(bytes, cps))).exi_bytes
        assert length <= bound <= length + 24
