"""Which colour and shape a culture has: its own in every figure, however many there are."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from defsurvey.reports.analysis import Analysis, analyse
from defsurvey.reports.charts.drawing import SERIES, SHAPES, look
from defsurvey.reports.contents import page
from defsurvey.reports.html import render_html
from defsurvey.reports.metrics.judges import FAIL, PASS, Verdicts
from defsurvey.reports.page import Section
from defsurvey.storage.surveys.survey import Culture, Question
from tests.reports.reading import Element, read
from tests.reports.synthetic import human, results, survey, uniform

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


def test_no_two_of_36_series_look_alike() -> None:
    """Where colours begin anew, shapes go one on."""
    assert len({look(place) for place in range(36)}) == 36
    assert look(0) == (SERIES[0], SHAPES[0])
    assert look(6) == (SERIES[0], SHAPES[1])
    assert look(11) == (SERIES[5], SHAPES[0])


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


def test_the_papers_map_has_legend_and_note_where_it_stands_alone() -> None:
    """Cultures that share no question: what colours and marks mean is said all the same."""
    known = survey()
    questions = tuple(replace(each, id=f"{each.id}-{n}") for n in (1, 2) for each in known.questions[:3])
    tiny = replace(
        known,
        questions=questions,
        references=tuple(
            replace(reference, question=f"{reference.question}-{n}")
            for reference in known.references
            for n in (1, 2)
            if reference.question != "Q4" and (n == 1) == (reference.culture == "us")
        ),
    )
    cells = [(m, c, "def", r) for m, r in (("a", human), ("b", uniform)) for c in ("us", "cn")]
    section = sections(analyse(results(cells, tiny=tiny)))["figure-7"]
    assert section.title == "Cultural variation map, the paper's way"
    assert section.legend == ("United States", "China")
    assert section.chart_note.startswith("Large marks and the thick line: people.")
