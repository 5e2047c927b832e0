import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import cbor
from protocol.cbor import CBORTag
from protocol.errors import MalformedMessage, ProblemKind, RequestRejected
from protocol.problem import MAX_DETAIL_CHARS, MAX_RETRY_AFTER, TEMPORARY, TITLES, Problem

OURS = "tag:trillium,2026:problem"


def test_no_kind_is_without_a_title() -> None:
    assert set(TITLES) == set(ProblemKind)
    assert len(set(TITLES.values())) == len(ProblemKind)


def test_numbers_on_the_wire_stay_as_they_are() -> None:
    # Never reused, never moved: a device in the field has this table in its flash.
    assert {kind.name: kind.value for kind in ProblemKind if kind <= 22} == {
        "MALFORMED": 1,
        "UNEXPECTED": 2,
        "NOT_FOUND": 3,
        "UNSUPPORTED_FORMAT": 4,
        "UNKNOWN_SIGNER": 5,
        "BAD_SIGNATURE": 6,
        "SIGNER_EXPIRED": 7,
        "SIGNER_NOT_YET_VALID": 8,
        "SIGNER_REVOKED": 9,
        "SIGNER_SUPERSEDED": 10,
        "WRONG_SIGNER": 11,
        "WRONG_SUBJECT": 12,
        "PROOF_FAILED": 13,
        "BAD_KEY": 14,
        "KEY_USED": 15,
        "NOT_ENTITLED": 16,
        "NO_SUCH_CERTIFICATE": 17,
        "OVERLOADED": 18,
        "UNAVAILABLE": 19,
        "TOO_LARGE": 20,
        "STALE_MESSAGE": 21,
        "WRONG_CLIENT": 22,
    }


@given(
    st.builds(
        Problem,
        st.sampled_from(ProblemKind),
        st.text(max_size=MAX_DETAIL_CHARS),
        st.none() | st.integers(0, int(MAX_RETRY_AFTER)).map(float),
    ),
    st.none() | st.integers(0x80, 0xBF),
)
def test_a_problem_goes_both_ways(problem: Problem, code: int | None) -> None:
    assert Problem.decode(problem.encode(code)) == problem


def test_the_map_is_that_of_rfc_9290() -> None:
    encoded = Problem(ProblemKind.OVERLOADED, "later", 2.0).encode(0x9D)
    assert cbor.decode_map(encoded) == {-1: "overloaded", -2: "later", -4: 0x9D, OURS: {0: 18, 1: 2}}


def test_pauses_are_rounded_up_and_bounded() -> None:
    assert Problem.decode(Problem(ProblemKind.OVERLOADED, retry_after=0.1).encode()).retry_after == 1.0
    assert Problem.decode(Problem(ProblemKind.OVERLOADED, retry_after=0.0).encode()).retry_after == 0.0
    far = Problem(ProblemKind.OVERLOADED, retry_after=1e12)
    assert Problem.decode(far.encode()).retry_after == MAX_RETRY_AFTER


@pytest.mark.parametrize("letter", ["x", "水", "𐅑"])
def test_every_map_fits_a_datagram(letter: str) -> None:
    for kind in ProblemKind:
        assert len(Problem(kind, letter * 1000, 86400.0).encode(0xA0)) < 1024


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ({}, Problem(ProblemKind.UNAVAILABLE)),
        ({-1: "not ours", -2: "a detail"}, Problem(ProblemKind.UNAVAILABLE, "a detail")),
        ({OURS: {0: 4000}}, Problem(ProblemKind.UNAVAILABLE)),
        ({OURS: {0: True}}, Problem(ProblemKind.UNAVAILABLE)),
        ({OURS: {0: [1]}}, Problem(ProblemKind.UNAVAILABLE)),
        ({OURS: {0: "1"}}, Problem(ProblemKind.UNAVAILABLE)),
        ({OURS: {0: 15, 7: "new"}, 99: [1], "tag:else": {}}, Problem(ProblemKind.KEY_USED)),
        ({-2: 5, OURS: {0: 15}}, Problem(ProblemKind.KEY_USED)),
        ({-2: CBORTag(38, ["de", "zu viel"]), OURS: {0: 18}}, Problem(ProblemKind.OVERLOADED, "zu viel")),
        ({-2: CBORTag(38, ["ar", "x", True]), OURS: {0: 18}}, Problem(ProblemKind.OVERLOADED, "x")),
        ({-2: CBORTag(38, "zu viel"), OURS: {0: 18}}, Problem(ProblemKind.OVERLOADED)),
    ],
    ids=str,
)
def test_what_is_not_known_is_passed_over(item: dict[object, object], problem: Problem) -> None:
    assert Problem.decode(cbor.encode(item)) == problem


@pytest.mark.parametrize(
    "item",
    [
        [],
        0,
        "text",
        {OURS: []},
        {OURS: 18},
        {OURS: {0: 18, 1: -1}},
        {OURS: {0: 18, 1: "1"}},
        {OURS: {1: True}},
    ],
    ids=str,
)
def test_what_is_no_problem_is_malformed(item: object) -> None:
    with pytest.raises(MalformedMessage):
        Problem.decode(cbor.encode(item))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_problem_or_malformed(data: bytes) -> None:
    try:
        problem = Problem.decode(data)
    except MalformedMessage:
        return
    assert problem.kind in ProblemKind


def test_a_rejection_becomes_a_problem() -> None:
    error = RequestRejected(ProblemKind.NOT_ENTITLED, "quota", 60.0)
    assert Problem.of(error) == Problem(ProblemKind.NOT_ENTITLED, "quota", 60.0)
    assert Problem.of(RequestRejected(ProblemKind.KEY_USED)) == Problem(ProblemKind.KEY_USED)
    assert str(RequestRejected(ProblemKind.KEY_USED)) == "key used"


def test_temporary_refusals_are_those_that_time_may_cure() -> None:
    assert all(Problem(kind).is_temporary == (kind in TEMPORARY) for kind in ProblemKind)
    assert ProblemKind.SIGNER_REVOKED not in TEMPORARY
    assert {ProblemKind.OVERLOADED, ProblemKind.UNAVAILABLE} <= TEMPORARY
