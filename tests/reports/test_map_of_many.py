"""The map of more than two cultures: a way from the first to each of the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from defsurvey.reports.analysis import Analysis, NotRun, analyse
from defsurvey.reports.contents import page
from defsurvey.reports.figures.projection import CulturalMap, cultural_map
from defsurvey.reports.html import render_html
from defsurvey.storage.surveys.survey import Culture, Survey
from tests.reports.planted import planted, wide_survey
from tests.reports.reading import read

CODES = ("us", "cn", "de", "br", "jp")
NAMES = ("United States", "China", "Germany", "Brazil", "Japan")


def five_cultures(questions: int = 54) -> Survey:
    """The wide survey with three further populations, each with the shares of the first moved on by some options."""
    known = wide_survey(questions)
    references = list(known.references)
    for shift, code in enumerate(CODES[2:], start=1):
        for reference in (each for each in known.references if each.culture == "us"):
            moved = np.roll(list(reference.shares.values()), shift).tolist()
            shares = dict(zip(reference.shares, moved, strict=True))
            references.append(replace(reference, culture=code, shares=shares))
    cultures = tuple(Culture(code=c, name={"en": n}, language="en") for c, n in zip(CODES, NAMES, strict=True))
    return replace(known, cultures=cultures, references=tuple(references))


@pytest.fixture(scope="module")
def found() -> Analysis:
    """Two models in five cultures."""
    return analyse(planted(five_cultures(), models=("honest", "random")).results)


def the_map(found: Analysis) -> CulturalMap:
    """The map of an analysis that has one."""
    return found.figure(cultural_map)


def test_every_culture_is_on_the_map(found: Analysis) -> None:
    """People of five cultures, and each model five times."""
    mapped = the_map(found)
    assert mapped.cultures == CODES
    for projection in (mapped.sound, mapped.paper):
        assert [row.culture for row in projection.rows if row.human] == list(CODES)
        assert len(projection.rows) == 15


def test_ways_lead_from_the_first_to_each_of_the_others(found: Analysis) -> None:
    """Cosine and length of each against people's between the same two cultures."""
    sound = the_map(found).sound
    assert [(way.to, way.subject) for way in sound.arrows] == [
        (to, name) for to in CODES[1:] for name in ("honest", "random")
    ]
    scores = {(row.subject, row.culture): row.scores for row in sound.rows}
    for way in sound.arrows:
        mine, people = (scores[who, way.to] - scores[who, "us"] for who in (way.subject, "people"))
        lengths = np.linalg.norm(mine), np.linalg.norm(people)
        assert way.arrow.cosine == pytest.approx(mine @ people / (lengths[0] * lengths[1]))
        assert way.arrow.length_ratio == pytest.approx(lengths[0] / lengths[1])
    honest = [way.arrow.cosine for way in sound.arrows if way.subject == "honest"]
    assert min(honest) > 0.5


def test_people_of_the_first_culture_lie_right_of_the_others_middle(found: Analysis) -> None:
    """The rule that fixes the sign, on both maps."""
    for projection in (the_map(found).sound, the_map(found).paper):
        first, *others = (row.point[0] for row in projection.rows if row.human)
        assert first > np.mean(others)


def test_the_section_names_all_cultures_and_groups_ways_by_where_they_lead(found: Analysis) -> None:
    """The legend has five names, the table four groups, the drawing a line of people to each of the four."""
    section = next(each for each in page(found).sections if each.anchor == "figure-7")
    assert section.legend == NAMES
    assert "Lines go from United States to China, Germany, Brazil and Japan" in section.paragraphs[0]
    assert "all 5 cultures" in section.paragraphs[0]
    assert list(dict.fromkeys(row.group for row in section.tables[0].rows)) == list(NAMES[1:])
    assert "ways between cultures" in section.title
    drawn = read(section.charts[0].svg)
    thick = [line for line in drawn.find("line") if line.attributes.get("stroke-width") == "3"]
    assert len(thick) == 4
    titles = [title.text for title in drawn.find("title")]
    assert sum(title.startswith("People, ") for title in titles) == 5
    read(render_html(page(found)))


def test_an_item_that_one_of_the_cultures_was_not_asked_is_in_no_score() -> None:
    """Means over different questions would differ by what was asked; without two dimensions there is no map."""
    whole = five_cultures(18)
    gone = {question.id for question in whole.questions if question.dimensions != ("EVI",)}
    kept = tuple(r for r in whole.references if r.culture != "jp" or r.question not in gone)
    made = planted(whole, models=("honest",)).results
    found = analyse(replace(made, survey=replace(whole, references=kept)))
    with pytest.raises(NotRun, match="a question that all 5 cultures answered"):
        found.figure(cultural_map)
