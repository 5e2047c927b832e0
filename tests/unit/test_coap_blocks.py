"""Block-wise transfer, server side, without a socket (RFC 7959)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constrained.blocks import Downloads, Refused, Uploads
from constrained.wire import Block, Code, Option, Request, Response

LIMIT = 4096
PATH = (b"e", b"meter-ds", b"sen")


def part(
    number: int, more: bool, szx: int, payload: bytes, source: str = "coap:a:1", **rest: object
) -> Request:
    return Request(
        Code.POST,
        source,
        payload,
        PATH,
        block1=Block(number, more, szx),
        **rest,  # type: ignore[arg-type]
    )


def parts_of(body: bytes, szx: int, source: str = "coap:a:1") -> list[Request]:
    size = 16 << szx
    starts = range(0, max(len(body), 1), size)
    return [part(at // size, at + size < len(body), szx, body[at : at + size], source) for at in starts]


def refusal(uploads: Uploads, request: Request) -> Code:
    with pytest.raises(Refused) as refused:
        uploads.feed(request)
    return refused.value.code


@given(st.binary(max_size=LIMIT), st.integers(0, 6))
def test_a_body_arrives_whole_whatever_its_blocks(body: bytes, szx: int) -> None:
    uploads = Uploads(LIMIT, 8)
    *earlier, last = parts_of(body, szx)
    assert [uploads.feed(request) for request in earlier] == [None] * len(earlier)
    assert uploads.feed(last) == body
    assert len(uploads) == 0


def test_a_body_without_blocks_passes_through() -> None:
    assert Uploads(LIMIT, 8).feed(Request(Code.POST, "", b"body", PATH)) == b"body"


def test_a_gap_and_a_middle_without_a_beginning_are_incomplete() -> None:
    uploads = Uploads(LIMIT, 8)
    assert refusal(uploads, part(1, True, 0, bytes(16))) == Code.REQUEST_ENTITY_INCOMPLETE
    uploads.feed(part(0, True, 0, bytes(16)))
    assert refusal(uploads, part(2, True, 0, bytes(16))) == Code.REQUEST_ENTITY_INCOMPLETE
    # After a gap there is nothing left to go on with.
    assert refusal(uploads, part(1, True, 0, bytes(16))) == Code.REQUEST_ENTITY_INCOMPLETE


def test_a_first_block_starts_again() -> None:
    uploads = Uploads(LIMIT, 8)
    uploads.feed(part(0, True, 0, b"given up".ljust(16)))
    uploads.feed(part(1, True, 0, bytes(16)))
    uploads.feed(part(0, True, 0, b"once more".ljust(16)))
    assert uploads.feed(part(1, False, 0, b"end")) == b"once more".ljust(16) + b"end"


@pytest.mark.parametrize(
    "request_",
    [
        part(0, True, 7, bytes(1024)),
        part(0, True, 2, bytes(63)),
        part(0, True, 2, bytes(65)),
        part(0, False, 2, bytes(65)),
    ],
    ids=["reserved size", "too short", "too long", "last too long"],
)
def test_a_payload_that_does_not_fit_its_block_is_bad(request_: Request) -> None:
    assert refusal(Uploads(LIMIT, 8), request_) == Code.BAD_REQUEST


def test_a_body_is_refused_as_soon_as_it_is_known_to_be_too_long() -> None:
    uploads = Uploads(LIMIT, 8)
    too_large = Code.REQUEST_ENTITY_TOO_LARGE
    assert refusal(uploads, Request(Code.POST, "", bytes(LIMIT + 1), PATH)) == too_large
    assert refusal(uploads, part(0, True, 6, bytes(1024), size1=LIMIT + 1)) == too_large
    for number in range(4):
        assert uploads.feed(part(number, True, 6, bytes(1024))) is None
    assert refusal(uploads, part(4, False, 6, b"x")) == too_large
    assert len(uploads) == 0


def test_uploads_of_two_peers_and_of_two_tags_do_not_mix() -> None:
    uploads = Uploads(LIMIT, 8)
    for source in ("coap:a:1", "coap:b:1"):
        for tag in (b"1", b"2"):
            uploads.feed(part(0, True, 0, (source.encode() + tag).ljust(16), source, tags=(tag,)))
    assert uploads.feed(part(1, False, 0, b"!", "coap:a:1", tags=(b"1",))) == b"coap:a:11".ljust(16) + b"!"
    assert uploads.feed(part(1, False, 0, b"!", "coap:a:1", tags=(b"2",))) == b"coap:a:12".ljust(16) + b"!"


def test_the_upload_that_waited_longest_makes_room() -> None:
    uploads = Uploads(LIMIT, 2)
    for source in ("coap:a:1", "coap:b:1", "coap:c:1"):
        uploads.feed(part(0, True, 0, bytes(16), source))
    assert len(uploads) == 2
    assert refusal(uploads, part(1, False, 0, b"", "coap:a:1")) == Code.REQUEST_ENTITY_INCOMPLETE
    assert uploads.feed(part(1, False, 0, b"end", "coap:c:1")) == bytes(16) + b"end"


def wanted(number: int, szx: int, code: Code = Code.POST, source: str = "coap:a:1") -> Request:
    return Request(code, source, b"", PATH, block2=Block(number, False, szx))


def block2(response: Response) -> Block:
    return Block.decode(dict(response.options)[Option.BLOCK2])


@given(st.binary(min_size=1, max_size=3000), st.integers(0, 6), st.sampled_from([Code.GET, Code.POST]))
def test_an_answer_is_the_sum_of_its_blocks(body: bytes, szx: int, code: Code) -> None:
    downloads = Downloads(8)
    whole = Response(Code.CHANGED, ((Option.CONTENT_FORMAT, b"\xfd\xe8"),), body)
    response = downloads.cut(wanted(0, szx, code), whole)
    got, number = response.payload, 0
    while block2(response).more:
        number += 1
        request = wanted(number, szx, code)
        response = downloads.rest(request) if code == Code.POST else downloads.cut(request, whole)
        assert block2(response).number == number
        got += response.payload
    assert got == body


def test_an_answer_comes_in_blocks_as_large_as_those_of_the_upload() -> None:
    whole = Response(Code.CHANGED, (), bytes(200))
    assert block2(Downloads(8).cut(part(3, False, 2, b""), whole)) == Block(0, True, 2)


def test_an_answer_that_fits_is_left_as_it_is_and_not_kept() -> None:
    downloads, whole = Downloads(8), Response(Code.CHANGED, (), bytes(1024))
    assert downloads.cut(Request(Code.POST, "", b"", PATH), whole) is whole
    assert len(downloads) == 0


def test_only_answers_to_posts_are_kept_and_the_oldest_makes_room() -> None:
    downloads, whole = Downloads(2), Response(Code.CHANGED, (), bytes(2000))
    downloads.cut(wanted(0, 6, Code.GET), whole)
    assert len(downloads) == 0
    for source in ("coap:a:1", "coap:b:1", "coap:c:1"):
        downloads.cut(wanted(0, 6, source=source), whole)
    assert len(downloads) == 2
    with pytest.raises(Refused) as refused:
        downloads.rest(wanted(1, 6))
    assert refused.value.code == Code.REQUEST_ENTITY_INCOMPLETE
    assert downloads.rest(wanted(1, 6, source="coap:c:1")).payload == bytes(2000 - 1024)


def test_a_block_behind_the_end_and_one_of_reserved_size_are_bad() -> None:
    downloads, whole = Downloads(8), Response(Code.CONTENT, (), bytes(100))
    for request in (wanted(2, 2, Code.GET), wanted(0, 7, Code.GET)):
        with pytest.raises(Refused) as refused:
            downloads.cut(request, whole)
        assert refused.value.code == Code.BAD_REQUEST
