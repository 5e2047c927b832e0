"""Certificates, requests and templates in words."""

import hashlib
from collections.abc import Iterable, Sequence

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

from agents.inspect import words
from agents.inspect.finding import Field, Finding
from protocol import c509
from protocol.errors import EnrollmentError, MalformedMessage
from protocol.lint import recognise, shape_of

_FAR = 4
"""Deviations beyond which a certificate is nobody's of ours: everything deviates from something."""
_MOST_LABELS = 4
"""Most labels that are named where several are equally near: CAs of all domains look much alike."""
_DIGESTS: dict[int, type[HashAlgorithm]] = {
    0: SHA256,
    1: SHA384,
    2: SHA512,
    23: SHA256,
    24: SHA384,
    25: SHA512,
}


def explain_certificate(certificate: c509.Certificate, now: float, *, der: bytes | None = None) -> Finding:
    """Return a certificate in words.

    Args:
        certificate: As C509 reads it.
        now: POSIX seconds.
        der: Its DER, where that is what was given.
    """
    native = certificate.type == c509.NATIVE
    fields = [
        Field("subject", str(certificate.subject) or "(none)"),
        Field(
            "issuer",
            f"{certificate.issuer_name}" + (" (itself)" if certificate.issuer is None else ""),
            str(certificate.issuer_name),
        ),
        Field("serial number", certificate.serial.hex()),
        Field("valid from", words.moment(certificate.not_before), certificate.not_before),
        Field("valid until", words.moment(certificate.not_after), certificate.not_after),
        Field("valid now", words.validity(certificate.not_before, certificate.not_after, now)),
        Field("public key", words.key(certificate.public_key_algorithm, certificate.public_key_bytes)),
        Field("signature", words.algorithm(certificate.signature_algorithm, words.SIGNATURES)),
        *map(words.extension, certificate.extensions),
        *_profile(certificate, der),
    ]
    if certificate.issuer is None:
        fields.append(
            Field("self-signed", _verdict(certificate, certificate.signature, certificate.signed_bytes))
        )
    fields += _sizes(certificate, der, native=native)
    if der is None:
        form = (
            "native (type 2): the CBOR is signed"
            if native
            else "re-encoded X.509 (type 3): the DER is signed"
        )
        return Finding("c509-certificate", f"C509 certificate, {form}", tuple(fields))
    return Finding("x509-certificate", "X.509 certificate", tuple(fields))


def _sizes(certificate: c509.Certificate, der: bytes | None, *, native: bool) -> list[Field]:
    encoded = len(certificate.encoded)
    c5t = c509.thumbprint(certificate.encoded).hex()
    thumbprint = Field("thumbprint", f"{c5t} (c5t: SHA-256/64 of the C509)", c5t)
    if der is None and not native:
        try:
            der = certificate.to_der()
        except MalformedMessage:
            return [Field("size", f"{encoded} bytes"), thumbprint]
    if der is None:
        return [Field("size", f"{encoded} bytes", encoded), thumbprint]
    saved = round(100 * (1 - encoded / len(der)))
    fingerprint = hashlib.sha256(der).hexdigest()
    size = Field(
        "size",
        f"{len(der)} bytes as DER, {encoded} as C509 ({saved} % less)",
        {"der": len(der), "c509": encoded},
    )
    return [size, thumbprint, Field("fingerprint", f"{fingerprint} (SHA-256 of the DER)", fingerprint)]


def _profile(certificate: c509.Certificate, der: bytes | None) -> list[Field]:
    """Return which labels' profiles a certificate fits, or is nearest to."""
    judged = recognise(certificate, der)
    least = judged[0][1]
    labels = [label for label, deviations in judged if deviations == least]
    if least > _FAR:
        return []
    is_root = certificate.issuer is None
    named = [f"{label} ({shape_of(label, is_root=is_root).title})" for label in labels[:_MOST_LABELS]]
    if len(labels) > _MOST_LABELS:
        named.append(f"{len(labels) - _MOST_LABELS} more")
    if least == 0:
        return [Field("profile", f"{' or '.join(named)}, fits", {"fits": labels})]
    count = f"{least} deviation{'' if least == 1 else 's'}"
    text = f"none; nearest: {' or '.join(named)}, {count} (see trillium lint)"
    return [Field("profile", text, {"nearest": labels, "deviations": least})]


def explain_request(request: c509.CertificationRequest, *, der: bytes | None = None) -> Finding:
    """Return a certification request in words."""
    fields = [
        Field("subject", str(request.subject) or "(none)"),
        Field("public key", words.key(request.public_key_algorithm, request.public_key_bytes)),
        Field("signature", words.algorithm(request.signature_algorithm, words.SIGNATURES)),
        Field("proof of possession", _verdict(request, request.signature, request.signed_bytes)),
        *_attributes(request),
    ]
    if der is not None:
        fields.append(Field("size", f"{len(der)} bytes as DER, {len(request.encoded)} as C509"))
        return Finding("pkcs10-request", "PKCS#10 certification request", tuple(fields))
    form = "native (type 2)" if request.type == c509.NATIVE else "re-encoded PKCS#10 (type 3)"
    fields.append(Field("size", f"{len(request.encoded)} bytes", len(request.encoded)))
    return Finding("c509-request", f"C509 certification request, {form}", tuple(fields))


def _attributes(request: c509.CertificationRequest) -> list[Field]:
    fields: list[Field] = []
    for attribute in request.attributes:
        value = attribute.value
        if isinstance(value, c509.ChallengePassword):
            fields.append(Field("challenge password", "present, not shown"))
        elif isinstance(value, c509.PossessionStatement):
            fields.append(
                Field("possession stated by", f"certificate {value.serial.hex()} of {value.issuer}")
            )
        elif isinstance(value, tuple):
            fields += [_asked(words.extension(extension)) for extension in value]
        elif isinstance(attribute.id, bytes):
            fields.append(
                Field(f"attribute {words.object_identifier(attribute.id)}", words.hexadecimal(value))
            )
    return fields


def _asked(field: Field) -> Field:
    return Field(f"asks for {field.name}", field.text, field.value)


def _verdict(signed: c509.Certificate | c509.CertificationRequest, signature: bytes, data: bytes) -> str:
    """Return in words whether an object's own key signed it."""
    if signed.signature_algorithm == c509.SignatureAlgorithm.UNSIGNED:
        return "not signed at all"
    try:
        key = signed.load_public_key()
        signature_der = signed.signature_der
        digest = _DIGESTS.get(
            int(signed.signature_algorithm) if isinstance(signed.signature_algorithm, int) else -1
        )
        if isinstance(key, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
            key.verify(signature, data)
        elif isinstance(key, ec.EllipticCurvePublicKey) and digest is not None:
            key.verify(signature_der, data, ec.ECDSA(digest()))
        elif isinstance(key, rsa.RSAPublicKey) and digest is not None:
            key.verify(signature_der, data, padding.PKCS1v15(), digest())
        else:
            return "not checked: no means to verify this algorithm here"
    except InvalidSignature:
        return "does NOT verify"
    except (EnrollmentError, UnsupportedAlgorithm, ValueError) as error:
        return f"cannot be checked: {error}"
    return "verifies"


def explain_chain(chain: Sequence[c509.Certificate], now: float) -> Finding:
    """Return a COSE_C509 in words; each certificate is a part."""
    parts = tuple(explain_certificate(certificate, now) for certificate in chain)
    count = f"{len(chain)} certificate{'' if len(chain) == 1 else 's'}"
    fields = (Field("certificates", str(len(chain)), len(chain)), *_links(chain))
    return Finding("cose-c509", f"COSE_C509: {count}", fields, (), parts)


def _links(chain: Sequence[c509.Certificate]) -> list[Field]:
    places = {str(certificate.subject): place for place, certificate in enumerate(chain, start=1)}
    fields: list[Field] = []
    for place, certificate in enumerate(chain, start=1):
        issuer = str(certificate.issuer_name)
        if certificate.issuer is None:
            where = "by itself"
        elif issuer in places:
            where = f"by {issuer}, which is number {places[issuer]} here"
        else:
            where = f"by {issuer}, which is not here"
        fields.append(Field(f"number {place}", f"{certificate.subject}, issued {where}"))
    return fields


def explain_template(template: c509.RequestTemplate, size: int) -> Finding:
    """Return a certification request template in words; what it leaves open is the requester's."""
    fields: list[Field] = []
    if template.request_types is not None:
        names = {c509.NATIVE: "native (2)", c509.REENCODED: "re-encoded PKCS#10 (3)"}
        fields.append(
            Field("request type", _choice(names.get(kind, str(kind)) for kind in template.request_types))
        )
    if template.public_key_algorithms is not None:
        chosen = (words.algorithm(number, words.KEYS) for number in template.public_key_algorithms)
        fields.append(Field("public key", _choice(chosen)))
    if template.signature_algorithms is not None:
        chosen = (words.algorithm(number, words.SIGNATURES) for number in template.signature_algorithms)
        fields.append(Field("signature", _choice(chosen)))
    for attribute in template.subject or ():
        value = "the requester's to give" if attribute.value is None else str(attribute.value)
        fields.append(Field(f"subject's {words.attribute(attribute.type)}", value + _times(*attribute[1:3])))
    fields += [_wanted(wanted) for wanted in template.extensions or ()]
    fields.append(Field("size", f"{size} bytes", size))
    notes = () if len(fields) > 1 else ("everything is the requester's choice",)
    return Finding("c509-template", "C509 certification request template", tuple(fields), notes)


def _wanted(wanted: c509.ExtensionTemplate) -> Field:
    optional = " (may be left out)" if wanted.optional else ""
    try:
        known = words.extension(c509.Extension(wanted.id, critical=False, value=wanted.value))
    except (TypeError, ValueError, AttributeError):
        # A value that the requester is to give or to finish has not the shape that its number promises.
        return Field(words.extension_name(wanted.id), f"the requester's to give{optional}")
    return Field(known.name, known.text + optional, known.value)


def _choice(options: Iterable[str]) -> str:
    return " or ".join(options)


def _times(least: int, most: int) -> str:
    return "" if (least, most) == (1, 1) else f" ({least} to {most} times)"
