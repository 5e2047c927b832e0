"""Revocation lists over MQTT, part by part: brokers take messages of 64 KiB, devices often less.

A `crl` request may have a payload that says which form is wanted, from which list on, and which part:

    ask  = CBOR [form, base/null, offset, length]      form: 0 DER, 1 C509; offset and length in bytes
    body = CBOR [etag, total, part bstr]               of the reply on `…/accepted`

Without a payload it is for the whole list as DER. Whoever collects parts starts again when the etag changes:
the list did. Nothing here needs more than MQTT 3.1.1, and nothing is retained.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from protocol import cbor
from protocol.errors import MalformedMessage, Unreachable
from protocol.ports import Content, Media, Outbound, Reply
from protocol.revocation_list import MAX_LIST_BYTES, MAX_NUMBER

MAX_PART: Final = 48 * 1024
"""Most bytes of a list in one reply: what brokers take, less its envelope and topic."""
MAX_ASK_BYTES: Final = 32
_RESTARTS: Final = 3
"""How often a list that changes while it is read is begun: a long one changes every few seconds at most."""
_ETAG_BYTES: Final = 8
_FORMS: Final = (Media.PKIX_CRL, Media.C509_CRL)


@dataclass(frozen=True, slots=True)
class Ask:
    """Which part of which list."""

    media: Media = Media.PKIX_CRL
    base: int | None = None
    """As `Outbound.base`."""
    offset: int = 0
    length: int = MAX_PART

    def encode(self) -> bytes:
        """Return the payload of the request."""
        return cbor.encode([_FORMS.index(self.media), self.base, self.offset, self.length])

    @classmethod
    def decode(cls, payload: bytes) -> "Ask":
        """Return what `payload` asks for.

        Raises:
            MalformedMessage: Not such a request.
        """
        match cbor.decode_array(payload, 4, max_bytes=MAX_ASK_BYTES):
            case [int(form), (int() | None) as base, int(offset), int(length)] as items if (
                not any(type(item) is bool for item in items)
                and 0 <= form < len(_FORMS)
                and (base is None or 0 < base <= MAX_NUMBER)
                and 0 <= offset < MAX_LIST_BYTES
                and length > 0
            ):
                return cls(_FORMS[form], base, offset, min(length, MAX_PART))
            case _:
                raise MalformedMessage("a list is asked for by [form, base/null, offset, length]")

    def cut(self, whole: Content) -> Content:
        """Return the part of `whole` that is asked for; behind its end that is empty."""
        part = whole.body[self.offset : self.offset + self.length]
        etag = (whole.etag or b"").rjust(_ETAG_BYTES, b"\0")
        return Content(cbor.encode([etag, len(whole.body), part]), whole.media, whole.etag)


def _read(body: bytes) -> tuple[bytes, int, bytes]:
    """Return etag, length of the whole and the part; Unreachable if it is not what was asked for."""
    try:
        etag, total, part = cbor.decode_array(body, 3, max_bytes=MAX_PART + 64)
    except MalformedMessage:
        raise Unreachable("an answer that is not understood") from None
    if type(etag) is not bytes or type(total) is not int or type(part) is not bytes:
        raise Unreachable("an answer that is not understood")
    if not 0 < total <= MAX_LIST_BYTES:
        raise Unreachable(f"a list of {total} bytes")
    return etag, total, part


async def collect(
    request: Outbound, ask_once: Callable[[Outbound], Awaitable[Reply]], *, length: int = MAX_PART
) -> Reply:
    """Return the whole list that `request` is for, or the refusal of its first part that was refused.

    Args:
        request: A `crl` request.
        ask_once: Sends one request and returns its reply.
        length: Bytes to ask for at a time: what a small device has room for.

    Raises:
        Unreachable: The transport failed, or the list changed each time while it was read.
    """
    media = request.accept or Media.PKIX_CRL
    for _ in range(_RESTARTS):
        body, known = bytearray(), b""
        while True:
            ask = Ask(media, request.base, len(body), length)
            reply = await ask_once(replace(request, body=ask.encode()))
            if not isinstance(reply, Content):
                return reply
            etag, total, part = _read(reply.body)
            if body and etag != known:
                break
            known = etag
            body += part
            if len(body) == total:
                return Content(bytes(body), media, etag)
            if len(part) != min(ask.length, MAX_PART) or len(body) > total:
                raise Unreachable("an answer that is not understood")
    raise Unreachable("a list changed each time while it was read")
