"""DER objects in words: certificates and requests through C509 where they fit, all else as OpenSSL reads it.

Private keys are recognised and never shown: only their public half and its fingerprint are.
"""

import hashlib
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates
from cryptography.x509.oid import ObjectIdentifier

from agents.inspect import words
from agents.inspect.certificates import explain_certificate, explain_request
from agents.inspect.finding import Field, Finding
from protocol import c509

MAX_LISTED: Final = 20
"""Most revoked certificates that are listed one by one."""
_ERRORS: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)


def explain_der(data: bytes, now: float) -> Finding | None:
    """Return one DER object in words, or None if it is none that is known."""
    for explain in (_certificate, _request, _crl, _private_key, _public_key, _pkcs7):
        try:
            finding = explain(data, now)
        except _ERRORS:
            continue
        if finding is not None:
            return finding
    return None


def _certificate(data: bytes, now: float) -> Finding:
    certificate = x509.load_der_x509_certificate(data)
    try:
        return explain_certificate(c509.from_der(data), now, der=data)
    except c509.NotConvertible as error:
        reason = str(error)
    not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    fields = [
        Field("subject", certificate.subject.rfc4514_string() or "(none)"),
        Field("issuer", certificate.issuer.rfc4514_string()),
        Field("serial number", _serial(certificate.serial_number)),
        Field("valid from", words.moment(_seconds(not_before)), _seconds(not_before)),
        Field("valid until", words.moment(_seconds(not_after)), _seconds(not_after)),
        Field("valid now", words.validity(_seconds(not_before), _seconds(not_after), now)),
        Field("public key", _key_words(certificate.public_key())),
        Field("signature", _oid_words(certificate.signature_algorithm_oid)),
        Field("size", f"{len(data)} bytes as DER", {"der": len(data)}),
        Field("fingerprint", f"{hashlib.sha256(data).hexdigest()} (SHA-256 of the DER)"),
    ]
    return Finding(
        "x509-certificate", "X.509 certificate", tuple(fields), (f"cannot travel as C509: {reason}",)
    )


def _request(data: bytes, _now: float) -> Finding:
    request = x509.load_der_x509_csr(data)
    try:
        return explain_request(c509.request_from_der(data), der=data)
    except c509.NotConvertible as error:
        reason = str(error)
    proof = "verifies" if request.is_signature_valid else "does NOT verify"
    fields = (
        Field("subject", request.subject.rfc4514_string() or "(none)"),
        Field("public key", _key_words(request.public_key())),
        Field("signature", _oid_words(request.signature_algorithm_oid)),
        Field("proof of possession", proof),
        Field("size", f"{len(data)} bytes as DER"),
    )
    return Finding(
        "pkcs10-request", "PKCS#10 certification request", fields, (f"cannot travel as C509: {reason}",)
    )


def _serial(number: int) -> str:
    """Return a serial number as it is written everywhere else: its bytes, so that it can be searched for."""
    if number < 0:
        return f"-{_serial(-number)}"
    return number.to_bytes(max(1, (number.bit_length() + 7) // 8), "big").hex()


def _crl(data: bytes, now: float) -> Finding:
    crl = x509.load_der_x509_crl(data)
    this_update = _seconds(crl.last_update_utc)
    next_update = None if crl.next_update_utc is None else _seconds(crl.next_update_utc)
    revoked = [
        {
            "serial": _serial(entry.serial_number),
            "since": _seconds(entry.revocation_date_utc),
            "reason": _reason(entry),
        }
        for entry in crl
    ]
    fields = [Field("issuer", crl.issuer.rfc4514_string())]
    try:
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        fields.append(Field("number", str(number), number))
    except x509.ExtensionNotFound:
        pass
    fields += [
        Field("this update", words.moment(this_update), this_update),
        Field("next update", "not said" if next_update is None else words.moment(next_update), next_update),
        Field("fresh", "not said" if next_update is None else words.validity(this_update, next_update, now)),
        Field("signature", _oid_words(crl.signature_algorithm_oid)),
        Field("revoked", f"{len(revoked)} certificate{'' if len(revoked) == 1 else 's'}", revoked),
        *(
            Field(
                f"serial {entry['serial']}",
                f"{entry['reason']}, since {words.moment(int(str(entry['since'])))}",
            )
            for entry in revoked[:MAX_LISTED]
        ),
    ]
    notes = (
        (f"{len(revoked) - MAX_LISTED} more are not listed here; --json has all",)
        if len(revoked) > MAX_LISTED
        else ()
    )
    return Finding("crl", "Certificate revocation list (X.509)", tuple(fields), notes)


def _reason(entry: x509.RevokedCertificate) -> str:
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    except x509.ExtensionNotFound:
        return "unspecified"


def _private_key(data: bytes, _now: float) -> Finding | None:
    try:
        key = load_der_private_key(data, None)
    except TypeError:  # it says so when a passphrase is missing
        return Finding(
            "private-key",
            "Private key (PKCS#8), encrypted: not shown",
            (Field("encrypted", "yes", value=True),),
            ("nothing of it can be told without its passphrase, and this command does not ask for one",),
        )
    fields = (
        Field("encrypted", "NO: who has this file has the key", value=False),
        *_public_fields(key.public_key()),
    )
    return Finding("private-key", "Private key: not shown", fields, ("only its public half is shown",))


def _public_key(data: bytes, _now: float) -> Finding:
    return Finding(
        "public-key", "Public key (SubjectPublicKeyInfo)", _public_fields(load_der_public_key(data))
    )


def _public_fields(key: Any) -> tuple[Field, ...]:  # noqa: ANN401 (cryptography's union of key types)
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = hashlib.sha256(spki).hexdigest()
    return (
        Field("public key", _key_words(key)),
        Field("key identifier", f"{digest} (SHA-256 of SubjectPublicKeyInfo)", digest),
    )


def _pkcs7(data: bytes, now: float) -> Finding:
    certificates = load_der_pkcs7_certificates(data)
    parts = tuple(_certificate(certificate.public_bytes(Encoding.DER), now) for certificate in certificates)
    count = f"{len(parts)} certificate{'' if len(parts) == 1 else 's'}"
    return Finding("pkcs7-certificates", f"PKCS#7 bag of {count}", (), (), parts)


def _seconds(when: datetime) -> int:
    return int(when.timestamp())


def _oid_words(oid: ObjectIdentifier) -> str:
    return getattr(oid, "_name", None) or oid.dotted_string


def _key_words(key: Any) -> str:  # noqa: ANN401 (cryptography's union of key types)
    if isinstance(key, ec.EllipticCurvePublicKey):
        point = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        return f"{key.curve.name}, compressed point {point.hex()}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA, {key.key_size} bits"
    return type(key).__name__.removesuffix("PublicKey")
