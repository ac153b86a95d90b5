"""Drawings: what they show, how wide they are, and which colour and shape a culture has."""

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from defsurvey.reports.analysis import Analysis, NotRun, analyse
from defsurvey.reports.charts.drawing import LONGEST, PALETTE, Chart, shortened, width_of
from defsurvey.reports.charts.radar import ROOM, SIZE, Loop, radar
from defsurvey.reports.contents import page
from defsurvey.reports.figures.closeness import dot_plots
from defsurvey.reports.figures.dimensions import mean_plots, spread_plots
from defsurvey.reports.figures.projection import cultural_map
from defsurvey.reports.html import render_html
from defsurvey.reports.metrics.judges import FAIL, PASS, Verdicts
from defsurvey.reports.number_format import nats
from defsurvey.reports.page import Section
from defsurvey.storage.surveys.survey import Culture, Question, Survey
from tests.reports.planted import planted, wide_survey
from tests.reports.reading import Element, read
from tests.reports.synthetic import human, last, results, survey

BOTH = [("a", "us", "def", human), ("b", "us", "def", last), ("a", "cn", "def", human), ("b", "cn", "def", last)]


def test_colours_and_type_are_the_pages() -> None:
    for chart in dot_plots(analyse(results(BOTH))):
        assert not set(PALETTE) & set(re.findall(r"#[0-9a-f]{6}", chart.svg))
        assert "font-family" not in chart.svg
        assert "var(--series-" in chart.svg
        assert "var(--floor)" in chart.svg


def test_marks_say_their_figures() -> None:
    found = analyse(results(BOTH))
    titles = " ".join(title.text for title in read(dot_plots(found)[0].svg).find("title"))
    for cell in found.cultures[0].cells:
        assert f"{cell.name}: {nats(cell.sound.headline)} (" in titles
    assert "; as many people: " in titles
    assert "uniform answers: " in titles


@pytest.mark.parametrize("models", ["ab", "a"])
def test_nobody_is_closest_who_is_not_told_from_the_others(models: str) -> None:
    found = analyse(results([(model, "us", "def", human) for model in models]))
    assert found.cultures[0].ranking.winner == ""
    told = dot_plots(found)[0].description
    assert "Closest" not in told
    assert all(f" {cell.name}: {cell.sound.headline:.2f}"[:-1] in told for cell in found.cells)


def test_names_are_escaped() -> None:
    chart = dot_plots(analyse(results([("<b onload=x>&\x00", "us", "def", human)])))[0]
    assert "<b " not in chart.svg
    assert "\x00" not in chart.svg
    assert "&lt;b onload=x&gt;&amp;" in chart.svg


@pytest.mark.parametrize("sign", ["\x0b", "\x1b", "\x00", "\ufffe", "\u202e"])
def test_a_sign_that_no_drawing_can_hold_is_written_out(sign: str) -> None:
    import altair as alt

    chart = alt.Chart({"values": [{f"a{sign}": [f"b{sign}"], "c": f"d{sign}"}]}).mark_point().encode(y="c:N")
    drawn = Chart(name="name", title=f"title{sign}", description=f"description{sign}", make=lambda: chart)
    written = f"⟨U+{ord(sign):04X}⟩"
    assert sign not in drawn.svg + drawn.title + drawn.description
    assert f"d{written}" in drawn.svg
    assert f"title{written}. description{written}" in drawn.svg
    assert (drawn.title, drawn.description) == (f"title{written}", f"description{written}")


def test_an_axis_shows_all_that_is_drawn_on_it() -> None:
    found = analyse(results(participants=5))
    for chart in (*dot_plots(found), *mean_plots(found), *spread_plots(found)):
        width = float(re.findall(r'viewBox="0 0 (\S+)', chart.svg)[0])
        assert width < 480, chart.title


def test_a_radar_puts_shares_clockwise_and_draws_no_line_through_what_is_not_known() -> None:
    """Of a reach of .4: the top, half to the right, a quarter down, the middle."""
    whole = Loop(values=(0.4, 0.2, 0.1, 0.0), says=("A", "B", "C", "D"), series=1)
    part = Loop(values=(0.4, float("nan"), 0.1, 0.1), says=("E", "F", "G", "H"), series=2)
    drawn = read(radar([whole, part], "r", "R", "d", "abcd", 0.4).svg)
    (line,) = [path for path in drawn.find("path") if "stroke-dasharray" in path.attributes]
    places = [tuple(map(float, at.split(","))) for at in re.findall(r"[-\d.]+,[-\d.]+", line.attributes["d"])]
    unit, half = SIZE / (2 * ROOM), SIZE / 2
    corners = [(round((x - half) / unit, 2), round((half - y) / unit, 2)) for x, y in places]
    assert corners == [(0.0, 1.0), (0.5, 0.0), (0.0, -0.25), (0.0, 0.0)]
    assert line.attributes["stroke"] == "var(--series-2)"
    assert [title.text for title in drawn.find("title")] == ["A", "B", "C", "D", "E", "G", "H"]


LONG = "organisation-with-a-long-name/Some-Very-Long-Model-Name-Instruct-2507-FP8-dynamic-checkpoint-000123-merged-dpo"


def test_long_names_lose_their_middle() -> None:
    short, long, wide = shortened(["m", LONG, "长" * 40])
    assert (short, long[:14], long[-11:]) == ("m", "organisation-w", "-merged-dpo")
    assert width_of(long) == width_of(wide) + 1 == LONGEST
    assert shortened(["n" * LONGEST]) == ["n" * LONGEST]
    chart = dot_plots(analyse(results([(LONG, "us", "def", human)])))[0]
    assert float(re.findall(r'viewBox="0 0 (\S+)', chart.svg)[0]) < 520
    assert any(title.text.startswith(f"{LONG}: ") for title in read(chart.svg).find("title"))


def test_names_that_would_look_alike_are_numbered() -> None:
    names = [f"{'a' * 40}{middle}{'z' * 40}" for middle in "xyx"]
    first, second, again = shortened(names)
    assert first == again != second
    assert (first[-2:], second[-2:]) == (" 1", " 2")
    assert {width_of(first), width_of(second)} == {LONGEST}


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
    drawn = read(sections(eight)["figure-9"].charts[-1].svg)
    lines = [path.attributes["d"] for path in drawn.find("path") if "var(--series" in path.attributes.get("stroke", "")]
    closed = [line for line in lines if line.count("L") > 1]
    assert len(closed) == 8
    assert {line.count("L") for line in closed} == {5}


def test_the_legend_has_the_looks_of_the_charts(eight: Analysis) -> None:
    legend = re.search(r'id="figure-5".*?<p class="legend">(.*?)</p>', render_html(page(eight)), re.DOTALL)
    assert legend is not None
    classes = re.findall(r'class="mark (\w+) (\w+)"', legend[1])
    assert classes == [("c1", "m1"), ("c2", "m2"), ("c3", "m3"), ("c4", "m4"), ("c5", "m5"), ("c6", "m6"),
                       ("c1", "m2"), ("c2", "m3")]  # fmt: skip


def test_a_culture_keeps_its_colour_on_the_map() -> None:
    found = sections(analyse(results([("m", "cn", "def", human), ("m", "us", "def", human)])))
    assert found["figure-7"].legend == found["figure-5"].legend == ("China", "United States")
    for anchor in ("figure-5", "figure-7"):
        drawn = read(found[anchor].charts[0].svg)
        assert {colour for colour, _ in marks(drawn, "China")} == {"var(--series-1)"}
        assert {colour for colour, _ in marks(drawn, "United States")} == {"var(--series-2)"}


# The map of more than two cultures: a way from the first to each of the others.


FIVE = ("us", "cn", "de", "br", "jp")
NAMES = ("United States", "China", "Germany", "Brazil", "Japan")


def five_cultures(questions: int = 54) -> Survey:
    """The wide survey with three further populations, each with the shares of the first moved on by some options."""
    known = wide_survey(questions)
    references = list(known.references)
    for shift, code in enumerate(FIVE[2:], start=1):
        for reference in (each for each in known.references if each.culture == "us"):
            moved = np.roll(list(reference.shares.values()), shift).tolist()
            shares = dict(zip(reference.shares, moved, strict=True))
            references.append(replace(reference, culture=code, shares=shares))
    cultures = tuple(Culture(code=c, name={"en": n}, language="en") for c, n in zip(FIVE, NAMES, strict=True))
    return replace(known, cultures=cultures, references=tuple(references))


@pytest.fixture(scope="module")
def found() -> Analysis:
    return analyse(planted(five_cultures(), models=("honest", "random")).results)


def test_every_culture_is_on_the_map(found: Analysis) -> None:
    mapped = found.figure(cultural_map)
    assert mapped.cultures == FIVE
    for projection in (mapped.sound, mapped.paper):
        assert [row.culture for row in projection.rows if row.human] == list(FIVE)
        assert len(projection.rows) == 15
        first, *others = (row.point[0] for row in projection.rows if row.human)
        assert first > np.mean(others)


def test_ways_lead_from_the_first_to_each_of_the_others(found: Analysis) -> None:
    sound = found.figure(cultural_map).sound
    assert [(way.to, way.subject) for way in sound.arrows] == list(product(FIVE[1:], ("honest", "random")))
    scores = {(row.subject, row.culture): row.scores for row in sound.rows}
    for way in sound.arrows:
        mine, people = (scores[who, way.to] - scores[who, "us"] for who in (way.subject, "people"))
        lengths = np.linalg.norm(mine), np.linalg.norm(people)
        assert way.arrow.cosine == pytest.approx(mine @ people / (lengths[0] * lengths[1]))
        assert way.arrow.length_ratio == pytest.approx(lengths[0] / lengths[1])
    assert min(way.arrow.cosine for way in sound.arrows if way.subject == "honest") > 0.5


def test_the_section_names_all_cultures_and_groups_ways_by_where_they_lead(found: Analysis) -> None:
    section = sections(found)["figure-7"]
    assert section.legend == NAMES
    assert "Lines go from United States to China, Germany, Brazil and Japan" in section.paragraphs[0]
    assert "all 5 cultures" in section.paragraphs[0]
    assert list(dict.fromkeys(row.group for row in section.tables[0].rows)) == list(NAMES[1:])
    assert "ways between cultures" in section.title
    drawn = read(section.charts[0].svg)
    assert len([line for line in drawn.find("line") if line.attributes.get("stroke-width") == "3"]) == 4
    assert sum(title.text.startswith("People, ") for title in drawn.find("title")) == 5


def test_an_item_that_one_of_the_cultures_was_not_asked_is_in_no_score() -> None:
    whole = five_cultures(18)
    gone = {question.id for question in whole.questions if question.dimensions != ("EVI",)}
    kept = tuple(r for r in whole.references if r.culture != "jp" or r.question not in gone)
    made = planted(whole, models=("honest",)).results
    found = analyse(replace(made, survey=replace(whole, references=kept)))
    with pytest.raises(NotRun, match="a question that all 5 cultures answered"):
        found.figure(cultural_map)
