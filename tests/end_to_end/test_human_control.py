"""The yardstick's own check: respondents drawn from what people answered must score what sampling alone scores."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from defsurvey.reports.analysis import Analysis, CultureAnalysis, analyse
from defsurvey.reports.figures.projection import cultural_map
from defsurvey.reports.figures.questions import distinguish
from defsurvey.reports.metrics.aggregate import grouped_mean
from defsurvey.reports.metrics.divergence import smoothed_kl
from defsurvey.storage.database import Database
from defsurvey.storage.runs.results import read_results
from defsurvey.storage.surveys.importers.wvs import import_wvs, wvs_questions
from defsurvey.storage.surveys.survey import Question, QuestionType, Survey
from defsurvey.workers.engines.scripted import draw_multiple, draw_single
from tests.end_to_end.machine import machine_in
from tests.reports.synthetic import results
from tests.storage.importers.official import ALPHA3, Row, person, write_official

EXAMPLE = Path(__file__).parents[2] / "examples" / "human-control.yaml"
PARTICIPANTS = 200
SIMULATED = 400  #: samples of honest respondents by which the spread of the statistic is known
ALPHA = 0.001  #: chance of a false alarm, over all dimensions and cultures together


def as_people_would(
    analysis: Analysis, culture: CultureAnalysis, generator: np.random.Generator
) -> NDArray[np.float64]:
    items, shares = analysis.items, culture.reference.shares
    counts = np.zeros((SIMULATED, *shares.shape))
    for place in range(len(items.questions)):
        here = items.of_question(place)
        if items.whole[here[0]]:
            offered = items.offered[here[0]]
            known = shares[here[0], offered]
            counts[:, here[0], offered] = generator.multinomial(PARTICIPANTS, known / known.sum(), size=SIMULATED)
        else:
            chosen = several(shares[here, 1], generator)
            counts[:, here, 1], counts[:, here, 0] = chosen, PARTICIPANTS - chosen
    return counts


def several(shares: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """How many people chose each option of a list from which several are chosen, shape (S, options).

    Shares laid end to end in a random order, an option for every whole step of a ruler laid beside them.
    """
    size = (SIMULATED, PARTICIPANTS, len(shares))
    order = generator.random(size).argsort(axis=-1)
    ends = shares[order].cumsum(axis=-1)
    marks = np.ceil(np.concatenate([np.zeros((*size[:2], 1)), ends], axis=-1) - generator.random((*size[:2], 1)))
    taken = np.zeros(size)
    np.put_along_axis(taken, order, np.diff(marks, axis=-1), axis=-1)
    return np.asarray(taken.sum(axis=1))


@pytest.mark.slow
def test_respondents_drawn_from_people_come_out_at_the_floor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every planned answer is committed, and no dimension of either culture is off by more than sampling error."""
    with machine_in(tmp_path / "machine") as machine:
        began = time.monotonic()
        machine.done("run", str(EXAMPLE))
        took = time.monotonic() - began
        first, last = machine.rows("SELECT min(committed_at), max(committed_at) FROM answer")[0]
        with Database(machine.database_url) as database:
            analysis = analyse(read_results(database, "human-control"))
    progress = analysis.results.progress
    planned = progress.planned
    assert planned > 20_000
    assert (progress.answered, analysis.results.answers.state.size) == (planned, planned)
    with capsys.disabled():
        rates = f"{planned / (last - first):.0f}/s working, {planned / took:.0f}/s all in all"
        sys.stdout.write(f"\nhuman control, {planned} answers: {rates}\n")
    generator = np.random.default_rng(20250314)
    limit = norm.isf(ALPHA / 2 / (len(analysis.dimensions) * len(analysis.cultures)))
    assert len(analysis.dimensions) == 9
    for culture in analysis.cultures:
        (cell,) = culture.cells
        reference, grouping = culture.reference, analysis.items.grouping
        samples = as_people_would(analysis, culture, generator)
        scores = smoothed_kl(samples, reference.shares, reference.n, analysis.items.offered)
        null = grouped_mean(scores, grouping.dimension, grouping.dimensions)
        mean, spread = null.mean(axis=0), null.std(axis=0, ddof=1)
        known = ~np.isnan(cell.sound.by_dimension)
        assert known.sum() == 9
        floor_off = (mean - cell.sound_floor.by_dimension)[known] / spread[known] * np.sqrt(SIMULATED)
        assert np.abs(floor_off).max() < limit, "the expected floor is not what simulated people score"
        off = (cell.sound.by_dimension - cell.sound_floor.by_dimension)[known] / spread[known]
        assert np.abs(off).max() < limit, dict(zip(analysis.dimensions, off.round(2).tolist(), strict=True))


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
