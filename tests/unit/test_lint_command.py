"""`trillium lint`: what is read, what is printed, how it ends; and what inspect says of a profile."""

import base64
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agents.cli import app
from agents.inspect import Finding, inspect
from protocol import c509
from protocol.c509 import ExtensionId, KeyUsage
from protocol.cose import Algorithm
from tests.lint_samples import NOW, Sample, authority_sample, sample, signer

GOOD = sample("ev-secc").make()
WRONG = sample("ev-secc").usage(KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT).make()


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def lint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(data: bytes, *arguments: str) -> Ended:
        file = tmp_path / "certificate"
        file.write_bytes(data)
        code = app.run(["lint", str(file), *arguments])
        captured = capsys.readouterr()
        return Ended(code, captured.out.replace(str(file), "FILE"), captured.err.replace(str(file), "FILE"))

    return run


def pem(*certificates: c509.Certificate) -> bytes:
    return b"".join(
        b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(one.to_der()) + b"-----END CERTIFICATE-----\n"
        for one in certificates
    )


def test_a_certificate_that_fits_ends_with_0(lint: Any) -> None:
    ended = lint(pem(GOOD), "--label", "ev-secc")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "FILE: fits ev-secc (ISO 15118-2 SECC leaf)",
        "(its issuer's certificate is not here, so its signature was not verified)",
    ]


def test_a_deviation_is_a_line_with_its_requirement_and_ends_with_1(lint: Any) -> None:
    ended = lint(pem(WRONG), "--label", "ev-secc")
    assert (ended.code, ended.err) == (1, "")
    first, headings, line, *_ = ended.out.splitlines()
    assert first == "FILE: 1 deviation from ev-secc (ISO 15118-2 SECC leaf): 1 error"
    assert headings.split() == ["rule", "found", "expected", "requirement"]
    for word in (
        "error",
        "key-usage",
        "digitalSignature, keyAgreement",
        "digitalSignature alone",
        "[V2G2-822]",
    ):
        assert word in line


def test_a_warning_is_a_deviation_too(lint: Any) -> None:
    wrong = sample("ev-secc").without(ExtensionId.AUTHORITY_INFO_ACCESS).make()
    ended = lint(wrong.encoded, "--label", "ev-secc")
    assert ended.code == 1
    assert ended.out.startswith("FILE: 1 deviation from ev-secc (ISO 15118-2 SECC leaf): 1 warning\n")


def test_json_has_every_deviation(lint: Any) -> None:
    ended = lint(WRONG.to_der(), "--label", "ev-secc", "--json")
    assert ended.code == 1
    assert ended.json == {
        "label": "ev-secc",
        "title": "ISO 15118-2 SECC leaf",
        "version": 1,
        "fits": False,
        "errors": 1,
        "warnings": 0,
        "deviations": [
            {
                "rule": "key-usage",
                "severity": "error",
                "found": "digitalSignature, keyAgreement",
                "expected": "digitalSignature alone",
                "requirement": "ISO 15118-2 Annex F; [V2G2-822]",
            }
        ],
        "notes": ["its issuer's certificate is not here, so its signature was not verified"],
    }
    assert lint(GOOD.to_der(), "--label", "ev-secc", "--json").json["fits"] is True


@pytest.mark.parametrize(
    "data",
    [
        pem(GOOD),
        GOOD.to_der(),
        GOOD.encoded,
        GOOD.encoded[1:],
        c509.encode_chain([GOOD]),
        GOOD.to_der().hex().encode(),
        base64.encodebytes(GOOD.encoded),
    ],
    ids=["PEM", "DER", "C509", "older C509", "COSE_C509", "hex", "base64"],
)
def test_every_form_of_a_certificate_is_read(lint: Any, data: bytes) -> None:
    assert lint(data, "--label", "ev-secc").code == 0
    assert lint(data, "--label", "ev-cps").code == 1


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(pem(GOOD))))
    assert app.run(["lint", "-", "--label", "ev-secc"]) == 0
    assert capsys.readouterr().out.startswith("standard input: fits ev-secc")


def ca_of(leaf: Sample) -> Sample:
    """The CA whose key signed the samples, by the name that they say."""
    ca = authority_sample("ev-cpo-operator", is_root=False)
    own = leaf.find(ExtensionId.AUTHORITY_KEY_IDENTIFIER)
    assert own is not None
    return ca.but(subject=leaf.issuer_name, key=leaf.issuer).having(
        ExtensionId.SUBJECT_KEY_IDENTIFIER, own.value
    )


CA = ca_of(sample("ev-secc"))
STRANGER = CA.but(key=signer(Algorithm.ES256, "stranger"))


def test_of_a_chain_the_first_is_judged_and_the_next_is_its_issuer(lint: Any) -> None:
    key = signer(Algorithm.ES256)._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for chain in (pem(GOOD, CA.make()), c509.encode_chain([GOOD, CA.make()]), key + pem(GOOD, CA.make())):
        ended = lint(chain, "--label", "ev-secc")
        assert (ended.code, ended.out) == (0, "FILE: fits ev-secc (ISO 15118-2 SECC leaf)\n")
    ended = lint(pem(GOOD, STRANGER.make()), "--label", "ev-secc", "--json")
    assert [one["rule"] for one in ended.json["deviations"]] == ["signature"]


def test_the_issuer_may_be_in_a_file_of_its_own(lint: Any, tmp_path: Path) -> None:
    issuer = tmp_path / "issuer.pem"
    issuer.write_bytes(pem(STRANGER.make()))
    assert lint(pem(GOOD), "--label", "ev-secc", "--issuer", str(issuer)).code == 1
    issuer.write_bytes(CA.make().encoded)
    assert lint(pem(GOOD), "--label", "ev-secc", "--issuer", str(issuer)).code == 0
    issuer.write_bytes(pem(WRONG))
    ended = lint(pem(GOOD), "--label", "ev-secc", "--issuer", str(issuer))
    assert ended.code == 2
    assert "has no certificate of CN=TRL sub-CA" in ended.err


def test_a_ca_is_judged_by_its_name(lint: Any) -> None:
    root = authority_sample("v2g-root", is_root=True).make()
    assert lint(pem(root), "--label", "v2g-root").out == "FILE: fits v2g-root (ISO 15118-2 V2G root)\n"
    assert lint(pem(root), "--label", "mo-root").code == 1
    # A private operator's root issues leaves itself.
    alone = authority_sample("ev-cpo-operator", is_root=True).make()
    assert lint(pem(alone), "--label", "ev-cpo-operator").code == 0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (GOOD.to_der()[:300], "cannot be re-encoded"),
        (GOOD.to_der() + b"\n", "1 more bytes follow the certificate"),
        (b"\x30\x03\x02\x01\x01", "cannot be re-encoded"),
    ],
)
def test_what_cannot_be_read_is_one_clear_line(lint: Any, data: bytes, words: str) -> None:
    ended = lint(data, "--label", "ev-secc")
    assert (ended.code, ended.err) == (1, "")
    assert words in ended.out
    assert "(what cannot be read was not judged further)" in ended.out


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "FILE: it is empty"),
        (b"hello, world\n", "this looks like text"),
        (b"\x8b\x02", "truncated C509"),
        (b"\xff" * 40, "nothing that is known here"),
        (b"x" * 1100000, "longer than"),
        (pem(GOOD)[:200], "truncated PEM"),
        (
            signer(Algorithm.ES256)._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "this is no certificate, but: Private key: not shown",
        ),
        (
            signer(Algorithm.ES256)._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
            "this is no certificate, but: Private key: not shown",
        ),
    ],
)
def test_what_is_no_certificate_is_a_usage_error(lint: Any, data: bytes, words: str) -> None:
    ended = lint(data, "--label", "ev-secc")
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err
    assert ended.err.count("\n") == 1


def test_what_is_not_there_is_a_usage_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in (tmp_path / "nothing", tmp_path):
        assert app.run(["lint", str(name), "--label", "ev-secc"]) == 2
        assert str(name) in capsys.readouterr().err


def test_an_unknown_label_is_told_the_nearest(lint: Any) -> None:
    ended = lint(pem(GOOD), "--label", "ev-sec")
    assert ended.code == 2
    assert "no such label" in ended.err
    assert "ev-secc" in ended.err
    assert "meter-ds" in lint(pem(GOOD), "--label", "?").err
    assert lint(pem(GOOD)).code == 2


def test_what_a_certificate_says_moves_no_cursor(lint: Any) -> None:
    wrong = sample("ev-secc").with_attribute(1, "\x1b[2J\u202eDETRLS").make()
    ended = lint(pem(wrong), "--label", "ev-secc")
    assert ended.code == 1
    assert "\x1b" not in ended.out
    assert "\u202e" not in ended.out


def profile_said(certificate: c509.Certificate) -> str:
    (found,) = inspect(certificate.to_der(), NOW)
    return next((field.text for field in found.fields if field.name == "profile"), "")


def test_inspect_names_the_profile_that_a_certificate_fits() -> None:
    assert profile_said(GOOD) == "ev-secc (ISO 15118-2 SECC leaf), fits"
    ds = profile_said(sample("meter-ds").make())
    assert ds == "meter-ds (IEC 62056 C(DataSign)) or client-ds (IEC 62056 C(DataSign)), fits"


def test_inspect_names_the_nearest_profile_and_how_far_it_is() -> None:
    said = profile_said(WRONG)
    assert said == "none; nearest: ev-secc (ISO 15118-2 SECC leaf), 1 deviation (see trillium lint)"
    (found,) = inspect(WRONG.to_der(), NOW)
    assert found.to_json()["profile"] == {"nearest": ["ev-secc"], "deviations": 1}


def test_inspect_names_a_ca_and_no_more_than_a_few_that_look_alike() -> None:
    said = profile_said(authority_sample("v2g-root", is_root=True).make())
    assert said.startswith("v2g-root (ISO 15118-2 V2G root) or ")
    assert said.endswith(", fits")
    said = profile_said(authority_sample("metering-operator", is_root=False).make())
    assert said.startswith("metering-operator (IEC 62056 CA) or metering-maker")
    assert "more, fits" in said


def test_inspect_says_nothing_of_profiles_where_none_is_near() -> None:
    key = signer(Algorithm.ES384)
    far = Sample(subject=c509.Name(((9, "x"), (1, "www.example"))), key=key, issuer=key, extensions=()).make()
    found: Finding
    (found,) = inspect(far.to_der(), NOW)
    assert "profile" not in {field.name for field in found.fields}
