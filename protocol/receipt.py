"""Signed refusals and receipts: the only answers that end something on a device.

    COSE_Sign1({1: alg, 22: c5t}, payload = [SHA-256(request), kind or status, detail, retry_after/null],
               aad = ["est-no" or "est-ok", authority, label, op])

A refusal of kind OWNER_CHANGED has two more elements: the next owner's voucher, and where that owner's
authority is (a URI, or null).

The signer is the authority's registration key, never its CA key; the key's certificate (EKU cmcRA) is
issued by the authority itself and travels as the last element of `crts`.
"""

import hashlib
from dataclasses import dataclass

from protocol import cbor
from protocol.cose import PublicKey, decode_sign1, is_signature_valid
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.labels import Operation
from protocol.problem import ADDRESS, MAX_DETAIL_CHARS, MAX_RETRY_AFTER, Problem, Successor
from protocol.signing import Signer, sign1


@dataclass(frozen=True, slots=True)
class Receipt:
    """The authority did what was asked; 0 is done."""

    status: int


def _aad(verdict: str, authority: bytes, label: str, op: Operation) -> bytes:
    return cbor.encode([verdict, authority, label, op.value])


def sign_verdict(
    verdict: Receipt | Problem,
    signer: Signer,
    *,
    thumbprint: bytes,
    request_digest: bytes,
    authority: bytes,
    label: str,
    op: Operation,
) -> bytes:
    """Return the signed receipt or refusal of one request.

    Args:
        verdict: What was decided.
        signer: The authority's registration key.
        thumbprint: c5t of its certificate, 8 bytes.
        request_digest: SHA-256 of the request's bytes.
        authority: Key identifier of the issuing CA, 32 bytes.
        label: Door that was knocked on.
        op: What was asked.
    """
    if isinstance(verdict, Receipt):
        payload = [request_digest, verdict.status, "", None]
        return sign1(
            signer, cbor.encode(payload), _aad("est-ok", authority, label, op), thumbprint=thumbprint
        )
    retry_after = None if verdict.retry_after is None else int(verdict.retry_after + 0.999)
    refusal = [request_digest, int(verdict.kind), verdict.detail[:MAX_DETAIL_CHARS], retry_after]
    if verdict.successor is not None:
        refusal += [verdict.successor.voucher, verdict.successor.at]
    return sign1(signer, cbor.encode(refusal), _aad("est-no", authority, label, op), thumbprint=thumbprint)


def signer_of(data: bytes) -> bytes:
    """Return the thumbprint of the registration certificate that a verdict names, 8 bytes.

    Raises:
        MalformedMessage: Not a verdict.
    """
    thumbprint = decode_sign1(data, max_bytes=1024).header.thumbprint
    if thumbprint is None:
        raise MalformedMessage("a verdict names its signer by c5t")
    return thumbprint


def read_verdict(
    data: bytes, key: PublicKey, *, request: bytes, authority: bytes, label: str, op: Operation
) -> Receipt | Problem:
    """Return what the authority decided about `request`.

    Args:
        data: The signed object.
        key: The registration key; its certificate was checked by the caller.
        request: The whole request that was sent.
        authority: Whom it was sent to, 32 bytes.
        label: Which door.
        op: Which operation.

    Raises:
        MalformedMessage: Not a verdict.
        RequestRejected: Signed by another key, or about another request, authority, label or operation.
    """
    signed = decode_sign1(data, max_bytes=1024)
    for verdict in ("est-ok", "est-no"):
        aad = _aad(verdict, authority, label, op)
        if is_signature_valid(key, signed.header.algorithm, signed.signature, signed.signed_bytes(aad)):
            break
    else:
        raise RequestRejected(
            ProblemKind.BAD_SIGNATURE, "the verdict's signature is wrong, or it is for another door"
        )
    match cbor.decode(signed.payload):
        case [bytes(digest), int(number), str(detail), (int() | None) as retry_after, *more] if (
            type(number) is int
            and type(retry_after) is not bool
            and (retry_after is None or retry_after >= 0)
        ):
            successor = _successor(verdict, number, more)
        case _:
            raise MalformedMessage("a verdict is [digest, number, detail, retry_after]")
    if digest != hashlib.sha256(request).digest():
        raise RequestRejected(ProblemKind.UNEXPECTED, "the verdict is about another request")
    if verdict == "est-ok":
        return Receipt(number)
    try:
        kind = ProblemKind(number)
    except ValueError:
        # A newer authority's word for no; the refusal itself is authentic.
        kind = ProblemKind.NOT_ENTITLED
    wait = None if retry_after is None else min(float(retry_after), MAX_RETRY_AFTER)
    return Problem(kind, detail, wait, successor)


def _successor(verdict: str, number: int, more: list[object]) -> Successor | None:
    """Return what a refusal of kind OWNER_CHANGED says beyond others; MalformedMessage if not in its form."""
    match more:
        case []:
            return None
        case [bytes(voucher), None]:
            at = None
        case [bytes(voucher), str(at)] if ADDRESS.fullmatch(at):
            pass
        case _:
            raise MalformedMessage("an owner's refusal goes on with [voucher, address/null]")
    if verdict != "est-no" or number != ProblemKind.OWNER_CHANGED:
        raise MalformedMessage("only a refusal for another owner carries a voucher")
    return Successor(voucher, at)
