"""OpenSSL reads what lint says conforms, and says the same of it."""

import re
import shutil
import subprocess

import pytest

from protocol.lint import lint, shape_of
from protocol.profiles import PROFILES, Form
from tests.lint_samples import sample

OPENSSL = shutil.which("openssl")
pytestmark = [
    pytest.mark.outside,
    pytest.mark.skipif(OPENSSL is None, reason="the openssl program is not installed"),
]

_USAGES = {
    1: "Digital Signature", 2: "Non Repudiation", 4: "Key Encipherment", 16: "Key Agreement",
}  # fmt: skip


def read(der: bytes) -> str:
    """Return the certificate as OpenSSL tells it."""
    assert OPENSSL is not None
    told = subprocess.run(
        [OPENSSL, "x509", "-inform", "DER", "-noout", "-text", "-nameopt", "RFC2253"],
        input=der,
        capture_output=True,
        check=True,
        timeout=20,
    )
    return told.stdout.decode()


def value_of(told: str, extension: str) -> tuple[bool, str] | None:
    """Return whether an extension is critical and what it says; None where there is none."""
    found = re.search(rf"X509v3 {extension}: ?(critical)?\s*\n\s*(.*)", told)
    return None if found is None else (found[1] is not None, found[2].strip())


@pytest.mark.parametrize("label", [label for label in PROFILES if PROFILES[label].form is Form.X509])
def test_openssl_reads_the_same_as_lint(label: str) -> None:
    made = sample(label).make()
    der = made.to_der()
    shape = shape_of(label)
    assert lint(made, der, shape) == ()
    told = read(der)
    assert "Version: 3" in told
    usages = ", ".join(word for bit, word in _USAGES.items() if shape.key_usage & bit)
    assert value_of(told, "Key Usage") == (True, usages)
    constraints = value_of(told, "Basic Constraints")
    assert constraints == ((True, "CA:FALSE") if shape.constraints else None)
    identifier = value_of(told, "Subject Key Identifier")
    assert identifier is not None
    assert identifier[0] == (1 in shape.critical)
    assert len(identifier[1].split(":")) == shape.key_identifier_bytes
    assert (value_of(told, "Certificate Policies") is not None) == bool(shape.policies)
    assert (value_of(told, "CRL Distribution Points") is not None) == shape.has_revocation_pointers
    assert ("Not After : Dec 31 23:59:59 9999" in told) == (shape.validity is None)
    if shape.component is not None:
        assert f"DC={shape.component}" in told
    if shape.is_alternative:
        assert re.search(r"Subject: ?\n", told)
        alternative = value_of(told, "Subject Alternative Name")
        assert alternative is not None
        # Versions differ in how much of an otherName they tell.
        assert alternative[0]
        assert alternative[1].startswith("othername:")
