"""Reading a native C509 certificate, against `cryptography` reading the same certificate's DER.

Both sides end with the same values in hand: serial number, algorithm, both names' common name, validity,
the public key as bytes, every extension's value, the signature, and the bytes that it is over. Our decoder is
strict about all of it before it returns; `cryptography` looks at most fields when they are asked for. It has
no way to the key's bytes but through a key object, which costs it some 12 µs for the point's arithmetic, so
the ratio without the key is shown beside. Rounds take turns in one process; a ratio is of one round.

What profiling said: of 10 µs to decode, `protocol.cbor` takes 4 (half of it cbor2, which decodes and encodes
again to compare) and 1 goes into the two dozen slots of frozen dataclasses; what is worked out late has slots
that nobody fills before (0.6 µs less). An isinstance() against an abstract class, which CBORTag is, costs ten
times a type() comparison. Issuing is half cbor2, half putting the parts together; X.509 adds some
forty DER elements. Conversion from X.509 is mostly the decompression that proves a point comes back.

    python bench/c509.py [--rounds 15] [--json FILE]
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

if not __package__:  # run as a script: the project is one folder up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bench.measure import Spread, report, rounds
from protocol import c509

COUNT = 1000
"""Repeats in a round: some 20 ms, so a round is over before the machine changes its mind."""
ISSUER = c509.Name.common_name("TRL-X")
SUBJECT = c509.Name.common_name("02-00-5E-FF-FE-00-00-01")
EXTENSIONS = (
    c509.Extension(c509.ExtensionId.KEY_USAGE, critical=True, value=c509.KeyUsage.DIGITAL_SIGNATURE),
)
KEY = ec.generate_private_key(ec.SECP256R1())
POINT = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
COMPRESSED = KEY.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


def unsigned(kind: int, extensions: tuple[c509.Extension, ...] = EXTENSIONS) -> c509.TbsCertificate:
    return c509.build_certificate(
        type=kind,
        serial=0x7123456789ABCDEF,
        issuer=ISSUER,
        subject=c509.Name.common_name("02-00-5E-FF-FE-00-00-01"),
        not_before=1_800_000_000,
        not_after=1_900_000_000,
        public_key=POINT,
        extensions=extensions,
    )


def sign(tbs: c509.TbsCertificate) -> c509.Certificate:
    r, s = decode_dss_signature(KEY.sign(tbs.to_be_signed(), ec.ECDSA(SHA256())))
    return tbs.with_signature(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


IDENTIFIERS = (
    *EXTENSIONS,
    c509.Extension(c509.ExtensionId.AUTHORITY_KEY_IDENTIFIER, critical=False, value=bytes(20)),
    c509.Extension(c509.ExtensionId.SUBJECT_KEY_IDENTIFIER, critical=False, value=bytes(range(20))),
)
SIGNATURE = sign(unsigned(c509.NATIVE)).signature


def read_c509(data: bytes) -> tuple[object, ...]:
    certificate = c509.decode_certificate(data)
    return (
        certificate.serial_number,
        certificate.signature_algorithm,
        certificate.issuer_name.cn,
        certificate.subject.cn,
        certificate.not_before,
        certificate.not_after,
        certificate.public_key_bytes,
        [extension.value for extension in certificate.extensions],
        certificate.signature,
        certificate.signed_bytes,
    )


def read_x509(data: bytes, *, with_key: bool = True) -> tuple[object, ...]:
    certificate = x509.load_der_x509_certificate(data)
    key = b""
    if with_key:
        public = certificate.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        key = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    return (
        certificate.serial_number,
        certificate.signature_algorithm_oid,
        certificate.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value,
        certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        key,
        [extension.value for extension in certificate.extensions],
        certificate.signature,
        certificate.tbs_certificate_bytes,
    )


def microseconds(work: Callable[[], object]) -> Callable[[], float]:
    """Return a contender: one round of `work`, in microseconds of this process each.

    Not of the wall clock: nothing here waits, and another process on the core is not our cost.
    """

    def one_round() -> float:
        started = time.process_time()
        for _ in range(COUNT):
            work()
        return (time.process_time() - started) / COUNT * 1e6

    return one_round


def issue(kind: int) -> c509.Certificate:
    """Do all of an issuer's work but the signature itself."""
    tbs = unsigned(kind, IDENTIFIERS)
    tbs.to_be_signed()
    return tbs.with_signature(SIGNATURE)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=15)
    arguments.add_argument("--json", type=Path, help="where the results go (bench/results/c509.json)")
    count: int = arguments.parse_args().rounds

    native, reencoded = sign(unsigned(c509.NATIVE)), sign(unsigned(c509.REENCODED))
    der = reencoded.to_der()
    ours, theirs = read_c509(native.encoded), read_x509(der)
    assert (ours[0], ours[2:4], ours[6]) == (theirs[0], theirs[2:4], theirs[6])

    contenders: dict[str, Callable[[], object]] = {
        "native": lambda: read_c509(native.encoded),
        "X.509": lambda: read_x509(der),
        "X.509 without its key": lambda: read_x509(der, with_key=False),
        "native, decode only": lambda: c509.decode_certificate(native.encoded),
        "re-encoded, decode only": lambda: c509.decode_certificate(reencoded.encoded),
        "X.509 to re-encoded": lambda: c509.from_der(der),
        "issue native": lambda: issue(c509.NATIVE),
        "issue re-encoded": lambda: issue(c509.REENCODED),
    }
    taken = dict(
        zip(contenders, rounds(count, *(microseconds(work) for work in contenders.values())), strict=True)
    )
    ratio = "native / X.509, every field"
    figures: dict[str, Spread | float | int | str] = {
        ratio: Spread.of([a / b for a, b in zip(taken["native"], taken["X.509"], strict=True)]),
        "the same, X.509 without its key": Spread.of(
            [a / b for a, b in zip(taken["native"], taken["X.509 without its key"], strict=True)]
        ),
        **{f"{name}, µs": Spread.of(values) for name, values in taken.items()},
        "native, bytes": len(native.encoded),
        "re-encoded, bytes": len(reencoded.encoded),
        "X.509, bytes": len(der),
    }
    wanted = {ratio: "<= 1.0", "issue native, µs": "<= 25", "issue re-encoded, µs": "<= 50"}
    report("c509", figures, targets=wanted)


if __name__ == "__main__":
    main()
