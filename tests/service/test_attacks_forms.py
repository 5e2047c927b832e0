"""Certificates and files that no issuer would make: they are refused, and nobody trips over them."""

from pathlib import Path

import pytest

from protocol import c509
from protocol.cose import Algorithm
from protocol.errors import ProblemKind
from protocol.low_s import with_low_s
from protocol.ports import Content
from protocol.problem import Problem
from tests.rig import Device, new_key, open_rig

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
