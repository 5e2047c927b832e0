from collections.abc import Callable

import pytest

from protocol.errors import ProblemKind, RequestRejected
from protocol.ev import Emaid, Evseid, Pcid, Seccid
from protocol.ev.check_character import ALPHABET, check_character

SECCID = "DE8AAS00003C4D5578786756453309675434762"
DOTLESS_I = "\N{LATIN SMALL LETTER DOTLESS I}"
LONG_S = "\N{LATIN SMALL LETTER LONG S}"

PUBLISHED = {
    # eMI3, "Check Digit Calculation for Contract-IDs"
    "DE83DUIEN83QGZ": "D",
    # "Electric Vehicle ICT Interface Specifications" 1.0 part 2, 1.2.2.1
    "DE8AACA2B3C4D5": "L",
    # Agreed on by several independent implementations
    "NN123ABCDEFGHI": "T",
    "FRXYZ123456789": "2",
    "ITA1B2C3E4F5G6": "4",
    "ESZU8WOX834H1D": "R",
    "PT73902837ABCZ": "Z",
    "DE83DUIEN83ZGQ": "M",
    "DE8AA001234567": "0",
    "NLTNM000122045": "U",
    "NLTNM000722345": "X",
    "NLTNMC00122045": "K",
}


def refusal(call: Callable[[str], object], text: str) -> str:
    with pytest.raises(RequestRejected) as caught:
        call(text)
    assert caught.value.reason is ProblemKind.WRONG_SUBJECT
    return caught.value.detail


@pytest.mark.parametrize(("body", "check"), PUBLISHED.items())
def test_published_check_characters_are_computed(body: str, check: str) -> None:
    assert check_character(body) == check


@pytest.mark.parametrize("body", ["", "DE83DUIEN83QG", "DE83DUIEN83QGZD", "DE83DUIEN83QG-", "DE83DUIEN83QGz"])
def test_a_check_character_belongs_to_fourteen_capitals_and_digits(body: str) -> None:
    with pytest.raises(ValueError):
        check_character(body)


@pytest.mark.parametrize("position", range(14))
def test_any_single_wrong_character_is_noticed(position: int) -> None:
    body = "DE83DUIEN83QGZ"
    wrong = {check_character(body[:position] + one + body[position + 1 :]) for one in ALPHABET}
    assert len(wrong) == len(ALPHABET)


@pytest.mark.parametrize("position", range(13))
def test_any_two_neighbours_swapped_are_noticed(position: int) -> None:
    for first in ALPHABET:
        for second in ALPHABET:
            if first == second:
                continue
            there = "A" * position + first + second + "A" * (12 - position)
            back = "A" * position + second + first + "A" * (12 - position)
            assert check_character(there) != check_character(back)


def test_an_emaid_has_its_parts() -> None:
    name = Emaid.parse("DE83DUIEN83QGZD")
    assert (name.country, name.provider, name.instance, name.check) == ("DE", "83D", "UIEN83QGZ", "D")
    assert str(name) == "DE83DUIEN83QGZD"
    assert str(Emaid.parse("DE83DUIEN83QGZ")) == "DE83DUIEN83QGZ"
    assert Emaid.parse("DE83DUIEN83QGZ").computed_check == "D"


def test_a_wrong_check_character_is_refused_unless_one_has_to_live_with_it() -> None:
    assert "check character" in refusal(Emaid.parse, "DE83DUIEN83QGZE")
    assert "check character" in refusal(Emaid.normalise, "DE-83D-UIEN83QGZ-E")
    assert Emaid.parse("DE83DUIEN83QGZE", verify=False).check == "E"
    assert Emaid.normalise("de-83d-uien83qgz-e", verify=False) == "DE83DUIEN83QGZE"


@pytest.mark.parametrize(
    "text",
    [
        *("", "DE83DUIEN83QG", "DE83DUIEN83QGZDD", "D183DUIEN83QGZ", "de83duien83qgz", "DE-83D-UIEN83QGZ-D"),
        *(" DE83DUIEN83QGZ", "DE83DUIEN83QGZ\n", "DE83DUIEN83QG٣", "DE83DUIEN83QGß"),
    ],
)
def test_an_emaid_is_spelled_in_one_way(text: str) -> None:
    refusal(Emaid.parse, text)


def test_an_emaid_is_normalised_with_all_hyphens_or_none() -> None:
    for text in ("de-83d-uien83qgz-d", "DE83DUIEN83QGZD", "De83duIEN83qgzD"):
        assert Emaid.normalise(text) == "DE83DUIEN83QGZD"
    assert Emaid.normalise("de-83d-uien83qgz") == "DE83DUIEN83QGZ"
    for text in (
        "DE-83DUIEN83QGZ",
        "DE83D-UIEN83QGZ",
        "DE-83D-UIEN83QGZD",
        "DE83DUIEN83QGZ-D",
        "DE*83D*UIEN83QGZ",
    ):
        refusal(Emaid.normalise, text)


def test_letters_that_only_upper_case_makes_ascii_are_refused() -> None:
    assert DOTLESS_I.upper() == "I"
    refusal(Emaid.normalise, f"DE83DU{DOTLESS_I}EN83QGZD")
    refusal(Pcid.normalise, f"TRL00000000000001{LONG_S}")


def test_a_pcid_begins_with_its_makers_identifier() -> None:
    assert Pcid.parse("TRL00000000000001").wmi == "TRL"
    assert Pcid.normalise("trl000000000000012") == "TRL000000000000012"
    for text in ("TRL0000000000001", "TRL0000000000000123", "trl00000000000001", "TRL-0000000000001", ""):
        refusal(Pcid.parse, text)


def test_a_seccid_is_carried_with_whatever_check_character_it_has() -> None:
    name = Seccid.parse(SECCID)
    assert (name.country, name.operator) == ("DE", "8AA")
    assert name.controller == "00003C4D5578786756453309675434762"
    assert str(name) == SECCID
    assert Seccid.normalise("de-8aA-S-00003C4d557878675645330967543476-2") == SECCID
    assert Seccid.normalise(SECCID.lower()) == SECCID


@pytest.mark.parametrize(("length", "good"), [(37, False), (38, True), (64, True), (65, False)])
def test_a_seccid_has_38_to_64_characters(length: int, good: bool) -> None:
    text = "DE8AAS" + "0" * (length - 6)
    if good:
        assert str(Seccid.parse(text)) == text == Seccid.normalise(text)
    else:
        refusal(Seccid.parse, text)
        refusal(Seccid.normalise, text)


def test_a_seccid_is_of_type_s() -> None:
    refusal(Seccid.parse, SECCID.replace("AAS", "AAE"))
    refusal(Seccid.normalise, "DE-8AAS-00003C4D557878675645330967543476")


def test_an_evseid_is_normalised_by_dropping_stars() -> None:
    for text in ("DE*ICE*E45B*78C", "DEICEE45B78C", "de*ice*e45b78c"):
        assert Evseid.normalise(text) == "DEICEE45B78C"
    name = Evseid.parse("DEICEE45B78C")
    assert (name.country, name.operator, name.kind, name.outlet) == ("DE", "ICE", "E", "45B78C")
    assert str(Evseid.parse("DEICEP45B78C")) == "DEICEP45B78C"


@pytest.mark.parametrize(("length", "good"), [(6, False), (7, True), (37, True), (38, False)])
def test_an_evseid_has_7_to_37_characters(length: int, good: bool) -> None:
    text = "DEICEE" + "1" * (length - 6)
    if good:
        assert str(Evseid.parse(text)) == text == Evseid.normalise(text)
    else:
        refusal(Evseid.parse, text)
        refusal(Evseid.normalise, text)


@pytest.mark.parametrize(
    "text", ["DE*ICE*S45B", "DE*ICE*E*45B", "DE*ICE*E45B*", "DE**ICE*E45B", "DE*ICE*E45**B", "+49*810*000"]
)
def test_an_evseid_has_no_empty_parts_and_a_known_type(text: str) -> None:
    refusal(Evseid.normalise, text)


def test_a_refusal_quotes_a_long_text_in_part() -> None:
    assert len(refusal(Emaid.parse, "A" * 100_000)) < 200
