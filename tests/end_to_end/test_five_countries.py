"""Five countries of an official file: imported, answered by people drawn from them, measured and mapped."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from defsurvey.reports.analysis import Analysis, analyse
from defsurvey.reports.figures.projection import cultural_map
from defsurvey.reports.figures.questions import distinguish
from defsurvey.storage.surveys.importers.wvs import import_wvs, wvs_questions
from defsurvey.storage.surveys.survey import Question, QuestionType, Survey
from defsurvey.workers.engines.scripted import draw_multiple, draw_single
from tests.reports.synthetic import results
from tests.storage.importers.official import ALPHA3, Row, person, write_official

PEOPLE, CITIZENS = 120, 20  #: respondents of each country, and simulated citizens of each
CULTURES = ("us", "cn", "jp", "ng", "es")
FIVE_POINTS = ("Q33", "Q34", "Q35")  #: three options in the survey, five codes in the file


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    """A survey of every item that can be imported, from an official file of five countries that think differently."""
    folder, rng = tmp_path_factory.mktemp("five"), np.random.default_rng(20)
    rows: list[Row] = []
    for country in ALPHA3:
        people = [person(rng, country) for _ in range(PEOPLE)]
        for question in wvs_questions():
            lists = question.type is QuestionType.MULTIPLE
            for column in [f"Q{code}" for code in question.codes] if lists else [question.id]:
                codes = (
                    ["1", "2"] if lists else ["1", "2", "3", "4", "5"] if question.id in FIVE_POINTS else question.codes
                )
                shares = rng.dirichlet(np.full(len(codes), 1.5))
                for row, code in zip(people, rng.choice(codes, PEOPLE, p=shares), strict=True):
                    row[column] = str(code)
        rows += people
    path = write_official(folder / "wvs.csv", "cross-national v5", rows)
    return import_wvs(path, id="five").write(folder / "survey")


@pytest.fixture(scope="module")
def analysis(survey: Survey) -> Analysis:
    def human(question: Question, culture: str, people: int, rng: np.random.Generator) -> NDArray[np.int64]:
        reference = survey.reference(question.id, culture)
        assert reference is not None
        draw = draw_multiple if question.type is QuestionType.MULTIPLE else draw_single
        chosen = (draw(question, reference.shares, rng) for _ in range(people))
        return np.array([sum(1 << question.codes.index(code) for code in codes) for codes in chosen], dtype=np.int64)

    cells = [("human", culture, "def", human) for culture in CULTURES]
    return analyse(results(cells, participants=CITIZENS, tiny=survey))


def test_every_item_is_asked_in_every_country(survey: Survey, analysis: Analysis) -> None:
    assert [culture.code for culture in survey.cultures] == list(CULTURES)
    assert len(survey.questions) == 238
    assert analysis.results.progress.answered == 238 * CITIZENS * len(CULTURES)


def test_divergences_are_those_of_as_many_people(analysis: Analysis) -> None:
    for culture in analysis.cultures:
        (cell,) = culture.cells
        excess = cell.divergences.smoothed_kl - cell.floor.smoothed_kl
        excess = excess[~np.isnan(excess)]
        assert excess.size >= 250
        z = excess.mean() / (excess.std(ddof=1) / np.sqrt(excess.size))
        assert abs(z) < 4, culture.name
    for told in analysis.figure(distinguish):
        assert told.share_alike > 0.97


def test_five_countries_are_mapped(analysis: Analysis) -> None:
    """People of every country have a place, and the citizens drawn from them score nearest to their own."""
    drawn = analysis.figure(cultural_map)
    assert drawn.cultures == CULTURES
    assert drawn.items == 100
    people = {row.culture: row.scores for row in drawn.sound.rows if row.human}
    citizens = {row.culture: row.scores for row in drawn.sound.rows if not row.human}
    assert people.keys() == citizens.keys() == set(CULTURES)
    for culture, scores in citizens.items():
        distances = {code: float(np.linalg.norm(scores - other)) for code, other in people.items()}
        assert min(distances, key=lambda code: distances[code]) == culture
    assert {arrow.to for arrow in drawn.sound.arrows} == set(CULTURES[1:])
