"""Signed objects (COSE_Sign1) and the small maps and arrays beside them, in words.

No signature is verified here: that takes the signer's key and the door the object is for
(external_aad), and neither is in the file. What an object is shows in the shape of its payload.
"""

from typing import Any, Final

from agents.inspect import words
from agents.inspect.certificates import explain_certificate, explain_request
from agents.inspect.finding import Field, Finding
from agents.inspect.owners import explain_bundle
from protocol import c509, cbor
from protocol.cose import Sign1
from protocol.errors import MalformedMessage, ProblemKind
from protocol.exchange.request import RevocationReason
from protocol.problem import TITLES, Problem

_NOT_VERIFIED: Final = (
    "the signature is not verified here: that takes the signer's key and the door it is for"
)
_DIGEST_BYTES: Final = 32
MAX_LISTED: Final = 20
"""Most devices of a batch that are listed one by one."""
_REQUEST_ID_BYTES: Final = 8


def explain_sign1(signed: Sign1, size: int, now: float) -> Finding:
    """Return a COSE_Sign1 of ours in words."""
    kind, title, fields, parts = _payload(signed)
    outer = [Field("size", f"{size} bytes", size), *_signer(signed)]
    header = signed.header
    if header.certificate is not None:
        try:
            certificate = explain_certificate(c509.decode_certificate(header.certificate), now)
            parts = (certificate, *parts)
        except MalformedMessage as error:
            outer.append(Field("signer's certificate", f"malformed: {error}"))
    return Finding(kind, title, (*fields, *outer), (_NOT_VERIFIED,), parts)


def _signer(signed: Sign1) -> list[Field]:
    header = signed.header
    fields = [Field("algorithm", f"{header.algorithm.name} ({int(header.algorithm)})", header.algorithm.name)]
    if header.thumbprint is not None:
        by = f"the certificate with thumbprint {header.thumbprint.hex()} (c5t)"
        fields.append(Field("signed by", by, {"c5t": header.thumbprint.hex()}))
    elif header.certificate is not None:
        fields.append(Field("signed by", "the certificate inside (c5c)", {"c5c": header.certificate.hex()}))
    elif header.key_id is not None:
        by = f"the key {header.key_id.hex()} (kid)"
        fields.append(Field("signed by", by, {"kid": header.key_id.hex()}))
    fields.append(Field("signature", f"{len(signed.signature)} bytes"))
    return fields


_Explained = tuple[str, str, list[Field], tuple[Finding, ...]]


def _payload(signed: Sign1) -> _Explained:
    try:
        request = c509.decode_request(signed.payload)
    except MalformedMessage:
        pass
    else:
        inner = explain_request(request)
        subject = Field("for", f"{request.subject}")
        return "signed-request", "Signed certification request (sen or sren)", [subject], (inner,)
    try:
        item = cbor.decode(signed.payload, max_bytes=len(signed.payload))
    except MalformedMessage:
        item = None
    if signed.header.key_id is not None:
        return _signed_by_pinned_key(item, signed.payload)
    return _signed_by_certificate(item, signed.payload)


def _signed_by_pinned_key(item: Any, payload: bytes) -> _Explained:  # noqa: ANN401 (decoded CBOR)
    bundle = explain_bundle(item)
    if bundle is not None:
        return "transfer-bundle", "Transfer bundle: devices for another authority", bundle, ()
    match item:
        case [str(device), bytes(authority), int(epoch)] if len(authority) == _DIGEST_BYTES:
            owner = "the first owner, from the factory" if epoch == 0 else f"owner number {epoch + 1}"
            fields = [
                Field("device", device),
                Field("authority", f"{authority.hex()} (SHA-256 of its public key)", authority.hex()),
                Field("epoch", f"{epoch}: {owner}", epoch),
            ]
            return "voucher", "Voucher: which authority owns a device", fields, ()
        case [int(sequence), bytes(digest), int(time)] if len(digest) == _DIGEST_BYTES:
            fields = [
                Field("records", str(sequence), sequence),
                Field("hash", f"{digest.hex()} (of the last record, and so of all)", digest.hex()),
                Field("signed at", words.moment(time), time),
            ]
            return "audit-head", "Head of an audit log", fields, ()
        case [int(), str(label), bytes(), bytes(), list(entries)]:
            return "manifest", f"Manifest of a factory's batch of {label}", _manifest(entries), ()
        case _:
            return "signed-object", "Object signed by a pinned key", [_raw(item, payload)], ()


def _manifest(entries: list[Any]) -> list[Field]:
    """Return the first devices of a batch, and how many there are."""
    fields = [Field("devices", str(len(entries)), len(entries))]
    for entry in entries[:MAX_LISTED]:
        match entry:
            case [str(device), str(client_id), bytes(digest), *_]:
                told = {"client_id": client_id, "certificate_sha256": digest.hex()}
                fields.append(Field(device, f"client-id {client_id}, certificate {digest.hex()[:16]}…", told))
            case _:
                fields.append(Field("entry", "not one of a manifest"))
    if len(entries) > MAX_LISTED:
        fields.append(Field("and", f"{len(entries) - MAX_LISTED} more"))
    return fields


def _signed_by_certificate(item: Any, payload: bytes) -> _Explained:  # noqa: ANN401 (decoded CBOR)
    match item:
        case [bytes(digest), int(status)] if len(digest) == _DIGEST_BYTES and type(status) is int:
            done = "installed" if status == 0 else f"not installed, the device's reason {status}"
            fields = [_certificate_digest(digest), Field("status", f"{status}: {done}", status)]
            return "confirmation", "Signed confirmation (conf)", fields, ()
        case [bytes(issuer), bytes(serial), int(reason)] if len(issuer) == _DIGEST_BYTES:
            fields = [
                Field("issuer", f"{issuer.hex()} (SHA-256 of its public key)", issuer.hex()),
                Field("serial number", serial.hex()),
                Field("reason", _reason(reason), reason),
            ]
            return "revocation", "Signed revocation by the device itself (rev)", fields, ()
        case [bytes(digest), int(number), str(detail), (int() | None) as pause, *more] if (
            len(digest) == _DIGEST_BYTES
        ):
            return _verdict(digest, number, detail, pause, more)
        case [int(counter), (int() | None) as time, bytes(body)]:
            fields = [
                Field("counter", str(counter), counter),
                Field("time", "none: the device has no clock" if time is None else words.moment(time), time),
                _body(body),
            ]
            return "message", "Signed message", fields, ()
        case _:
            return "signed-object", "Signed object", [_raw(item, payload)], ()


def _certificate_digest(digest: bytes) -> Field:
    return Field("certificate", f"{digest.hex()} (SHA-256 of the C509)", digest.hex())


def _reason(number: int) -> str:
    try:
        return f"{number}: {RevocationReason(number).name.replace('_', ' ').lower()}"
    except ValueError:
        return f"{number}: not a reason of RFC 5280"


def _kind(number: int) -> str:
    try:
        return f"{number}: {TITLES[ProblemKind(number)]}"
    except ValueError:
        return f"{number}: not known to this version"


def _verdict(
    digest: bytes,
    number: int,
    detail: str,
    pause: int | None,
    more: list[Any],
) -> _Explained:
    fields = [Field("request", f"{digest.hex()} (SHA-256 of what was asked)", digest.hex())]
    if number == 0:
        return "receipt", "Signed receipt: done", [*fields, Field("status", "0: done", 0)], ()
    fields.append(Field("why", _kind(number), number))
    if detail:
        fields.append(Field("detail", detail))
    if pause is not None:
        fields.append(Field("retry after", f"{pause} seconds", pause))
    match more:
        case [bytes(voucher), at]:
            fields.append(Field("next owner", f"voucher of {len(voucher)} bytes", voucher.hex()))
            if at is not None:
                fields.append(Field("next owner at", str(at)))
    return "refusal", "Signed refusal", fields, ()


def _body(body: bytes) -> Field:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        text = ""
    if text and text.isprintable():
        return Field("body", f"{text!r} ({len(body)} bytes)", text)
    return Field("body", words.hexadecimal(body), body.hex())


def _raw(item: Any, payload: bytes) -> Field:  # noqa: ANN401 (decoded CBOR)
    return Field(
        "payload", words.hexadecimal(payload) if item is None else words.diagnostic(item), payload.hex()
    )


def explain_problem(data: bytes) -> Finding | None:
    """Return an unsigned refusal (RFC 9290) in words, or None if `data` is none."""
    try:
        item = cbor.decode_map(data, tags=frozenset({38}))
        problem = Problem.decode(data)
    except MalformedMessage:
        return None
    if 1 in item or not (type(item.get(-1)) is str or type(item.get(-2)) is str):
        return None  # a map, but more likely a key (RFC 9052 §7) than a problem
    fields = [
        Field("title", str(item.get(-1, "(none)"))),
        Field("why", _kind(int(problem.kind)), int(problem.kind)),
    ]
    if problem.detail:
        fields.append(Field("detail", problem.detail))
    if problem.retry_after is not None:
        fields.append(Field("retry after", f"{problem.retry_after:.0f} seconds", problem.retry_after))
    code = item.get(-4)
    if type(code) is int:
        fields.append(Field("CoAP code", f"{code >> 5}.{code & 31:02}"))
    title = "Problem details (RFC 9290): an unsigned hint, nobody vouches for it"
    return Finding("problem", title, tuple(fields))


def explain_small_array(item: Any) -> Finding | None:  # noqa: ANN401 (decoded CBOR)
    """Return what an MQTT reply or a verified message says, or None if `item` is neither."""
    match item:
        case [bytes(request), bytes(body)] if len(request) == _REQUEST_ID_BYTES:
            fields = (_request_id(request), Field("body", f"{len(body)} bytes", body.hex()))
            return Finding("mqtt-reply", "Reply over MQTT", fields)
        case [bytes(request), int(seconds)] if len(request) == _REQUEST_ID_BYTES:
            fields = (_request_id(request), Field("retry after", f"{seconds} seconds", seconds))
            return Finding("mqtt-pending", "Reply over MQTT: still working, ask again", fields)
        case [str(device), int(counter), (int() | None) as time, bytes(body)]:
            return Finding(
                "verified-message",
                "Verified message, as it is republished",
                (
                    Field("device", device),
                    Field("counter", str(counter), counter),
                    Field("time", "none" if time is None else words.moment(time), time),
                    _body(body),
                ),
            )
        case _:
            return None


def _request_id(request: bytes) -> Field:
    return Field("request", f"{request.hex()} (first 8 bytes of its SHA-256)", request.hex())
