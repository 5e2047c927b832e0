"""A forecast to look at: on terminals of any width, as SVG and as PNG, saying the same in words."""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from agents.authority.load import DAY, By, stretches
from agents.authority.outlook import Bar, Forecast
from agents.cli.forecast_command import as_dict, fitting
from agents.cli.forecast_picture import WIDTH, draw
from agents.cli.forecast_terminal import HEIGHT, chart
from agents.cli.forecast_words import peak, tick
from agents.cli.picture import Line, NoPillow, Picture, Rectangle, Shape, Words

BEGINS = int(datetime(2028, 3, 1, tzinfo=UTC).timestamp())
SVG = "{http://www.w3.org/2000/svg}"


def made(
    loads: list[int], by: By = By.DAY, ends: dict[int, int] | None = None, label: str = "meter-ds"
) -> Forecast:
    days = {By.DAY: 1, By.WEEK: 7, By.MONTH: 30}[by] * len(loads)
    cut = stretches(BEGINS, days, by)[: len(loads)]
    bars = tuple(
        Bar(stretch, {label: load} if load else {}, {label: (ends or {})[i]} if i in (ends or {}) else {})
        for i, (stretch, load) in enumerate(zip(cut, loads, strict=True))
    )
    return Forecast(BEGINS, BEGINS, sum(stretch.days for stretch in cut), by, bars, (), (), ())


def lines(found: Forecast, width: int, **more: str) -> list[str]:
    return [line.plain for line in chart(found, width, **more)]


def test_the_peak_is_named_with_its_day_and_how_exceptional_it_is() -> None:
    loads = [500] * 20
    loads[1] = 1204
    said = peak(made(loads))
    assert said == (
        "peak: 1,204 renewals on 2028-03-02, 2.2 times the mean; "
        "more than 150% of the mean is exceptional (1 day)"
    )
    assert (
        peak(made([100] * 5)) == "peak: 100 renewals on 2028-03-01, 1.0 times the mean: nothing exceptional"
    )
    assert "in the week of 2028-03-06" in peak(made([1, 9, 1], By.WEEK))
    assert "in April 2028" in peak(made([1, 9, 1], By.MONTH))
    assert peak(made([0, 0])) == "no renewals in the next 2 days"


@pytest.mark.parametrize("width", [40, 80, 120, 300])
@pytest.mark.parametrize("count", [1, 12, 53, 365])
def test_no_line_of_the_chart_is_longer_than_the_terminal(width: int, count: int) -> None:
    loads = [(index * 37) % 1000 for index in range(count)]
    shown = lines(made(loads, ends={0: 5, count - 1: 2}), width)
    assert max(map(len, shown)) <= width


def test_columns_are_as_high_as_their_loads_and_some_is_never_none() -> None:
    shown = lines(made([0, 1, 500, 1000]), 80)[:HEIGHT]
    columns = ["".join(line[10 + 6 * index] for line in shown) for index in range(4)]
    assert columns[0].strip(" ·") == ""
    assert columns[1].strip(" ·") == "▁"
    assert columns[2].count("█") == HEIGHT // 2
    assert columns[3] == "█" * HEIGHT


def test_more_bars_than_columns_go_below_on_the_same_scale() -> None:
    shown = lines(made([1000] * 100 + [500] * 20), 80)
    assert sum("1,000 ┤" in line for line in shown) == 2
    assert sum(line.count("█") for line in shown) == 100 * HEIGHT + 20 * HEIGHT // 2


def test_a_terminal_without_blocks_gets_plain_characters() -> None:
    shown = lines(made([1, 2, 3], ends={1: 1}), 80, blocks="#")
    assert all(line.isascii() for line in shown)
    assert sum(line.count("#") for line in shown) > 0


def test_expiries_have_a_chart_of_their_own_where_there_are_any() -> None:
    assert not any("nobody renews" in line for line in lines(made([1, 2]), 80))
    assert any("nobody renews" in line for line in lines(made([0, 0], ends={1: 7}), 80))


def test_the_year_stands_where_it_changes() -> None:
    found = made([1] * 400)
    december, january = found.bars[305], found.bars[306]
    assert (tick(december, By.DAY, found.bars[0]), tick(january, By.DAY, december)) == ("12-31", "2029-01-01")
    assert tick(found.bars[0], By.MONTH, None) == "Mar 2028"


@pytest.mark.parametrize(("days", "by"), [(1, By.DAY), (62, By.DAY), (365, By.WEEK), (1000, By.MONTH)])
def test_bars_stand_for_what_fits(days: int, by: By) -> None:
    assert fitting(days) is by


def test_the_svg_is_a_document_of_its_own_with_a_bar_for_each_load() -> None:
    found = made([0, 10, 20, 40], ends={2: 3})
    text = draw(found).to_svg()
    root = ET.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert root.findtext(f"{SVG}title") == f"Renewals per day, 2028-03-01 to 2028-03-04. {peak(found)}."
    bars = [float(one.get("height", "0")) for one in root.iter(f"{SVG}rect") if one.get("fill") == "#0072b2"]
    assert bars[1:] == [75.0, 150.0, 300.0]  # after the legend's
    assert sum(one.get("fill") == "#b2182b" for one in root.iter(f"{SVG}rect")) == 1
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    right = [float(one.get("x", "0")) + float(one.get("width", "0")) for one in root.iter(f"{SVG}rect")]
    assert max(right) <= WIDTH


def test_names_cannot_break_out_of_the_svg() -> None:
    evil = '"/><script>alert(1)</script>&'
    shapes: list[Shape] = [Words(0, 0, evil), Rectangle(0, 0, 1, 1, evil), Line(0, 0, 1, 0, evil)]
    root = ET.fromstring(Picture(9, 9, evil, shapes).to_svg())
    assert not list(root.iter(f"{SVG}script"))
    assert root.findtext(f"{SVG}title") == evil


def test_many_labels_share_the_last_colour() -> None:
    cut = stretches(BEGINS, 1, By.DAY)
    bar = Bar(cut[0], {f"label-{n}": 100 - n for n in range(20)}, {})
    picture = draw(Forecast(BEGINS, BEGINS, 1, By.DAY, (bar,), (), (), ()))
    words = [shape.text for shape in picture.shapes if isinstance(shape, Words)]
    assert "others" in words
    assert sum(word.startswith("label-") for word in words) == 6
    wide = [shape for shape in picture.shapes if isinstance(shape, Rectangle) and shape.width > 10]
    assert sum(shape.height for shape in wide) == pytest.approx(300 * bar.load / 2000)


def test_a_forecast_of_nothing_can_be_drawn() -> None:
    assert "no renewals" in draw(made([0] * 30)).to_svg()
    assert lines(made([0] * 30), 80)


def test_the_png_shows_what_the_svg_shows(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image", reason="Pillow (extra: plot) is not installed")
    picture = draw(made([0, 10, 20, 40], ends={2: 3}))
    (tmp_path / "f.png").write_bytes(picture.to_png())
    with image_module.open(tmp_path / "f.png") as image:
        assert image.size == (2 * picture.width, 2 * picture.height)
        colours = {colour: count for count, colour in image.convert("RGB").getcolors(1 << 20)}
    blue, red = colours[0x00, 0x72, 0xB2], colours[0xB2, 0x18, 0x2B]
    drawn = [shape for shape in picture.shapes if isinstance(shape, Rectangle) and shape.fill == "#0072b2"]
    expected = sum(shape.width * shape.height for shape in drawn)
    assert blue == pytest.approx(4 * expected, rel=0.01)
    assert red > 1000


def test_without_pillow_the_png_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(NoPillow):
        draw(made([1])).to_png()


def test_json_says_it_in_days_and_numbers() -> None:
    told = as_dict(made([0, 30], ends={1: 2}))
    assert told["peak"] == {
        "begins": "2028-03-02",
        "days": 1,
        "renewals": {"meter-ds": 30},
        "expiries": {"meter-ds": 2},
        "load": 30,
        "times_mean": 2.0,
    }
    assert (told["renewals"], told["daily_mean"], told["days"]) == (30, 15.0, 2)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", told["bars"][0]["begins"])
    assert told["begins"] % DAY == 0
