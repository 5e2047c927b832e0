"""Certificates and files that no issuer would make: they are refused, and nobody trips over them."""

import base64
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from agents.authority import Layout
from agents.authority.acquaintance import read_chain
from agents.authority.verification import Verified, Verifier
from agents.cli import app
from agents.cli.failure import Failure
from agents.cli.tier1_file import read_tier1
from agents.inspect import Given, given_certificate, inspect
from protocol import c509
from protocol.cose import Algorithm
from protocol.errors import MalformedMessage, ProblemKind
from protocol.ev.installation import load_certificate
from protocol.exchange.authority_effects import Verify
from protocol.low_s import with_low_s
from protocol.ports import Content, Reply
from protocol.problem import Problem
from tests.ev_world import EvWorld
from tests.rig import NOW, Device, new_key, open_rig

ORDERS = {Algorithm.ES256: 32, Algorithm.ES384: 48, Algorithm.ES512: 66}


@pytest.mark.parametrize(("algorithm", "half"), ORDERS.items())
def test_a_number_beyond_the_order_has_no_smaller_form(algorithm: Algorithm, half: int) -> None:
    junk = b"\xff" * (2 * half)
    assert with_low_s(algorithm, junk) == junk


def with_signature(encoded: bytes, signature: bytes) -> bytes:
    """Return a certificate with another signature of the same length."""
    own = c509.decode_certificate(encoded).signature
    assert encoded.endswith(own)
    return encoded[: -len(own)] + signature


def in_the_name_of(device: Device, signature: bytes) -> Device:
    """Return the device with a bootstrap certificate that says its maker made it, and is signed by nobody."""
    key, encoded = device.credentials[device.boot]
    return device.holding(device.boot, key, with_signature(encoded, signature))


@pytest.mark.parametrize("signature", [b"\xff" * 64, bytes(64), bytes(32) + b"\xff" * 32])
async def test_a_bootstrap_certificate_with_an_impossible_signature_does_not_end_the_authority(
    tmp_path: Path, signature: bytes
) -> None:
    async with open_rig(tmp_path) as rig:
        stranger = in_the_name_of(rig.device(is_registered=False), signature)
        reply = await rig.agent.handle(stranger.enroll(new_key(), by_value=True))
        assert isinstance(reply, Problem)
        assert reply.kind is not ProblemKind.UNAVAILABLE, "we judged it, and did not trip"
        honest = await rig.agent.handle(rig.device().enroll(new_key()))
        assert isinstance(honest, Content), "everybody else is served"


VERSION_3 = bytes.fromhex("a003020102")
"""Version field of an X.509 certificate."""


def with_version(version: int) -> bytes:
    """Return a station's certificate that says it is of another version."""
    der = EvWorld().secc().certificate.to_der()
    assert der.count(VERSION_3) == 1
    return der.replace(VERSION_3, VERSION_3[:-1] + bytes([version]))


@pytest.mark.parametrize("version", [1, 3, 0x62, 0xFF])
def test_a_certificate_of_a_version_that_is_none_is_told_from_a_good_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: int
) -> None:
    der = with_version(version)
    assert given_certificate(der) == Given(der, None), "a broken one"
    with pytest.raises(MalformedMessage):
        load_certificate(der)
    (tmp_path / "file").write_bytes(der)
    assert app.run(["lint", str(tmp_path / "file"), "--label", "ev-secc"]) == 1
    assert "version" in capsys.readouterr().out


def test_so_it_is_in_a_makers_chain_and_in_a_device_certificate(tmp_path: Path) -> None:
    text = base64.encodebytes(with_version(0x62)).decode()
    file = tmp_path / "file"
    file.write_text(f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n")
    with pytest.raises(MalformedMessage, match="not a certificate"):
        read_chain(file, Layout(tmp_path))
    with pytest.raises(Failure, match="not a certificate"):
        read_tier1(file)


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
def test_a_negative_serial_number_is_shown_as_it_is() -> None:
    certificate = EvWorld().secc().certificate
    der, serial = bytearray(certificate.to_der()), certificate.serial
    place = der.index(b"\x02" + bytes([len(serial)]) + serial) + 2
    der[place] |= 0x80
    (finding,) = inspect(bytes(der), NOW)
    (shown,) = [field for field in finding.fields if field.name == "serial number"]
    assert shown.text.startswith("-")


async def test_a_fault_of_ours_in_one_request_is_not_everybodys_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody knows such a request; so the fault is put in."""
    async with open_rig(tmp_path) as rig:
        devices = [rig.device() for _ in range(6)]
        requests = [device.enroll(new_key()) for device in devices]
        real, hard = Verifier.verify, requests[3].body[-8:]

        def trips(self: Verifier, checks: Sequence[Verify]) -> list[Verified]:
            if any(check.outer.signature.endswith(hard) for check in checks):
                raise ZeroDivisionError
            return real(self, checks)

        monkeypatch.setattr(Verifier, "verify", trips)
        replies: dict[int, Reply] = {}

        async def ask(number: int) -> None:
            replies[number] = await rig.agent.handle(requests[number])

        async with anyio.create_task_group() as tasks:
            for number in range(len(requests)):
                tasks.start_soon(ask, number)
        assert [isinstance(replies[number], Content) for number in range(6)] == [n != 3 for n in range(6)]
        put_off = replies[3]
        assert isinstance(put_off, Problem)
        assert put_off.kind is ProblemKind.UNAVAILABLE
        assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
            "a fault of ours"
        ]
        monkeypatch.undo()
        assert isinstance(await rig.agent.handle(devices[0].enroll(new_key())), Content), "it goes on"
