"""The server's resources, without a socket."""

import logging
from dataclasses import dataclass, field

import anyio
import pytest

from constrained.codes import CODES
from constrained.door import Call, Door, Limits
from constrained.formats import DEFAULT_FORMATS
from constrained.quiet import QuietLog
from constrained.wire import Block, Code, Option, Request, Response
from protocol.errors import ProblemKind
from protocol.labels import Operation
from protocol.ports import Content, Inbound, InboundMessage, Media, Pending, Reply, SignedRefusal
from protocol.problem import Problem

SOURCE = "coap:192.0.2.1:5683"
WITH_BODY = [op for op in Operation if op.has_body]
WITHOUT_BODY = [op for op in Operation if not op.has_body]


@dataclass
class Authority:
    """A handler that remembers and says what it is told to."""

    reply: Reply | Exception = field(default_factory=lambda: Content(b"certificate", Media.C509_CERTIFICATE))
    refusal: Problem | None = None
    heard: list[Inbound] = field(default_factory=list)
    messages: list[InboundMessage] = field(default_factory=list)

    async def __call__(self, inbound: Inbound) -> Reply:
        self.heard.append(inbound)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    async def take(self, message: InboundMessage) -> Problem | None:
        self.messages.append(message)
        return self.refusal

    def door(self, *, messages: bool = True) -> Door:
        return Door(
            self,
            ["meter-ds", "its-enroll"],
            messages=self.take if messages else None,
            formats=DEFAULT_FORMATS,
            limits=Limits(),
            log=QuietLog(logging.getLogger("test.coap")),
        )


async def ask(door: Door, request: Request) -> Response:
    outcome = door.enter(request)
    return await door.answer(outcome) if isinstance(outcome, Call) else outcome


def post(
    op: str = "sen", payload: bytes = b"request", *, root: str = "e", label: str = "meter-ds", **rest: object
) -> Request:
    path = (*root.encode().split(b"/"), label.encode(), op.encode())
    return Request(Code.POST, SOURCE, payload, path, **{"content_format": 18, **rest})  # type: ignore[arg-type]


def get(op: str = "crts", **rest: object) -> Request:
    return Request(Code.GET, SOURCE, b"", (b"e", b"meter-ds", op.encode()), **rest)  # type: ignore[arg-type]


def option(response: Response, number: Option) -> int | None:
    value = dict(response.options).get(number)
    return None if value is None else int.from_bytes(value)


def problem(response: Response) -> Problem:
    assert option(response, Option.CONTENT_FORMAT) == 257
    return Problem.decode(response.payload)


@pytest.mark.parametrize("root", ["e", ".well-known/est"])
@pytest.mark.parametrize("op", WITH_BODY)
async def test_a_request_reaches_its_handler_and_is_answered_changed(op: Operation, root: str) -> None:
    authority = Authority()
    response = await ask(authority.door(), post(op, root=root))
    assert authority.heard == [Inbound("meter-ds", op, b"request", SOURCE)]
    assert response == Response(Code.CHANGED, ((Option.CONTENT_FORMAT, b"\xfd\xe8"),), b"certificate")


@pytest.mark.parametrize("op", WITHOUT_BODY)
async def test_a_question_without_a_body_is_answered_with_content(op: Operation) -> None:
    authority = Authority()
    response = await ask(authority.door(), get(op))
    assert authority.heard == [Inbound("meter-ds", op, b"", SOURCE)]
    assert (response.code, response.payload) == (Code.CONTENT, b"certificate")


@pytest.mark.parametrize("op", list(Operation))
@pytest.mark.parametrize("code", [Code.GET, Code.POST, 3, 4, 5, 31])
async def test_another_method_is_not_allowed(op: Operation, code: int) -> None:
    request = post(op)
    request.code = code
    if code == (Code.POST if op.has_body else Code.GET):
        return
    authority = Authority()
    assert (await ask(authority.door(), request)).code == Code.METHOD_NOT_ALLOWED
    assert not authority.heard


@pytest.mark.parametrize(
    "path",
    [
        (),
        (b"e",),
        (b"e", b"meter-ds"),
        (b"e", b"meter-ds", b"sen", b""),
        (b"e", b"nobody", b"sen"),
        (b"e", b"meter-ds", b"fullcmc"),
        (b"e", b"meter-ds", b"\xff\xfe"),
        (b".well-known", b"est", b"sen"),
        (b".well-known",),
        (b"m",),
        (b"m", b"Upper"),
        (b"m", b"x" * 33),
        (b"m", b""),
        (b"m", b"a", b"b"),
    ],
    ids=lambda path: "/" + b"/".join(path).decode("latin-1"),
)
async def test_what_is_not_there_is_not_found(path: tuple[bytes, ...]) -> None:
    request = post()
    request.path = path
    response = await ask(Authority().door(), request)
    assert response.code == Code.NOT_FOUND
    assert problem(response).kind is ProblemKind.NOT_FOUND


@pytest.mark.parametrize("content_format", [None, 0, 60, 257, 281, 286, 287, 65000, 65001])
async def test_only_cose_sign1_is_taken(content_format: int | None) -> None:
    authority = Authority()
    for request in (
        post(content_format=content_format),
        post(content_format=content_format, block1=Block(0, True, 0)),
    ):
        assert (await ask(authority.door(), request)).code == Code.UNSUPPORTED_CONTENT_FORMAT
    assert not authority.heard


@pytest.mark.parametrize(
    ("accept", "media"),
    [(281, Media.PKCS7_CERTS_ONLY), (287, Media.PKIX_CERT), (65000, Media.C509_CERTIFICATE)],
)
async def test_accept_says_which_form_is_wanted(accept: int, media: Media) -> None:
    authority = Authority(Content(b"x", media))
    response = await ask(authority.door(), post(accept=accept))
    assert authority.heard[0].accept is media
    assert option(response, Option.CONTENT_FORMAT) == accept


@pytest.mark.parametrize("accept", [0, 18, 60, 286, 65002, 65535])
async def test_a_form_that_an_operation_does_not_have_is_not_acceptable(accept: int) -> None:
    authority = Authority()
    assert (await ask(authority.door(), post(accept=accept))).code == Code.NOT_ACCEPTABLE
    assert not authority.heard


async def test_a_handler_that_has_only_another_form_is_not_acceptable() -> None:
    response = await ask(Authority().door(), post(accept=287))
    assert response.code == Code.NOT_ACCEPTABLE


@pytest.mark.parametrize("op", ["crts", "crl"])
async def test_an_etag_that_still_holds_saves_the_body(op: str) -> None:
    door = Authority(Content(b"long", Media.COSE_C509, b"version7")).door()
    first = await ask(door, get(op))
    assert dict(first.options)[Option.ETAG] == b"version7"
    valid = await ask(door, get(op, etags=(b"version6", b"version7")))
    assert valid == Response(Code.VALID, ((Option.ETAG, b"version7"),))
    assert (await ask(door, get(op, etags=(b"version6",)))).code == Code.CONTENT


async def test_a_handler_need_not_think_of_etags() -> None:
    authority = Authority(Content(b"one", Media.COSE_C509))
    door = authority.door()
    etag = dict((await ask(door, get())).options)[Option.ETAG]
    assert len(etag) == 8
    assert (await ask(door, get(etags=(etag,)))).code == Code.VALID
    authority.reply = Content(b"two", Media.COSE_C509)
    assert (await ask(door, get(etags=(etag,)))).code == Code.CONTENT


async def test_pending_is_unavailable_for_a_while_and_nothing_more() -> None:
    response = await ask(Authority(Pending(2.1)).door(), post())
    assert response == Response(Code.SERVICE_UNAVAILABLE, ((Option.MAX_AGE, b"\x03"),))


@pytest.mark.parametrize("kind", list(ProblemKind))
async def test_a_problem_has_its_code_and_a_body_that_says_the_same(kind: ProblemKind) -> None:
    reply = Problem(kind, "because", 12.5)
    response = await ask(Authority(reply).door(), post())
    assert response.code == CODES[kind]
    assert option(response, Option.MAX_AGE) == 13
    assert problem(response) == Problem(kind, "because", 13.0)
    assert reply.encode(response.code) == response.payload  # its response-code is the real one


async def test_a_problem_that_will_not_pass_has_no_max_age() -> None:
    response = await ask(Authority(Problem(ProblemKind.BAD_KEY)).door(), post())
    assert option(response, Option.MAX_AGE) is None


async def test_a_signed_refusal_keeps_its_bytes_and_gets_its_kinds_code() -> None:
    reply = SignedRefusal(b"sign1", Problem(ProblemKind.OVERLOADED, "", 30.0))
    response = await ask(Authority(reply).door(), post())
    assert (response.code, response.payload) == (Code.TOO_MANY_REQUESTS, b"sign1")
    assert (option(response, Option.CONTENT_FORMAT), option(response, Option.MAX_AGE)) == (18, 30)


async def test_a_fault_of_ours_costs_one_request_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    authority = Authority(RuntimeError("a secret"))
    door = authority.door()
    response = await ask(door, post())
    assert response.code == Code.INTERNAL_SERVER_ERROR
    assert b"secret" not in response.payload
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    authority.reply = Pending(1.0)
    assert (await ask(door, post())).code == Code.SERVICE_UNAVAILABLE


async def test_cancelling_an_answer_cancels_its_handler() -> None:
    async def forever(_: Inbound) -> Reply:
        await anyio.sleep_forever()
        raise AssertionError

    log = QuietLog(logging.getLogger("test.coap"))
    door = Door(forever, ["meter-ds"], messages=None, formats=DEFAULT_FORMATS, limits=Limits(), log=log)
    with anyio.move_on_after(0.01) as scope:
        await ask(door, post())
    assert scope.cancelled_caught


async def test_a_message_is_taken_for_verification() -> None:
    authority = Authority()
    request = Request(Code.POST, SOURCE, b"signed", (b"m", b"meter_1-a"), content_format=18)
    assert await ask(authority.door(), request) == Response(Code.CHANGED)
    assert authority.messages == [InboundMessage("meter_1-a", b"signed", SOURCE)]
    authority.refusal = Problem(ProblemKind.OVERLOADED, "", 1.0)
    assert (await ask(authority.door(), request)).code == Code.TOO_MANY_REQUESTS


async def test_without_a_verifier_there_are_no_streams() -> None:
    request = Request(Code.POST, SOURCE, b"signed", (b"m", b"readings"), content_format=18)
    assert (await ask(Authority().door(messages=False), request)).code == Code.NOT_FOUND


async def test_a_message_of_another_format_or_method_is_refused() -> None:
    door = Authority().door()
    request = Request(Code.POST, SOURCE, b"signed", (b"m", b"readings"), content_format=60)
    assert (await ask(door, request)).code == Code.UNSUPPORTED_CONTENT_FORMAT
    request.code = Code.GET
    assert (await ask(door, request)).code == Code.METHOD_NOT_ALLOWED


async def test_what_is_too_long_is_refused_with_the_limit_and_without_the_handler() -> None:
    authority = Authority()
    response = await ask(authority.door(), post(payload=bytes(4097)))
    assert response.code == Code.REQUEST_ENTITY_TOO_LARGE
    assert option(response, Option.SIZE1) == 4096
    assert problem(response).kind is ProblemKind.TOO_LARGE
    assert not authority.heard


async def test_blocks_up_and_down_make_one_exchange() -> None:
    authority = Authority(Content(bytes(range(200)), Media.C509_CERTIFICATE))
    door = authority.door()
    for number in range(2):
        response = await ask(door, post(payload=bytes(64), block1=Block(number, True, 2)))
        assert response == Response(Code.CONTINUE, ((Option.BLOCK1, Block(number, True, 2).encode()),))
    assert not authority.heard
    response = await ask(door, post(payload=b"end", block1=Block(2, False, 2)))
    assert authority.heard[0].body == bytes(128) + b"end"
    assert Block.decode(dict(response.options)[Option.BLOCK1]) == Block(2, False, 2)
    assert option(response, Option.SIZE2) == 200
    body = response.payload
    for number in range(1, 4):
        response = await ask(door, post(payload=b"", block2=Block(number, False, 2)))
        assert response.code == Code.CHANGED
        body += response.payload
    assert body == bytes(range(200))
    assert len(authority.heard) == 1


async def test_a_later_block_of_no_answer_is_incomplete() -> None:
    assert (
        await ask(Authority().door(), post(block2=Block(1, False, 2)))
    ).code == Code.REQUEST_ENTITY_INCOMPLETE


async def test_options_that_are_not_understood_and_proxies_are_refused() -> None:
    door = Authority().door()
    assert (await ask(door, post(refused=1))).code == Code.BAD_OPTION
    assert (await ask(door, post(proxied=True))).code == Code.PROXYING_NOT_SUPPORTED


async def test_the_listing_is_a_resource_as_any_other() -> None:
    door = Authority().door()
    request = Request(Code.GET, SOURCE, path=(b".well-known", b"core"), query=(b"rt=ace.est.crts",))
    response = await ask(door, request)
    assert (response.code, option(response, Option.CONTENT_FORMAT)) == (Code.CONTENT, 40)
    assert response.payload.count(b"<") == 4
    request.block2 = Block(1, False, 2)
    assert (await ask(door, request)).payload == response.payload[64:128]
    request.accept = 60
    assert (await ask(door, request)).code == Code.NOT_ACCEPTABLE
    request.code = Code.POST
    assert (await ask(door, request)).code == Code.METHOD_NOT_ALLOWED


@pytest.mark.parametrize("label", ["", "Meter", "a/b", "x" * 33, "é"])
def test_a_label_that_is_none_is_refused(label: str) -> None:
    log = QuietLog(logging.getLogger("test.coap"))
    with pytest.raises(ValueError, match="not a label"):
        Door(Authority(), [label], messages=None, formats=DEFAULT_FORMATS, limits=Limits(), log=log)
