"""OpenSSL verifies what a car gets: the contract's chain, and that of the service which vouched for it."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from protocol.ev import CpsPackage
from protocol.ports import Content
from tests.contract_world import NOW, scene

OPENSSL = shutil.which("openssl")
pytestmark = [
    pytest.mark.outside,
    pytest.mark.skipif(OPENSSL is None, reason="the openssl program is not installed"),
]


@pytest.mark.parametrize("is_prepared", [True, False])
def test_openssl_verifies_the_chains_of_a_package(tmp_path: Path, is_prepared: bool) -> None:
    """Part 2 alone: OpenSSL knows no critical key identifiers, which part 20 asks for."""
    with scene(tmp_path) as found:
        car = found.car()
        found.grant(car)
        assert found.prepare() == 1 if is_prepared else True
        reply = found.ask(car.request(bytes(16)))
        assert isinstance(reply, Content)
        package = CpsPackage.decode(reply.body)
    for root, chain in (("mo-root", package.installation.contract_chain), ("v2g-root", package.cps_chain)):
        leaf, *above = [x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in chain]
        (tmp_path / "leaf.pem").write_bytes(leaf)
        (tmp_path / "above.pem").write_bytes(b"".join(above))
        anchor = tmp_path / "authority" / "certificates" / f"{root}.pem"
        command = [OPENSSL, "verify", "-x509_strict", "-attime", NOW, "-CAfile", anchor]
        command += ["-untrusted", tmp_path / "above.pem", tmp_path / "leaf.pem"]
        ended = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, check=False, timeout=30
        )
        assert ended.stdout.endswith("leaf.pem: OK\n"), ended.stdout + ended.stderr
