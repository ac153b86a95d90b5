"""Charts: coloured by the page, described mark by mark, the same bytes twice."""

from __future__ import annotations

import re

import pytest

from defsurvey.reports.analysis import Analysis, analyse
from defsurvey.reports.charts.drawing import PALETTE, Chart
from defsurvey.reports.charts.radar import ROOM, SIZE, Loop, Spokes, radar
from defsurvey.reports.figures.closeness import dot_plots
from defsurvey.reports.figures.dimensions import mean_plots, spread_plots
from tests.reports.planted import planted, wide_survey
from tests.reports.reading import read
from tests.reports.synthetic import Respondent, human, last, results

BOTH = [("a", "us", "def", human), ("b", "us", "def", last), ("a", "cn", "def", human), ("b", "cn", "def", last)]


def dimension_plots(found: Analysis) -> tuple[Chart, ...]:
    """Figure 5 of an analysis that has it."""
    return mean_plots(found)


def test_one_chart_per_culture_and_one_per_model() -> None:
    """Two cultures and two models give two charts of each kind."""
    found = analyse(results(BOTH))
    assert [chart.title for chart in dot_plots(found)] == [
        "Distance from people: United States",
        "Distance from people: China",
    ]
    assert [chart.title for chart in dimension_plots(found)] == ["a", "b"]


def test_colours_and_type_are_the_pages() -> None:
    """No colour of its own, no font, no placeholder left."""
    for chart in dot_plots(analyse(results(BOTH))):
        assert not set(PALETTE) & set(re.findall(r"#[0-9a-f]{6}", chart.svg))
        assert "font-family" not in chart.svg
        assert "var(--series-" in chart.svg
        assert "var(--floor)" in chart.svg


def test_marks_say_their_figures() -> None:
    """Every model's mark carries name, figure, interval and floor."""
    found = analyse(results(BOTH))
    titles = [title.text for title in read(dot_plots(found)[0].svg).find("title")]
    for cell in found.cultures[0].cells:
        assert any(
            title.startswith(f"{cell.name}: {cell.sound.headline:.{2 if cell.sound.headline >= 0.1 else 3}f} (")
            and "as many people" in title
            for title in titles
        )
    assert any(title.startswith("uniform answers: ") for title in titles)


def test_too_few_answers_are_never_the_closest() -> None:
    """A model that is not ranked for want of valid answers is drawn, and not said to be closest."""
    models = ("honest", "alpha-base", "beta-base")
    made = planted(wide_survey(30), models=models, refuses=("honest",), refusal=0.7)
    culture = (found := analyse(made.results)).cultures[0]
    assert [name for name, _ in culture.ranking.unranked] == ["honest"]
    assert min(culture.cells, key=lambda cell: cell.sound.headline).name == "honest"
    assert culture.ranking.winner == "alpha-base"
    assert "Closest: alpha-base: " in dot_plots(found)[0].description


@pytest.mark.parametrize(
    "cells",
    [
        [("a", "us", "def", human), ("b", "us", "def", human)],
        [("a", "us", "def", human)],
    ],
    ids=["not told apart", "alone"],
)
def test_nobody_is_closest_who_is_not_told_from_the_others(cells: list[tuple[str, str, str, Respondent]]) -> None:
    """Where the first place is shared, or there is nobody to compare with, the drawing names none either."""
    found = analyse(results(cells))
    assert found.cultures[0].ranking.winner == ""
    told = dot_plots(found)[0].description
    assert "Closest" not in told
    assert all(f" {cell.name}: {cell.sound.headline:.2f}"[:-1] in told for cell in found.cells)


def test_names_are_escaped() -> None:
    """A model's name cannot open an element within a drawing."""
    chart = dot_plots(analyse(results([("<b onload=x>&\x00", "us", "def", human)])))[0]
    assert "<b " not in chart.svg
    assert "\x00" not in chart.svg
    assert "&lt;b onload=x&gt;&amp;" in chart.svg


@pytest.mark.parametrize("sign", ["\x0b", "\x1b", "\x00", "\ufffe", "\u202e"])
def test_a_sign_that_no_drawing_can_hold_is_written_out(sign: str) -> None:
    """In a mark, in a name of a field, in the title and in the description; undrawn, it would end the process."""
    import altair as alt

    chart = alt.Chart({"values": [{f"a{sign}": [f"b{sign}"], "c": f"d{sign}"}]}).mark_point().encode(y="c:N")
    drawn = Chart(name="name", title=f"title{sign}", description=f"description{sign}", make=lambda: chart)
    written = f"⟨U+{ord(sign):04X}⟩"
    assert sign not in drawn.svg + drawn.title + drawn.description
    assert f"d{written}" in drawn.svg
    assert f"title{written}. description{written}" in drawn.svg
    assert (drawn.title, drawn.description) == (f"title{written}", f"description{written}")


def test_nothing_measured_draws_nothing() -> None:
    """Without a value there is no empty chart."""
    found = analyse(results(states=(0, 1, 0, 0)))
    assert dot_plots(found) == ()
    assert dimension_plots(found) == ()


def test_drawing_twice_gives_the_same_bytes() -> None:
    """Counters within the drawing library do not show."""
    found = analyse(results(BOTH))
    assert dot_plots(found) == dot_plots(found)
    assert dimension_plots(found) == dimension_plots(found)


def corners(path: str) -> list[tuple[float, float]]:
    """Where a closed path goes, from the middle of a radar in lengths of a spoke, up and right positive."""
    unit = SIZE / (2 * ROOM)
    places = [tuple(map(float, pair.split(","))) for pair in re.findall(r"[-\d.]+,[-\d.]+", path)]
    return [(round((x - SIZE / 2) / unit, 2), round((SIZE / 2 - y) / unit, 2)) for x, y in places]


def test_a_radar_puts_shares_clockwise_on_their_spokes() -> None:
    """Shares of .4, .2, .1 and 0 to a reach of .4: the top, half to the right, a quarter down, the middle."""
    spokes = Spokes(name="r", title="R", description="d", axes=("a", "b", "c", "d"), most=0.4)
    whole = Loop(values=(0.4, 0.2, 0.1, 0.0), says=("A", "B", "C", "D"), series=1)
    drawn = read(radar([whole], spokes).svg)
    (line,) = [path for path in drawn.find("path") if "stroke-dasharray" in path.attributes]
    assert corners(line.attributes["d"]) == [(0.0, 1.0), (0.5, 0.0), (0.0, -0.25), (0.0, 0.0)]
    assert line.attributes["stroke"] == "var(--series-2)"
    assert [title.text for title in drawn.find("title")] == ["A", "B", "C", "D"]


def test_a_radar_draws_no_line_through_what_is_not_known() -> None:
    """A loop that lacks a share is points alone; none is put in the middle, where 0 would be."""
    spokes = Spokes(name="r", title="R", description="d", axes=("a", "b", "c"), most=1.0)
    loop = Loop(values=(0.4, float("nan"), 0.1), says=("A", "B", "C"), series=1)
    drawn = read(radar([loop], spokes).svg)
    assert [path for path in drawn.find("path") if "stroke-dasharray" in path.attributes] == []
    assert [title.text for title in drawn.find("title")] == ["A", "C"]


@pytest.mark.parametrize("participants", [5, 20])
def test_an_axis_shows_all_that_is_drawn_on_it(participants: int) -> None:
    """Ends of intervals and floors lie within the drawing, so that no row makes it wider than it is said to be."""
    found = analyse(results(participants=participants))
    for chart in (*dot_plots(found), *mean_plots(found), *spread_plots(found)):
        width = float(re.findall(r'viewBox="0 0 (\S+)', chart.svg)[0])
        assert width < 480, chart.title
