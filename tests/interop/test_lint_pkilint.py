"""pkilint reads what we issue: everything that it finds is what a standard asks for, and no more.

pkilint judges by RFC 5280, which ISO 15118 and SMKI depart from. It lives in a virtual environment of its own
(`.ci/judges pkilint`), as it wants other versions of what we use, and is found in `$TRILLIUM_JUDGES/pkilint`,
by default `.judges/pkilint`.
"""

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pytest

from protocol import c509
from protocol.lint import shape_of
from protocol.profiles import PROFILES, Form
from tests.lint_samples import authority_sample, sample

ROOT: Final = Path(__file__).resolve().parents[2]
JUDGE: Final = ROOT / os.environ.get("TRILLIUM_JUDGES", ".judges") / "pkilint" / "bin" / "lint_pkix_cert"
pytestmark = [
    pytest.mark.outside,
    pytest.mark.skipif(not JUDGE.exists(), reason="pkilint is not installed: .ci/judges pkilint"),
]

ROLE: Final = "pkix.name_domain_components_invalid_domain_name"
"""DC=CPO is a role in ISO 15118, and no domain."""
CRITICAL_20: Final = {
    "pkix.certificate_skid_extension_critical",
    "pkix.authority_key_identifier_critical",
    "pkix.authority_information_access_extension_critical",
    "pkix.certificate_crldp_extension_critical",
}
"""ISO 15118-20 Annex B marks them critical, RFC 5280 says that they are not."""
ENCIPHERMENT: Final = "pkix.key_usage_value_prohibited_for_ec"
"""ISO 15118-2 asks for keyEncipherment in contracts; RFC 8813 rules it out for these keys."""
LARGE_ARC: Final = "itu.invalid_asn1_syntax"
"""pkilint's decoder reads arcs of 32 bits; our policies are below a UUID (ITU-T X.667), which has 128."""


def expected(label: str) -> set[str]:
    """What pkilint finds, as the declaration of the label has it."""
    shape = shape_of(label)
    found = set(CRITICAL_20) if shape.critical and shape.has_revocation_pointers else set()
    if shape.component is not None:
        found.add(ROLE)
    if shape.key_usage & c509.KeyUsage.KEY_ENCIPHERMENT:
        found.add(ENCIPHERMENT)
    if shape.policies:
        found.add(LARGE_ARC)
    return found


def found_by_pkilint(certificate: c509.Certificate, file: Path) -> dict[str, str]:
    """Return the code and message of each finding, from notices on."""
    file.write_bytes(certificate.to_der())
    judged = subprocess.run(
        [JUDGE, "lint", "-s", "NOTICE", "-f", "JSON", "--document-format", "DER", file],
        capture_output=True,
        check=False,
        timeout=50,
    )
    results: Iterable[dict[str, list[dict[str, str]]]] = json.loads(judged.stdout)["results"]
    return {one["code"]: one["message"] for result in results for one in result["finding_descriptions"]}


ONE_OF_EACH: Final = (
    "meter-ds", "meter-ka", "meter-tls", "meter2-ds", "smki-ds", "its-boot", "ev-oem", "ev-contract",
    "ev-secc", "ev-cps", "ev-station", "ev20-oem", "ev20-contract", "ev20-secc", "ev20-cps",
)  # fmt: skip
"""Labels whose certificates look different; the others differ from one of them in a name."""


@pytest.mark.parametrize("label", ONE_OF_EACH)
def test_pkilint_finds_what_a_standard_asks_for_and_nothing_else(label: str, tmp_path: Path) -> None:
    assert PROFILES[label].form is Form.X509
    found = found_by_pkilint(sample(label).make(), tmp_path / "certificate.der")
    assert set(found) == expected(label)
    if LARGE_ARC in found:
        assert "OID contains arc which is larger than 32-bits" in found[LARGE_ARC]


@pytest.mark.parametrize(
    ("name", "is_root"),
    [
        ("root", True), ("metering-operator", False), ("smki-root", True), ("v2g-root", True),
        ("ev-cpo-operator", False), ("ev20-cpo-operator", False), ("ev20-mo-operator", False),
    ],
)  # fmt: skip
def test_pkilint_finds_what_a_standard_asks_for_in_a_ca_and_nothing_else(
    name: str, is_root: bool, tmp_path: Path
) -> None:
    made = authority_sample(name, is_root=is_root).make()
    assert set(found_by_pkilint(made, tmp_path / "certificate.der")) == expected(name)
