"""COSEMpdu, another A-XDR coder, writes our envelopes and requests from their fields, and reads ours back.

It needs Python 3.12, so it has a virtual environment of its own, made by `.ci/judges cosempdu` (`PYTHON` may
name one that is not on the path) and found in `$TRILLIUM_JUDGES/cosempdu`, by default `.judges/cosempdu`. It
is asked in JSON through a pipe.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from agents.keys import SoftwareSigner
from protocol.metering import axdr, envelope, setup
from protocol.metering.agreement import sign_ephemeral
from protocol.metering.keys import KeyKind
from protocol.metering.setup import (
    ByEntity,
    BySerial,
    CertificateType,
    Entity,
    ExportCertificate,
    GenerateCertificateRequest,
    GenerateKeyPair,
    ImportCertificate,
    KeyAgreement,
    KeyPair,
    KeyTransfer,
    RemoveCertificate,
    Response,
)
from protocol.metering.suite import SUITES, Suite
from protocol.metering.title import SystemTitle

ROOT: Final = Path(__file__).parents[2]
PYTHON: Final = ROOT / os.environ.get("TRILLIUM_JUDGES", ".judges") / "cosempdu" / "bin" / "python"
pytestmark = [
    pytest.mark.outside,
    pytest.mark.skipif(
        not PYTHON.exists(),
        reason="COSEMpdu is not installed (it needs Python 3.12): run `.ci/judges cosempdu`",
    ),
]
both_suites = pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: f"suite {suite.number}")

BEGIN: Final = """
import json, sys
from COSEMpdu import apdu
from COSEMpdu.byte_buffer import ByteBuffer

def write(made, length):
    buffer = ByteBuffer.allocate(length)
    assert made.put(buffer) == length
    return bytes(buffer.buf)

asked, told = json.load(sys.stdin), []
"""
END: Final = """
print("told " + json.dumps(told))
"""
WRITE: Final = """
for fields, length in asked:
    made = apdu.GeneralSigning(*(apdu.OctetStringType(bytes.fromhex(one)) for one in fields))
    told.append(write(made, length).hex())
"""
READ: Final = """
for octets in asked:
    data = bytes.fromhex(octets)
    kind = {0xDF: apdu.GeneralSigning, 0xC3: apdu.ActionRequest, 0xC7: apdu.ActionResponse}[data[0]]
    buffer = ByteBuffer.wrap(bytearray(data))
    made = kind.get(buffer)
    assert isinstance(made, kind), made
    assert buffer.remaining() == 0
    told.append(write(made, len(data)).hex())
"""
HEAD_END: Final = SystemTitle.of_maker("TRL", 1)
METER: Final = SystemTitle.of_maker("TRL", 2)


def ask(program: str, questions: list[Any], folder: Path) -> list[Any]:
    """Run `program` in the judge's Python, in `folder`, and return what it tells."""
    done = subprocess.run(
        [PYTHON, "-c", BEGIN + program + END],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        timeout=50,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("told "))
    return list(json.loads(line.removeprefix("told ")))


def envelopes(suite: Suite) -> list[envelope.GeneralSigning]:
    signer = SoftwareSigner(ec.generate_private_key(suite.curve))
    return [
        envelope.sign(
            signer,
            transaction_id=bytes(identifier),
            originator=HEAD_END,
            recipient=METER,
            content=bytes(length),
            date_time=bytes(date_time),
            other_information=bytes(other),
        )
        for identifier, length, date_time, other in (
            (8, 13, 0, 0),
            (8, 127, 12, 127),
            (16, 128, 0, 128),
            (0, 200, 0, 0),
            (8, 255, 12, 3),
            (8, 256, 12, 19),
            (8, 4096, 0, 0),
        )
    ]


@both_suites
def test_cosempdu_writes_our_envelopes_octet_for_octet(suite: Suite, tmp_path: Path) -> None:
    ours = envelopes(suite)
    questions = [
        (
            [
                one.transaction_id.hex(),
                one.originator.octets.hex(),
                one.recipient.octets.hex(),
                one.date_time.hex(),
                one.other_information.hex(),
                one.content.hex(),
                one.signature.hex(),
            ],
            len(one.encode()),
        )
        for one in ours
    ]
    assert ask(WRITE, questions, tmp_path) == [one.encode().hex() for one in ours]


@both_suites
def test_cosempdu_reads_our_envelopes_and_writes_them_again(suite: Suite, tmp_path: Path) -> None:
    ours = [one.encode().hex() for one in envelopes(suite)]
    assert ask(READ, ours, tmp_path) == ours


@both_suites
def test_cosempdu_reads_our_requests_and_answers(suite: Suite, tmp_path: Path) -> None:
    signer = SoftwareSigner(ec.generate_private_key(suite.curve))
    key_data = {
        kind: sign_ephemeral(suite, signer, kind, ec.generate_private_key(suite.curve).public_key())
        for kind in KeyKind
    }
    actions: list[setup.Action] = [
        KeyTransfer({KeyKind.UNICAST: bytes(suite.key_bytes + 8)}),
        KeyAgreement(key_data),
        GenerateKeyPair(KeyPair.TLS),
        GenerateCertificateRequest(KeyPair.DIGITAL_SIGNATURE),
        ImportCertificate(bytes(600)),
        ExportCertificate(BySerial(b"\x01", b"CA")),
        RemoveCertificate(ByEntity(Entity.SERVER, CertificateType.DIGITAL_SIGNATURE, METER)),
    ]
    responses = [
        Response(0),
        Response(3),
        Response(0, setup.entries(key_data)),
        Response(0, axdr.octet_string(bytes(300))),
    ]
    ours = [setup.encode_request(action).hex() for action in actions]
    ours += [setup.encode_response(response).hex() for response in responses]
    assert ask(READ, ours, tmp_path) == ours
