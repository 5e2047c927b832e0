"""Tables without holes, and the listing made of them."""

import logging

import pytest

from constrained.codes import CODES, implied_kind
from constrained.discovery import Listing
from constrained.formats import ANSWERS, DEFAULT_FORMATS, ContentFormats
from constrained.quiet import INTERVAL, QuietLog
from constrained.shelf import Shelf
from constrained.wire import Code
from protocol.errors import ProblemKind
from protocol.labels import Operation
from protocol.ports import Media


def test_no_kind_is_without_a_code() -> None:
    assert set(CODES) == set(ProblemKind)


def test_every_refusal_is_an_error_code() -> None:
    assert all(code >> 5 in (4, 5) for code in CODES.values())


@pytest.mark.parametrize("code", sorted(set(CODES.values())), ids=lambda code: code.name)
def test_what_a_code_implies_is_refused_with_that_code(code: Code) -> None:
    assert CODES[implied_kind(code)] == code


def test_a_code_that_says_nothing_to_us_implies_nothing_final() -> None:
    assert implied_kind(0xA2) is ProblemKind.UNAVAILABLE


@pytest.mark.parametrize("media", list(Media))
def test_every_media_type_has_a_number_and_every_number_its_media_type(media: Media) -> None:
    assert DEFAULT_FORMATS.media(DEFAULT_FORMATS.number(media)) is media


def test_the_numbers_of_the_rfcs_are_fixed_and_the_others_are_settings() -> None:
    formats = ContentFormats(c509_certificate=64)
    assert [formats.number(m) for m in (Media.SIGN1, Media.PKCS7_CERTS_ONLY, Media.PKIX_CERT)] == [
        18,
        281,
        287,
    ]
    assert formats.number(Media.C509_CERTIFICATE) == 64
    assert formats.media(65000) is None
    assert all(
        DEFAULT_FORMATS.number(m) >= 65000 for m in (Media.COSE_C509, Media.C509_TEMPLATE, Media.PKIX_CRL)
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"c509_certificate": 18},
        {"cose_c509": 65000},
        {"pkix_crl": 257},
        {"pkix_crl": 65536},
        {"pkix_crl": -1},
    ],
)
def test_a_number_that_is_taken_or_none_is_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="Content-Format"):
        ContentFormats(**settings)


def test_every_operation_has_something_to_answer_with() -> None:
    assert set(ANSWERS) == set(Operation)
    assert all(ANSWERS.values())


LISTING = Listing(("meter-ds", "its-enroll"), DEFAULT_FORMATS)


def select(*query: str) -> list[str]:
    document = LISTING.select(tuple(part.encode() for part in query)).decode()
    return document.split(",") if document else []


def test_everything_is_listed_under_both_roots() -> None:
    hrefs = {link.split(";")[0] for link in select()}
    assert hrefs == {
        f"<{root}/{label}/{op}>"
        for root in ("/.well-known/est", "/e")
        for label in ("meter-ds", "its-enroll")
        for op in ("crts", "att", "sen", "sren", "conf", "rev", "crl", "mail")
        if (label, op) != ("its-enroll", "mail")  # letters are for meters
    }
    assert '</e/meter-ds/crts>;rt="ace.est.crts";ct="65001 281 287"' in select()
    assert '</e/meter-ds/att>;rt="ace.est.att";ct=65002' in select()


def test_contracts_are_listed_with_the_operation_that_makes_their_keys_and_no_other() -> None:
    listed = Listing(("ev-contract",), DEFAULT_FORMATS).links
    assert {link.href.rpartition("/")[2] for link in listed} == {"crts", "att", "skg", "conf", "rev", "crl"}


def test_a_query_selects_by_resource_type_format_and_path() -> None:
    assert len(select("rt=ace.est*")) == len(select()) == 30
    assert len(select("rt=ace.est.sen")) == 4
    assert len(select("ct=287")) == 4 * 3
    assert select("href=/e/meter-ds/sen") == ['</e/meter-ds/sen>;rt="ace.est.sen";ct="65000 281 287"']
    assert len(select("href=/e/*", "rt=ace.est.sen")) == 2


def test_a_query_that_nothing_matches_selects_nothing_and_one_without_a_value_everything() -> None:
    assert select("rt=core.rd") == []
    assert select("if=x") == []
    assert len(select("page")) == 30
    assert LISTING.select((b"rt=\xff*",)) == b""


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_full_shelf_loses_its_oldest_entry() -> None:
    shelf: Shelf[str, int] = Shelf(2, 60.0, Clock())
    for number, key in enumerate("abac"):
        shelf.put(key, number)
    assert [shelf.get(key) for key in "abc"] == [2, None, 3]
    assert len(shelf) == 2


def test_an_entry_ages_and_its_place_is_taken_back() -> None:
    clock = Clock()
    shelf: Shelf[str, int] = Shelf(9, 60.0, clock)
    shelf.put("old", 1)
    clock.now += 59.0
    assert shelf.get("old") == 1
    clock.now += 1.0
    assert shelf.get("old") is None
    shelf.put("new", 2)
    assert len(shelf) == 1
    shelf.pop("new")
    shelf.pop("never there")
    assert len(shelf) == 0


def test_a_flood_of_bad_input_is_one_line_and_a_count(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = QuietLog(logging.getLogger("test.coap"), clock)
    for number in range(1000):
        log.warning("bad datagram %d", number)
        log.error("and a traceback", exc_info=ValueError("x"))
        log.info("seen")
    clock.now += INTERVAL
    log.warning("bad again")
    assert [record.getMessage() for record in caplog.records] == [
        "bad datagram 0",
        "bad again (and 1999 more since the last line)",
    ]
    assert not any(record.exc_info for record in caplog.records)


def test_a_line_may_hold_a_percent_sign(caplog: pytest.LogCaptureFixture) -> None:
    QuietLog(logging.getLogger("test.coap"), Clock()).warning("100% of it")
    assert [record.getMessage() for record in caplog.records] == ["100% of it"]


def test_a_fault_of_ours_is_not_hidden_by_the_floods_of_others(caplog: pytest.LogCaptureFixture) -> None:
    log = QuietLog(logging.getLogger("test.coap"), Clock())
    log.warning("bad datagram")
    log.fault("handler failed", ValueError("ours"))
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    assert caplog.records[1].exc_info is not None
