"""OpenSSL asks a `serve` that really runs, over OCSP and for revocation lists, and checks what it gets."""

import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agents.authority import Layout, open_store, read_settings, show_device
from protocol import c509
from protocol.labels import Domain
from tests.integration.cli_world import FREE, Serving, as_json, done, serving, until

pytestmark = [
    pytest.mark.outside,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]


def openssl(*arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run it."""
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


@dataclass(frozen=True)
class Place:
    """An authority that serves, and a meter with a certificate."""

    directory: Path
    serve: Serving
    meter: str
    folder: Path

    @property
    def issuer(self) -> Path:
        line = read_settings(self.directory).lines(Domain.METERING).operator
        return Layout(self.directory).certificate(line[-1].name)

    def chain(self) -> Path:
        line = read_settings(self.directory).lines(Domain.METERING).operator
        path = self.folder / "chain.pem"
        path.write_bytes(b"".join(Layout(self.directory).certificate(ca.name).read_bytes() for ca in line))
        return path

    def leaf(self) -> Path:
        with open_store(self.directory) as store:
            held = show_device(store, self.meter).certificates[-1]
        certificate = x509.load_der_x509_certificate(c509.decode_certificate(held.encoded).to_der())
        path = self.folder / "leaf.pem"
        path.write_bytes(certificate.public_bytes(Encoding.PEM))
        return path

    def ask(self, *options: object) -> "subprocess.CompletedProcess[str]":
        url = self.serve.uri("http")
        return openssl("ocsp", "-issuer", self.issuer, "-CAfile", self.chain(), "-url", url, *options)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("ocsp")
    directory = folder / "authority"
    done("init", directory, "--roots", folder / "roots")
    (folder / "roots").rename(folder / "far-away")
    made = as_json("factory", directory, "--label", "meter-boot", "--count", 1, "--out", folder / "meters")
    meter = made["devices"][0]
    with serving(directory, "--coap", FREE, "--mqtt", "none", "--ocsp", FREE) as serve:
        done("device", "enroll", "--identity", folder / "meters" / meter, "--via", serve.uri("coap"))
        yield Place(directory, serve, meter, folder)


@pytest.mark.parametrize("options", [(), ("-no_nonce",), ("-sha256",), ("-sha512",)])
def test_a_certificate_is_good_by_a_signature_that_openssl_accepts(
    place: Place, options: tuple[str, ...]
) -> None:
    answer = place.ask(*options, "-cert", place.leaf())
    assert "Response verify OK" in answer.stderr
    assert f"{place.leaf()}: good" in answer.stdout


def test_one_that_was_never_issued_is_unknown(place: Place) -> None:
    answer = place.ask("-serial", "0x0123456789abcdef")
    assert "Response verify OK" in answer.stderr
    assert "0x0123456789abcdef: unknown" in answer.stdout


def test_another_issuer_is_unauthorized(place: Place) -> None:
    root = place.chain().with_name("root.pem")
    root.write_text(
        place.chain().read_text().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    )
    answer = openssl("ocsp", "-issuer", root, "-url", place.serve.uri("http"), "-serial", "5")
    assert "unauthorized (6)" in answer.stdout + answer.stderr


def test_a_revoked_certificate_is_refused_by_ocsp_and_by_the_list(place: Place) -> None:
    leaf, chain = place.leaf(), place.chain()
    base = place.serve.uri("http").removesuffix("/ocsp")
    name = read_settings(place.directory).lines(Domain.METERING).operator[-1].name
    revocations = place.folder / "list.pem"

    def verdict() -> "subprocess.CompletedProcess[str]":
        with urllib.request.urlopen(f"{base}/crl/{name}.crl", timeout=10) as response:
            assert response.headers["Content-Type"] == "application/pkix-crl"
            loaded = x509.load_der_x509_crl(response.read())
        revocations.write_bytes(loaded.public_bytes(Encoding.PEM))
        return openssl("verify", "-crl_check", "-CRLfile", revocations, "-CAfile", chain, leaf)

    assert verdict().returncode == 0, verdict().stderr
    serial = c509.from_der(
        x509.load_pem_x509_certificate(leaf.read_bytes()).public_bytes(Encoding.DER)
    ).serial
    done("revoke", place.directory, serial.hex(), "--reason", "key-compromise")
    took = until(lambda: f"{leaf}: revoked" in place.ask("-cert", leaf).stdout, 5)
    assert took < 2, "each look of openssl's takes a tenth of a second"
    answer = place.ask("-cert", leaf)
    assert "Response verify OK" in answer.stderr
    assert "Reason: keyCompromise" in answer.stdout
    until(lambda: "certificate revoked" in verdict().stderr, 5)
