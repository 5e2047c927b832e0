"""What a machine needs of a private key: an object passed in, never the key.

`agents/keys` has the implementations (files, later HSMs). A signer draws its own randomness, so the
machines stay free of it.
"""

from typing import Protocol

from protocol.cose import Algorithm, Header, Sign1, signature_input


class Signer(Protocol):
    """A private key that can sign."""

    @property
    def algorithm(self) -> Algorithm:
        """The one algorithm that this key is used with."""
        ...

    @property
    def public_key(self) -> bytes:
        """SEC1 compressed point (33, 49 or 67 bytes), or the 32 bytes of an Ed25519 key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Return r ‖ s over `data` (hashed here); for P-256 the one whose R has an even y."""
        ...


def sign1(
    signer: Signer,
    payload: bytes,
    external_aad: bytes,
    *,
    thumbprint: bytes | None = None,
    certificate: bytes | None = None,
    key_id: bytes | None = None,
) -> bytes:
    """Return a COSE_Sign1 over `payload`; exactly one of the three names the key."""
    if sum(name is not None for name in (thumbprint, certificate, key_id)) != 1:
        raise ValueError("name the key in exactly one way")
    header = Header(signer.algorithm, thumbprint, certificate, key_id)
    protected = header.encode()
    signature = signer.sign(signature_input(protected, external_aad, payload))
    return Sign1(protected, header, payload, signature).encode()
