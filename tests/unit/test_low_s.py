"""The smaller of the two s of an ECDSA signature."""

import pytest

from agents.keys import SoftwareSigner, generate
from protocol.cose import Algorithm, is_signature_valid
from protocol.low_s import with_low_s

ECDSA = [Algorithm.ES256, Algorithm.ES384, Algorithm.ES512]


def twins(algorithm: Algorithm) -> tuple[SoftwareSigner, bytes, bytes]:
    """Return a signer, and the two forms of a signature of b"text"; the smaller s first."""
    signer = SoftwareSigner(generate(algorithm), even_y=False)
    low = signer.sign(b"text")
    half = len(low) // 2
    # n is the sum of the two: found here with the signer's own key, not taken from the code under test.
    order = signer._key.private_numbers().public_numbers.curve  # type: ignore[union-attr]
    n = {
        "secp256r1": 2**256 - 2**224 + 2**192 - 0x4319055258E8617B0C46353D039CDAAF,
        "secp384r1": 2**384 - 0x389CB27E0BC8D220A7E5F24DB74F58851313E695333AD68D,
        "secp521r1": 2**521 - 0x5AE79787C40D069948033FEB708F65A2FC44A36477663B851449048E16EC79BF7,
    }[order.name]
    s = int.from_bytes(low[half:], "big")
    return signer, low, low[:half] + (n - s).to_bytes(half, "big")


@pytest.mark.parametrize("algorithm", ECDSA)
def test_both_forms_verify_and_only_the_smaller_one_is_kept(algorithm: Algorithm) -> None:
    signer, low, high = twins(algorithm)
    key = signer._public_key
    assert is_signature_valid(key, algorithm, low, b"text")
    assert is_signature_valid(key, algorithm, high, b"text")
    assert low != high
    assert with_low_s(algorithm, low) == low
    assert with_low_s(algorithm, high) == low


@pytest.mark.parametrize("algorithm", ECDSA)
def test_who_signs_certificates_takes_the_smaller_s(algorithm: Algorithm) -> None:
    signer = SoftwareSigner(generate(algorithm), even_y=False)
    for number in range(20):
        signature = signer.sign(bytes([number]))
        assert with_low_s(algorithm, signature) == signature


def test_an_ed25519_signature_has_one_form_only() -> None:
    signature = SoftwareSigner(generate(Algorithm.EDDSA)).sign(b"text")
    assert with_low_s(Algorithm.EDDSA, signature) == signature
