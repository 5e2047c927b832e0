"""Reads a tier 1 certificate that somebody hands over as a file."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agents.cli.failure import USAGE, Failure
from protocol import c509
from protocol.errors import EnrollmentError


def read_tier1(file: Path) -> bytes:
    """Return the certificate in a file (PEM, of which the first counts, DER, or C509) in its C509 form.

    Raises:
        Failure: It cannot be read, or holds none.
    """
    try:
        data = file.read_bytes()
        if data.startswith(b"-----"):
            data = x509.load_pem_x509_certificates(data)[0].public_bytes(Encoding.DER)
        if data[:1] == b"\x30":
            return c509.from_der(data).encoded
        return c509.decode_certificate(data).encoded
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}", USAGE) from None
    except (ValueError, x509.InvalidVersion, EnrollmentError) as error:
        raise Failure(f"{file}: not a certificate: {error}", USAGE) from None
