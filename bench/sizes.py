"""Bytes on the wire of one enrollment, without envelopes: the request, the answer, and what EST-coaps sends.

Nothing here is timed. RFC 9148's own example is 399 + 626 bytes after a DTLS handshake. The certificates
are issued by the issuer that serves, under an issuer name of five characters.
"""

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from agents.authority.intents import new_serial
from agents.authority.issuer import Issuer, ToBeIssued
from agents.keys import SoftwareSigner, generate
from bench.measure import Spread, report
from protocol import c509
from protocol.cose import Algorithm
from protocol.exchange.request import Door, certification_request, sign_request
from protocol.labels import Operation
from protocol.profiles import profile_of

NAMES = {"its-enroll": "02-00-5E-10-00-00-00-01", "meter-ds": "54524C0000000001"}
EST_COAPS = 399 + 626
"""Bytes of a request and its answer in RFC 9148, appendix A.2."""


def issuer() -> Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "TRL-X")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Issuer(key, c509.from_der(certificate.public_bytes(Encoding.DER)))


def main() -> None:
    figures: dict[str, Spread | float | int | str] = {}
    ca = issuer()
    for label, name in NAMES.items():
        new_key = SoftwareSigner(generate())
        order = ToBeIssued(
            profile_of(label),
            new_serial(),
            name,
            1_800_000_000,
            1_900_000_000,
            Algorithm.ES256,
            new_key.public_key,
        )
        certificate = ca.issue(order)
        door = Door(bytes(32), label, Operation.SEN, 0)
        inner = certification_request(c509.Name.common_name(name), new_key)
        request = sign_request(SoftwareSigner(generate()), certificate, door, inner)
        figures[f"{label}: request"] = len(request)
        figures[f"{label}: answer"] = len(certificate)
        figures[f"{label}: % of EST-coaps' example"] = 100 * (len(request) + len(certificate)) / EST_COAPS
    targets = {"its-enroll: request": "<= 203", "its-enroll: answer": "<= 145"}
    report("sizes", figures, targets={**targets, "meter-ds: request": "<= 210", "meter-ds: answer": "<= 200"})


if __name__ == "__main__":
    main()
