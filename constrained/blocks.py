"""Block-wise transfer, server side (RFC 7959), bounded.

Why not aiocoap's: its Block1 assembly (0.4.17) has no limit, costs O(n²), answers a gap with 5.00 and
keeps every body for 93 s.
"""

from typing import Final

from constrained.shelf import Shelf
from constrained.wire import Block, Code, Option, Request, Response, encode_uint

LIFETIME: Final = 247.0
"""Seconds that half an upload, or the rest of an answer, is kept: EXCHANGE_LIFETIME (RFC 7252 §4.8.2)."""

Key = tuple[str, int, tuple[bytes, ...], tuple[bytes, ...], tuple[bytes, ...]]


LONG: Final = 16 * 1024
"""Bytes from which on an answer to a GET is kept: a revocation list, which may change while it is read."""


class Refused(Exception):
    """No block can be taken: `code` says why; never leaves this room."""

    def __init__(self, code: Code) -> None:
        super().__init__(code)
        self.code = code


class Uploads:
    """Bodies that arrive in blocks (Block1).

    Args:
        limit: Longest body in bytes.
        size: Most unfinished uploads; together at most `size * limit` bytes. The one that has waited
            longest makes room, because an honest upload is over within seconds.
    """

    def __init__(self, limit: int, size: int) -> None:
        self._limit = limit
        self._unfinished: Shelf[Key, bytearray] = Shelf(size, LIFETIME)

    def feed(self, request: Request) -> bytes | None:
        """Take the payload of `request`.

        Returns:
            The whole body once it is there; None while more is to come (answer 2.31).

        Raises:
            Refused: 4.13 as soon as the body is known to be too long, 4.08 for a block that does not
                follow the ones before it, 4.00 for one whose size does not fit its option.
        """
        block, payload = request.block1, request.payload
        if len(payload) > self._limit or (request.size1 or 0) > self._limit:
            raise Refused(Code.REQUEST_ENTITY_TOO_LARGE)
        if block is None:
            return payload
        if block.szx == 7 or len(payload) > block.size or (block.more and len(payload) != block.size):
            raise Refused(Code.BAD_REQUEST)
        if block.number == 0 and not block.more:
            return payload
        key = (request.source, request.code, request.path, request.query, request.tags)
        body = bytearray() if block.number == 0 else self._unfinished.get(key)
        if body is None or len(body) != block.start:
            self._unfinished.pop(key)
            raise Refused(Code.REQUEST_ENTITY_INCOMPLETE)
        if len(body) + len(payload) > self._limit:
            self._unfinished.pop(key)
            raise Refused(Code.REQUEST_ENTITY_TOO_LARGE)
        body += payload
        if block.more:
            self._unfinished.put(key, body)
            return None
        self._unfinished.pop(key)
        return bytes(body)

    def __len__(self) -> int:
        return len(self._unfinished)


class Downloads:
    """Answers that leave in blocks (Block2).

    A GET is asked again for every block, so a short answer to one is not kept. An answer to a POST is kept,
    and a long one to a GET: one for each peer and path, so that later blocks belong to the same answer.
    Where a kept one had to make room, a GET is asked again, and its ETag tells whether it still fits.

    Args:
        size: Most answers kept.
    """

    def __init__(self, size: int) -> None:
        self._kept: Shelf[Key, Response] = Shelf(size, LIFETIME)

    def rest(self, request: Request) -> Response:
        """Return the block that `request`, a POST with a block number above 0, asks for.

        Raises:
            Refused: 4.08 if the answer is not (or no longer) here.
        """
        kept = self.kept(request)
        if kept is None:
            raise Refused(Code.REQUEST_ENTITY_INCOMPLETE)
        return kept

    def kept(self, request: Request) -> Response | None:
        """Return the later block that `request` asks for, if its answer is here."""
        if request.block2 is None or not request.block2.number:
            return None
        kept = self._kept.get(_key(request))
        return None if kept is None else self.cut(request, kept)

    def cut(self, request: Request, whole: Response) -> Response:
        """Return of `whole` what goes into one datagram, and keep it if more will be asked for.

        Without a wish of the peer's, an answer comes in blocks as large as those of the upload.

        Raises:
            Refused: 4.00 for a block behind the end.
        """
        wish = request.block2
        if wish is not None:
            number, szx = wish.number, wish.szx
        else:
            number, szx = 0, 6 if request.block1 is None else request.block1.szx
        if szx == 7:
            raise Refused(Code.BAD_REQUEST)
        size = 16 << szx
        start, length = number * size, len(whole.payload)
        if length <= size and wish is None:
            return whole
        if start >= length and number:
            raise Refused(Code.BAD_REQUEST)
        if number == 0 and length > (size if request.code == Code.POST else max(size, LONG)):
            self._kept.put(_key(request), whole)
        more = start + size < length
        options = (*whole.options, (Option.BLOCK2, Block(number, more, szx).encode()))
        if number == 0 and more:
            options += ((Option.SIZE2, encode_uint(length)),)
        return Response(whole.code, options, whole.payload[start : start + size])

    def __len__(self) -> int:
        return len(self._kept)


def _key(request: Request) -> Key:
    # Block1's Request-Tag is not sent with requests for later blocks of the answer (RFC 9175 §3.3).
    accept = () if request.accept is None else (encode_uint(request.accept),)
    return (request.source, request.code, request.path, request.query, accept)
