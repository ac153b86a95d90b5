"""Drawings: what they show, how wide they are, and which colour and shape a culture has."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from defsurvey.reports.analysis import Analysis, analyse
from defsurvey.reports.charts.drawing import LONGEST, PALETTE, Chart, room_for, shortened, width_of
from defsurvey.reports.charts.radar import ROOM, SIZE, Loop, radar
from defsurvey.reports.contents import page
from defsurvey.reports.figures.closeness import dot_plots
from defsurvey.reports.figures.cultural_map import culture_map
from defsurvey.reports.figures.dimensions import mean_plots, spread_plots
from defsurvey.reports.figures.projection import cultural_map
from defsurvey.reports.html import render_html
from defsurvey.reports.metrics.judges import FAIL, PASS, Verdicts
from defsurvey.reports.page import Section
from defsurvey.storage.runs.results import Results
from defsurvey.storage.surveys.survey import Culture, Question
from tests.reports.planted import planted, wide_survey
from tests.reports.reading import Element, read
from tests.reports.synthetic import Respondent, human, last, results, survey, uniform

BOTH = [("a", "us", "def", human), ("b", "us", "def", last), ("a", "cn", "def", human), ("b", "cn", "def", last)]


def dimension_plots(found: Analysis) -> tuple[Chart, ...]:
    """Figure 5 of an analysis that has it."""
    return mean_plots(found)


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


def corners(path: str) -> list[tuple[float, float]]:
    """Where a closed path goes, from the middle of a radar in lengths of a spoke, up and right positive."""
    unit = SIZE / (2 * ROOM)
    places = [tuple(map(float, pair.split(","))) for pair in re.findall(r"[-\d.]+,[-\d.]+", path)]
    return [(round((x - SIZE / 2) / unit, 2), round((SIZE / 2 - y) / unit, 2)) for x, y in places]


def test_a_radar_puts_shares_clockwise_on_their_spokes() -> None:
    """Shares of .4, .2, .1 and 0 to a reach of .4: the top, half to the right, a quarter down, the middle."""
    whole = Loop(values=(0.4, 0.2, 0.1, 0.0), says=("A", "B", "C", "D"), series=1)
    drawn = read(radar([whole], "r", "R", "d", "abcd", 0.4).svg)
    (line,) = [path for path in drawn.find("path") if "stroke-dasharray" in path.attributes]
    assert corners(line.attributes["d"]) == [(0.0, 1.0), (0.5, 0.0), (0.0, -0.25), (0.0, 0.0)]
    assert line.attributes["stroke"] == "var(--series-2)"
    assert [title.text for title in drawn.find("title")] == ["A", "B", "C", "D"]


def test_a_radar_draws_no_line_through_what_is_not_known() -> None:
    """A loop that lacks a share is points alone; none is put in the middle, where 0 would be."""
    loop = Loop(values=(0.4, float("nan"), 0.1), says=("A", "B", "C"), series=1)
    drawn = read(radar([loop], "r", "R", "d", "abc", 1.0).svg)
    assert [path for path in drawn.find("path") if "stroke-dasharray" in path.attributes] == []
    assert [title.text for title in drawn.find("title")] == ["A", "C"]


@pytest.mark.parametrize("participants", [5, 20])
def test_an_axis_shows_all_that_is_drawn_on_it(participants: int) -> None:
    """Ends of intervals and floors lie within the drawing, so that no row makes it wider than it is said to be."""
    found = analyse(results(participants=participants))
    for chart in (*dot_plots(found), *mean_plots(found), *spread_plots(found)):
        width = float(re.findall(r'viewBox="0 0 (\S+)', chart.svg)[0])
        assert width < 480, chart.title


LONG = "organisation-with-a-long-name/Some-Very-Long-Model-Name-Instruct-2507-FP8-dynamic-checkpoint-000123-merged-dpo"


def test_long_names_lose_their_middle() -> None:
    """Their beginning and end stay, short ones are whole, and wide characters count twice."""
    short, long, wide = shortened(["m", LONG, "长" * 40])
    assert short == "m"
    assert long.startswith("organisation-wi")
    assert long.endswith("-merged-dpo")
    assert "…" in long
    assert width_of(long) == width_of(wide) + 1 == LONGEST
    assert shortened(["n" * LONGEST]) == ["n" * LONGEST]


def test_names_that_would_look_alike_are_numbered() -> None:
    """Two that differ in the middle alone stay two."""
    names = [f"{'a' * 40}{middle}{'z' * 40}" for middle in "xyx"]
    first, second, again = shortened(names)
    assert first == again != second
    assert (first[-2:], second[-2:]) == (" 1", " 2")
    assert {width_of(first), width_of(second)} == {LONGEST}


def long_names() -> Results:
    """Two models of 110 characters in two cultures."""
    cells = [(m, c, "def", r) for m, r in ((LONG, human), (f"{LONG}-b", uniform)) for c in ("us", "cn")]
    return results(cells)


def test_a_long_name_leaves_room_for_the_drawing() -> None:
    """Text stays readable: the drawing is hardly wider than with short names, and the mark says the whole name."""
    chart = dot_plots(analyse(long_names()))[0]
    width = float(re.findall(r'viewBox="0 0 (\S+)', chart.svg)[0])
    assert width < 520
    drawn = read(chart.svg)
    assert not any(LONG in text.text for text in drawn.find("text"))
    assert any(title.text.startswith(f"{LONG}: ") for title in drawn.find("title"))
    assert room_for([LONG]) == room_for(["n" * LONGEST])


def test_names_on_the_map_are_cut_and_keep_their_letters() -> None:
    """Only people are written with a capital letter; a model is called as it is called."""
    found = analyse(long_names())
    part = found.figure(cultural_map)
    drawn = read(culture_map("m", "M", part.sound, {"us": "United States", "cn": "China"}).svg)
    titles = [title.text for title in drawn.find("title")]
    assert any(title.startswith("People, China: ") for title in titles)
    assert any(title.startswith(f"{LONG}, China: ") for title in titles)
    assert not any("-" in title.rpartition(": ")[2] for title in titles)
    assert max(len(text.text) for text in drawn.find("text")) <= LONGEST


CODES = ("us", "cn", "de", "fr", "jp", "br", "in", "ng")


def like_one_of_two(question: Question, culture: str, people: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """As people of the United States or of China, in turn."""
    return human(question, ("us", "cn")[CODES.index(culture) % 2], people, rng)


@pytest.fixture(scope="module")
def eight() -> Analysis:
    """One model in eight cultures, the answers of each judged on every dimension."""
    known = survey()
    tiny = replace(
        known,
        cultures=tuple(Culture(code=code, name={"en": f"{code.upper()}land"}, language="en") for code in CODES),
        references=tuple(
            replace(reference, culture=code)
            for place, code in enumerate(CODES)
            for reference in known.references
            if reference.culture == ("us", "cn")[place % 2]
        ),
    )
    made = results([("m", code, "def", like_one_of_two) for code in CODES], tiny=tiny)
    answers = made.answers.cell.size
    rng = np.random.default_rng(0)
    verdicts = Verdicts(
        judge="strict 1",
        cell=np.repeat(made.answers.cell, 6),
        answer=np.repeat(np.arange(answers), 6),
        dimension=np.tile(np.arange(6), answers).astype(np.int8),
        verdict=rng.choice([FAIL, PASS], size=6 * answers, p=[0.3, 0.7]).astype(np.int8),
        weight=np.ones(6 * answers),
    )
    return analyse(made, verdicts=[verdicts])


def sections(analysis: Analysis) -> dict[str, Section]:
    """Anchor -> section."""
    return {section.anchor: section for section in page(analysis).sections}


def marks(drawn: Element, says: str) -> set[tuple[str, str]]:
    """Colour and outline of the marks that say so, of any size, wherever they stand."""
    return {
        (mark.attributes["fill"], "".join(re.findall(r"[A-Za-z]|-?\d+", mark.attributes["d"])))
        for mark in drawn.find("path")
        if says in mark.text
    }


@pytest.mark.parametrize("anchor", ["figure-5", "figure-6", "figure-7", "figure-9"])
def test_eight_cultures_look_apart(eight: Analysis, anchor: str) -> None:
    """Of eight cultures no two have the colour and the shape of each other on one chart."""
    chart = {"figure-9": -1}.get(anchor, 0)
    drawn = read(sections(eight)[anchor].charts[chart].svg)
    if anchor == "figure-6":  # boxes have no shape: their medians have
        found = [path.attributes["d"] for path in drawn.find("path") if path.attributes.get("fill") == "var(--ink)"]
        assert len({re.sub(r"^M[^A-Z]*", "", outline) for outline in found}) == 6
        return
    looks = [marks(drawn, f"{code.upper()}land") for code in CODES]
    assert all(looks)
    assert len({frozenset(each) for each in looks}) == 8


def test_every_culture_has_a_line_of_its_own_on_a_radar(eight: Analysis) -> None:
    """Eight closed lines of six corners each: none goes through the shares of two cultures."""
    drawn = read(sections(eight)["figure-9"].charts[-1].svg)
    lines = [path.attributes["d"] for path in drawn.find("path") if "var(--series" in path.attributes.get("stroke", "")]
    closed = [line for line in lines if line.count("L") > 1]
    assert len(closed) == 8
    assert {line.count("L") for line in closed} == {5}


def test_the_legend_has_the_looks_of_the_charts(eight: Analysis) -> None:
    """The seventh name has the first colour and the second shape."""
    legend = re.search(r'id="figure-5".*?<p class="legend">(.*?)</p>', render_html(page(eight)), re.DOTALL)
    assert legend is not None
    classes = re.findall(r'class="mark (\w+) (\w+)"', legend[1])
    assert classes == [("c1", "m1"), ("c2", "m2"), ("c3", "m3"), ("c4", "m4"), ("c5", "m5"), ("c6", "m6"),
                       ("c1", "m2"), ("c2", "m3")]  # fmt: skip


def test_a_culture_keeps_its_colour_on_the_map() -> None:
    """The map begins with the survey's first culture, the run with another: colours are the run's."""
    found = sections(analyse(results([("m", "cn", "def", human), ("m", "us", "def", human)])))
    assert found["figure-7"].legend == found["figure-5"].legend == ("China", "United States")
    for anchor in ("figure-5", "figure-7"):
        drawn = read(found[anchor].charts[0].svg)
        assert {colour for colour, _ in marks(drawn, "China")} == {"var(--series-1)"}
        assert {colour for colour, _ in marks(drawn, "United States")} == {"var(--series-2)"}
