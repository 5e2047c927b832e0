"""libcoap's client before a whole authority: it asks block by block, and OpenSSL verifies what it gets."""

import shutil
from pathlib import Path

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from constrained.server import serve
from protocol import c509
from tests.rig import new_key, open_rig

CLIENT = next(
    filter(
        None,
        map(shutil.which, ("coap-client", "coap-client-notls", "coap-client-openssl", "coap-client-gnutls")),
    ),
    None,
)

pytestmark = [
    pytest.mark.outside,
    pytest.mark.skipif(CLIENT is None, reason="libcoap's coap-client is not installed"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]


def pem(certificate: c509.Certificate) -> bytes:
    return x509.load_der_x509_certificate(certificate.to_der()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize("engine", ["aiocoap", "lean"])
async def test_a_meter_enrolls_block_by_block_and_openssl_verifies_its_chain(
    engine: str, tmp_path: Path
) -> None:
    assert CLIENT is not None
    request, answer, crts = tmp_path / "request", tmp_path / "answer", tmp_path / "crts"
    async with open_rig(tmp_path) as rig:
        device, key = rig.device(), new_key()
        request.write_bytes(device.enroll(key).body)
        async with serve(
            rig.agent.handle,
            rig.agent.labels,
            bind=("127.0.0.1", 0),
            engine=engine,  # type: ignore[arg-type]  # one of the two by the parameters above
        ) as server:
            post = [CLIENT, "-B", "10", "-m", "post", "-t", "18", "-b", "64", "-f", str(request)]
            uri = server.uris[0]
            with anyio.fail_after(30):
                path = "/.well-known/est/meter-ds"
                await anyio.run_process([*post, "-o", str(answer), f"{uri}{path}/sen"])
                await anyio.run_process(
                    [CLIENT, "-B", "10", "-b", "64", "-o", str(crts), f"{uri}{path}/crts"]
                )
        root = c509.decode_certificate((rig.directory / "certificates" / "root.c509").read_bytes())
    certificate = c509.decode_certificate(answer.read_bytes())
    assert certificate.public_key_bytes == key.public_key
    assert certificate.subject.cn == device.name
    operator, domain_root, _registration = c509.decode_chain(crts.read_bytes())
    (tmp_path / "root.pem").write_bytes(pem(root))
    (tmp_path / "above.pem").write_bytes(pem(domain_root) + pem(operator))
    (tmp_path / "leaf.pem").write_bytes(pem(certificate))
    # The rig's clock is not today's.
    judged = await anyio.run_process(
        ["openssl", "verify", "-no_check_time", "-CAfile", "root.pem", "-untrusted", "above.pem", "leaf.pem"],
        cwd=tmp_path,
        check=False,
    )
    assert judged.stdout == b"leaf.pem: OK\n", judged.stderr
