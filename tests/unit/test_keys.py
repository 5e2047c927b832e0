import hashlib
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agents.keys import SoftwareSigner, generate, load_private_key, save_private_key, write_atomically
from protocol.cose import SIGNATURE_BYTES, Algorithm, is_signature_valid
from protocol.even_y import has_even_y


@pytest.mark.parametrize("algorithm", Algorithm)
def test_what_a_signer_signs_verifies(algorithm: Algorithm) -> None:
    key = generate(algorithm)
    signer = SoftwareSigner(key)
    signature = signer.sign(b"data")
    assert signer.algorithm is algorithm
    assert len(signature) == SIGNATURE_BYTES[algorithm]
    assert is_signature_valid(key.public_key(), algorithm, signature, b"data")
    assert not is_signature_valid(key.public_key(), algorithm, signature, b"other data")


@pytest.mark.parametrize(
    ("algorithm", "length"),
    [(Algorithm.ES256, 33), (Algorithm.ES384, 49), (Algorithm.ES512, 67), (Algorithm.EDDSA, 32)],
)
def test_public_keys_are_compressed_points_or_raw(algorithm: Algorithm, length: int) -> None:
    assert len(SoftwareSigner(generate(algorithm)).public_key) == length


def test_p256_signatures_have_an_even_y() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    signer = SoftwareSigner(key)
    for number in range(32):
        data = bytes([number])
        assert has_even_y(key.public_key(), hashlib.sha256(data).digest(), signer.sign(data))


def test_a_signer_for_certificates_does_not_pay_for_the_parity() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    signer = SoftwareSigner(key, even_y=False)
    parities = {
        has_even_y(key.public_key(), hashlib.sha256(bytes([n])).digest(), signer.sign(bytes([n])))
        for n in range(64)
    }
    assert parities == {True, False}


def test_a_signer_does_not_print_its_key() -> None:
    key = generate()
    secret = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    shown = repr(SoftwareSigner(key))
    assert "ES256" in shown
    assert secret.hex() not in shown


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
@pytest.mark.parametrize("algorithm", [Algorithm.ES256, Algorithm.EDDSA])
def test_a_key_comes_back_from_disk(tmp_path: Path, algorithm: Algorithm, passphrase: bytes | None) -> None:
    key = generate(algorithm)
    path = tmp_path / "device.key"
    save_private_key(path, key, passphrase)
    assert SoftwareSigner(load_private_key(path, passphrase)).public_key == SoftwareSigner(key).public_key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (b"ENCRYPTED" in path.read_bytes()) == (passphrase is not None)


@pytest.mark.parametrize("passphrase", [None, b"", b"wrong"])
def test_a_wrong_passphrase_names_the_file_only(tmp_path: Path, passphrase: bytes | None) -> None:
    path = tmp_path / "device.key"
    save_private_key(path, generate(), b"right")
    with pytest.raises(ValueError, match=r"device\.key: not a private key, or the passphrase") as caught:
        load_private_key(path, passphrase)
    assert "right" not in str(caught.value)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rsa.key"
    key = rsa.generate_private_key(65537, 2048)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ValueError, match="not used here"):
        load_private_key(path, None)


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise.key"
    path.write_bytes(b"noise")
    with pytest.raises(ValueError, match="not a private key"):
        load_private_key(path, None)


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")  # type: ignore[arg-type]  # provokes a failure after opening
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_a_write_replaces_the_whole_content(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_atomically(path, b"a long old content")
    write_atomically(path, b"new", mode=0o644)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
